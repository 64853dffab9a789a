"""A Linux guest on a SCSI host with 64 logical units, while others come and go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guestsim.targets.qmp import Json

from . import transcript
from .conftest import Check, needed
from .scsi import MIB, Unit, image, items, monitor, scsi_serve
from .vm import Guest, GuestRun, run_guest

pytestmark = pytest.mark.guest
PAGE = transcript.SCSI

PLACES = [(target, lun) for target in range(4) for lun in range(16)]


def marked(folder: Path, target: int, lun: int, size: int = MIB) -> Unit:
    """A unit whose first block says where it is."""
    mark = f"unit {target}:{lun}\n".encode()
    return Unit(image(folder, f"{target}-{lun}.img", mark, size), target, lun)


def plug(folder: Path, unit: Unit) -> None:
    with monitor(folder) as client:
        client.execute("blockdev-add", json.loads(json.dumps(unit.blockdev())))
        address = {"type": "unix", "path": str(folder / "vu.sock")}
        export: dict[str, Json] = {"type": "vhost-user-scsi", "id": f"e{unit.name}", "node-name": unit.name}
        place: dict[str, Json] = {"scsi-id": unit.target, "lun": unit.lun, "addr": address}
        client.execute("block-export-add", {**export, **place, "writable": True})


def unplug(folder: Path, unit: Unit) -> None:
    with monitor(folder) as client:
        client.execute("block-export-del", {"id": f"e{unit.name}", "mode": "hard"})


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    folder = tmp_path_factory.mktemp("many")
    units = [marked(folder, *place) for place in PLACES]
    names = "".join(f"{target}:{lun}\n" for target, lun in PLACES)
    files = {"expected": f"units={len(units)}\n".encode(), "units": names.encode()}
    new = [marked(folder, 5, 0), marked(folder, 0, 77), marked(folder, 6, 0)]

    def come_and_go(guest: Guest) -> None:
        guest.await_item("ready")
        plug(folder, new[0])
        guest.await_item("unit-came")
        plug(folder, new[1])
        guest.await_item("unit-of-a-known-target-came")
        unplug(folder, new[1])
        guest.await_item("unit-gone")
        unplug(folder, new[0])
        guest.await_item("target-gone")
        with monitor(folder) as client:
            client.execute("block_resize", {"node-name": units[0].name, "size": 4 * MIB})
        guest.await_item("sg_xcopy")
        with guest.qmp() as machine:
            machine.execute("stop")
            plug(folder, new[2])
            unplug(folder, units[PLACES.index((0, 5))])
            machine.execute("cont")

    with needed(), scsi_serve(units, folder, 2) as backend:
        run = run_guest(
            "scsi-many.sh", backend, files=files, cpus=2, queues=2, timeout=240, attend=come_and_go
        )
    assert backend.status == 0, backend.words()
    return run


@pytest.mark.parametrize("item", items("scsi-many.sh"))
def test_64_units_are_found_and_others_come_and_go(many: GuestRun, documented: Check, item: str) -> None:
    """64 units, and others that come and go

    The units are LUNs 0 to 15 of targets 0 to 3. The host plugs and unplugs with `block-export-add` and
    `block-export-del`, and resizes with `block_resize`; `uevent` (BusyBox) listens as udev does. For `events-missed` it
    stops QEMU, plugs one, unplugs another, and lets QEMU go on: the driver is told that it has missed something.
    """
    documented(many, item)
