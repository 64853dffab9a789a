"""A port: its registers, the engine of its command list, and what becomes of errors.

A write to PxCI does nothing but ask for a turn of the context; commands are fetched and given to the device then, so
that their driver sees BSY (AHCI 1.3.1 §5.3).  A command that ends at once ends in that turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from devmodels.ahci.command import Header, PortCommand
from devmodels.ahci.delivery import Delivery
from devmodels.ahci.engine import TRANSITIONS, Event, State
from devmodels.ahci.fetch import Fetched, fetch
from devmodels.ahci.fis import COMMAND_BIT, SRST, FisType
from devmodels.ahci.layout import CLEAR_BUSY
from devmodels.ahci.link import Link
from devmodels.ahci.pio import PACKET
from devmodels.ahci.registers import (
    DIAG_F,
    DIAG_H,
    DIAG_N,
    DIAG_X,
    HBA_RESET,
    IFS,
    PCS,
    PRCS,
    SERR_P,
    UFS,
    LoosePortRegisters,
    PortRegisters,
)
from devmodels.ata import AtaDevice, Reset, Status
from devmodels.ata.constants import Transport
from devmodels.conformance import written
from devmodels.iocontext import Turns

if TYPE_CHECKING:
    from devmodels.ahci.hba import Hba

BUSY = Status.BSY | Status.DRQ


class Port:
    """Port `number` of `hba`; `device` is what is attached to it."""

    hot_pluggable = True

    def __init__(self, hba: Hba, number: int) -> None:
        self.hba = hba
        self.number = number
        self.name = f"{hba.name} port {number}"
        self.device: AtaDevice | None = None
        self._left: list[AtaDevice] = []
        """Devices that are gone, and of which something runs still."""
        self.registers = (LoosePortRegisters if hba.habits.loose_registers else PortRegisters)(self)
        self.turns = Turns(hba.context)
        self.state = State.OFF
        self._scheduled = False
        self.issued = 0
        """Slots whose commands the device has been given."""
        self.next_slot = 0
        """The slot that is looked at first."""
        self.hangs = False
        """Whether the device, QEMU's, is busy until it is reset."""
        self.again = False
        """Whether what has failed is to be done again, as something else has ended well (`Habits.repeats`)."""
        self.link = Link(self)
        self.delivery = Delivery(self)
        self.held_in_reset = False
        """Whether the device is held in a software reset."""
        self.control_slot: int | None = None
        """The slot of a control FIS without the C bit: its PxCI bit goes when the device has answered."""
        self._fetched: Fetched | None = None
        """What was fetched in an access, and is for the device in a turn."""
        self.asks = False
        """Whether it asked for an interrupt when that was looked at last."""
        self._list = self.received = 0
        """Where the command list and the received FIS area are."""

    # --- what is attached

    @property
    def max_units(self) -> int:
        """A port has one device."""
        return 1

    @property
    def units(self) -> dict[int, AtaDevice]:
        """Its device, as number 0."""
        return {} if self.device is None else {0: self.device}

    def attach(self, device: AtaDevice, _unit: int = 0) -> None:
        """A device is there; a driver that is at work is told."""
        self.device = device
        device.transport = Transport.SERIAL
        self.link.up(Reset.POWER_ON)

    def detach(self, _unit: int = 0) -> None:
        """It is gone, with all that ran."""
        device, self.device = self.device, None
        if device is not None:
            device.leave()
            if device.in_flight:
                self._left.append(device)
                device.when_idle(partial(self._left.remove, device))
        self.link.down()

    @property
    def devices(self) -> tuple[AtaDevice, ...]:
        """All whose commands may run: the one that is attached, and those that are gone."""
        return tuple(self._left) if self.device is None else (self.device, *self._left)

    def when_idle(self, then: Callable[[], None]) -> None:
        """Call `then` when no command runs any more, perhaps at once."""
        for device in self.devices:
            if device.in_flight:
                device.when_idle(partial(self.when_idle, then))
                return
        then()

    def device_was_reset(self) -> None:
        """The device is ready again: a control FIS that waits for it has been sent, and what waits may follow."""
        if self.control_slot is not None:
            slot, self.control_slot = self.control_slot, None
            self.clear_issue(slot)
        if self.state is State.RUNNING:
            self.schedule()

    # --- registers

    def address_written(self) -> None:
        """While it runs, nobody may move what the HBA works on (§10.3.1)."""
        self.moved_structures()
        if self.registers.cr or self.registers.fr:
            self.violation("AHCI 1.3.1 §10.3", "an address was changed while the port runs", self._places())

    def moved_structures(self) -> None:
        """PxCLB and PxFB may have other values."""
        registers = self.registers
        self._list = registers.clbu << 32 | registers.clb
        self.received = registers.fbu << 32 | registers.fb

    def status_written(self) -> None:
        """What follows PxSERR does not go away by itself."""
        self._follow_errors()
        self.asks = False
        if self.hba.separate:
            self.hba.port_changed(self)

    def enable_written(self) -> None:
        """What is pending may interrupt now."""
        self.hba.port_changed(self)

    def errors_written(self) -> None:
        """PxIS follows."""
        self._follow_errors()

    def errors(self, bits: int) -> None:
        """Set bits of PxSERR."""
        self.registers.serr |= bits
        self._follow_errors()
        self.hba.port_changed(self)

    def _follow_errors(self) -> None:
        serr = self.registers.serr
        if not serr and not self.registers.status & (UFS | PCS | PRCS):
            return
        follow = (
            (UFS if serr & DIAG_F else 0) | (PCS if serr & DIAG_X else 0) | (PRCS if serr & DIAG_N else 0)
        )
        self.registers.status = self.registers.status & ~(UFS | PCS | PRCS) | follow

    def command_written(self, old: int, _new: int) -> None:
        """PxCMD: start and stop, CLO, the link's power state (§3.3.7, §10.3)."""
        registers = self.registers
        was = old & 1
        if self.hba.registers.ghc_hr and (registers.st or registers.fre):
            was_written = self._command()
            registers.st = registers.fre = 0
            self.violation("AHCI 1.3.1 §10.4.3", "PxCMD.ST or PxCMD.FRE was set while GHC.HR is", was_written)
        if registers.clo and not self.hba.habits.deaf_override:
            self._override()
        if registers.fre and not registers.fr:
            registers.fr = 1
            self.link.send_signature()
        if registers.st and not was:
            self._start()
        elif was and not registers.st:
            self._take_back()
            self.event(Event.STOP)
        if not registers.fre and registers.fr:
            if registers.cr or registers.st:
                self.violation(
                    "AHCI 1.3.1 §10.3.2", "PxCMD.FRE was cleared while commands run", self._command()
                )
            self._settle_reception()
        if registers.icc:
            self.link.set_power(registers.icc)

    def _override(self) -> None:
        """PxCMD.CLO: BSY and DRQ are forgotten, so that software can reset a device that hangs (§3.3.7)."""
        registers = self.registers
        if registers.st:
            self.violation("AHCI 1.3.1 §3.3.7", "PxCMD.CLO was set while PxCMD.ST is", self._command())
        registers.clo = 0
        registers.tfd &= ~BUSY

    def _start(self) -> None:
        registers = self.registers
        if self.state is not State.OFF or not registers.fre:
            self.violation(
                "AHCI 1.3.1 §10.3.1",
                "PxCMD.ST was set before PxCMD.CR was 0 and PxCMD.FRE 1",
                self._command(),
            )
        if registers.tfd & BUSY:
            if self.device is None:
                why = "where no device is"
            elif self.link.signature_due and not registers.fr:
                why = "before the first FIS of its device was received: PxCMD.FRE is 0"
            else:
                why = "while the device is busy"
            self.violation("AHCI 1.3.1 §10.3.1", f"PxCMD.ST was set {why}", self._command())
        self.event(Event.START)

    def control_written(self, old: int, new: int) -> None:
        """PxSCTL.DET: 1 resets the link as long as it stands, 4 switches it off (§3.3.11, §10.4.2)."""
        before, now = old & 0xF, self.registers.sctl_det
        if before == now:
            return
        if self.registers.st:
            self.violation(
                "AHCI 1.3.1 §3.3.11", "PxSCTL.DET was changed while PxCMD.ST is 1", written(new, 4)
            )
        self.link.control_written(before)

    def active_written(self, old: int, new: int) -> None:
        """PxSACT takes bits only while PxCMD.ST is 1 (§3.3.13)."""
        if not self.registers.st and new != old:
            if not self.hba.habits.issues_while_stopped:
                self.registers.sact = old
            self.violation("AHCI 1.3.1 §3.3.13", "PxSACT was written while PxCMD.ST is 0", written(new, 4))

    def issue_written(self, old: int, new: int) -> None:
        """PxCI takes bits only while PxCMD.ST is 1 (§3.3.14)."""
        if not self.registers.st:
            if new != old:
                if not self.hba.habits.issues_while_stopped:
                    self.registers.ci = old
                self.violation("AHCI 1.3.1 §3.3.14", "PxCI was written while PxCMD.ST is 0", written(new, 4))
        elif new >> self.hba.slots:
            self.registers.ci = new & (1 << self.hba.slots) - 1
            self.violation(
                "AHCI 1.3.1 §3.3.14", f"PxCI names slots beyond {self.hba.slots - 1}", written(new, 4)
            )
            self.schedule()
        else:
            if self.hba.habits.repeats and self.control_slot is None and not self.occupied:
                self.issued = 0
            self.schedule()

    # --- the engine

    def event(self, event: Event) -> None:
        """Go on to the engine's next state, if this leads to another one."""
        before = self.state
        self.state = state = TRANSITIONS.get((before, event), before)
        if state is before:
            return
        registers = self.registers
        registers.cr = int(state is not State.OFF)
        if state is State.STOPPING:
            self._drop_commands()
        elif state is State.RUNNING:
            self.schedule()
        elif state is State.OFF:
            self._settle_reception()
            if registers.st:
                self.event(Event.START)

    def _drop_commands(self) -> None:
        if self.device is not None:
            self.device.drop()
        self.when_idle(partial(self.event, Event.IDLE))

    @property
    def occupied(self) -> bool:
        """Whether the device has to end something before it can take a command; PxTFD need not tell."""
        if not self.hba.habits.hides_busy:
            return bool(self.registers.tfd & BUSY)
        if self.device is None:
            return True
        return (
            self.hangs or bool(self.device.resets) or any(not each.accepted for each in self.device.in_flight)
        )

    def forget_issued(self, *, heard: bool = False) -> None:
        """Nothing is issued any more, by a reset; what nobody has `heard` of is to be told, where that is its habit."""
        registers = self.registers
        had = 0 if self.device is None else self.device.tags
        # What has not been fetched yet is as good as that.
        dropped = registers.sact & (had | (registers.ci if self.state is State.RUNNING else 0))
        self._take_back()
        self.hangs = False
        if self.hba.habits.tells_dropped and not heard:
            self.delivery.untold |= dropped

    def _take_back(self) -> None:
        """Nothing is issued any more: what was while the engine came to rest neither (§3.3.13, §3.3.14)."""
        registers = self.registers
        registers.ci = registers.sact = registers.ccs = 0
        self.issued = self.next_slot = self.delivery.done = 0
        self.control_slot = self._fetched = None
        self.again = False

    def _settle_reception(self) -> None:
        registers = self.registers
        runs = registers.cr and not self.hba.habits.loose_registers
        registers.fr = int(registers.fre or runs)

    def hba_reset(self, domain: str) -> None:
        """The registers of a reset domain, and the link (§10.4.3)."""
        self.forget_issued()
        self.state = State.OFF
        if self.device is not None:
            self.device.drop()
        self.held_in_reset = self.link.signature_due = False
        self.registers.reset(domain)
        self.asks = False
        self.moved_structures()
        if self.device is None:
            self.link.announce_none()
        else:
            self.link.up(Reset.HARDWARE if domain == HBA_RESET else Reset.POWER_ON)

    def schedule(self) -> None:
        """Look for commands, in a turn of the context if not at once."""
        if self.hba.habits.at_once:
            if not self.delivery.working and not self._scheduled:
                self._work(in_turn=False)
        else:
            self._work_soon()

    def _work_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.turns.call_soon(self._work)

    def _work(self, *, in_turn: bool = True) -> None:
        """Give the device the commands that it can take, in the order of their slots (§5.3.2).

        Out of a turn of the context what moves data of the medium is left for one.
        """
        self._scheduled = False
        if not self.hba.may_master:
            return
        registers, delivery = self.registers, self.delivery
        delivery.working = True
        slots = self.hba.slots
        while self.state is State.RUNNING and not self.occupied:
            fetched, self._fetched = self._fetched, None
            if fetched is None:
                waiting = registers.ci & ~self.issued
                if not waiting and self.again:
                    self.again, self.issued = False, 0
                    continue
                if not waiting:
                    break
                first = 0 if self.hba.habits.lowest_first else self.next_slot
                ahead = waiting >> first << first or waiting
                fetched = fetch(self, self._list, (ahead & -ahead).bit_length() - 1)
                if fetched is None:
                    continue
            if not in_turn and self._waits(fetched):
                self._fetched = fetched
                self._work_soon()
                break
            self.next_slot = (fetched.slot + 1) % slots
            self._send(fetched)
        delivery.end_turn()

    def bus_master_changed(self) -> None:
        """The function may master the bus again: what waited goes on."""
        self.link.send_signature()
        self.schedule()

    def _waits(self, fetched: Fetched) -> bool:
        """Whether the device needs its medium for the command."""
        device = self.device
        return (
            bool(fetched.flags & COMMAND_BIT) and device is not None and device.needs_medium(fetched.taskfile)
        )

    def _send(self, fetched: Fetched) -> None:
        """Send the device its FIS."""
        registers = self.registers
        slot, header, data, packet, kind, fis_flags, taskfile, control = fetched
        if self.hba.habits.deaf_fises and (kind != FisType.REGISTER_H2D or fis_flags & ~COMMAND_BIT & 0xFF):
            self.issued |= 1 << slot
            return
        if (
            kind == FisType.REGISTER_H2D
            and fis_flags & COMMAND_BIT
            and self.delivery.read_at_once(slot, header, taskfile)
        ):
            return
        self.issued |= 1 << slot
        if kind != FisType.REGISTER_H2D or self.device is None:
            self.violation(
                "AHCI 1.3.1 §4.2.3.1", f"slot {slot}: a FIS of type {kind:#04x} for the device", data
            )
            self.errors(DIAG_H | SERR_P)
            self.fatal(IFS)
        elif not fis_flags & COMMAND_BIT:
            self._control(slot, header, control)
        elif self.held_in_reset:
            # A device that is held in reset hears no command.
            registers.tfd |= Status.BSY
        else:
            if not self.hba.habits.hides_busy:
                registers.tfd |= Status.BSY
            if self.hba.habits.adds_count:
                self.delivery.clear_count(header)
            if taskfile.command == PACKET and self.device.packet_size:
                if not self.delivery.ask_for_packet(taskfile):
                    return
                packet = self.delivery.packet(slot, taskfile, packet)
            self.device.issue(PortCommand(self.delivery, taskfile, slot, header, packet))

    def _control(self, slot: int, header: Header, control: int) -> None:
        """A FIS with the device control register: SRST set, and then cleared, is a software reset (§10.4.1)."""
        registers = self.registers
        clears = bool(header.flags & CLEAR_BUSY)
        self.control_slot = None if clears else slot
        if control & SRST or self.held_in_reset:
            self.held_in_reset = bool(control & SRST)
            if not self.hba.habits.hides_busy:
                registers.tfd |= Status.BSY
            self.link.reset_device(Reset.SOFTWARE)
        if clears:
            registers.tfd &= ~BUSY
            self.clear_issue(slot)

    def clear_issue(self, slot: int) -> None:
        """The command of `slot` is with the device, or over."""
        self.registers.ci &= ~(1 << slot)
        self.issued &= ~(1 << slot)

    # --- snapshots

    def restored(self, *, resetting: bool) -> None:
        """A snapshot is there; its device's reset, if any, is over, and ends of earlier ones tell nobody."""
        self.delivery.done = 0
        self.link.restored(resetting=resetting)
        self._work_soon()

    # --- what it tells

    def tell(self, bits: int) -> None:
        """Set bits of PxIS."""
        self.registers.status |= bits
        if bits or not self.hba.habits.tells_again:
            self.hba.port_changed(self)

    def fatal(self, bits: int) -> None:
        """An error after which nothing goes on until software has cleared PxCMD.ST (§6.2.2)."""
        self.event(Event.ERROR)
        self.tell(bits)

    def violation(self, clause: str, summary: str, data: bytes = b"") -> None:
        """Report what the guest has done wrong."""
        self.hba.violations.report(clause, summary, self.name, data)

    def _command(self) -> bytes:
        return written(self.registers.cmd, 4)

    def _places(self) -> bytes:
        return written(self._list, 8) + written(self.received, 8)
