"""A function of ours and QEMU's virtio-blk function under the same accesses: configuration space, BARs, MSI-X table.

Where the two differ by design the registers are left out, with the reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Protocol

import pytest

from devmodels.pci import BarKind, MsixCapability, PciFunction, PciIdentity, Windows
from guestsim.targets.qemu import QemuTarget
from tests.unit.pci.world import ECAM, Scratch, World

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86_64"),
]

SLOT = 4
CONFIG = ECAM + (SLOT << 15)
MSIX = 0x98
VECTORS = 5
TABLE = 0xE000_0000
LARGE = 0xE100_0000


class Guest(Protocol):
    """The accesses that both machines take."""

    def read(self, address: int, size: int) -> int: ...

    def write(self, address: int, size: int, value: int) -> None: ...

    def io_read(self, port: int, size: int) -> int: ...

    def io_write(self, port: int, size: int, value: int) -> None: ...


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Guest, Guest]]:
    """QEMU's function, and one of ours with the same identity, BARs and MSI-X capability."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    world = World()
    identity = PciIdentity(
        0x1AF4, 0x1042, 0x010000, revision=1, subsystem_vendor_id=0x1AF4, subsystem_id=0x1100
    )
    function = PciFunction(identity, name="ours")
    msix = MsixCapability(VECTORS, table_bar=1, table_offset=0, pba_bar=1, pba_offset=0x800)
    windows = Windows(0x1000)
    windows.place(0, msix.table_bytes, msix.table)
    windows.place(0x800, msix.pba_bytes, msix.pending)
    function.add_bar(1, 0x1000, windows)
    function.add_bar(4, 0x4000, Scratch(0x4000), kind=BarKind.PREFETCHABLE64)
    function.add_capability(msix, offset=MSIX)
    world.machine.plug(function, SLOT)
    with QemuTarget(
        blockdevs=[{"driver": "file", "filename": str(image), "node-name": "d0"}],
        devices=[
            {
                "driver": "virtio-blk-pci",
                "drive": "d0",
                "addr": f"{SLOT}",
                "num-queues": VECTORS - 1,
                "disable-legacy": "on",
            }
        ],
    ) as qemu:
        assert qemu.layout.ecam == ECAM
        yield world.machine, qemu


def same(pair: tuple[Guest, Guest], address: int, size: int, known: int = 0) -> None:
    """Both read the same, but for the bits `known` to differ."""
    ours, qemus = (guest.read(address, size) & ~known for guest in pair)
    assert ours == qemus, f"{size} bytes at {address:#x}: {ours:#x}, QEMU {qemus:#x}"


def write(pair: tuple[Guest, Guest], address: int, size: int, value: int) -> None:
    for guest in pair:
        guest.write(address, size, value)


def test_the_header_reads_the_same(pair: tuple[Guest, Guest]) -> None:
    for offset in range(0, 0x40, 4):
        for size in (1, 2, 4):
            for at in range(offset, offset + 4, size):
                if at != 0x34:
                    # The list begins with QEMU's vendor-specific capabilities.
                    same(pair, CONFIG + at, size, known=0xFF if offset == 0x34 else 0)


@pytest.mark.parametrize("seed", range(4))
def test_random_configuration_accesses(pair: tuple[Guest, Guest], seed: int) -> None:
    """Header and MSI-X capability, at any width and alignment, through ECAM and the ports."""
    random = Random(seed)
    places = [0x04, 0x0C, *range(0x10, 0x28, 4), 0x30, 0x3C, MSIX, MSIX + 4, MSIX + 8]
    for _ in range(1500):
        place = random.choice(places)
        size = random.choice((1, 2, 4))
        at = place + random.randrange(0, 4, size)
        value = random.choice((0, 0xFFFF_FFFF, random.getrandbits(32))) & (1 << 8 * size) - 1
        if place == 0x04:
            # Decoding stays off here; parity error response (bit 6) is ours to keep and QEMU's to refuse.
            value &= ~0x43
        if place == 0x0C:
            # The latency timer is writable in ours (PCI 3.0 §6.2.4) and 0 in QEMU.
            at, size, value = 0x0C, 1, value & 0xFF
        if random.random() < 0.5:
            write(pair, CONFIG + at, size, value)
        else:
            for guest in pair:
                guest.io_write(0xCF8, 4, 1 << 31 | SLOT << 11 | at & 0xFC)
                guest.io_write(0xCFC + (at & 3), size, value)
        aligned = at & ~3
        same(pair, CONFIG + aligned, 4, known=0xFF00 if aligned in (0x0C, MSIX) else 0)
        for guest in pair:
            guest.io_write(0xCF8, 4, 1 << 31 | SLOT << 11 | aligned)
        if aligned not in (0x0C, MSIX):
            assert pair[0].io_read(0xCFC + (at & 3), size) == pair[1].io_read(0xCFC + (at & 3), size)


def test_accesses_over_edges(pair: tuple[Guest, Guest]) -> None:
    for offset, size in ((0x02, 4), (0xFE, 4), (0x100, 4), (0x08, 8), (0xFFC, 4)):
        same(pair, CONFIG + offset, size)
    absent = ECAM + (9 << 15)
    for size in (1, 2, 4, 8):
        write(pair, absent, size, 0)
        same(pair, absent, size)


def test_a_bar_moves_under_decoding(pair: tuple[Guest, Guest]) -> None:
    write(pair, CONFIG + 0x14, 4, TABLE)
    write(pair, CONFIG + 0x04, 2, 2)
    for vector in range(VECTORS):
        write(pair, TABLE + 16 * vector, 4, 0x1000 * vector + 0x100)
        write(pair, TABLE + 16 * vector + 8, 4, vector)
    for base in (TABLE, TABLE + 0x10_0000, LARGE):
        write(pair, CONFIG + 0x14, 4, base)
        for at in range(0, 16 * VECTORS, 4):
            same(pair, base + at, 4)
    # A place that was left: nobody answers, which reads ones in ours, as on a PC, and 0 over qtest.
    assert [guest.read(TABLE, 4) for guest in pair] == [0xFFFF_FFFF, 0]
    write(pair, CONFIG + 0x14, 4, 0xFFFF_FFFF)
    same(pair, CONFIG + 0x14, 4)
    assert [guest.read(0xFFFF_F000, 4) == 0x100 for guest in pair] == [False, False]
    write(pair, CONFIG + 0x14, 4, 0)
    write(pair, 0, 4, 0x1234_5678)
    same(pair, 0, 4)


def test_the_table_at_both_widths_and_the_pending_bits(pair: tuple[Guest, Guest]) -> None:
    write(pair, CONFIG + 0x14, 4, TABLE)
    write(pair, CONFIG + 0x04, 2, 6)
    random = Random(1)
    for _ in range(400):
        size = random.choice((4, 8))
        at = random.randrange(0, 16 * VECTORS, size)
        write(pair, TABLE + at, size, random.getrandbits(8 * size))
        entry = TABLE + (at & ~0xF)
        # Reserved bits of vector control read 0 in ours and as written in QEMU, as do the address's two lowest.
        same(pair, entry, 8, known=3)
        same(pair, entry + 8, 8, known=0xFFFF_FFFE_0000_0000)
    write(pair, TABLE + 0x800, 8, 0xFFFF_FFFF_FFFF_FFFF)
    for size in (4, 8):
        same(pair, TABLE + 0x800, size)
