"""The machines of a script, for a comparison: what the two have in common where the script leaves it open."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guestsim.diff.devices import DEVICES
from guestsim.diff.virtio_devices import VIRTIO_BLK, VIRTIO_SCSI
from guestsim.script.machine import AHCI_HOSTS, IDE_HOSTS

if TYPE_CHECKING:
    from guestsim.diff.device import Device
    from guestsim.script.schema import Script

ALIKE: dict[str, Mapping[str, object]] = {
    "virtio-blk-pci": {**VIRTIO_BLK.ours, "ioeventfd": True},
    "virtio-scsi-pci": {**VIRTIO_SCSI.ours, "ioeventfd": True},
}
"""What makes ours like the other one, where a script leaves it open: `ioeventfd` is on in QEMU."""

NAMED: dict[str, Mapping[str, object]] = {
    **{
        kind: {"vendor": "OF-BOTH", "product": kind, "ver": "1.0", "serial": "of-both"}
        for kind in ("scsi-hd", "scsi-cd")
    },
    **{kind: {"serial": "of-both"} for kind in ("ide-hd", "ide-cd")},
}
"""Who a unit is on both sides, where a script leaves it open; QEMU counts its ATA devices otherwise."""

THEIRS: dict[str, Mapping[str, object]] = {"scsi-hd": {"dpofua": True}}
"""What makes QEMU's like ours, where a script leaves it open."""

_FAMILIES = {
    "virtio-blk-pci": ("virtio-blk", "virtio-blk-transitional"),
    "virtio-scsi-pci": ("virtio-scsi",),
}

_UNITS = {"ide-hd": "disk", "ide-cd": "cd"}


def devices_like(script: Script) -> Iterator[Device]:
    """The devices of the tables that those of a script are like."""
    names: dict[str, None] = {}
    kinds = [str(device.get("driver")) for device in script.devices]
    for kind in kinds:
        names |= dict.fromkeys(_FAMILIES.get(kind, ()))
        for host, family in ((AHCI_HOSTS, "ahci"), (IDE_HOSTS, "ide")):
            if kind in host:
                names |= dict.fromkeys(f"{family}-{_UNITS[unit]}" for unit in kinds if unit in _UNITS)
                names |= dict.fromkeys((f"{family}-disk",))
    return (DEVICES[name] for name in names)


def copied(options: Any, folder: Path, files: dict[Path, Path]) -> Any:
    """A drive's options, with copies of the files that are there; `files` is told of each.

    What is only read needs none.
    """
    if isinstance(options, list):
        return [copied(one, folder, files) for one in options]
    if not isinstance(options, dict):
        return options
    found = {name: copied(value, folder, files) for name, value in options.items()}
    file = options.get("filename")
    if isinstance(file, str) and Path(file).is_file() and not options.get("read-only"):
        copy = folder / f"{len([*folder.iterdir()])}-{Path(file).name}"
        shutil.copyfile(file, copy)
        found["filename"] = str(copy)
        files[Path(file)] = copy
    return found
