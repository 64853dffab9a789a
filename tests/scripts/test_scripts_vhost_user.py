"""The scripts on vhost-user back ends: our own export and qemu-storage-daemon's, each with what it can't run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from guestsim.script.run import Options, read_scripts
from tests.scripts.corpus import loaded

FOLDER = Path(__file__).parent
SCRIPTS = {
    path.relative_to(FOLDER).as_posix().removesuffix(".guest.yaml"): path
    for path in FOLDER.rglob("*.guest.yaml")
}

REGISTERS = {
    "hostile/kick-before-driver-ok",
    "hostile/notify-of-no-queue",
    "hostile/scsi-notify-of-no-queue",
    "hostile/too-many-with-some-held",
    "legacy",
    "pci-window",
    "registers",
    "resize-untold",
}
"""They need registers."""

SCSI = {
    name
    for name in SCRIPTS
    if name.startswith(("scsi/", "hostile/scsi-")) and name != "hostile/scsi-passthrough"
}
"""They are about a SCSI host."""

OTHERS = {"block-sizes", "legacy-interrupts", "mmio", "mmio-legacy", "queue-reset", "queue-reset-in-flight"}
"""Other transports, options and features that no export has."""

NOT_RUN = {
    "vhost-user": REGISTERS | OTHERS,
    "qemu-storage-daemon": REGISTERS
    | OTHERS
    | SCSI
    | {
        # Other exports have a serial.
        "get-id",
        "hostile/used-length",
        "two-devices",
        # Nothing stops it.
        "error-ignore",
        "error-stop",
        "stop",
        "werror-enospc",
        # Packed rings are not offered.
        "hostile/packed-event-suppression",
        "hostile/packed-ids",
        "hostile/packed-lists",
        "packed",
        "packed-suppression",
    },
}
"""Scripts that are skipped although they are not for other targets only."""

LEAST = {"vhost-user": 50, "qemu-storage-daemon": 40}


@pytest.fixture
def daemon() -> None:
    """Skip where there is no qemu-storage-daemon; in CI, which sets `CI=true`, that is a failure."""
    if shutil.which("qemu-storage-daemon") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("needs qemu-storage-daemon")
        pytest.skip("needs qemu-storage-daemon")


@pytest.mark.qemu
@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("target", NOT_RUN)
@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_on_a_back_end(name: str, target: str) -> None:
    for runnable in read_scripts(SCRIPTS[name]):
        report = runnable.run(Options(target))
        assert not report.failures
        elsewhere = target not in runnable.script.targets
        assert (report.skipped is not None) == (elsewhere or name in NOT_RUN[target]), report.skipped


@pytest.mark.parametrize("target", NOT_RUN)
def test_most_scripts_are_for_back_ends(target: str) -> None:
    scripts = {name: loaded(path) for name, path in SCRIPTS.items()}
    run = {name for name, script in scripts.items() if target in script.targets} - NOT_RUN[target]
    assert len(run) >= LEAST[target]
