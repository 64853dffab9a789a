"""Random sequences for one channel of a PIIX IDE function with its bus master (ATA/ATAPI-7 vol. 2, SFF-8038i)."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeAlias

from guestsim.diff.access import Access, Loose, Read, Rest, Step, Store, Wait, Write
from guestsim.diff.arena import ARENA, ARENA_SIZE
from guestsim.diff.grammar import Action
from guestsim.diff.grammar.ata import DATA_SET_MANAGEMENT, LBA28, SECTOR, Table, Task, task
from guestsim.diff.grammar.ata_disk import DISK
from guestsim.diff.grammar.ata_held import OFTEN, STOPPED_HELD, event, held, stopped
from guestsim.diff.grammar.packets import SENSE, Sense, apart, by_dma, request_sense
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.grammar.taskfile import ABSENT, Block, Blocks
from guestsim.drivers.ide_layouts import (
    DEV,
    EOT,
    OBSOLETE,
    START,
    TO_MEMORY,
    BmStatus,
    BusMaster,
    Control,
    Reg,
)

TABLES = ARENA + 0x1000
BUFFERS, BUFFERS_END = ARENA + 0x2_0000, ARENA + ARENA_SIZE
UNTOUCHED = b"\xee"

ALTERNATE = Read("control", 0, 1)
MASTER = Read("master", BusMaster.STATUS, 1)
FEATURES, COMMAND = Reg.ERROR, Reg.STATUS
"""What these are when they are written."""


def reg(register: Reg) -> Read:
    """Read a register of the command block."""
    return Read("ide", register, 1)


def put(register: Reg, value: int) -> Write:
    """Write a register of the command block."""
    return Write("ide", register, 1, value & 0xFF)


def words(data: bytes) -> Iterator[Write]:
    """Write the data register."""
    for (value,) in struct.iter_unpack("<I", data):
        yield Write("ide", Reg.DATA, 4, value)


def quiet() -> tuple[Access, ...]:
    """Read the status, which takes the interrupt back, and stop and clear the bus master."""
    clear = Write("master", BusMaster.STATUS, 1, BmStatus.ERROR | BmStatus.INTERRUPT)
    return reg(Reg.STATUS), Write("master", BusMaster.COMMAND, 1, 0), clear, Wait()


def start(*, cd: bool) -> tuple[tuple[Access, ...], tuple[Access, ...]]:
    """A software reset, and what settles it: a CD drive has a unit attention condition on one side."""
    reset = (
        Write("master", BusMaster.COMMAND, 1, 0),
        Write("control", 0, 1, Control.SRST),
        Rest(),
        Write("control", 0, 1, 0),
        Rest(),
    )
    do: list[Access] = [put(Reg.DEVICE, OBSOLETE)]
    if cd:
        do += [put(FEATURES, 0), put(COMMAND, PACKET), Rest(), *words(bytes(12)), Rest()]
        fetch = request_sense()
        do += [put(FEATURES, 0), put(Reg.LBA_MID, SENSE), put(Reg.LBA_HIGH, 0), put(COMMAND, PACKET), Rest()]
        do += [*words(fetch.packet), Rest(), *[Read("identity", 0, 2)] * (SENSE // 2), Rest()]
    else:
        do += [put(COMMAND, FLUSH), Rest(), Rest(ALTERNATE)]
    status = reg(Reg.STATUS)
    settled = *do, Rest(ALTERNATE), Write("control", 0, 1, 0), *(() if cd else (status,)), *quiet()
    return reset, settled


def begin(*, cd: bool) -> tuple[Access, ...]:
    """Both."""
    reset, settled = start(cd=cd)
    return *reset, *settled


PACKET, FLUSH = 0xA0, 0xE7
Makers: TypeAlias = tuple[tuple[Callable[[Random, Table], Action], float], ...]


@dataclass(frozen=True, slots=True)
class Issue:
    """A command; `pieces` is how many parts its buffer has, where it is for the bus master.

    It is held at the drive where `held` comes, if anything.  `unit` is the number of the device that is to do it,
    `table` what is odd about the bus master's (`ide_tables`).
    """

    task: Task
    pieces: int = 1
    held: str = ""
    unit: int = 0
    table: str = ""

    def simpler(self) -> Iterator[Action]:
        """In one piece."""
        if self.pieces > 1:
            yield replace(self, pieces=1)
        if self.held:
            yield replace(self, held="")


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A command that is stopped by what `STOPS` say, after so many words of its data; then it is done again."""

    issue: Issue
    how: str
    words: int

    def simpler(self) -> Iterator[Action]:
        """The command alone, one in one piece, one stopped at once."""
        yield self.issue
        if self.issue.pieces > 1:
            yield replace(self, issue=replace(self.issue, pieces=1))
        if self.issue.held:
            yield replace(self, issue=replace(self.issue, held=""))
        if self.words:
            yield replace(self, words=0)


STOPS: dict[str, tuple[Access, ...]] = {
    "software reset": (Write("control", 0, 1, Control.SRST),),
    "bus master stopped": (Write("master", BusMaster.COMMAND, 1, 0), Rest()),
    "no bus master": (Write("pci", 4, 2, 0x0001), Rest(), Write("pci", 4, 2, 0x0005)),
}
"""What stops a command; a software reset follows (ATA/ATAPI-7 vol. 2 §11.3, SFF-8038i §2.3)."""


@dataclass(slots=True)
class Lowering:
    """The driver while its actions become accesses."""

    cd: bool
    buffer: int = BUFFERS
    sense: Sense = field(default_factory=Sense)
    pair: bool = False
    units: list[Blocks] = field(init=False)
    """What both devices hold."""
    unit: int = 0
    """Which one is selected."""
    control: int = 0
    """What was written to device control."""

    def __post_init__(self) -> None:
        self.units = _both(pair=self.pair)

    def step(self, action: Action) -> Step:
        """The accesses of one action."""
        match action:
            case Issue(one, pieces, at, unit):
                self.unit = unit
                tags = {one.name, one.way, *(("fails",) if one.fails else ())}
                tags |= {"in-flight", f"held:{at}"} if at else set()
                tags |= {f"{one.alone}-alone"} if one.alone else set()
                return Step(one.name, tuple(self._all(one, pieces, at)), frozenset(tags))
            case Interrupted(Issue(one, _, at, unit) as issued, how, count):
                self.unit = unit
                tags = {one.name, one.way, "interrupted", how, *(("fails",) if one.fails else ())}
                tags |= {"in-flight", f"held:{at}"} if at else set()
                name, do = f"{one.name}; {how}", tuple(self._interrupted(issued, how, count))
                return Step(name, do, frozenset(tags))
            case Registers():
                return self._any(action)
        raise TypeError(action)

    def _any(self, action: Registers) -> Step:
        """Registers as they are, or a reset."""
        if "reset" in action.tags:
            return Step(action.name, tuple(self._reset()), action.tags)
        if "absent" in action.tags:
            return Step(action.name, tuple(self._absent()), action.tags)
        for one in action.accesses:
            if isinstance(one, Write) and one.window == "control":
                self.control = one.value
            elif isinstance(one, Write) and one.window == "ide":
                self._put(Reg(one.offset), one.value)
        return action.step()

    def _reset(self) -> Iterator[Access]:
        """A software reset, and what registers hold after it."""
        before, after = start(cd=self.cd)
        yield from before
        self._was_reset()
        yield from self._look()
        yield from after

    def _absent(self) -> Iterator[Access]:
        """For device 1, which is not there, ours answers with what device 0 has, QEMU with registers of its own."""
        yield self._put(Reg.DEVICE, OBSOLETE | DEV)
        looks = Blocks(self.units[0].ours, self.units[1].theirs, ABSENT).look()
        of_either = [each if each.but is None else replace(each, as_qemu=each.but[2]) for each in looks]
        do: list[Access] = [
            ALTERNATE,
            reg(Reg.STATUS),
            *of_either,
            put(COMMAND, FLUSH),
            Wait(),
            *of_either,
            ALTERNATE,
        ]
        yield from do
        yield self._put(Reg.DEVICE, OBSOLETE)
        yield Wait()

    def _was_reset(self) -> None:
        self.sense = Sense()
        self.units, self.unit = _both(pair=self.pair), 0
        self.control = 0

    def _look(self) -> Iterator[Access]:
        """Read count, address and device, the current content and the previous one."""
        if self.cd:
            self.units = _both(pair=False)
        yield from self.blocks.look()
        yield Write("control", 0, 1, self.control | Control.HOB)
        yield from self.blocks.look(previous=True)
        yield Write("control", 0, 1, self.control)

    def _put(self, register: Reg, value: int) -> Write:
        """Write a register of the command block, which both devices have."""
        for each in self.units:
            each.put(register, value)
        return put(register, value)

    @property
    def blocks(self) -> Blocks:
        """What the selected device holds."""
        return self.units[self.unit]

    def _other(self) -> Iterator[Access]:
        """What the other device holds now, too."""
        mine = self.unit
        for self.unit in (1 - mine, mine):
            yield self._put(Reg.DEVICE, OBSOLETE | self.unit << 4)
            yield from (ALTERNATE, replace(reg(Reg.ERROR), but=self.blocks.error))
            yield from self._look()

    def _all(self, one: Task, pieces: int, stop: str) -> Iterator[Access]:
        """A command with those that come before it and after it."""
        for other in one.before:
            yield from self._issue(other, 1, "")
        yield from self._issue(one, pieces, stop)
        for other in one.after:
            yield from self._issue(other, 1, "")

    def _issue(self, one: Task, pieces: int, stop: str) -> Iterator[Access]:
        master = one.way.startswith("dma")
        at = self._room(one.room or len(one.data)) if master else 0
        if master:
            yield from self._table(one, pieces, at)
        yield from held("" if master else stop, [*self._registers(one)], (ALTERNATE, MASTER))
        # A transfer that cannot be is refused at once, or when its data are to come.
        yield Rest() if one.fails and master else Wait()
        if master:
            go = Write("master", BusMaster.COMMAND, 1, (0 if one.data else TO_MEMORY) | START)
            yield from held(stop, (go,), (ALTERNATE, MASTER))
            for begin, size in one.unequal:
                yield Loose("identity", at + begin, size)
            yield Wait()
            yield MASTER
        yield Wait()
        if one.fails:
            self.blocks.failed(one)
        else:
            if one.way.startswith("pio"):
                yield from self._blocks(one)
            self.blocks.ended(one)
        yield from (ALTERNATE, reg(Reg.ERROR))
        yield from self._look()
        yield from quiet()
        if self.pair:
            yield from self._other()

    def _interrupted(self, issue: Issue, how: str, count: int) -> Iterator[Access]:
        """The transfer has begun, and nothing is waited for between there and what stops it."""
        one, pieces, stop, unit = issue.task, issue.pieces, issue.held, issue.unit
        master = one.way.startswith("dma") or (one.way == "packet" and bool(one.features))
        at = self._room(one.room or len(one.data)) if master else 0
        if master:
            yield from self._table(one, pieces, at)
        begin: list[Access] = [*self._registers(one)]
        if one.way == "packet":
            begin += [Rest(), reg(Reg.STATUS), reg(Reg.COUNT), *words(one.packet)]
        if master:
            yield from begin
            begin = [Write("master", BusMaster.COMMAND, 1, (0 if one.data else TO_MEMORY) | START)]
        if stop:
            by_pio = one.way == "packet" and not master
            yield from stopped(stop, begin, (ALTERNATE, MASTER), STOPS[how], waits=not by_pio)
        else:
            yield from begin
            yield from self._some(one, count)
            yield from STOPS[how]
        yield from [*self._reset()][:-1]
        if one.room and master:
            yield Loose("interrupted", at, one.room)
        yield Wait()
        self.unit = unit
        yield from self._all(one, pieces, "")

    def _some(self, one: Task, count: int) -> Iterator[Access]:
        """So many words of what goes by PIO."""
        if count and one.way.startswith("pio"):
            yield from (Wait(), reg(Reg.STATUS))
            data = (
                [Read("identity" if one.unequal else "data", 0, 4)] * count if one.room else words(one.data)
            )
            yield from itertools.islice(data, count)

    def _registers(self, one: Task) -> Iterator[Access]:
        """The command block, for 48 bits of address with the previous content first (ATA/ATAPI-7 vol. 1 §6.17)."""
        lba, device = one.registers
        yield self._put(Reg.DEVICE, OBSOLETE | device | self.unit << 4)
        if one.command not in LBA28 and one.way != "packet":
            yield from (put(FEATURES, one.features >> 8), self._put(Reg.COUNT, one.count >> 8))
            yield from self._address(lba >> 24)
        yield from (put(FEATURES, one.features), self._put(Reg.COUNT, one.count))
        yield from self._address(lba)
        yield put(COMMAND, one.command)

    def _address(self, lba: int) -> Iterator[Access]:
        for at, shift in ((Reg.LBA_LOW, 0), (Reg.LBA_MID, 8), (Reg.LBA_HIGH, 16)):
            yield self._put(at, lba >> shift)

    def _blocks(self, one: Task) -> Iterator[Access]:
        """The data of a PIO command, sector by sector, with a look at the registers between."""
        length = one.room or len(one.data)
        own = {at // 4 for begin, size in one.unequal for at in range(begin, begin + size)}
        block = one.block * SECTOR
        for at in range(0, length, block):
            yield reg(Reg.STATUS)
            end = min(at + block, length)
            if one.data:
                yield from words(one.data[at:end])
            else:
                yield from (
                    Read("identity" if word in own else "data", 0, 4) for word in range((end - at) // 4)
                )
            yield Wait()
            if end < length:
                # A block that is to be read has gone already.
                self.blocks.moved(one, (end if one.data else min(end + block, length)) // SECTOR)
                yield from self._look()

    def _room(self, length: int) -> int:
        """Where a buffer is, on a word's boundary (SFF-8038i §1.2)."""
        length += length & 1
        if self.buffer + length > BUFFERS_END:
            self.buffer = BUFFERS
        at, self.buffer = self.buffer, self.buffer + length
        return at

    def _table(self, one: Task, pieces: int, buffer: int) -> Iterator[Access]:
        """Buffer and table of regions, none of which has more than 64 KiB (SFF-8038i §1.2)."""
        length = one.room or len(one.data)
        pieces = max(pieces, length // 0x1_0000)
        yield Store(buffer, one.data or UNTOUCHED * one.room)
        size = max(2, length // pieces & ~1)
        table = b""
        for number in range(pieces):
            last = number == pieces - 1 or length <= size
            part = length if last else size
            table += struct.pack("<II", buffer, (part & 0xFFFF) | (EOT if last else 0))
            buffer, length = buffer + part, length - part
            if last:
                break
        yield Store(TABLES, table)
        yield Write("master", BusMaster.TABLE, 4, TABLES)
        yield Write("master", BusMaster.COMMAND, 1, 0 if one.data else TO_MEMORY)


def _both(*, pair: bool) -> list[Blocks]:
    """What two devices hold after a reset; QEMU's second one, where there is none, has a signature of nothing."""
    return [Blocks(), Blocks() if pair else Blocks(theirs=Block(1, 0xFFFF01))]


class IdeGrammar:
    """Actions for a channel with a disk or a CD drive, or a `pair` of disks, and `more` of them."""

    def __init__(
        self,
        table: Table = DISK,
        lowering: type[Lowering] = Lowering,
        more: Makers = (),
        *,
        pair: bool = False,
    ) -> None:
        self._table, self._pair = table, pair
        self._cd = table is not DISK
        self._actions = (*(ACTIONS if pair or self._cd else ALONE), *more)
        self._lowering = lowering

    def sequence(self, random: Random, length: int) -> list[Action]:
        """`length` actions of any kind."""
        makers, weights = zip(*self._actions, strict=True)
        chosen = random.choices(makers, weights, k=length)
        made = [maker(random, self._table) for maker in chosen]
        return [_on(random.randrange(2), one) for one in made] if self._pair else made

    def lower(self, actions: Sequence[Action]) -> list[Step]:
        """Their steps."""
        driver = self._lowering(self._cd, pair=self._pair)
        return [driver.step(action) for action in actions]


def _on(unit: int, action: Action) -> Action:
    """The same for that device.  Only device 0 is one at which requests can be held."""
    match action:
        case Issue():
            return replace(action, unit=unit, held="" if unit else action.held)
        case Interrupted(one, how) if how == "software reset" and one.task.way.startswith("dma"):
            # QEMU 7.2 ends with it, where there are two devices.
            return replace(one, unit=unit, held="" if unit else one.held)
        case Interrupted(one):
            return replace(action, issue=replace(one, unit=unit, held="" if unit else one.held))
    return action


def issue(random: Random, table: Table) -> Issue:
    """One command; by PIO with few sectors."""
    one = task(random, table)
    if one.replies is not None and any(reply.length & 1 for reply in one.replies):
        # A region has whole words.
        one = replace(one, features=0)
    most = random.choice((1, 1, 1, 2))
    if one.way == "pio-in" and not one.unequal and not one.fails:
        most *= min(one.block, 2)
        one = replace(one, count=min(one.count, most), room=min(one.room, most * SECTOR))
    if one.way == "pio-out":
        one = replace(one, count=min(one.count, most), data=one.data[: most * SECTOR])
    return Issue(one, random.choice((1, 1, 2, 3)), event(one) if random.random() < OFTEN else "")


def read_registers(random: Random, _: Table) -> Registers:
    """Registers that show the same whatever was done."""
    some: list[Access] = [ALTERNATE, reg(Reg.STATUS), MASTER, Read("master", BusMaster.COMMAND, 1)]
    return Registers("read registers", tuple(random.sample(some, 3)))


def interrupts(random: Random, _: Table) -> Registers:
    """nIEN is set, or cleared (ATA/ATAPI-7 vol. 2 §5.5)."""
    return Registers(
        "write device control", (Write("control", 0, 1, random.choice((0, 0, Control.NIEN))), ALTERNATE)
    )


def reset(_: Random, table: Table) -> Registers:
    """A software reset (ATA/ATAPI-7 vol. 2 §11.3)."""
    return Registers("software reset", begin(cd=table is not DISK), tags=frozenset({"reset"}))


def _not_stopped(one: Task) -> bool:
    """Whether it is left out of what is stopped."""
    if one.replies is not None:
        return one.fails or apart(one) or not (by_dma(one) or event(one))
    return not one.alike or one.command == DATA_SET_MANAGEMENT


def interrupted(random: Random, table: Table) -> Interrupted:
    """A command that does not get to its end."""
    one = replace(issue(random, table), held="")
    # In a reset QEMU waits for ever for ranges that are trimmed.
    while _not_stopped(one.task):
        one = replace(issue(random, table), held="")
    by_pio = one.task.replies is not None and not by_dma(one.task)
    if by_pio or random.random() < STOPPED_HELD:
        one = replace(one, held=event(one.task))
    return Interrupted(one, random.choice([*STOPS]), random.choice((0, 1, 64, 127, 128)))


def absent(_: Random, __: Table) -> Registers:
    """Device 1 is selected, and given a command, where there is none (ATA/ATAPI-6 §9.16.1)."""
    return Registers("absent device", (), tags=frozenset({"absent"}))


ACTIONS: Makers = (
    (issue, 30),
    (read_registers, 4),
    (interrupts, 2),
    (reset, 1),
    (interrupted, 2),
)
ALONE = (*ACTIONS, (absent, 1))
