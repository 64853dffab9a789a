"""QEMU machines for tests, in one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.targets.qemu import QemuTarget

if TYPE_CHECKING:
    from pathlib import Path

    from guestsim.targets.qmp import Json


def sector_pattern(sector: int) -> bytes:
    """The 512 bytes of `sector` in the image that the tests read."""
    return f"sector {sector:8} ".encode() * 32


def disk(image: Path) -> dict[str, Json]:
    """The block node `d0` over an image file."""
    return {"driver": "file", "filename": str(image), "node-name": "d0"}


def virtio_blk(**properties: Json) -> dict[str, Json]:
    """The virtio-blk function `v0` on `d0` at 00:04.0, unless `properties` say otherwise."""
    return {"driver": "virtio-blk-pci", "id": "v0", "drive": "d0", "addr": "4", "num-queues": 4, **properties}


def machine(image: Path, *more: dict[str, Json], **properties: Json) -> QemuTarget:
    """A machine with `image` on a virtio-blk function of these properties, after the devices `more`."""
    return QemuTarget(blockdevs=[disk(image)], devices=[*more, virtio_blk(**properties)])
