"""Borders of the transports: windows of a few bytes, sizes that are no power of two, states in a snapshot, places."""

from __future__ import annotations

from contextlib import ExitStack

import msgspec
import pytest

from devmodels.options import OptionError
from devmodels.snapshot import restore_snapshot, save_snapshot
from devmodels.virtio.constants import RING_RESET, SUSPEND, VERSION_1
from devmodels.virtio.device import CORE_FEATURES
from devmodels.virtio.mmio import VirtioMmio
from guestsim.targets import OptionsError
from guestsim.targets.inprocess import InProcessTarget
from tests.qemu.by_hand import Pci
from tests.qemu.legacy_by_hand import LegacyBlk
from tests.qemu.mmio_by_hand import PAGE
from tests.unit.virtio.dut import TestDevice
from tests.unit.virtio.pcirig import DEVICE, NOTIFY, PCI_CFG, PciRig
from tests.unit.virtio.plain import Kind
from tests.unit.virtio.rig import rig as running
from tests.unit.virtio.test_mmio import Rig

LEGACY = "VIRTIO 1.4 §4.2.4"
NOTIFICATION_DATA = 1 << 38


@pytest.mark.parametrize(
    ("length", "stored"), [(1, b"\x78\0\0\0"), (2, b"\x78\x56\0\0"), (4, b"\x78\x56\x34\x12")]
)
def test_a_window_onto_the_device_configuration_takes_as_many_bytes_as_it_is_long(
    length: int, stored: bytes
) -> None:
    r = PciRig(config=bytes(4))
    r.map_bars()
    at = r.capability(PCI_CFG).at
    area = r.capability(DEVICE)
    for offset, size, value in ((4, 1, area.bar), (8, 4, area.offset), (12, 4, length), (16, 4, 0x1234_5678)):
        r.config_write(at + offset, size, value)
    assert r.device.config == stored
    assert r.config_read(at + 16, 4) & (1 << 8 * length) - 1 == int.from_bytes(stored, "little")
    assert r.clauses() == []


def test_each_notification_area_is_4_bytes() -> None:
    r = PciRig(num_queues=3)
    r.map_bars()
    found = r.capability(NOTIFY)
    assert (found.length, r.config_read(found.at + 16, 4), found.size) == (20, 4, 12)


@pytest.mark.parametrize("kind", Kind)
def test_isr_status_of_both_kinds_moves_along(kind: Kind) -> None:
    r = PciRig(kind=kind, vectors=0)
    r.start()
    r.function.notify_used(0)
    r.function.notify_config()
    state = r.function.save()
    assert state["isr"] == 3
    other = PciRig(kind=kind, vectors=0)
    other.start()
    other.function.judge(state)
    other.function.restore(state)
    assert (other.isr(), other.isr(), other.line) == (3, 0, False)
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=f"ISR status {wrong} in the state, expected 0 to 3"):
            other.function.judge({**state, "isr": wrong})


def test_the_selector_of_the_legacy_interface_moves_along() -> None:
    with ExitStack() as machines:

        def make() -> LegacyBlk:
            target = InProcessTarget(
                blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
                devices=[
                    {"driver": "virtio-blk-pci", "drive": "d0", "addr": "4", "id": "v0", "num-queues": 4}
                ],
            )
            machines.enter_context(target)
            return LegacyBlk(Pci(target, 4))

        first, second = make(), make()
        first.start()
        first.write(0x0E, 2, 3)
        assert isinstance(first.target, InProcessTarget)
        assert isinstance(second.target, InProcessTarget)
        second.write(0x0E, 2, 9)
        restore_snapshot(second.target.assembly, save_snapshot(first.target.assembly))
        assert (second.read(0x0E, 2), second.read(0x0C, 2)) == (3, first.read(0x0C, 2))


@pytest.mark.parametrize(("features", "cached"), [(0, False), (1 << 9, True), (1 << 11, True)])
def test_a_legacy_drivers_writes_are_stable_where_it_cannot_flush(features: int, cached: bool) -> None:
    """VIRTIO 1.4 §5.2.5.2: neither FLUSH (bit 9) nor CONFIG_WCE (bit 11); DRIVER_OK is its last word on it."""
    with InProcessTarget(
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "addr": "4", "id": "v0"}],
    ) as target:
        LegacyBlk(Pci(target, 4)).start(features)
        (backend,) = target.assembly.backends.values()
        assert backend.write_cache is cached


def test_any_layout_is_the_legacy_interfaces_alone() -> None:
    """VIRTIO 1.4 §6.3: bit 27 is offered to legacy drivers, and what one has accepted moves along."""
    with ExitStack() as machines:
        first, second = (
            machines.enter_context(
                InProcessTarget(
                    blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
                    devices=[{"driver": "virtio-blk-pci", "drive": "d0", "addr": "4", "id": "v0"}],
                )
            )
            for _ in range(2)
        )
        legacy = LegacyBlk(Pci(first, 4))
        legacy.start(1 << 27)
        assert legacy.read(0x04, 4) == 1 << 27
        restore_snapshot(second.assembly, save_snapshot(first.assembly))
        moved = LegacyBlk(Pci(second, 4))
        assert (moved.read(0x04, 4), moved.read(0x12, 1)) == (1 << 27, 7)
        device = second.assembly.devices["v0"].device
        state = msgspec.structs.replace(device.save(), legacy=False, status=15)
        with pytest.raises(ValueError, match="a device with other options"):
            device.judge(state)


@pytest.mark.parametrize("size", [0, 3, 5, 0x500, 0x1400, 0x8000_0001])
def test_page_sizes_and_alignments_are_powers_of_two(size: int) -> None:
    rig = Rig(**{"force-legacy": True})  # type: ignore[arg-type]
    with rig.assembly:
        rig.disk.set(0x028, size)
        assert rig.clauses() == [LEGACY]
        rig.disk.set(0x028, PAGE)
        rig.disk.set(0x03C, size)
        assert rig.clauses() == [LEGACY] * 2
        assert [each.data for each in rig.assembly.violations.recent] == [size.to_bytes(4, "little")] * 2


@pytest.mark.parametrize(("options", "version"), [({}, 2), ({"legacy": False}, 2), ({"legacy": True}, 1)])
def test_a_device_over_mmio_is_modern_where_an_embedder_says_nothing(
    options: dict[str, bool], version: int
) -> None:
    assert VirtioMmio(TestDevice(running(8).memory), name="dut", **options).read(0x004, 4) == version


def test_notification_data_over_mmio_names_the_queue_below_and_the_place_above() -> None:
    rig = Rig(**{"force-legacy": False, "num-queues": 2})  # type: ignore[arg-type]
    with rig.assembly:
        rig.disk.start(NOTIFICATION_DATA)
        for _ in range(2):
            rig.disk.expose(0, 0, room=512)
            rig.disk.set(0x050, rig.disk._submitted << 16)
            rig.machine.run_until_idle()
            assert rig.disk.answer(512)[0] == 0
        assert rig.clauses() == []
        for queue in (2, 3, 5, 0xFFFF):
            rig.disk.set(0x050, 7 << 16 | queue)
        told = [each.summary for each in rig.assembly.violations.recent]
        assert told == [f"notification of queue {queue}, which is not there" for queue in (2, 3, 5, 0xFFFF)]
        assert set(rig.clauses()) == {"VIRTIO 1.4 §4.2.3.3"}


@pytest.mark.parametrize(
    "options", [{"address": 0x1000_0000, "irq": 0xFFFF_FFFF}, {"address": 0x1000_0000, "irq": 0}]
)
def test_an_interrupt_line_at_the_border_is_fine(options: dict[str, object]) -> None:
    rig = Rig(**options)  # type: ignore[arg-type]
    with rig.assembly:
        assert rig.irq == options["irq"]


@pytest.mark.parametrize(
    "options",
    [
        {"address": 0x1000_0000, "irq": -1},
        {"address": 0x1000_0000, "irq": 1 << 32},
        {"address": -0x200, "irq": 5},
        {"address": 1 << 64, "irq": 5},
        {"address": (1 << 64) - 0x1FC, "irq": 5},
        {"address": 0x1000_0000, "irq": 5, "bus": "virtio-mmio-bus.1"},
        {"iommu_platform": True, "force-legacy": True},
    ],
)
def test_a_place_that_is_none_is_one_line(options: dict[str, object]) -> None:
    with pytest.raises(OptionError) as error:
        Rig(**options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("vectors", "good"), [(0, True), (1, True), (2048, True), (2049, False), (-1, False)]
)
def test_msix_has_up_to_2048_vectors(vectors: int, good: bool) -> None:
    with ExitStack() as machines:

        def make() -> None:
            machines.enter_context(
                InProcessTarget(
                    blockdevs=[{"driver": "memory", "node-name": "d0", "size": 1 << 20}],
                    devices=[{"driver": "virtio-blk-pci", "drive": "d0", "addr": "4", "vectors": vectors}],
                )
            )

        if good:
            make()
        else:
            with pytest.raises(OptionsError, match=f"vectors is {vectors}, expected 0 to 2048"):
                make()


@pytest.mark.parametrize("order", [(0, 4), (4, 0)])
def test_addresses_over_mmio_are_two_halves(order: tuple[int, int]) -> None:
    rig = Rig(**{"force-legacy": False})  # type: ignore[arg-type]
    with rig.assembly:
        queue = rig.device.device.queues[0]
        for number, at in enumerate((0x080, 0x090, 0x0A0)):
            for half in order:
                rig.disk.set(at + half, 0x8765_4321 + number if half else 0xFEDC_BA98 - number)
        found = [queue.desc, queue.driver, queue.device]
        assert found == [0x8765_4321_FEDC_BA98 + number * ((1 << 32) - 1) for number in range(3)]
        rig.disk.set(0x084, 0)
        assert queue.desc == 0xFEDC_BA98


def test_a_size_that_is_refused_is_told_with_those_that_are_not() -> None:
    for options, words in (
        ({"force-legacy": False}, "a power of two up to 256"),
        ({"force-legacy": True}, "a power of two up to 256"),
    ):
        rig = Rig(**options)  # type: ignore[arg-type]
        with rig.assembly:
            rig.disk.set(0x038, 3)
            assert words in rig.assembly.violations.recent[-1].summary


def test_a_refusal_over_mmio_has_the_32_bits_that_were_written() -> None:
    device = TestDevice(running(8).memory, queue_size=8, features=CORE_FEATURES)
    mmio = VirtioMmio(device, name="dut")
    device.negotiate(VERSION_1 | SUSPEND)
    mmio.write(0x038, 4, 3)
    mmio.write(0x0C0, 4, 1)
    device.negotiate(VERSION_1 | RING_RESET)
    mmio.write(0x0C0, 4, 2)
    told = [(each.summary, each.data) for each in device.violations.recent]
    assert told == [
        ("QueueSize 3, expected a power of two up to 8", b"\3\0\0\0"),
        ("QueueReset written without VIRTIO_F_RING_RESET", b"\1\0\0\0"),
        ("QueueReset set to 2, expected 1", b"\2\0\0\0"),
    ]


def test_aligned_accesses_of_the_configuration_are_fine_over_mmio() -> None:
    device = TestDevice(running(8).memory, config=bytes(range(16)))
    mmio = VirtioMmio(device, name="dut")
    for size in (1, 2, 4):
        for offset in range(0, 16, size):
            value = mmio.read(0x100 + offset, size)
            assert value == int.from_bytes(bytes(range(offset, offset + size)), "little")
            mmio.write(0x100 + offset, size, value)
    assert list(device.violations.recent) == []
    for size, offset in ((2, 1), (4, 2), (8, 0)):
        mmio.read(0x100 + offset, size)
    assert [each.summary for each in device.violations.recent] == [
        "2-byte access at configuration offset 1",
        "4-byte access at configuration offset 2",
        "8-byte access at configuration offset 0",
    ]
