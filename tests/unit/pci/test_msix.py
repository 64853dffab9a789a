"""MSI-X: masks, pending bits, and every message exactly once."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from devmodels.pci import MsixCapability, Windows
from tests.unit.pci.world import BUS_MASTER, MEMORY_ENABLE, RAM_SIZE, World, make_function

SLOT = 3
TABLE = 0xE000_0000
ENABLE = 0x8000
FUNCTION_MASK = 0x4000


class MsixWorld(World):
    """A machine with a function of `vectors` vectors, its table mapped, MSI-X off."""

    def __init__(self, vectors: int = 4) -> None:
        super().__init__()
        self.function = make_function()
        self.msix = self.function.add_msix(vectors, bar=1)
        self.machine.plug(self.function, SLOT)
        self.control_at = self.function.capabilities[0][0] + 2
        self.config_write(SLOT, 0x14, 4, TABLE)
        self.config_write(SLOT, 0x04, 2, MEMORY_ENABLE | BUS_MASTER)

    def control(self, value: int) -> None:
        self.config_write(SLOT, self.control_at, 2, value)

    def program(self, vector: int, address: int, data: int, mask: int = 0) -> None:
        self.machine.write(TABLE + 16 * vector, 8, address)
        self.machine.write(TABLE + 16 * vector + 8, 4, data)
        self.machine.write(TABLE + 16 * vector + 12, 4, mask)

    def pending(self) -> int:
        at = 16 * self.msix.vectors
        return sum(
            self.machine.read(TABLE + at + 8 * n, 8) << 64 * n for n in range(self.msix.pba_bytes // 8)
        )

    def raise_vector(self, vector: int) -> None:
        self.msix.notify(vector)
        self.machine.run_until_idle()


def test_a_message_goes_to_its_address_with_its_data() -> None:
    world = MsixWorld()
    world.program(2, 0x1_FEE0_0000, 0x41)
    world.control(ENABLE)
    world.raise_vector(2)
    assert world.messages == [(0x1_FEE0_0000, 0x41)]


def test_a_message_to_memory_is_a_plain_write() -> None:
    world = MsixWorld()
    world.program(0, RAM_SIZE - 4, 0xDEAD_BEEF)
    world.control(ENABLE)
    world.raise_vector(0)
    assert world.messages == []
    assert world.memory.read(RAM_SIZE - 4, 4) == bytes.fromhex("efbeadde")


def test_nothing_is_sent_while_msix_is_off() -> None:
    world = MsixWorld()
    world.program(0, 0xFEE0_0000, 1)
    world.raise_vector(0)
    world.control(ENABLE)
    assert (world.messages, world.pending()) == ([], 0)


def test_a_vector_that_does_not_exist_is_ignored() -> None:
    world = MsixWorld()
    world.control(ENABLE)
    for vector in (-1, 4, 0xFFFF):
        world.raise_vector(vector)
    assert (world.messages, world.pending()) == ([], 0)


def test_a_masked_vector_is_pending_and_sent_once_when_unmasked() -> None:
    world = MsixWorld()
    world.program(1, 0xFEE0_0000, 7, mask=1)
    world.control(ENABLE)
    world.raise_vector(1)
    world.raise_vector(1)
    assert (world.messages, world.pending()) == ([], 2)
    world.machine.write(TABLE + 16 + 12, 4, 0)
    assert (world.messages, world.pending()) == ([(0xFEE0_0000, 7)], 0)


def test_the_function_mask_holds_every_vector() -> None:
    world = MsixWorld()
    for vector in range(3):
        world.program(vector, 0xFEE0_0000, vector, mask=vector == 1)
    world.control(ENABLE | FUNCTION_MASK)
    for vector in (2, 1, 0):
        world.raise_vector(vector)
    assert world.pending() == 7
    world.control(ENABLE)
    assert (world.messages, world.pending()) == ([(0xFEE0_0000, 0), (0xFEE0_0000, 2)], 2)


def test_a_function_that_may_not_master_the_bus_keeps_its_messages() -> None:
    world = MsixWorld()
    world.program(0, 0xFEE0_0000, 5)
    world.control(ENABLE)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE)
    world.raise_vector(0)
    assert (world.messages, world.pending()) == ([], 1)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE | BUS_MASTER)
    assert (world.messages, world.pending()) == ([(0xFEE0_0000, 5)], 0)


def test_a_forgotten_vector_is_not_sent() -> None:
    world = MsixWorld()
    world.program(0, 0xFEE0_0000, 5, mask=1)
    world.control(ENABLE)
    world.raise_vector(0)
    world.msix.forget(0)
    world.machine.write(TABLE + 12, 4, 0)
    assert world.messages == []


def test_msix_and_intx_exclude_each_other() -> None:
    world = MsixWorld()
    world.function.set_intx(True)
    world.machine.run_until_idle()
    world.control(ENABLE)
    assert world.levels == [(3, True), (3, False)]


def test_pending_bits_cannot_be_written() -> None:
    world = MsixWorld(vectors=70)
    world.control(ENABLE)
    world.raise_vector(69)
    at = TABLE + 16 * 70
    world.machine.write(at + 8, 8, 0xFFFF_FFFF_FFFF_FFFF)
    assert world.machine.read(at + 8, 8) == 1 << 5
    assert world.machine.read(at + 8, 4) == 1 << 5


@pytest.mark.parametrize("vectors", [1, 2, 65, 2047, 2048])
def test_table_and_pending_bits_of_any_size_lie_side_by_side(vectors: int) -> None:
    world = MsixWorld(vectors=vectors)
    last = vectors - 1
    world.program(last, 0xFEE0_0000, 9)
    assert world.config_read(SLOT, world.control_at, 2) == last
    assert world.config_read(SLOT, world.control_at + 6, 4) == 16 * vectors | 1
    world.control(ENABLE | FUNCTION_MASK)
    world.raise_vector(last)
    assert world.pending() == 1 << last
    world.control(ENABLE)
    assert world.messages == [(0xFEE0_0000, 9)]


def test_more_vectors_than_msix_has_are_refused() -> None:
    with pytest.raises(ValueError, match="2049 MSI-X vectors"):
        MsixCapability(2049, table_bar=0, table_offset=0, pba_bar=0, pba_offset=0)
    with pytest.raises(ValueError, match="multiples of 8"):
        MsixCapability(1, table_bar=0, table_offset=4, pba_bar=0, pba_offset=0)


def test_the_table_can_lie_in_a_bar_with_other_registers() -> None:
    world = World()
    function = make_function()
    msix = MsixCapability(2, table_bar=4, table_offset=0x800, pba_bar=4, pba_offset=0xC00)
    windows = Windows(0x1000)
    windows.place(0x800, msix.table_bytes, msix.table)
    windows.place(0xC00, msix.pba_bytes, msix.pending)
    function.add_bar(4, 0x1000, windows)
    at = function.add_capability(msix)
    world.machine.plug(function, SLOT)
    assert function.msix is msix
    assert world.config_read(SLOT, at + 4, 4) == 0x804
    assert world.config_read(SLOT, at + 8, 4) == 0xC04


def test_a_reset_masks_every_entry_and_forgets_what_is_pending() -> None:
    world = MsixWorld()
    world.program(0, 0xFEE0_0000, 5, mask=1)
    world.control(ENABLE)
    world.raise_vector(0)
    world.machine.reset()
    world.config_write(SLOT, 0x14, 4, TABLE)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE | BUS_MASTER)
    assert world.pending() == 0
    assert world.machine.read(TABLE + 12, 4) == 1
    assert world.config_read(SLOT, world.control_at, 2) == 3


@pytest.mark.parametrize("vector", [0, 7, 56, 63, 64, 126])
def test_what_is_pending_is_pending_after_a_move_and_sent_once(vector: int) -> None:
    world, other = MsixWorld(127), MsixWorld(127)
    world.program(vector, 0xFEE0_0000, 5, mask=1)
    world.control(ENABLE)
    world.raise_vector(vector)
    other.machine.restore(world.machine.save())
    assert other.pending() == 1 << vector
    other.machine.write(TABLE + 16 * vector + 12, 4, 0)
    assert (other.messages, other.pending()) == ([(0xFEE0_0000, 5)], 0)


def test_bytes_and_words_of_the_table_are_refused() -> None:
    world = MsixWorld()
    refused: list[str] = []
    world.msix.table.on_illegal = lambda access: refused.append(str(access))
    world.machine.write(TABLE + 8, 2, 0x1234)
    assert world.machine.read(TABLE + 8, 4) == 0
    assert world.machine.read(TABLE + 8, 1) == 0
    assert refused == [
        "MsixTable.entry[0]: 2-byte write of 0x1234 at 0x8: message_data does not take accesses of this size",
        "MsixTable.entry[0]: 1-byte read at 0x8: message_data does not take accesses of this size",
    ]


# --- against a model

VECTORS = 5


class MsixStory(RuleBasedStateMachine):
    """A guest masks and unmasks at will while the device raises vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.world = MsixWorld(VECTORS)
        for vector in range(VECTORS):
            self.world.program(vector, 0xFEE0_0000, vector, mask=1)
        self.enabled = self.function_mask = False
        self.master = True
        self.masked = [True] * VECTORS
        self.waiting = [False] * VECTORS
        self.expected: list[int] = []

    def _held(self, vector: int) -> bool:
        return self.function_mask or self.masked[vector] or not self.master

    def _release(self) -> None:
        for vector in range(VECTORS):
            if self.waiting[vector] and self.enabled and not self._held(vector):
                self.waiting[vector] = False
                self.expected.append(vector)

    @rule(vector=st.integers(0, VECTORS - 1))
    def device_raises(self, vector: int) -> None:
        self.world.msix.notify(vector)
        if self.enabled:
            if self._held(vector):
                self.waiting[vector] = True
            else:
                self.expected.append(vector)

    @rule(vector=st.integers(0, VECTORS - 1), mask=st.booleans())
    def guest_masks(self, vector: int, mask: bool) -> None:
        self.world.machine.write(TABLE + 16 * vector + 12, 4, int(mask))
        self.masked[vector] = mask
        self._release()

    @rule(enabled=st.booleans(), function_mask=st.booleans())
    def guest_writes_control(self, enabled: bool, function_mask: bool) -> None:
        self.world.control(ENABLE * enabled | FUNCTION_MASK * function_mask)
        self.enabled, self.function_mask = enabled, function_mask
        self._release()

    @rule(master=st.booleans())
    def guest_writes_command(self, master: bool) -> None:
        self.world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE | BUS_MASTER * master)
        self.master = master
        self._release()

    @rule()
    def snapshot(self) -> None:
        self.world.machine.run_until_idle()
        state = self.world.machine.save()
        fresh = MsixWorld(VECTORS)
        fresh.machine.restore(state)
        fresh.messages = self.world.messages
        assert fresh.machine.save() == state
        self.world = fresh

    @invariant()
    def no_message_is_lost_or_doubled(self) -> None:
        self.world.machine.run_until_idle()
        assert sorted(data for _, data in self.world.messages) == sorted(self.expected)
        assert self.world.pending() == sum(1 << vector for vector in range(VECTORS) if self.waiting[vector])


MsixStory.TestCase.settings = settings(max_examples=settings().max_examples, stateful_step_count=30)
TestMsixStory = MsixStory.TestCase


def test_a_saved_state_of_another_function_is_refused() -> None:
    world = MsixWorld(vectors=4)
    world.control(ENABLE)
    prefix = f"03.0.{world.control_at - 2:#04x}"
    state = world.machine.save()
    for name in ("pending.64", "pending.x", "table.entry[9].message_data", "table.other"):
        with pytest.raises(ValueError, match=r"pending|entry|register"):
            world.machine.restore({**state, f"{prefix}.{name}": 1})


def test_a_table_entry_is_not_made_before_it_is_touched() -> None:
    function = make_function()
    msix = function.add_msix(2048, bar=0)
    assert msix.table.entry.made() == ()
    msix.table.read(16 * 2047, 4)
    assert [index for index, _ in msix.table.entry.made()] == [2047]


def test_pending_bits_of_vectors_that_are_not_there_do_not_move_along() -> None:
    world = MsixWorld(vectors=2)
    prefix = f"03.0.{world.control_at - 2:#04x}"
    world.machine.restore({**world.machine.save(), f"{prefix}.pending.0": 0b1111})
    assert world.pending() == 0b11


@pytest.mark.parametrize(("vectors", "size"), [(1, 0x1000), (254, 0x1000), (255, 0x2000), (2048, 0x1_0000)])
def test_the_bar_is_as_small_as_table_and_pending_bits_allow(vectors: int, size: int) -> None:
    """254 entries of 16 bytes and four words of 8 fill 4 KiB."""
    world = MsixWorld(vectors)
    world.config_write(SLOT, 0x14, 4, 0xFFFF_FFFF)
    assert world.config_read(SLOT, 0x14, 4) == (1 << 32) - size
