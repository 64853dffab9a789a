"""`host_device`: block devices, by an ioctl of the test's own, and a loop device where there can be one."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockOptionError, Flags, Op, Request, open_node
from devmodels.blockbackend.drivers import blkdev
from devmodels.blockbackend.drivers.blkdev import SgIoHdr
from devmodels.blockbackend.passthrough import Direction, PassthroughRequest, ScsiCommand
from devmodels.blockbackend.status import Status
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk

SIZE = 1 << 20


class Kernel:
    """A regular file that answers as a block device of `size` bytes with blocks of 4096 does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.path = path
        path.write_bytes(b"x" * SIZE)
        self.size = SIZE
        self.seen: list[tuple[str, int, int]] = []
        self.refuses: dict[int, int] = {}
        self.commands: list[tuple[bytes, bytes, int, int]] = []
        monkeypatch.setattr(blkdev, "ioctl", self.ioctl)
        monkeypatch.setattr(blkdev, "is_block_device", lambda _fd: True)

    def ioctl(self, _fd: int, request: int, argument: object, _mutate: bool = True) -> int:
        if request in self.refuses:
            raise OSError(self.refuses[request], "as told")
        answers = {
            blkdev.BLKGETSIZE64: blkdev._SIZE.pack(self.size),
            blkdev.BLKSSZGET: blkdev._UNSIGNED.pack(4096),
            blkdev.BLKPBSZGET: blkdev._UNSIGNED.pack(8192),
        }
        if request in answers:
            assert isinstance(argument, bytearray)
            argument[:] = answers[request]
        elif request == blkdev.SG_IO:
            assert isinstance(argument, SgIoHdr)
            self.sg_io(argument)
        else:
            names = {blkdev.BLKDISCARD: "discard", blkdev.BLKZEROOUT: "zero out"}
            assert isinstance(argument, bytes)
            self.seen.append((names[request], *blkdev._RANGE.unpack(argument)))
        return 0

    def sg_io(self, header: SgIoHdr) -> None:
        cdb = ctypes.string_at(header.cmdp, header.cmd_len)
        data = ctypes.string_at(header.dxferp, header.dxfer_len)
        self.commands.append((cdb, data, header.dxfer_direction, header.timeout))
        if header.dxfer_direction == blkdev.SG_DXFER_FROM_DEV:
            ctypes.memmove(header.dxferp, b"answer", 6)
            header.resid = header.dxfer_len - 6
        ctypes.memmove(header.sbp, b"\x72\x05", 2)
        header.sb_len_wr = 2
        header.status, header.host_status, header.driver_status = 2, 0, 8


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    return Kernel(monkeypatch, tmp_path / "device")


def opened(kernel: Kernel, **options: object) -> Disk:
    return Disk({"driver": "host_device", "filename": str(kernel.path), **options})


def test_a_device_has_its_own_size_and_blocks(kernel: Kernel) -> None:
    kernel.size = 5 * 4096
    disk = opened(kernel)
    assert disk.backend.size == 5 * 4096
    assert disk.node.limits.pdiscard_alignment == 8192
    assert disk.node.limits.request_alignment == 1
    assert disk.write(100, b"y" * 50) == 0
    assert disk.read(99, 52) == b"x" + b"y" * 50 + b"x"
    disk.close()


def test_with_o_direct_its_blocks_are_the_kernels(kernel: Kernel) -> None:
    disk = opened(kernel, cache={"direct": True})
    assert disk.node.limits.request_alignment == 4096
    assert disk.write(100, b"y" * 50) == 0
    assert disk.read(99, 52) == b"x" + b"y" * 50 + b"x"
    disk.close()


def test_discards_are_whole_blocks(kernel: Kernel) -> None:
    disk = opened(kernel, discard="unmap")
    assert disk.do(Op.DISCARD, 100, 3 * 4096) == 0
    assert disk.do(Op.DISCARD, 100, 4096) == 0
    assert kernel.seen == [("discard", 4096, 2 * 4096)]
    kernel.refuses[blkdev.BLKDISCARD] = errno.EOPNOTSUPP
    assert disk.do(Op.DISCARD, 0, 4096) == 0
    kernel.refuses[blkdev.BLKDISCARD] = errno.EIO
    assert disk.do(Op.DISCARD, 0, 4096) == errno.EIO
    disk.close()


def test_zeroes_are_the_kernels_or_are_written_out(kernel: Kernel) -> None:
    disk = opened(kernel)
    assert disk.do(Op.WRITE_ZEROES, 4096, 4096) == 0
    assert kernel.seen == [("zero out", 4096, 4096)]
    assert disk.do(Op.WRITE_ZEROES, 4096, 4096, flags=Flags.NO_FALLBACK) == errno.ENOTSUP
    kernel.refuses[blkdev.BLKZEROOUT] = errno.EINVAL
    assert disk.do(Op.WRITE_ZEROES, 8192 + 5, 10) == 0
    assert disk.read(8192, 16) == b"x" * 5 + bytes(10) + b"x"
    kernel.refuses[blkdev.BLKZEROOUT] = errno.EIO
    assert disk.do(Op.WRITE_ZEROES, 0, 4096) == errno.EIO
    disk.close()


def test_zeroes_that_may_unmap_punch_holes(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    monkeypatch.setattr(
        "devmodels.blockbackend.drivers.linux.fallocate", lambda _fd, mode, *_range: modes.append(mode)
    )
    disk = opened(kernel, discard="unmap")
    assert disk.do(Op.WRITE_ZEROES, 4096, 4096, flags=Flags.MAY_UNMAP | Flags.NO_FALLBACK) == 0
    assert (modes, kernel.seen) == ([3], [])
    disk.close()


def test_everything_is_data(kernel: Kernel) -> None:
    disk = opened(kernel)
    request = disk.submit(Op.BLOCK_STATUS, 512, 1024)
    assert disk.wait(request) == 0
    assert request.status[:3] == (Status.DATA | Status.ALLOCATED | Status.OFFSET_VALID, 1024, 512)
    disk.close()


def test_a_device_is_not_resized_but_looked_at_again(kernel: Kernel) -> None:
    disk = opened(kernel)
    with pytest.raises(OSError, match="has 1048576 bytes, and cannot be resized"):
        disk.context.run(disk.backend.resize(2 * SIZE))
    kernel.size = 2 * SIZE
    disk.context.run(disk.backend.resize(2 * SIZE))
    assert disk.backend.size == 2 * SIZE
    disk.close()


def send(disk: Disk, command: ScsiCommand) -> int:
    ends: list[Request] = []
    disk.backend.submit(PassthroughRequest(command, ends.append))
    while not ends:
        disk.context.run_once()
    return ends[0].error


def test_a_command_is_an_sg_io(kernel: Kernel) -> None:
    disk = opened(kernel)
    vectors = [memoryview(bytearray(4)), memoryview(bytearray(6))]
    inquiry = ScsiCommand(b"\x12\0\0\0\x0a\0", Direction.FROM_DEVICE, vectors, timeout_ms=500)
    assert send(disk, inquiry) == 0
    assert b"".join(vectors) == b"answer\0\0\0\0"
    assert (inquiry.status, inquiry.host_status, inquiry.driver_status) == (2, 0, 8)
    assert (inquiry.sense, inquiry.residual) == (b"\x72\x05", 4)
    select = ScsiCommand(b"\x55" + bytes(9), Direction.TO_DEVICE, [memoryview(b"list")])
    assert send(disk, select) == 0
    assert send(disk, ScsiCommand(bytes(6))) == 0
    assert kernel.commands == [
        (inquiry.cdb, bytes(10), -3, 500),
        (select.cdb, b"list", -2, 30_000),
        (bytes(6), b"", -1, 30_000),
    ]
    disk.close()


def test_a_command_that_cannot_be_sent_fails(kernel: Kernel) -> None:
    disk = opened(kernel)
    assert send(disk, ScsiCommand(b"")) == errno.EINVAL
    assert send(disk, ScsiCommand(bytes(256))) == errno.EINVAL
    kernel.refuses[blkdev.SG_IO] = errno.ENOTTY
    assert send(disk, ScsiCommand(bytes(6))) == errno.ENOTTY
    assert disk.do(Op.PASSTHROUGH) == errno.EINVAL
    disk.close()


def test_commands_are_done_by_workers(kernel: Kernel) -> None:
    disk = Disk({"driver": "host_device", "filename": str(kernel.path)}, context=IoContext.wall())
    assert send(disk, ScsiCommand(bytes(6))) == 0
    assert disk.read(0, 4) == b"xxxx"
    disk.close()


def test_io_uring_reads_and_writes_it_too(kernel: Kernel) -> None:
    context = IoContext.wall()
    try:
        context.uring()
    except OSError:
        pytest.skip("no io_uring here")
    disk = Disk({"driver": "host_device", "filename": str(kernel.path), "aio": "io_uring"}, context=context)
    assert disk.write(5, b"uring") == 0
    assert disk.read(4, 7) == b"xuringx"
    assert disk.do(Op.DISCARD, 0, 4096) == 0
    disk.close()


@pytest.mark.parametrize("driver", ["file", "host_device"])
def test_each_driver_wants_its_own_kind_of_file(tmp_path: Path, driver: str) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(512))
    filename = str(image) if driver == "host_device" else "/dev/null"
    expected = "a block device" if driver == "host_device" else "a regular file"
    context = IoContext.virtual()
    with pytest.raises(BlockOptionError, match=f"is given; expected {expected}$"):
        open_node({"driver": driver, "filename": filename}, context)
    context.close()


# --- the kernel's own


def test_a_device_like_null_is_an_empty_disk() -> None:
    disks = [Disk({"driver": "host_device", "filename": "/dev/null"}) for _ in range(2)]
    for disk in disks:
        assert disk.backend.size == 0
        assert disk.do(Op.READ, 0, 512) == errno.EIO
        assert disk.do(Op.FLUSH) == 0
        disk.close()


def test_a_device_that_has_no_places_is_no_disk() -> None:
    context = IoContext.virtual()
    with pytest.raises(BlockOptionError, match=r"is given; expected a block device$"):
        open_node({"driver": "host_device", "filename": "/dev/ptmx"}, context)
    context.close()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "loop.img"
    image.write_bytes(b"x" * SIZE)
    losetup = shutil.which("losetup", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if os.geteuid() or losetup is None:
        pytest.skip("loop devices need losetup, and root")
    answer = subprocess.run(
        [losetup, "-f", "--show", str(image)], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        pytest.skip(f"no loop device: {answer.stderr.strip()}")
    device = answer.stdout.strip()
    yield device
    subprocess.run([losetup, "-d", device], check=True)


@pytest.mark.parametrize("direct", [False, True])
def test_a_loop_device_is_a_disk(loop: str, direct: bool) -> None:
    options: dict[str, object] = {
        "driver": "host_device",
        "filename": loop,
        "discard": "unmap",
        "cache": {"direct": direct},
    }
    disk = Disk(options, context=IoContext.wall())
    assert disk.backend.size == SIZE
    assert disk.write(1000, b"y" * 5000, Flags.FUA) == 0
    assert disk.do(Op.WRITE_ZEROES, 8192, 8192) == 0
    assert disk.do(Op.WRITE_ZEROES, 16384, 8192, flags=Flags.MAY_UNMAP) == 0
    assert disk.do(Op.WRITE_ZEROES, 40_000, 100) == 0
    assert disk.do(Op.DISCARD, 65536, 65536) == 0
    assert disk.do(Op.FLUSH) == 0
    expected = bytearray(b"x" * SIZE)
    expected[1000:6000] = b"y" * 5000
    expected[8192:24576] = bytes(16384)
    expected[40_000:40_100] = bytes(100)
    expected[65536:131072] = bytes(65536)
    assert disk.read(0, SIZE) == expected
    assert send(disk, ScsiCommand(bytes(6))) != 0
    disk.close()


# --- layouts


def test_numbers_and_layouts_are_the_kernels(tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None or not Path("/usr/include/scsi/sg.h").exists():
        pytest.skip("needs gcc and the kernel's headers")
    constants = {name: value for name, value in vars(blkdev).items() if name.startswith(("BLK", "SG_"))}
    expected = {name: value & 0xFFFFFFFF for name, value in constants.items()}
    lines = ["#include <stddef.h>", "#include <stdio.h>", "#include <linux/fs.h>", "#include <scsi/sg.h>"]
    lines.append("int main(void) {")
    lines += [f'printf("{name} %u\\n", (unsigned)({name}));' for name in constants]
    for name, _ in SgIoHdr._fields_:
        expected[name] = getattr(SgIoHdr, name).offset
        lines.append(f'printf("{name} %u\\n", (unsigned)offsetof(struct sg_io_hdr, {name}));')
    expected["size"] = ctypes.sizeof(SgIoHdr)
    lines.append('printf("size %u\\n", (unsigned)sizeof(struct sg_io_hdr)); return 0; }')
    source = tmp_path / "layout.c"
    source.write_text("\n".join(lines) + "\n")
    subprocess.run([gcc, "-o", str(tmp_path / "layout"), str(source)], check=True, capture_output=True)
    printed = subprocess.run([str(tmp_path / "layout")], check=True, capture_output=True, text=True).stdout
    assert {name: int(value) for name, value in map(str.split, printed.splitlines())} == expected
