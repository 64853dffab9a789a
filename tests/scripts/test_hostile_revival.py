"""Whatever a hostile guest has done, a driver that begins anew resets the device and finds one that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from devmodels.virtio.queue import VirtQueue
from devmodels.virtio_blk import VirtioBlk
from guestsim.script.load import parse_all
from guestsim.script.run import Options, YamlScript
from tests.scripts.corpus import all_loaded, loaded

FOLDER = Path(__file__).parent / "hostile"
HOSTILE = sorted(FOLDER.glob("*.guest.yaml"))

BEGINNING = {
    "virtio-blk": ("probe", "flush", "read: {at: 0, length: 512}"),
    "virtio-scsi": ("probe", "scsi: {cdb: inquiry allocation=36}"),
    "ich9-ahci": ("ata-probe: {}",),
    "piix3-ide": ("ide-reset: {}", "ide-probe: {}"),
    "": ("ata-probe: {}",),
}
"""Of a driver, by the beginning of the host's name; the last one where a script is for several."""
FIRST = {
    "ide-hd": ("ata: {command: read-dma, count: 1}",),
    "ide-cd": ("packet: {cdb: inquiry allocation=36}",),
}
"""What a driver does to a unit of ATA first."""


def story(path: Path) -> str:
    """A hostile script, and then another driver's beginning."""
    drivers = [str(device["driver"]) for device in loaded(path).devices]
    host = "" if len(all_loaded(path)) > 1 else drivers[0]
    steps: tuple[str, ...] = next(each for start, each in BEGINNING.items() if host.startswith(start))
    unit: tuple[str, ...] = next((each for driver, each in FIRST.items() if driver in drivers), ())
    text = path.read_text()
    if "clock: stepped" in text:
        # Nothing that takes time comes back by itself.
        steps = tuple(f"submit: [{each}]" if each.startswith("read") else each for each in steps)
        unit = "sleep: 1s", "wait-for: answers"
    return text + "".join(f"  - {step}\n" for step in (*steps, *unit))


def failures(path: Path) -> list[str]:
    whole = parse_all(story(path), path.name)
    found = [
        failure for each in whole for failure in YamlScript(*each).run(Options(memory="shared")).failures
    ]
    assert len(whole[0][0].steps) > len(loaded(path).steps)
    return found


@pytest.mark.long
@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.name.removesuffix(".guest.yaml"))
def test_a_driver_that_begins_anew_finds_a_device_that_works(path: Path) -> None:
    assert failures(path) == []


def test_one_that_stays_wedged_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    enable, enabled = VirtioBlk.enable_queue, list[object]()

    def first_time_only(device: VirtioBlk, queue: VirtQueue) -> None:
        if not enabled:
            enable(device, queue)
        enabled.append(queue)

    monkeypatch.setattr(VirtioBlk, "enable_queue", first_time_only)
    assert failures(FOLDER / "lba-overflow.guest.yaml")
