"""Memory tables: what is mapped, what is refused, and what changes under rings and requests."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devmodels.dma import Direction

from . import frontend as fe
from .frontend import GUEST_BASE, USER_BASE, Ring, SharedMemory, World, front_end_mappings, region, table

SIZE = fe.MEMORY_SIZE
HALF = SIZE // 2


def single(*fields: int) -> bytes:
    return bytes(8) + region(*fields)


def add(front_end: fe.FrontEnd, *fields: int, fd: int | None = None) -> int:
    """ADD_MEM_REG (guest, size, user, offset) with an acknowledgement."""
    return front_end.acknowledged(
        fe.ADD_MEM_REG, single(*fields), [front_end.memory.fd if fd is None else fd]
    )


def remove(front_end: fe.FrontEnd, *fields: int) -> int:
    return front_end.acknowledged(fe.REM_MEM_REG, single(*fields))


def share(front_end: fe.FrontEnd, *regions: bytes, fds: list[int] | None = None) -> int:
    """SET_MEM_TABLE with an acknowledgement."""
    fds = [front_end.memory.fd] * len(regions) if fds is None else fds
    return front_end.acknowledged(fe.SET_MEM_TABLE, table(*regions), fds)


# --- tables


def test_region_is_the_files_own_memory_at_its_guest_address(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert share(front_end, region(0x1000, HALF, USER_BASE, HALF)) == 0
        world.device.memory.write(0x1234, b"hello")
        assert front_end.memory.bytes[HALF + 0x234 : HALF + 0x239] == b"hello"


def test_offset_need_not_be_on_a_page(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert share(front_end, region(0, 0x100, USER_BASE, 0x1008)) == 0
        world.device.memory.write(0, b"x")
        assert front_end.memory.bytes[0x1008:0x1009] == b"x"


def test_new_table_replaces_the_old_one(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        share(front_end, region(0, HALF, USER_BASE))
        share(front_end, region(HALF, HALF, USER_BASE))
        assert not world.device.memory.contains(0, 1)
        assert world.device.memory.contains(HALF, HALF)
        assert len(front_end_mappings()) == 2  # the front end's own and one of the back end


def test_refused_table_leaves_the_old_one(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        share(front_end, region(0, HALF, USER_BASE))
        assert share(front_end, region(SIZE, HALF, USER_BASE), region(4 * SIZE, 2 * SIZE, 8 * SIZE)) == 1
        assert world.device.memory.contains(0, HALF)
        assert not world.device.memory.contains(SIZE, 1)
        assert len(front_end_mappings()) == 2


def test_eight_regions_are_taken(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        regions = [region(n * 0x10000, 0x1000, USER_BASE + n * 0x10000, n * 0x1000) for n in range(8)]
        assert share(front_end, *regions) == 0
        assert all(world.device.memory.contains(n * 0x10000, 0x1000) for n in range(8))


def test_huge_pages_are_mapped_and_given_back_as_wholes(world: World) -> None:
    try:
        fd = os.memfd_create(fe.MEMORY_NAME, os.MFD_CLOEXEC | os.MFD_HUGETLB)
        os.ftruncate(fd, 4 << 20)
        mmap.mmap(fd, 4 << 20).close()
    except OSError as error:
        pytest.skip(f"no huge pages here: {error}")
    with world.front_end() as front_end:
        front_end.introduce()
        assert share(front_end, region(0xC0000, 0x140000, USER_BASE, 0xC0000), fds=[fd]) == 0
        world.device.memory.write(0xC0000, b"hello")
    os.close(fd)
    assert front_end_mappings() == []


BAD_REGIONS = {
    "empty": (0, 0, USER_BASE, 0),
    "unaligned guest address": (4, 0x1000, USER_BASE, 0),
    "unaligned size": (0, 0x1004, USER_BASE, 0),
    "unaligned offset": (0, 0x1000, USER_BASE, 4),
    "guest wraps": (2**64 - 0x1000, 0x2000, USER_BASE, 0),
    "user wraps": (0, 0x2000, 2**64 - 0x1000, 0),
    "offset wraps": (0, 0x1000, USER_BASE, 2**64 - 8),
    "offset beyond 2**63": (0, 0x1000, USER_BASE, 1 << 63),
    "longer than its file": (0, SIZE + 8, USER_BASE, 0),
    "over the end of its file": (0, 0x2000, USER_BASE, SIZE - 0x1000),
    "behind its file": (0, 0x1000, USER_BASE, 2 * SIZE),
    "enormous": (0, 2**63, USER_BASE, 0),
}


@pytest.mark.long
@pytest.mark.parametrize("fields", BAD_REGIONS.values(), ids=BAD_REGIONS.keys())
@pytest.mark.parametrize("how", ["table", "slot"])
def test_impossible_region_is_refused(tidy: World, how: str, fields: tuple[int, int, int, int]) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce()
        refused = share(front_end, region(*fields)) if how == "table" else add(front_end, *fields)
        assert refused == 1
        assert tidy.device.memory.regions == ()


def test_last_addresses_can_be_shared(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert share(front_end, region(2**64 - SIZE, SIZE, 2**64 - SIZE)) == 0


@pytest.mark.parametrize("how", ["guest", "user"])
def test_overlapping_regions_are_refused(tidy: World, how: str) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce()
        second = {
            "guest": region(HALF - 8, HALF, USER_BASE + SIZE),
            "user": region(SIZE, HALF, USER_BASE + HALF - 8),
        }
        assert share(front_end, region(0, HALF, USER_BASE), second[how]) == 1
        assert share(front_end, region(0, HALF, USER_BASE)) == 0
        fields = {"guest": (HALF - 8, HALF, USER_BASE + SIZE, 0), "user": (SIZE, HALF, USER_BASE + 8, 0)}
        assert add(front_end, *fields[how]) == 1


@contextmanager
def odd_descriptor(kind: str, folder: Path) -> Iterator[int]:
    """A descriptor that no memory can be had from, or not as it should be."""
    others: list[int] = []
    if kind == "read-only file":
        path = folder / "memory"
        path.write_bytes(bytes(SIZE))
        fd = os.open(path, os.O_RDONLY)
    elif kind == "write-only file":
        path = folder / "memory"
        path.write_bytes(bytes(SIZE))
        fd = os.open(path, os.O_WRONLY)
    elif kind == "folder":
        fd = os.open(folder, os.O_RDONLY)
    elif kind == "pipe":
        fd, other = os.pipe()
        others.append(other)
    elif kind == "socket":
        one, two = socket.socketpair()
        fd = one.detach()
        others.append(two.detach())
    elif kind == "terminal device":
        fd = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    elif kind == "memory sealed against writing":
        fd = os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, SIZE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    else:
        fd = fe.eventfd()
    try:
        yield fd
    finally:
        for number in (fd, *others):
            os.close(number)


@pytest.mark.parametrize(
    "kind",
    [
        "read-only file",
        "write-only file",
        "memory sealed against writing",
        "folder",
        "pipe",
        "socket",
        "terminal device",
        "eventfd",
    ],
)
def test_descriptor_that_is_no_memory_is_refused(tidy: World, kind: str, tmp_path: Path) -> None:
    with tidy.front_end() as front_end, odd_descriptor(kind, tmp_path) as fd:
        front_end.introduce()
        assert share(front_end, region(0, HALF, USER_BASE), fds=[fd]) == 1


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "eventfd"])
def test_descriptor_of_a_kind_without_memory_is_not_even_tried(
    world: World, caplog: pytest.LogCaptureFixture, kind: str, tmp_path: Path
) -> None:
    with world.front_end() as front_end, odd_descriptor(kind, tmp_path) as fd:
        front_end.introduce()
        share(front_end, region(0, HALF, USER_BASE), fds=[fd])
    assert "neither a file nor a memory device" in caplog.text


def test_region_beyond_its_file_is_not_even_tried(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        share(front_end, region(0, SIZE + 8, USER_BASE))
    assert f"holds only {SIZE:#x} bytes" in caplog.text


def test_memory_sealed_against_cutting_serves_and_cannot_be_cut(quick: World) -> None:
    """What QEMU shares: nothing that the front end does can make an access fail."""
    fd = os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    with quick.front_end() as front_end:
        front_end.introduce()
        assert share(front_end, region(0, SIZE, USER_BASE), fds=[fd]) == 0
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        assert quick.device.memory.read(SIZE - 1, 1) == b"\0"
    os.close(fd)


def test_memory_that_is_cut_off_ends_its_connection_alone(
    quick: World, caplog: pytest.LogCaptureFixture
) -> None:
    fd = os.memfd_create("cut", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    with quick.front_end() as front_end:
        front_end.introduce()
        assert share(front_end, region(0, SIZE, USER_BASE), fds=[fd]) == 0
        os.ftruncate(fd, 0)
        assert quick.device.memory.read(SIZE - 1, 1) == b"\0"
        front_end.run()
        assert not front_end.connected
    assert "a file with its memory has become too short" in caplog.text
    with quick.front_end() as front_end:
        front_end.introduce()
    os.close(fd)


def test_plain_file_serves_as_memory(quick: World, tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_bytes(bytes(HALF))
    with quick.front_end() as front_end, path.open("r+b") as file:
        front_end.introduce()
        assert share(front_end, region(0, HALF, USER_BASE), fds=[file.fileno()]) == 0
        quick.device.memory.write(8, b"hello")
        assert path.read_bytes()[8:13] == b"hello"


# --- slots


def test_slots_are_added_and_removed(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        assert front_end.number(fe.GET_MAX_MEM_SLOTS) == 32
        assert add(front_end, 0, HALF, USER_BASE, 0) == 0
        assert add(front_end, HALF, HALF, USER_BASE + HALF, HALF) == 0
        assert world.device.memory.contains(0, SIZE)
        assert remove(front_end, 0, HALF, USER_BASE, 0) == 0
        assert not world.device.memory.contains(0, 1)
        assert world.device.memory.contains(HALF, HALF)


def test_removal_ignores_the_offset_and_a_descriptor(world: World) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        add(front_end, 0, HALF, USER_BASE, 0)
        payload = single(0, HALF, USER_BASE, 0x5000)
        assert front_end.acknowledged(fe.REM_MEM_REG, payload, [front_end.memory.fd]) == 0
        assert world.device.memory.regions == ()


@pytest.mark.parametrize("fields", [(8, HALF, USER_BASE), (0, HALF - 8, USER_BASE), (0, HALF, USER_BASE + 8)])
def test_removal_of_what_is_not_there_is_refused(world: World, fields: tuple[int, int, int]) -> None:
    with world.front_end() as front_end:
        front_end.introduce()
        add(front_end, 0, HALF, USER_BASE, 0)
        assert remove(front_end, *fields, 0) == 1
        assert world.device.memory.contains(0, HALF)


def test_no_more_slots_than_were_announced(tidy: World) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce()
        refused = [add(front_end, n * 0x1000, 0x1000, USER_BASE + n * 0x1000, 0) for n in range(33)]
        assert refused == [0] * 32 + [1]


# --- memory that changes


def test_table_sent_again_while_rings_are_stopped(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        front_end.stop(0)
        front_end.share()
        front_end.start(0, ring)
        head = ring.add()
        front_end.kick(0)
        assert ring.taken_back() == [(head, 16)]


def test_table_sent_again_while_a_ring_runs(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        front_end.share()
        head = ring.add()
        front_end.kick(0)
        assert ring.taken_back() == [(head, 16)]
        assert len(front_end_mappings()) == 2


def test_table_sent_again_while_a_request_runs(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        head = ring.add()
        front_end.kick(0)
        front_end.share()
        world.device.give_back()
        front_end.run()
        assert ring.taken_back() == [(head, 16)]
        assert front_end.memory.bytes[ring.data : ring.data + 16] == bytes([head]) * 16


def test_running_ring_follows_its_memory_to_another_guest_address(quick: World) -> None:
    """Rings are named by user addresses, which stay the same."""
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        front_end.share(guest=8 * GUEST_BASE)
        head = ring.add(8 * GUEST_BASE)
        front_end.kick(0)
        assert ring.taken_back() == [(head, 16)]


def test_running_ring_follows_its_memory_to_another_file(quick: World) -> None:
    with quick.front_end() as front_end:
        (ring,) = front_end.up()
        other = SharedMemory()
        front_end.send(fe.SET_MEM_TABLE, table(region(GUEST_BASE, SIZE, USER_BASE)), [other.fd])
        moved = Ring(other)
        head = moved.add()
        front_end.kick(0)
        assert moved.taken_back() == [(head, 16)]
        assert ring.used_idx == 0
        other.close()


def test_ring_whose_memory_is_taken_away_and_given_again_goes_on(quick: World) -> None:
    """How a front end with slots changes a region: it removes the old form and adds the new one."""
    with quick.front_end() as front_end:
        front_end.introduce()
        front_end.set_features()
        add(front_end, GUEST_BASE, SIZE, USER_BASE, 0)
        ring = Ring(front_end.memory)
        front_end.start(0, ring)
        assert remove(front_end, GUEST_BASE, SIZE, USER_BASE, 0) == 0
        os.eventfd_write(front_end.kicks[0], 1)
        front_end.run()
        assert quick.device.violations.total == 0
        assert add(front_end, GUEST_BASE, SIZE, USER_BASE, 0) == 0
        head = ring.add()
        front_end.kick(0)
        assert ring.taken_back() == [(head, 16)]


def test_request_that_ends_while_its_ring_is_gone_breaks_the_device_and_nothing_else(tidy: World) -> None:
    with tidy.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
        assert remove(front_end, GUEST_BASE, SIZE, USER_BASE, 0) == 0
        tidy.device.give_back()
        front_end.run()
        assert front_end.number(fe.GET_STATUS) == 0x40
        assert front_end.stop(0) == 1


def test_memory_in_use_by_a_request_stays_mapped_until_it_ends(world: World) -> None:
    """A worker may still read into it: only then is it unmapped."""
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
        chain = world.device.held[0].chain
        dma = world.device.memory.map(chain.writable, Direction.FROM_DEVICE)
        remove(front_end, GUEST_BASE, SIZE, USER_BASE, 0)
        dma.views[0][:] = b"0123456789abcdef"
        dma.unmap(16)
        assert front_end.memory.bytes[ring.data : ring.data + 16] == b"0123456789abcdef"
        front_end.send(fe.GET_VRING_BASE, fe.state(0, 0))
        world.device.give_back()
        front_end.run()
        assert len(front_end_mappings()) == 1


def test_disconnection_unmaps_when_the_last_request_has_come_back(world: World) -> None:
    with world.front_end() as front_end:
        (ring,) = front_end.up()
        ring.add()
        front_end.kick(0)
    assert len(front_end_mappings()) == 1
    world.device.give_back()
    world.context.run_until_idle()
    assert front_end_mappings() == []


def test_table_without_regions_ends_the_connection(tidy: World) -> None:
    with tidy.front_end() as front_end:
        front_end.send(fe.SET_MEM_TABLE, table(), [front_end.memory.fd])
        assert not front_end.connected


@pytest.mark.parametrize("fds", [0, 1, 3])
def test_each_region_needs_a_descriptor(tidy: World, fds: int) -> None:
    with tidy.front_end() as front_end:
        payload = table(region(0, HALF, USER_BASE), region(HALF, HALF, USER_BASE + HALF))
        front_end.send(fe.SET_MEM_TABLE, payload, [front_end.memory.fd] * fds)
        assert not front_end.connected


def test_table_of_nine_regions_ends_the_connection(tidy: World) -> None:
    with tidy.front_end() as front_end:
        regions = [region(n * SIZE, SIZE, USER_BASE + n * SIZE) for n in range(9)]
        front_end.send(fe.SET_MEM_TABLE, table(*regions), [front_end.memory.fd] * 8)
        assert not front_end.connected
