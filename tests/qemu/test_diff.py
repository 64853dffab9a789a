"""Random accesses on our devices and on a live QEMU's: nothing is different that is not known."""

from __future__ import annotations

import pytest

from guestsim.diff.devices import DEVICES
from guestsim.diff.profiles import PROFILES, Profile
from guestsim.diff.run import compare_random

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", DEVICES)
def test_nothing_is_unexplained(name: str, profile: Profile) -> None:
    report = compare_random(DEVICES[name].under(profile), seed=1, steps=1500)
    assert [str(one.difference) for one in report.unexplained] == []
    assert report.counts.steps >= 1500


def test_no_sequence_goes_on_where_qemu_may_have_been_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has so much to do that a reset never comes in time."""
    monkeypatch.setattr("guestsim.diff.sides._SPARE", -1.0)
    report = compare_random(DEVICES["ahci-disk"], seed=1, steps=200)
    assert [str(one.difference) for one in report.unexplained] == []
    assert report.counts.overtaken > 0
