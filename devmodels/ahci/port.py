"""A port: the engine of its command list, the FISes it gets from its device, and what becomes of errors.

A write to PxCI does nothing but ask for a turn of the context; commands are fetched and given to the device then, so
that their driver sees BSY (AHCI 1.3.1 §5.3).  A command that ends at once ends in that turn.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from devmodels.ahci.command import HEADER, HEADER_SIZE, Header, PortCommand
from devmodels.ahci.engine import TRANSITIONS, Event, State
from devmodels.ahci.fis import (
    COMMAND_BIT,
    H2D_DWORDS,
    H2D_SIZE,
    SDB_STATUS,
    SRST,
    FisType,
    dma_setup,
    parse_register,
    register_d2h,
    set_device_bits,
)
from devmodels.ahci.layout import (
    ACMD_OFFSET,
    ACMD_SIZE,
    ATAPI,
    CFL,
    CLEAR_BUSY,
    DSFIS,
    MAX_CFL,
    MIN_CFL,
    PRDBC_OFFSET,
    PRDT_OFFSET,
    PSFIS,
    RFIS,
    SDBFIS,
)
from devmodels.ahci.link import DIAG_N, DIAG_X, IPM_ACTIVE, Link
from devmodels.ahci.pio import PACKET, by_pio, data_setup, is_packet, packet_setup
from devmodels.ahci.prdt import walk
from devmodels.ahci.registers import HBA_RESET, PortRegisters
from devmodels.ata import AtaCommand, AtaDevice, AtaError, Protocol, Reset, Status, TaskFile
from devmodels.ata.constants import READY, Transport
from devmodels.iocontext import Turns
from devmodels.memory import Direction, GuestMemoryError

if TYPE_CHECKING:
    from devmodels.ahci.hba import Hba

DHRS, PSS, DSS, SDBS, UFS, DPS, PCS = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6
PRCS, OFS, IFS, HBFS, TFES = 1 << 22, 1 << 24, 1 << 27, 1 << 29, 1 << 30
"""Bits of PxIS (AHCI 1.3.1 §3.3.5)."""

SERR_P, SERR_E = 1 << 10, 1 << 11
DIAG_H, DIAG_F = 1 << 22, 1 << 25
"""Bits of PxSERR (AHCI 1.3.1 §3.3.12)."""

PRIO = 0xC000
"""Count, of NCQ reads and writes: their priority."""
BUSY = Status.BSY | Status.DRQ


class Port:
    """Port `number` of `hba`; `device` is what is attached to it."""

    hot_pluggable = True

    def __init__(self, hba: Hba, number: int) -> None:
        self.hba = hba
        self.number = number
        self.name = f"{hba.name} port {number}"
        self.device: AtaDevice | None = None
        self.registers = PortRegisters(self)
        self.turns = Turns(hba.context)
        self.state = State.OFF
        self._scheduled = False
        self.issued = 0
        """Slots whose commands the device has been given."""
        self.next_slot = 0
        """The slot that is looked at first."""
        self.link = Link(self)
        self.held_in_reset = False
        """Whether the device is held in a software reset."""
        self.control_slot: int | None = None
        """The slot of a control FIS without the C bit: its PxCI bit goes when the device has answered."""
        self._taken: list[PortCommand] = []
        """Queued commands that the device has taken in this turn, and does at its end."""
        self._working = False
        self.asks = False
        """Whether it asked for an interrupt when that was looked at last."""
        self._list = self._received = 0
        """Where the command list and the received FIS area are."""
        self._done = 0
        """Tags of NCQ commands that are over, of which no FIS has been received yet."""

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
        self.link.down()

    def device_was_reset(self) -> None:
        """The device is ready again: a control FIS that waits for it has been sent, and what waits may follow."""
        if self.control_slot is not None:
            slot, self.control_slot = self.control_slot, None
            self._clear_issue(slot)
        if self.state is State.RUNNING:
            self._schedule()

    # --- registers

    def address_written(self) -> None:
        """While it runs, nobody may move what the HBA works on (§10.3.1)."""
        self.moved_structures()
        if self.registers.cr or self.registers.fr:
            self._violation("AHCI 1.3.1 §10.3", "an address was changed while the port runs")

    def moved_structures(self) -> None:
        """PxCLB and PxFB may have other values."""
        registers = self.registers
        self._list = registers.clbu << 32 | registers.clb
        self._received = registers.fbu << 32 | registers.fb

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
        follow = (
            (UFS if serr & DIAG_F else 0) | (PCS if serr & DIAG_X else 0) | (PRCS if serr & DIAG_N else 0)
        )
        self.registers.status = self.registers.status & ~(UFS | PCS | PRCS) | follow

    def command_written(self, old: int, _new: int) -> None:
        """PxCMD: start and stop, CLO, the link's power state (§3.3.7, §10.3)."""
        registers = self.registers
        was = old & 1
        if self.hba.registers.ghc_hr and (registers.st or registers.fre):
            registers.st = registers.fre = 0
            self._violation("AHCI 1.3.1 §10.4.3", "PxCMD.ST or PxCMD.FRE was set while GHC.HR is")
        if registers.clo:
            self._override()
        if registers.fre and not registers.fr:
            registers.fr = 1
            self.link.send_signature()
        if registers.st and not was:
            self._start()
        elif was and not registers.st:
            self.event(Event.STOP)
        if not registers.fre and registers.fr:
            if registers.cr or registers.st:
                self._violation("AHCI 1.3.1 §10.3.2", "PxCMD.FRE was cleared while commands run")
            self._settle_reception()
        if registers.icc:
            self.link.set_power(registers.icc)

    def _override(self) -> None:
        """PxCMD.CLO: BSY and DRQ are forgotten, so that software can reset a device that hangs (§3.3.7)."""
        registers = self.registers
        registers.clo = 0
        if registers.st:
            self._violation("AHCI 1.3.1 §3.3.7", "PxCMD.CLO was set while PxCMD.ST is")
        registers.tfd &= ~BUSY

    def _start(self) -> None:
        registers = self.registers
        if self.state is not State.OFF or not registers.fre:
            self._violation("AHCI 1.3.1 §10.3.1", "PxCMD.ST was set before PxCMD.CR was 0 and PxCMD.FRE 1")
        if registers.tfd & BUSY:
            why = "while the device is busy" if self.device is not None else "where no device is"
            self._violation("AHCI 1.3.1 §10.3.1", f"PxCMD.ST was set {why}")
        self.event(Event.START)

    def control_written(self, old: int, _new: int) -> None:
        """PxSCTL.DET: 1 resets the link as long as it stands, 4 switches it off (§3.3.11, §10.4.2)."""
        before, now = old & 0xF, self.registers.sctl_det
        if before == now:
            return
        if self.registers.st:
            self._violation("AHCI 1.3.1 §3.3.11", "PxSCTL.DET was changed while PxCMD.ST is 1")
        self.link.control_written(before)

    def active_written(self, old: int, new: int) -> None:
        """PxSACT takes bits only while PxCMD.ST is 1 (§3.3.13)."""
        if not self.registers.st and new != old:
            self.registers.sact = old
            self._violation("AHCI 1.3.1 §3.3.13", "PxSACT was written while PxCMD.ST is 0")

    def issue_written(self, old: int, new: int) -> None:
        """PxCI takes bits only while PxCMD.ST is 1 (§3.3.14)."""
        if not self.registers.st:
            if new != old:
                self.registers.ci = old
                self._violation("AHCI 1.3.1 §3.3.14", "PxCI was written while PxCMD.ST is 0")
        elif new >> self.hba.slots:
            self.registers.ci = new & (1 << self.hba.slots) - 1
            self._violation("AHCI 1.3.1 §3.3.14", f"PxCI names slots beyond {self.hba.slots - 1}")
            self._schedule()
        else:
            self._schedule()

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
            registers.ci = registers.sact = registers.ccs = 0
            self.issued = self.next_slot = self._done = 0
            self.control_slot = None
            self._drop_commands()
        elif state is State.RUNNING:
            self._schedule()
        elif state is State.OFF:
            self._settle_reception()
            if registers.st:
                self.event(Event.START)

    def _drop_commands(self) -> None:
        if self.device is None:
            self.event(Event.IDLE)
        else:
            self.device.drop()
            self.device.when_idle(partial(self.event, Event.IDLE))

    def _settle_reception(self) -> None:
        registers = self.registers
        registers.fr = int(registers.fre or registers.cr)

    def hba_reset(self, domain: str) -> None:
        """The registers of a reset domain, and the link (§10.4.3)."""
        if self.device is not None:
            self.device.drop()
        self.state = State.OFF
        self.issued = self.next_slot = self._done = 0
        self.control_slot = None
        self.held_in_reset = self.link.signature_due = False
        self.registers.reset(domain)
        self.asks = False
        self.moved_structures()
        self.link.up(Reset.HARDWARE if domain == HBA_RESET else Reset.POWER_ON)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.turns.call_soon(self._work)

    def _work(self) -> None:
        """Give the device the commands that it can take, in the order of their slots (§5.3.2)."""
        self._scheduled = False
        if not self.hba.may_master:
            return
        registers = self.registers
        self._working = True
        slots = self.hba.slots
        while self.state is State.RUNNING and not registers.tfd & BUSY:
            waiting = registers.ci & ~self.issued
            if not waiting:
                break
            ahead = waiting >> self.next_slot << self.next_slot or waiting
            slot = (ahead & -ahead).bit_length() - 1
            self.next_slot = (slot + 1) % slots
            self._fetch(slot)
        if self._taken:
            self._move_taken()
        self._working = False
        if self._done:
            self._tell_done()

    def _move_taken(self) -> None:
        """What the queue has taken in this turn is done, high priorities first (ACS-3 §7.23, PRIO)."""
        taken, self._taken = self._taken, []
        if any(each.taskfile.count & PRIO for each in taken):
            taken.sort(key=lambda each: each.taskfile.count & PRIO, reverse=True)
        for command in taken:
            if not command.dropped:
                self._move(command)

    def _move(self, command: PortCommand) -> None:
        device, dma = self.device, command.dma
        assert device is not None
        if dma is not None and command.length:
            device.move(command, dma.views, command.length)
        else:
            device.moved(command, 0)

    def bus_master_changed(self) -> None:
        """The function may master the bus again: what waited goes on."""
        self.link.send_signature()
        self._schedule()

    def _fetch(self, slot: int) -> None:
        """Read a command header and its FIS, and send that."""
        registers, memory = self.registers, self.hba.memory
        if registers.ssts_ipm > IPM_ACTIVE:
            # There is something to send: the link wakes up (§8.3.1).
            registers.ssts_ipm = IPM_ACTIVE
        registers.ccs = slot
        address = self._list + HEADER_SIZE * slot
        try:
            flags, prdtl, _, ctba, ctbau = memory.unpack(address, HEADER)
            header = Header(address, flags, prdtl, ctba, ctbau)
            length = flags & CFL
            if not MIN_CFL <= length <= MAX_CFL:
                self._violation("AHCI 1.3.1 §4.2.2", f"slot {slot}: a command FIS of {length} dwords")
                self._fatal(HBFS)
                return
            data = memory.read(header.table, 4 * length)
            if length < H2D_DWORDS:
                data = data.ljust(H2D_SIZE, b"\0")
            packet = memory.read(header.table + ACMD_OFFSET, ACMD_SIZE) if flags & ATAPI else None
        except GuestMemoryError as error:
            self._violation("AHCI 1.3.1 §6.1.1", f"slot {slot}: {error}")
            self._fatal(HBFS)
            return
        kind, fis_flags, taskfile, control = parse_register(data)
        if (
            kind == FisType.REGISTER_H2D
            and fis_flags & COMMAND_BIT
            and self._read_at_once(slot, header, taskfile)
        ):
            return
        self.issued |= 1 << slot
        if kind != FisType.REGISTER_H2D or self.device is None:
            self._violation("AHCI 1.3.1 §4.2.3.1", f"slot {slot}: a FIS of type {kind:#04x} for the device")
            self.errors(DIAG_H | SERR_P)
            self._fatal(IFS)
        elif not fis_flags & COMMAND_BIT:
            self._control(slot, header, control)
        elif self.held_in_reset:
            # A device that is held in reset hears no command.
            registers.tfd |= Status.BSY
        else:
            registers.tfd |= Status.BSY
            if taskfile.command == PACKET and self.device.packet_size:
                packet = self._send_packet(slot, taskfile, packet)
            self.device.issue(PortCommand(self, taskfile, slot, header, packet))

    def _read_at_once(self, slot: int, header: Header, taskfile: TaskFile) -> bool:
        """Do a queued read whose data is at hand in one go; False, and nothing done, where it is for the device."""
        device, memory = self.device, self.hba.memory
        place = None if device is None or self.held_in_reset else device.at_once(taskfile)
        if device is None or place is None or memory.trace is not None or self._taken:
            # Nor does it overtake what was taken before it in this turn.
            return False
        offset, length = place
        try:
            regions = walk(memory, header.table + PRDT_OFFSET, header.prdtl, length)
            if regions.length < length or regions.odd:
                return False
            dma = memory.map(regions.pieces, Direction.FROM_DEVICE)
        except GuestMemoryError:
            return False
        done = device.read_now(offset, dma.views, length)
        dma.unmap(length if done else 0)
        if done:
            tag = taskfile.count >> 3 & 0x1F
            self._accepted(slot, taskfile)
            self.receive(DSFIS, dma_setup(tag, length, out=False))
            self._done |= 1 << tag
            if regions.interrupt:
                self.registers.status |= DPS
        return done

    def _send_packet(self, slot: int, taskfile: TaskFile, packet: bytes | None) -> bytes | None:
        """The device asks for the packet of a PACKET command, and gets as much of it as it takes (§5.3.10)."""
        assert self.device is not None
        size = self.device.packet_size
        self.receive(PSFIS, packet_setup(taskfile, size))
        if packet is None:
            self._violation("AHCI 1.3.1 §4.2.2", f"slot {slot}: PACKET without the header's A bit")
            return None
        return packet[:size]

    def _control(self, slot: int, header: Header, control: int) -> None:
        """A FIS with the device control register: SRST set, and then cleared, is a software reset (§10.4.1)."""
        registers = self.registers
        clears = bool(header.flags & CLEAR_BUSY)
        self.control_slot = None if clears else slot
        if control & SRST or self.held_in_reset:
            self.held_in_reset = bool(control & SRST)
            registers.tfd |= Status.BSY
            self.link.reset_device(Reset.SOFTWARE)
        if clears:
            registers.tfd &= ~BUSY
            self._clear_issue(slot)

    def _clear_issue(self, slot: int) -> None:
        self.registers.ci &= ~(1 << slot)
        self.issued &= ~(1 << slot)

    # --- the device's side: HostAdapter

    def begin(self, command: AtaCommand) -> None:
        """Map the memory of the whole transfer and let the device move it."""
        assert isinstance(command, PortCommand)
        transfer, device = command.transfer, self.device
        assert transfer is not None
        assert device is not None
        header, wanted = command.header, transfer.length
        try:
            regions = walk(self.hba.memory, header.table + PRDT_OFFSET, header.prdtl, wanted)
            short = regions.length < wanted and transfer.exact
            if regions.odd:
                self._violation(
                    "AHCI 1.3.1 §4.2.3.3", f"slot {command.slot}: a PRD with an odd address or length"
                )
            if short:
                self._overflow(command, regions.length, wanted)
                if transfer.out or command.queued:
                    device.fail(command, AtaError())
                    return
            command.length = regions.length
            command.interrupt = regions.interrupt
            direction = Direction.TO_DEVICE if transfer.out else Direction.FROM_DEVICE
            command.dma = self.hba.memory.map(regions.pieces, direction)
        except GuestMemoryError as error:
            self._violation("AHCI 1.3.1 §6.1.1", f"slot {command.slot}: {error}")
            self._fatal(HBFS)
            device.drop([command])
            return
        if command.queued:
            if not command.accepted:
                self._accept(command)
            if self._working:
                self._taken.append(command)
                return
        elif transfer.out and by_pio(command):
            self._receive_setup(command, wanted)
        self._move(command)

    def _overflow(self, command: PortCommand, length: int, wanted: int) -> None:
        self._violation(
            "AHCI 1.3.1 §3.3.5", f"slot {command.slot}: PRDs of {length} bytes for a transfer of {wanted}"
        )
        self.registers.status |= OFS

    def _accept(self, command: PortCommand) -> None:
        """An NCQ command is in the device's queue: a FIS without interrupt clears BSY and its PxCI bit (§5.6.4)."""
        command.accepted = True
        self._accepted(command.slot, command.taskfile)
        transfer = command.transfer
        if transfer is not None:
            self.receive(DSFIS, dma_setup(command.tag, transfer.length, out=transfer.out))

    def _accepted(self, slot: int, taskfile: TaskFile) -> None:
        self.receive(RFIS, register_d2h(taskfile, interrupt=False, status=READY))
        self.registers.tfd = READY
        self._clear_issue(slot)

    def _receive_setup(self, command: PortCommand, length: int) -> None:
        data, interrupt = data_setup(command, length)
        self.receive(PSFIS, data)
        if interrupt:
            self.registers.status |= PSS

    def moved(self, command: AtaCommand) -> None:
        """All that there was memory for has been moved."""
        assert isinstance(command, PortCommand)
        assert self.device is not None
        self._unmap(command, command.moved)
        if not command.queued:
            self._count(command)
        transfer = command.transfer
        if (
            transfer is not None
            and not transfer.out
            and command.moved
            and is_packet(command)
            and by_pio(command)
        ):
            self._receive_setup(command, command.moved)
        self.device.conclude(command)

    def _unmap(self, command: PortCommand, done: int) -> None:
        dma, command.dma = command.dma, None
        if dma is not None:
            assert command.transfer is not None
            dma.unmap(done if self.hba.may_master and not command.transfer.out else 0)

    def _count(self, command: PortCommand) -> None:
        """PRDBC: how many bytes were moved (§5.4.1)."""
        self._write(command.header.address + PRDBC_OFFSET, command.moved.to_bytes(4, "little"))
        if command.interrupt:
            self.registers.status |= DPS

    def finished(self, command: AtaCommand) -> None:
        """The device has ended a command: a FIS, PxTFD, PxCI or PxSACT, PxIS."""
        assert isinstance(command, PortCommand)
        self._unmap(command, 0)
        taskfile = command.taskfile
        failed = taskfile.status & (Status.ERR | Status.DF)
        if command.queued and not command.accepted and not failed:
            self._accept(command)
        if command.accepted:
            self._end_queued(command, failed=bool(failed))
            return
        registers = self.registers
        entry = command.entry
        bits = DHRS
        pio = entry is not None and entry.protocol is Protocol.PIO_IN and command.transfer is not None
        if pio and not failed:
            self._receive_setup(command, command.moved)
            bits = PSS
        else:
            self.receive(RFIS, register_d2h(taskfile, interrupt=True))
        registers.tfd = taskfile.error << 8 | taskfile.status
        if failed:
            # Whatever FIS says so, nothing but TFES tells of an error (§5.3.8, RegFIS:Entry).
            self._fatal(TFES)
            return
        self._clear_issue(command.slot)
        self._raise(bits)
        if not self._working:
            self._schedule()

    def _end_queued(self, command: PortCommand, *, failed: bool) -> None:
        if failed:
            self._tell_done()
            taskfile = command.taskfile
            self._set_bits(taskfile.status, taskfile.error, 0)
            self._fatal(TFES)
            return
        self._done |= 1 << command.tag
        if command.interrupt:
            self.registers.status |= DPS
        if not self._working:
            self._tell_done()

    def _tell_done(self) -> None:
        """Set Device Bits for all NCQ commands that are over (SATA 3.x §13.6.3)."""
        done, self._done = self._done, 0
        if done:
            self._set_bits(READY, 0, done)
            self._raise(SDBS)

    def _set_bits(self, status: int, error: int, done: int) -> None:
        registers = self.registers
        self.receive(SDBFIS, set_device_bits(status, error, done))
        kept = registers.tfd & 0xFF & ~SDB_STATUS
        registers.tfd = error << 8 | kept | status & SDB_STATUS
        registers.sact &= ~done

    def dropped(self, command: AtaCommand) -> None:
        """A command that was dropped has come back."""
        assert isinstance(command, PortCommand)
        self._unmap(command, command.moved)

    # --- snapshots

    def restored(self, *, resetting: bool) -> None:
        """A snapshot is there; its device's reset, if any, is over, and ends of earlier ones tell nobody."""
        self._done = 0
        self.link.restored(resetting=resetting)
        self._schedule()

    # --- what it tells

    def receive(self, place: int, data: bytes) -> None:
        """Put a FIS into the received FIS area, if that is enabled (§4.2.1)."""
        if self.registers.fr:
            self._write(self._received + place, data)

    def _write(self, address: int, data: bytes) -> None:
        if not self.hba.may_master:
            self._violation("PCI 3.0 §6.2.2", "bus mastering was switched off while a command ran")
            self._fatal(HBFS)
            return
        try:
            self.hba.memory.write(address, data)
        except GuestMemoryError as error:
            self._violation("AHCI 1.3.1 §6.1.1", str(error))
            self._fatal(HBFS)

    def _raise(self, bits: int) -> None:
        self.registers.status |= bits
        self.hba.port_changed(self)

    def _fatal(self, bits: int) -> None:
        """An error after which nothing goes on until software has cleared PxCMD.ST (§6.2.2)."""
        self.event(Event.ERROR)
        self._raise(bits)

    def _violation(self, clause: str, summary: str) -> None:
        self.hba.violations.report(clause, summary, self.name)
