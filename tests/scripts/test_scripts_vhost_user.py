"""The scripts on vhost-user back ends: qemu-storage-daemon's export and our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestsim.script.run import Options, read_scripts

FOLDER = Path(__file__).parent
BASICS = (
    "random",
    "multi-queue",
    "event-index",
    "no-event-index",
    "framing",
    "reset",
    "suppression",
    "discard",
)


@pytest.mark.qemu
@pytest.mark.parametrize("target", ["vhost-user", "qemu-storage-daemon"])
@pytest.mark.parametrize("name", BASICS)
def test_a_script_on_a_back_end(name: str, target: str) -> None:
    (runnable,) = read_scripts(FOLDER / f"{name}.guest.yaml")
    report = runnable.run(Options(target))
    assert report.skipped is None
    assert not report.failures
