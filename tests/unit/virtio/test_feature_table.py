"""`docs/virtio.md` says which features are offered: it is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devmodels.assembly import assemble
from devmodels.options import decode
from devmodels.virtio.constants import NOTIF_CONFIG_DATA
from devmodels.virtio_blk.pci import VirtioBlkPciOptions

TABLE = Path(__file__).parents[3] / "docs" / "virtio.md"
ROWS = [
    (found[1], int(found[2]), found[3].strip())
    for found in re.finditer(r"^\| (VIRTIO_\w+) \((\d+)\) \| ([^|]*) \|", TABLE.read_text(), re.M)
]


def offered(options: str, *, read_only: bool = False) -> int:
    """What a virtio-blk-pci with these options offers."""
    given = decode(f"driver=virtio-blk-pci,drive=d0,id=v0{options}", VirtioBlkPciOptions, what="device")
    drive = {"driver": "memory", "node-name": "d0", "size": 1 << 20, "read-only": read_only}
    with assemble(blockdevs=[drive], devices=[given], ram=1 << 20) as assembly:
        return assembly.virtio_device("v0").device_features


def test_every_bit_is_in_the_table() -> None:
    assert len({bit for _, bit, _ in ROWS}) == len(ROWS) == 31
    assert not offered("") & ~sum(1 << bit for _, bit, _ in ROWS)


@pytest.mark.parametrize(("name", "bit", "when"), ROWS)
def test_a_row_is_true(name: str, bit: int, when: str) -> None:
    by_default = bool(offered("") >> bit & 1)
    if when in ("always", "no"):
        assert by_default is (when == "always"), name
        return
    assert not by_default, name
    if when == "read-only drive":
        assert offered("", read_only=True) >> bit & 1
    else:
        assert offered(f",{when}") >> bit & 1


@pytest.mark.parametrize(
    ("device", "less"),
    [
        ({"driver": "virtio-scsi-pci"}, 0),
        ({"driver": "virtio-blk-device", "drive": "d0"}, NOTIF_CONFIG_DATA),
        ({"driver": "virtio-scsi-device"}, NOTIF_CONFIG_DATA),
    ],
    ids=lambda value: value["driver"] if isinstance(value, dict) else "",
)
def test_other_devices_offer_the_same_of_rings_and_transports(device: dict[str, str], less: int) -> None:
    """Bits from 24 on (VIRTIO 1.4 §6); NOTIF_CONFIG_DATA is PCI's."""
    drive = {"driver": "memory", "node-name": "d0", "size": 1 << 20}
    with assemble(blockdevs=[drive], devices=[{**device, "id": "v1"}], ram=1 << 20) as assembly:
        found = assembly.virtio_device("v1").device_features
    assert found >> 24 << 24 == offered("") >> 24 << 24 & ~less
