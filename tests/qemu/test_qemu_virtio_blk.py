"""A live QEMU's virtio-blk function, programmed by hand through the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from guestsim.targets.qemu import QemuTarget

from .by_hand import Pci, VirtioBlk, wait_for_intx, wait_for_messages
from .machines import disk, machine, sector_pattern, virtio_blk

if TYPE_CHECKING:
    from pathlib import Path

    from guestsim.targets import Host, Target
    from guestsim.targets.qmp import Json

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]


def test_the_function_is_found_through_the_ports(image: Path) -> None:
    with machine(image) as target:
        pci = Pci(target, 4)
        assert (pci.read(0x00, 2), pci.read(0x02, 2)) == (0x1AF4, 0x1001)


def test_the_function_is_found_through_ecam(image: Path) -> None:
    with machine(image) as target:
        assert target.layout.ecam is not None
        assert target.read(target.layout.ecam + (4 << 15), 4) == 0x1001_1AF4


def test_bars_are_sized_and_placed(image: Path) -> None:
    with machine(image) as target:
        pci = Pci(target, 4)
        assert (pci.bar_size(1), pci.bar_size(4)) == (0x1000, 0x4000)
        pci.place_bar(4, target.layout.mmio.base)
        assert pci.read(0x20, 4) == target.layout.mmio.base | 0xC, "64 bits, prefetchable"


def test_the_legacy_bar_answers_in_the_io_window(image: Path) -> None:
    with machine(image) as target:
        pci = Pci(target, 4)
        pci.write(0x10, 4, target.layout.io.base)
        pci.write(0x04, 2, 0x0001)
        assert target.io_read(target.layout.io.base + 20, 4) == 2048, "capacity in sectors"


def test_common_configuration_after_reset(image: Path) -> None:
    with machine(image) as target:
        device = VirtioBlk(Pci(target, 4))
        assert device.status == 0
        assert target.read(device.common + 0x12, 2) == 4, "num_queues"


def test_a_read_completes_with_a_message(image: Path) -> None:
    with machine(image) as target:
        device = VirtioBlk(Pci(target, 4))
        device.start(vector=5)
        device.submit_read(sector=0)
        assert wait_for_messages(target) == {5: 1}
        assert device.used() == (1, 0, 513)
        assert device.result() == (0, sector_pattern(0))


def test_a_message_is_taken_once(image: Path) -> None:
    with machine(image) as target:
        device = VirtioBlk(Pci(target, 4))
        device.start(vector=2047)
        device.submit_read(sector=0)
        assert wait_for_messages(target) == {2047: 1}
        assert target.take_messages() == {}
        device.submit_read(sector=1)
        assert wait_for_messages(target) == {2047: 1}


def test_a_read_completes_with_intx_until_isr_is_read(image: Path) -> None:
    with machine(image) as target:
        device = VirtioBlk(Pci(target, 4))
        device.start()
        assert not target.intx_level(4, 1)
        device.submit_read(sector=7)
        assert wait_for_intx(target, 4, 1)
        assert device.result() == (0, sector_pattern(7))
        assert target.read(device.isr, 1) == 1
        assert not target.intx_level(4, 1)


def test_a_read_completes_in_an_iothread(image: Path) -> None:
    with QemuTarget(
        objects=[{"qom-type": "iothread", "id": "io0"}],
        blockdevs=[disk(image)],
        devices=[virtio_blk(iothread="io0")],
    ) as target:
        device = VirtioBlk(Pci(target, 4))
        device.start(vector=0)
        device.submit_read(sector=2047)
        assert wait_for_messages(target) == {0: 1}
        assert device.result() == (0, sector_pattern(2047))


def test_a_resize_by_the_host_is_a_configuration_change(image: Path) -> None:
    with machine(image) as target:
        device = VirtioBlk(Pci(target, 4))
        device.start(vector=1, config_vector=2)
        generation = target.read(device.common + 0x15, 1)
        host: Host = target
        host.resize("d0", 2 << 20)
        assert wait_for_messages(target) == {2: 1}
        assert device.capacity() == 4096
        assert target.read(device.common + 0x15, 1) != generation


def test_statistics_count_what_the_guest_did(image: Path) -> None:
    with machine(image) as target:
        device = VirtioBlk(Pci(target, 4))
        device.start(vector=0)
        host: Host = target
        before = host.statistics("v0")
        assert (before["rd_operations"], before["rd_bytes"]) == (0, 0)
        device.submit_read(sector=0)
        assert wait_for_messages(target)
        after = host.statistics("v0")
        assert (after["rd_operations"], after["rd_bytes"]) == (1, 512)


def test_nobody_counts_violations(image: Path) -> None:
    with machine(image) as target:
        host: Host = target
        assert host.violations() is None


@pytest.mark.parametrize("address", ["3", "5", "6", "18", "19", "1d", "1e", "1f.5"])
def test_inta_of_a_slot_reaches_its_line_alone(image: Path, address: str) -> None:
    slot, _, function = address.partition(".")
    with machine(image, addr=address) as target:
        device = VirtioBlk(Pci(target, int(slot, 16), function=int(function or 0)))
        device.start()
        device.submit_read(sector=0)
        assert wait_for_intx(target, int(slot, 16), 1)
        assert lines_high(target) == 1


@pytest.mark.parametrize("pin", [1, 2, 3, 4])
def test_the_pins_of_a_slot_reach_a_line_each(image: Path, pin: int) -> None:
    """A bridge passes INTA# of its slot `n` on as its pin 1 + n mod 4 (PCI-to-PCI bridge 1.2 §9.1)."""
    bridge: dict[str, Json] = {"driver": "pci-bridge", "id": "b0", "addr": "8", "chassis_nr": 1}
    inner = 4 + pin - 1
    with machine(image, bridge, bus="b0", addr=f"{inner:x}") as target:
        base = open_bridge(Pci(target, 8))
        device = VirtioBlk(Pci(target, inner, bus=1), base)
        device.start()
        device.submit_read(sector=0)
        assert wait_for_intx(target, 8, pin)
        assert lines_high(target) == 1


def lines_high(target: Target) -> int:
    """How many of the eight lines are high: slot 0 reaches four of them, slot 31 the others."""
    return sum(target.intx_level(slot, pin) for slot in (0, 31) for pin in (1, 2, 3, 4))


def open_bridge(bridge: Pci) -> int:
    """Make bus 1 the secondary bus, with 1 MiB of memory from the address returned."""
    base = bridge.target.layout.mmio.base + 0x10_0000
    bridge.write(0x18, 4, 0x0001_0100)
    bridge.write(0x20, 4, base >> 16 & 0xFFF0 | (base & 0xFFF0_0000))
    bridge.write(0x24, 4, 0x0000_FFF0)
    bridge.write(0x04, 2, 0x0006)
    return base
