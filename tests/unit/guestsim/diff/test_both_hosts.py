"""What the host does, both machines hear of, also where it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from guestsim.diff.both_hosts import BothHosts
from guestsim.errors import GuestError
from guestsim.targets import TargetError


class Monitor:
    """`refusal` is what each command is told; empty: it is done."""

    def __init__(self, refusal: str) -> None:
        self.refusal = refusal
        self.heard: list[str] = []

    def qmp(self, command: str, arguments: Mapping[str, Any]) -> object:
        self.heard.append(command)
        if self.refusal:
            raise TargetError(f"{command}: {self.refusal}")
        return {"done": True}


def hosts(ours: str, theirs: str, *, comparing: bool = True) -> Any:
    both: Any = BothHosts()
    both.ours, both.theirs, both.comparing, both.dirty = Monitor(ours), Monitor(theirs), comparing, False
    both.record = SimpleNamespace(beyond={})
    return both


def test_what_is_done_is_done_by_both() -> None:
    both = hosts("", "")
    assert both.qmp("eject", {}) == {"done": True}
    assert both.theirs.heard == ["eject"]
    assert both.dirty


@pytest.mark.parametrize("comparing", [False, True])
def test_what_ours_refuses_the_other_hears_of_too(comparing: bool) -> None:
    both = hosts("locked", "locked", comparing=comparing)
    with pytest.raises(TargetError, match=r"^eject: locked$"):
        both.qmp("eject", {})
    assert both.theirs.heard == ["eject"] * comparing
    assert (both.dirty, [*both.record.beyond]) == (True, ["the host's eject"])


def test_what_ours_alone_refuses_is_told() -> None:
    with pytest.raises(GuestError, match=r"^eject is refused by ours alone: eject: locked$"):
        hosts("locked", "").qmp("eject", {})


def test_another_refusal_of_the_others_is_told() -> None:
    with pytest.raises(TargetError, match=r"^eject: open$"):
        hosts("locked", "open").qmp("eject", {})
