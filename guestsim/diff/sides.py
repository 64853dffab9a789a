"""The two machines of a comparison: our device in this process, and a live QEMU's over qtest.

Both have the same addresses for everything.  Guest memory and disks of both are mapped here, so that looking at them
costs no message.  Interrupt messages go to words of guest memory on both sides: they are compared as memory is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from guestsim.diff.access import Access, Read, Store, Write
from guestsim.diff.arena import ARENA, ARENA_SIZE, MESSAGES, MESSAGES_SIZE
from guestsim.diff.profiles import Profile
from guestsim.targets.inprocess import InProcessTarget
from guestsim.targets.qemu import RAM, QemuTarget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guestsim.targets.qmp import Json

DRIVE = "d0"
"""The node of the drive that a device is compared with."""

LATE = "late"
"""QEMU's throttle group of all drives."""

ECAM = 0xB000_0000
_MOST_TURNS = 100_000


class Overtaken(Exception):
    """What `late` held may have gone on before the access that was to come before that."""


@dataclass(frozen=True, slots=True)
class Window:
    """A range of registers: `base` in memory space, or a port; `size` in bytes."""

    base: int
    size: int
    port: bool = False


Windows = dict[str, Window]


class Side(Protocol):
    """One machine."""

    name: str
    windows: Windows
    memory: mmap
    """The arena, from its beginning on."""
    disks: list[mmap]

    def do(self, accesses: Sequence[Access]) -> list[int]:
        """Make the accesses in order; the values that were read."""
        ...

    def lines(self) -> int:
        """The levels of the lines that the device has, one bit each, as far as they are known now."""
        ...

    def rest(self) -> bool:
        """Let the device work for a moment; False where it can do no more by itself."""
        ...

    def settle(self) -> None:
        """Wait until no request is under way, whether or not the device still knows of it.

        A live QEMU would wait for one that is held.
        """
        ...

    def debug(self, command: str) -> str:
        """Have the drive do one of qemu-io's commands for break points; what that says."""
        ...

    def holds(self, tag: str) -> bool:
        """Whether a request is held at the break point; a live QEMU waits for one.

        TargetError where none has come in the time that QEMU has for any command: it has ended then.
        """
        ...

    def late(self, tag: str) -> None:
        """What is held there goes on by itself in a moment, where a reset waits for it."""
        ...

    def resume(self, tag: str) -> None:
        """What is held there goes on now."""
        ...

    def close(self) -> None:
        """Give it up. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Lines:
    """Which lines a device has: PCI slots with their INTA#, and inputs outside PCI."""

    slots: tuple[int, ...] = ()
    irqs: tuple[int, ...] = ()


class _Machine(InProcessTarget):
    """Our machine, whose interrupt messages go to guest memory as any write does."""

    def _on_message(self, address: int, data: int) -> None:
        if 0 <= address - MESSAGES <= MESSAGES_SIZE - 4:
            self.ram_write(address, data.to_bytes(4, "little"))

    @property
    def high(self) -> mmap:
        """Guest memory from the arena on."""
        return self._high


class OurSide:
    """Our devices."""

    def __init__(
        self,
        lines: Lines,
        images: Sequence[Path],
        *,
        blockdevs: Sequence[Mapping[str, object]],
        devices: Sequence[Mapping[str, object]],
        name: str = "ours",
        profile: Profile = "strict",
    ) -> None:
        self.name = name
        self.target = _Machine(blockdevs=blockdevs, devices=devices, ram=RAM, profile=profile)
        self.memory = self.target.high
        self.disks = [_mapped(image) for image in images]
        self.windows: Windows = {}
        self._lines = lines

    def do(self, accesses: Sequence[Access]) -> list[int]:
        """Make the accesses; whatever our device raises comes from here."""
        values = []
        target = self.target
        for access in accesses:
            match access:
                case Read(window, offset, size):
                    place = self.windows[window]
                    read = target.io_read if place.port else target.read
                    values.append(read(place.base + offset, size))
                case Write(window, offset, size, value):
                    place = self.windows[window]
                    write = target.io_write if place.port else target.write
                    write(place.base + offset, size, value)
                case Store(address, data):
                    target.ram_write(address, data)
        return values

    def lines(self) -> int:
        """Levels, those of slots first."""
        target = self.target
        levels = [target.intx_level(slot, 1) for slot in self._lines.slots]
        levels += [target.irq_level(irq) for irq in self._lines.irqs]
        return sum(1 << bit for bit, level in enumerate(levels) if level)

    def rest(self) -> bool:
        """Do what there is to do."""
        for _ in range(_MOST_TURNS):
            if not self.target.advance():
                return False
        raise RuntimeError("the device never comes to rest")

    def settle(self) -> None:
        """There is nothing more to do when it rests."""
        while self.rest():
            pass

    def debug(self, command: str) -> str:
        """Say it to our monitor."""
        return str(self.target.qmp("human-monitor-command", {"command-line": f'qemu-io {DRIVE} "{command}"'}))

    def holds(self, tag: str) -> bool:
        """Look at the drive, when there is nothing more to do."""
        self.settle()
        return self.target.holds(DRIVE, tag)

    def late(self, tag: str) -> None:
        """No reset of ours waits."""

    def resume(self, tag: str) -> None:
        """It goes on, or is forgotten if it was cancelled."""
        self.debug(f"remove_break {tag}")

    def close(self) -> None:
        """Give it up."""
        self.target.close()


class QemuSide:
    """A live QEMU's devices."""

    def __init__(
        self,
        lines: Lines,
        images: Sequence[Path],
        ram: Path,
        *,
        blockdevs: Sequence[Mapping[str, Json]],
        devices: Sequence[Mapping[str, Json]],
        user: str,
        cd: bool,
    ) -> None:
        """`ram` is a file that need not be there yet; `user` is the QOM path of the device that has the drive.

        `cd`: this is an IDE CD drive.
        """
        self.name = "qemu"
        with ram.open("wb") as file:
            file.truncate(RAM)
        groups: list[Mapping[str, Json]] = [{"qom-type": "throttle-group", "id": LATE}]
        self.target = QemuTarget(objects=groups, blockdevs=blockdevs, devices=devices, ram=ram)
        with ram.open("r+b") as file:
            self.memory = mmap(file.fileno(), ARENA_SIZE, offset=ARENA)
        self.disks = [_mapped(image) for image in images]
        self.windows: Windows = {}
        self._lines = lines
        self._user = user
        self._cd = cd
        self._late = False
        self._until: float | None = None

    def do(self, accesses: Sequence[Access]) -> list[int]:
        """Make the accesses, as many as possible with one message.

        Overtaken where the first write after `late` comes too late.
        """
        if self._until is not None and any(isinstance(access, Write) for access in accesses):
            until, self._until = self._until, None
            if time.monotonic() > until:
                raise Overtaken
        values: list[int] = []
        pending: list[bytes] = []
        for access in accesses:
            match access:
                case Read(window, offset, size):
                    place = self.windows[window]
                    verb = _IN[size] if place.port else _READ[size]
                    pending.append(b"%b 0x%x\n" % (verb, place.base + offset))
                case Write(window, offset, size, value):
                    place = self.windows[window]
                    verb = _OUT[size] if place.port else _WRITE[size]
                    pending.append(b"%b 0x%x 0x%x\n" % (verb, place.base + offset, value))
                case Store(address, data):
                    values += self._send(pending)
                    pending = []
                    self.memory[address - ARENA : address - ARENA + len(data)] = data
        values += self._send(pending)
        return values

    def _send(self, lines: list[bytes]) -> list[int]:
        values: list[int] = []
        for start in range(0, len(lines), _BATCH):
            values += self.target.requests(lines[start : start + _BATCH])
        return values

    def lines(self) -> int:
        """Levels, those of slots first."""
        target = self.target
        levels = [target.intx_level(slot, 1) for slot in self._lines.slots]
        levels += [target.irq_level(irq) for irq in self._lines.irqs]
        return sum(1 << bit for bit, level in enumerate(levels) if level)

    def rest(self) -> bool:
        """Let it work for a moment."""
        return self.target.advance()

    def settle(self) -> None:
        """A machine that stops waits for all that its drives are doing; with a CD drive it may wait for ever."""
        if self._cd:
            for _ in range(_RESTS):
                self.rest()
            return
        self.target.stop()
        self.target.cont()
        self.target.take_events()

    def debug(self, command: str) -> str:
        """Say it to the human monitor.  By the node's name it would drain the drive, and wait for what is held."""
        line = f'qemu-io -d {self._user} "{command}"'
        return str(self.target.qmp("human-monitor-command", {"command-line": line}))

    def holds(self, tag: str) -> bool:
        """Wait for it."""
        self.debug(f"wait_break {tag}")
        return True

    def late(self, tag: str) -> None:
        """It goes on from its break point, and waits for some time because of what was read just before.

        That time goes by also while QEMU waits in a reset, and hears nobody: one that drains the drive ends it, one
        that cancels waits for it.  A flush, which has no bytes, does not wait.
        """
        self._limit(_RATE)
        self._late = True
        self._until = time.monotonic() + _SPARE
        self.debug(f"read 0 {_BEFORE}")
        self.debug(f"remove_break {tag}")

    def resume(self, tag: str) -> None:
        """It goes on, if it has not yet."""
        self.debug(f"remove_break {tag}")
        if self._late:
            self._late = False
            self._until = None
            self._limit(0)

    def _limit(self, rate: int) -> None:
        """Bytes a second that the drives are given; 0: any."""
        limits: Json = {"bps-total": rate}
        self.target.qmp("qom-set", {"path": f"/objects/{LATE}", "property": "limits", "value": limits})

    def close(self) -> None:
        """End it."""
        self.target.close()


_RATE, _BEFORE = 1_000_000, 160 << 10
"""Bytes a second, and bytes read before: a tenth of a second's are given at once, so that what comes next waits for
what is more than that, some 60 ms."""
_SPARE = 0.03
"""Seconds of these in which the next write has to be on its way: where there is much to do it may come after them."""
_BATCH = 64
_RESTS = 8
"""Some milliseconds in all: reads of what the host has in memory take less."""
_READ = {1: b"readb", 2: b"readw", 4: b"readl", 8: b"readq"}
_WRITE = {1: b"writeb", 2: b"writew", 4: b"writel", 8: b"writeq"}
_IN = {1: b"inb", 2: b"inw", 4: b"inl"}
_OUT = {1: b"outb", 2: b"outw", 4: b"outl"}


def _mapped(image: Path) -> mmap:
    with image.open("r+b") as file:
        return mmap(file.fileno(), 0)
