"""A driver (`model`, `packed_model`) and a device (`dut`) on one ring, at random, and what must hold between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from itertools import product
from typing import Any, Protocol

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from devmodels.dirtylog import PAGE_SIZE, DirtyLog
from devmodels.virtio.device import CORE_FEATURES
from devmodels.virtio.state import DeviceState
from tests.unit.virtio import dut
from tests.unit.virtio.dut import Mode, TestDevice, pattern
from tests.unit.virtio.hostile import EDITS
from tests.unit.virtio.model import (
    EVENT_IDX,
    IN_ORDER,
    INDIRECT_DESC,
    NOTIFICATION_DATA,
    RING_RESET,
    VERSION_1,
    Buffer,
    Driver,
    DriverRing,
    Form,
    Vector,
)
from tests.unit.virtio.packed_hostile import PACKED_EDITS
from tests.unit.virtio.packed_model import RING_PACKED, PackedDriverRing
from tests.unit.virtio.plain import Block, Kind, PlainMemory, bounced, guest_memory, shared

RING_BASE = 0x1_0000
DATA_BASE = 0x8_0000
TABLE = DATA_BASE
"""512 bytes for hostile tables."""
SLOT = 64
SLOTS = range(8, 96)
"""Payload and tables lie in slots, so that no two buffers overlap."""

OPTIONAL = (INDIRECT_DESC, EVENT_IDX, IN_ORDER, NOTIFICATION_DATA, RING_RESET)
COMBINATIONS = tuple(map(sum, product(*((0, bit) for bit in OPTIONAL))))
split_sizes = st.sampled_from((2, 4, 8, 8, 16, 16, 32, 64))
packed_sizes = st.one_of(st.integers(1, 16), st.integers(1, 64))
modes = st.sampled_from((Mode.AT_ONCE, Mode.AT_ONCE, Mode.AT_ONCE, Mode.LATER, Mode.LATER, Mode.NEVER))
lengths = st.one_of(st.integers(0, 3 * SLOT), st.sampled_from((0, 1, SLOT, 2 * SLOT)))


class Then(Enum):
    """How far a driver goes after it has placed buffers."""

    NOTHING = 0
    EXPOSE = 1
    RUN = 2
    COLLECT = 3


class Misdeed(Protocol):
    """What a driver must never do to its ring, and the clause that it breaks."""

    @property
    def name(self) -> str: ...

    @property
    def clause(self) -> str: ...

    def possible(self, driver: Any, /) -> bool: ...

    def do(self, driver: Any, table: int, pick: Callable[[int, int], int], /) -> None: ...


class RingMachine(RuleBasedStateMachine):
    """One queue of one device, from reset to reset."""

    model: type[Driver] = DriverRing
    sizes = split_sizes
    always = VERSION_1
    """Features that every driver takes."""
    misdeeds: Sequence[Misdeed] = EDITS
    kinds: tuple[Kind, ...] = tuple(Kind)
    """The kinds of memory to go through."""
    combinations: Sequence[int] = COMBINATIONS
    """The features to go through."""
    examples = 0
    """How many times a machine was set up."""

    # --- setting up

    @initialize(data=st.data())
    def set_up(self, data: st.DataObject) -> None:
        type(self).examples += 1
        kind = data.draw(st.sampled_from(self.kinds), "kind")
        self.size = data.draw(self.sizes, "size")
        self.features = features = data.draw(st.sampled_from(self.combinations), "features") | self.always
        sizes = self.model.sizes(self.size)
        avail = RING_BASE + sizes[0] + data.draw(st.sampled_from((0, 2, 6)), "gap")
        if features & RING_PACKED:
            avail &= ~3
        used = avail + sizes[1] + 3 & ~3
        self.parts = (RING_BASE, avail, used)
        end = used + sizes[2] + 7 & ~7
        edge = 8 * data.draw(st.integers(RING_BASE // 8 + 1, end // 8 - 1), "edge")
        middle = DATA_BASE + 8 * data.draw(st.integers(1, SLOTS.stop * SLOT // 8 - 1), "middle")
        bounds = [
            (RING_BASE, edge),
            (edge, end),
            (DATA_BASE, middle),
            (middle, DATA_BASE + SLOTS.stop * SLOT),
        ]
        self.plain = PlainMemory([Block(low, bytearray(high - low)) for low, high in bounds])
        self.memory = guest_memory(self.plain, kind)
        self.log: DirtyLog | None = None
        self.device = self.make_device()
        self.queue = self.device.queues[0]
        self.violations = 0
        self.device.mode = data.draw(modes, "mode")
        starts = (0, 0, self.size - 1, self.size) if features & RING_PACKED else (0, 0, 32766, 65534)
        self.start_device(data.draw(st.sampled_from(starts), "first index"))

    def make_device(self) -> TestDevice:
        return TestDevice(self.memory, queue_size=64, features=CORE_FEATURES | IN_ORDER | self.always)

    def start_device(self, index: int = 0) -> None:
        """Negotiate and go.  A ring that begins at an index other than 0 is one that another back end left."""
        self.device.negotiate(self.features)
        if not index:
            self.start_queue()
        self.device.go()
        if index:
            self.start_queue(index)
        self.device.idle()

    def start_queue(self, index: int = 0) -> None:
        self.driver = self.model(self.plain, self.size, self.parts, self.features, start=index)
        self.start = index
        self.first_job = len(self.device.taken)
        self.exposed: list[Buffer] = []
        self.slots = list(SLOTS)
        self.slots_of: dict[int, list[int]] = {}
        self.returned: set[int] = set()
        queue = self.device.set_queue(0, self.size, self.parts)
        if index:
            queue.enabled = True
            position = self.driver.position(self.size, index)
            assert queue.start(last_avail=position, used_idx=position)
            self.device.process(queue)
        else:
            self.device.enable_queue(queue)

    # --- what must hold whenever the device has worked

    @contextmanager
    def device_works(self, *, ring: bool = True, wanted: int = 0) -> Iterator[None]:
        """Around everything that makes the device act; without `ring` it must leave ring and driver alone.

        `wanted` is the number of violations that it is to report.
        """
        device, driver = self.device, self.driver
        old = driver.used_idx
        before = self.plain.copy()
        expected = self.plain.copy()
        finished = set(device.done)
        notified = len(device.notifications.used)
        yield
        new = driver.used_idx
        self.check_taken()
        for number in device.done.keys() - finished:
            self.expect_payload(expected, number)
        if ring:
            for address, length in driver.device_may_write(old):
                expected.store(address, self.plain.load(address, length))
            assert driver.device_wish_is_sound()
            self.check_notified(old, new, len(device.notifications.used) - notified)
        else:
            assert len(device.notifications.used) == notified
        assert self.plain.differences(expected) == [], "written outside the writable descriptors"
        if self.log is not None:
            changed = {address & -PAGE_SIZE for address in self.plain.differences(before)}
            assert changed <= set(self.log.take()), "written without a mark in the dirty log"
        self.violations += wanted
        recent = [str(each) for each in device.violations.recent]
        assert device.violations.total == self.violations, recent

    def check_taken(self) -> None:
        """The device has taken what was exposed, in order, as it was described."""
        taken = self.device.taken[self.first_job :]
        assert len(taken) <= len(self.exposed)
        for job, buffer in zip(taken, self.exposed, strict=False):
            assert job.chain.head == buffer.head
            assert list(job.chain.readable) == list(buffer.readable)
            assert list(job.chain.writable) == list(buffer.writable)
            assert job.chain.writable_bytes == buffer.writable_bytes

    def expect_payload(self, expected: PlainMemory, number: int) -> None:
        """The first bytes of a finished buffer's writable elements, and no others, have been written."""
        data = pattern(number, self.device.done[number])
        if number < self.first_job:
            job = self.device.taken[number]
            elements = job.chain.writable
        else:
            elements = list(self.exposed[number - self.first_job].writable)
        for address, length in elements:
            expected.store(address, data[:length])
            data = data[length:]

    def check_notified(self, old: int, new: int, count: int) -> None:
        wanted = self.driver.wants_notification(old, new)
        assert bool(count) == wanted, (
            f"{count} notifications while the used index went from {old} to {new}: §2.7.7.2, §2.8.10"
        )

    # --- the driver's moves

    @rule(
        readable=st.lists(lengths, max_size=4),
        writable=st.lists(lengths, max_size=4),
        form=st.sampled_from(Form),
        skew=st.integers(0, 5),
        burst=st.integers(1, 9),
        then=st.sampled_from(Then),
    )
    def add_buffers(
        self, readable: list[int], writable: list[int], form: Form, skew: int, burst: int, then: Then
    ) -> None:
        """Place buffers of one shape, as many as there is room for, and go on with some of what follows."""
        for _ in range(burst):
            self.place(readable, writable, form, skew)
        if then is not Then.NOTHING:
            self.expose(False)
        if then in (Then.RUN, Then.COLLECT):
            self.run()
        if then is Then.COLLECT:
            self.collect()

    def place(self, readable: list[int], writable: list[int], form: Form, skew: int) -> None:
        if not readable and not writable:
            writable = [SLOT]
        count = len(readable) + len(writable)
        if not self.features & INDIRECT_DESC or count < 2:
            form = Form.DIRECT
        driver = self.driver
        needed = driver.descriptors_for(count, form)
        if not 0 < count <= self.size or needed > driver.free:
            return
        claimed: list[int] = []
        table, room = self.claim(16 * count, skew, claimed)
        if not room:
            return
        vectors = [self.claim(length, skew, claimed) for length in readable + writable]
        buffer = Buffer(vectors[: len(readable)], vectors[len(readable) :])
        driver.place(buffer, form, table)
        self.slots_of[buffer.head] = claimed

    def claim(self, length: int, skew: int, claimed: list[int]) -> Vector:
        """Take neighbouring slots for `length` bytes; an empty element where there are none left."""
        wanted = -(-(length + skew) // SLOT)
        for first in self.slots:
            run = range(first, first + wanted)
            if all(slot in self.slots for slot in run):
                for slot in run:
                    self.slots.remove(slot)
                claimed += run
                return DATA_BASE + first * SLOT + skew, length
        return DATA_BASE, 0

    @rule(spurious=st.booleans())
    def expose(self, spurious: bool) -> None:
        """Show what was placed; notify where that is demanded (or in any case)."""
        driver = self.driver
        out = len(driver.out)
        must = driver.expose()
        self.exposed += list(driver.out)[out:]
        if must or spurious:
            with self.device_works():
                self.device.kick(0, driver.notification << 16 if driver.has(NOTIFICATION_DATA) else None)

    def run(self) -> None:
        """Left alone, the device takes all that is exposed and shows all that is done."""
        with self.device_works():
            self.device.idle()
        assert len(self.device.taken) - self.first_job == len(self.exposed), "a buffer was left in the ring"
        done = [number in self.device.done for number in range(self.first_job, len(self.device.taken))]
        shown = [*done, False].index(False) if self.driver.has(IN_ORDER) else sum(done)
        numbers = range(self.first_job, len(self.device.taken))
        finished = [
            buffer
            for at, (number, buffer) in enumerate(zip(numbers, self.exposed, strict=True))
            if number in self.device.done and (at < shown or not self.driver.has(IN_ORDER))
        ]
        assert self.driver.used_idx == self.driver.after(self.start, finished)

    def collect(self) -> None:
        """Every head comes back once, with the number of bytes that were written."""
        numbers = {id(buffer): self.first_job + at for at, buffer in enumerate(self.exposed)}
        for used in self.driver.collect():
            number = numbers[id(used.buffer)]
            assert number not in self.returned
            self.returned.add(number)
            if used.length is None:
                # What is skipped is taken for used completely (§2.7.9, §2.8.8).
                assert self.device.done[number] == used.buffer.writable_bytes
            else:
                assert used.length == self.device.done[number], "used.len"
            self.slots += self.slots_of.pop(used.buffer.head)
        self.slots.sort()

    @rule()
    def run_and_collect(self) -> None:
        self.run()
        self.collect()

    @rule(off=st.booleans(), event=st.one_of(st.integers(-2, 4), st.integers(0, 70)))
    def wish(self, off: bool, event: int) -> None:
        """The driver says which used buffer notifications it wants."""
        self.driver.wish(off, event)

    # --- the device's moves

    @rule(
        picks=st.lists(st.integers(0, 63), max_size=6),
        then=st.booleans(),
        mode=modes,
        fraction=st.sampled_from((0, 50, 100)),
    )
    def finish_some(self, picks: list[int], then: bool, mode: Mode, fraction: int) -> None:
        """The device finishes buffers in any order, and goes about the next ones in another way."""
        with self.device_works():
            for pick in picks:
                if self.device.waiting:
                    self.device.complete(self.device.waiting[pick % len(self.device.waiting)])
        if then:
            self.run()
        self.device.mode = mode
        self.device.fraction = fraction

    # --- what happens around the ring

    @rule(number=st.integers(0, 3), kind=st.sampled_from((shared, bounced)))
    def move_memory(self, number: int, kind: Callable[[Block], object]) -> None:
        """A part of the guest's memory is taken away and given back somewhere else in the host."""
        block = self.plain.blocks[number]
        block.data = bytearray(block.data)
        self.memory.remove(next(region for region in self.memory.regions if region.base == block.base))
        self.memory.add(shared(block) if kind is shared else bounced(block))

    @rule()
    def switch_dirty_log(self) -> None:
        """Logging goes on and off; while it is on, `device_works` looks at it."""
        if self.log is None:
            self.log = DirtyLog(1 << 20)
            self.memory.observe(dirty_log=self.log)
        else:
            self.log = None
            self.memory.observe()

    @rule()
    def migrate(self) -> None:
        """The state goes as bytes to another device, which goes on where this one stopped."""
        with self.device_works():
            saved = msgspec.msgpack.encode(self.device.save())
        old, self.device = self.device, self.make_device()
        self.queue = self.device.queues[0]
        self.violations = 0
        self.device.go_on_from(old)
        with self.device_works():
            self.device.restore(msgspec.msgpack.decode(saved, type=DeviceState))
            assert not self.device.resuming

    @rule(data=st.data())
    def reset_queue(self, data: st.DataObject) -> None:
        """VIRTIO 1.4 §2.6.1: dropped, waited for, then as new."""
        if not self.features & RING_RESET:
            return
        queue = self.queue
        with self.device_works(ring=False):
            self.device.reset_queue(queue)
        self.finish_reset(data, lambda: queue.resetting)
        assert (queue.enabled, queue.desc, queue.size) == (False, 0, queue.max_size)
        self.size = data.draw(self.sizes.filter(lambda size: size <= self.size), "size")
        self.start_queue()
        self.device.idle()

    @rule(data=st.data())
    def reset_device(self, data: st.DataObject) -> None:
        """VIRTIO 1.4 §2.4: status says when it is over."""
        with self.device_works(ring=False):
            self.device.write_status(0)
        self.finish_reset(data, lambda: self.device.status != 0)
        assert not self.queue.enabled
        self.start_device()

    def finish_reset(self, data: st.DataObject, busy: Callable[[], bool]) -> None:
        """Finish what runs, in any order, poking the device meanwhile; it is busy just as long as something runs."""
        device = self.device
        assert all(job.mode is Mode.LATER for job in device.waiting)
        if busy():
            # What is made available now is lost.
            self.driver.expose()
        with self.device_works(ring=False):
            while device.waiting:
                assert busy()
                device.enable_queue(self.queue)
                device.kick(0)
                at = data.draw(st.integers(0, len(device.waiting) - 1), "finish")
                device.complete(device.waiting[at])
                device.idle()
            assert not busy()
            device.idle()

    # --- the hostile driver

    @rule(data=st.data(), number=st.integers(0, 99))
    def misbehave(self, data: st.DataObject, number: int) -> None:
        """One misdeed: one violation with its clause, NEEDS_RESET, and a ring left alone until the reset."""
        device, driver = self.device, self.driver
        self.expose(True)
        self.run()
        self.collect()
        edit = self.misdeeds[number % len(self.misdeeds)]
        if not edit.possible(driver):
            return
        edit.do(driver, TABLE, lambda low, high: data.draw(st.integers(low, high), edit.name))
        config = device.notifications.config
        with self.device_works(wanted=1):
            device.kick(0)
            device.idle()
        assert device.violations.recent[-1].clause == edit.clause
        assert device.status & dut.NEEDS_RESET
        assert device.notifications.config == config + 1, "§2.1.2"
        with self.device_works(ring=False):
            for job in device.waiting[:2]:
                device.complete(job)
            device.kick(0)
            device.idle()
        self.reset_device(data)
        assert device.status == dut.RUNNING


class PackedRingMachine(RingMachine):
    """The same life on a packed ring."""

    model = PackedDriverRing
    sizes = packed_sizes
    always = VERSION_1 | RING_PACKED
    misdeeds = PACKED_EDITS
