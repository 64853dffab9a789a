"""Stop and continue, and who is told."""

from __future__ import annotations

import pytest

from devmodels.events import Events
from devmodels.runstate import RunState


def test_listeners_hear_of_changes_only_and_in_order() -> None:
    state = RunState()
    seen: list[tuple[str, bool]] = []
    state.add_listener(lambda running: seen.append(("a", running)))
    state.add_listener(lambda running: seen.append(("b", running)))
    state.cont()
    assert seen == []
    state.stop("io-error")
    state.stop("paused")
    assert (state.running, state.status) == (False, "io-error"), "the first reason counts"
    state.cont()
    assert state.status == "running"
    assert seen == [("a", False), ("b", False), ("a", True), ("b", True)]
    assert state.running


def test_who_has_left_hears_nothing() -> None:
    state = RunState()
    seen: list[bool] = []
    state.add_listener(seen.append)
    state.remove_listener(seen.append)
    state.remove_listener(seen.append)
    state.stop()
    assert seen == []


def test_a_listener_that_stops_again_has_the_last_word() -> None:
    """Continuing meets a new error at once: those behind are not told that the machine runs, for it does not."""
    state = RunState()
    state.stop()
    seen: list[bool] = []
    state.add_listener(lambda running: state.stop("io-error") if running else None)
    state.add_listener(seen.append)
    state.cont()
    assert not state.running
    assert seen == [False]


def test_stop_and_resume_are_told_before_anything_that_follows_from_them() -> None:
    events = Events()
    seen: list[str] = []
    events.add_listener(lambda name, data: seen.append(name))
    state = RunState(events)
    state.add_listener(lambda running: seen.append("running" if running else "stopped"))
    state.cont()
    state.stop()
    state.stop("io-error")
    state.cont()
    assert seen == ["STOP", "stopped", "RESUME", "running"]


def test_a_listener_that_raises_keeps_nothing_from_the_others() -> None:
    state = RunState()
    seen: list[bool] = []

    def fail(_running: bool) -> None:
        raise RuntimeError("a defect of a device")

    state.add_listener(fail)
    state.add_listener(seen.append)
    for change in (state.stop, state.cont):
        with pytest.raises(RuntimeError, match="a defect"):
            change()
    assert seen == [False, True]
