"""The driver's side of a split ring, held against a device that a test plays by hand, lies included."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestsim.drivers.layouts import AVAIL, DESC, USED, USED_ELEM
from guestsim.drivers.ring import Chain, QueueOptions
from guestsim.drivers.virtqueue import SplitQueue
from guestsim.errors import GuestCheckError
from guestsim.memory import Memory, Segment

from .fakes import RAM, FakeTarget

SIZE = 8
OUT = [Segment(0x5000, 16)]
IN = [Segment(0x6000, 512), Segment(0x7000, 1)]


class Device:
    """The other end: reads the available ring, writes the used ring, nothing else."""

    def __init__(self, options: QueueOptions | None = None, size: int = SIZE) -> None:
        self.memory = Memory(FakeTarget(), (RAM,))
        self.notified: list[int] = []
        self.queue = SplitQueue(self.memory, 3, size, self.notified.append, options)
        self.desc, self.avail, self.used = self.queue.addresses
        self.seen = 0
        self.index = 0

    def read16(self, address: int) -> int:
        return int.from_bytes(self.memory.read(address, 2), "little")

    def write16(self, address: int, value: int) -> None:
        self.memory.write(address, struct.pack("<H", value & 0xFFFF))

    def take(self) -> list[int]:
        """Heads that became available since the last call."""
        index = self.read16(self.avail + 2)
        heads = []
        while self.seen != index:
            heads.append(self.read16(self.avail + AVAIL.size + 2 * (self.seen % self.queue.size)))
            self.seen = (self.seen + 1) & 0xFFFF
        return heads

    def chain(self, head: int) -> list[tuple[int, ...]]:
        """The descriptors of a chain, an indirect table followed."""
        found = []
        table, index = self.desc, head
        while True:
            one = DESC.struct.unpack(self.memory.read(table + DESC.size * index, DESC.size))
            if one[2] & 4:
                table, index = one[0], 0
                continue
            found.append(one)
            if not one[2] & 1:
                return found
            index = one[3]

    def use(self, head: int, length: int, *, skip: int = 1) -> None:
        """Write one used element, and move idx by `skip`."""
        slot = self.index % self.queue.size
        self.memory.write(self.used + USED.size + USED_ELEM.size * slot, USED_ELEM.pack(head, length))
        self.index = (self.index + skip) & 0xFFFF
        self.write16(self.used + 2, self.index)

    def set_avail_event(self, value: int) -> None:
        self.write16(self.used + USED.size + USED_ELEM.size * self.queue.size, value)


def add(device: Device, *, indirect: bool = False) -> Chain:
    chain = device.queue.add(OUT, IN, indirect=indirect)
    device.queue.publish()
    return chain


def test_nothing_is_seen_before_it_is_published() -> None:
    device = Device()
    device.queue.add(OUT, IN)
    assert device.take() == []
    device.queue.publish()
    assert device.take() == [0]


@pytest.mark.parametrize("indirect", [False, True])
def test_a_chain_is_what_was_asked_for_readable_before_writable(indirect: bool) -> None:
    device = Device(QueueOptions(indirect=True))
    add(device, indirect=indirect)
    found = device.chain(*device.take())
    assert [(address, length, flags & 2) for address, length, flags, _ in found] == [
        (0x5000, 16, 0),
        (0x6000, 512, 2),
        (0x7000, 1, 2),
    ]
    assert device.queue.room == (SIZE - 1 if indirect else SIZE - 3)


def test_a_used_chain_comes_back_once_with_its_length_and_its_descriptors() -> None:
    device = Device()
    lengths: list[int] = []
    device.queue.add(OUT, IN, lengths.append)
    device.queue.publish()
    (head,) = device.take()
    device.use(head, 513)
    assert [chain.used_length for chain in device.queue.poll()] == [513]
    assert lengths == [513]
    assert device.queue.room == SIZE
    assert device.queue.poll() == []


def broken(device: Device, clause: str) -> None:
    with pytest.raises(GuestCheckError) as caught:
        device.queue.poll()
    assert caught.value.clause == clause


def test_a_used_head_that_nobody_made_available_is_found() -> None:
    device = Device()
    add(device)
    device.use(5, 1)
    broken(device, "VIRTIO 1.4 §2.7.8")


def test_a_head_used_twice_is_found() -> None:
    device = Device()
    add(device)
    add(device)
    device.use(0, 1)
    device.use(0, 1)
    broken(device, "VIRTIO 1.4 §2.7.8")


def test_a_used_index_beyond_what_is_in_flight_is_found() -> None:
    device = Device()
    add(device)
    device.use(0, 1, skip=2)
    broken(device, "VIRTIO 1.4 §2.7.8")


def test_a_used_length_beyond_the_writable_bytes_is_found() -> None:
    device = Device()
    add(device)
    device.use(0, 514)
    broken(device, "VIRTIO 1.4 §2.7.8.2")


def test_used_flags_with_the_event_index_are_found() -> None:
    device = Device(QueueOptions(event_idx=True))
    add(device)
    device.use(0, 1)
    device.write16(device.used, 1)
    broken(device, "VIRTIO 1.4 §2.7.10.2")


def test_a_batch_in_order_stands_for_everything_before_it() -> None:
    device = Device(QueueOptions(in_order=True, indirect=True))
    chains = [add(device, indirect=True) for _ in range(3)]
    device.use(chains[2].head, 513, skip=3)
    assert device.queue.poll() == chains
    # The skipped buffers count as used completely (VIRTIO 1.4 §2.7.9).
    assert [chain.used_length for chain in chains] == [513, 513, 513]


def test_a_batch_of_the_wrong_size_is_found() -> None:
    device = Device(QueueOptions(in_order=True, indirect=True))
    chains = [add(device, indirect=True) for _ in range(3)]
    device.use(chains[2].head, 513, skip=2)
    broken(device, "VIRTIO 1.4 §2.7.9")


def test_descriptors_in_order_go_round_the_table() -> None:
    device = Device(QueueOptions(in_order=True))
    for _ in range(5):
        add(device)
        (head,) = device.take()
        assert [device.chain(head)[0][3], device.chain(head)[1][3]] == [(head + 1) % SIZE, (head + 2) % SIZE]
        device.use(head, 513)
        device.queue.poll()


def test_flags_hold_notifications_back() -> None:
    device = Device()
    device.write16(device.used, 1)
    add(device)
    assert not device.queue.kick()
    device.write16(device.used, 0)
    add(device)
    assert device.queue.kick()
    assert device.notified == [2]
    assert (device.queue.kicks, device.queue.kicks_saved) == (1, 1)


@pytest.mark.parametrize("event", [0, 1, 100])
def test_without_the_event_index_avail_event_means_nothing(event: int) -> None:
    device = Device()
    device.set_avail_event(event)
    for flags in (0, 1):
        device.write16(device.used, flags)
        add(device)
        assert device.queue.kick() is not bool(flags)


@pytest.mark.parametrize("flags", [0, 1])
def test_with_the_event_index_the_lower_bit_of_flags_means_nothing(flags: int) -> None:
    device = Device(QueueOptions(event_idx=True))
    device.write16(device.used, flags)
    add(device)
    assert device.queue.kick(), "avail_event is 0"


def test_a_ring_begins_with_zeroes_wherever_it_lies() -> None:
    target = FakeTarget()
    target.bytes[RAM.base][:] = b"\xff" * RAM.size
    queue = SplitQueue(Memory(target, (RAM,)), 0, SIZE, lambda _: None)
    _, avail, used = queue.addresses
    assert target.ram_read(avail, AVAIL.size) == bytes(AVAIL.size)
    assert target.ram_read(used, USED.size) == bytes(USED.size)


def test_a_kick_without_news_is_none() -> None:
    device = Device()
    assert not device.queue.kick()
    assert device.notified == []


@given(start=st.integers(0, 0xFFFF), added=st.integers(1, SIZE), event=st.integers(0, 0xFFFF))
def test_the_event_index_says_when_to_notify(start: int, added: int, event: int) -> None:
    device = Device(QueueOptions(event_idx=True, indirect=True))
    device.queue.publish(start)
    device.queue.kick()
    device.notified.clear()
    device.set_avail_event(event)
    for _ in range(added):
        device.queue.add(OUT, IN, indirect=True)
    device.queue.publish()
    # §2.7.10.1: notify where an entry was written at the index that avail_event names.
    written = {(start + number) & 0xFFFF for number in range(added)}
    assert device.queue.kick() == (event in written)


@pytest.mark.parametrize("event_idx", [False, True])
def test_what_the_driver_asks_of_interrupts(event_idx: bool) -> None:
    device = Device(QueueOptions(event_idx=event_idx))

    def asked() -> tuple[int, int]:
        return device.read16(device.avail), device.read16(device.avail + AVAIL.size + 2 * SIZE)

    device.queue.disable_interrupts()
    assert asked() == ((0, 0xFFFF) if event_idx else (1, 0))
    device.queue.enable_interrupts()
    assert asked() == (0, 0)
    device.queue.enable_interrupts(after=4)
    assert asked() == (0, 3 if event_idx else 0)


@given(st.data())
def test_any_order_of_using_gives_everything_back(data: st.DataObject) -> None:
    """Chains of any shape, used in any order, over many rounds of the ring: nothing is lost, nothing is doubled."""
    device = Device(QueueOptions(event_idx=True, indirect=True))
    free_before = device.memory.in_use
    waiting: list[Chain] = []
    done: list[Chain] = []
    made = 0
    for _ in range(data.draw(st.integers(1, 40))):
        if data.draw(st.booleans()) and device.queue.room >= 3:
            chain = add(device, indirect=data.draw(st.booleans()))
            made += 1
            waiting.append(chain)
            assert device.take() == [chain.head]
        elif waiting:
            chain = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            device.use(chain.head, data.draw(st.integers(0, 513)))
            if data.draw(st.booleans()):
                done += device.queue.poll()
    for chain in waiting:
        device.use(chain.head, 0)
    done += device.queue.poll()
    assert len(done) == made
    assert len({id(chain) for chain in done}) == made
    assert device.queue.room == SIZE
    assert device.memory.in_use == free_before


@pytest.mark.long
def test_the_largest_ring() -> None:
    device = Device(size=32768)
    for _ in range(32768 // 3):
        device.queue.add(OUT, IN)
    device.queue.publish()
    heads = device.take()
    assert len(set(heads)) == 32768 // 3
    for head in heads:
        device.use(head, 1)
    assert len(device.queue.poll()) == 32768 // 3
    assert device.queue.room == 32768


def test_a_freed_queue_gives_its_memory_back() -> None:
    device = Device(QueueOptions(indirect=True))
    add(device, indirect=True)
    device.queue.free()
    assert device.memory.in_use == 0


def test_a_ring_written_by_hand_keeps_what_was_used() -> None:
    device = Device()
    device.queue.expose_raw(77)
    device.queue.publish()
    assert device.take() == [77]
    device.use(5, 9)
    device.queue.poll()
    assert device.queue.collected == [(5, 9)]
