"""The legacy interface of virtio-blk-pci: a live QEMU's and ours, read by the same hands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from guestsim.targets.inprocess import InProcessTarget

from .by_hand import Pci
from .legacy_by_hand import LegacyBlk
from .machines import disk, machine, sector_pattern

if TYPE_CHECKING:
    from pathlib import Path

    from guestsim.diff.profiles import Profile

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

SCSI, NOTIFY_ON_EMPTY, ANY_LAYOUT = 1 << 7, 1 << 24, 1 << 27
FLUSH_AND_WCE = 1 << 9 | 1 << 11
EVENT_IDX_AND_INDIRECT = 3 << 28
CONFIG_END = 57
"""The end of the configuration's last field in QEMU 7.2, write_zeroes_may_unmap."""
MODES = [{}, {"disable-modern": True}]


class Both:
    """The same function in a QEMU and in our machine."""

    def __init__(self, image: Path, stack: ExitStack, profile: Profile = "strict", **options: object) -> None:
        device = {"driver": "virtio-blk-pci", "id": "v0", "drive": "d0", "addr": "4", "num-queues": 4}
        theirs = stack.enter_context(machine(image, **options))  # type: ignore[arg-type]
        # QEMU has locked its image; ours has the same content, and is to say of itself what QEMU says.
        copy = image.with_suffix(".ours")
        copy.write_bytes(image.read_bytes())
        limits = {"max-discard-seg": 1, "max-write-zeroes-seg": 1}
        ours = stack.enter_context(
            InProcessTarget(
                blockdevs=[{**disk(copy), "discard": "unmap"}],
                devices=[{**device, **limits, **options}],
                profile=profile,
            )
        )
        self.disks = LegacyBlk(Pci(theirs, 4)), LegacyBlk(Pci(ours, 4))


@pytest.fixture(params=MODES, ids=["transitional", "legacy"])
def both(image: Path, request: pytest.FixtureRequest) -> Iterator[Both]:
    with ExitStack() as stack:
        yield Both(image, stack, **request.param)


def test_the_function_looks_alike(both: Both) -> None:
    theirs, ours = (
        {
            "ids": [disk.pci.read(at, 4) for at in (0x00, 0x08, 0x2C)],
            "legacy BAR": disk.bar_size(),
            "MSI-X BAR": disk.pci.bar_size(1),
            "modern BAR": disk.pci.read(0x20, 4) & 0xF,
            "capabilities": sorted(kind for kind, _ in disk.pci.capabilities()),
        }
        for disk in both.disks
    )
    assert ours == theirs


def test_registers_after_reset_are_alike(both: Both) -> None:
    """But for NOTIFY_ON_EMPTY, which a device may offer (§6.3); and QEMU, without the modern interface, offers SCSI and
    keeps ANY_LAYOUT back.
    """
    seen = []
    for legacy in both.disks:
        legacy.reset()
        registers = {at: legacy.read(at, size) for at, size in ((0, 4), (4, 4), (0x12, 1), (0x13, 1))}
        registers[0] &= ~(SCSI | NOTIFY_ON_EMPTY | ANY_LAYOUT)
        queues = []
        for queue in range(6):
            legacy.write(0x0E, 2, queue)
            queues.append((legacy.read(0x0C, 2), legacy.read(0x08, 4)))
        seen.append((registers, queues))
    theirs, ours = seen
    assert ours == theirs


def test_the_configuration_is_alike_in_every_width(both: Both) -> None:
    theirs, ours = (
        [legacy.read(20 + at, size) for size in (1, 2, 4) for at in range(0, CONFIG_END - size, size)]
        for legacy in both.disks
    )
    assert ours == theirs


def test_the_header_grows_with_msix(both: Both) -> None:
    seen = []
    for legacy in both.disks:
        msix = dict(legacy.pci.capabilities())[0x11]
        legacy.pci.write(msix + 2, 2, 0x8000)
        before = [legacy.read(at, 2) for at in (0x14, 0x16)]
        legacy.write(0x14, 2, 1)
        legacy.write(0x16, 2, 2)
        after = [legacy.read(at, 2) for at in (0x14, 0x16)]
        legacy.write(0x16, 2, 99)
        refused = legacy.read(0x16, 2)
        seen.append((before, after, refused, legacy.read(24, 4), legacy.read(28, 4)))
    theirs, ours = seen
    assert ours == theirs


@pytest.mark.parametrize("features", [0, FLUSH_AND_WCE, EVENT_IDX_AND_INDIRECT, 0xFFFF_FFFF])
def test_requests_end_alike(both: Both, features: int) -> None:
    """But that ours fills the buffer of what it refuses, and of an answer that is shorter, with zeroes."""
    seen = []
    for legacy in both.disks:
        legacy.start(features)
        steps = [
            legacy.request(0, 5, room=512),
            legacy.request(1, 6, data=b"\x5a" * 512),
            legacy.request(0, 6, room=512),
            legacy.request(4, 0),
            legacy.request(5, 0),
            legacy.request(8, 0, room=20)[:2],
            legacy.request(0, 4096, room=512)[:2],
        ]
        seen.append((legacy.read(0x04, 4), legacy.read(0x12, 1), legacy.read(0x13, 1), steps))
    theirs, ours = seen
    assert ours == theirs
    assert ours[3][0] == (0, 513, sector_pattern(5))


def test_a_queue_can_be_used_before_driver_ok(both: Both) -> None:
    for legacy in both.disks:
        legacy.reset()
        legacy.place_queue()
        assert legacy.request(0, 9, room=512) == (0, 513, sector_pattern(9))


def test_under_its_profile_a_queue_that_is_empty_is_told_of(image: Path) -> None:
    """NOTIFY_ON_EMPTY, though the driver wants no interrupts (§6.3)."""
    with ExitStack() as stack:
        both = Both(image, stack, profile="qemu")
        seen = []
        for disk in both.disks:
            disk.reset()
            told = [disk.read(0, 4) & NOTIFY_ON_EMPTY]
            for features in (0, NOTIFY_ON_EMPTY, NOTIFY_ON_EMPTY | 1 << 29):
                disk.start(features)
                disk.target.ram_write(disk.avail, b"\1\0")
                for _ in range(3):
                    disk.request(8, 0, room=20)
                    told.append(disk.read(0x13, 1))
            seen.append(told)
    ours, theirs = seen[1], seen[0]
    assert ours == theirs
    assert NOTIFY_ON_EMPTY in ours
