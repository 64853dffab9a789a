"""Whatever becomes of queues and of the device: a driver that believes events, and looks for itself where it has missed
some, ends with the units that there are (VIRTIO 1.4 §5.6.6.3)."""

from __future__ import annotations

import struct

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from devmodels.iocontext import Event
from tests.unit.virtio.scsirig import (
    CONTROL,
    EVENT,
    LOGICAL_UNIT_RESET,
    REQUEST,
    S_ABORTED,
    S_OK,
    S_RESET,
    Sent,
    bring_up,
    lun_of,
    read_10,
    scsi,
    set_up,
)

MISSED = 1 << 31
RESCAN, REMOVED = 1, 2
SUSPEND, DRIVER_OK = 0x10, 0x04
TARGETS = range(1, 4)


class Driver(RuleBasedStateMachine):
    """A driver, and the host that plugs and unplugs behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = scsi()
        self.device = self.rig.device
        self.seen = 0
        self.there = {0}
        self.known = {0}
        self.functions: list[Sent] = []
        self.rig.ready()
        self.rig.offer_events(3)

    def listen(self) -> None:
        """Look at what has come back."""
        self.rig.collect()
        for sent in self.rig.order[self.seen :]:
            if sent.queue == EVENT:
                self._hear(sent)
            elif sent.queue == REQUEST:
                assert self.rig.answer(sent).response in (S_OK, S_ABORTED, S_RESET)
            else:
                assert self.rig.content(sent.writable)[:1] == bytes((S_OK,))
                self.functions.remove(sent)
        self.seen = len(self.rig.order)

    def _hear(self, sent: Sent) -> None:
        told = self.rig.event(sent)
        assert told is not None
        event, lun, reason = told
        if event & MISSED:
            self.known = set(self.there)
        elif event and reason == RESCAN:
            self.known.add(lun[1])
        elif event and reason == REMOVED:
            self.known.discard(lun[1])

    @property
    def awake(self) -> bool:
        return not (self.device.suspended or self.device.suspending)

    def _set_up(self, index: int) -> None:
        queue = self.device.queues[index]
        assert not queue.resetting
        self.rig.sent = [sent for sent in self.rig.sent if sent.queue != index]
        self.rig.drivers[index] = set_up(self.rig, queue, self.device.driver_features)

    # --- the host

    @rule(number=st.sampled_from(TARGETS))
    def plug_or_unplug(self, number: int) -> None:
        if number in self.there:
            self.there.remove(number)
            self.device.unplug(number, 0)
        else:
            self.there.add(number)
            self.rig.plug(number, 0)

    @rule()
    def disk_holds_or_goes_on(self) -> None:
        gate = self.rig.disk.gate
        self.rig.disk.gate = Event(self.device.context) if gate is None else None
        if gate is not None:
            gate.set()

    @rule()
    def time(self) -> None:
        self.rig.settle()
        self.listen()

    # --- the driver

    @precondition(lambda self: self.awake)
    @rule(count=st.integers(1, 3))
    def offer(self, count: int) -> None:
        if sum(sent.queue == EVENT for sent in self.rig.sent) + count <= 8:
            self.rig.offer_events(count)
            self.listen()

    @precondition(lambda self: self.awake)
    @rule()
    def read(self) -> None:
        if sum(sent.queue == REQUEST for sent in self.rig.sent) < 3:
            self.rig.start(read_10(0, 1), room=512)
            self.rig.go()
            self.listen()

    @precondition(lambda self: self.awake)
    @rule()
    def reset_unit(self) -> None:
        if len(self.functions) < 3:
            request = struct.pack("<II", 0, LOGICAL_UNIT_RESET) + lun_of() + bytes(8)
            self.functions.append(self.rig.place(CONTROL, self.rig.readable(request), self.rig.writable(1)))
            self.rig.go(CONTROL)
            self.listen()

    @precondition(lambda self: self.awake)
    @rule(index=st.sampled_from((CONTROL, EVENT)))
    def reset_queue(self, index: int) -> None:
        self.listen()
        self.device.reset_queue(self.device.queues[index])
        if index == CONTROL:
            self.functions.clear()
        self._set_up(index)
        if index == EVENT:
            self.offer(2)

    @precondition(lambda self: self.awake)
    @rule()
    def suspend(self) -> None:
        self.device.write_status(int(self.device.status) | SUSPEND)

    @precondition(lambda self: self.device.suspended)
    @rule()
    def resume(self) -> None:
        self.device.write_status(int(self.device.status) | DRIVER_OK)
        self.rig.settle()
        self.listen()

    @rule()
    def reset_device(self) -> None:
        if self.rig.disk.gate is not None:
            self.disk_holds_or_goes_on()
        self.rig.settle()
        self.listen()
        bring_up(self.rig, self.device.device_features)
        self.functions.clear()
        self.known = set(self.there)

    @invariant()
    def nothing_was_wrong(self) -> None:
        assert self.rig.clauses == []

    def teardown(self) -> None:
        if self.rig.disk.gate is not None:
            self.disk_holds_or_goes_on()
        self.rig.settle()
        self.listen()
        if self.device.suspended:
            self.resume()
        assert self.awake
        for _ in range(3):
            self.offer(2)
        self.rig.settle()
        self.listen()
        assert self.known == self.there
        assert not self.functions


TestDriver = Driver.TestCase
TestDriver.settings = settings(stateful_step_count=15)
