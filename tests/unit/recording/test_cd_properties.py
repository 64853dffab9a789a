"""Whatever a guest asks of a CD drive, and whatever its user does meanwhile: the trace has it do it again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guestsim.errors import GuestError
from guestsim.replay import replay
from tests.unit.recording.cdstory import CdStory
from tests.unit.recording.test_scsi_properties import Life
from tests.unit.scsi.kinds import DRIVE
from tests.unit.scsi.mmc.driveworld import data_disc, mixed


class DriveLife(Life, CdStory):
    """What the user of a drive can do, too."""

    KIND = DRIVE
    media: tuple[dict[str, object] | None, ...] = ()

    def open(self) -> None:
        if "u0" in self.assembly.units:
            self.cd.tray.user_opens()

    def close_tray(self) -> None:
        if "u0" in self.assembly.units:
            self.cd.tray.user_closes()

    def ask(self, force: bool) -> None:
        if "u0" in self.assembly.units:
            self.cd.tray.request_eject(force=force)

    def change(self, number: int) -> None:
        if "u0" in self.assembly.units:
            self.cd.tray.user_opens()
            self.put(self.media[number])
            self.cd.tray.user_closes()


LUNS = st.sampled_from([0] * 6 + [1] * 2)
STEPS = st.one_of(
    st.tuples(st.just("send"), LUNS, st.integers(0, 1 << 16), st.integers(1, 8)),
    st.tuples(st.just("send"), LUNS, st.integers(0, 1 << 16), st.integers(1, 8)),
    st.tuples(st.sampled_from(["settle", "turn", "turn", "again", "reset", "machine_reset"])),
    st.tuples(st.sampled_from(["stop", "cont", "cont", "open", "close_tray", "close_tray"])),
    st.tuples(st.just("ask"), st.booleans()),
    st.tuples(st.just("change"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.floats(0.01, 2)),
    st.tuples(st.sampled_from(["unplug", "plug", "plug"]), st.integers(0, 1)),
)


def is_done_again(load_time: int, steps: list[tuple[object, ...]], *, shared: bool) -> None:
    with TemporaryDirectory(prefix="devmodels-") as folder:
        path = Path(folder, "a.trace")
        sheet: dict[str, object] = {"driver": "cue", "filename": str(mixed(Path(folder)))}
        units: list[dict[str, object]] = [
            {"driver": "scsi-cd", "load-time": load_time},
            {"driver": "scsi-cd", "drive": None},
        ]
        life = DriveLife(path, shared=shared, units=units)
        life.media = (None, sheet, data_disc(300), data_disc(1 << 19))
        try:
            life.probe()
            for what, *arguments in steps:
                # A driver may find its device stopped, gone or broken: then it does something else.
                with suppress(GuestError):
                    getattr(life, str(what))(*arguments)
        finally:
            life.close()
        result = replay(path)
        assert result.ok, str(result.difference)


@pytest.mark.long
@given(st.sampled_from([0, 500]), st.lists(STEPS, max_size=20), st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_story_of_a_drive_is_done_again(
    load_time: int, steps: list[tuple[object, ...]], shared: bool
) -> None:
    is_done_again(load_time, steps, shared=shared)


@pytest.mark.slow
@given(st.sampled_from([0, 500]), st.lists(STEPS, max_size=60), st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_long_story_of_a_drive_is_done_again(
    load_time: int, steps: list[tuple[object, ...]], shared: bool
) -> None:
    is_done_again(load_time, steps, shared=shared)
