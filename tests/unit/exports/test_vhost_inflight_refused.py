"""In-flight areas that do not fit are refused."""

from __future__ import annotations

import os
import struct

import pytest

from . import frontend as fe
from .frontend import Ring, World, inflight
from .inflightarea import PROTOCOL, Area, begin, tracked


def test_ring_that_is_larger_than_the_area_is_refused(tidy: World, caplog: pytest.LogCaptureFixture) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        front_end.set_features()
        area = Area(front_end, 2, 4)
        front_end.share()
        front_end.set_ring(0, Ring(front_end.memory))
        front_end.set_kick(0)
        assert front_end.acknowledged(fe.SET_VRING_ENABLE, fe.state(0, 1)) == 1
        area.close()
    assert any("in-flight area for 4 descriptors" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (inflight(383, 2, 8), "383 bytes, expected at least 384"),
        (inflight(0, 2, 8), "0 bytes, expected at least 384"),
        (inflight(384, 3, 8), "3 queues of 2"),
        (inflight(384, 0, 8), "0 queues of 2"),
        (inflight(384, 2, 0), "queues of 0, expected 1 to 32768"),
        (inflight(1 << 30, 2, 8), "holds only 1048576"),
        (inflight(384, 2, 8, 1 << 20), "holds only 1048576"),
        (inflight(384, 2, 8, 2**64 - 64), "holds only 1048576"),
        (inflight(384, 2, 8, 8), "not aligned"),
    ],
)
def test_area_that_does_not_fit_is_refused(
    tidy: World, caplog: pytest.LogCaptureFixture, payload: bytes, reason: str
) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        assert front_end.acknowledged(fe.SET_INFLIGHT_FD, payload, [front_end.memory.fd]) == 1
        assert front_end.connected
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert reason in line


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_area_that_is_no_file_is_refused(tidy: World, path: str) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        fd = os.open(path, os.O_RDONLY)
        assert front_end.acknowledged(fe.SET_INFLIGHT_FD, inflight(384, 2, 8), [fd]) == 1
        os.close(fd)


def test_area_that_cannot_be_written_is_refused(tidy: World) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        fd = os.open(f"/proc/self/fd/{front_end.memory.fd}", os.O_RDONLY)
        assert front_end.acknowledged(fe.SET_INFLIGHT_FD, inflight(384, 2, 8), [fd]) == 1
        os.close(fd)


def test_area_does_not_change_while_rings_run(world: World) -> None:
    with tracked(world) as (front_end, area, _ring):
        assert front_end.acknowledged(fe.SET_INFLIGHT_FD, area.payload(), [area.fd]) == 1


def test_a_second_area_replaces_the_first(tidy: World) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        mappings = []
        for _ in range(4):
            Area(front_end).close()
            with open("/proc/self/maps") as maps:
                mappings.append(sum("vhost-user-inflight" in line for line in maps))
        assert mappings == [1] * 4


@pytest.mark.parametrize(
    ("at", "data", "reason"),
    [
        (8, b"\2\0", "version 2"),
        (10, b"\7\0", "for 7 descriptors"),
        (14, b"\x80\0", "too far apart"),
        (16, b"\1" + bytes(7) + b"\xff" * 8, "counter"),
        (12, b"\x08\0\xff\xff", "lists descriptor 8"),
        (12, b"\xff\xff\xff\xff", "lists descriptor 65535"),
    ],
)
def test_area_that_contradicts_the_ring_is_refused(
    tidy: World, caplog: pytest.LogCaptureFixture, at: int, data: bytes, reason: str
) -> None:
    with tidy.front_end() as front_end:
        area = begin(front_end)
        ring = Ring(front_end.memory)
        area.poke(0, struct.pack("<QHHHH", 0, 1, 8, 0, 0))
        area.poke(at, data)
        front_end.set_ring(0, ring)
        front_end.set_kick(0)
        assert front_end.acknowledged(fe.SET_VRING_ENABLE, fe.state(0, 1)) == 1
        area.close()
    assert any(reason in record.getMessage() for record in caplog.records)


def test_head_beyond_the_ring_is_refused(tidy: World) -> None:
    with tidy.front_end() as front_end:
        area = begin(front_end)
        area.poke(0, struct.pack("<QHHHH", 0, 1, 8, 0, 0))
        area.poke(16 + 16 * 4, b"\1")
        front_end.set_ring(0, Ring(front_end.memory, size=4))
        front_end.set_kick(0)
        assert front_end.acknowledged(fe.SET_VRING_ENABLE, fe.state(0, 1)) == 1
        area.close()


def test_list_that_goes_in_a_circle_ends(world: World) -> None:
    with world.front_end() as front_end:
        area = begin(front_end)
        ring = Ring(front_end.memory)
        struct.pack_into("<H", front_end.memory.bytes, ring.used + 2, 8)
        struct.pack_into("<H", front_end.memory.bytes, ring.avail + 2, 8)
        area.poke(0, struct.pack("<QHHHH", 0, 1, 8, 0, 0))
        front_end.start(0, ring, base=8)
        assert world.device.held == []
        area.close()
