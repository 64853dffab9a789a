"""Debian's own kernel: fetched with apt, its vmlinux taken out of the bzImage, its modules closed over.

The package that `linux-image-amd64` depends on is downloaded and unpacked below the cache folder (nothing is
installed), in a folder named after package and version, which appears there whole or not at all.

Documents: Linux `Documentation/x86/boot.rst` (the setup header: setup_sects, payload_offset, payload_length),
`Documentation/kbuild/modules.rst` (`.modinfo`: depends).
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile

from .host import Unavailable, alone, appearing_whole, cache_folder, output_of, tool

META_PACKAGE = "linux-image-amd64"

# The compressed payload's first bytes, and what undoes it. Others (zstd, lz4) are left to the kernel's own stub.
UNPACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\xfd7zXZ\x00": lambda packed: lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(packed),
    b"\x1f\x8b": gzip.decompress,
    b"BZh": lambda packed: bz2.BZ2Decompressor().decompress(packed),
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel ready to boot.

    `key` names package and version; `image` is what `-kernel` takes (a vmlinux with a PVH note, else the bzImage);
    `modules` is the folder with the `.ko` files.
    """

    key: str
    image: Path
    modules: Path


@cache
def get_kernel() -> Kernel:
    """Debian's current kernel, fetched once per version; raises `Unavailable`."""
    name, version = _candidate()
    key = f"{name}_{version}".replace(":", "%3a")
    folder = cache_folder() / key
    with alone(key):
        if not folder.is_dir():
            with appearing_whole(folder) as scratch:
                _fetch(f"{name}={version}", scratch)
    boot = folder / "boot"
    vmlinux = boot / "vmlinux"
    modules = next((folder / "lib" / "modules").iterdir())
    return Kernel(key, vmlinux if vmlinux.exists() else next(boot.glob("vmlinuz-*")), modules)


def _candidate() -> tuple[str, str]:
    """Name and version of the package behind the meta package."""
    shown = output_of(tool("apt-cache", "apt"), "show", "--no-all-versions", META_PACKAGE)
    depends = re.search(r"^Depends: (linux-image-\S+) \(= (\S+)\)", shown, re.MULTILINE)
    if depends is None:
        raise Unavailable(f"apt knows no {META_PACKAGE}: apt-get update")
    return depends[1], depends[2]


def _fetch(package: str, scratch: Path) -> None:
    """Download and unpack `package` into `scratch`; only its boot and lib folders stay."""
    # Debian's apt wants to download as its own user, who may not write here: it is told not to change user.
    output_of(tool("apt-get", "apt"), "download", "-q", "-o", "APT::Sandbox::User=root", package, cwd=scratch)
    archive = next(scratch.glob("*.deb"))
    output_of(tool("dpkg-deb", "dpkg"), "-x", archive, scratch)
    archive.unlink()
    shutil.rmtree(scratch / "usr" / "share", ignore_errors=True)
    image = next((scratch / "boot").glob("vmlinuz-*"))
    vmlinux = extract_vmlinux(image.read_bytes())
    if vmlinux is not None:
        (scratch / "boot" / "vmlinux").write_bytes(vmlinux)


def extract_vmlinux(image: bytes) -> bytes | None:
    """The ELF file inside a bzImage, or None where it is packed in a way we do not undo, or is no bzImage."""
    if len(image) < 0x250 or image[0x202:0x206] != b"HdrS":
        return None
    sectors, (offset, length) = image[0x1F1], struct.unpack_from("<II", image, 0x248)
    start = ((sectors or 4) + 1) * 512 + offset
    payload = image[start : start + length]
    for magic, unpack in UNPACKERS.items():
        if payload.startswith(magic):
            # All but gzip are followed by the unpacked size, which gzip carries as its own last word.
            vmlinux = unpack(payload)
            return vmlinux if vmlinux.startswith(b"\x7fELF") else None
    return None


def close_modules(modules: Path, wanted: list[str]) -> list[Path]:
    """The wanted modules and all they depend on, each after what it needs: an order for insmod.

    The package carries no modules.dep (depmod makes it at installation), so the modules themselves are asked.
    A wanted module without a file raises `Unavailable`.
    """
    files = {path.stem.replace("-", "_"): path for path in sorted(modules.rglob("*.ko"))}
    order: dict[str, Path] = {}

    def visit(name: str) -> None:
        if name in order:
            return
        if name not in files:
            raise Unavailable(f"the kernel package has no module {name}")
        for needed in _module_depends(files[name]):
            visit(needed)
        order[name] = files[name]

    for name in wanted:
        visit(name.replace("-", "_"))
    return list(order.values())


def _module_depends(path: Path) -> list[str]:
    """The names in a module's `depends` entry."""
    with path.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".modinfo")
        entries: list[bytes] = section.data().split(b"\0") if section is not None else []
    for entry in entries:
        if entry.startswith(b"depends="):
            return [name.replace("-", "_") for name in entry[8:].decode().split(",") if name]
    return []
