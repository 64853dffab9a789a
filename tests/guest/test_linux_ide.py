"""A stock Linux's ata_piix on a PIIX4 of ours in native mode, over vfio-user: a disk and a CD drive on one channel."""

from __future__ import annotations

from hashlib import md5

import pytest

from .conftest import Check, needed
from .scsi import MIB, image, items, pattern
from .vfio import file_node, vfio_serve
from .vm import GuestRun, run_guest

pytestmark = pytest.mark.guest

SIZE = 64 * MIB
CONTENT = pattern(1, SIZE)
DISC = pattern(3, 4 * MIB)


@pytest.fixture(scope="module")
def ide(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    folder = tmp_path_factory.mktemp("ide")
    disk = file_node(image(folder, "disk.img", CONTENT, SIZE))
    disc = {**file_node(image(folder, "disc.img", DISC, len(DISC)), "c0"), "read-only": True}
    digest = md5(DISC, usedforsecurity=False).hexdigest()
    expected = f"sectors={SIZE // 512}\nblocks={len(DISC) // 2048}\nmd5={digest}\n"
    devices = (
        "piix4-ide,id=f0,native=on",
        "ide-hd,bus=f0.0,unit=0,drive=d0,serial=SN-1",
        "ide-cd,bus=f0.0,unit=1,drive=c0",
    )
    with needed(), vfio_serve(folder, [disk, disc], devices) as backend:
        run = run_guest(
            "ide.sh",
            backend,
            files={"expected": expected.encode(), "sector0.bin": CONTENT[:4096]},
            timeout=240,
        )
    assert "Traceback" not in backend.words()
    return run


@pytest.mark.parametrize("item", items("ide.sh"))
def test_a_disk_and_a_drive_on_a_channel(ide: GuestRun, check: Check, item: str) -> None:
    check(ide, item)
