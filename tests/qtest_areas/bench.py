"""What the scripts need: the two sides that they run on, machines of a command line, images, and areas to be listed in.

A script is a program of our own that does, over the two sockets of a separate process, what a subtest of QEMU's device
programs does.  One side is our stand-in, whose client owns the clock; the other Debian's QEMU beside a CPU that halts,
where time goes on by itself.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from guestsim.targets.qemu import QemuTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guestsim.targets.qemu_process import Accelerator
    from guestsim.targets.qmp import Json

STAND_IN = "devmodels-system-x86_64"
QEMU = "qemu-system-x86_64"
MIB = 1 << 20
PATIENCE = 2000
"""How often an event is looked for before it is given up, at a millisecond each."""


@dataclass(frozen=True, slots=True)
class Side:
    """Whose machine a script runs on."""

    name: Literal["stand-in", "QEMU"]
    binary: str
    accel: Accelerator

    @property
    def owns_clock(self) -> bool:
        """Whether `clock_step` and `clock_set` are there."""
        return self.accel == "qtest"


def stand_in(folder: Path) -> Side:
    """Ours, as a program with the name that QEMU's clients look for."""
    path = folder / STAND_IN
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m devmodels.qtest "$@"\n')
    path.chmod(0o755)
    return Side("stand-in", str(path), "qtest")


def qemu() -> Side | None:
    """Debian's, if it is installed."""
    return None if shutil.which(QEMU) is None else Side("QEMU", QEMU, "tcg")


class Machine(QemuTarget):
    """A machine of either side, and its human monitor."""

    owns_clock = False

    def hmp(self, line: str) -> str:
        """What the human monitor answers."""
        return str(self.qmp("human-monitor-command", {"command-line": line}))

    def wait_event(self, name: str, **wanted: object) -> Mapping[str, object]:
        """Wait for an event with `wanted` among its members, and drop those that came before; its members."""
        for _ in range(PATIENCE):
            for event, members in self.take_events():
                if event == name and wanted.items() <= members.items():
                    return members
            self.advance()
        raise AssertionError(f"the event {name} did not come")

    def events_by_now(self) -> list[tuple[str, Mapping[str, Json]]]:
        """Those that came with, or before, the answer to the last command."""
        assert self._process._qmp is not None
        return self._process._qmp.take_events()

    def step(self, duration_ns: int) -> None:
        """Let time go on, whoever has the clock."""
        if self.owns_clock:
            self._qtest.clock_step(duration_ns)
        else:
            self.advance()


class Bench:
    """One run of a script: its machines end with it."""

    def __init__(self, side: Side, folder: Path) -> None:
        self.side = side
        self.folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def machine(self, board: Literal["pc", "q35"], *words: str) -> Machine:
        """A machine of this command line; several words may be in one argument, with blanks between."""
        arguments = [each for word in words for each in word.split()]
        side = self.side
        machine = self._stack.enter_context(
            Machine(board=board, arguments=arguments, binary=side.binary, accel=side.accel)
        )
        machine.owns_clock = side.owns_clock
        # Who has not begun to talk is told of no event.
        machine.take_events()
        return machine

    def image(self, size: int, name: str = "disk.img", data: bytes = b"") -> Path:
        """A raw image of `size` bytes, which `data` is the beginning of."""
        path = self.folder / name
        with path.open("wb") as file:
            file.write(data)
            file.truncate(size)
        return path

    def failing_once(self, event: str) -> Path:
        """A configuration of blkdebug by which the first `event` fails with EIO."""
        path = self.folder / "blkdebug.conf"
        path.write_text(
            f'[inject-error]\nevent = "{event}"\nerrno = "5"\nstate = "1"\nimmediately = "off"\nonce = "on"\n'
        )
        return path


Run = Callable[[Bench], None]


@dataclass(frozen=True, slots=True)
class Script:
    """One row: `what` it does.  `clock`: it needs a clock that is its own, which Debian's QEMU does not give."""

    area: str
    name: str
    what: str
    run: Run
    clock: bool = False

    @property
    def id(self) -> str:
        """For pytest."""
        return f"{self.area}-{self.name}".lower().replace(" ", "-")


@dataclass(slots=True)
class Area:
    """The scripts of one of QEMU's programs, which has `subtests`."""

    name: str
    subtests: int
    scripts: list[Script] = field(default_factory=list)

    def does(self, what: str, *, clock: bool = False) -> Callable[[Run], Run]:
        """The function below is a script that does this."""

        def add(run: Run) -> Run:
            self.add(run.__name__.replace("_", "-"), what, run, clock=clock)
            return run

        return add

    def add(self, name: str, what: str, run: Run, *, clock: bool = False) -> None:
        """One more script."""
        self.scripts.append(Script(self.name, name, what, run, clock))


def pattern(length: int, seed: int = 1, step: int = 512) -> bytes:
    """Bytes in which each `step` of them are others."""
    pieces = []
    for at in range(0, length, step):
        number = (at // step + seed).to_bytes(4, "little")
        pieces.append(
            (number + bytes((at // step * 7 + seed + each) & 0xFF for each in range(60))) * (step // 64 + 1)
        )
        pieces[-1] = pieces[-1][:step]
    return b"".join(pieces)[:length]
