"""What a replay holds in memory is a frame, however long its trace is."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from guestsim.disk import boot
from guestsim.guest import Guest
from guestsim.quick import disk_machine
from guestsim.replay import replay

MIB = 1 << 20


def peak(folder: Path, requests: int) -> int:
    """Bytes at most while a trace of so many writes is replayed."""
    trace = folder / f"{requests}.trace"
    with disk_machine(MIB) as machine:
        machine.record(trace)
        disk = boot(Guest(machine))
        for number in range(requests):
            disk.write(0, bytes([number & 0xFF]) * (64 << 10))
    tracemalloc.start()
    try:
        assert replay(trace).difference is None
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_a_trace_four_times_as_long_takes_no_more_memory(tmp_path: Path) -> None:
    peak(tmp_path, 10)
    short = peak(tmp_path, 40)
    assert peak(tmp_path, 160) < short * 1.2
