"""The scripts on our daemon's functions over vfio-user: what they say of a machine in process holds there, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestsim.replay import replay
from guestsim.script.recording import Recording
from guestsim.script.run import Options, read_scripts
from tests.scripts.corpus import loaded

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent
SCRIPTS = {
    path.relative_to(FOLDER).as_posix().removesuffix(".guest.yaml"): path
    for path in sorted(FOLDER.rglob("*.guest.yaml"))
    if "devmodels" in loaded(path).targets
}

SKIPPED = {"mmio", "mmio-legacy", "hostile/notify-by-value"} | {
    name for name, path in SCRIPTS.items() if loaded(path).machine.clock == "stepped"
}
"""Devices outside PCI, and a clock that nobody steps."""

IN_TIME = {
    "hostile/ahci-cd-stopped-in-a-read",
    "hostile/ahci-data-outside-memory",
    "hostile/ahci-ncq-invalid",
    "hostile/ahci-reset-in-flight",
    "hostile/ahci-reset-storm",
    "hostile/ide-reset-cancels-dma",
    "hostile/scsi-event-buffers",
    "hostile/scsi-nested-resets",
    "hostile/scsi-reset-is-awaited",
    "hostile/scsi-reset-storm",
    "hostile/scsi-unplug-in-flight",
    "scsi/held",
}
"""They say at which step the guest hears of something, or that a delay outlasts steps: that takes its time here."""

MESSAGES = {
    name
    for name in SCRIPTS
    if name.startswith(("hostile/chain", "hostile/indirect", "hostile/packed", "hostile/reset"))
    or name in ("two-devices", "stop", "legacy", "multi-queue", "scsi/hot-plug")
}
"""Those that are run with memory that the daemon has to ask for; all others with memory that it shares."""

RECORDED = {
    "error-stop",
    "legacy-interrupts",
    "multi-queue",
    "reset-in-flight",
    "two-devices",
    "scsi/cd-locked",
    "scsi/hot-plug",
}


A_ROW_IN = 7
"""Of scripts that differ in a command only, one in so many is run: each needs a daemon."""


def holds(name: str, options: Options) -> None:
    for runnable in read_scripts(SCRIPTS[name])[::A_ROW_IN]:
        report = runnable.run(options)
        assert not report.failures
        assert (report.skipped is not None) == (name in SKIPPED), report.skipped


@pytest.mark.parametrize("name", sorted(SCRIPTS.keys() - IN_TIME - (MESSAGES - SKIPPED)))
def test_a_script_on_functions_of_a_daemon(name: str) -> None:
    holds(name, Options("vfio-user"))


@pytest.mark.parametrize("name", sorted(MESSAGES - SKIPPED - IN_TIME))
def test_a_script_with_memory_that_is_not_shared(name: str) -> None:
    holds(name, Options("vfio-user", memory="bounced"))


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recorded_script_is_done_again(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "a.trace"
    holds(name, Options("vfio-user", recording=Recording(trace)))
    replayed = replay(trace)
    assert replayed.difference is None, str(replayed.difference)
    assert replayed.events > 500


def test_most_scripts_run() -> None:
    assert len(SCRIPTS.keys() - SKIPPED) > 120
