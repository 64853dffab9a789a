"""What is stable on the disk of the fuzzed rings stays so, in whatever order its requests end."""

from __future__ import annotations

from devmodels.blockbackend.request import Flags, Op, Request
from devmodels.iocontext import IoContext
from fuzz.ring.disk import FuzzedDisk

NEW = bytes([2]) * 512


def _write(disk: FuzzedDisk, data: bytes, flags: Flags = Flags.NONE) -> Request:
    return Request(Op.WRITE, 0, len(data), [memoryview(data)], flags)


def test_a_write_with_fua_outlives_the_flush_that_began_before() -> None:
    context = IoContext.virtual()
    disk = FuzzedDisk(context, 4096)
    disk.hold()
    context.start(disk.write(_write(disk, NEW, Flags.FUA)))
    context.start(disk.flush(Request(Op.FLUSH, 0, 0)))
    context.run_until_idle()
    disk.release()
    context.run_until_idle()
    assert disk.stable[:512] == NEW


def test_a_flush_that_began_before_takes_nothing_back() -> None:
    context = IoContext.virtual()
    disk = FuzzedDisk(context, 4096)
    disk.hold()
    context.start(disk.flush(Request(Op.FLUSH, 0, 0)))
    context.run_until_idle()
    first, disk.gate = disk.gate, None
    assert first is not None
    context.start(disk.write(_write(disk, NEW)))
    context.start(disk.flush(Request(Op.FLUSH, 0, 0)))
    context.run_until_idle()
    assert disk.stable[:512] == NEW
    first.set()
    context.run_until_idle()
    assert disk.stable[:512] == NEW
