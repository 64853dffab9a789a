"""CD drives are recorded: media that come and go, trays, what takes its time, and audio that plays meanwhile."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devmodels.disc.cuesheet import Contents, lay_out, parse
from devmodels.disc.text import from_text, to_text
from devmodels.trace import EventKind, TraceEvent
from guestsim.drivers import cdb
from tests.unit.recording.cdstory import CdStory
from tests.unit.recording.scsistory import does_it_again
from tests.unit.scsi.mmc.driveworld import BLOCK, MIXED_BLOCKS, RAW, SHEET, data_disc, mixed

EJECT, LOAD = cdb.start_stop_unit(start=0, loej=1).data, cdb.start_stop_unit(start=1, loej=1).data
READ = cdb.read_10(lba=3, blocks=2, block=BLOCK).data
EVENTS = bytes.fromhex("4a010000560000000800")
POSITION = bytes.fromhex("42004001000000001000")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cd.trace"


@contextmanager
def story(path: Path, medium: dict[str, object] | None = None, **options: object) -> Iterator[CdStory]:
    told = CdStory(
        path,
        units=({"driver": "scsi-cd", **{name.replace("_", "-"): value for name, value in options.items()}},),
        medium=medium,
    )
    try:
        told.probe()
        told.attend()
        yield told
    finally:
        told.close()


def of(events: list[TraceEvent], kind: EventKind) -> list[tuple[object, ...]]:
    return [event.detail for event in events if event.kind is kind]


@pytest.mark.parametrize("load_time", [0, 500])
def test_media_come_and_go(path: Path, load_time: int) -> None:
    with story(path, load_time=load_time) as guest:
        guest.good(READ, room=2 * BLOCK)
        guest.good(EJECT)
        assert guest.sense() == (2, 0x3A)
        guest.put(data_disc(700))
        guest.good(LOAD)
        if load_time:
            assert guest.sense() == (2, 0x04)
            guest.wait(1)
        assert guest.sense() == (6, 0x28)
        assert guest.good(cdb.read_capacity_10().data, room=8) == struct.pack(">II", 699, BLOCK)
        guest.cd.tray.user_opens()
        guest.put(None)
        guest.cd.tray.user_closes()
        guest.good(EVENTS, room=8)
        assert guest.sense() == (2, 0x3A)
    events = does_it_again(path)
    assert of(events, EventKind.TRAY) == [(1,), (0,)]
    assert of(events, EventKind.DISC) == [("",)]
    assert len(of(events, EventKind.TIMER)) == bool(load_time)


def test_a_tray_that_opens_before_its_medium_is_ready(path: Path) -> None:
    with story(path, load_time=500) as guest:
        for _ in range(3):
            guest.good(EJECT)
            guest.good(LOAD)
        guest.wait(1)
        assert guest.sense() == (6, 0x28)
    assert len(of(does_it_again(path), EventKind.TIMER)) == 1


def test_a_user_who_asks_first(path: Path) -> None:
    """And one who does not."""
    with story(path) as guest:
        guest.good(cdb.prevent_allow(prevent=3).data)
        guest.cd.tray.request_eject(force=False)
        guest.cd.tray.request_eject(force=True)
        assert guest.good(EVENTS, room=8)
        guest.cd.tray.user_opens()
    assert of(does_it_again(path), EventKind.TRAY) == [(2,), (3,), (1,)]


def test_a_drive_without_a_medium(path: Path, tmp_path: Path) -> None:
    with story(path, drive=None) as guest:
        assert guest.sense() == (2, 0x3A)
        guest.cd.tray.user_opens()
        guest.put({"driver": "cue", "filename": str(mixed(tmp_path))})
        guest.cd.tray.user_closes()
        assert guest.sense() == (6, 0x28)
        guest.good(bytes.fromhex("43000000000000020000"), room=512)
        guest.good(bytes.fromhex("be000000000000000510") + bytes(2), room=5 * RAW)
        guest.good(bytes.fromhex("be0000000014000005f8") + bytes(2), room=5 * RAW)
    (detail,) = of(does_it_again(path), EventKind.DISC)
    (tmp_path / "mixed.bin").unlink()
    does_it_again(path)
    assert len(json.loads(str(detail[0]))["tracks"]) == 4


def test_audio_plays_as_the_trace_has_the_time(path: Path, tmp_path: Path) -> None:
    (tmp_path / "album.bin").write_bytes(bytes(8 * 75 * RAW))
    sheet = tmp_path / "album.cue"
    sheet.write_text('FILE "album.bin" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00\n')
    with story(path, {"driver": "cue", "filename": str(sheet)}) as guest:
        guest.good(struct.pack(">BxIxHx", 0x45, 75, 150))
        guest.wait(1)
        assert guest.good(POSITION, room=16)[1] == 0x11
        guest.good(bytes.fromhex("4b000000000000000000"))
        guest.wait(1)
        guest.good(bytes.fromhex("4b000000000000000100"))
        guest.wait(0.5)
        assert int.from_bytes(guest.good(POSITION, room=16)[8:12], "big") == 75 + 75 + 37
        guest.wait(2)
        assert guest.good(POSITION, room=16)[1] == 0x13
    assert of(does_it_again(path), EventKind.CLOCK)


def test_a_drive_that_goes_to_sleep(path: Path) -> None:
    page = bytes.fromhex("1a0a0003 0000000a 00000014")
    with story(path) as guest:
        mode = bytes(8) + page
        guest.good(cdb.mode_select_10(length=len(mode)).data, mode)
        for seconds in (0.5, 1, 2):
            guest.wait(seconds)
            guest.good(bytes.fromhex("4a010000040000000800"), room=8)
        guest.good(READ, room=2 * BLOCK)
        guest.good(bytes.fromhex("4a010000040000000800"), room=8)
    does_it_again(path)


def test_drives_are_plugged_and_unplugged(path: Path) -> None:
    with story(path) as guest:
        drive: dict[str, object] = {"driver": "scsi-cd", "id": "u1", "scsi-id": 0, "lun": 1}
        guest.machine.plug(drive)
        guest.guest.run(guest.guest.settle())
        assert guest.do(bytes(6), lun=1).sense is not None
        guest.machine.unplug("u1")
        guest.guest.run(guest.guest.settle())
    does_it_again(path)


def test_the_text_of_a_disc_makes_the_disc() -> None:
    disc = lay_out(parse(SHEET), [Contents(MIXED_BLOCKS * RAW, 0)])
    again = from_text(to_text(disc))
    assert (again.tracks, again.extents, again.catalog) == (disc.tracks, disc.extents, disc.catalog)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"tracks":[],"extents":[]}',
        '{"tracks":[],"extents":[[0,1,0,0,2048,false]]}',
        '{"tracks":[{"number":1,"mode":"VINYL","first":0,"start":0,"end":1,"indexes":[],"control":0}],"extents":[]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_disc(text: str) -> None:
    with pytest.raises(ValueError, match="not a disc"):
        from_text(text)
