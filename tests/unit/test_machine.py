"""The machine as its embedder holds it: decode, edges, memory, interrupts, re-entrancy, reset."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.interrupts import LineSource
from devmodels.iocontext import IoContext
from devmodels.machine import EmbeddedDevice, Machine
from devmodels.memory import GuestMemory
from devmodels.memoryregions import BouncedRegion, SharedRegion
from devmodels.pci import BarKind, PciFunction, Windows
from devmodels.trace import EventKind, TraceEvent, Tracer
from tests.unit.pci.world import (
    BUS_MASTER,
    ECAM,
    IDENTITY,
    IO_ENABLE,
    MEMORY_ENABLE,
    RAM_SIZE,
    Scratch,
    World,
    make_function,
)

SLOT = 2
BAR = 0xE000_0000
TOP = 1 << 64


def plugged(size: int = 0x1000, mark: int = 0) -> tuple[World, PciFunction, Scratch]:
    """A world with one function whose BAR 0 lies at `BAR` and BAR 1 at port 0xC000, both decoded."""
    world = World()
    function = make_function()
    scratch = Scratch(size, mark)
    function.add_bar(0, size, scratch)
    function.add_bar(1, 0x40, Scratch(0x40, mark), kind=BarKind.IO)
    world.machine.plug(function, SLOT)
    world.config_write(SLOT, 0x10, 4, BAR)
    world.config_write(SLOT, 0x14, 4, 0xC000)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE | IO_ENABLE | BUS_MASTER)
    return world, function, scratch


def test_a_machine_is_what_an_embedder_needs() -> None:
    device: EmbeddedDevice = Machine(GuestMemory(), IoContext.virtual())
    assert device.read(0x1234, 4) == 0xFFFF_FFFF
    assert device.io_read(0x80, 1) == 0xFF
    device.write(0x1234, 4, 1)
    device.io_write(0x80, 1, 1)
    device.run_until_idle()
    device.reset()


@pytest.mark.parametrize("size", [0, 3, 5, 16, -1])
def test_a_size_that_no_access_has_is_the_embedders_mistake(size: int) -> None:
    machine = World().machine
    for access in (machine.read, machine.io_read):
        with pytest.raises(ValueError, match="1, 2, 4 or 8"):
            access(0, size)
    for store in (machine.write, machine.io_write):
        with pytest.raises(ValueError, match="1, 2, 4 or 8"):
            store(0, size, 0)


# --- edges


def test_an_access_within_a_range_is_given_whole_at_any_alignment() -> None:
    world, _, scratch = plugged()
    world.machine.write(BAR + 3, 8, 0x1122_3344_5566_7788)
    assert world.machine.read(BAR + 3, 8) == 0x1122_3344_5566_7788
    assert scratch.accesses == [("write", 3, 8), ("read", 3, 8)]


def test_over_the_end_of_a_range_the_rest_reads_ones() -> None:
    world, _, scratch = plugged(mark=0x5A)
    assert world.machine.read(BAR + 0xFFD, 8) == 0xFFFF_FFFF_FF5A_5A5A
    world.machine.write(BAR + 0xFFD, 8, 0x88_77_66_55_44_33_22_11)
    assert scratch.data[-4:] == b"\x5a\x11\x22\x33"
    assert scratch.accesses == [
        ("read", 0xFFD, 1),
        ("read", 0xFFE, 2),
        ("write", 0xFFD, 1),
        ("write", 0xFFE, 2),
    ]


def test_before_the_beginning_of_a_range() -> None:
    world, _, _ = plugged(mark=0x5A)
    assert world.machine.read(BAR - 2, 4) == 0x5A5A_FFFF


@pytest.mark.parametrize("address", [-8, TOP - 4, TOP - 1, TOP, TOP + 8, 1 << 100])
def test_beyond_the_address_space_nobody_answers(address: int) -> None:
    world, _, _ = plugged()
    world.machine.write(address, 8, 0)
    assert world.machine.read(address, 8) == 0xFFFF_FFFF_FFFF_FFFF
    world.machine.io_write(address, 4, 0)
    assert world.machine.io_read(address, 4) == 0xFFFF_FFFF


def test_an_address_does_not_wrap() -> None:
    world = World()
    world.memory.write(0, b"\x11\x22\x33\x44")
    assert world.machine.read(TOP - 2, 4) == 0xFFFF_FFFF
    assert world.machine.read(-2, 4) == 0x2211_FFFF
    assert world.machine.io_read(0xFFFE, 4) == 0xFFFF_FFFF


def test_blocks_of_one_bar_and_the_holes_between_them() -> None:
    world = World()
    function = make_function()
    first, second = Scratch(0x10, 0x11), Scratch(0x10, 0x22)
    windows = Windows(0x100)
    windows.place(0x00, 0x10, first)
    windows.place(0x20, 0x10, second)
    function.add_bar(0, 0x100, windows)
    world.machine.plug(function, SLOT)
    world.config_write(SLOT, 0x10, 4, BAR)
    world.config_write(SLOT, 0x04, 2, MEMORY_ENABLE)
    assert world.machine.read(BAR + 0x0E, 4) == 0x0000_1111
    assert world.machine.read(BAR + 0x1E, 4) == 0x2222_0000
    assert world.machine.read(BAR + 0xFE, 4) == 0xFFFF_0000
    world.machine.write(BAR + 0x0E, 8, 0xFFFF_FFFF_FFFF_FFFF)
    assert bytes(first.data[-3:]) == b"\x11\xff\xff"
    assert second.data[0] == 0x22


# --- memory


def test_memory_answers_through_the_machine() -> None:
    world = World()
    world.machine.write(0x1001, 4, 0x1234_5678)
    assert world.memory.read(0x1001, 4) == bytes.fromhex("78563412")
    for size in (1, 2, 4, 8):
        world.machine.write(0x2000, size, (1 << 8 * size) - 2)
        assert world.machine.read(0x2000, size) == (1 << 8 * size) - 2
    assert world.machine.read(RAM_SIZE - 1, 2) == 0xFF00


def test_excess_bits_of_a_value_are_ignored() -> None:
    world, _, scratch = plugged()
    world.machine.write(0x10, 1, 0x1FF)
    world.machine.write(BAR, 2, 0xABCD_1234)
    assert world.memory.read(0x10, 2) == b"\xff\0"
    assert scratch.data[:4] == b"\x34\x12\0\0"


def test_read_only_and_bounced_memory() -> None:
    store = bytearray(0x1000)

    def load(address: int, length: int) -> bytes:
        return bytes(store[address - 0x1000 : address - 0x1000 + length])

    def save(address: int, data: bytes) -> None:
        store[address - 0x1000 : address - 0x1000 + len(data)] = data

    memory = GuestMemory(
        SharedRegion(0, bytearray(b"\x5a" * 0x1000), readonly=True), BouncedRegion(0x1000, 0x1000, load, save)
    )
    machine = Machine(memory, IoContext.virtual())
    machine.write(0x0FFE, 4, 0xAABB_CCDD)
    assert machine.read(0x0FFE, 4) == 0xAABB_5A5A
    assert store[:2] == b"\xbb\xaa"


def test_memory_that_comes_and_goes() -> None:
    world = World()
    region = SharedRegion(0x10_0000, bytearray(b"\x77" * 0x1000))
    world.memory.add(region)
    assert world.machine.read(0x10_0000, 1) == 0x77
    world.memory.remove(region)
    assert world.machine.read(0x10_0000, 1) == 0xFF


# --- fixed ranges


def test_a_machine_has_ranges_of_its_own() -> None:
    world, _, scratch = plugged()
    ports, registers = Scratch(8, 0x33), Scratch(0x1000, 0x44)
    world.machine.claim_ports(0x1F0, 8, ports)
    world.machine.claim_memory(BAR, 0x10, registers)
    assert world.machine.io_read(0x1F7, 1) == 0x33
    assert world.machine.read(BAR + 0xF, 1) == 0x44
    assert world.machine.read(BAR + 0x10, 1) == 0
    assert scratch.accesses == [("read", 0x10, 1)]


# --- interrupts


def test_an_interrupt_leaves_when_the_access_is_over() -> None:
    world, function, scratch = plugged()

    def interrupt() -> None:
        function.send_message(0xFEE0_0000, 1)
        world.messages.append((0, 0))

    scratch.on_access = interrupt
    world.machine.write(BAR, 4, 1)
    assert world.messages == [(0, 0), (0xFEE0_0000, 1)]


def test_an_access_in_pieces_is_over_after_the_last() -> None:
    world, function, scratch = plugged()
    scratch.on_access = lambda: function.send_message(
        0xFEE0_0000, len(scratch.accesses) + 10 * len(world.messages)
    )
    world.machine.write(BAR + 0xFFD, 8, 1)
    assert world.messages == [(0xFEE0_0000, 1), (0xFEE0_0000, 2)]


def test_an_interrupt_raised_while_the_context_runs_leaves_in_its_next_turn() -> None:
    world, function, _ = plugged()
    world.machine.context.call_soon(lambda: function.send_message(0xFEE0_0000, 7))
    world.machine.run_until_idle()
    assert world.messages == [(0xFEE0_0000, 7)]


def test_a_sink_may_make_accesses() -> None:
    world, function, scratch = plugged()
    seen: list[int] = []
    world.machine.on_message = lambda _address, _data: seen.append(world.machine.read(BAR, 4))
    scratch.on_access = lambda: function.send_message(0xFEE0_0000, 1) if len(seen) < 2 else None
    world.machine.write(BAR, 4, 9)
    assert seen == [9, 9, 9]


def test_messages_into_memory_that_cannot_be_written_go_to_the_embedder() -> None:
    world, function, _ = plugged()
    for address in (RAM_SIZE, RAM_SIZE - 4):
        function.send_message(address, 0x55)
    world.machine.run_until_idle()
    assert world.messages == [(RAM_SIZE, 0x55)]
    assert world.machine.read(RAM_SIZE - 4, 4) == 0x55


def test_a_pulse_of_a_level_line_within_one_access_is_not_seen() -> None:
    world, function, scratch = plugged()

    def pulse() -> None:
        function.set_intx(True)
        function.set_intx(False)

    scratch.on_access = pulse
    world.machine.write(BAR, 4, 0)
    assert world.levels == []


# --- re-entrancy


def test_a_device_is_not_entered_while_it_is_in_an_access() -> None:
    world, _, scratch = plugged(mark=0x5A)
    seen: list[int] = []

    def come_back() -> None:
        if len(scratch.accesses) < 5:
            seen.append(world.machine.read(BAR + 4, 4))
            seen.append(world.machine.io_read(0xC000, 1))
            seen.append(world.config_read(SLOT, 0, 4))
            world.machine.write(BAR + 4, 4, 0)

    scratch.on_access = come_back
    assert world.machine.read(BAR, 1) == 0x5A
    assert seen == [0xFFFF_FFFF, 0xFF, 0xFFFF_FFFF]
    assert world.machine.refused == 4
    assert len(scratch.accesses) == 1


def test_another_device_can_be_reached_meanwhile() -> None:
    world, _, scratch = plugged()
    other = make_function("other")
    target = Scratch(0x1000)
    other.add_bar(0, 0x1000, target)
    world.machine.plug(other, SLOT + 1)
    world.config_write(SLOT + 1, 0x10, 4, BAR + 0x1000)
    world.config_write(SLOT + 1, 0x04, 2, MEMORY_ENABLE)
    scratch.on_access = lambda: world.machine.write(BAR + 0x1000, 4, 0x66)
    target.on_access = lambda: world.machine.write(BAR, 4, 0x77)
    world.machine.write(BAR, 4, 0x55)
    assert (scratch.data[0], target.data[0], world.machine.refused) == (0x55, 0x66, 1)


def test_a_device_that_fails_can_be_entered_again() -> None:
    """A defect of a device reaches its embedder, and leaves the machine usable."""
    world, _, scratch = plugged()

    def fail() -> None:
        raise RuntimeError("defect")

    scratch.on_access = fail
    with pytest.raises(RuntimeError, match="defect"):
        world.machine.read(BAR, 4)
    scratch.on_access = lambda: None
    assert world.machine.read(BAR, 4) == 0
    assert world.machine.refused == 0


def test_a_bar_moved_by_the_access_that_uses_it() -> None:
    world, _, scratch = plugged()
    other = make_function("other")
    other.add_bar(0, 0x1000, Scratch(0x1000, 0x99))
    world.machine.plug(other, SLOT + 1)
    world.config_write(SLOT + 1, 0x04, 2, MEMORY_ENABLE)
    scratch.on_access = lambda: world.config_write(SLOT + 1, 0x10, 4, BAR + 0x1000)
    assert world.machine.read(BAR + 0xFFF, 2) == 0xFF00
    assert world.machine.read(BAR + 0x1000, 1) == 0x99


# --- reset, snapshot, trace


def test_reset_reaches_every_function_and_drops_what_was_not_delivered() -> None:
    world, function, _ = plugged()
    world.machine.io_write(0xCF8, 4, 0x8000_0000)
    function.set_intx(True)
    world.machine.run_until_idle()
    function.send_message(0xFEE0_0000, 1)
    world.machine.reset()
    world.machine.run_until_idle()
    assert world.messages == []
    assert world.levels == [(2, True), (2, False)]
    assert world.machine.read(BAR, 4) == 0xFFFF_FFFF
    assert world.machine.io_read(0xCF8, 4) == 0
    assert world.config_read(SLOT, 0, 4) == 0x1042_1AF4


def test_a_saved_machine_goes_on_in_another() -> None:
    world, function, _ = plugged(mark=1)
    world.machine.io_write(0xCF8, 4, 0x8000_1000)
    function.set_intx(True)
    world.machine.run_until_idle()
    fresh = World()
    twin = make_function()
    twin.add_bar(0, 0x1000, Scratch(0x1000, 2))
    twin.add_bar(1, 0x40, Scratch(0x40, 3), kind=BarKind.IO)
    fresh.machine.plug(twin, SLOT)
    fresh.machine.restore(world.machine.save())
    fresh.machine.run_until_idle()
    assert fresh.machine.read(BAR, 1) == 2
    assert fresh.machine.io_read(0xC000, 1) == 3
    assert fresh.machine.io_read(0xCFC, 4) == 0x1042_1AF4
    assert fresh.levels == [(2, True)]
    assert twin.bus_master
    assert fresh.machine.save() == world.machine.save()


def test_a_trace_shows_accesses_and_interrupts_and_not_memory() -> None:
    world, function, _ = plugged()
    events: list[TraceEvent] = []
    world.machine.trace = tracer = Tracer(lambda: 0)
    tracer.sinks.append(events.append)
    world.machine.write(0x10, 4, 1)
    world.machine.write(BAR, 4, 5)
    assert world.machine.read(BAR, 4) == 5
    world.machine.io_read(0xC000, 1)
    function.send_message(0xFEE0_0000, 1)
    function.set_intx(True)
    world.machine.run_until_idle()
    assert [(event.source, event.kind, event.detail) for event in events] == [
        ("memory-space", EventKind.ACCESS_WRITE, (BAR, 4, 5)),
        ("memory-space", EventKind.ACCESS_READ, (BAR, 4)),
        ("memory-space", EventKind.ACCESS_VALUE, (BAR, 4, 5)),
        ("io-space", EventKind.ACCESS_READ, (0xC000, 1)),
        ("io-space", EventKind.ACCESS_VALUE, (0xC000, 1, 0)),
        ("machine", EventKind.INTERRUPT, (0xFEE0_0000, 1)),
        ("machine", EventKind.INTERRUPT, (2, 1)),
    ]


# --- anything at all

spots = st.one_of(
    st.integers(-16, TOP + 16),
    st.sampled_from(
        (0, RAM_SIZE, BAR, BAR + 0x1000, ECAM, ECAM + (1 << 20), 0xCF8, 0xCFC, 0xD00, TOP)
    ).flatmap(lambda edge: st.integers(edge - 9, edge + 9)),
    st.integers(ECAM + (SLOT << 15), ECAM + (SLOT << 15) + 0x100),
)
accesses = st.lists(
    st.tuples(
        st.booleans(), spots, st.sampled_from((1, 2, 4, 8)), st.one_of(st.none(), st.integers(0, TOP - 1))
    ),
    max_size=30,
)


@given(accesses)
def test_any_access_is_defined(story: list[tuple[bool, int, int, int | None]]) -> None:
    world = World()
    function = PciFunction(IDENTITY, name="device")
    function.add_bar(0, 0x1000, Scratch(0x1000))
    function.add_bar(1, 0x40, Scratch(0x40), kind=BarKind.IO)
    function.add_bar(2, 0x1000, Scratch(0x1000), kind=BarKind.MEMORY64)
    function.add_msix(2, bar=4)
    world.machine.plug(function, SLOT)
    world.config_write(SLOT, 0x10, 4, BAR)
    world.config_write(SLOT, 0x04, 2, 7)
    for io, address, size, value in story:
        if value is None:
            read = world.machine.io_read if io else world.machine.read
            assert 0 <= read(address, size) < 1 << 8 * size
        else:
            (world.machine.io_write if io else world.machine.write)(address, size, value)
    world.machine.run_until_idle()


@given(accesses)
def test_an_access_reads_what_its_bytes_read(story: list[tuple[bool, int, int, int | None]]) -> None:
    """For ranges without side effects: memory, BARs of plain registers, holes, and the edges between them."""
    world, _, scratch = plugged()
    scratch.data[:] = bytes(range(256)) * 16
    world.memory.write(0, bytes(range(255, -1, -1)) * (RAM_SIZE // 256))
    for _, address, size, _ in story:
        whole = world.machine.read(address, size)
        assert whole == sum(world.machine.read(address + at, 1) << 8 * at for at in range(size))


# --- devices outside PCI


class Plain:
    """A device outside PCI: eight bytes that hold what is written, an interrupt while the first is not 0."""

    name = "plain"
    size = 8

    def __init__(self) -> None:
        self.accessing = False
        self.held = 0
        self.line: LineSource | None = None

    def read(self, offset: int, size: int) -> int:
        return self.held >> 8 * offset & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        mask = (1 << 8 * size) - 1 << 8 * offset
        self.held = self.held & ~mask | value << 8 * offset & mask
        self._drive()

    def plugged(self, line: LineSource) -> None:
        self.line = line

    def reset(self) -> None:
        self.held = 0
        self._drive()

    def save(self) -> dict[str, int]:
        return {"held": self.held}

    def judge(self, state: Mapping[str, int]) -> None:
        """Anything goes."""

    def restore(self, state: Mapping[str, int]) -> None:
        self.held = state["held"]
        self._drive()

    def _drive(self) -> None:
        assert self.line is not None
        self.line.set(bool(self.held & 0xFF))


def with_plain_devices() -> tuple[Machine, list[tuple[int, bool]]]:
    """Two devices that share line 9 and one on line 3."""
    told: list[tuple[int, bool]] = []
    machine = Machine(
        GuestMemory(), IoContext.virtual(), on_irq=lambda line, level: told.append((line, level))
    )
    for base, irq in ((0x1000, 9), (0x1008, 9), (0x2000, 3)):
        machine.plug_mmio(Plain(), base, irq)
    return machine, told


def test_devices_outside_pci_have_their_places_and_share_lines() -> None:
    machine, told = with_plain_devices()
    assert [(base, irq) for base, irq, _ in machine.mmio] == [(0x1000, 9), (0x1008, 9), (0x2000, 3)]
    machine.write(0x1000, 4, 1)
    machine.write(0x1008, 4, 1)
    machine.write(0x2000, 1, 1)
    machine.write(0x1000, 4, 0)
    assert told == [(9, True), (3, True)]
    machine.write(0x1008, 4, 0)
    assert told[2:] == [(9, False)]
    assert machine.read(0x2000, 1) == 1


def test_a_reset_and_a_snapshot_are_for_them_too() -> None:
    machine, told = with_plain_devices()
    machine.write(0x1008, 4, 5)
    saved = machine.save()
    machine.reset()
    assert (machine.read(0x1008, 4), told) == (0, [(9, True), (9, False)])
    other, told = with_plain_devices()
    other.restore(saved)
    other.run_until_idle()
    assert (other.read(0x1008, 4), told) == (5, [(9, True)])


@pytest.mark.parametrize("base", [-4, 0x1004, 0x1FFC, 0xB000_0000, 2, TOP - 4])
def test_a_place_that_is_taken_or_impossible_is_refused(base: int) -> None:
    machine, _ = with_plain_devices()
    with pytest.raises(ValueError, match="address"):
        machine.plug_mmio(Plain(), base, 1)
