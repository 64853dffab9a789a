"""What a queue's state in a snapshot may be, at its borders, and what it may not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from devmodels.virtio.device import CORE_FEATURES
from devmodels.virtio.state import ChainState, DeviceState, KeptState, QueueState, RingState
from tests.unit.virtio.dut import IN_ORDER, Mode, TestDevice
from tests.unit.virtio.model import EVENT_IDX
from tests.unit.virtio.packed_model import RING_PACKED
from tests.unit.virtio.plain import Kind
from tests.unit.virtio.rig import DATA, packed_rig, rig

LONGEST = 1 << 32
Change = Callable[[QueueState], QueueState]


def fresh(*, packed: bool = False) -> TestDevice:
    features = CORE_FEATURES | IN_ORDER | (RING_PACKED if packed else 0)
    return TestDevice(rig(8).memory, queue_size=8, features=features)


def state_of(*, packed: bool) -> DeviceState:
    """A running queue of eight entries with one buffer in flight."""
    r = packed_rig(8) if packed else rig(8)
    r.device.mode = Mode.LATER
    r.send([(DATA, 16)])
    return r.device.save()


def changed(state: DeviceState, change: Change) -> DeviceState:
    return replace(state, queues=[change(state.queues[0])])


def flying(*chains: ChainState) -> Change:
    return lambda queue: replace(queue, in_flight=list(chains))


def on_ring(**fields: object) -> Change:
    def change(queue: QueueState) -> QueueState:
        assert isinstance(queue.ring, RingState)
        return replace(queue, ring=replace(queue.ring, **fields))

    return change


def one(head: int = 0, address: int = DATA, length: int = 16, count: int = 1) -> ChainState:
    return ChainState(head, [], [(address, length)], count)


def shown(head: int = 0, count: int = 1, written: int = 0) -> Change:
    return on_ring(pushed=[KeptState(one(head, count=count), written)])


FINE: dict[str, Change] = {
    "as it is": lambda queue: queue,
    "a buffer at address 0": flying(one(address=0)),
    "a buffer without length": flying(one(length=0)),
    "a buffer as long as there is one": flying(ChainState(0, [(0, 1)], [(0, LONGEST - 1)], 1)),
    "two buffers with heads of their own": flying(one(0), one(7)),
    "positions at their end": on_ring(last_avail=0xFFFF, used_idx=0xFFFE),
    "a buffer of one descriptor shown": shown(),
    "nothing shown": shown(written=0xFFFF_FFFF, head=0xFFFF, count=8),
    "size 1": lambda queue: replace(queue, size=1),
}
WRONG: dict[str, tuple[Change, str]] = {
    "size 0": (lambda queue: replace(queue, size=0), "size 0"),
    "size 3": (lambda queue: replace(queue, size=3), "size 3"),
    "size 16": (lambda queue: replace(queue, size=16), "size 16"),
    "head below": (flying(one(-1)), "heads"),
    "head beyond": (flying(one(8)), "heads"),
    "a head twice": (flying(one(2), one(2)), "heads"),
    "a head that waits, too": (on_ring(waiting=[KeptState(one(0), 0)]), "heads"),
    "address below 0": (flying(one(address=-1)), "buffer of head 0"),
    "length below 0": (flying(one(length=-1)), "buffer of head 0"),
    "longer than there is": (flying(ChainState(0, [(0, 1)], [(0, LONGEST)], 1)), "buffer of head 0"),
    "shown head below": (shown(head=-1), "used buffers"),
    "shown head beyond": (shown(head=0x10000), "used buffers"),
    "shown count 0": (shown(count=0), "used buffers"),
    "shown count beyond": (shown(count=9), "used buffers"),
    "shown written below": (shown(written=-1), "used buffers"),
    "shown written beyond": (shown(written=LONGEST), "used buffers"),
    "last_avail below": (on_ring(last_avail=-1), "indices"),
    "last_avail beyond": (on_ring(last_avail=0x10000), "indices"),
    "used_idx below": (on_ring(used_idx=-1), "indices"),
    "used_idx beyond": (on_ring(used_idx=0x10000), "indices"),
}


@pytest.mark.parametrize("case", FINE)
def test_what_a_split_queue_may_be(case: str) -> None:
    fresh().judge(changed(state_of(packed=False), FINE[case]))


@pytest.mark.parametrize("case", WRONG)
def test_what_a_split_queue_cannot_be(case: str) -> None:
    change, words = WRONG[case]
    with pytest.raises(ValueError, match=f"dut queue 0: {words}"):
        fresh().judge(changed(state_of(packed=False), change))


def test_a_packed_queue_has_any_size_and_any_name_for_a_buffer() -> None:
    state = state_of(packed=True)
    device = fresh(packed=True)
    device.judge(changed(state, lambda queue: replace(queue, size=3)))
    device.judge(changed(state, flying(one(0xFFFF))))
    for head in (-1, 0x10000):
        with pytest.raises(ValueError, match="heads"):
            device.judge(changed(state, flying(one(head))))
    for size in (0, 9):
        with pytest.raises(ValueError, match=f"size {size} in the state"):
            device.judge(changed(state, lambda queue, size=size: replace(queue, size=size)))  # type: ignore[misc]


@pytest.mark.parametrize("chains", [(), (one(0, count=2),), (one(0), one(1))])
def test_a_packed_queues_positions_are_as_far_apart_as_its_buffers_are_long(
    chains: tuple[ChainState, ...],
) -> None:
    with pytest.raises(ValueError, match="positions"):
        fresh(packed=True).judge(changed(state_of(packed=True), flying(*chains)))


def test_a_device_that_has_not_begun_can_move() -> None:
    first, second = fresh(), fresh()
    state = first.save()
    assert state.queues[0].ring is None
    second.restore(state)
    assert second.save() == state


@pytest.mark.parametrize("kind", Kind)
def test_a_buffer_at_address_0_moves_along(kind: Kind) -> None:
    r = rig(8, kind=kind)
    r.device.mode = Mode.LATER
    r.send([(0, 16)])
    moved = TestDevice(r.memory, queue_size=8)
    moved.restore(r.device.save())
    moved.idle()
    assert [job.chain.writable for job in moved.taken] == [[(0, 16)]]
    assert [used.length for used in r.driver.collect()] == [16]


def test_requests_that_moved_are_done_and_new_ones_found() -> None:
    """One is in flight, one was made available and not notified."""
    r = rig(8)
    r.device.mode = Mode.LATER
    r.send([(DATA, 16)])
    r.place([(DATA + 64, 8)])
    r.driver.expose()
    moved = TestDevice(r.memory, queue_size=8)
    moved.restore(r.device.save())
    moved.idle()
    assert [used.length for used in r.driver.collect()] == [16, 8]


@pytest.mark.parametrize("positions", [(8, 8), (0x8008, 0x8008), (0x7FFF, 0x7FFF), (8, 7), (7, 0x8008)])
def test_a_packed_queues_positions_lie_in_its_ring(positions: tuple[int, int]) -> None:
    """Bit 15 is the wrap counter."""
    last_avail, used_idx = positions

    def change(queue: QueueState) -> QueueState:
        return replace(on_ring(last_avail=last_avail, used_idx=used_idx)(queue), in_flight=[])

    with pytest.raises(ValueError, match="positions"):
        fresh(packed=True).judge(changed(state_of(packed=True), change))


@pytest.mark.parametrize("sent", [1, 2, 3, 4])
def test_a_split_ring_that_moved_knows_which_index_its_driver_has_seen(sent: int) -> None:
    """VIRTIO 1.4 §2.7.7.2: a driver that wants to hear of an index that was passed before is not told again."""
    r = rig(8, EVENT_IDX)
    for _ in range(sent):
        r.send([(DATA, 8)])
    r.driver.collect()
    r.driver.wish(off=False, event=-1)
    moved = TestDevice(r.memory, queue_size=8)
    moved.restore(r.device.save())
    r.place([(DATA, 8)])
    r.driver.expose()
    moved.kick(0)
    moved.idle()
    assert (len(r.driver.collect()), moved.notifications.used) == (1, [])


def test_a_snapshot_shows_the_driver_first_what_was_done() -> None:
    r = rig(8)
    r.device.mode = Mode.LATER
    r.send([(DATA, 16)])
    assert r.driver.collect() == []
    r.device.complete(r.device.waiting[0])
    state = r.device.save()
    assert [used.length for used in r.driver.collect()] == [16]
    moved = TestDevice(r.memory, queue_size=8)
    moved.restore(state)
    moved.idle()
    assert r.driver.collect() == []
