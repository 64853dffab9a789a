"""NOTIFY_ON_EMPTY of the legacy interface, VIRTIO 1.4 §6.3: QEMU's devices have it, so ours under its profile."""

from __future__ import annotations

import pytest

from guestsim.diff.profiles import Profile
from guestsim.targets.inprocess import InProcessTarget
from tests.qemu.by_hand import Pci
from tests.qemu.legacy_by_hand import LegacyBlk

NOTIFY_ON_EMPTY, GET_ID = 1 << 24, 8


@pytest.mark.parametrize(
    ("profile", "offered", "told"),
    [
        ("strict", 0, {0: 0, NOTIFY_ON_EMPTY: 0}),
        ("qemu", NOTIFY_ON_EMPTY, {0: 0, NOTIFY_ON_EMPTY: 1}),
    ],
)
def test_a_driver_that_wants_no_interrupts_is_told_when_none_is_left(
    profile: Profile, offered: int, told: dict[int, int]
) -> None:
    with InProcessTarget(
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "addr": "4", "id": "v0"}],
        profile=profile,
    ) as target:
        disk = LegacyBlk(Pci(target, 4))
        disk.reset()
        assert disk.read(0, 4) & NOTIFY_ON_EMPTY == offered
        for features, isr in told.items():
            disk.start(features)
            target.ram_write(disk.avail, b"\1\0")
            disk.request(GET_ID, 0, room=20)
            assert (disk.read(4, 4), disk.read(0x13, 1)) == (features & offered, isr)
