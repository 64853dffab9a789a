"""The driver's side of a packed ring, held against a device that a test plays by hand, lies included."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestsim.drivers.packed import PackedQueue
from guestsim.drivers.ring import Chain, QueueOptions
from guestsim.errors import GuestCheckError
from guestsim.memory import Memory, Segment

from .fakes import RAM, FakeTarget

SIZE = 7
OUT = [Segment(0x5000, 16)]
IN = [Segment(0x6000, 512), Segment(0x7000, 1)]
NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 1 << 7, 1 << 15


class Buffer:
    """What the device has found in the ring: its id, how many slots it takes, and (address, length, writable)s."""

    def __init__(self, number: int, slots: int, elements: list[tuple[int, int, bool]]) -> None:
        self.number = number
        self.slots = slots
        self.elements = elements


class Device:
    """The other end, by the text of §2.8: an offset and a wrap counter each for reading and for writing."""

    def __init__(self, options: QueueOptions | None = None, size: int = SIZE) -> None:
        self.memory = Memory(FakeTarget(), (RAM,))
        self.notified: list[int] = []
        self.queue = PackedQueue(self.memory, 3, size, self.notified.append, options)
        self.ring, self.driver_event, self.device_event = self.queue.addresses
        self.size = size
        self.avail, self.avail_wrap = 0, True
        self.used, self.used_wrap = 0, True

    def descriptor(self, table: int, index: int) -> tuple[int, int, int, int]:
        address, length, number, flags = struct.unpack("<QIHH", self.memory.read(table + 16 * index, 16))
        return address, length, number, flags

    def take(self) -> Buffer | None:
        """The next available buffer."""
        elements = []
        for slots in range(1, self.size + 1):
            address, length, number, flags = self.descriptor(self.ring, self.avail)
            if bool(flags & AVAIL) != self.avail_wrap or bool(flags & USED) == self.avail_wrap:
                assert slots == 1, "a list that is available in part only"
                return None
            self.avail += 1
            if self.avail == self.size:
                self.avail, self.avail_wrap = 0, not self.avail_wrap
            if flags & INDIRECT:
                assert not flags & NEXT
                table = [self.descriptor(address, index) for index in range(length // 16)]
                assert not any(one[3] & ~WRITE for one in table)
                elements += [(one[0], one[1], bool(one[3] & WRITE)) for one in table]
            else:
                elements.append((address, length, bool(flags & WRITE)))
            if not flags & NEXT:
                return Buffer(number, slots, elements)
        raise AssertionError("a list longer than the ring")

    def take_all(self) -> list[Buffer]:
        found = []
        while (buffer := self.take()) is not None:
            found.append(buffer)
        return found

    def use(
        self, number: int, slots: int, length: int, *, flags: int = WRITE, lap: bool | None = None
    ) -> None:
        """Write a used descriptor and skip `slots`; `lap` is another wrap counter than the right one."""
        wrap = self.used_wrap if lap is None else lap
        flags |= AVAIL | USED if wrap else 0
        self.memory.write(self.ring + 16 * self.used, struct.pack("<QIHH", 0, length, number, flags))
        self.used += slots
        if self.used >= self.size:
            self.used, self.used_wrap = self.used - self.size, not self.used_wrap

    def give_back(self, buffer: Buffer, length: int) -> None:
        self.use(buffer.number, buffer.slots, length)

    def want(self, place: int, flags: int) -> None:
        self.memory.write(self.device_event, struct.pack("<HH", place, flags))

    def asked(self) -> tuple[int, int]:
        place, flags = struct.unpack("<HH", self.memory.read(self.driver_event, 4))
        return place, flags


def add(device: Device, *, indirect: bool = False) -> Chain:
    chain = device.queue.add(OUT, IN, indirect=indirect)
    device.queue.publish()
    return chain


def one(device: Device) -> Buffer:
    """Have a chain made available, and take it."""
    add(device)
    (buffer,) = device.take_all()
    return buffer


def test_nothing_is_seen_before_it_is_published() -> None:
    device = Device()
    device.queue.add(OUT, IN)
    device.queue.add(OUT, [IN[1]])
    assert device.take() is None
    device.queue.publish()
    assert len(device.take_all()) == 2


@pytest.mark.parametrize("indirect", [False, True])
def test_a_chain_is_what_was_asked_for_readable_before_writable(indirect: bool) -> None:
    device = Device(QueueOptions(indirect=True))
    add(device, indirect=indirect)
    (buffer,) = device.take_all()
    assert buffer.elements == [(0x5000, 16, False), (0x6000, 512, True), (0x7000, 1, True)]
    assert buffer.slots == (1 if indirect else 3)
    assert device.queue.room == SIZE - buffer.slots


def test_a_used_chain_comes_back_once_with_its_length_and_its_slots() -> None:
    device = Device()
    lengths: list[int] = []
    device.queue.add(OUT, IN, lengths.append)
    device.queue.publish()
    (buffer,) = device.take_all()
    device.give_back(buffer, 513)
    assert [chain.used_length for chain in device.queue.poll()] == [513]
    assert lengths == [513]
    assert device.queue.room == SIZE
    assert device.queue.poll() == []


def broken(device: Device, clause: str) -> None:
    with pytest.raises(GuestCheckError) as caught:
        device.queue.poll()
    assert caught.value.clause == clause


def test_a_buffer_that_nobody_made_available_is_found() -> None:
    device = Device()
    one(device)
    device.use(5, 3, 1)
    broken(device, "VIRTIO 1.4 §2.8.22")


def test_a_buffer_used_twice_is_found() -> None:
    device = Device()
    buffer = one(device)
    add(device)
    device.give_back(buffer, 1)
    device.give_back(buffer, 1)
    broken(device, "VIRTIO 1.4 §2.8.22")


def test_a_buffer_used_while_nothing_is_in_flight_is_found() -> None:
    device = Device()
    buffer = one(device)
    device.give_back(buffer, 1)
    device.give_back(buffer, 1)
    broken(device, "VIRTIO 1.4 §2.8.15")


def test_a_used_length_beyond_the_writable_bytes_is_found() -> None:
    device = Device()
    buffer = one(device)
    device.give_back(buffer, 514)
    broken(device, "VIRTIO 1.4 §2.8.4")


def test_a_used_descriptor_of_another_lap_is_found() -> None:
    device = Device()
    buffer = one(device)
    device.use(buffer.number, buffer.slots, 513, lap=False)
    broken(device, "VIRTIO 1.4 §2.8.1")


def test_a_length_without_the_write_flag_is_counted() -> None:
    device = Device()
    buffer = one(device)
    device.use(buffer.number, buffer.slots, 513, flags=0)
    assert [chain.used_length for chain in device.queue.poll()] == [513]
    assert device.queue.unmarked == 1


def test_a_chain_that_fills_the_ring_turns_the_lap() -> None:
    device = Device(size=3)
    for _ in range(5):
        buffer = one(device)
        assert device.queue.room == 0
        device.give_back(buffer, 513)
        assert len(device.queue.poll()) == 1


def test_a_batch_in_order_stands_for_everything_before_it() -> None:
    device = Device(QueueOptions(in_order=True, indirect=True))
    chains = [add(device, indirect=True) for _ in range(3)]
    buffers = device.take_all()
    device.use(buffers[2].number, 3, 100)
    assert device.queue.poll() == chains
    # The skipped buffers count as used completely (VIRTIO 1.4 §2.8.8).
    assert [chain.used_length for chain in chains] == [513, 513, 100]
    device.give_back(one(device), 513)
    assert len(device.queue.poll()) == 1


def test_suppression_holds_notifications_back() -> None:
    device = Device()
    device.want(0, 1)
    add(device)
    assert not device.queue.kick()
    device.want(0, 0)
    add(device)
    assert device.queue.kick()
    assert device.notified == [6 | 1 << 15]
    assert (device.queue.kicks, device.queue.kicks_saved) == (1, 1)
    assert not device.queue.kick(), "nothing is new"


@pytest.mark.parametrize(("place", "flags"), [(0, 3), (0, 2), (SIZE, 2)])
def test_suppression_that_means_nothing_is_found(place: int, flags: int) -> None:
    device = Device(QueueOptions(event_idx=place == SIZE))
    add(device)
    device.want(place, flags)
    with pytest.raises(GuestCheckError, match="event suppression") as caught:
        device.queue.kick()
    assert caught.value.clause == "VIRTIO 1.4 §2.8.10"


@given(
    size=st.integers(1, 9),
    start=st.integers(0, 40),
    added=st.integers(1, 9),
    event=st.integers(0, 8),
    wrap=st.booleans(),
)
def test_the_event_place_says_when_to_notify(
    size: int, start: int, added: int, event: int, wrap: bool
) -> None:
    device = Device(QueueOptions(event_idx=True, indirect=True), size)
    for _ in range(start):
        add(device, indirect=True)
        for buffer in device.take_all():
            device.give_back(buffer, 513)
        device.queue.poll()
    device.queue.kick()
    event, added = event % size, min(added, size)
    device.want(event | wrap << 15, 2)
    written = set()
    for number in range(start, start + added):
        device.queue.add(OUT, IN, indirect=True)
        written.add((number % size, number // size % 2 == 0))
    device.queue.publish()
    # §2.8.10: an event where the descriptor at that offset is made available in the lap of that wrap counter.
    assert device.queue.kick() == ((event, wrap) in written)


def test_what_the_driver_asks_of_interrupts() -> None:
    device = Device(QueueOptions(event_idx=True))
    device.queue.enable_interrupts()
    assert device.asked() == (1 << 15, 2)
    buffer = one(device)
    add(device)
    device.queue.enable_interrupts(after=2)
    assert device.asked() == (3 | 1 << 15, 2)
    device.give_back(buffer, 513)
    device.queue.poll()
    add(device)
    device.queue.enable_interrupts(after=3)
    # Two chains of three lie before it: slot 9 of 7, in the second lap.
    assert device.asked() == (2, 2)
    device.queue.disable_interrupts()
    assert device.asked()[1] == 1
    plain = Device()
    plain.queue.enable_interrupts()
    assert plain.asked() == (0, 0)


@given(st.data())
def test_any_order_of_using_gives_everything_back(data: st.DataObject) -> None:
    """Chains of any shape in rings of any size, used in any order, over many laps: nothing lost, nothing doubled."""
    size = data.draw(st.integers(1, 12))
    in_order = data.draw(st.booleans())
    device = Device(QueueOptions(event_idx=True, indirect=True, in_order=in_order), size)
    free_before = device.memory.in_use
    waiting: list[tuple[Buffer, Chain]] = []
    done: list[Chain] = []
    lengths: dict[int, int] = {}
    made = 0
    for _ in range(data.draw(st.integers(1, 60))):
        parts = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 4))
        indirect = data.draw(st.booleans())
        needed = 1 if indirect else sum(parts)
        if sum(parts) and data.draw(st.booleans()) and device.queue.room >= needed:
            readable = [Segment(0x1000 * number, 1 + number) for number in range(parts[0])]
            writable = [Segment(0x9000 + 0x1000 * number, 100) for number in range(parts[1])]
            chain = device.queue.add(readable, writable, indirect=indirect)
            device.queue.publish()
            made += 1
            (buffer,) = device.take_all()
            assert buffer.number == chain.head
            assert buffer.elements == [
                *((segment.address, segment.length, False) for segment in readable),
                *((segment.address, segment.length, True) for segment in writable),
            ]
            waiting.append((buffer, chain))
        elif waiting:
            if in_order:
                batch = waiting[: data.draw(st.integers(1, len(waiting)))]
                del waiting[: len(batch)]
            else:
                batch = [waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))]
            for _, chain in batch[:-1]:
                lengths[id(chain)] = chain.writable or 0
            buffer, chain = batch[-1]
            lengths[id(chain)] = data.draw(st.integers(0, chain.writable or 0))
            device.use(buffer.number, sum(one.slots for one, _ in batch), lengths[id(chain)])
            if data.draw(st.booleans()):
                done += device.queue.poll()
    for buffer, chain in waiting:
        lengths[id(chain)] = 0
        device.give_back(buffer, 0)
    done += device.queue.poll()
    assert len(done) == len({id(chain) for chain in done}) == made
    assert {id(chain): chain.used_length for chain in done} == lengths
    assert device.queue.room == size
    assert device.memory.in_use == free_before


@pytest.mark.long
def test_the_largest_ring() -> None:
    device = Device(size=32768)
    for _ in range(32768 // 3):
        device.queue.add(OUT, IN)
    device.queue.publish()
    buffers = device.take_all()
    assert len({buffer.number for buffer in buffers}) == 32768 // 3
    for buffer in buffers:
        device.give_back(buffer, 1)
    assert len(device.queue.poll()) == 32768 // 3
    assert device.queue.room == 32768


def test_a_freed_queue_gives_its_memory_back() -> None:
    device = Device(QueueOptions(indirect=True))
    add(device, indirect=True)
    device.queue.add(OUT, IN, indirect=True)
    device.queue.free()
    assert device.memory.in_use == 0


def test_a_ring_written_by_hand_keeps_what_was_used() -> None:
    device = Device()
    device.queue.expose_raw([(0x5000, 16, 1, NEXT), (0x6000, 1, 60_000, WRITE)])
    (buffer,) = device.take_all()
    assert (buffer.number, buffer.slots) == (60_000, 2)
    device.give_back(buffer, 1)
    device.queue.poll()
    assert device.queue.collected == [(60_000, 1)]
    # Flags that are named are turned round: not available after all.
    device.queue.expose_raw([(0x5000, 16, 1, AVAIL | USED)])
    assert device.take() is None
