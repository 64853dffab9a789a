"""CDs of a Linux guest: read, mounted, locked, ejected by either side, changed; and a disk that can be taken out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pytest

from . import transcript
from .cd import BLOCK, FILES, iso
from .conftest import Check, needed
from .scsi import MIB, Unit, image, items, monitor, pattern, scsi_serve
from .vm import Guest, GuestRun, run_guest

pytestmark = pytest.mark.guest
PAGE = transcript.SCSI

AUDIO_SECTOR = 2352
DRIVE = "ed0.0"

SHEET = """CATALOG 1234567890123
TITLE "An album"
FILE "first.iso" BINARY
  TRACK 01 MODE1/2048
    INDEX 01 00:00:00
FILE "audio.bin" BINARY
  TRACK 02 AUDIO
    TITLE "Noise"
    PERFORMER "Nobody"
    ISRC DEVMD2600007
    PREGAP 00:02:00
    INDEX 01 00:00:00
"""


@dataclass(slots=True)
class Story:
    """The run, and what the monitor told meanwhile."""

    run: GuestRun = field(default_factory=GuestRun)
    trays: list[tuple[str, bool]] = field(default_factory=list)


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("cd")
    first, second = iso(folder / "first.iso", FILES), iso(folder / "second.iso", {"other.txt": b"other\n"})
    audio = image(folder, "audio.bin", pattern(8, 300 * AUDIO_SECTOR))
    sheet = image(folder, "disc.cue", SHEET.encode())
    units = [
        Unit(first, read_only=True, options="device-type=cd"),
        Unit(sheet, lun=1, read_only=True, options="device-type=cd", driver="cue"),
        Unit(image(folder, "disk.img", b"", MIB), lun=2, options="removable=on"),
    ]
    content = first.read_bytes()
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  /mnt/{name}\n" for name, data in FILES.items())
    files = {
        "expected": f"blocks={len(content) // BLOCK}\nsum={hashlib.sha256(content).hexdigest()}\n".encode(),
        "sums": sums.encode(),
        "audio.bin": audio.read_bytes()[: 2 * AUDIO_SECTOR],
    }
    story = Story()

    def user(guest: Guest) -> None:
        with monitor(folder) as client:
            guest.await_item("locked")
            client.execute("blockdev-open-tray", {"id": DRIVE})
            guest.tell("go")
            guest.await_item("eject")
            client.execute("blockdev-change-medium", {"id": DRIVE, "filename": str(second)})
            guest.tell("go")
            guest.await_item("medium-changed")
            client.execute("eject", {"id": DRIVE})
            guest.tell("go")
            guest.await_item("removable-disk")
            client.execute("query-status")
            told = [data for name, data in client.take_events() if name == "DEVICE_TRAY_MOVED"]
            story.trays += [(str(data["id"]), bool(data["tray-open"])) for data in told]

    with needed(), scsi_serve(units, folder) as backend:
        story.run = run_guest("scsi-cd.sh", backend, files=files, attend=user, timeout=240)
    assert backend.status == 0, backend.words()
    return story


@pytest.mark.parametrize("item", items("scsi-cd.sh"))
def test_media_come_and_go(drives: Story, documented: Check, item: str) -> None:
    """CDs, and a disk that can be taken out

    Drives by `device-type=cd`: LUN 0 with an ISO image, LUN 1 with a cue sheet. The host's user opens the locked tray
    (`blockdev-open-tray`, of which the guest is only asked), changes the medium (`blockdev-change-medium`) and takes it
    out (`eject`). LUN 2 is a disk with `removable=on`.
    """
    documented(drives.run, item)


def test_whoever_controls_the_machine_hears_of_the_trays(drives: Story) -> None:
    """The guest, then the host change the medium; the host takes it out, and the guest's mount closes the tray."""
    of_the_drive = [is_open for name, is_open in drives.trays if name == DRIVE]
    assert of_the_drive == [True, False] * 3
