"""How commands for a port of an AHCI HBA, and what stops them, become accesses (AHCI 1.3.1)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from guestsim.diff.access import Access, Break, Held, Loose, Rest, Resume, Step, Store, Wait, Write
from guestsim.diff.arena import MESSAGES, MESSAGES_SIZE
from guestsim.diff.grammar import Action
from guestsim.diff.grammar.ahci_port import (
    BUFFERS,
    BUFFERS_END,
    DONE,
    IDLE,
    LIST,
    RECEIVED,
    RUNNING,
    SLOTS,
    TABLE_ROOM,
    TABLES,
    acknowledge,
    alone,
    issued,
    nothing,
    port,
    put,
    settle,
    start,
    table_of,
)
from guestsim.diff.grammar.ata import Task
from guestsim.diff.grammar.ata_held import TAGS, event, held, stopped
from guestsim.diff.grammar.packets import MEDIUM, Sense, by_dma, even, last_of_pio, request_sense
from guestsim.diff.grammar.packets import loose as packet_loose
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.grammar.taskfile import Block, Blocks
from guestsim.drivers.ahci_layouts import (
    D2H,
    FIS_H2D,
    HEADER,
    HEADER_CLEAR_BUSY,
    HEADER_RESET,
    HEADER_SIZE,
    PIO_SETUP,
    SDB,
    Cmd,
    Ghc,
    Hba,
    PortReg,
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


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Commands that are stopped while they run, by what `STOPS` or a software reset do; then they are done again."""

    issue: Issue
    how: str

    def simpler(self) -> Iterator[Action]:
        """Fewer commands, or none that is stopped."""
        yield self.issue
        for one in self.issue.simpler():
            assert isinstance(one, Issue)
            yield replace(self, issue=one)


@dataclass(frozen=True, slots=True)
class HeldTogether:
    """Queued commands that are issued one after the other, are all held at the drive, and go on in this `order`."""

    tasks: tuple[Task, ...]
    order: tuple[int, ...]

    def simpler(self) -> Iterator[Action]:
        """Fewer of them, or all as they were issued."""
        for gone in range(len(self.tasks)) if len(self.tasks) > 1 else ():
            tasks = (*self.tasks[:gone], *self.tasks[gone + 1 :])
            order = tuple(at - (at > gone) for at in self.order if at != gone)
            yield HeldTogether(tasks, order)
        if list(self.order) != sorted(self.order):
            yield replace(self, order=tuple(sorted(self.order)))


_LOOKED_AT = (port(PortReg.CMD), port(PortReg.SERR), port(PortReg.SSTS), port(PortReg.SIG))
SOFTWARE_RESET = "software reset"
_LINK = put(PortReg.SCTL, 0x301), put(PortReg.SCTL, 0x300)
STOPS: dict[str, tuple[Access, ...]] = {
    "COMRESET": (put(PortReg.CMD, IDLE), *_LINK),
    "HBA reset": (Write("hba", Hba.GHC, 4, Ghc.AE | Ghc.HR),),
    "stop": (put(PortReg.CMD, IDLE), Rest(), port(PortReg.CI), port(PortReg.SACT), *_LINK),
    "no bus master": (Write("pci", 4, 2, 0x0003), Rest(), Write("pci", 4, 2, 0x0007), *_LINK),
}
"""What stops commands, and leaves a device that is about to come back (§3.1.2, §3.3.7, §10.4.2, §10.4.3)."""


def _ended(bits: int, queue: int, *, linked: bool) -> Iterator[Access]:
    """What is issued after it was stopped: all still, where it was by COMRESET alone (§3.3.13, §3.3.14)."""
    for register, ours in ((PortReg.CI, bits & ~queue), (PortReg.SACT, queue)):
        yield replace(port(register), but=("issued", ours, 0) if linked and ours else None)


SETTLED = Block(0, 0, 0x40).fields
"""What FLUSH CACHE has left, of a port that is settled."""


@dataclass(slots=True)
class Lowering:
    """The driver while its actions become accesses."""

    cd: bool
    slot: int = 0
    buffer: int = BUFFERS
    sense: Sense = field(default_factory=Sense)
    shown: bytes = SETTLED
    """Count and address of the last command that was not queued, as QEMU's device has them."""

    def step(self, action: Action) -> Step:
        """The accesses of one action."""
        match action:
            case Issue(tasks, pieces, at):
                return self._all(tasks, pieces, at)
            case Interrupted(issue, how):
                return self._interrupted(issue, how)
            case HeldTogether():
                return self._held_together(action)
            case Registers():
                if "reset" in action.tags:
                    self._was_reset()
                return action.step()
        raise TypeError(action)

    def _all(self, tasks: Sequence[Task], pieces: int, at: str) -> Step:
        """Commands with those that come before and after them."""
        before = [self._issue((other,), 1, "") for one in tasks for other in one.before]
        step = self._issue(tasks, pieces, at)
        after = [self._issue((other,), 1, "") for one in tasks for other in one.after]
        parts = *before, step, *after
        return replace(step, accesses=tuple(access for part in parts for access in part.accesses))

    def _issue(self, tasks: Sequence[Task], pieces: int, at: str) -> Step:
        do: list[Access] = [Store(RECEIVED, bytes(0x60))]
        bits = queue = 0
        for one in tasks:
            slot, buffer = self._slot(), self._room(one.room or len(one.data))
            do += table_of(slot, even(one), pieces, buffer)
            for begin, size in one.unequal:
                do.append(Loose("identity", buffer + begin, size))
            if one.packet:
                do += packet_loose(one, self.sense, buffer)
            self.sense.done(one)
            bits |= 1 << slot
            queue |= 1 << slot if one.way.startswith("ncq") else 0
        loosened = *received(tasks), *self._shown(tasks)
        loose = [one for one in do if isinstance(one, Loose)]
        do += [*(loosened if at else ()), *held(at, [*issued(bits, queue)], _LOOKED_AT, loose)]
        do += [*loosened, Wait(), port(PortReg.TFD), *acknowledge()]
        if any(one.fails or one.alone for one in tasks):
            do += self._after_error()
        names = ", ".join(one.name for one in tasks)
        failing = ("fails",) if any(one.fails for one in tasks) else ()
        tags = {*(one.name for one in tasks), *(one.way for one in tasks), *failing}
        tags |= {"in-flight", f"held:{at}"} if at else set()
        tags |= {f"{one.alone}-alone" for one in tasks if one.alone}
        return Step(names, tuple(do), frozenset(tags))

    def _held_together(self, action: HeldTogether) -> Step:
        """Which of them are over shows each time that one of them has gone on (§5.4.1)."""
        tasks = action.tasks
        do: list[Access] = [Store(RECEIVED, bytes(0x60))]
        bits: list[int] = []
        for one in tasks:
            slot = self._slot()
            do += table_of(slot, one, 1, self._room(one.room or len(one.data)))
            bits.append(1 << slot)
        loose = [*(each for one in tasks for each in received((one,))), *self._shown(tasks)]
        for one, bit, tag in zip(tasks, bits, TAGS, strict=False):
            do += [Break(event(one), tag), *issued(bit, bit), Held(tag)]
        issue = port(PortReg.CI), port(PortReg.SACT)
        do += [*loose, Wait(), *issue, *_LOOKED_AT]
        for at in action.order:
            do += [Resume(TAGS[at]), *loose, Wait(), *issue, *acknowledge()]
        names = ", ".join(one.name for one in tasks)
        tags = {*(one.name for one in tasks), *(one.way for one in tasks), "in-flight", "held-together"}
        order = ", ".join(TAGS[at] for at in action.order)
        return Step(f"held together: {names}; then {order} go on", tuple(do), frozenset(tags))

    def _interrupted(self, issue: Issue, how: str) -> Step:
        """Nothing is stored between the issue and what stops it: nothing has ended by then, on either side."""
        do: list[Access] = []
        # Some end as soon as they are issued, on one side or on both.
        loose = [Loose("interrupted", MESSAGES, MESSAGES_SIZE)]
        bits = queue = 0
        for one in issue.tasks:
            slot, buffer = self._slot(), self._room(one.room or len(one.data))
            do += table_of(slot, one, issue.pieces, buffer)
            loose.append(Loose("interrupted", LIST + HEADER_SIZE * slot + 4, 4))
            loose += [Loose("interrupted", buffer, one.room)] * bool(one.room)
            bits |= 1 << slot
            queue |= 1 << slot if one.way.startswith("ncq") else 0
        at = issue.held
        # QEMU forgets those, and does not wait for them.
        by_pio = bool(at and issue.tasks[0].packet and not by_dma(issue.tasks[0]))
        shown = [*received(issue.tasks), *self._shown(issue.tasks)] if at else []
        ended = _ended(bits, queue, linked=how == "no bus master")
        if how == SOFTWARE_RESET:
            stores, stop = self._software_reset()
            do += stores
        else:
            stop = STOPS[how]
        if at and how == SOFTWARE_RESET:
            # It may begin when PxCMD.CR is 0: what is held has gone on by then (§10.4.1).
            do += stopped(at, issued(bits, queue), _LOOKED_AT, (put(PortReg.CMD, IDLE),), ended, shown)
            do += [Rest(), port(PortReg.CMD), *stop]
        else:
            do += stopped(at, issued(bits, queue), _LOOKED_AT, stop, ended, shown, waits=not by_pio)
        do.append(Rest())
        do += start(cd=self.cd)[:-1] if how == "HBA reset" else settle(cd=self.cd)
        do += [*loose, Wait()]
        if queue and how == "HBA reset":
            done = sum(1 << (self.slot + number) % SLOTS for number in range(len(issue.tasks)))
            told = done.to_bytes(4, "little"), (done | queue).to_bytes(4, "little")
            do.append(Loose("dropped", RECEIVED + SDB + 4, 4, values=told))
        self._was_reset()
        again = self._all(issue.tasks, issue.pieces, "")
        tags = again.tags | {"interrupted", how} | ({"in-flight", f"held:{at}"} if at else set())
        return Step(f"{again.name}; {how}", (*do, *again.accesses), tags)

    def _software_reset(self) -> tuple[list[Access], tuple[Access, ...]]:
        """What is to be stored, and what resets: SRST set, and cleared, in a port that is idle (§10.4.1)."""
        first, second = self._slot(), self._slot()
        stores: list[Access] = []
        for slot, control in ((first, 0x04), (second, 0)):
            at = TABLES + slot * TABLE_ROOM
            flags = 5 | (HEADER_RESET | HEADER_CLEAR_BUSY if control else 0)
            stores.append(Store(at, bytes((FIS_H2D, *bytes(14), control, *bytes(4)))))
            stores.append(Store(LIST + HEADER_SIZE * slot, HEADER.pack(flags, 0, 0, at, 0)))
        idle = put(PortReg.CMD, IDLE), put(PortReg.CMD, IDLE | Cmd.CLO), put(PortReg.CMD, RUNNING)
        return stores, (*idle, put(PortReg.CI, 1 << first), Rest(), put(PortReg.CI, 1 << second), Rest())

    def _was_reset(self) -> None:
        """It was reset, and settled after that."""
        self.sense, self.shown = Sense(), SETTLED

    def _shown(self, tasks: Sequence[Task]) -> Iterator[Loose]:
        """The FIS that accepts a queued command: here with its count and address, there with those before it."""
        one = tasks[-1]
        if one.way.startswith("ncq"):
            # Where the port was when they were issued says which of them is taken last.
            for slot, last in enumerate(tasks, self.slot - len(tasks)):
                values = Block(slot % SLOTS << 3, last.lba, last.device).fields, self.shown
                yield Loose("accepted", RECEIVED + D2H + 4, 10, values=values)
        elif one.fails or one.alone:
            self.shown = SETTLED
        else:
            end = Blocks.of_fis(one)
            end.ended(one)
            self.shown = end.theirs.fields

    def _slot(self) -> int:
        """The next one."""
        slot, self.slot = self.slot, (self.slot + 1) % SLOTS
        return slot

    def _after_error(self) -> Iterator[Access]:
        """Start the port again, and have a command end well."""
        one = request_sense() if self.cd and self.slot % 2 else nothing(cd=self.cd)
        buffer = self._room(one.room)
        yield from alone(one, buffer, DONE)
        yield put(PortReg.IS, -1)
        yield Write("hba", Hba.IS, 4, 0xFFFF_FFFF)
        yield from received((one,))
        if one.packet:
            yield from packet_loose(one, self.sense, buffer)
        self.sense.done(one)
        yield Wait()

    def _room(self, length: int) -> int:
        """Where a buffer is, on a word's boundary (§4.2.3.3)."""
        length += length & 1
        if self.buffer + length > BUFFERS_END:
            self.buffer = BUFFERS
        at, self.buffer = self.buffer, self.buffer + length
        return at


ENDED = b"\x34\x40\x50\x00"
"""A register FIS with an interrupt, of a command that has ended well on QEMU."""


def _fields(one: Task) -> Iterator[Loose]:
    """Count and address in the FISes of a command of sectors: they go on with them on QEMU."""
    end = Blocks.of_fis(one)
    if one.fails:
        end.failed(one)
    else:
        before = Blocks.of_fis(one)
        last = (one.number - 1) % one.block + 1
        before.moved(one, one.number - last * bool(one.data))
        end.ended(one)
        yield from _unequal(before, PIO_SETUP)
    yield from _unequal(end, D2H)
    if one.way == "pio-in" and not one.fails:
        theirs = (ENDED + end.theirs.fields).ljust(20, b"\0")
        yield Loose("pio-end", RECEIVED + D2H, 20, values=(bytes(20), theirs))


def _unequal(end: Blocks, at: int) -> Iterator[Loose]:
    if end.ours != end.theirs:
        values = end.ours.fields, end.theirs.fields
        yield Loose(end.why, RECEIVED + at + 4, 10, values=values)


def received(tasks: Sequence[Task]) -> Iterator[Loose]:
    """What of received FISes is not compared; see the masks."""
    for one in tasks:
        yield from _fields(one)
    for ours in (b"\x50", b"\xd0"):
        yield Loose("pio-status", RECEIVED + PIO_SETUP + 15, 1, values=(ours, b"\x58"))
    if any(one.way.startswith("ncq") for one in tasks):
        yield Loose("dma-setup", RECEIVED, 0x1C)
    if any(one.way == "pio-in" or (one.packet and one.room) for one in tasks):
        yield Loose("pio-direction", RECEIVED + PIO_SETUP + 1, 1, values=(b"\x60", b"\x40"))
    for one in tasks:
        if one.name in MEDIUM and not by_dma(one):
            counts = last_of_pio(one)
            told = counts[0].to_bytes(2, "little"), counts[1].to_bytes(2, "little")
            yield Loose("pio-count", RECEIVED + PIO_SETUP + 16, 2, values=told)
        if one.alone:
            good = b"\x50\x00", b"\x40\x00"
            bad = (b"\x41\x04", b"\x51\x04")
            for pair in itertools.product(*((good, bad) if one.alone == "ours" else (bad, good))):
                yield Loose(f"{one.alone}-alone", RECEIVED + D2H + 2, 2, values=pair)
    if any(one.after for one in tasks):
        yield Loose("DSC", RECEIVED + D2H + 2, 1, values=(b"\x50", b"\x40"))
    if any(one.fails for one in tasks):
        yield Loose("DSC", RECEIVED + D2H + 2, 1, values=(b"\x51", b"\x41"))
        refused = tasks[0].packet
        mask, errors = ("packet-abort", (b"\x54", b"\x50")) if refused else ("beyond", (b"\x10", b"\x04"))
        yield Loose(mask, RECEIVED + D2H + 3, 1, values=errors)
    if len(tasks) > 1:
        yield Loose("order", RECEIVED + SDB + 4, 4)
