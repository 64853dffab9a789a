"""A port of an HBA as an operating system drives it (AHCI 1.3.1 §10): bring-up, command slots, NCQ, errors, resets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from guestsim.drivers.ahci_command import Answer, Pending, QueueError
from guestsim.drivers.ahci_layouts import (
    ACMD_OFFSET,
    COMMAND_LIST_SIZE,
    D2H_FIS,
    DET_PRESENT,
    FATAL,
    HEADER,
    HEADER_ATAPI,
    HEADER_CLEAR_BUSY,
    HEADER_RESET,
    HEADER_SIZE,
    HEADER_WRITE,
    MAX_PRD,
    PORT_STRIDE,
    PORTS_OFFSET,
    PRD,
    PRDT_OFFSET,
    RECEIVED_SIZE,
    SDB,
    SERR_CHANGES,
    SIGNATURE_ATAPI,
    TABLE_ALIGN,
    Cmd,
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
from guestsim.drivers.transport import Interrupts
from guestsim.errors import GuestCheckError, GuestError
from guestsim.memory import Segment

if TYPE_CHECKING:
    from guestsim.drivers.ahci import Ahci

UNWRITTEN = 0xDB
"""What buffers hold before the device writes them."""
MILLISECOND = 1_000_000
SRST = 0x04


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
