"""An IDE channel: one cable with two devices, their shared registers, and one interrupt line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from devmodels.ata.constants import READY, Reset, Transport
from devmodels.ata.taskfile import Place
from devmodels.ide_cdrom.busmaster import BusMaster
from devmodels.ide_cdrom.habits import habits_of
from devmodels.ide_cdrom.registers import CommandBlock, ControlBlock
from devmodels.ide_cdrom.unit import Unit
from devmodels.iocontext import IoContext, Turns

if TYPE_CHECKING:
    from devmodels.ata.device import AtaDevice
    from devmodels.conformance import ViolationLog
    from devmodels.memory import GuestMemory
    from devmodels.trace import Tracer

UNITS = 2
DIAGNOSTIC = 0x90
DEV = 0x10
"""The bit of the device register that selects device 1."""
OBSOLETE = 0xA0
"""Its bits that read as 1."""
NIEN, SRST, HOB = 0x02, 0x04, 0x80
"""Bits of the device control register."""


class Channel:
    """`name` is the bus's, as devices' options have it.  `interrupt(level)` is called when INTRQ has changed."""

    hot_pluggable = False

    def __init__(
        self,
        context: IoContext,
        memory: GuestMemory,
        *,
        name: str,
        violations: ViolationLog,
        interrupt: Callable[[bool], None],
    ) -> None:
        self.name = name
        self.violations = violations
        self.habits = habits_of(violations)
        self.turns = Turns(context)
        self.turns.source = name
        self.places = (Unit(self, 0), Unit(self, 1))
        self.bus_master = BusMaster(self, memory)
        self.command_block = CommandBlock(self)
        self.control_block = ControlBlock(self)
        self.control = 0
        self.level = False
        self._select = 0
        self._interrupt = interrupt

    # --- devices

    @property
    def max_units(self) -> int:
        """How many devices it can have."""
        return UNITS

    @property
    def units(self) -> dict[int, AtaDevice]:
        """Its devices by number."""
        return {each.number: each.device for each in self.places if each.device is not None}

    def attach(self, device: AtaDevice, unit: int) -> None:
        """Put a device on the cable, which nobody is told of."""
        device.unit = unit
        device.transport = Transport.PARALLEL
        self.places[unit].attach(device)

    def detach(self, unit: int) -> None:
        """Take a device off the cable, with what it does."""
        self.places[unit].detach()

    @property
    def selected(self) -> Unit:
        """The place that the DEV bit names."""
        return self.places[self._select]

    @property
    def in_reset(self) -> bool:
        """Whether SRST stands."""
        return bool(self.control & SRST)

    @property
    def disabled(self) -> bool:
        """Whether nIEN stands."""
        return bool(self.control & NIEN)

    # --- registers

    def read_data(self, size: int) -> int:
        """Two or four bytes, a word at a time."""
        unit = self.selected
        value = unit.read_word()
        return value if size == 2 else value | unit.read_word() << 16

    def write_data(self, size: int, value: int) -> None:
        """Two or four bytes, a word at a time."""
        unit = self.selected
        unit.write_word(value & 0xFFFF)
        if size == 4:
            unit.write_word(value >> 16)

    def read_register(self, place: Place) -> int:
        """What the selected device shows, or another one for it."""
        unit = self.selected
        if place is Place.COMMAND and self.habits.one_interrupt:
            self._take_back()
        if unit.device is None:
            return self._read_absent(place)
        if place is Place.COMMAND:
            unit.acknowledge()
            return unit.status
        return self._content(unit, place)

    def _read_absent(self, place: Place) -> int:
        """The selected device is not there.

        Device 0 answers for device 1: with 0 for the status, and where it takes packets for everything (ATA/ATAPI-6
        §9.16.1).  QEMU keeps registers of what is not there.  Nobody answers for device 0 (§9.16.2), but the device
        register is the cable's; on QEMU a device 0 that is not there is ready.
        """
        first = self.places[0]
        if first.device is None and self.habits.absent_registers and self.units:
            return READY if place is Place.COMMAND else self._content(first, place)
        if first.device is None:
            return self._content(first, place) if place is Place.DEVICE and self.units else 0
        if place is Place.COMMAND:
            return 0
        if self.habits.absent_registers:
            return self._content(self.selected, place)
        return 0 if first.device.packet_size else self._content(first, place)

    def _content(self, unit: Unit, place: Place) -> int:
        value = unit.taskfile.read(place, hob=bool(self.control & HOB))
        return value | OBSOLETE if place is Place.DEVICE else value

    def alternate_status(self) -> int:
        """The status, without any effect."""
        unit = self.selected
        return unit.status if unit.device is not None else self._read_absent(Place.COMMAND)

    def write_register(self, place: Place, value: int) -> None:
        """A register of the command block: all but the command is written to both devices, unless they are busy."""
        if place is Place.COMMAND:
            self._execute(value)
            return
        if self.selected.busy:
            return
        self.control &= ~HOB
        for unit in self.places:
            if not unit.busy:
                unit.taskfile.write(place, value)
        if place is Place.DEVICE:
            self._select = 1 if value & DEV else 0
            self.update_interrupt()

    def _take_back(self) -> None:
        """Nobody asks for an interrupt any more."""
        for unit in self.places:
            unit.acknowledge()

    def _execute(self, opcode: int) -> None:
        self.control &= ~HOB
        if self.habits.one_interrupt:
            self._take_back()
        if self.in_reset:
            return
        if opcode == DIAGNOSTIC and not self.selected.busy and self._is_heard:
            self._diagnose()
        elif self.selected.device is not None:
            self.selected.execute(opcode)

    @property
    def _is_heard(self) -> bool:
        """Whether a diagnostic is; QEMU's are the selected device's."""
        return self.selected.device is not None if self.habits.lone_diagnostics else bool(self.units)

    def _diagnose(self) -> None:
        """EXECUTE DEVICE DIAGNOSTIC is for both; device 0 tells of both, and alone interrupts."""
        if self.habits.lone_diagnostics:
            self.selected.diagnose()
            return
        self._select = 0
        for unit in self.places:
            unit.taskfile.device = 0
            unit.reset(Reset.DEVICE, None if unit.number else unit.ask_for_attention)

    def write_control(self, value: int) -> None:
        """The device control register: HOB, SRST, nIEN."""
        old, self.control = self.control, value
        if self.habits.short_reset:
            # On QEMU a reset does not wait until the bit is cleared.
            self.control, old = value & ~SRST, 0
        if value & SRST and not old & SRST:
            self._reset(Reset.SOFTWARE)
        elif old & SRST and not value & SRST:
            for unit in self.places:
                unit.show_signature()
        self.update_interrupt()

    def _reset(self, kind: Reset) -> None:
        if kind is Reset.HARDWARE or not self.habits.keeps_selection:
            self._select = 0  # QEMU's SRST leaves it.
        told = self._told_of_reset() if kind is Reset.SOFTWARE and self.habits.resets_interrupt else None
        for unit in self.places:
            unit.taskfile.device = 0
            unit.reset(kind, unit.ask_for_attention if unit is told else None)

    def _told_of_reset(self) -> Unit | None:
        """The device that interrupts after SRST: a drive alone does so as well, for the device that is not there."""
        if all(each.device is not None and each.device.packet_size for each in self.places):
            return None
        return next((each for each in self.places if each.device is not None), None)

    # --- from outside

    def hardware_reset(self) -> None:
        """The cable's RESET- line was asserted."""
        self.control = 0
        self.bus_master.reset()
        self._reset(Reset.HARDWARE)
        self.update_interrupt()

    def update_interrupt(self) -> None:
        """Drive INTRQ as the selected device and nIEN have it, or as both do."""
        if self.habits.one_interrupt:
            level = self.places[0].interrupt or self.places[1].interrupt
        else:
            level = self.selected.interrupt and not self.control & NIEN
        if level is not self.level:
            self.level = level
            if level:
                self.bus_master.registers.interrupt = 1
            self._interrupt(level)

    def restored(self, control: int, select: int, *, level: bool) -> None:
        """A snapshot is there: what the channel itself knows."""
        self.control, self._select = control, select
        self.level = level
        self._interrupt(level)

    def when_settled(self, then: Callable[[], None]) -> None:
        """Call `then` when nothing runs any more."""
        devices = list(self.units.values())
        left = len(devices) + 1

        def one() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for device in devices:
            device.when_idle(one)
        one()

    def observe(self, trace: Tracer | None) -> None:
        """Give `trace` everything that goes on on the cable; None: no more."""
        self.turns.trace = trace
        for device in self.units.values():
            device.observe(trace)
