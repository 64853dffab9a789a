"""An AHCI driver as an operating system has it (AHCI 1.3.1 §10): bring-up, command slots, NCQ, errors, resets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.drivers.ahci_layouts import (
    ABAR,
    ACMD_OFFSET,
    CLASS_AHCI,
    COMMAND_LIST_SIZE,
    D2H,
    D2H_FIS,
    DET_PRESENT,
    ENABLED,
    FATAL,
    HEADER,
    HEADER_ATAPI,
    HEADER_CLEAR_BUSY,
    HEADER_RESET,
    HEADER_SIZE,
    HEADER_WRITE,
    MAX_PRD,
    PIO_SETUP,
    PORT_STRIDE,
    PORTS_OFFSET,
    PRD,
    PRDT_OFFSET,
    RECEIVED_SIZE,
    SDB,
    SERR_CHANGES,
    SIGNATURE_ATAPI,
    SIGNATURE_DISK,
    TABLE_ALIGN,
    Cmd,
    Ghc,
    Hba,
    PortIs,
    PortReg,
    h2d_fis,
)
from guestsim.drivers.ata import (
    NCQ_ERROR_LOG,
    AtaCommand,
    AtaStatus,
    Identity,
    identify,
    parse_queue_error,
    read_log,
)
from guestsim.drivers.pci import COMMAND_INTX_DISABLE, PciFunction, scan
from guestsim.drivers.transport import Interrupts
from guestsim.errors import GuestCheckError, GuestError
from guestsim.memory import Segment

if TYPE_CHECKING:
    from guestsim.guest import Guest

UNWRITTEN = 0xDB
"""What buffers hold before the device writes them."""
MILLISECOND = 1_000_000
CLASS = 0x08
SRST = 0x04


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended: status and error; address, count, device of the FIS; bytes moved (PRDBC), data."""

    status: AtaStatus
    error: int
    lba: int
    count: int
    moved: int
    data: bytes
    device: int = 0

    @property
    def ok(self) -> bool:
        """Whether it has succeeded."""
        return not self.status & (AtaStatus.ERR | AtaStatus.DF | AtaStatus.BSY)

    @property
    def sense_key(self) -> int:
        """Of a packet command that failed."""
        return self.error >> 4


@dataclass(frozen=True, slots=True)
class QueueError:
    """What log 10h says of the command that ended the queue (ACS-3 §A.14): its tag, and how it ended.

    `again` are the answers of those that had ended with it and were done again, in the order of their slots.
    """

    tag: int
    status: AtaStatus
    error: int
    lba: int
    count: int
    again: tuple[Answer, ...]


class Pending:
    """A command in a slot, and the memory it has.  `dropped`: the port was stopped before it was answered.

    `seen` is all that PxIS has shown since it was issued.
    """

    __slots__ = ("answer", "command", "dropped", "seen", "segments", "slot", "table")

    def __init__(self, command: AtaCommand, slot: int, table: int, segments: list[Segment]) -> None:
        self.command = command
        self.slot = slot
        self.table = table
        self.segments = segments
        self.answer: Answer | None = None
        self.dropped = False
        self.seen = PortIs(0)

    @property
    def last_fis(self) -> int:
        """Where the FIS is that told the end.

        That is a PIO Setup FIS where data of a disk's command came by PIO, else a Register FIS (Serial ATA 3.2 §11.7),
        which may be told in PxIS only after PxCI is 0 (AHCI 1.3.1 §5.3.8).
        """
        by_pio = self.seen & (PortIs.PSS | PortIs.DHRS) == PortIs.PSS
        return PIO_SETUP if by_pio and not self.command.out and not self.command.packet else D2H

    @property
    def done(self) -> bool:
        """Whether it has been answered, or never will be."""
        return self.answer is not None or self.dropped


class AhciPort:
    """One port; `failed` is what PxIS showed of an error that nobody has recovered from, `seen` all that it showed."""

    __slots__ = (
        "_base",
        "_hba",
        "failed",
        "failed_queued",
        "guest",
        "identity",
        "interrupts",
        "list",
        "number",
        "pending",
        "received",
        "seen",
    )

    def __init__(self, hba: Ahci, number: int) -> None:
        self._hba = hba
        self.guest = hba.guest
        self.number = number
        self._base = PORTS_OFFSET + number * PORT_STRIDE
        self.pending: dict[int, Pending] = {}
        self.failed = PortIs(0)
        self.seen = PortIs(0)
        self.failed_queued: dict[int, AtaCommand] = {}
        """Commands of a queue that an error has ended, by their tags."""
        self.interrupts = 0
        self.list = self.received = 0
        self.identity: Identity | None = None

    def read(self, register: int) -> int:
        """Read a port register."""
        return self._hba.read(self._base + register)

    def write(self, register: int, value: int) -> None:
        """Write a port register."""
        self._hba.write(self._base + register, value)

    # --- bringing up

    def place(self) -> None:
        """Give the port its command list and its received FIS area, and let FISes come (§10.1.2)."""
        memory = self.guest.memory
        self.list = memory.allocate_zeroed(COMMAND_LIST_SIZE, 1024)
        self.received = memory.allocate_zeroed(RECEIVED_SIZE, 256)
        self.write(PortReg.CLB, self.list & 0xFFFF_FFFF)
        self.write(PortReg.CLBU, self.list >> 32)
        self.write(PortReg.FB, self.received & 0xFFFF_FFFF)
        self.write(PortReg.FBU, self.received >> 32)
        self.write(PortReg.CMD, self.read(PortReg.CMD) | Cmd.FRE)

    def forget(self) -> None:
        """Give its memory back: the HBA was reset, or is set up anew."""
        for pending in self.pending.values():
            pending.dropped = True
        self.pending.clear()
        for address in (self.list, self.received):
            self.guest.memory.free(address)

    @property
    def present(self) -> bool:
        """Whether a device is there and the link works."""
        return self.read(PortReg.SSTS) & 0xF == DET_PRESENT

    async def stop(self) -> None:
        """Stop the command list; what was under way is dropped (§10.3.1)."""
        self.write(PortReg.CMD, self.read(PortReg.CMD) & ~Cmd.ST)
        await self.guest.wait_until(
            lambda: not self.read(PortReg.CMD) & Cmd.CR, f"PxCMD.CR of port {self.number} to be 0"
        )
        for pending in self.pending.values():
            pending.dropped = True
        self.pending.clear()

    async def start(self) -> None:
        """Start the command list when the device is ready for it."""
        await self.ready()
        self.write(PortReg.CMD, self.read(PortReg.CMD) | Cmd.ST)

    async def ready(self) -> None:
        """Wait until BSY and DRQ are 0."""
        await self.guest.wait_until(
            lambda: not self.read(PortReg.TFD) & (AtaStatus.BSY | AtaStatus.DRQ),
            f"the device at port {self.number} to be ready",
        )

    async def comreset(self) -> None:
        """Reset the link (§10.4.2); the command list has been stopped."""
        control = self.read(PortReg.SCTL) & ~0xF
        self.write(PortReg.SCTL, control | 1)
        await self.guest.sleep(MILLISECOND)
        self.write(PortReg.SCTL, control)
        await self.guest.wait_until(lambda: self.present, f"the link of port {self.number}")
        self.write(PortReg.SERR, 0xFFFF_FFFF)

    async def software_reset(self) -> None:
        """SRST by two FISes (§10.4.1); the command list runs, and has nothing in it."""
        control = AtaCommand(0)
        for bits, flags in ((SRST, HEADER_RESET | HEADER_CLEAR_BUSY), (0, 0)):
            pending = self._place(control, 0, flags, h2d_fis(control, control=bits, is_command=False), None)
            self.write(PortReg.CI, 1)
            await self.guest.wait_until(lambda: not self.read(PortReg.CI) & 1, "a control FIS to be sent")
            self._release(pending)
        await self.ready()

    async def clear_errors(self) -> None:
        """Recover after an error (§6.2.2.1): stop, clear, reset where the device hangs, start."""
        await self.stop()
        self.write(PortReg.SERR, 0xFFFF_FFFF)
        self.write(PortReg.IS, 0xFFFF_FFFF)
        self.failed = PortIs(0)
        if self.read(PortReg.TFD) & (AtaStatus.BSY | AtaStatus.DRQ):
            await self.comreset()
        await self.start()

    async def recover_queue(self) -> QueueError:
        """Recover after an NCQ command has failed, and the others of the queue with it (§6.2.2.2).

        Log 10h says which one it was, and lets the queue go on; the others are issued again.
        """
        others, self.failed_queued = self.failed_queued, {}
        if not others:
            raise GuestError(f"port {self.number}: no queue has failed")
        await self.clear_errors()
        log = await self.do(read_log(NCQ_ERROR_LOG))
        if not log.ok:
            raise GuestError(f"the NCQ error log cannot be read: error {log.error:#x}")
        if sum(log.data) & 0xFF:
            raise GuestCheckError("ACS-3 §A.14", "the checksum of the NCQ error log is wrong")
        tag, status, error, lba, count = parse_queue_error(log.data)
        if tag not in others:
            raise GuestCheckError("ACS-3 §A.14", f"tag {tag} is no command's; the tags are {sorted(others)}")
        del others[tag]
        again = [await self.wait(each) for each in self.submit(*others.values())] if others else []
        return QueueError(tag, AtaStatus(status), error, lba, count, tuple(again))

    @property
    def atapi(self) -> bool:
        """Whether what is there takes packets, by its signature (§3.3.9)."""
        return self.read(PortReg.SIG) == SIGNATURE_ATAPI

    async def identify(self) -> Identity:
        """IDENTIFY DEVICE, or IDENTIFY PACKET DEVICE."""
        command = identify(packet=self.atapi)
        answer = await self.do(command)
        if not answer.ok:
            raise GuestError(f"{command.name} failed with status {answer.status:#x}, error {answer.error:#x}")
        self.identity = Identity(answer.data)
        if self.identity.checksum:
            raise GuestCheckError("ACS-3 §7.12.7", f"the checksum of {command.name} is wrong")
        return self.identity

    # --- commands

    def free_slot(self) -> int:
        """The lowest slot that has no command."""
        slot = next((n for n in range(self._hba.slots) if n not in self.pending), None)
        if slot is None:
            raise GuestError(f"port {self.number}: no slot is free")
        return slot

    def submit(self, *commands: AtaCommand, pieces: Sequence[int] | None = None) -> list[Pending]:
        """Put commands into slots and issue them with one write; `pieces`: lengths of the PRDs."""
        started = []
        bits = tags = 0
        for command in commands:
            slot = self.free_slot()
            tagged = command.tagged(slot)
            flags = (HEADER_WRITE if command.out else 0) | (HEADER_ATAPI if command.packet else 0)
            pending = self._place(tagged, slot, flags, h2d_fis(tagged), pieces)
            self.pending[slot] = pending
            started.append(pending)
            bits |= 1 << slot
            tags |= 1 << slot if command.queued else 0
        if tags:
            self.write(PortReg.SACT, tags)
        self.write(PortReg.CI, bits)
        return started

    async def wait(self, pending: Pending) -> Answer:
        """The answer; GuestError where there will be none."""
        await self.guest.wait_until(lambda: self._look(pending), f"{pending.command.name} to end")
        if pending.answer is None:
            raise GuestError(f"{pending.command.name} was dropped")
        return pending.answer

    async def do(self, command: AtaCommand, *, pieces: Sequence[int] | None = None) -> Answer:
        """Issue a command and wait for its answer."""
        (pending,) = self.submit(command, pieces=pieces)
        return await self.wait(pending)

    def _place(
        self, command: AtaCommand, slot: int, flags: int, fis: bytes, pieces: Sequence[int] | None
    ) -> Pending:
        memory = self.guest.memory
        length = len(command.out) or command.room
        lengths = list(_cut(length)) if pieces is None else list(pieces)
        segments = []
        done = 0
        for piece in lengths:
            if command.out:
                data = command.out[done : done + piece].ljust(piece, b"\0")
            else:
                data = bytes((UNWRITTEN,)) * piece
            segments.append(Segment(memory.store(data, 2), piece))
            done += piece
        table = bytearray(fis.ljust(PRDT_OFFSET, b"\0"))
        table[ACMD_OFFSET : ACMD_OFFSET + len(command.packet)] = command.packet
        for segment in segments:
            table += PRD.pack(segment.address & 0xFFFF_FFFF, segment.address >> 32, segment.length - 1)
        address = memory.store(bytes(table), TABLE_ALIGN)
        self.put(slot, flags | len(fis) // 4, len(segments), address)
        return Pending(command, slot, address, segments)

    def put(self, slot: int, flags: int, prdtl: int, table: int) -> None:
        """Write a command header literally (§4.2.2)."""
        header = HEADER.pack(flags, prdtl, 0, table & 0xFFFF_FFFF, table >> 32)
        self.guest.memory.write(self.list + slot * HEADER_SIZE, header)

    def _release(self, pending: Pending) -> None:
        for segment in pending.segments:
            self.guest.memory.free(segment.address)
        self.guest.memory.free(pending.table)

    def _look(self, pending: Pending) -> bool:
        """Whether `pending` has ended; without interrupts, the port itself is looked at."""
        if not pending.done and self._hba.interrupts is Interrupts.POLLING:
            self.serve()
        return pending.done

    def serve(self) -> bool:
        """Look what has happened (§5.6): end the commands that are over; False where nothing has."""
        status = self._take_status()
        ended: list[Pending] = []
        if not status & FATAL:
            running = self.read(PortReg.CI) | self.read(PortReg.SACT)
            ended = [each for slot, each in self.pending.items() if not running >> slot & 1]
            if ended:
                # What has ended after the first look at PxIS is told there now.
                status |= self._take_status()
        self.interrupts += bool(status) and self._hba.interrupts is not Interrupts.POLLING
        for pending in ended:
            if pending.command.queued:
                self._end(pending)
        if status & FATAL:
            self.failed |= status
            self._fail()
        for pending in ended:
            if not pending.done:
                self._end(pending)
        return bool(status)

    def _take_status(self) -> PortIs:
        """What PxIS says, which is acknowledged with that (§5.6.3)."""
        status = PortIs(self.read(PortReg.IS))
        if status:
            self.write(PortReg.IS, status)
            self.seen |= status
            for pending in self.pending.values():
                pending.seen |= status
        if status & (PortIs.PCS | PortIs.PRCS):
            # These follow PxSERR, and stay until that is cleared (§3.3.5).
            self.write(PortReg.SERR, SERR_CHANGES)
        return status

    def _end(self, pending: Pending, *, failed: bool = False) -> None:
        command = pending.command
        if command.queued and not failed:
            taskfile = self.read(PortReg.TFD)
            answer = self._answer(pending, taskfile & 0xFF & ~AtaStatus.ERR, 0, None)
        else:
            fields = D2H_FIS.unpack(self.guest.memory.read(self.received + pending.last_fis, D2H_FIS.size))
            taskfile = self.read(PortReg.TFD)
            answer = self._answer(pending, taskfile & 0xFF, taskfile >> 8, fields)
        del self.pending[pending.slot]
        pending.answer = answer
        self._release(pending)

    def _answer(self, pending: Pending, status: int, error: int, fields: Mapping[str, int] | None) -> Answer:
        """`fields`: those of the FIS that told; a Set Device Bits FIS has no address."""
        memory, command = self.guest.memory, pending.command
        lba = count = device = 0
        if fields is not None:
            lba = fields["lba_low"] | fields["lba_2"] << 16 | fields["lba_3"] << 24 | fields["lba_5"] << 40
            count, device = fields["count"], fields["device"]
        _, _, moved, _, _ = HEADER.unpack(memory.read(self.list + pending.slot * HEADER_SIZE, HEADER_SIZE))
        data = b""
        if not command.out:
            data = b"".join(memory.read(each.address, each.length) for each in pending.segments)
        return Answer(AtaStatus(status), error, lba, count, moved, data, device)

    def _fail(self) -> None:
        """The command that a fatal error belongs to is the current one; queued ones fail as one (§6.2.2)."""
        current = self.read(PortReg.CMD) >> 8 & 0x1F
        queued = [each for each in self.pending.values() if each.command.queued]
        if queued:
            self.failed_queued = {each.slot: each.command for each in queued}
            for pending in queued:
                self._end(pending, failed=True)
        elif current in self.pending:
            self._end(self.pending[current], failed=True)

    def set_device_bits(self) -> bytes:
        """The Set Device Bits FIS that was received last."""
        return self.guest.memory.read(self.received + SDB, 8)


def _cut(length: int) -> Iterator[int]:
    while length > 0:
        yield min(length, MAX_PRD)
        length -= MAX_PRD


class Ahci:
    """Driver of one HBA: `ports` with a device, by number; `known` are all that there are."""

    __slots__ = ("_bar", "_vector", "function", "guest", "interrupts", "known", "ports", "slots")

    def __init__(self, guest: Guest, function: PciFunction) -> None:
        self.guest = guest
        self.function = function
        function.place_bars()
        self._bar = function.bars[ABAR]
        self.ports: dict[int, AhciPort] = {}
        self.known: dict[int, AhciPort] = {}
        self.interrupts = Interrupts.POLLING
        self.slots = (self.read(Hba.CAP) >> 8 & 0x1F) + 1
        self._vector: int | None = None

    def read(self, offset: int) -> int:
        """Read a register of ABAR."""
        return self._bar.read(offset, 4)

    def write(self, offset: int, value: int) -> None:
        """Write a register of ABAR."""
        self._bar.write(offset, 4, value)

    async def reset(self) -> None:
        """Reset the HBA (§10.4.3)."""
        self.write(Hba.GHC, Ghc.AE)
        self.write(Hba.GHC, Ghc.AE | Ghc.HR)
        await self.guest.wait_until(lambda: not self.read(Hba.GHC) & Ghc.HR, "GHC.HR to be 0")
        self.write(Hba.GHC, Ghc.AE)

    async def probe(self, *, interrupts: Interrupts = Interrupts.MSIX, identify_all: bool = True) -> None:
        """Reset the HBA, bring up each port that has a device, and ask them what they are.

        `MSIX` stands for messages: those of an HBA are MSI's.
        """
        await self.reset()
        for port in self.known.values():
            port.forget()
        self.ports.clear()
        self.known.clear()
        implemented = self.read(Hba.PI)
        self.connect(interrupts)
        for number in range(32):
            if implemented >> number & 1:
                await self._bring_up(AhciPort(self, number))
        self.write(Hba.GHC, Ghc.AE | (Ghc.IE if interrupts is not Interrupts.POLLING else 0))
        for port in self.ports.values():
            if identify_all and port.read(PortReg.SIG) in (SIGNATURE_DISK, SIGNATURE_ATAPI):
                await port.identify()

    async def _bring_up(self, port: AhciPort) -> None:
        self.known[port.number] = port
        await port.stop()
        port.place()
        port.write(PortReg.SERR, 0xFFFF_FFFF)
        port.write(PortReg.IS, 0xFFFF_FFFF)
        if port.present:
            await port.start()
            if port.atapi:
                port.write(PortReg.CMD, port.read(PortReg.CMD) | Cmd.ATAPI)
            self.ports[port.number] = port
        port.write(PortReg.IE, ENABLED if self.interrupts is not Interrupts.POLLING else 0)

    def connect(self, interrupts: Interrupts) -> None:
        """Choose how the HBA interrupts."""
        controller = self.guest.interrupts
        self._disconnect()
        self.interrupts = interrupts
        if interrupts is Interrupts.MSIX:
            msi = self.function.msi()
            if msi is None:
                raise GuestCheckError("PCI 3.0 §6.8.1", f"{self.function} has no MSI")
            self._vector = controller.allocate(self._message, str(self.function))
            msi.enable(*controller.message(self._vector))
            self.function.set_command(on=COMMAND_INTX_DISABLE)
        elif interrupts is Interrupts.INTX:
            controller.connect(self.function.slot, self.function.interrupt_pin, self.serve)

    def _disconnect(self) -> None:
        """As after a reset of the function."""
        controller, msi = self.guest.interrupts, self.function.msi()
        if self._vector is not None:
            controller.free(self._vector)
            self._vector = None
        if self.interrupts is Interrupts.INTX:
            controller.disconnect(self.function.slot, self.function.interrupt_pin, self.serve)
        if msi is not None:
            msi.disable()
        self.function.set_command(off=COMMAND_INTX_DISABLE)

    def _message(self) -> None:
        self.serve()

    def serve(self) -> bool:
        """Serve the ports that ask for it (§5.6.3): PxIS first, then IS."""
        status = self.read(Hba.IS)
        for number, port in self.known.items():
            if status >> number & 1:
                port.serve()
        if status:
            self.write(Hba.IS, status)
        return bool(status)


def find(guest: Guest) -> list[PciFunction]:
    """The AHCI HBAs there are."""
    return [function for function in scan(guest) if function.read(CLASS, 4) >> 8 == CLASS_AHCI]
