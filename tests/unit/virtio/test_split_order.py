"""The order of things in a split ring: of its stores, of batches, and of what is IN_ORDER, VIRTIO 1.4 §2.7."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from devmodels.trace import TraceEvent, Tracer
from devmodels.virtio.ring import Chain
from tests.unit.virtio.dut import NEEDS_RESET, Mode
from tests.unit.virtio.model import (
    EVENT_IDX,
    IN_ORDER,
    INDIRECT_DESC,
    WRITE,
    Form,
)
from tests.unit.virtio.plain import Kind, kinds
from tests.unit.virtio.rig import DATA, rig


def test_payload_then_element_then_index_then_the_drivers_wish() -> None:
    """§2.7.8.2: everything before the used index; §2.7.13.3: the available index before its entries."""
    r = rig(8, EVENT_IDX)
    order: list[str] = []
    _, avail, used = r.parts
    names = {
        avail + 2: "avail.idx",
        avail + 4: "avail.ring",
        avail + 4 + 2 * 8: "used_event",
        r.parts[0]: "descriptor",
        used + 2: "used.idx",
        used + 4: "used.id",
        used + 8: "used.len",
        used + 4 + 8 * 8: "avail_event",
        DATA: "payload",
    }

    def sink(event: TraceEvent) -> None:
        address = event.detail[0]
        assert isinstance(address, int)
        order.append(names[address])

    tracer = Tracer(lambda: 0)
    tracer.sinks.append(sink)
    r.memory.observe(trace=tracer)
    r.send([(DATA, 8)])
    assert order == [
        "avail.idx",
        "avail.ring",
        "descriptor",
        "payload",
        "used.id",
        "used.len",
        "avail_event",
        "avail.idx",
        "used.idx",
        "used_event",
    ]


@pytest.mark.parametrize(("count", "batches"), [(1, []), (2, [2]), (16, [16]), (17, [16]), (40, [16, 16, 8])])
def test_buffers_of_one_doorbell_are_a_batch(count: int, batches: list[int]) -> None:
    """At most sixteen in one, none for a buffer that comes alone."""
    r = rig(64)
    for number in range(count):
        r.place([(DATA + 16 * number, 16)])
    r.expose()
    assert r.device.batches == batches
    assert len(r.driver.collect()) == count


def test_the_driver_sees_each_batch_while_the_next_is_worked_on() -> None:
    r = rig(64)
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


@kinds
def test_in_order_holds_back_what_is_done_too_early(kind: Kind) -> None:
    r = rig(8, IN_ORDER, kind=kind)
    r.device.mode = Mode.LATER
    buffers = [r.send([(DATA + 64 * n, 8 * n)]) for n in range(4)]
    jobs = list(r.device.waiting)
    for job in (jobs[2], jobs[1]):
        r.device.complete(job)
    r.device.idle()
    assert r.driver.used_idx == 0
    assert r.notified == 0
    r.device.complete(jobs[0])
    r.device.idle()
    assert [(used.buffer, used.length) for used in r.driver.collect()] == [
        (buffers[0], 0),
        (buffers[1], 8),
        (buffers[2], 16),
    ]
    r.device.complete(jobs[3])
    r.device.idle()
    assert [used.buffer for used in r.driver.collect()] == [buffers[3]]


def test_in_order_holds_where_descriptors_go_round() -> None:
    r = rig(4, IN_ORDER)
    for _ in range(3):
        r.send([(DATA, 1)])
    r.driver.collect()
    r.device.mode = Mode.LATER
    buffers = [r.send([(DATA, 1)]) for _ in range(3)]
    assert [buffer.head for buffer in buffers] == [3, 0, 1]
    for job in reversed(r.device.waiting[:]):
        r.device.complete(job)
    r.device.idle()
    assert [used.buffer for used in r.driver.collect()] == buffers


def test_in_order_drivers_take_descriptors_in_the_order_of_the_table() -> None:
    """§2.7.5: one that does not is told so, once; what it sends is done."""
    r = rig(8, IN_ORDER | INDIRECT_DESC)
    for _ in range(5):
        r.place([(DATA, 1), (DATA, 1)], [(DATA, 1)], Form.DIRECT)
        r.place([(DATA, 1), (DATA, 1)], [(DATA, 1)], Form.INDIRECT)
        r.place([(DATA, 1), (DATA, 1)], [(DATA, 1)], Form.MIXED)
        r.expose()
        assert len(r.driver.collect()) == 3
    assert r.clauses == []
    for head in (3, 2):
        r.driver.write_desc(head, DATA, 1, WRITE, 0)
        r.driver.write_entry(0, head)
        r.driver.move_idx(1)
        r.device.kick(0)
    assert len(r.device.taken) == 17
    assert r.clauses == ["VIRTIO 1.4 §2.7.5"]
    assert not r.device.status & NEEDS_RESET
