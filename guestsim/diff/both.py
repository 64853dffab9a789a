"""Our machine and a live QEMU's as one target: what a guest does, it does to both, and what it sees is ours.

Each register that is read, and each piece of memory, is compared as the guest sees it; all memory, lines and messages
when both are at rest.  Where our device has something to do still, it is what one does sooner and the other one
later that would differ: that is not compared, and counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Any, Protocol

from guestsim.diff.both_hosts import BothHosts
from guestsim.diff.capabilities import Moved
from guestsim.diff.lasting import Lasting
from guestsim.diff.memories import MEMORY, Memories, runs
from guestsim.diff.script_record import Record
from guestsim.diff.sides import ECAM
from guestsim.targets import MachineLayout, Window
from guestsim.targets.inprocess import InProcessTarget
from guestsim.targets.qemu import RAM, QemuTarget

_LONGEST_STEP = 0.5
"""How long is waited for a step of the clock, in seconds."""
_IRQS = (14, 15)
_CONFIGURATION, _BARS = 0x1000, range(0x10, 0x28, 4)

Judge = Callable[["Sight", bool], int | None]
"""What the guest is to see of something that differs, where that is explained; None where it is not.

It is asked before it is sure that the difference lasts, and then (True) once more.
"""


@dataclass(frozen=True, slots=True)
class Sight:
    """Something that is not the same on both sides.

    `kind` is register, memory (that the guest reads), unread (what it has not looked at) or line; a register is at
    `address` of memory space or ports, and memory from there on.
    """

    kind: str
    address: int
    size: int
    ours: int | bytes
    theirs: int | bytes
    port: bool = False


class RegisterWatch(Protocol):
    """What hears of registers as the guest writes them."""

    def wrote(self, address: int, size: int, value: int, *, port: bool) -> int:
        """The guest is about to write one of ours; what is to be written to theirs."""
        ...

    def took(self, port: int, size: int) -> None:
        """The guest has read a port."""

    def takes(self, port: int) -> bool:
        """Whether each read there takes something away, so that there is no second one."""
        ...

    def interrupts(self, address: int, ours: int, theirs: int, *, port: bool) -> bool:
        """Whether a register of ours tells of an interrupt, of which theirs does not tell yet."""
        ...


class _Machine(InProcessTarget):
    """Our machine; interrupt messages go to its memory as any write does.

    `waits` says whether the guest waits for an answer.
    """

    waits: Callable[[], bool] = bool

    @property
    def high(self) -> mmap:
        """Guest memory from the arena on."""
        return self._high

    def turn(self) -> bool:
        """Do what is ready without any time passing; False where there was nothing."""
        return self._context.turn()

    @property
    def busy(self) -> bool:
        """Whether the devices have something to do still, be it only when a machine that is stopped goes on."""
        held = not self.assembly.run_state.running and self.waits()
        return held or self._context.ready or self._context.deadline() is not None


class Both(BothHosts):
    """A target for scripts, with the machine's host: both machines.

    `ram` is a file that need not be there yet, `slots` those of the devices.  `judge` is asked of what differs.  `name`
    is that of the target of which the guest sees what a script expects.
    """

    def __init__(
        self,
        ram: Path,
        slots: Sequence[int],
        *,
        ours: Mapping[str, Any],
        theirs: Mapping[str, Any],
        judge: Judge,
        name: str,
    ) -> None:
        self.judge = judge
        self.ours: _Machine = _Machine(**ours, ram=RAM)
        try:
            with ram.open("wb") as file:
                file.truncate(RAM)
            self.theirs = QemuTarget(**theirs, ram=ram)
        except BaseException:
            self.ours.close()
            raise
        with ram.open("r+b") as file:
            self._there = mmap(file.fileno(), RAM)
        self.name = name
        self.layout = MachineLayout(
            ram=(Window(MEMORY, RAM - MEMORY),),
            mmio=self.ours.layout.mmio,
            io=self.ours.layout.io,
            ecam=ECAM,
        )
        self.counts: Counter[str] = Counter()
        self.compared = 0
        self.comparing = True
        self.memories = Memories(self.ours, self.theirs, self.ours.high, self._there)
        self.all_used: Callable[[], bool] = bool
        """Whether both have used the same buffers."""
        self.watch: RegisterWatch | None = None
        self.record = Record(function=ECAM + (slots[0] << 15) if slots else 0)
        self._slots = slots
        self._configuration_written(self.record.function)
        self._moved = Moved(self.ours, self.theirs, slots)
        self.dirty = False
        self._lasting = Lasting(
            self.theirs, [drive["node-name"] for drive in theirs["blockdevs"] if "node-name" in drive]
        )

    # --- registers

    def read(self, address: int, size: int) -> int:
        """Read a register of both."""
        mine = self.ours.read(address, size)
        there = self._moved.there(address)
        self._records_read(address, size, port=False)
        return self._seen(address, size, mine, lambda: self.theirs.read(there, size), port=False)

    def io_read(self, port: int, size: int) -> int:
        """Read a port of both."""
        mine = self.ours.io_read(port, size)
        self._records_read(port, size, port=True)
        if self.watch is not None:
            self.watch.took(port, size)
        return self._seen(port, size, mine, lambda: self.theirs.io_read(port, size), port=True)

    def look(self, address: int, size: int, *, port: bool) -> tuple[int, int] | None:
        """A register that nothing changes by being read, and the guest has not: ours and theirs.

        None where they differ, and that is not explained, or nothing is compared any more.
        """
        if not self.comparing:
            return None
        sides = (self.ours, self.theirs)
        mine, theirs = (side.io_read(address, size) if port else side.read(address, size) for side in sides)
        if mine != theirs:
            self._records_read(address, size, port=port)
            if self._judge(Sight("register", address, size, mine, theirs, port)) is None:
                return None
        return mine, theirs

    def _records_read(self, address: int, size: int, *, port: bool) -> None:
        if self.comparing:
            self.record.read(address, size, port=port, in_flight=self.ours.busy)

    def _seen(self, address: int, size: int, mine: int, again: Callable[[], int], *, port: bool) -> int:
        if not self.comparing:
            return mine
        self.counts["accesses"] += 1
        theirs = again()
        self._lasting.begin()
        sight = Sight("register", address, size, mine, theirs, port)
        if theirs != mine and (seen := self.judge(sight, False)) is not None:
            self.record.explained(sight)
            return seen
        if theirs != mine and port and self.watch is not None and self.watch.takes(address):
            seen = self._judge(sight)
            return mine if seen is None else seen
        while theirs != mine:
            busy = self.ours.busy
            if busy and not (
                self.watch is not None and self.watch.interrupts(address, mine, theirs, port=port)
            ):
                self.counts["in flight"] += 1
                return mine
            # What interrupts is acknowledged by the guest at once, on both.
            if self._lasting.lasts((address, mine, theirs), at_rest=self._done_already):
                if busy:
                    self.counts["in flight"] += 1
                    return mine
                seen = self._judge(replace(sight, theirs=theirs))
                return mine if seen is None else seen
            self.theirs.advance()
            theirs = again()
            if theirs == mine:
                self.record.waited()
        return mine

    def write(self, address: int, size: int, value: int) -> None:
        """Write a register of both."""
        self._wrote()
        there = value
        if self.watch is not None:
            there = self.watch.wrote(address, size, value, port=False)
        self.ours.write(address, size, value)
        if self.comparing:
            self.record.write(address, size, value, port=False)
            self.theirs.write(self._moved.there(address), size, there)
        self._configuration_written(address)

    def io_write(self, port: int, size: int, value: int) -> None:
        """Write a port of both."""
        self._wrote()
        if self.watch is not None:
            self.watch.wrote(port, size, value, port=True)
        self.ours.io_write(port, size, value)
        if self.comparing:
            self.record.write(port, size, value, port=True)
            self.theirs.io_write(port, size, value)

    def _wrote(self) -> None:
        self.dirty = True
        self.counts["accesses"] += 1

    def _configuration_written(self, address: int) -> None:
        """Where the first function's registers are now."""
        function = self.record.function
        if function and function <= address < function + _CONFIGURATION:
            self.record.bars = tuple(self.ours.read(function + bar, 4) for bar in _BARS)

    def _judge(self, sight: Sight) -> int | None:
        seen = self.judge(sight, True)
        self.comparing = seen is not None
        if seen is not None:
            self.record.explained(sight)
        return seen

    # --- memory

    def ram_read(self, address: int, length: int) -> bytes:
        """Read guest memory."""
        data = self.memories.read(address, length)
        if self.comparing and not self.ours.busy and data != self.memories.theirs(address, length):
            self._catch_up()
            if not self.ours.busy and data != (there := self.memories.theirs(address, length)):
                self._judge(Sight("memory", address, length, data, there))
                self.memories.put_there(address, data)
        return data

    def ram_write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write guest memory."""
        self.memories.write(address, data)
        if self.comparing:
            self.record.store(address, data)

    # --- interrupts

    def message(self, vector: int) -> tuple[int, int]:
        """A word of guest memory, and what is written there."""
        return self.memories.message(vector)

    def take_messages(self) -> dict[int, int]:
        """Our messages since the last call, each as one; those of the other side have come by then."""
        if not self.memories.messages():
            return {}
        judged = self.comparing and not self.ours.busy
        if judged:
            self._catch_up()
        found = self.memories.messages()
        for vector in found if judged and not self.ours.busy else ():
            at, _ = self.memories.message(vector)
            mine, others = self.memories.sides(at, 4)
            for start, end in runs(mine, others):
                if self.comparing:
                    self._judge(Sight("unread", at + start, end - start, mine[start:end], others[start:end]))
        self.memories.forget_messages(found)
        return dict.fromkeys(found, 1)

    def intx_level(self, slot: int, pin: int) -> bool:
        """Our line; the other one has come to the same level by then."""
        level = self.ours.intx_level(slot, pin)
        if (
            self.comparing
            and self.dirty
            and not self.ours.busy
            and level != self.theirs.intx_level(slot, pin)
        ):
            self._catch_up()
        return level

    def irq_level(self, irq: int) -> bool:
        """The same for an input outside PCI."""
        level = self.ours.irq_level(irq)
        if self.comparing and self.dirty and not self.ours.busy and level != self.theirs.irq_level(irq):
            self._catch_up()
        return level

    def _lines(self) -> tuple[int, int]:
        sides = []
        for side in (self.ours, self.theirs):
            levels = [side.intx_level(slot, 1) for slot in self._slots]
            levels += [side.irq_level(irq) for irq in _IRQS]
            sides.append(sum(1 << bit for bit, level in enumerate(levels) if level))
        return sides[0], sides[1]

    # --- coming to rest

    def advance(self) -> bool:
        """Let ours go on; where it can do no more, let the other side catch up."""
        if self.ours.advance():
            self.dirty = True
            self.record.rest()
            return True
        if self.comparing and self.dirty:
            self._catch_up()
        return False

    def _done_already(self) -> bool:
        """Whether ours is ahead of what it has to do still, or nothing was done since both were at rest."""
        return self.ours.busy or not self.dirty

    def rest(self) -> bool:
        """Let ours do what is ready; whether it is at rest then."""
        while self.ours.turn():
            pass
        return not self.ours.busy

    def _catch_up(self) -> None:
        """Wait until there is no difference, or one that has lasted."""
        self._lasting.begin()
        self.record.rest()
        while True:
            lines = self._lines()
            found = (lines if lines[0] != lines[1] else None, [*self.memories.blocks()])
            if found == (None, []) or self._lasting.lasts(found, at_rest=partial(self._told_alike, *found)):
                break
            self.theirs.advance()
        self.dirty = False

    def _told_alike(self, lines: object, blocks: Sequence[int]) -> bool:
        """Whether both have told of the same: buffers used, lines, messages; other memory is done then.

        Or nothing was done since both were at rest.
        """
        return not self.dirty or (lines is None and all(at >= MEMORY for at in blocks) and self.all_used())

    def compare(self, *, everywhere: bool = False) -> bool:
        """Memory that the guest uses (or all) and lines, where both are at rest; what differs is judged.

        False where ours is not at rest, or nothing is compared any more.
        """
        if not self.comparing or not self.rest():
            return False
        self._catch_up()
        self.compared += 1
        mine, others = self._lines()
        if mine != others:
            self._judge(Sight("line", 0, 0, mine, others))
        for at in [*self.memories.blocks(everywhere=everywhere)]:
            for start, ours, theirs in self.memories.runs(at):
                if self.comparing:
                    self._judge(Sight("unread", start, len(ours), ours, theirs))
            self.memories.make_alike(at)
        return True

    # --- time, and the machine's host

    def now_ns(self) -> int:
        """Our machine's time."""
        return self.ours.now_ns()

    def step_clock(self, duration_ns: int) -> None:
        """Let time pass on both sides, as long as that takes there."""
        self.ours.step_clock(duration_ns)
        self.theirs.advance()
        time.sleep(min(duration_ns / 1e9, _LONGEST_STEP))

    def close(self) -> None:
        """Give both up. Idempotent."""
        self.theirs.close()
        self.ours.close()
        self._there.close()
