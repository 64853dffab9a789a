"""A device that can be compared: its options on both sides, addresses, what is looked at, and its grammar."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from guestsim.diff.access import Access, FormError, Loose, Read, Rest, Step, Write
from guestsim.diff.grammar import Grammar
from guestsim.diff.known import known
from guestsim.diff.masks import Mask
from guestsim.diff.play import Area, Player
from guestsim.diff.profiles import Profile
from guestsim.diff.sides import DRIVE, ECAM, LATE, Lines, OurSide, QemuSide, Side, Window, Windows

if TYPE_CHECKING:
    from guestsim.targets.qmp import Json

SLOT = 4
FUNCTION = Window(ECAM + (SLOT << 15), 0x1000)
"""The function's configuration space."""

Options = dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Device:
    """A device that can be compared.

    `options` are what both sides are given; `ours` and `theirs` what only one gets with the first.  `place` finds its
    registers and gives its BARs addresses; `prologue` is what each sequence begins with; `observe` is read at each
    quiescent point.  `drive` are the options of the drive's nodes, `user` is QEMU's path of the device that has it.
    `profile` is what our side goes by.
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
    user: str
    disk: int = 1 << 20
    disks: int = 1
    """How many there are, with the nodes `d0`, `d1`, …"""
    profile: Profile = "strict"
    grammar_as_qemu: Grammar | None = None
    """The grammar for the profile `qemu`, where it is another one."""
    sizes: tuple[int, ...] = ()
    """Of its disks, where they are not all of one size."""

    def under(self, profile: Profile) -> Device:
        """The same, our side with this profile."""
        grammar = self.grammar_as_qemu if profile == "qemu" and self.grammar_as_qemu else self.grammar
        return replace(self, profile=profile, grammar=grammar)

    @property
    def hiding(self) -> list[Mask]:
        """The masks that there are under its profile."""
        return [mask for mask in self.masks if self.profile in mask.profiles]

    def bases(self) -> list[bytes]:
        """What its disks hold at first."""
        content = random.Random(self.name)
        return [content.randbytes(size) for size in self.sizes or (self.disk,) * self.disks]

    def check(self) -> Callable[[Access], None]:
        """What refuses an access to what the device does not have, with `FormError`."""
        with tempfile.TemporaryDirectory(prefix="guestsim-", dir=_fast()) as name:
            side = self.our_side(Path(name))
            windows = side.windows
            side.close()
        masks = {mask.name for mask in self.masks}

        def check(access: Access) -> None:
            match access:
                case (
                    Loose(reason=reason) | Read(but=(reason, _, _)) | Rest(until=Read(but=(reason, _, _)))
                ) if reason not in masks:
                    raise FormError(f"{reason}: expected a mask of the device's: {', '.join(sorted(masks))}")
                case Read() | Write():
                    _check_place(access, windows)
                case Rest(until=Read() as read):
                    _check_place(read, windows)

        return check

    def our_side(self, folder: Path, name: str = "ours") -> OurSide:
        """Our machine with it; its image is in `folder`."""
        images = self._images(folder, name)
        first, *others = self.options
        side = OurSide(
            self.lines,
            images,
            blockdevs=self._drives(images),
            devices=[{**first, **self.ours}, *others],
            name=name,
            profile=self.profile,
        )
        side.windows = self.place(side)
        return side

    def qemu_side(self, folder: Path) -> QemuSide:
        """QEMU's machine with it."""
        images = self._images(folder, "qemu")
        first, *others = self.options
        side = QemuSide(
            self.lines,
            images,
            folder / "ram",
            blockdevs=self._drives(images, {"driver": "throttle", "throttle-group": LATE}),
            devices=[{**first, **self.theirs}, *others],
            user=self.user,
            cd=any(each["driver"] == "ide-cd" for each in self.options),
        )
        try:
            side.windows = self.place(side)
        except BaseException:
            side.close()
            raise
        return side

    def _drives(self, images: Sequence[Path], delay: Options | None = None) -> list[Options]:
        """The images, with a node over each that holds requests, and one between that has them go on late."""
        drives: list[Options] = []
        for number, image in enumerate(images):
            file: Options = {"driver": "file", "filename": str(image), **self.drive}
            below: Options = file if delay is None else {**delay, "file": file, **self.drive}
            debug: Options = {"driver": "blkdebug", "image": below, **self.drive}
            node = f"{DRIVE[:-1]}{number}"
            drives.append({"driver": "raw", "node-name": node, "file": debug, **self.drive})
        return drives

    def _images(self, folder: Path, name: str) -> list[Path]:
        paths = []
        for number, content in enumerate(self.bases()):
            path = folder / f"{name}-{number}"
            path.write_bytes(content)
            paths.append(path)
        return paths

    def player(self, ours: Side, theirs: Side) -> Player:
        """What plays sequences on these two."""
        return Player(
            ours,
            theirs,
            [_possible(step, ours.windows) for step in self.prologue],
            self.observe,
            self.areas,
            self.hiding,
            self.bases(),
            self.label,
            known=lambda found: known(self.name, found, self.profile) is not None,
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


def _possible(step: Step, windows: Windows) -> Step:
    """A step without what a device with other options does not have."""
    accesses = (one for one in step.accesses if not isinstance(one, Read | Write) or one.window in windows)
    return replace(step, accesses=tuple(accesses))


def _check_place(access: Read | Write, windows: Windows) -> None:
    """Whether it is one access to registers of one window."""
    window = windows.get(access.window)
    if window is None:
        raise FormError(f"{access.window}: expected a window of the device's: {', '.join(sorted(windows))}")
    if access.offset + access.size > window.size:
        raise FormError(
            f"{access.size} bytes at {access.offset:#x}: expected some of the {window.size:#x} bytes of {access.window}"
        )
    if window.port and access.size > _WIDEST_PORT:
        raise FormError(f"size {access.size}: expected 1, 2 or 4 at a port")


_WIDEST_PORT = 4


def _fast() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
