"""Many random sequences on both sides, and what came of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from guestsim.diff.access import Step, lines
from guestsim.diff.device import Device
from guestsim.diff.entries import Known
from guestsim.diff.grammar import Action
from guestsim.diff.known import known
from guestsim.diff.play import PATIENCE, SHORT, Counts, Difference, Player
from guestsim.diff.shrink import shrink

LENGTH = 30
"""Steps of one sequence."""
MOST_UNEXPLAINED = 10
REPEATS = 3
"""How often a sequence is played again until its difference is one that does not show again."""

Open = Callable[[], AbstractContextManager[Player]]


@dataclass(slots=True)
class Unexplained:
    """A difference that is in no table: how often, where it was found, its shortest sequence, and its file.

    Where it was not seen `again`, the sequence is the whole one.
    """

    difference: Difference
    sequence: int
    steps: Sequence[Step]
    count: int = 1
    path: Path | None = None
    again: bool = True


@dataclass(slots=True)
class Report:
    """What came of a run."""

    device: Device
    seed: int
    sequences: int = 0
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    known: Counter[str] = field(default_factory=Counter)
    entries: dict[str, Known] = field(default_factory=dict)
    unexplained: list[Unexplained] = field(default_factory=list)

    @property
    def masked(self) -> Iterator[tuple[str, str, int]]:
        """Name, reason and how often it hid something, of each mask of the device's; those of one name are one."""
        for name, reason in {mask.name: mask.reason for mask in self.device.hiding}.items():
            yield name, reason, self.counts.masked[name]


def random_actions(device: Device, seed: int, number: int) -> list[Action]:
    """Sequence `number` of a seed's."""
    return device.grammar.sequence(Random(f"{device.name} {seed} {number}"), LENGTH)


def compare_random(
    device: Device,
    *,
    seed: int,
    steps: int,
    open_player: Open | None = None,
    folder: Path | None = None,
    watch: Callable[[int], None] = lambda _: None,
) -> Report:
    """Play random sequences until `steps` steps were done; differences that nobody knows are put into `folder`.

    Fewer are done where there are many such differences, or one before the first step of a sequence.

    TargetError where QEMU cannot be started.
    """
    report = Report(device, seed)
    begun = time.monotonic()
    with Players(open_player or device.with_qemu) as players:
        while report.counts.steps < steps and len(report.unexplained) < MOST_UNEXPLAINED:
            actions = random_actions(device, seed, report.sequences)
            before = report.counts.steps
            player = players.get()
            player.counts = report.counts
            player.seen = {one.difference.signature for one in report.unexplained}
            found = player.play(device.grammar.lower(actions))
            if found is not None:
                _judge(report, players, actions, found)
            report.sequences += 1
            watch(report.counts.steps)
            if report.counts.steps == before:
                break
        for one in report.unexplained if folder is not None else ():
            assert folder is not None
            one.path = _save(device, folder, one, seed)
    report.seconds = time.monotonic() - begun
    return report


class Players:
    """A player, and another one where its QEMU has gone."""

    def __init__(self, open_player: Open) -> None:
        self._open = open_player
        self._stack = ExitStack()
        self._player: Player | None = None

    def __enter__(self) -> Players:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self) -> Player:
        """One that works."""
        if self._player is not None and self._player.gone:
            self._stack.close()
            self._player = None
        if self._player is None:
            self._player = self._stack.enter_context(self._open())
        return self._player


def _judge(report: Report, players: Players, actions: Sequence[Action], found: Difference) -> None:
    """Count a difference under what it is; one that nobody knows is played again, and shrunk where it shows."""
    device = report.device
    if _count(report, found):
        return
    for one in report.unexplained:
        if one.difference.signature == found.signature:
            one.count += 1
            return
    last, steps = shortest(device, players, actions, device.grammar.lower, lambda again: again.like(found))
    again = last is not None
    report.unexplained.append(Unexplained(last or found, report.sequences, steps, again=again))


def shortest(
    device: Device,
    players: Players,
    actions: Sequence[Action],
    lower: Callable[[Sequence[Action]], Sequence[Step]],
    alike: Callable[[Difference], bool],
) -> tuple[Difference | None, Sequence[Step]]:
    """The shortest sequence that shows such a difference, and what it shows; all of it, where it shows none."""
    others = Counts()

    def shows(candidate: Sequence[Action], patience: float) -> Difference | None:
        player = players.get()
        player.counts, player.seen, patient = others, set(), player.patience
        player.patience = patience
        try:
            again = player.play(lower(candidate))
        finally:
            player.patience = patient
        if again is None or not alike(again) or known(device.name, again, device.profile) is not None:
            return None
        return again

    first = next(filter(None, (shows(actions, PATIENCE) for _ in range(REPEATS))), None)
    if first is None:
        return None, lower(actions)
    least = shrink(actions, lambda candidate: shows(candidate, SHORT) is not None)
    return shows(least, SHORT) or first, lower(least)


def _count(report: Report, found: Difference) -> bool:
    entry = known(report.device.name, found, report.device.profile)
    if entry is None:
        return False
    report.known[entry.name] += 1
    report.entries[entry.name] = entry
    return True


def _save(device: Device, folder: Path, one: Unexplained, seed: int) -> Path:
    """The sequence in a file that is named after the difference."""
    path = file_for(folder, device, one.difference, f"{seed}-{one.sequence}")
    head = f"# {one.difference}\n" + "# Not seen again.\n" * (not one.again)
    path.write_text(head + "\n".join(lines(device.name, one.steps)) + "\n")
    return path


def file_for(folder: Path, device: Device, found: Difference, where: str) -> Path:
    """The file for a difference, by its name and where it was found."""
    words = "".join(letter if letter.isalnum() else "-" for letter in found.place.lower())
    return folder / f"{device.name}-{found.kind}-{words[:40].strip('-')}-{where}.accesses"


def compare_steps(device: Device, steps: Sequence[Step], *, open_player: Open | None = None) -> Report:
    """Play one sequence, of accesses that the device has (`Device.check`)."""
    report = Report(device, 0, sequences=1)
    begun = time.monotonic()
    with (open_player or device.with_qemu)() as player:
        player.counts = report.counts
        found = player.play(steps)
    if found is not None and not _count(report, found):
        report.unexplained.append(Unexplained(found, 0, steps))
    report.seconds = time.monotonic() - begun
    return report
