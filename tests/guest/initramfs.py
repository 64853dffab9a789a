"""The guest's root: a newc cpio of Debian's tools, the kernel's modules and an init, with a run's own files behind it.

The base archive is the same for every run and cached under a hash of what goes into it; a run's script and
data are a second archive, which the kernel unpacks over the first.

Documents: Linux `Documentation/driver-api/early-userspace/buffer-format.rst` (newc headers, alignment, concatenation).
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile

from .host import alone, cache_folder, output_of, tool, write_whole
from .kernel import Kernel, close_modules

# crc32c_generic and crct10dif_generic are soft dependencies, of ext4 and of sd_mod, that no `depends` entry names.
MODULES = [
    *("virtio_pci", "virtio_blk", "virtio_scsi"),
    *("crct10dif_generic", "sd_mod", "sr_mod", "sg"),
    "ata_piix",
    *("crc32c_generic", "ext4", "isofs"),
]

# Drivers that a run's script loads itself: each machine has an AHCI HBA of QEMU's own.
LATER = {"ahci": ["ahci"]}

SG3_UTILS = [
    *(
        "sg_compare_and_write",
        "sg_dd",
        "sg_format",
        "sg_get_config",
        "sg_get_lba_status",
        "sg_inq",
        "sg_logs",
    ),
    *(
        "sg_luns",
        "sg_modes",
        "sg_opcodes",
        "sg_persist",
        "sg_prevent",
        "sg_raw",
        "sg_readcap",
        "sg_rep_zones",
        "sg_sat_identify",
    ),
    *("sg_requests", "sg_reset", "sg_sanitize", "sg_senddiag", "sg_start", "sg_sync", "sg_turs", "sg_unmap"),
    *("sg_verify", "sg_vpd", "sg_wr_mode", "sg_write_buffer", "sg_write_same", "sg_xcopy"),
]
TOOLS = {
    "busybox": "busybox-static",
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "blkdiscard": "util-linux",
    "fallocate": "util-linux",
    "taskset": "util-linux",
    "fio": "fio",
    "hdparm": "hdparm",
    "smartctl": "smartmontools",
    **dict.fromkeys(("cd-info", "cd-read"), "libcdio-utils"),
    **dict.fromkeys(SG3_UTILS, "sg3-utils"),
}
SCRIPTS = Path(__file__).parent / "scripts"


class CpioWriter:
    """A newc archive, built in memory.

    Everything belongs to root and has no time, so that equal input gives equal bytes.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._inode = 0
        self._folders: set[str] = set()

    def folder(self, name: str) -> None:
        """Add a folder and the folders above it; one already there is left alone."""
        if not name or name in self._folders:
            return
        self.folder(name.rpartition("/")[0])
        self._folders.add(name)
        self._entry(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file; `name` has no leading slash."""
        self.folder(name.rpartition("/")[0])
        self._entry(name, stat.S_IFREG | mode, content)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self.folder(name.rpartition("/")[0])
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        """Add a character device."""
        self.folder(name.rpartition("/")[0])
        self._entry(name, stat.S_IFCHR | 0o600, b"", major, minor)

    def finish(self) -> bytes:
        """The whole archive, its end mark included, a multiple of 4 bytes long."""
        self._entry("TRAILER!!!", 0, b"")
        return bytes(self._data)

    def _entry(self, name: str, mode: int, content: bytes, major: int = 0, minor: int = 0) -> None:
        self._inode += 1
        path = name.encode() + b"\0"
        # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(path), 0)
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        self._align()
        self._data += content
        self._align()

    def _align(self) -> None:
        self._data += bytes(-len(self._data) % 4)


@cache
def base_archive(kernel: Kernel) -> Path:
    """The archive with tools, libraries and modules; made once for each set of inputs. Raises `Unavailable`."""
    programs = [tool(name, package) for name, package in TOOLS.items()]
    shared = sorted({library for program in programs for library in libraries(program)})
    modules = close_modules(kernel.modules, MODULES)
    later = {name: close_modules(kernel.modules, wanted) for name, wanted in LATER.items()}

    digest = hashlib.sha256(kernel.key.encode() + Path(__file__).read_bytes())
    for path in [*programs, *shared]:
        facts = path.stat()
        digest.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    archive = cache_folder() / f"initramfs-{digest.hexdigest()[:16]}.cpio"
    with alone(archive.name):
        if not archive.exists():
            write_whole(archive, _base(programs, shared, modules, later))
    return archive


def _base(
    programs: Sequence[Path],
    shared: Sequence[Path],
    modules: Sequence[Path],
    later: Mapping[str, Sequence[Path]],
) -> bytes:
    """The archive itself."""
    cpio = CpioWriter()
    cpio.device("dev/console", 5, 1)
    for mount_point in ("proc", "sys", "tmp", "mnt"):
        cpio.folder(mount_point)
    for program in programs:
        cpio.file(f"sbin/{program.name}", program.read_bytes(), 0o755)
    cpio.symlink("bin/sh", "/sbin/busybox")
    for library in shared:
        cpio.file(str(library).lstrip("/"), library.read_bytes(), 0o755)
    for module in modules:
        cpio.file(f"modules/{module.name}", module.read_bytes())
    cpio.file("modules/order", _order(modules))
    for name, closed in later.items():
        more = [module for module in closed if module not in modules]
        for module in more:
            cpio.file(f"modules/{module.name}", module.read_bytes())
        cpio.file(f"modules/{name}.order", _order(more))
    return cpio.finish()


def _order(modules: Sequence[Path]) -> bytes:
    return "".join(f"{module.name}\n" for module in modules).encode()


def run_archive(script: Path, files: dict[str, bytes]) -> bytes:
    """The second archive: init, the shell functions, the run's script as `/run.sh`, and its data files.

    All other scripts are in `/scripts`, for those that are made of several.
    """
    cpio = CpioWriter()
    for part in sorted(SCRIPTS.glob("*.sh")):
        cpio.file(f"scripts/{part.name}", part.read_bytes())
    for name in ("init", "lib.sh"):
        cpio.file(name, (SCRIPTS / name).read_bytes(), 0o755)
    cpio.file("run.sh", script.read_bytes(), 0o755)
    for name, content in files.items():
        cpio.file(name, content)
    return cpio.finish()


def libraries(program: Path) -> list[Path]:
    """The shared libraries a program needs, the loader included, at the paths where it looks for them."""
    with program.open("rb") as file:
        if all(segment.header.p_type != "PT_INTERP" for segment in ELFFile(file).iter_segments()):
            return []
    found = re.findall(r"(/\S+) \(0x", output_of(tool("ldd", "libc-bin"), program))
    return [Path(path) for path in found]
