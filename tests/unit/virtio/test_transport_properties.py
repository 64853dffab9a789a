"""Any accesses to a transport's registers, in any order: nothing raises, and a reset revives the disk."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devmodels.conformance import Profile
from devmodels.snapshot import restore_snapshot, save_snapshot
from guestsim.targets.inprocess import InProcessTarget
from tests.qemu.by_hand import Pci
from tests.qemu.legacy_by_hand import LegacyBlk
from tests.qemu.mmio_by_hand import MmioBlk

IO_BASE, BAR4 = 0xC000, 0xE000_0000
COMMAND = 0x04
MMIO = 0xFEB0_0000
MEMORY = 0x20_0000
SMALL = st.sampled_from([0, 1, 2, 3, 4, 7, 8, 11, 15, 16, 31, 64, 128, 256, 4096, MEMORY, MEMORY >> 12])
VALUES = st.one_of(SMALL, st.integers(0, 0xFFFF_FFFF), st.integers(0, (1 << 64) - 1))
SIZES = st.sampled_from([1, 2, 2, 4, 4, 4, 8])
FEW = settings.default.max_examples // 2 if settings.default else 50
"""Each example has a machine or two of its own."""
Access = tuple[str, int, int, int]
Drive = Callable[[InProcessTarget, list[Access]], None]


def accesses(places: dict[str, list[int]]) -> st.SearchStrategy[list[Access]]:
    """Accesses to registers (mostly) and beside them; memory is written, too."""
    one = st.one_of(
        *(
            st.tuples(st.just(place), st.one_of(st.sampled_from(known), st.integers(0, 0x1FF)), SIZES, VALUES)
            for place, known in places.items()
        ),
        st.tuples(st.just("memory"), st.integers(0, 0x3000), SIZES, VALUES),
    )
    return st.lists(one, max_size=40)


LEGACY = [0, 4, 8, 8, 12, 14, 16, 16, 18, 18, 18, 19, 20, 22, 24, 52, 56]
COMMON = [0, 4, 8, 12, 12, 16, 18, 20, 20, 20, 21, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56, 58, 60, 62]
CONTROL = [0x14, 0x20, 0x20, 0x24, 0x28, 0x30, 0x38, 0x3C, 0x40, 0x40, 0x44, 0x44, 0x50, 0x50, 0x60, 0x64]
CONTROL += [0x70, 0x70, 0x70, 0x80, 0x84, 0x90, 0x94, 0xA0, 0xA4, 0xAC, 0xC0, 0xFC, 0x100, 0x120]


def perform(target: InProcessTarget, steps: list[Access]) -> None:
    """Each access is a write, and then a read of the same place."""
    for place, offset, size, value in steps:
        value &= (1 << 8 * size) - 1
        if place == "memory":
            target.ram_write(MEMORY + offset, value.to_bytes(size, "little"))
        elif place == "ports":
            size = min(size, 4)
            target.io_write(IO_BASE + offset, size, value & 0xFFFF_FFFF)
            target.io_read(IO_BASE + offset, size)
        elif place == "config":
            Pci(target, 4).write(0x40 + offset % 0xC0 // 4 * 4, min(size, 4), value & 0xFFFF_FFFF)
        else:
            base = {"common": BAR4, "notify": BAR4 + 0x3000, "mmio": MMIO}[place]
            target.write(base + offset, size, value)
            target.read(base + offset, size)
    target.assembly.machine.run_until_idle()


def machine(shared: bool, **device: object) -> InProcessTarget:
    target = InProcessTarget(
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
        devices=[{"drive": "d0", "id": "v0", "num-queues": 2, **device}],
        shared=shared,
        ram=17 << 20,
    )
    if device["driver"] == "virtio-blk-pci":
        pci = Pci(target, 4)
        pci.write(0x10, 4, IO_BASE)
        pci.place_bar(4, BAR4)
        pci.write(COMMAND, 2, 7)
    return target


def lives_after_a_reset(target: InProcessTarget) -> None:
    """A driver takes over, works, and so does one on a machine made of a snapshot."""
    target.assembly.machine.reset()
    for region in (0x0000, 0x1000, 0x2000, 0x3000):
        target.ram_write(MEMORY + region, bytes(0x1000))
    if target.assembly.machine.mmio:
        disk = MmioBlk(target, MMIO, MEMORY, target.advance)
        disk.start()
        assert disk.request(0, 0, room=512)[0] == 0
    else:
        legacy = LegacyBlk(Pci(target, 4))
        legacy.start()
        assert legacy.request(0, 0, room=512)[0] == 0


@pytest.mark.parametrize("shared", [True, False])
@settings(max_examples=FEW)
@given(accesses({"ports": LEGACY, "common": COMMON, "notify": [0, 4, 8], "config": [0, 4, 8, 12, 16]}))
def test_a_transitional_function(shared: bool, steps: list[Access]) -> None:
    with machine(shared, driver="virtio-blk-pci", addr="4") as target:
        perform(target, steps)
        lives_after_a_reset(target)


@pytest.mark.parametrize("force", [True, False], ids=["version1", "version2"])
@pytest.mark.parametrize("shared", [True, False])
@settings(max_examples=FEW)
@given(accesses({"mmio": CONTROL}))
def test_mmio(force: bool, shared: bool, steps: list[Access]) -> None:
    with machine(shared, driver="virtio-blk-device", **{"force-legacy": force}) as target:
        perform(target, steps)
        lives_after_a_reset(target)


@pytest.mark.parametrize("force", [True, False], ids=["version1", "version2"])
@settings(max_examples=FEW // 3)
@given(accesses({"mmio": CONTROL}))
def test_what_any_accesses_leave_can_be_saved_and_restored(force: bool, steps: list[Access]) -> None:
    def made() -> InProcessTarget:
        return machine(True, driver="virtio-blk-device", **{"force-legacy": force})

    with made() as first, made() as second:
        perform(first, steps)
        saved = save_snapshot(first.assembly)
        restore_snapshot(second.assembly, saved)
        assert save_snapshot(second.assembly) == saved


@settings(max_examples=FEW)
@given(accesses({"ports": LEGACY, "common": COMMON}))
def test_a_lenient_device_stands_them_too(steps: list[Access]) -> None:
    with machine(True, driver="virtio-blk-pci", addr="4") as target:
        target.assembly.violations.profile = Profile.LENIENT
        perform(target, steps)
        lives_after_a_reset(target)
