"""MSI in its four forms."""

from __future__ import annotations

import pytest

from devmodels.pci import MsiCapability
from devmodels.pci.msi import Msi32, Msi32Masked, Msi64, Msi64Masked, msi
from tests.unit.pci.world import BUS_MASTER, World, make_function

SLOT = 3
FORMS = [(address64, masking) for address64 in (False, True) for masking in (False, True)]


class MsiWorld(World):
    """A machine with a function that has one MSI capability, programmed but not enabled."""

    def __init__(self, vectors: int, *, address64: bool = True, masking: bool = True) -> None:
        super().__init__()
        self.function = make_function()
        self.msi: MsiCapability = msi(vectors, address64=address64, masking=masking)
        self.at = self.function.add_capability(self.msi)
        self.machine.plug(self.function, SLOT)
        self.data_at = self.at + (0xC if address64 else 0x8)
        self.config_write(SLOT, 0x04, 2, BUS_MASTER)
        self.config_write(SLOT, self.at + 4, 4, 0xFEE0_0003)
        if address64:
            self.config_write(SLOT, self.at + 8, 4, 1)
        self.config_write(SLOT, self.data_at, 2, 0x4141)

    def enable(self, log2_vectors: int = 0) -> None:
        self.config_write(SLOT, self.at + 2, 2, 1 | log2_vectors << 4)

    def raise_vector(self, vector: int) -> None:
        self.msi.notify(vector)
        self.machine.run_until_idle()


@pytest.mark.parametrize(("address64", "masking"), FORMS)
def test_a_message_of_each_form(address64: bool, masking: bool) -> None:
    world = MsiWorld(1, address64=address64, masking=masking)
    assert world.config_read(SLOT, world.at + 2, 2) == address64 << 7 | masking << 8
    world.raise_vector(0)
    world.enable()
    world.raise_vector(0)
    assert world.messages == [(0x1_FEE0_0000 if address64 else 0xFEE0_0000, 0x4141)]


@pytest.mark.parametrize("form", [Msi32, Msi64, Msi32Masked, Msi64Masked])
def test_each_form_has_one_message_where_nothing_is_said(form: type[MsiCapability]) -> None:
    """PCI 3.0 §6.8.1.3: bits 3:1 of message control."""
    assert form().read(2, 2) & 0xE == 0


@pytest.mark.parametrize(("granted", "data"), [(0, 0x4141), (2, 0x4142), (3, 0x4146), (7, 0x4146)])
def test_the_vector_lies_in_the_low_bits_that_were_granted(granted: int, data: int) -> None:
    world = MsiWorld(8)
    world.enable(granted)
    world.raise_vector(6)
    assert [message for _, message in world.messages] == [data]


def test_masked_vectors_are_pending_and_sent_once() -> None:
    world = MsiWorld(4)
    world.enable(2)
    world.config_write(SLOT, world.at + 0x10, 4, 0xFFFF_FFFF)
    assert world.config_read(SLOT, world.at + 0x10, 4) == 0xF
    world.raise_vector(1)
    world.raise_vector(1)
    world.raise_vector(3)
    assert (world.messages, world.config_read(SLOT, world.at + 0x14, 4)) == ([], 0b1010)
    world.config_write(SLOT, world.at + 0x10, 4, 0b1000)
    assert [data for _, data in world.messages] == [0x4141]
    assert world.config_read(SLOT, world.at + 0x14, 4) == 0b1000


@pytest.mark.parametrize("vector", [0, 1])
@pytest.mark.parametrize("masking", [False, True])
def test_without_bus_mastering_messages_wait(masking: bool, vector: int) -> None:
    world = MsiWorld(2, masking=masking)
    world.enable(1)
    world.config_write(SLOT, 0x04, 2, 0)
    world.raise_vector(vector)
    assert world.messages == []
    other = MsiWorld(2, masking=masking)
    other.machine.restore(world.machine.save())
    for each in (world, other):
        each.config_write(SLOT, 0x04, 2, BUS_MASTER)
        each.machine.run_until_idle()
        assert [data for _, data in each.messages] == [0x4140 | vector]


@pytest.mark.parametrize(("address64", "masking"), FORMS)
def test_what_has_nothing_to_send_sends_nothing_after_a_move(address64: bool, masking: bool) -> None:
    world, other = (MsiWorld(2, address64=address64, masking=masking) for _ in range(2))
    world.enable(1)
    world.raise_vector(1)
    world.config_write(SLOT, 0x04, 2, 0)
    other.machine.restore(world.machine.save())
    other.config_write(SLOT, 0x04, 2, BUS_MASTER)
    other.machine.run_until_idle()
    assert (len(world.messages), other.messages) == (1, [])


def test_msi_and_intx_exclude_each_other() -> None:
    world = MsiWorld(1)
    world.function.set_intx(True)
    world.machine.run_until_idle()
    world.enable()
    assert world.levels == [(3, True), (3, False)]


def test_a_reset_switches_msi_off_and_forgets() -> None:
    world = MsiWorld(1, masking=False)
    world.enable()
    world.config_write(SLOT, 0x04, 2, 0)
    world.raise_vector(0)
    world.machine.reset()
    world.config_write(SLOT, 0x04, 2, BUS_MASTER)
    world.enable()
    world.machine.run_until_idle()
    assert world.messages == []


@pytest.mark.parametrize("vectors", [0, 3, 64])
def test_a_number_of_vectors_that_msi_does_not_have(vectors: int) -> None:
    with pytest.raises(ValueError, match="a power of two up to 32"):
        msi(vectors)
