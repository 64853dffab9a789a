"""The scripts on vhost-user back ends: our own export and qemu-storage-daemon's, each with what it can't run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from guestsim.script.run import Options, read_scripts

FOLDER = Path(__file__).parent
SCRIPTS = {
    path.relative_to(FOLDER).as_posix().removesuffix(".guest.yaml"): path for path in FOLDER.rglob("*.yaml")
}

REGISTERS = {
    "hostile/access-widths",
    "hostile/kick-before-driver-ok",
    "hostile/notify-of-no-queue",
    "hostile/queue-size-beyond-maximum",
    "hostile/registers-after-driver-ok",
    "hostile/rings-outside-memory",
    "hostile/status-out-of-order",
    "hostile/too-many-with-some-held",
    "pci-window",
    "registers",
    "resize",
}
"""About registers, which are not there."""

OTHER_WAYS = {"legacy", "legacy-interrupts", "mmio", "mmio-legacy"}
"""About other transports."""

OPTIONS = {
    "block-sizes",
    "hostile/lengths-that-disagree",
    "in-order",
    "lifetime",
    "many-segments",
    "secure-erase",
    "size-max",
}
"""About options of a device that no export has."""

OTHERS = {"notification-data", "queue-reset", "queue-reset-in-flight", "stepped-clock"}
"""About features that no export offers, and about the clock."""

NOT_RUN = {
    "vhost-user": REGISTERS | OTHER_WAYS | OPTIONS | OTHERS | {"intx"},
    "qemu-storage-daemon": REGISTERS
    | OTHER_WAYS
    | OPTIONS
    | OTHERS
    | {
        # Other exports have a serial.
        "get-id",
        "hostile/used-length",
        "two-devices",
        # Packed rings are not offered.
        "packed",
        "packed-suppression",
        # What it does there depends on the moment, or ends the connection again and again.
        "hostile/data-outside-memory",
        "hostile/dma-into-own-registers",
        "hostile/dma-into-rings",
        "hostile/features-not-offered",
        "hostile/leaked-mapping",
        "hostile/request-without-status",
        "hostile/reset-storm",
    },
}
LEAST = {"vhost-user": 50, "qemu-storage-daemon": 40}


@pytest.fixture(autouse=True)
def daemon() -> None:
    """Skip where there is no qemu-storage-daemon; in CI, which sets `CI=true`, that is a failure."""
    if shutil.which("qemu-storage-daemon") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("needs qemu-storage-daemon")
        pytest.skip("needs qemu-storage-daemon")


@pytest.mark.qemu
@pytest.mark.parametrize("target", NOT_RUN)
@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_on_a_back_end(name: str, target: str) -> None:
    for runnable in read_scripts(SCRIPTS[name]):
        report = runnable.run(Options(target))
        assert not report.failures
        assert (report.skipped is not None) == (name in NOT_RUN[target]), report.skipped


@pytest.mark.qemu
@pytest.mark.parametrize("target", NOT_RUN)
def test_most_scripts_are_for_back_ends(target: str) -> None:
    assert len(SCRIPTS.keys() - NOT_RUN[target]) >= LEAST[target]
