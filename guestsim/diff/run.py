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
from guestsim.diff.grammar import Action
from guestsim.diff.known import Known, known
from guestsim.diff.play import Counts, Difference, Player
from guestsim.diff.shrink import shrink

LENGTH = 30
"""Steps of one sequence."""
MOST_UNEXPLAINED = 10

Open = Callable[[], AbstractContextManager[Player]]


@dataclass(slots=True)
class Unexplained:
    """A difference that is in no table: how often, where it was found, its shortest sequence, and its file."""

    difference: Difference
    sequence: int
    steps: Sequence[Step]
    count: int = 1
    path: Path | None = None


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
        """Name, reason and how often it hid something, of each mask of the device's."""
        for mask in self.device.masks:
            yield mask.name, mask.reason, self.counts.masked[mask.name]


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

    TargetError where QEMU cannot be started.
    """
    report = Report(device, seed)
    begun = time.monotonic()
    with _Players(open_player or device.with_qemu) as players:
        while report.counts.steps < steps and len(report.unexplained) < MOST_UNEXPLAINED:
            actions = random_actions(device, seed, report.sequences)
            player = players.get()
            player.counts = report.counts
            player.seen = {one.difference.signature for one in report.unexplained}
            found = player.play(device.grammar.lower(actions))
            if found is not None:
                _judge(report, players, actions, found)
            report.sequences += 1
            watch(report.counts.steps)
        for one in report.unexplained if folder is not None else ():
            assert folder is not None
            one.path = _save(device, folder, one, seed)
    report.seconds = time.monotonic() - begun
    return report


class _Players:
    """A player, and another one where its QEMU has gone."""

    def __init__(self, open_player: Open) -> None:
        self._open = open_player
        self._stack = ExitStack()
        self._player: Player | None = None

    def __enter__(self) -> _Players:
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


def _judge(report: Report, players: _Players, actions: Sequence[Action], found: Difference) -> None:
    """Count a difference under what it is; shrink one that nobody knows and that is there again."""
    device = report.device
    if _count(report, found):
        return
    for one in report.unexplained:
        if one.difference.signature == found.signature:
            one.count += 1
            return
    patient = Counts()

    def shows(candidate: Sequence[Action]) -> Difference | None:
        player = players.get()
        player.counts = patient
        # The first time it must last; then it is known to.
        player.seen = {found.signature} if patient.steps else set()
        again = player.play(device.grammar.lower(candidate))
        alike = again is not None and again.signature == found.signature
        return again if alike and again is not None and known(device.name, again) is None else None

    if shows(actions) is None:
        report.known["not seen again"] += 1
        return
    shortest = shrink(actions, lambda candidate: shows(candidate) is not None)
    last = shows(shortest) or found
    report.unexplained.append(Unexplained(last, report.sequences, device.grammar.lower(shortest)))


def _count(report: Report, found: Difference) -> bool:
    entry = known(report.device.name, found)
    if entry is None:
        return False
    report.known[entry.name] += 1
    report.entries[entry.name] = entry
    return True


def _save(device: Device, folder: Path, one: Unexplained, seed: int) -> Path:
    """The sequence in a file that is named after the difference."""
    words = "".join(letter if letter.isalnum() else "-" for letter in one.difference.place.lower())
    path = (
        folder / f"{device.name}-{one.difference.kind}-{words[:40].strip('-')}-{seed}-{one.sequence}.accesses"
    )
    head = f"# {one.difference}\n"
    path.write_text(head + "\n".join(lines(device.name, one.steps)) + "\n")
    return path


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
