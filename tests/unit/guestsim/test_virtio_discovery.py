"""How the driver finds a device and takes interrupts, whatever it looks like: over a bus that says other things."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guestsim.disk import boot
from guestsim.drivers import virtio_blk
from guestsim.drivers.layouts import BLK_CONFIG, COMMON_CFG, NO_VECTOR, CapType, Feature, Status
from guestsim.drivers.pci import CAP_VENDOR, ConfigSpace, scan
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_pci_modern import ModernPci
from guestsim.errors import GuestCheckError, GuestError
from guestsim.guest import Guest
from guestsim.quick import NODE, disk_machine
from guestsim.targets.inprocess import InProcessTarget

TYPE, BAR, OFFSET, LENGTH = 3, 4, 8, 12
"""Where struct virtio_pci_cap has cfg_type, bar, offset and length (VIRTIO 1.4 §4.1.4)."""
Answers = dict[tuple[int, int], int]


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answers], None]:
    """Have the configuration space of every function answer otherwise, by offset and size."""

    def say(answers: Answers) -> None:
        real = ConfigSpace.read

        def read(self: ConfigSpace, slot: int, function: int, offset: int, size: int) -> int:
            value = real(self, slot, function, offset, size)
            there = slot == 1 and function == 0
            return answers.get((offset, size), value) if there else value

        monkeypatch.setattr(ConfigSpace, "read", read)

    return say


def places(guest: Guest) -> dict[CapType, int]:
    """Where the capabilities are."""
    (function,) = scan(guest)
    return {
        CapType(function.read(each.offset + TYPE, 1)): each.offset
        for each in function.capabilities()
        if each.id == CAP_VENDOR
    }


def works(guest: Guest) -> ModernPci:
    """Its disk can be written and read; the transport."""
    disk = boot(guest)
    disk.write(512, b"\x5a" * 512)
    assert disk.read(512, 512) == b"\x5a" * 512
    transport = disk.driver.device.transport
    assert isinstance(transport, ModernPci)
    return transport


@pytest.mark.parametrize("revision", [0, 2, 0xFF])
def test_any_revision_and_any_subsystem(says: Callable[[Answers], None], guest: Guest, revision: int) -> None:
    says({(0x08, 1): revision, (0x2C, 2): 0x1234, (0x2E, 2): 0x5678, (0x2C, 4): 0x5678_1234})
    works(guest)


@pytest.mark.disk(disable_legacy="on")
@pytest.mark.parametrize("device", [0x1042, 0x1041, 0x1000])
def test_devices_are_known_by_their_id(says: Callable[[Answers], None], guest: Guest, device: int) -> None:
    says({(0x00, 4): device << 16 | 0x1AF4})
    assert len(virtio_blk.find(guest)) == (device == 0x1042)


def test_a_structure_of_a_reserved_type_is_passed_over(says: Callable[[Answers], None], guest: Guest) -> None:
    at = places(guest)[CapType.PCI]
    says({(at + TYPE, 1): 0x77, (at + BAR, 1): 4})
    works(guest)


@pytest.mark.parametrize("bar", [6, 7, 255])
def test_a_structure_in_a_reserved_bar_is_passed_over(
    says: Callable[[Answers], None], guest: Guest, bar: int
) -> None:
    """The common configuration is said to be there, and then once more where it is."""
    found = places(guest)
    first, last = found[CapType.COMMON], found[CapType.PCI]
    (function,) = scan(guest)
    offset, length = function.read(first + OFFSET, 4), function.read(first + LENGTH, 4)
    says(
        {
            (first + BAR, 1): bar,
            (last + TYPE, 1): CapType.COMMON,
            (last + BAR, 1): 4,
            (last + OFFSET, 4): offset,
            (last + LENGTH, 4): length,
        }
    )
    works(guest)


def test_of_two_structures_of_a_type_the_first_is_used(says: Callable[[Answers], None], guest: Guest) -> None:
    at = places(guest)[CapType.PCI]
    says({(at + TYPE, 1): CapType.COMMON, (at + BAR, 1): 4, (at + OFFSET, 4): 0x3000, (at + LENGTH, 4): 4})
    works(guest)


def test_longer_capabilities_and_structures_are_taken(says: Callable[[Answers], None], guest: Guest) -> None:
    says({(at + 2, 1): 0x40 for at in places(guest).values()})
    transport = works(guest)
    assert transport.common.length > COMMON_CFG.size
    assert transport.config is not None
    assert transport.config.length > BLK_CONFIG.size


@pytest.mark.parametrize("vectors", [1, 2, 3, 2048])
def test_any_number_of_vectors(vectors: int) -> None:
    """With one, the same interrupt says that a queue has something and that the configuration has changed."""
    with disk_machine(1 << 20, num_queues=4, vectors=vectors) as machine:
        disk = boot(Guest(machine))
        for queue in range(4):
            assert disk.request(virtio_blk.read(512 * queue, 512), queue=queue).ok
        machine.resize(NODE, 2 << 20)
        disk.flush()
        assert disk.capacity == 2 << 20


def test_a_device_without_version_1_is_given_up(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """VIRTIO 1.4 §6.1"""
    driver = virtio_blk.VirtioBlk(guest, virtio_blk.find(guest)[0])
    offered = ModernPci.read_features
    monkeypatch.setattr(ModernPci, "read_features", lambda self: offered(self) & ~(1 << Feature.VERSION_1))
    with pytest.raises(GuestCheckError, match="VERSION_1 is not offered"):
        guest.run(driver.probe())
    assert driver.device.status & Status.FAILED
    assert not driver.device.status & Status.DRIVER_OK


def test_a_vector_that_cannot_be_mapped_is_a_failure(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """VIRTIO 1.4 §4.1.5.1.2.2"""
    driver = virtio_blk.VirtioBlk(guest, virtio_blk.find(guest)[0])
    get = ModernPci.get
    monkeypatch.setattr(
        ModernPci, "get", lambda self, name: NO_VECTOR if name == "queue_msix_vector" else get(self, name)
    )
    with pytest.raises(GuestError, match="could not map queue_msix_vector to entry"):
        guest.run(driver.probe(interrupts=Interrupts.MSIX))
    assert not driver.device.status & Status.DRIVER_OK


@pytest.mark.parametrize("interrupts", [Interrupts.MSIX, Interrupts.INTX])
def test_a_request_and_a_change_in_one_interrupt(interrupts: Interrupts) -> None:
    with disk_machine(1 << 20, vectors=1) as machine:
        guest = Guest(machine)
        driver = virtio_blk.VirtioBlk(guest, virtio_blk.find(guest)[0])
        guest.run(driver.probe(interrupts=interrupts))
        pending = guest.run(driver.submit([virtio_blk.read(0, 512)]))
        machine.resize(NODE, 2 << 20)
        assert guest.run(driver.finish(pending[0])).ok
        assert driver.capacity == 2 << 20


def test_interrupts_without_a_reason_do_no_harm(machine: InProcessTarget, guest: Guest) -> None:
    disk = boot(guest)
    device = disk.driver.device
    for _ in range(3):
        device.on_used(None)
        device.on_config()
    assert disk.read(0, 512) == bytes(512)
    assert machine.violations() == []
