"""The dirty log of a guest that moves: every page that the back end changes is in it, and no bit of others is lost."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.exports.vhost_log import SharedDirtyLog, atomic_or

from . import frontend as fe
from .frontend import GUEST_BASE, Ring, SharedMemory, World

PAGE = 4096
PAGES = (GUEST_BASE + fe.MEMORY_SIZE) // PAGE
LOG_SIZE = PAGES // 8
FEATURES = fe.F_PROTOCOL | fe.F_VERSION_1
PROTOCOL = fe.MQ | fe.LOG | fe.REPLY_ACK | fe.RESET


@contextmanager
def shared(size: int) -> Iterator[SharedMemory]:
    memory = SharedMemory(size)
    try:
        yield memory
    finally:
        memory.close()


def pages(log: SharedMemory) -> set[int]:
    """The pages whose bits are set, by number."""
    value = int.from_bytes(log.bytes[:], "little")
    found = set()
    while value:
        lowest = value & -value
        found.add(lowest.bit_length() - 1)
        value ^= lowest
    return found


def begin(front_end: fe.FrontEnd) -> Ring:
    """A ring that runs, without a log."""
    front_end.introduce(PROTOCOL)
    front_end.set_features(FEATURES)
    front_end.share()
    ring = Ring(front_end.memory)
    front_end.start(0, ring)
    return ring


def switch_on(front_end: fe.FrontEnd, ring: Ring, log: SharedMemory, *, used_at: int | None = None) -> None:
    """As QEMU does when a migration begins: while rings run."""
    used_at = GUEST_BASE + ring.used if used_at is None else used_at
    assert front_end.ask(fe.SET_LOG_BASE, struct.pack("<QQ", log.size, 0), [log.fd]) == fe.u64(0)
    assert front_end.acknowledged(fe.SET_FEATURES, fe.u64(FEATURES | fe.F_LOG_ALL)) == 0
    assert front_end.acknowledged(fe.SET_VRING_ADDR, ring.addresses(0, log=used_at)) == 0


def changed_pages(before: bytes, after: bytes) -> set[int]:
    """Pages of the guest that differ, by number."""
    return {
        (GUEST_BASE + at) // PAGE
        for at in range(0, len(before), PAGE)
        if before[at : at + PAGE] != after[at : at + PAGE]
    }


def test_pages_that_change_are_logged_and_no_others(quick: World) -> None:
    with quick.front_end() as front_end, shared(LOG_SIZE) as log:
        ring = begin(front_end)
        ring.add()
        front_end.kick(0)
        switch_on(front_end, ring, log)
        assert pages(log) <= {GUEST_BASE // PAGE}, "the ring's flags at most"
        before = bytes(front_end.memory.bytes)
        # The buffer lies in another page than the ring.
        head = ring.add()
        struct.pack_into("<Q", front_end.memory.bytes, ring.desc + 16 * head, GUEST_BASE + 9 * PAGE - 8)
        front_end.memory.bytes[9 * PAGE - 8 : 9 * PAGE + 8] = b"\xff" * 16
        guests = changed_pages(before, bytes(front_end.memory.bytes))
        before = bytes(front_end.memory.bytes)
        front_end.kick(0)
        changed = changed_pages(before, bytes(front_end.memory.bytes))
        assert {GUEST_BASE // PAGE + 8, GUEST_BASE // PAGE + 9} < changed <= pages(log) <= guests | changed


def test_request_that_was_in_flight_when_logging_began_is_logged(world: World) -> None:
    with world.front_end() as front_end, shared(LOG_SIZE) as log:
        ring = begin(front_end)
        ring.add()
        front_end.kick(0)
        switch_on(front_end, ring, log)
        world.device.give_back()
        front_end.run()
        assert GUEST_BASE // PAGE in pages(log)


def test_nothing_is_logged_after_logging_was_switched_off(quick: World) -> None:
    with quick.front_end() as front_end, shared(LOG_SIZE) as log:
        ring = begin(front_end)
        switch_on(front_end, ring, log)
        front_end.set_features(FEATURES)
        front_end.send(fe.SET_VRING_ADDR, ring.addresses(0))
        log.bytes[:] = bytes(log.size)
        ring.add()
        front_end.kick(0)
        assert pages(log) == set()
        assert quick.device.memory.dirty_log is None


def test_a_second_log_takes_the_place_of_the_first(quick: World) -> None:
    with quick.front_end() as front_end, shared(LOG_SIZE) as first, shared(LOG_SIZE) as second:
        ring = begin(front_end)
        switch_on(front_end, ring, first)
        switch_on(front_end, ring, second)
        first.bytes[:] = bytes(first.size)
        ring.add()
        front_end.kick(0)
        assert pages(first) == set()
        assert pages(second) == {GUEST_BASE // PAGE}


def test_used_ring_is_logged_where_the_front_end_wants_it(quick: World) -> None:
    with quick.front_end() as front_end, shared(LOG_SIZE) as log:
        ring = begin(front_end)
        switch_on(front_end, ring, log, used_at=77 * PAGE)
        ring.add()
        front_end.kick(0)
        assert 77 in pages(log)


def test_used_ring_logged_beyond_the_log_is_refused(tidy: World) -> None:
    with tidy.front_end() as front_end, shared(LOG_SIZE) as log:
        ring = begin(front_end)
        front_end.ask(fe.SET_LOG_BASE, struct.pack("<QQ", log.size, 0), [log.fd])
        beyond = PAGES * PAGE - 8
        assert front_end.acknowledged(fe.SET_VRING_ADDR, ring.addresses(0, log=beyond)) == 1


def test_front_end_is_told_of_changes_where_it_wants_to_be(quick: World) -> None:
    with quick.front_end() as front_end, shared(LOG_SIZE) as log:
        ring = begin(front_end)
        event = fe.eventfd()
        assert front_end.acknowledged(fe.SET_LOG_FD, b"", [event]) == 0
        switch_on(front_end, ring, log)
        ring.add()
        front_end.kick(0)
        assert fe.signalled(event)
        ring.add()
        front_end.kick(0)
        assert not fe.signalled(event), "the same pages again"
        os.close(event)


def test_write_beyond_the_log_is_one_warning(quick: World, caplog: pytest.LogCaptureFixture) -> None:
    with quick.front_end() as front_end, shared(PAGE) as log:
        ring = begin(front_end)
        switch_on(front_end, ring, log, used_at=0)
        for _ in range(2):
            ring.add()
            front_end.kick(0)
        assert len(ring.taken_back()) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "beyond the dirty log of 32768 pages" in line


def test_log_goes_with_the_front_end(tidy: World) -> None:
    with tidy.front_end() as front_end, shared(LOG_SIZE) as log:
        ring = begin(front_end)
        switch_on(front_end, ring, log)
    assert tidy.device.memory.dirty_log is None


@pytest.mark.parametrize(
    ("size", "offset", "reason"),
    [
        (0, 0, "holds only"),
        (12, 0, "not aligned"),
        (8, 4, "not aligned"),
        (8, fe.MEMORY_SIZE, "holds only"),
        (fe.MEMORY_SIZE + 8, 0, "holds only"),
        (8, 2**64 - 8, "holds only"),
        (2**64 - 8, 8, "holds only"),
    ],
)
def test_log_that_does_not_fit_ends_the_connection(
    tidy: World, caplog: pytest.LogCaptureFixture, size: int, offset: int, reason: str
) -> None:
    """Its answer has no room for an error."""
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        front_end.send(fe.SET_LOG_BASE, struct.pack("<QQ", size, offset), [front_end.memory.fd])
        assert not front_end.connected
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert reason in line


def test_log_at_an_offset_into_its_file(quick: World) -> None:
    with quick.front_end() as front_end, shared(LOG_SIZE + 4104) as log:
        ring = begin(front_end)
        front_end.ask(fe.SET_LOG_BASE, struct.pack("<QQ", LOG_SIZE, 4104), [log.fd])
        front_end.set_features(FEATURES | fe.F_LOG_ALL)
        ring.add()
        front_end.kick(0)
        assert pages(log) == {8 * 4104 + GUEST_BASE // PAGE}


# --- the bits themselves


@given(st.lists(st.tuples(st.integers(0, 300 * PAGE), st.integers(0, 40 * PAGE)), max_size=6))
def test_bits_are_those_of_the_pages_touched(writes: list[tuple[int, int]]) -> None:
    with shared(64) as memory:
        log = SharedDirtyLog(memory.fd, 64, 0, "log", lambda: None)
        for address, length in writes:
            log.mark(address, length)
        log.close()
        wanted = {
            page
            for address, length in writes
            if length
            for page in range(address // PAGE, (address + length - 1) // PAGE + 1)
        }
        assert pages(memory) == {page for page in wanted if page < 512}


def test_bits_that_another_process_sets_in_the_same_words_stay() -> None:
    """Both set every other bit at the same time; a load, an OR and a store would lose some of them."""
    rounds = 40
    with shared(PAGE) as memory:
        child = os.fork()
        if not child:
            anchor = ctypes.c_char.from_buffer(memory.bytes)
            address = ctypes.addressof(anchor)
            for bit in range(1, 8 * 32 * rounds, 2):
                atomic_or(address + bit // 32 * 4, bit % 32)
            os._exit(0)
        log = SharedDirtyLog(memory.fd, PAGE, 0, "log", lambda: None)
        for page in range(0, 8 * 32 * rounds, 2):
            log.mark(page * PAGE, 1)
        assert os.waitpid(child, 0)[1] == 0
        log.close()
        assert pages(memory) == set(range(8 * 32 * rounds))
