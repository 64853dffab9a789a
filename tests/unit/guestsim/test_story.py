"""The lives of requests, from a recorded trace."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import TraceReader
from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.guest import Guest
from guestsim.life import Life
from guestsim.quick import disk_machine
from guestsim.story import lives


def recorded(folder: Path, *, shared: bool) -> list[Life]:
    path = folder / "disk.trace"
    with disk_machine(shared=shared) as machine:
        machine.record(path)
        disk = boot(Guest(machine))
        disk.write(4096, b"\xa5" * 1024)
        disk.read(4096, 512)
        disk.request(virtio_blk.read(disk.capacity, 512))
    with TraceReader(path) as reader:
        return list(lives(reader))


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "bounced"])
def test_a_request_has_its_bytes_and_its_stations(tmp_path: Path, shared: bool) -> None:
    write, read, beyond = recorded(tmp_path, shared=shared)
    assert write.header == (1, 0, 8)
    assert write.sent[16:] == b"\xa5" * 1024
    assert (write.status, write.written) == (0, 1)
    assert read.answer == b"\xa5" * 512 + b"\0"
    (part,) = read.parts
    assert (part.op, part.offset, part.length, part.errno) == ("READ", 4096, 512, 0)
    assert part.life is read
    (step,) = part.steps
    assert (step.parent, step.op, step.offset, step.length, step.errno) == (None, "READ", 4096, 512, 0)
    assert step.ended is not None
    assert part.dispatched is not None
    assert part.dispatched.number < step.began.number < step.ended.number
    assert read.events == sorted(set(read.events))
    assert {read.taken.number, step.began.number, step.ended.number} < set(read.events)
    stations = [read.kicked, read.taken, part.submitted, part.dispatched, part.done, part.completed]
    stations += [read.used, read.notified, read.interrupt]
    assert None not in stations
    assert stations == sorted(stations)  # type: ignore[type-var]
    assert (beyond.status, beyond.parts) == (1, [])
    ((clause, place, _, _),) = beyond.violations
    assert (clause, place) == ("VIRTIO 1.4 §5.2.6.1", f"vd0 queue 0 head {beyond.head}")


def test_a_buffer_of_any_length_costs_what_was_touched_of_it() -> None:
    """A guest may name 4 GiB in every descriptor of a chain."""
    huge = 0xFFFF_FFFF
    details: list[tuple[EventKind, tuple[int | bytes, ...]]] = [
        (EventKind.CHAIN, (0, 5, 1, 0x1000, huge, 0x2000, huge)),
        (EventKind.DMA_READ, (0x1000, b"\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0")),
        (EventKind.DMA_WRITE, (0x2000 + huge - 1, b"\1")),
        (EventKind.USED, (0, 5, 0)),
    ]
    events = [TraceEvent(number, 0, "vd0", kind, detail) for number, (kind, detail) in enumerate(details)]
    taken: list[Life] = []
    (life,) = lives(events, taken.append)
    assert taken == [life]
    assert (life.header, life.status) == ((1, 0, 2), 1)
    assert life.writable[0].cut(huge - 2, huge) == b"\0\1"


@pytest.mark.parametrize("rest", [[], [(EventKind.NOTIFY, (0,))]], ids=["polled", "notified"])
def test_what_nobody_is_told_of_is_not_kept(rest: list[tuple[EventKind, tuple[int, ...]]]) -> None:
    """A driver that polls is never notified, and a vhost-user back end's trace has no interrupts."""
    taken = EventKind.CHAIN, (0, 3, 1, 0x1000, 16, 0x2000, 1)
    steps = [taken, (EventKind.USED, (0, 3, 1)), *rest]
    count = 200
    name = f"lives-of-{len(steps)}-steps"  # other tests' lives may be there still
    events = (
        TraceEvent(number, 0, name, *steps[number % len(steps)]) for number in range(count * len(steps))
    )
    told = lives(events)
    for _ in range(count):
        next(told)
    assert sum(isinstance(each, Life) and each.device == name for each in gc.get_objects()) < 10
