"""A stock Linux with its own ahci driver works on an HBA of ours, over vfio-user."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from guestsim.targets.qmp import Json

from . import transcript
from .cd import FILES, cd_files, change_media, iso
from .conftest import Check, needed
from .replayed import Recorded, done_again
from .scsi import MIB, all_items, image, items, monitor, pattern
from .test_linux_vfio_user import SIZE, content, data_files
from .vfio import file_node, vfio_serve
from .vm import Guest, run_guest

pytestmark = pytest.mark.guest
PAGE = transcript.ATA

SECOND = 10**9  # ns


def two_disks_and_a_cd(folder: Path) -> Recorded:
    """Disks of 64 MiB at ports 0 and 1, a CD with two files at port 2."""
    first, second = iso(folder / "first.iso", FILES), iso(folder / "second.iso", {"other.txt": b"other\n"})
    nodes = [
        file_node(image(folder, "a", content(), SIZE)),
        file_node(image(folder, "b", pattern(3, MIB), SIZE), "d1"),
        {**file_node(first, "c0"), "read-only": True},
    ]
    devices = (
        "ich9-ahci,id=f0",
        "ide-hd,bus=f0.0,drive=d0,id=hd0,serial=SN-1",
        "ide-hd,bus=f0.1,drive=d1,id=hd1",
        "ide-cd,bus=f0.2,drive=c0,id=cd0",
    )
    trace = folder / "guest.trace"
    with needed(), vfio_serve(folder, nodes, devices, ("--record", str(trace))) as backend:
        run = run_guest(
            "ahci.sh",
            backend,
            files={**data_files(size=SIZE), **cd_files(first, FILES)},
            attend=lambda guest: change_media(guest, folder, "cd0", second),
            reboots=True,
            timeout=300,
        )
    assert backend.status == 0, backend.words()
    assert "Traceback" not in backend.words()
    return Recorded.without_images(run, trace, "a", "b", "*.iso")


@pytest.fixture(scope="module")
def ahci(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return two_disks_and_a_cd(tmp_path_factory.mktemp("ahci"))


@pytest.mark.parametrize("item", [*all_items("ahci.sh"), *items("ata-locked.sh")])
def test_two_disks_and_a_cd_drive(ahci: Recorded, documented: Check, item: str) -> None:
    """AHCI: two disks and a CD drive

    `ich9-ahci` with `ide-hd` of 64 MiB at ports 0 and 1 (`disk0` with `serial=SN-1`, `disk1`), and `ide-cd` at port 2
    (`cd0`), which begins with an ISO image. The host's user opens the locked tray (`blockdev-open-tray`, of which the
    guest is only asked), changes the medium (`blockdev-change-medium`) and takes it out (`eject`). After `marked` the
    machine starts again. All of it is recorded (`--record`), and done again without guest and images.
    """
    documented(ahci.run, item)


def test_all_of_it_is_done_again_without_the_guest(
    ahci: Recorded, record_property: Callable[[str, object], None]
) -> None:
    done_again(ahci, record_property, 4000)


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
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
    trace = folder / "guest.trace"
    more = ("--record", str(trace))
    with needed(), vfio_serve(folder, [bad, {**slow, "read-ns": 0}], devices, more) as backend:
        files = {"sector0.bin": content[:4096]}
        run = run_guest("ahci-errors.sh", backend, files=files, attend=attend, timeout=240)
    assert backend.status == 0, backend.words()
    assert "Traceback" not in backend.words()
    return Recorded.without_images(run, trace, "a", "b")


@pytest.mark.parametrize("item", items("ahci-errors.sh"))
def test_errors_are_recovered_from_and_disks_come_and_go(
    errors: Recorded, documented: Check, item: str
) -> None:
    """AHCI: errors, and disks that come and go

    `disk0` has a bad sector (`blkdebug`), which is 1003. Reads of `disk1` are held up for 6 s (`delay`) before `hung`,
    and not any more after it; then the host takes it out and puts it in again (`device_del`, `device_add`). Recorded
    and done again, as above.
    """
    documented(errors.run, item)


def test_errors_are_made_again_without_the_guest(
    errors: Recorded, record_property: Callable[[str, object], None]
) -> None:
    done_again(errors, record_property, 20)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """MSI-X."""
    folder = tmp_path_factory.mktemp("ahci-vectors")
    nodes = [file_node(image(folder, name, b"", MIB), name) for name in ("d0", "d1")]
    disks = [f"ide-hd,bus=f0.{number},drive=d{number}" for number in range(2)]
    trace = folder / "guest.trace"
    more = ("--record", str(trace))
    with needed(), vfio_serve(folder, nodes, ["ahci,id=f0,ports=2,msix=on", *disks], more) as backend:
        run = run_guest("ahci-vectors.sh", backend, timeout=120)
    assert backend.status == 0, backend.words()
    assert "Traceback" not in backend.words()
    return Recorded.without_images(run, trace, "d0", "d1")


@pytest.mark.parametrize("item", items("ahci-vectors.sh"))
def test_each_port_has_a_message_of_its_own(vectors: Recorded, documented: Check, item: str) -> None:
    """AHCI: a message for each port

    `ahci,ports=2,msix=on`: a function with identifiers of its own, and MSI-X. Recorded and done again, as above.
    """
    documented(vectors.run, item)


def test_messages_are_sent_again_without_the_guest(
    vectors: Recorded, record_property: Callable[[str, object], None]
) -> None:
    done_again(vectors, record_property, 128)
