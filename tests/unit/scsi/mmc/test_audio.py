"""Playing audio: the position moves as time does."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from devmodels.scsi import Status
from tests.unit.scsi.mmc.driveworld import RAW, DriveWorld, data_disc

GOOD = Status.GOOD
PLAYING, PAUSED, COMPLETED, FAILED, NONE = range(0x11, 0x16)
SECOND = 1_000_000_000
PAUSE, RESUME, STOP = "4b" + " 00" * 9, "4b" + " 00" * 7 + " 01 00", "4e" + " 00" * 9


@pytest.fixture
def album(insert: Callable[..., DriveWorld], tmp_path: Path) -> DriveWorld:
    """A drive with a disc of two seconds of data and then a track of six."""
    (tmp_path / "album.bin").write_bytes(bytes(8 * 75 * RAW))
    sheet = tmp_path / "album.cue"
    sheet.write_text(
        'FILE "album.bin" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00\nTRACK 02 AUDIO\nINDEX 01 00:02:00\n'
        "TRACK 03 MODE1/2352\nINDEX 01 00:07:00\n"
    )
    return insert({"driver": "cue", "filename": str(sheet)})


def play(lba: int, blocks: int) -> bytes:
    return struct.pack(">BxIxHx", 0x45, lba, blocks)


def position(world: DriveWorld) -> tuple[int, int]:
    """Audio status, and the block."""
    data = world.first.good("42 00 40 01 00 00 00 00 10 00", room=16)
    return data[1], int.from_bytes(data[8:12], "big")


def after(world: DriveWorld, seconds: float) -> None:
    world.context.call_at(world.context.now_ns() + int(seconds * SECOND), lambda: None)
    world.context.run_until_idle()


def test_playing(album: DriveWorld) -> None:
    assert position(album) == (NONE, 0)
    album.first.good(play(75, 150))
    after(album, 1)
    assert position(album) == (PLAYING, 150)
    assert album.first.good("bd" + " 00" * 8 + " 08 00 00", room=8)[1] == 0x20
    after(album, 0.5)
    assert position(album) == (PLAYING, 187)
    after(album, 1)
    assert position(album) == (COMPLETED, 225)
    # That is told once.
    assert position(album) == (NONE, 225)


def test_request_sense_says_how_it_goes(album: DriveWorld) -> None:
    def sense() -> tuple[int, int]:
        data = album.first.good("03 00 00 00 12 00", room=18)
        return data[2], data[12] << 8 | data[13]

    assert sense() == (0, 0)
    album.first.good(play(75, 150))
    assert sense() == (0, 0x0011)
    album.first.good(PAUSE)
    assert sense() == (0, 0x0012)
    album.first.good(RESUME)
    after(album, 3)
    assert sense() == (0, 0)
    # READ SUB-CHANNEL has yet to tell that it has ended.
    assert position(album) == (COMPLETED, 225)


def test_pausing(album: DriveWorld) -> None:
    album.first.good(play(0, 500))
    after(album, 1)
    album.first.good(PAUSE)
    after(album, 5)
    album.first.good(PAUSE)
    assert position(album) == (PAUSED, 75)
    album.first.good(RESUME)
    album.first.good(RESUME)
    after(album, 1)
    assert position(album) == (PLAYING, 150)
    album.first.good(STOP)
    assert position(album)[0] == NONE
    for cdb in (PAUSE, RESUME):
        answer = album.first.do(cdb)
        assert (answer.key, answer.code) == (5, 0x2C00)


def test_from_where_it_is(album: DriveWorld) -> None:
    album.first.good("2b 00 00 00 00 64 00 00 00 00")
    album.first.good(play(0xFFFF_FFFF, 75))
    after(album, 0.5)
    assert position(album) == (PLAYING, 137)
    # 00:03:25 to 00:04:00.
    album.first.good(bytes((0x47, 0, 0, 0, 3, 25, 0, 4, 0, 0)))
    assert position(album) == (PLAYING, 100)
    album.first.good(struct.pack(">BxIIxx", 0xA5, 10, 20))
    assert position(album) == (PLAYING, 10)
    album.first.good(play(300, 0))
    assert position(album) == (NONE, 300)


def test_playing_up_to_what_is_no_audio(album: DriveWorld) -> None:
    album.first.good(play(500, 80))
    after(album, 2)
    assert position(album) == (FAILED, 525)
    answer = album.first.do(play(525, 1))
    assert (answer.key, answer.code) == (5, 0x6400)
    assert album.first.do(play(599, 2)).code == 0x2100


@pytest.mark.parametrize(
    "cdb", ["2b" + " 00" * 9, "be 00 00 00 00 00 00 00 01 f8 00 00", "1b 00 00 00 00 00"]
)
def test_what_ends_playing(album: DriveWorld, cdb: str) -> None:
    album.first.good(play(0, 500))
    album.first.good(cdb, room=RAW)
    assert position(album)[0] == NONE


def test_ejecting_ends_playing(album: DriveWorld) -> None:
    album.first.good(play(0, 500))
    album.first.good("1b 00 00 00 02 00")
    album.first.good("1b 00 00 00 03 00")
    album.first.clear()
    assert position(album) == (NONE, 0)


def test_what_is_no_cd_does_not_play(insert: Callable[..., DriveWorld]) -> None:
    world = insert(data_disc(1_000_000))
    for cdb in (play(0, 1), bytes.fromhex("42004001000000001000")):
        answer = world.first.do(cdb, room=16)
        assert (answer.key, answer.code) == (5, 0x3002)
