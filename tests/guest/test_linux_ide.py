"""A stock Linux's ata_piix on a PIIX4 of ours in native mode, over vfio-user: two disks and a CD drive."""

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
from .test_linux_vfio_user import SIZE, content
from .vfio import file_node, vfio_serve
from .vm import Guest, run_guest

pytestmark = pytest.mark.guest
PAGE = transcript.ATA

SECOND = 10**9  # ns
BAD = pattern(7, MIB)


def two_channels(folder: Path) -> Recorded:
    """A disk and a drive on one channel; on the other one a disk with a bad sector, which is slow when it shall be."""
    first, second = iso(folder / "first.iso", FILES), iso(folder / "second.iso", {"other.txt": b"other\n"})
    bad: dict[str, object] = {
        "driver": "blkdebug",
        "node-name": "b1",
        "image": file_node(image(folder, "bad.img", BAD, SIZE), "f1"),
        "inject-error": [{"event": "none", "errno": 5, "sector": 1003}],
    }
    nodes = [
        file_node(image(folder, "disk.img", content(), SIZE)),
        {**file_node(first, "c0"), "read-only": True},
        {"driver": "delay", "node-name": "d1", "read-ns": 0, "file": bad},
    ]
    devices = (
        "piix4-ide,id=f0,native=on",
        "ide-hd,bus=f0.0,unit=0,drive=d0,serial=SN-1",
        "ide-cd,bus=f0.0,unit=1,drive=c0,id=cd0",
        "ide-hd,bus=f0.1,unit=0,drive=d1",
    )

    def attend(guest: Guest) -> None:
        change_media(guest, folder, "cd0", second)
        guest.await_item("media-error")
        with monitor(folder) as client:

            def slow_by(ns: int) -> None:
                options: Json = {"driver": "delay", "node-name": "d1", "file": "b1", "read-ns": ns}
                client.execute("blockdev-reopen", {"options": [options]})

            slow_by(6 * SECOND)
            guest.tell("go")
            guest.await_item("hung")
            slow_by(0)

    files = {
        "expected": f"sectors={SIZE // 512}\n".encode(),
        "sector0.bin": content()[:4096],
        "guest.bin": pattern(2, 4 * MIB),
        "bad0.bin": BAD[:4096],
        **cd_files(first, FILES),
    }
    trace = folder / "guest.trace"
    with needed(), vfio_serve(folder, nodes, devices, ("--record", str(trace))) as backend:
        run = run_guest("ide.sh", backend, files=files, attend=attend, reboots=True, timeout=300)
    assert backend.status == 0, backend.words()
    assert "Traceback" not in backend.words()
    return Recorded.without_images(run, trace, "*.img", "*.iso")


@pytest.fixture(scope="module")
def ide(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return two_channels(tmp_path_factory.mktemp("ide"))


@pytest.mark.parametrize("item", [*all_items("ide.sh"), *items("ata-locked.sh")])
def test_disks_and_a_drive_on_two_channels(ide: Recorded, documented: Check, item: str) -> None:
    """IDE: a disk and a CD drive on one channel, a disk with errors on the other

    `piix4-ide,native=on` by `ata_piix`: `disk0` and `cd0` on the first channel, as above; `disk1`, whose sector 1003 is
    bad (`blkdebug`) and whose reads are held up for 6 s (`delay`) before `hung`, on the second one. After `marked` the
    machine starts again. Recorded and done again, as above.
    """
    documented(ide.run, item)


def test_all_of_it_is_done_again_without_the_guest(
    ide: Recorded, record_property: Callable[[str, object], None]
) -> None:
    done_again(ide, record_property, 1000)
