"""A client that does anything in any order, beside a model of what it has to see: memory, registers, interrupts."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.exports.frontend import open_files

from .client import (
    BOOL,
    CONFIG,
    DMA_MAP,
    DMA_UNMAP,
    EVENTFD,
    INTX,
    MASK,
    MSIX,
    NONE,
    PAGE,
    RESET,
    SET_IRQS,
    TRIGGER,
    UNMASK,
    WRITE_MULTI,
    Client,
    Eventfd,
    Shared,
    World,
    access,
    dma_map,
    dma_unmap,
    irq_set,
)
from .function import FAILED, LENGTH, LOWER, RAISE, SCRATCH, VECTORS
from .function import MSIX as SEND_MSIX
from .function import READ as READ_MEMORY
from .function import WRITE as WRITE_MEMORY
from .test_interrupts import capability

PAGES = st.integers(0, 7)
COUNTS = st.integers(1, 3)
LINES = st.integers(0, VECTORS - 1)


class Line:
    """An interrupt as its client has set it up, and what is owed to it."""

    def __init__(self) -> None:
        self.eventfd: Eventfd | None = None
        self.masked = False
        self.pending = False
        self.due = 0

    def settle(self) -> None:
        """What waits is signalled if it can be."""
        if self.pending and self.eventfd is not None and not self.masked:
            self.pending = False
            self.due += 1


class AnyClient(RuleBasedStateMachine):
    """One server, one client after the other; `messages` says whether MSI-X is on, or INTx used."""

    def __init__(self) -> None:
        super().__init__()
        self.before = open_files()
        self.held = ExitStack()
        self.world = World(Path(self.held.enter_context(TemporaryDirectory())))
        self.held.callback(self.world.close)
        self.client: Client

    @initialize(messages=st.booleans())
    def arrive(self, messages: bool) -> None:
        self.messages = messages
        self.client = Client(self.world.path, self.world.context.run_until_idle)
        self.client.greet()
        self.maps: dict[tuple[int, int], tuple[Shared, bytearray, bool]] = {}
        self.lines = [Line() for _ in range(VECTORS)] if messages else [Line()]
        self.eventfds: list[Eventfd] = []
        self.made_ready()

    def made_ready(self) -> None:
        """As a driver does it after a reset."""
        self.client.master()
        self.level = False
        self.scratch = bytes(8)
        if self.messages:
            self.client.set(CONFIG, capability(self.client, 0x11) + 2, 0x8000, 2)

    def leave(self) -> None:
        self.client.close()
        for shared, _, _ in self.maps.values():
            shared.close()
        for eventfd in self.eventfds:
            eventfd.close()

    @rule(messages=st.booleans())
    def another_comes(self, messages: bool) -> None:
        self.leave()
        self.arrive(messages)

    @rule()
    def reset(self) -> None:
        self.client.ok(RESET)
        for line in self.lines:
            line.pending = False
        self.made_ready()

    # --- memory

    @rule(page=PAGES, count=COUNTS, readonly=st.booleans())
    def map(self, page: int, count: int, readonly: bool) -> None:
        shared = Shared(count * PAGE)
        payload = dma_map(page * PAGE, count * PAGE, flags=1 if readonly else 3)
        error = self.client.ask(DMA_MAP, payload, [shared.fd]).error
        if any(page < at + size and at < page + count for at, size in self.maps):
            assert error == errno.EEXIST
            shared.close()
            return
        assert not error
        self.maps[page, count] = shared, bytearray(count * PAGE), readonly

    @rule(page=PAGES, count=COUNTS)
    def unmap(self, page: int, count: int) -> None:
        error = self.client.ask(DMA_UNMAP, dma_unmap(page * PAGE, count * PAGE)).error
        there = self.maps.pop((page, count), None)
        assert error == (0 if there else errno.ENOENT)
        if there:
            there[0].close()

    @precondition(lambda self: self.maps)
    @rule(data=st.data())
    def unmap_one(self, data: st.DataObject) -> None:
        self.unmap(*data.draw(st.sampled_from(sorted(self.maps))))

    @rule()
    def unmap_all(self) -> None:
        self.client.ok(DMA_UNMAP, dma_unmap(0, 0, flags=2))
        for shared, _, _ in self.maps.values():
            shared.close()
        self.maps.clear()

    def found(self, address: int) -> tuple[bytearray, int, bool] | None:
        for (page, count), (_, content, readonly) in self.maps.items():
            if page * PAGE <= address < (page + count) * PAGE:
                return content, address - page * PAGE, readonly
        return None

    @rule(address=st.integers(0, 11 * PAGE), length=st.integers(1, 2 * PAGE), value=st.integers(1, 255))
    def function_writes(self, address: int, length: int, value: int) -> None:
        self.client.do(WRITE_MEMORY, address=address, length=length, value=value)
        places = [self.found(address + at) for at in range(length)]
        whole = all(place is not None and not place[2] for place in places)
        assert (self.client.word(0, LENGTH) == FAILED) is not whole
        if whole:
            for place in places:
                assert place is not None
                place[0][place[1]] = value

    @rule(address=st.integers(0, 11 * PAGE))
    def function_reads(self, address: int) -> None:
        self.client.do(READ_MEMORY, address=address, length=8)
        places = [self.found(address + at) for at in range(8)]
        assert (self.client.word(0, LENGTH) == FAILED) is any(place is None for place in places)
        self.scratch = bytes(place[0][place[1]] for place in places if place is not None)
        if len(self.scratch) < 8:
            self.scratch = self.client.read(0, SCRATCH, 8)

    @invariant()
    def memory_is_as_it_was_written(self) -> None:
        for shared, content, _ in self.maps.values():
            assert shared.bytes[:] == content

    # --- registers

    @rule(value=st.binary(min_size=8, max_size=8), several=st.booleans())
    def write(self, value: bytes, several: bool) -> None:
        if several:
            halves = [access(0, SCRATCH + at, 4, value[at : at + 4] + bytes(4)) for at in (0, 4)]
            self.client.ok(WRITE_MULTI, (2).to_bytes(8, "little") + b"".join(halves))
        else:
            self.client.write(0, SCRATCH, value)
        self.scratch = value

    @rule()
    def read(self) -> None:
        assert self.client.read(0, SCRATCH, 8) == self.scratch

    # --- interrupts

    @property
    def index(self) -> int:
        return MSIX if self.messages else INTX

    def settle(self) -> None:
        for line in self.lines:
            if not self.messages:
                line.pending = self.level
                due = line.due
                line.settle()
                line.masked |= line.due > due
            else:
                line.settle()

    @rule(line=LINES, given=st.booleans())
    def assign(self, line: int, given: bool) -> None:
        line %= len(self.lines)
        eventfd = Eventfd() if given else None
        fds = [] if eventfd is None else [eventfd.fd]
        self.client.ok(SET_IRQS, irq_set(EVENTFD | TRIGGER, self.index, line, 1), fds)
        found = self.lines[line]
        assert found.eventfd is None or found.eventfd.take() == found.due
        found.due = 0
        found.eventfd = eventfd
        if eventfd is not None:
            self.eventfds.append(eventfd)
        if not self.messages:
            found.masked = False
        self.settle()

    @rule(chosen=st.lists(st.booleans(), min_size=VECTORS, max_size=VECTORS), masked=st.booleans())
    def mask(self, chosen: list[bool], masked: bool) -> None:
        chosen = chosen[: len(self.lines)]
        flags = BOOL | (MASK if masked else UNMASK)
        self.client.ok(SET_IRQS, irq_set(flags, self.index, 0, len(chosen), bytes(chosen)))
        for line, its in zip(self.lines, chosen, strict=True):
            line.masked = masked if its else line.masked
        self.settle()

    @rule()
    def disable_all(self) -> None:
        self.client.ok(SET_IRQS, irq_set(NONE | TRIGGER, self.index, 0, 0))
        for line in self.lines:
            assert line.eventfd is None or line.eventfd.take() == line.due
            line.eventfd, line.masked, line.due = None, False, 0

    @rule(line=LINES)
    def raise_one(self, line: int) -> None:
        if self.messages:
            self.client.do(SEND_MSIX, value=line)
            self.lines[line].pending = True
        else:
            self.client.do(RAISE)
            self.level = True
        self.settle()

    @precondition(lambda self: not self.messages)
    @rule()
    def lower(self) -> None:
        self.client.do(LOWER)
        self.level = False
        self.settle()

    @invariant()
    def interrupts_came_as_they_were_owed(self) -> None:
        for line in self.lines:
            if line.eventfd is not None:
                assert line.eventfd.take() == line.due
            line.due = 0

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.leave()
        self.held.close()
        assert open_files() == self.before


TestAnyClient = AnyClient.TestCase
TestAnyClient.settings = settings(max_examples=8, stateful_step_count=20)


@pytest.mark.slow
class TestManyClients(AnyClient.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(max_examples=150, stateful_step_count=50)
