"""A stock Linux with its own ahci driver works on an HBA of ours, over vfio-user."""

from __future__ import annotations

import pytest

from guestsim.targets.qmp import Json

from .conftest import Check, needed
from .scsi import MIB, image, items, monitor, pattern
from .test_linux_vfio_user import boot
from .vfio import file_node, vfio_serve
from .vm import Guest, GuestRun, run_guest

pytestmark = pytest.mark.guest

SECOND = 10**9  # ns

ITEMS = [*items("ahci.sh"), *items("ext4.sh"), "end"]


@pytest.fixture(scope="module")
def ahci(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    """One disk of 64 MiB at port 0."""
    folder = tmp_path_factory.mktemp("ahci")
    return boot(folder, "ahci.sh", "ich9-ahci,id=f0", "ide-hd,bus=f0.0,drive=d0,id=hd0,serial=SN-1")


@pytest.mark.parametrize("item", ITEMS)
def test_a_disk_is_found_read_and_written(ahci: GuestRun, check: Check, item: str) -> None:
    check(ahci, item)


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    """Two disks: one with a bad sector, one that is slow when it shall be."""
    folder = tmp_path_factory.mktemp("ahci-errors")
    content = pattern(7, MIB)
    bad: dict[str, object] = {
        "driver": "blkdebug",
        "node-name": "d0",
        "image": file_node(image(folder, "a", content), "f0"),
        "inject-error": [{"event": "none", "errno": 5, "sector": 1003}],
    }
    slow = {"driver": "delay", "node-name": "d1", "file": file_node(image(folder, "b", content), "f1")}
    disk = {"driver": "ide-hd", "bus": "f0.1", "drive": "d1", "id": "hd1"}

    def attend(guest: Guest) -> None:
        guest.await_item("neighbours")
        with monitor(folder) as client:

            def slow_by(ns: int) -> None:
                options: Json = {"driver": "delay", "node-name": "d1", "file": "f1", "read-ns": ns}
                client.execute("blockdev-reopen", {"options": [options]})

            slow_by(6 * SECOND)
            guest.tell("g")
            guest.await_item("hung")
            slow_by(0)
            guest.await_item("answered")
            client.execute("device_del", {"id": "hd1"})
            guest.tell("g")
            guest.await_item("unplugged")
            client.execute("device_add", disk)
            guest.tell("g")
            guest.await_item("plugged")

    devices = ["ich9-ahci,id=f0", "ide-hd,bus=f0.0,drive=d0,id=hd0", "ide-hd,bus=f0.1,drive=d1,id=hd1"]
    with needed(), vfio_serve(folder, [bad, {**slow, "read-ns": 0}], devices) as backend:
        files = {"sector0.bin": content[:4096]}
        run = run_guest("ahci-errors.sh", backend, files=files, attend=attend, timeout=240)
    assert backend.status == 0, backend.words()
    assert "Traceback" not in backend.words()
    return run


@pytest.mark.parametrize("item", [*items("ahci-errors.sh"), "end"])
def test_errors_are_recovered_from_and_disks_come_and_go(errors: GuestRun, check: Check, item: str) -> None:
    check(errors, item)
