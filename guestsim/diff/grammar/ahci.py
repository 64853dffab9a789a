"""Random sequences for one port of an AHCI HBA (AHCI 1.3.1)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from guestsim.diff.access import Access, Loose, Read, Rest, Step, Store, Wait, Write
from guestsim.diff.arena import ARENA, ARENA_SIZE
from guestsim.diff.grammar import Action
from guestsim.diff.grammar.ata import (
    CD,
    DISK,
    SENSE,
    Sense,
    Table,
    Task,
    packet,
    queued,
    request_sense,
    task,
)
from guestsim.diff.grammar.ata_held import OFTEN, event, held
from guestsim.diff.grammar.registers import Registers
from guestsim.drivers.ahci_layouts import (
    ACMD_OFFSET,
    D2H,
    ENABLED,
    FIS_H2D,
    HEADER,
    HEADER_ATAPI,
    HEADER_SIZE,
    HEADER_WRITE,
    PIO_SETUP,
    PORTS_OFFSET,
    PRD,
    PRDT_OFFSET,
    SDB,
    Cmd,
    Ghc,
    Hba,
    PortReg,
)

LIST, RECEIVED, TABLES = ARENA + 0x1000, ARENA + 0x2000, ARENA + 0x4000
TABLE_ROOM = 0x400
SLOTS = 32
BUFFERS, BUFFERS_END = ARENA + 0x2_0000, ARENA + ARENA_SIZE
UNTOUCHED = b"\xee"

RESET = frozenset({"reset"})
SCRATCH = TABLES - 0x100
"""Data that are not looked at."""

IDLE = Cmd.FRE | Cmd.SUD | Cmd.POD | Cmd.ICC_ACTIVE
RUNNING = IDLE | Cmd.ST


def port(register: PortReg) -> Read:
    """Read a register of the port."""
    return Read("hba", PORTS_OFFSET + register, 4)


def put(register: PortReg, value: int) -> Write:
    """Write a register of the port."""
    return Write("hba", PORTS_OFFSET + register, 4, value & 0xFFFF_FFFF)


def start(*, cd: bool) -> tuple[Access, ...]:
    """Reset the HBA, start its port (§10.1.2), and have the device forget what its reset has left."""
    return (
        Write("hba", Hba.GHC, 4, Ghc.AE),
        Write("hba", Hba.GHC, 4, Ghc.AE | Ghc.HR),
        Rest(),
        Write("hba", Hba.GHC, 4, Ghc.AE),
        put(PortReg.CLB, LIST),
        put(PortReg.CLBU, 0),
        put(PortReg.FB, RECEIVED),
        put(PortReg.FBU, 0),
        *settle(cd=cd),
        put(PortReg.IE, ENABLED),
        Write("hba", Hba.GHC, 4, Ghc.AE | Ghc.IE),
        Wait(),
    )


def settle(*, cd: bool) -> tuple[Access, ...]:
    """Start the port, and issue two commands: the status after a reset is one thing here and another there.

    The first one ends with a unit attention condition on one side, where the device is a CD drive; the second fetches
    what sense data there are.
    """
    tasks = _nothing(cd=cd), request_sense() if cd else _nothing(cd=cd)
    do: list[Access] = []
    for one, over in zip(tasks, (Rest() if cd else _DONE, _DONE), strict=True):
        do += alone(one, SCRATCH, over)
    do += [Store(SCRATCH, bytes(SENSE)), put(PortReg.IS, -1), Write("hba", Hba.IS, 4, 0xFFFF_FFFF)]
    return *do, Store(RECEIVED, bytes(0x100))


def alone(one: Task, buffer: int, over: Access) -> tuple[Access, ...]:
    """Start the port anew, and have it do one command in the last slot, until it is `over`."""
    slot = SLOTS - 1
    table = TABLES + slot * TABLE_ROOM
    return (
        Store(table, fis(one, slot)),
        Store(table + ACMD_OFFSET, one.packet.ljust(16, b"\0")),
        Store(table + PRDT_OFFSET, PRD.pack(buffer, 0, max(one.room, 2) - 1)),
        Store(LIST + HEADER_SIZE * slot, _header(one, 1 if one.room else 0, table)),
        put(PortReg.CMD, IDLE),
        Rest(),
        put(PortReg.SERR, -1),
        put(PortReg.CMD, RUNNING),
        put(PortReg.CI, 1 << slot),
        over,
    )


def _header(one: Task, regions: int, table: int) -> bytes:
    flags = 5 | (HEADER_WRITE if one.data else 0) | (HEADER_ATAPI if one.packet else 0)
    return HEADER.pack(flags, regions, 0, table, 0)


_LOOKED_AT = (port(PortReg.CMD), port(PortReg.SERR), port(PortReg.SSTS), port(PortReg.SIG))
_DONE = Rest(Read("hba", PORTS_OFFSET + PortReg.CI, 4))


def _nothing(*, cd: bool) -> Task:
    return packet("test-unit-ready", bytes(6)) if cd else Task("flush-cache", 0xE7)


def acknowledge() -> tuple[Access, ...]:
    """Read what has come, and clear it (§5.6.2)."""
    return port(PortReg.IS), put(PortReg.IS, -1), Write("hba", Hba.IS, 4, 1), Wait()


def recover() -> tuple[Access, ...]:
    """After an error: stop, clear, start (§6.2.2.1)."""
    return (
        put(PortReg.CMD, IDLE),
        Wait(),
        put(PortReg.SERR, -1),
        put(PortReg.IS, -1),
        Write("hba", Hba.IS, 4, 1),
        put(PortReg.CMD, RUNNING),
        Wait(),
    )


@dataclass(frozen=True, slots=True)
class Issue:
    """Commands are issued together, each in a slot of its own; `pieces` is how many parts their buffers have.

    The first one is held at the drive where `held` comes, if anything.
    """

    tasks: tuple[Task, ...]
    pieces: int = 1
    held: str = ""

    def simpler(self) -> Iterator[Action]:
        """One of them, in one piece."""
        if len(self.tasks) > 1:
            yield from (replace(self, tasks=(one,)) for one in self.tasks)
        if self.pieces > 1:
            yield replace(self, pieces=1)
        if self.held:
            yield replace(self, held="")


@dataclass(slots=True)
class Lowering:
    """The driver while its actions become accesses."""

    cd: bool
    slot: int = 0
    buffer: int = BUFFERS
    sense: Sense = field(default_factory=Sense)

    def step(self, action: Action) -> Step:
        """The accesses of one action."""
        match action:
            case Issue(tasks, pieces, at):
                return self._issue(tasks, pieces, at)
            case Registers():
                if "reset" in action.tags:
                    self.sense = Sense()
                return action.step()
        raise TypeError(action)

    def _issue(self, tasks: Sequence[Task], pieces: int, at: str) -> Step:
        do: list[Access] = []
        bits = queue = 0
        for one in tasks:
            slot, self.slot = self.slot, (self.slot + 1) % SLOTS
            do += self._table(slot, one, pieces)
            bits |= 1 << slot
            queue |= 1 << slot if one.way.startswith("ncq") else 0
        begin = [*((put(PortReg.SACT, queue),) if queue else ()), put(PortReg.CI, bits)]
        received = tuple(_received(tasks))
        loose = [one for one in do if isinstance(one, Loose)]
        do += [*(received if at else ()), *held(at, begin, _LOOKED_AT, loose)]
        do += [*received, Wait(), port(PortReg.TFD), *acknowledge()]
        if any(one.fails for one in tasks):
            do += self._after_error()
        names = ", ".join(one.name for one in tasks)
        failing = ("fails",) if any(one.fails for one in tasks) else ()
        tags = {*(one.name for one in tasks), *(one.way for one in tasks), *failing}
        tags |= {"in-flight", f"held:{at}"} if at else set()
        return Step(names, tuple(do), frozenset(tags))

    def _after_error(self) -> Iterator[Access]:
        """Start the port again, and have a command end well."""
        one = request_sense() if self.cd and self.slot % 2 else _nothing(cd=self.cd)
        buffer = self._room(one.room)
        yield from alone(one, buffer, _DONE)
        yield put(PortReg.IS, -1)
        yield Write("hba", Hba.IS, 4, 0xFFFF_FFFF)
        yield from _received((one,))
        for begin, size in one.unequal:
            yield Loose("identity", buffer + begin, size)
        self.sense.done(one)
        yield Wait()

    def _room(self, length: int) -> int:
        """Where a buffer is."""
        if self.buffer + length > BUFFERS_END:
            self.buffer = BUFFERS
        at, self.buffer = self.buffer, self.buffer + length
        return at

    def _table(self, slot: int, one: Task, pieces: int) -> Iterator[Access]:
        """Command table, header and buffer of a slot."""
        at = TABLES + slot * TABLE_ROOM
        length = one.room or len(one.data)
        buffer = self._room(length)
        if length:
            yield Store(buffer, one.data or UNTOUCHED * one.room)
        for begin, size in one.unequal:
            yield Loose("identity", buffer + begin, size)
        yield from self.sense.loose(one, buffer)
        self.sense.done(one)
        yield Store(at, fis(one, slot))
        if one.packet:
            yield Store(at + ACMD_OFFSET, one.packet.ljust(16, b"\0"))
        prds = list(_cut(buffer, length, pieces)) if length else []
        yield Store(at + PRDT_OFFSET, b"".join(PRD.pack(where, 0, size - 1) for where, size in prds))
        yield Store(LIST + HEADER_SIZE * slot, _header(one, len(prds), at))


def _cut(start: int, length: int, pieces: int) -> Iterator[tuple[int, int]]:
    """A buffer in parts of even length."""
    size = max(2, length // pieces & ~1)
    end = start + length
    while pieces > 1 and end - start > size:
        yield start, size
        start += size
        pieces -= 1
    yield start, end - start


def _received(tasks: Sequence[Task]) -> Iterator[Loose]:
    """What of received FISes is not compared; see the masks."""
    for at in (D2H, PIO_SETUP):
        if not any(one.packet for one in tasks):
            for begin, size in ((4, 3), (8, 3), (12, 2)):
                yield Loose("fis-address", RECEIVED + at + begin, size)
    for ours in (b"\x50", b"\xd0"):
        yield Loose("pio-status", RECEIVED + PIO_SETUP + 15, 1, values=(ours, b"\x58"))
    if any(one.way.startswith("ncq") for one in tasks):
        yield Loose("dma-setup", RECEIVED, 0x1C)
    if any(one.way == "pio-in" for one in tasks):
        yield Loose("pio-end", RECEIVED + D2H, 20)
        yield Loose("pio-direction", RECEIVED + PIO_SETUP + 1, 1, values=(b"\x60", b"\x40"))
    if any(one.fails for one in tasks):
        yield Loose("DSC", RECEIVED + D2H + 2, 1, values=(b"\x51", b"\x41"))
        refused = tasks[0].packet
        mask, errors = ("packet-abort", (b"\x54", b"\x50")) if refused else ("beyond", (b"\x10", b"\x04"))
        yield Loose(mask, RECEIVED + D2H + 3, 1, values=errors)
    if len(tasks) > 1:
        yield Loose("order", RECEIVED + SDB + 4, 4)


def fis(one: Task, slot: int) -> bytes:
    """The register FIS of a command (Serial ATA 3.2 §10.5.5)."""
    features, count = one.features, one.count
    if one.way.startswith("ncq"):
        features, count = one.count, slot << 3
    low, high = one.lba & 0xFF_FFFF, one.lba >> 24 & 0xFF_FFFF
    device = one.device
    if one.command in (0x20, 0x30, 0x40, 0xC8, 0xCA):
        device |= one.lba >> 24 & 0xF
        high = 0
    return struct.pack(
        "<BBBB3sB3sBHBBxxxx",
        FIS_H2D,
        0x80,
        one.command,
        features & 0xFF,
        low.to_bytes(3, "little"),
        device,
        high.to_bytes(3, "little"),
        features >> 8,
        count,
        0,
        0,
    )


class AhciGrammar:
    """Actions for a port with a disk, or with a CD drive."""

    def __init__(self, *, cd: bool = False) -> None:
        self._cd = cd

    def sequence(self, random: Random, length: int) -> list[Action]:
        """`length` actions of any kind."""
        makers, weights = zip(*ACTIONS, strict=True)
        table = CD if self._cd else DISK
        chosen = random.choices(makers, weights, k=length)
        return [maker(random, table) for maker in chosen]

    def lower(self, actions: Sequence[Action]) -> list[Step]:
        """Their steps."""
        driver = Lowering(self._cd)
        return [driver.step(action) for action in actions]


def issue(random: Random, table: Table) -> Issue:
    """One command."""
    one = task(random, table)
    return Issue((one,), random.choice((1, 1, 2, 3, 5)), event(one) if random.random() < OFTEN else "")


def issue_queued(random: Random, table: Table) -> Issue:
    """One to three queued commands, where there are such."""
    if table is CD:
        return issue(random, table)
    tasks = [queued(random) for _ in range(random.choice((1, 1, 2, 3)))]
    # What overlaps could be done in any order.
    lba = 0
    placed = []
    for one in tasks:
        placed.append(replace(one, lba=lba + one.lba % 600))
        lba += 680
    return Issue(tuple(placed), random.choice((1, 2, 3)))


def read_registers(random: Random, _: Table) -> Registers:
    """Registers of the HBA and of its port."""
    some: list[Access] = [port(register) for register in random.sample([*PortReg], 4)]
    some += [Read("hba", register, 4) for register in random.sample((Hba.GHC, Hba.IS, Hba.PI), 2)]
    return Registers("read registers", tuple(some))


def interrupts(random: Random, _: Table) -> Registers:
    """Interrupts are enabled, or not (§3.1.2, §3.3.6)."""
    if random.random() < 0.5:
        ghc = Write("hba", Hba.GHC, 4, Ghc.AE | random.choice((0, Ghc.IE, Ghc.IE)))
        return Registers("write GHC", (ghc, Read("hba", Hba.GHC, 4)))
    return Registers("write PxIE", (put(PortReg.IE, random.choice((0, ENABLED, ENABLED))), port(PortReg.IE)))


def stop(_: Random, __: Table) -> Registers:
    """The port is stopped and started."""
    return Registers("stop and start", (put(PortReg.CMD, IDLE), Wait(), port(PortReg.CMD), *recover()))


def comreset(_: Random, table: Table) -> Registers:
    """COMRESET (§10.4.2)."""
    link = put(PortReg.SCTL, 0x301), put(PortReg.SCTL, 0x300), Rest(), port(PortReg.SSTS), port(PortReg.SIG)
    return Registers("COMRESET", (put(PortReg.CMD, IDLE), Wait(), *link, *settle(cd=table is CD)), tags=RESET)


def reset(_: Random, table: Table) -> Registers:
    """The HBA is reset (§10.4.3)."""
    return Registers("HBA reset", start(cd=table is CD), tags=RESET)


ACTIONS: tuple[tuple[Callable[[Random, Table], Action], float], ...] = (
    (issue, 30),
    (issue_queued, 10),
    (read_registers, 5),
    (interrupts, 2),
    (stop, 1),
    (comreset, 1),
    (reset, 1),
)
