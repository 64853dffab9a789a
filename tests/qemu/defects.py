"""Whether the comparison with a live QEMU finds a defect of our devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from guestsim.diff.device import Device
from guestsim.diff.devices import DEVICES
from guestsim.diff.grammar import Action
from guestsim.diff.known import known
from guestsim.diff.play import Difference
from guestsim.diff.profiles import Profile
from guestsim.diff.run import random_actions

MOST = 5000 // 30
"""Sequences in 5,000 steps."""


def is_found(name: str, profile: Profile, most: int = MOST) -> bool:
    """Whether so many random sequences at most find a difference that nobody knows."""
    device = DEVICES[name].under(profile)
    return _found(device, (random_actions(device, 1, number) for number in range(most))) is not None


Make = Callable[[Random], Action]


def found_among(name: str, profile: Profile, make: Make, up: Action | None = None) -> Difference | None:
    """The first difference that nobody knows in random actions of one kind, after `up`: a few of each sequence."""
    begin = [] if up is None else [up]
    sequences = ([*begin, *map(make, [Random(number)] * _FEW)] for number in range(MOST // _FEW))
    return _found(DEVICES[name].under(profile), sequences)


_FEW = 4


def _found(device: Device, sequences: Iterable[list[Action]]) -> Difference | None:
    with device.with_qemu() as player:
        player.patience = 0.3
        played = (player.play(device.grammar.lower(actions)) for actions in sequences)
        return next((one for one in played if one and known(device.name, one, device.profile) is None), None)
