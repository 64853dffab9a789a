"""What comes of a port's commands: their data, the FISes that the device sends, how they end (AHCI 1.3.1 §5.3 to §5.6).

NCQ commands that end in one turn are told of by one Set Device Bits FIS at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.ahci.command import Header, PortCommand
from devmodels.ahci.fis import SDB_STATUS, dma_setup, register_d2h, set_device_bits
from devmodels.ahci.layout import DSFIS, PRDBC_OFFSET, PRDT_OFFSET, PSFIS, RFIS, SDBFIS
from devmodels.ahci.pio import ASKING, by_pio, data_setup, is_packet, packet_setup
from devmodels.ahci.prdt import walk
from devmodels.ahci.registers import DHRS, DPS, HBFS, OFS, PSS, SDBS, TFES
from devmodels.ata import AtaCommand, AtaError, Protocol, Status, TaskFile
from devmodels.ata.constants import READY
from devmodels.conformance import written
from devmodels.dma import Direction
from devmodels.memoryregions import GuestMemoryError

if TYPE_CHECKING:
    from devmodels.ahci.port import Port
    from devmodels.ata.transfer import Transfer

PRIO = 0xC000
"""Count, of NCQ reads and writes: their priority."""


class Delivery:
    """The host adapter of the device at `port`.  `working`: the port gives it commands, in a turn that goes on.

    `done` has the tags of NCQ commands that are over, of which no FIS has been received yet.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self._hba = port.hba
        self._registers = port.registers
        self._habits = port.hba.habits
        self.working = False
        self.done = 0
        self.untold = 0
        """Tags of what resets have dropped, of which the next Set Device Bits FIS is to tell."""
        self.taken: list[PortCommand] = []
        """Queued commands that the device has taken in this turn, and does at its end."""

    def end_turn(self) -> None:
        """Do what the queue has taken, and tell of all that is over."""
        if self.taken:
            self._move_taken()
        self.working = False
        if self.done:
            self._tell_done()

    def _move_taken(self) -> None:
        """What the queue has taken in this turn is done, high priorities first (ACS-3 §7.23, PRIO)."""
        taken, self.taken = self.taken, []
        if any(each.taskfile.count & PRIO for each in taken):
            taken.sort(key=lambda each: each.taskfile.count & PRIO, reverse=True)
        for command in taken:
            if not command.dropped:
                self._move(command)

    def _move(self, command: PortCommand) -> None:
        device, dma = self._port.device, command.dma
        assert device is not None
        if dma is not None and command.length:
            device.move(command, dma.views, command.length)
        else:
            device.moved(command, 0)

    def read_at_once(self, slot: int, header: Header, taskfile: TaskFile) -> bool:
        """Do a queued read whose data is at hand in one go; False, and nothing done, where it is for the device."""
        device, memory = self._port.device, self._hba.memory
        place = None if device is None or self._port.held_in_reset else device.at_once(taskfile)
        if device is None or place is None or memory.trace is not None or self.taken:
            # Nor does it overtake what was taken before it in this turn.
            return False
        offset, length = place
        try:
            header.regions = regions = walk(memory, header.table + PRDT_OFFSET, header.prdtl, length)
            if regions.length < length or regions.odd:
                return False
            dma = memory.map(regions.pieces, Direction.FROM_DEVICE)
        except GuestMemoryError:
            return False
        done = device.read_now(offset, dma.views, length)
        dma.unmap(length if done else 0)
        if done:
            tag = taskfile.count >> 3 & 0x1F
            if not self._accepted(slot, taskfile):
                return True
            self._send_setup(tag, length, out=False)
            self.done |= 1 << tag
            if regions.interrupt and not self._habits.deaf_prds:
                self._registers.status |= DPS
        return done

    def ask_for_packet(self, taskfile: TaskFile) -> bool:
        """The device asks for the packet of a PACKET command (§5.3.10); whether there is memory for that FIS."""
        assert self._port.device is not None
        size = self._port.device.packet_size
        return self._receive_pio_setup(packet_setup(taskfile, size, plain=self._habits.plain_pio_setup))

    def packet(self, slot: int, taskfile: TaskFile, packet: bytes | None) -> bytes | None:
        """The packet of a PACKET command, as much of it as the device takes (§5.3.10)."""
        if packet is None:
            self._port.violation(
                "AHCI 1.3.1 §4.2.2",
                f"slot {slot}: PACKET without the header's A bit",
                bytes((taskfile.command,)),
            )
            return None
        return self.fitting(packet)

    def fitting(self, packet: bytes) -> bytes:
        """As much of a packet as the device takes; QEMU's keeps all that there is room for (§4.2.3.2)."""
        device = self._port.device
        return packet if device is None or self._habits.whole_packets else packet[: device.packet_size]

    # --- the device's side: HostAdapter

    def begin(self, command: AtaCommand) -> None:
        """Map the memory of the whole transfer and let the device move it."""
        assert isinstance(command, PortCommand)
        transfer, device = command.transfer, self._port.device
        assert transfer is not None
        assert device is not None
        header, wanted = command.header, transfer.reach
        try:
            regions = header.regions or walk(
                self._hba.memory, header.table + PRDT_OFFSET, header.prdtl, wanted
            )
            short = regions.length < wanted and transfer.exact
            silent = short and self._habits.silent_overflow and not command.queued and not by_pio(command)
            if regions.odd:
                self._port.violation(
                    "AHCI 1.3.1 §4.2.3.3",
                    f"slot {command.slot}: a PRD with an odd address or length",
                    regions.odd,
                )
            if silent and not is_packet(command):
                device.finish(command)
                return
            if short and not silent:
                self._overflow(command, regions.length, wanted)
                if transfer.out or command.queued:
                    device.fail(command, AtaError())
                    return
            command.length = regions.length
            command.interrupt = regions.interrupt and not self._habits.deaf_prds
            direction = Direction.TO_DEVICE if transfer.out else Direction.FROM_DEVICE
            command.dma = self._hba.memory.map(regions.pieces, direction)
        except GuestMemoryError as error:
            self._port.violation(
                "AHCI 1.3.1 §6.1.1", f"slot {command.slot}: {error}", written(error.address, 8)
            )
            self._port.fatal(HBFS)
            device.drop([command])
            return
        if command.queued:
            if not command.accepted and not self._accept(command):
                device.drop([command])
                return
            if self.working:
                self.taken.append(command)
                return
        elif transfer.out and by_pio(command) and not self._receive_setup(command, wanted + transfer.lost):
            device.drop([command])
            return
        self._move(command)

    def _overflow(self, command: PortCommand, length: int, wanted: int) -> None:
        self._port.violation(
            "AHCI 1.3.1 §3.3.5",
            f"slot {command.slot}: PRDs of {length} bytes for a transfer of {wanted}",
            written(length, 8),
        )
        self._registers.status |= OFS

    def _accept(self, command: PortCommand) -> bool:
        """An NCQ command is in the device's queue: a FIS without interrupt clears BSY and its PxCI bit (§5.6.4).

        False where that FIS could not be received.
        """
        if not self._accepted(command.slot, command.taskfile):
            return False
        command.accepted = True
        transfer = command.transfer
        if transfer is not None:
            self._send_setup(command.tag, transfer.length, out=transfer.out)
        return True

    def _send_setup(self, tag: int, length: int, *, out: bool) -> None:
        """The data of a queued command are about to come (SATA 3.x §13.6.3)."""
        if not self._habits.no_dma_setup:
            self.receive(DSFIS, dma_setup(tag, length, out=out))

    def _accepted(self, slot: int, taskfile: TaskFile) -> bool:
        last = self._last
        shown, status = (taskfile, READY) if last is None else (last, last.status)
        received = self.receive(RFIS, register_d2h(shown, interrupt=False, status=status))
        if received:
            self._registers.tfd = shown.error << 8 | status
            if status & Status.ERR:
                self._port.tell(TFES)
            else:
                self._port.clear_issue(slot)
        return received

    @property
    def _last(self) -> TaskFile | None:
        """The registers that FISes of queued commands have, if not their own."""
        device = self._port.device
        return device.registers if self._habits.last_shown and device is not None else None

    def _receive_setup(self, command: PortCommand, length: int) -> bool:
        data, interrupt = data_setup(command, length, plain=self._habits.plain_pio_setup)
        received = self._receive_pio_setup(data)
        if received and interrupt:
            self._registers.status |= PSS
        return received

    def _receive_pio_setup(self, data: bytes) -> bool:
        received = self.receive(PSFIS, data)
        if received and self._habits.hides_busy and self._registers.fr:
            self._registers.tfd = ASKING
        return received

    def moved(self, command: AtaCommand) -> None:
        """All that there was memory for has been moved."""
        assert isinstance(command, PortCommand)
        assert self._port.device is not None
        self._unmap(command, command.moved)
        if not command.queued and not self._counts_later(command):
            self._count(command)
        transfer = command.transfer
        if transfer is not None and self._gives_part(command) and self._told(command) < transfer.length:
            self._hang(command, transfer)
            return
        if (
            transfer is not None
            and not transfer.out
            and command.moved
            and is_packet(command)
            and by_pio(command)
        ):
            self._receive_setup(command, command.moved)
        self._port.device.conclude(command)

    def _gives_part(self, command: PortCommand) -> bool:
        return self._habits.silent_overflow and is_packet(command) and not by_pio(command)

    def _hang(self, command: PortCommand, transfer: Transfer) -> None:
        """QEMU's drive comes to an end no more where it has something to move that has no place to begin with."""
        taskfile = command.taskfile
        self._port.hangs = True
        taskfile.status = ASKING | Status.BSY if transfer.sector else ASKING
        if self.receive(RFIS, register_d2h(taskfile, interrupt=True)):
            self._registers.tfd = taskfile.status
            self._port.tell(DHRS)

    def _unmap(self, command: PortCommand, done: int) -> None:
        dma, command.dma = command.dma, None
        if dma is not None:
            assert command.transfer is not None
            dma.unmap(done if self._hba.may_master and not command.transfer.out else 0)

    def _counts_later(self, command: PortCommand) -> bool:
        transfer = command.transfer
        later = self._habits.counts_when_done and transfer is not None and transfer.out
        return later and not by_pio(command) and not command.queued

    def _told(self, command: PortCommand) -> int:
        """How many bytes count as moved: on QEMU all that a packet moves at a time, if it has a place to begin with."""
        transfer = command.transfer
        if transfer is None:
            return command.moved
        if self._gives_part(command):
            return min(-(-command.moved // transfer.chunk) * transfer.chunk, transfer.length)
        return command.moved + transfer.lost

    def _count(self, command: PortCommand) -> None:
        """PRDBC: how many bytes were moved (§5.4.1)."""
        at = command.header.address + PRDBC_OFFSET
        before = self._counted(at) if self._habits.adds_count else 0
        self._write(at, (self._told(command) + before & 0xFFFF_FFFF).to_bytes(4, "little"))
        if command.interrupt:
            self._registers.status |= DPS

    def clear_count(self, header: Header) -> None:
        """PRDBC of a command that begins."""
        self._write(header.address + PRDBC_OFFSET, bytes(4))

    def _counted(self, at: int) -> int:
        """What PRDBC is by now."""
        try:
            return int.from_bytes(self._hba.memory.read(at, 4), "little")
        except GuestMemoryError:
            return 0

    def finished(self, command: AtaCommand) -> None:
        """The device has ended a command: a FIS, PxTFD, PxCI or PxSACT, PxIS."""
        assert isinstance(command, PortCommand)
        self._unmap(command, 0)
        taskfile = command.taskfile
        failed = taskfile.status & (Status.ERR | Status.DF)
        if command.queued and not command.accepted and not failed and not self._accept(command):
            return
        if command.accepted:
            self._end_queued(command, failed=bool(failed))
            return
        registers = self._registers
        entry = command.entry
        bits = 0
        pio = entry is not None and entry.protocol is Protocol.PIO_IN and command.transfer is not None
        habits = self._habits
        received = True
        if habits.last_shown and self._port.device is not None:
            self._port.device.registers = taskfile
        if command.unheard:
            return
        if habits.mute_diagnostics and entry is not None and entry.protocol is Protocol.DIAGNOSTIC:
            return
        if pio and (not failed or _broke_off(command)):
            # The error came after the last block.
            error, taskfile.error = taskfile.error, 0 if failed else taskfile.error
            received = self._receive_setup(command, command.moved)
            taskfile.error = error
            bits = PSS
        if not failed and command.moved and self._counts_later(command):
            self._count(command)
        if habits.ends_by_register or not pio or failed:
            received &= self.receive(RFIS, register_d2h(taskfile, interrupt=True))
            bits |= DHRS
        if not received:
            return
        if habits.unheard_ends and not registers.fr:
            if not failed:
                self._port.clear_issue(command.slot)
            self._port.tell(bits & PSS)
            self._go_on()
            return
        registers.tfd = taskfile.error << 8 | taskfile.status
        if failed and not habits.repeats:
            # Whatever FIS says so, nothing but TFES tells of an error (§5.3.8, RegFIS:Entry).
            self._port.fatal(TFES)
            return
        if failed:
            bits |= TFES
        else:
            self._port.clear_issue(command.slot)
            if habits.repeats and self.working:
                self._port.again = True
            elif habits.repeats:
                self._port.issued = 0
        self._port.tell(bits)
        self._go_on()

    def _go_on(self) -> None:
        """What is issued may follow."""
        if not self.working:
            self._port.schedule()

    def _end_queued(self, command: PortCommand, *, failed: bool) -> None:
        if failed:
            self._tell_done()
            taskfile = command.taskfile
            if self._set_bits(taskfile.status, taskfile.error, 0):
                self._port.fatal(TFES)
            return
        self.done |= 1 << command.tag
        if command.interrupt:
            self._registers.status |= DPS
        if not self.working:
            self._tell_done()

    def _tell_done(self) -> None:
        """Set Device Bits for all NCQ commands that are over (SATA 3.x §13.6.3)."""
        done, self.done = self.done, 0
        if not done:
            return
        last, error = self._last, 0
        if last is not None:
            last.status, error = READY, last.error
        if self._set_bits(READY, error, done | self.untold):
            self.untold = 0
            self._port.tell(SDBS)

    def _set_bits(self, status: int, error: int, done: int) -> bool:
        registers = self._registers
        if not self.receive(SDBFIS, set_device_bits(status, error, done)):
            return False
        kept = registers.tfd & 0xFF & ~SDB_STATUS
        registers.tfd = error << 8 | kept | status & SDB_STATUS
        registers.sact &= ~done
        return True

    def dropped(self, command: AtaCommand) -> None:
        """A command that was dropped has come back."""
        assert isinstance(command, PortCommand)
        self._unmap(command, command.moved)

    # --- what it tells

    def receive(self, place: int, data: bytes) -> bool:
        """Put a FIS into the received FIS area, if that is enabled (§4.2.1).

        False where there is no memory: the port halts, and nothing follows that FIS, neither in PxTFD nor in PxCI or
        PxSACT, nor a cause in PxIS but HBFS (§3.3.5, §5.3.8).
        """
        return not self._registers.fr or self._write(self._port.received + place, data)

    def _write(self, address: int, data: bytes) -> bool:
        if not self._hba.may_master:
            self._port.violation("PCI 3.0 §6.2.2", "bus mastering was switched off while a command ran")
            self._port.fatal(HBFS)
            return False
        try:
            self._hba.memory.write(address, data)
        except GuestMemoryError as error:
            self._port.violation("AHCI 1.3.1 §6.1.1", str(error), written(error.address, 8))
            self._port.fatal(HBFS)
            return False
        return True


def _broke_off(command: PortCommand) -> bool:
    """Whether data have come before the command failed."""
    transfer = command.transfer
    return transfer is not None and 0 < command.moved == transfer.reach < transfer.length
