"""A device that can be compared: its options on both sides, addresses, what is looked at, and its grammar."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guestsim.diff.access import Read, Step
from guestsim.diff.grammar import Grammar
from guestsim.diff.known import known
from guestsim.diff.masks import Mask
from guestsim.diff.play import Area, Player
from guestsim.diff.sides import ECAM, Lines, OurSide, QemuSide, Side, Windows

if TYPE_CHECKING:
    from guestsim.targets.qmp import Json

SLOT = 4
FUNCTION = ECAM + (SLOT << 15)
"""Where the function's configuration space is."""

Options = dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Device:
    """A device that can be compared.

    `options` are what both sides are given; `ours` and `theirs` what only one gets with the first.  `place` finds its
    registers and gives its BARs addresses; `prologue` is what each sequence begins with; `observe` is read at each
    quiescent point.
    """

    name: str
    what: str
    options: Sequence[Options]
    ours: Options
    theirs: Options
    lines: Lines
    place: Callable[[Side], Windows]
    prologue: Sequence[Step]
    observe: Sequence[Read]
    areas: Sequence[Area]
    masks: Sequence[Mask]
    grammar: Grammar
    label: Callable[[Read], str]
    drive: Options
    disk: int = 1 << 20

    def base(self) -> bytes:
        """What its disk holds at first."""
        return random.Random(self.name).randbytes(self.disk)

    def our_side(self, folder: Path, name: str = "ours") -> OurSide:
        """Our machine with it; its image is in `folder`."""
        image = self._image(folder / name)
        first, *others = self.options
        side = OurSide(
            self.lines,
            [image],
            blockdevs=[{**self.drive, "filename": str(image)}],
            devices=[{**first, **self.ours}, *others],
            name=name,
        )
        side.windows = self.place(side)
        return side

    def qemu_side(self, folder: Path) -> QemuSide:
        """QEMU's machine with it."""
        image = self._image(folder / "qemu")
        first, *others = self.options
        side = QemuSide(
            self.lines,
            [image],
            folder / "ram",
            blockdevs=[{**self.drive, "filename": str(image)}],
            devices=[{**first, **self.theirs}, *others],
        )
        try:
            side.windows = self.place(side)
        except BaseException:
            side.close()
            raise
        return side

    def _image(self, path: Path) -> Path:
        path.write_bytes(self.base())
        return path

    def player(self, ours: Side, theirs: Side) -> Player:
        """What plays sequences on these two."""
        return Player(
            ours,
            theirs,
            self.prologue,
            self.observe,
            self.areas,
            self.masks,
            self.base(),
            self.label,
            known=lambda found: known(self.name, found) is not None,
        )

    @contextmanager
    def with_qemu(self) -> Iterator[Player]:
        """Our device and QEMU's; their memory and images are files in memory."""
        with tempfile.TemporaryDirectory(prefix="guestsim-", dir=_fast()) as name:
            ours = self.our_side(Path(name))
            try:
                theirs = self.qemu_side(Path(name))
                try:
                    yield self.player(ours, theirs)
                finally:
                    theirs.close()
            finally:
                ours.close()


def _fast() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
