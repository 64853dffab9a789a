"""A function's regions: every BAR and configuration space by number and offset, whatever is decoded."""

from __future__ import annotations

import pytest

from devmodels.functionregions import CONFIG_REGION, NUM_REGIONS, REGION_SHIFT, FunctionRegions
from devmodels.pci import BarKind, Windows
from devmodels.trace import EventKind, TraceEvent, Tracer
from tests.unit.pci.world import IDENTITY, Scratch, World, make_function


class Placed:
    """A function with a memory BAR, ports, and a BAR of windows, in slot 3."""

    def __init__(self) -> None:
        self.world = World()
        self.function = make_function()
        self.bar, self.ports, self.inner = Scratch(0x1000), Scratch(0x40), Scratch(0x10)
        windows = Windows(0x100)
        windows.place(0x20, 0x10, self.inner)
        self.function.add_bar(0, 0x1000, self.bar)
        self.function.add_bar(1, 0x40, self.ports, kind=BarKind.IO)
        self.function.add_bar(2, 0x100, windows, kind=BarKind.MEMORY64)
        self.world.machine.plug(self.function, 3)
        self.regions = FunctionRegions(self.world.machine, self.function)


@pytest.fixture
def placed() -> Placed:
    return Placed()


def test_sizes(placed: Placed) -> None:
    sizes = [0x1000, 0x40, 0x100, *[0] * (NUM_REGIONS - 3)]
    sizes[CONFIG_REGION] = 256
    assert placed.regions.sizes == sizes


def test_regions_are_there_while_nothing_is_decoded(placed: Placed) -> None:
    placed.regions.store(0, 8, b"\1\2\3\4")
    placed.regions.store(1, 4, b"\5")
    placed.regions.store(2, 0x28, b"\6\7")
    assert placed.bar.data[8:12] == b"\1\2\3\4"
    assert placed.ports.data[4] == 5
    assert placed.inner.data[8:10] == b"\6\7"
    assert placed.regions.load(2, 0x28, 2) == b"\6\7"
    assert placed.regions.load(CONFIG_REGION, 0, 4) == IDENTITY.vendor_id.to_bytes(2, "little") + b"\x42\x10"


def test_what_no_window_covers_reads_0(placed: Placed) -> None:
    assert placed.regions.load(2, 0, 8) == bytes(8)
    assert placed.regions.load(2, 0x1C, 8) == bytes(8)


def test_pieces_of_memory_are_wide_and_those_of_ports_at_most_4(placed: Placed) -> None:
    placed.regions.load(0, 0, 24)
    assert [size for _, _, size in placed.bar.accesses] == [8, 8, 8]
    placed.regions.load(1, 3, 13)
    assert [(at, size) for _, at, size in placed.ports.accesses] == [(3, 1), (4, 4), (8, 4), (12, 4)]


def test_ports_and_configuration_space_have_no_access_of_8_bytes(placed: Placed) -> None:
    placed.regions.store(1, 8, bytes(range(8)))
    assert placed.regions.load(1, 8, 8) == bytes(range(8))
    assert [(at, size) for _, at, size in placed.ports.accesses] == [(8, 4), (12, 4)] * 2
    assert placed.regions.load(CONFIG_REGION, 0, 8)[:4] == placed.regions.load(CONFIG_REGION, 0, 4)


@pytest.mark.parametrize(
    ("region", "offset", "count", "held"),
    [
        (0, 0, 0x1000, True),
        (0, 0xFFF, 1, True),
        (0, 0xFFF, 2, False),
        (0, 0, 0, False),
        (3, 0, 1, False),
        (9, 0, 1, False),
        (CONFIG_REGION, 255, 1, True),
        (CONFIG_REGION, 256, 1, False),
    ],
)
def test_what_a_region_holds(placed: Placed, region: int, offset: int, count: int, held: bool) -> None:
    assert placed.regions.holds(region, offset, count) is held


def test_a_function_is_not_entered_twice(placed: Placed) -> None:
    again: list[bytes] = []
    placed.bar.on_access = lambda: again.append(placed.regions.load(0, 0, 4))
    placed.regions.store(0, 0, bytes(4))
    assert again == [b"\xff" * 4]
    assert placed.world.machine.refused == 1


def test_interrupts_leave_when_the_access_is_over(placed: Placed) -> None:
    placed.bar.on_access = lambda: placed.function.send_message(0xFEE0_0000, len(placed.world.messages))
    placed.regions.store(0, 0, bytes(4))
    assert placed.world.messages == [(0xFEE0_0000, 0)]


def test_a_trace_calls_them_after_the_function(placed: Placed) -> None:
    events: list[TraceEvent] = []
    tracer = Tracer(lambda: 0)
    tracer.sinks.append(events.append)
    placed.world.machine.trace = tracer
    placed.regions.store(1, 4, b"\1")
    placed.regions.load(CONFIG_REGION, 0x3C, 1)
    assert [(event.source, event.kind, event.detail) for event in events] == [
        ("device.regions", EventKind.ACCESS_WRITE, (1 << REGION_SHIFT | 4, 1, 1)),
        ("device.regions", EventKind.ACCESS_READ, (CONFIG_REGION << REGION_SHIFT | 0x3C, 1)),
        ("device.regions", EventKind.ACCESS_VALUE, (CONFIG_REGION << REGION_SHIFT | 0x3C, 1, 0)),
    ]


def test_messages_may_be_somebody_elses_to_deliver(placed: Placed) -> None:
    """Then none is a write to memory."""
    placed.world.machine.messages_in_memory = False
    placed.function.send_message(0x100, 7)
    placed.world.machine.run_until_idle()
    assert placed.world.messages == [(0x100, 7)]
    placed.world.machine.messages_in_memory = True
    placed.function.send_message(0x100, 8)
    placed.world.machine.run_until_idle()
    assert placed.world.messages == [(0x100, 7)]
    assert placed.world.memory.load(0x100, 4) == b"\x08\0\0\0"
