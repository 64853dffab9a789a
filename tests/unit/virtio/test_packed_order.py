"""The order of things in a packed ring: of its stores, of batches, and of what is IN_ORDER, VIRTIO 1.4 §2.8."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from devmodels.trace import EventKind, TraceEvent, Tracer
from devmodels.virtio.ring import Chain
from tests.unit.virtio.dut import Mode
from tests.unit.virtio.model import (
    EVENT_IDX,
    IN_ORDER,
    INDIRECT_DESC,
    Form,
)
from tests.unit.virtio.packed_model import (
    AVAIL,
    USED,
    PackedDriverRing,
)
from tests.unit.virtio.plain import Kind, kinds
from tests.unit.virtio.rig import DATA, RING, TABLE, Rig, packed_rig

PackedRig = Rig[PackedDriverRing]


def observed(r: PackedRig, names: dict[int, str]) -> list[str]:
    """The device's accesses from now on, by name, loads with '?' and stores with '!'."""
    seen: list[str] = []

    def sink(event: TraceEvent) -> None:
        address = event.detail[0]
        assert isinstance(address, int)
        seen.append(names[address] + ("!" if event.kind is EventKind.DMA_WRITE else "?"))

    tracer = Tracer(lambda: 0)
    tracer.sinks.append(sink)
    r.memory.observe(trace=tracer)
    return seen


def test_flags_are_loaded_first_and_stored_last() -> None:
    """§2.8.2, §2.8.21.1: the flags before the rest; of two used descriptors the first one's flags last of all."""
    r = packed_rig(8, EVENT_IDX)
    desc, driver, device = r.parts
    names = {driver: "driver event", device: "device event", DATA: "payload"}
    for n in range(3):
        names |= {desc + 16 * n: f"desc {n}", desc + 16 * n + 8: f"len {n}", desc + 16 * n + 12: f"flags {n}"}
    order = observed(r, names)
    r.place([(DATA, 8)])
    r.place([(DATA, 8)])
    r.expose()
    assert order == [
        "device event!",
        "flags 0?",
        "flags 0?",
        "flags 1?",
        "flags 2?",
        "desc 0?",
        "desc 1?",
        "flags 2?",
        "payload!",
        "payload!",
        "device event!",
        "flags 2?",
        "len 0!",
        "len 1!",
        "flags 1!",
        "flags 0!",
        "driver event?",
    ]


def test_each_descriptor_is_copied_once() -> None:
    """A guest that changes descriptors meanwhile gains nothing."""
    r = packed_rig(8, INDIRECT_DESC)
    events: list[TraceEvent] = []
    tracer = Tracer(lambda: 0)
    tracer.sinks.append(events.append)
    r.memory.observe(trace=tracer)
    r.place([(DATA, 8), (DATA + 8, 8)], [(DATA + 64, 8)])
    r.place([(DATA, 8), (DATA + 8, 8)], [(DATA + 64, 8)], Form.INDIRECT)
    r.expose()
    reads = [event.detail[0] for event in events if event.kind is EventKind.DMA_READ]
    whole = [
        address for address in reads if isinstance(address, int) and address in range(RING, RING + 128, 16)
    ]
    assert whole == [RING, RING + 16, RING + 32, RING + 48]
    assert reads.count(TABLE) == 1


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
def test_buffers_of_one_doorbell_are_a_batch(count: int) -> None:
    r = packed_rig(60)
    for number in range(count):
        r.place([(DATA + 16 * number, 16)])
    r.expose()
    batches = [16] * (count // 16) + [count % 16] * (count % 16 > 1)
    assert r.device.batches == batches
    assert len(r.driver.collect()) == count


def test_one_doorbell_is_one_notification() -> None:
    r = packed_rig(16)
    for number in range(10):
        r.place([(DATA + 16 * number, 16)])
    r.expose()
    assert r.notified == 1
    assert len(r.driver.collect()) == 10


def test_the_driver_sees_each_batch_while_the_next_is_worked_on() -> None:
    r = packed_rig(64)
    seen: list[int] = []
    handle = r.device.handle

    def look(queue: object, chains: Sequence[Chain]) -> None:
        seen.append(r.driver.used_idx)
        handle(r.queue, chains)

    r.device.handle = look  # type: ignore[method-assign]
    for _ in range(40):
        r.place([(DATA, 16)])
    r.expose()
    assert seen == [0, 16, 32]


# --- IN_ORDER (§2.8.8)


@kinds
def test_in_order_holds_back_what_is_done_too_early(kind: Kind) -> None:
    r = packed_rig(8, IN_ORDER, kind=kind)
    r.device.mode = Mode.LATER
    buffers = [r.send([(DATA + 64 * n, 8 * n + 8)]) for n in range(4)]
    jobs = list(r.device.waiting)
    for job in (jobs[2], jobs[1]):
        r.device.complete(job)
    r.device.idle()
    assert r.driver.peek() == []
    assert r.notified == 0
    r.device.complete(jobs[0])
    r.device.idle()
    found = r.driver.collect()
    # One used descriptor stands for all three.
    assert [(used.buffer, used.length) for used in found] == [
        (buffers[0], None),
        (buffers[1], None),
        (buffers[2], 24),
    ]
    r.device.complete(jobs[3])
    r.device.idle()
    assert [used.buffer for used in r.driver.collect()] == [buffers[3]]


def test_a_batch_is_one_descriptor_at_the_place_of_its_first() -> None:
    r = packed_rig(9, IN_ORDER)
    for number in range(3):
        r.place([(DATA + 64 * number, 4), (DATA + 64 * number + 8, 4)])
    r.expose()
    assert [(place, used.length) for place, used in r.driver.peek()] == [(0, None), (0, None), (0, 8)]
    for number in range(1, 6):
        flags = r.plain.unpack("<H", r.parts[0] + 16 * number + 14)[0]
        assert flags & (AVAIL | USED) == AVAIL, "a skipped descriptor was written"


def test_a_buffer_that_was_not_written_wholly_ends_its_batch() -> None:
    """§2.8.8: what is skipped counts as written completely, so a shorter length has to be told."""
    r = packed_rig(8, IN_ORDER)
    r.device.mode = Mode.LATER
    for number in range(5):
        r.send([(DATA + 64 * number, 8)])
    for number, job in enumerate(list(r.device.waiting)):
        r.device.fraction = 50 if number in (1, 3) else 100
        r.device.complete(job)
    r.device.idle()
    assert [(place, used.length) for place, used in r.driver.peek()] == [
        (0, None),
        (0, 4),
        (2, None),
        (2, 4),
        (4, 8),
    ]
