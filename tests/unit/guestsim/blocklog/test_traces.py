"""A trace as a log: what the guest asked for, when, and what it wrote and read."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from devmodels.blockbackend.request import Flags, Op
from devmodels.tracefile import TraceReader
from guestsim.blocklog import traces
from guestsim.blocklog.events import Begin, End, Event, Losses
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.drivers.virtio_blk import Operation
from guestsim.guest import Guest
from guestsim.quick import disk_machine

from .logs import begins, ends, order

DATA = bytes(range(256)) * 4


def _log(path: Path, losses: Losses | None = None) -> list[Event]:
    with TraceReader(path) as reader:
        return list(traces.read_trace(reader, Losses() if losses is None else losses))


def _record(path: Path, *operations: Operation) -> list[Event]:
    with disk_machine(num_queues=2) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        for operation in operations:
            disk.request(operation, queue=1)
    return _log(path)


def test_requests_and_their_data_are_those_of_the_guest(tmp_path: Path) -> None:
    events = _record(
        tmp_path / "a.trace",
        virtio_blk.write(4096, DATA),
        virtio_blk.read(4096, 512),
        virtio_blk.flush(),
        virtio_blk.discard([(0, 8192), (65536, 512)]),
        virtio_blk.write_zeroes([(512, 1024)], unmap=True),
    )
    assert [(one.op, one.offset, one.length, one.flags, one.data) for one in begins(events)] == [
        (Op.WRITE, 4096, 1024, Flags.NONE, DATA),
        (Op.READ, 4096, 512, Flags.NONE, None),
        (Op.FLUSH, 0, 0, Flags.NONE, None),
        (Op.DISCARD, 0, 8192, Flags.NONE, None),
        (Op.DISCARD, 65536, 512, Flags.NONE, None),
        (Op.WRITE_ZEROES, 512, 1024, Flags.MAY_UNMAP, None),
    ]
    assert [one.data for one in ends(events)] == [None, DATA[:512], None, None, None, None]
    assert {one.disk for one in begins(events)} == {"vd0"}
    assert {one.queue for one in begins(events)} == {1}


def test_what_was_refused_has_ended_with_an_error(tmp_path: Path) -> None:
    events = _record(tmp_path / "a.trace", virtio_blk.read(1 << 40, 512))
    assert events[0] == Begin(0, 0, Op.READ, 1 << 40, 512, "vd0", queue=1)
    assert ends(events) == [End(0, 0, errno.EIO)]


def test_what_does_not_concern_the_disk_is_counted(tmp_path: Path) -> None:
    with disk_machine() as machine:
        machine.record(tmp_path / "a.trace")
        boot(Guest(machine)).get_id()
    losses = Losses()
    assert _log(tmp_path / "a.trace", losses) == []
    assert losses.lines() == ["1 × GET_ID: neither reads nor writes the disk"]


def test_events_come_in_the_order_in_which_they_happened(tmp_path: Path) -> None:
    path = tmp_path / "a.trace"
    _overtaken(path)
    events = _log(path)
    expected = [("begin", 0), ("begin", 1), ("end", 1), ("begin", 2), ("end", 2), ("end", 0)]
    assert order(events) == expected
    assert [event.time_ns for event in events] == sorted(event.time_ns for event in events)


def test_a_request_that_never_ends_does_not_hold_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.trace"
    _overtaken(path)
    monkeypatch.setattr(traces, "MOST_HELD", 1)
    assert sorted(order(_log(path))) == sorted([(what, n) for what in ("begin", "end") for n in range(3)])


def _overtaken(path: Path) -> None:
    """Record three requests, of which the first ends last."""
    from guestsim.targets.inprocess import InProcessTarget

    slow = {"driver": "delay", "node-name": "slow", "file": "disk", "write-ns": 1000, "read-ns": 10}
    with InProcessTarget(
        blockdevs=[{"driver": "memory", "node-name": "disk", "size": 1 << 20}, slow],
        devices=[{"driver": "virtio-blk-pci", "drive": "slow", "id": "vd0"}],
    ) as machine:
        machine.record(path)
        guest = Guest(machine)
        disk = boot(guest)

        async def story() -> None:
            (first,) = await disk.driver.submit([virtio_blk.write(0, bytes(512))])
            await disk.driver.execute(virtio_blk.read(4096, 512))
            await disk.driver.execute(virtio_blk.read(8192, 512))
            await disk.driver.finish(first)

        guest.run(story())
