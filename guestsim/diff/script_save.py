"""An unexplained difference of a script as a file of accesses: what its guest has done, played again and shrunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from guestsim.diff.access import Step, lines
from guestsim.diff.devices import device_of
from guestsim.diff.run import Players, file_for, shortest
from guestsim.diff.script_places import Translation

if TYPE_CHECKING:
    from guestsim.diff.grammar import Action
    from guestsim.diff.play import Difference
    from guestsim.diff.profiles import Profile
    from guestsim.diff.script_record import Record


@dataclass(frozen=True, slots=True)
class Saved:
    """A file, and whether what it holds shows the difference again: then it is the shortest that does."""

    path: Path
    again: bool
    without: tuple[str, ...] = ()
    """What the guest, or the host, did and no access says."""


@dataclass(frozen=True, slots=True)
class Part:
    """A step of a script, of which some accesses may be left out."""

    step: Step

    def simpler(self) -> Iterator[Part]:
        """Without halves, quarters, eighths."""
        accesses = self.step.accesses
        size = len(accesses)
        while size > max(1, len(accesses) // 8):
            size = (size + 1) // 2
            for start in range(len(accesses) - size, -1, -size):
                left = accesses[:start] + accesses[start + size :]
                if left:
                    yield Part(replace(self.step, accesses=left))


def save(record: Record, found: Difference, name: str, profile: Profile, folder: Path, where: str) -> Saved:
    """Play what was recorded again, shrink it where it shows the difference, and put it into `folder`.

    `name` is that of the device, with the machine.  TargetError where QEMU cannot be started.
    """
    device = device_of(name).under(profile)
    whole = Translation(device, record).steps(last_is_read=found.kind == "register")
    with Players(device.with_qemu) as players:
        parts = [Part(step) for step in whole]
        last, steps = shortest(device, players, parts, _lowered, _Alike(found))
    path = file_for(folder, device, found, where)
    without = tuple(record.beyond)
    head = [f"# {last or found}"]
    if last is None:
        head.append("# Not seen again.")
    head += [f"# Without {what}." for what in without]
    path.write_text("\n".join((*head, *lines(name, steps))) + "\n")
    return Saved(path, last is not None, without)


def _lowered(parts: Sequence[Action]) -> list[Step]:
    return [part.step for part in parts if isinstance(part, Part)]


class _Alike:
    """Whether a replay shows what the script did, and the ones after it what the first one has shown."""

    def __init__(self, found: Difference) -> None:
        self._found = found
        self._first: Difference | None = None

    def __call__(self, again: Difference) -> bool:
        if self._first is not None:
            return again.kind == self._first.kind and _values(again) == _values(self._first)
        if not _same(self._found, again):
            return False
        self._first = again
        return True


def _values(found: Difference) -> tuple[str, str, str]:
    return found.place, found.ours, found.theirs


def _same(found: Difference, again: Difference) -> bool:
    """The same register and values, lines, or address; disks hold other data, so that data are others, too."""
    if found.kind != again.kind:
        return False
    if found.kind == "register":
        return _values(found) == _values(again) or found.place == again.place == "ide.DATA"
    if found.kind == "line":
        return (int(found.ours, 0), int(found.theirs, 0)) == (int(again.ours, 0), int(again.theirs, 0))
    if found.kind == "memory":
        return _address(found.ours) == _address(again.ours) and (
            found.place == "buffers"
            or (found.ours[:2], found.theirs[:2]) == (again.ours[:2], again.theirs[:2])
        )
    return _address(found.ours) == _address(again.ours)


def _address(value: str) -> str:
    return value.rpartition(" at ")[2]
