"""Messages and shared lines, from the raising to the delivery."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from devmodels.interrupts import Line, Outbox


class World:
    """An outbox whose deliveries are written down."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.asked = 0
        self.then: Callable[[], None] = lambda: None
        self.outbox = Outbox(self._message, self._pending)

    def line(self, *, edges: bool = False) -> Line:
        return Line(self.outbox, self.seen.append, edges=edges)

    def _message(self, address: int, data: int) -> None:
        self.seen.append((address, data))
        then, self.then = self.then, lambda: None
        then()

    def _pending(self) -> None:
        self.asked += 1


def test_messages_wait_for_the_delivery_and_keep_their_order() -> None:
    world = World()
    world.outbox.post(0xFEE0_0000, 1)
    world.outbox.post(0xFEE0_0000, 2)
    assert (world.seen, world.asked, world.outbox.pending) == ([], 1, True)
    world.outbox.deliver()
    assert world.seen == [(0xFEE0_0000, 1), (0xFEE0_0000, 2)]
    assert not world.outbox.pending


def test_a_line_is_high_as_long_as_one_source_drives_it() -> None:
    world = World()
    line = world.line()
    first, second = line.source(), line.source()
    for source, level in ((first, True), (second, True), (first, False), (second, False)):
        source.set(level)
        world.outbox.deliver()
    assert world.seen == [True, False]


def test_driving_twice_counts_once() -> None:
    world = World()
    line = world.line()
    source = line.source()
    source.set(True)
    source.set(True)
    source.set(False)
    assert not line.level


def test_levels_within_one_delivery_are_coalesced() -> None:
    world = World()
    source = world.line().source()
    source.set(True)
    source.set(False)
    world.outbox.deliver()
    assert world.seen == []


def test_a_line_with_edges_loses_no_pulse() -> None:
    world = World()
    source = world.line(edges=True).source()
    source.set(True)
    source.set(False)
    world.outbox.deliver()
    assert world.seen == [True, False]


def test_a_low_between_two_highs_is_an_edge() -> None:
    world = World()
    source = world.line(edges=True).source()
    source.set(True)
    world.outbox.deliver()
    for _ in range(5):
        source.set(False)
        source.set(True)
    world.outbox.deliver()
    assert world.seen == [True, False, True]


def test_what_a_sink_raises_is_delivered_in_the_same_delivery_after_it() -> None:
    world = World()

    def answer() -> None:
        world.outbox.post(2, 2)
        world.outbox.deliver()
        world.seen.append("sink returns")

    world.then = answer
    world.outbox.post(1, 1)
    world.outbox.deliver()
    assert world.seen == [(1, 1), "sink returns", (2, 2)]


def test_dropped_messages_never_arrive() -> None:
    world = World()
    world.outbox.post(1, 1)
    world.outbox.drop_messages()
    world.outbox.deliver()
    assert world.seen == []


moves = st.lists(st.one_of(st.tuples(st.integers(0, 2), st.booleans()), st.none()), max_size=40)


@given(moves, st.booleans())
def test_levels_and_edges_against_a_wire(story: list[tuple[int, bool] | None], edges: bool) -> None:
    """None delivers; a pair drives a source. The sink's last word is the wire's level, and it sees every change."""
    world = World()
    line = world.line(edges=edges)
    sources = [line.source() for _ in range(3)]
    driven = [False] * 3
    told = False
    rises = 0
    for move in [*story, None]:
        if move is not None:
            before = any(driven)
            driven[move[0]] = move[1]
            sources[move[0]].set(move[1])
            rises += any(driven) and not before
            continue
        world.outbox.deliver()
        changes = world.seen
        expected = [told]
        for level in changes:
            assert level is not expected[-1]
            expected.append(bool(level))
        told = expected[-1]
        assert told is any(driven)
        if edges:
            assert (True in changes) is (rises > 0)
        assert len(changes) <= 3
        world.seen.clear()
        rises = 0
