"""What a drive says of a disc, and of itself: tracks, sub-channel, configuration, structures, speeds, mode pages."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from devmodels.scsi import Status
from devmodels.scsi.mmc.features import FEATURES
from devmodels.scsi.mmc.medium import BD_LAYER
from devmodels.scsi.mmc.options import Interface
from tests.unit.scsi.mmc.driveworld import BLOCKS, DriveWorld, data_disc

GOOD = Status.GOOD
CD, DVD, DUAL_DVD, BD = 300_000, 2_000_000, 3_000_000, 20_000_000
"""Blocks of media that are told apart by their size."""


def toc(form: int, *, msf: int = 0, number: int = 0, control: int = 0) -> bytes:
    return bytes((0x43, msf << 1, form, 0, 0, 0, number, 0x03, 0xFF, control))


def test_the_tracks_of_a_cd(cd: DriveWorld) -> None:
    data = cd.first.good(toc(0), room=1023)
    assert data.hex(" ", 4) == "00120101 00140100 00000000 0014aa00 0000012c"
    assert (
        cd.first.good(toc(0, msf=1), room=1023).hex(" ", 4) == "00120101 00140100 00000200 0014aa00 00000600"
    )


def test_the_tracks_of_a_mixed_disc(mixed: DriveWorld) -> None:
    data = mixed.first.good(toc(0), room=1023)
    assert data[:4] == bytes((0, 42, 1, 4))
    entries = [struct.unpack(">xBBxI", data[at : at + 8]) for at in range(4, len(data), 8)]
    assert entries == [(0x14, 1, 0), (0x14, 2, 20), (0x10, 3, 50), (0x10, 4, 85), (0x10, 0xAA, 110)]
    assert len(mixed.first.good(toc(0, number=3), room=1023)) == 4 + 3 * 8
    assert len(mixed.first.good(toc(0, number=0xAA), room=1023)) == 4 + 8
    answer = mixed.first.do(toc(0, number=5), room=1023)
    assert (answer.key, answer.code, answer.field) == (5, 0x2400, (6, None))


def test_titles(insert: Callable[..., DriveWorld], tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(2352))
    (tmp_path / "a.cue").write_text(
        'TITLE "An album"\nFILE a.bin BINARY\nTRACK 01 AUDIO\nTITLE "one"\nINDEX 01 00:00:00'
    )
    world = insert({"driver": "cue", "filename": str(tmp_path / "a.cue")})
    data = world.first.good(toc(5), room=1023)
    assert data[:8] == bytes((0, 2 + 5 * 18, 0, 0, 0x80, 0, 0, 0))
    assert data[8:20] == b"An album\0one"
    assert data[4 + 18 : 4 + 22] == bytes((0x80, 1, 1, 3))
    # As much as there is room for.
    assert world.first.good("43 00 05 00 00 00 00 00 04 00", room=99) == data[:4]


def test_sessions_and_the_lead_in(mixed: DriveWorld) -> None:
    assert mixed.first.good(toc(1), room=99).hex() == "000a0101" + "00140100" + "00000000"
    data = mixed.first.good(toc(2), room=1023)
    assert data[:4] == bytes((0, 2 + 7 * 11, 1, 1))
    points = [data[at : at + 11] for at in range(4, len(data), 11)]
    assert [(p[3], p[8:].hex()) for p in points] == [
        (0xA0, "012000"),
        (0xA1, "040000"),
        (0xA2, "000323"),
        (1, "000200"),
        (2, "000214"),
        (3, "000232"),
        (4, "00030a"),
    ]
    # Drives before MMC had the format elsewhere.
    assert mixed.first.good(toc(0, control=0x80), room=1023) == data
    assert mixed.first.do(toc(2, number=2), room=99).field == (6, None)
    for form in (3, 4, 5, 15):
        assert mixed.first.do(toc(form), room=99).field == (2, 3)


def test_what_is_no_cd_has_one_track(insert: Callable[..., DriveWorld]) -> None:
    world = insert(data_disc(BD))
    assert len(world.first.good(toc(0, msf=1), room=99)) == 20
    assert world.first.good(toc(0, msf=1), room=99)[-4:] == bytes((0, 0xFF, 59, 74))
    assert world.first.good(toc(1), room=99)[2:4] == bytes((1, 1))
    assert world.first.do(toc(2), room=99).field == (2, 3)


def sub_channel(form: int, *, msf: int = 0, track: int = 0, subq: int = 1) -> bytes:
    return bytes((0x42, msf << 1, subq << 6, form, 0, 0, track, 0, 0xFF, 0))


def test_sub_channel(mixed: DriveWorld) -> None:
    mixed.first.good(struct.pack(">BxI4x", 0x2B, 45))
    assert mixed.first.good(sub_channel(1), room=99).hex(" ", 4) == "0015000c 01100300 0000002d fffffffb"
    mixed.first.good(struct.pack(">BxI4x", 0x2B, 63))
    assert (
        mixed.first.good(sub_channel(1, msf=1), room=99).hex(" ", 4) == "0015000c 01100302 0000023f 0000000d"
    )
    assert mixed.first.good(sub_channel(0, subq=0), room=99).hex() == "00150000"
    data = mixed.first.good(sub_channel(2), room=99)
    assert (data[4], data[8], data[9:22]) == (2, 0x80, b"1234567890123")
    data = mixed.first.good(sub_channel(3, track=3), room=99)
    assert (data[4], data[6], data[8], data[9:21]) == (3, 3, 0x80, b"ABCDE1234567")
    assert mixed.first.good(sub_channel(3, track=1), room=99)[8] == 0
    assert mixed.first.do(sub_channel(3, track=9), room=99).field == (6, None)
    assert mixed.first.do(sub_channel(0), room=99).field == (3, None)


def test_disc_information(mixed: DriveWorld, cd: DriveWorld) -> None:
    data = mixed.first.good("51 00 00 00 00 00 00 00 ff 00", room=255)
    assert data[:12].hex(" ") == "00 20 0e 01 01 01 04 20 20 00 00 00"
    assert len(data) == 34
    assert cd.first.good("51 00 00 00 00 00 00 00 ff 00", room=255)[8] == 0
    assert cd.first.do("51 01 00 00 00 00 00 00 ff 00", room=255).field == (1, 2)


def track_information(kind: int, address: int) -> bytes:
    return struct.pack(">BBIxHx", 0x52, kind, address, 255)


def test_track_information(mixed: DriveWorld) -> None:
    for kind, address, number, mode, start, size in (
        (1, 1, 1, 0x41, 0, 20),
        (0, 30, 2, 0x42, 20, 20),
        (0, 42, 3, 0x0F, 50, 25),
        (1, 4, 4, 0x0F, 85, 25),
        (2, 1, 1, 0x41, 0, 20),
    ):
        data = mixed.first.good(track_information(kind, address), room=255)
        assert (data[2], data[3]) == (number, 1)
        assert (data[5] << 4 | data[6]) == mode
        assert struct.unpack_from(">I12xI", data, 8) == (start, size)
        assert len(data) == struct.unpack_from(">H", data)[0] + 2 == 48
    for kind, address in ((1, 0), (1, 5), (1, 0xFF), (2, 2)):
        assert mixed.first.do(track_information(kind, address), room=255).field == (2, None)
    assert mixed.first.do(track_information(0, 110), room=255).code == 0x2100
    assert mixed.first.do(track_information(3, 1), room=255).field == (1, 1)
    assert mixed.first.do(track_information(5, 1), room=255).field == (1, 2)


# --- profiles and features


def configuration(rt: int = 0, start: int = 0) -> bytes:
    return struct.pack(">BBH3xHx", 0x46, rt, start, 1024)


def features(world: DriveWorld, rt: int = 0, start: int = 0) -> tuple[int, dict[int, bytes]]:
    """The current profile, and the features by code with their flags and data."""
    data = world.first.good(configuration(rt, start), room=1024)
    length, profile = struct.unpack(">IxxH", data[:8])
    assert length == len(data) - 4
    found = {}
    at = 8
    while at < len(data):
        (code,) = struct.unpack_from(">H", data, at)
        end = at + 4 + data[at + 3]
        found[code] = data[at + 2 : at + 3] + data[at + 4 : end]
        at = end
    assert at == len(data)
    return profile, found


@pytest.mark.parametrize(
    ("blocks", "options", "profile", "current"),
    [
        (CD, {}, 0x08, {0x10, 0x1D, 0x1E, 0x103, 0x107}),
        (DVD, {}, 0x10, {0x10, 0x1F, 0x107}),
        (DUAL_DVD, {}, 0x10, {0x10, 0x1F, 0x107}),
        (BD, {}, 0x40, {0x10, 0x40, 0x107}),
        (CD, {"profile": "dvd"}, 0x10, {0x10, 0x1F, 0x107}),
        (CD, {"profile": "bd"}, 0x40, {0x10, 0x40, 0x107}),
        (400_000, {"profile": "cd"}, 0x08, {0x10, 0x1D, 0x1E, 0x103, 0x107}),
        # No CD is as long as that, whatever is said of it.
        (500_000, {"profile": "cd"}, 0x10, {0x10, 0x1F, 0x107}),
        (None, {}, 0, set()),
    ],
)
def test_what_a_medium_is(
    insert: Callable[..., DriveWorld],
    blocks: int | None,
    options: dict[str, str],
    profile: int,
    current: set[int],
) -> None:
    world = insert(None if blocks is None else data_disc(blocks), **options)
    found, every = features(world)
    assert found == profile
    assert list(every) == [feature.code for feature in FEATURES] == sorted(every)
    persistent = {code for code, data in every.items() if data[0] & 2}
    assert persistent == {0x00, 0x01, 0x02, 0x03, 0x100, 0x105, 0x108}
    assert {code for code, data in every.items() if data[0] & 1} == persistent | current
    assert set(features(world, rt=1)[1]) == persistent | current
    profiles = every[0][1:]
    listed = {struct.unpack_from(">HB", profiles, at) for at in range(0, len(profiles), 4)}
    assert {number for number, _ in listed} == {0x08, 0x10, 0x40}
    assert {number for number, is_current in listed if is_current} == ({profile} if profile else set())


def test_asking_for_some_features(cd: DriveWorld) -> None:
    assert set(features(cd, start=0x1F)[1]) == {0x1F, 0x40, 0x100, 0x103, 0x105, 0x107, 0x108}
    assert set(features(cd, rt=2, start=0x10)[1]) == {0x10}
    assert features(cd, rt=2, start=0x20) == (8, {})
    assert features(cd, start=0xFFFF) == (8, {})
    assert cd.first.do(configuration(3), room=99).field == (1, 1)
    answer = cd.first.do("46 00 00 00 00 00 00 00 08 00", room=99)
    assert answer.task.sent == 8


def test_what_features_say(insert: Callable[..., DriveWorld]) -> None:
    world = insert(data_disc(CD), serial="SERIAL12345")
    _, found = features(world)
    assert found[0x01][1:].hex() == "0000000102000000"
    assert found[0x03][1] == 0x39
    assert found[0x10][1:].hex() == "0000080000010100"
    assert found[0x108][1:] == b"SERIAL12345 "


# --- DVD and BD structures


def structure(form: int, *, media: int = 0, layer: int = 0) -> bytes:
    return struct.pack(">BBIBBHxx", 0xAD, media, 0, layer, form, 0xFFFF)


def test_the_physical_format_of_a_dvd(insert: Callable[..., DriveWorld]) -> None:
    data = insert(data_disc(DVD)).first.good(structure(0), room=5000)
    assert len(data) == 2052 == struct.unpack(">H", data[:2])[0] + 2
    assert data[4:8].hex() == "010f0100"
    assert struct.unpack(">III", data[8:20]) == (0x30000, 0x30000 + DVD - 1, 0)


def test_a_dvd_of_two_layers(insert: Callable[..., DriveWorld]) -> None:
    world = insert(data_disc(DUAL_DVD))
    data = world.first.good(structure(0, layer=1), room=5000)
    assert data[6] == 0x31
    first, last, middle = struct.unpack(">III", data[8:20])
    in_first = middle - first + 1
    # The second layer's addresses are the complement of the first one's, and go on upwards.
    in_second = last - (middle ^ 0xFFFFFF) + 1
    assert in_first + in_second == DUAL_DVD
    assert world.first.do(structure(0, layer=2), room=99).field == (6, None)


def test_other_structures(insert: Callable[..., DriveWorld]) -> None:
    world = insert(data_disc(DVD))
    assert world.first.good(structure(1), room=99).hex() == "0006000000000000"
    assert len(world.first.good(structure(4), room=5000)) == 2052
    assert world.first.good(structure(0xFF), room=99).hex(" ", 4) == "000e0000 00400804 01400008 04400804"
    assert world.first.do(structure(0, layer=1), room=99).field == (6, None)
    for form in (2, 3, 0x10, 0xC0):
        assert world.first.do(structure(form), room=99).field == (7, None)
    assert world.first.do(structure(0, media=2), room=99).field == (1, 3)
    answer = world.first.do(structure(0, media=1), room=99)
    assert (answer.key, answer.code) == (5, 0x3002)


def test_the_disc_information_of_a_bd(insert: Callable[..., DriveWorld]) -> None:
    """As a disc with one layer has it."""
    world = insert(data_disc(0x3F9480), profile="bd")
    data = world.first.good(structure(0, media=1), room=5000)
    assert len(data) == 4100
    assert data[:36].hex() == (
        "10020000 44490108 00002000 42444f01 11010100 00000000 004f947f 00100000 004f947e"
    ).replace(" ", "")
    assert not any(data[36:])
    assert world.first.good(structure(0xFF, media=1), room=99).hex() == "00060000" + "00401004"


def test_a_bd_of_two_layers(insert: Callable[..., DriveWorld]) -> None:
    """The second one ends where its disc does, though not all of it is used."""
    world = insert(data_disc(BD_LAYER + 1000))
    data = world.first.good(structure(0, media=1), room=5000)
    assert (data[7], data[9], data[16:19].hex()) == (0x10, 0, "210103")
    assert struct.unpack_from(">III", data, 24) == (0x1358C00 + 999, 0x100000, 0xCA73FE)
    assert (data[68:70], data[71], data[73]) == (b"DI", 0x11, 1)
    assert struct.unpack_from(">III", data, 88) == (0x1358C00 + 999, 0x1358C00, 0x1EFFFFE)
    assert world.first.good(structure(0, media=1, layer=1), room=5000) == data
    assert world.first.do(structure(0, media=1, layer=2), room=99).field == (6, None)


def test_a_bd_as_large_as_can_be(insert: Callable[..., DriveWorld]) -> None:
    world = insert(data_disc(0xFFFF_FFFF))
    data = world.first.good(structure(0, media=1), room=5000)
    assert [data[at : at + 2] for at in range(4, 324, 64)] == [b"DI"] * 4 + [b"\0\0"]


def test_a_cd_has_no_structures(cd: DriveWorld) -> None:
    answer = cd.first.do(structure(0), room=99)
    assert (answer.key, answer.code) == (5, 0x3002)


# --- how fast


def speeds(world: DriveWorld) -> tuple[int, int]:
    """The greatest and the current one, of the capabilities page."""
    data = world.first.good("5a 08 2a 00 00 00 00 00 28 00", room=40)
    return struct.unpack(">H4xH", data[8 + 8 : 8 + 16])


def test_cd_speed(cd: DriveWorld) -> None:
    assert speeds(cd) == (7040, 7040)
    for asked, is_set in ((1408, 1408), (0, 176), (60_000, 7040), (704, 704), (0xFFFF, 7040)):
        cd.first.good(struct.pack(">BxHH6x", 0xBB, asked, 0xFFFF))
        assert speeds(cd) == (7040, is_set)
    assert cd.first.do("bb 02 ff ff ff ff 00 00 00 00 00 00").field == (1, 1)
    cd.first.good(struct.pack(">BxHH6x", 0xBB, 704, 0))
    cd.change(data_disc(DVD))
    cd.first.clear()
    assert speeds(cd) == (22160, 22160)


def streaming(*, flags: int = 0, end: int = 299, size: int = 1000, time: int = 1000) -> bytes:
    return struct.pack(">B3xIIIIII", flags, 0, end, size, time, 0, 1000)


def test_streaming(cd: DriveWorld) -> None:
    cdb = "b6 00 00 00 00 00 00 00 00 00 1c 00"
    cd.first.good(cdb, out=streaming(size=1500, time=500))
    assert speeds(cd)[1] == 3000
    cd.first.good(cdb, out=streaming(flags=4))
    assert speeds(cd)[1] == 7040
    answer = cd.first.do(cdb, out=streaming(time=0))
    assert (answer.code, answer.field) == (0x2600, (16, None))
    answer = cd.first.do(cdb, out=struct.pack(">B3xIIIIII", 0, 10, 9, 1000, 1000, 0, 1000))
    assert (answer.code, answer.field) == (0x2600, (8, None))
    answer = cd.first.do("b6 00 00 00 00 00 00 00 00 00 08 00", out=bytes(8))
    assert (answer.key, answer.code) == (5, 0x1A00)
    assert cd.first.do(cdb, out=bytes(8)).code == 0x1A00
    assert cd.first.do("b6 00 00 00 00 00 00 00 05 00 1c 00", out=streaming()).field == (8, None)


def performance(kind: int = 0, *, data: int = 0x10, lba: int = 0, descriptors: int = 1) -> bytes:
    return struct.pack(">BBIxxHBx", 0xAC, data, lba, descriptors, kind)


def test_performance(cd: DriveWorld) -> None:
    data = cd.first.good(performance(), room=99)
    assert struct.unpack(">I4x4I", data) == (20, 0, 7040, BLOCKS - 1, 7040)
    assert cd.first.good(performance(descriptors=0), room=99).hex() == "0000001400000000"
    assert cd.first.good(performance(data=0x11), room=99).hex() == "0000000401000000"
    assert cd.first.good(performance(3, data=0), room=99).hex() == "0000000400000000"
    assert cd.first.do(performance(1), room=99).field == (10, None)
    assert cd.first.do(performance(data=0x14), room=99).field == (1, 2)
    assert cd.first.do(performance(lba=BLOCKS), room=99).code == 0x2100


def test_reading_ahead(cd: DriveWorld) -> None:
    cd.first.good(struct.pack(">BxIIxx", 0xA7, 10, BLOCKS - 1))
    for trigger, lba in ((10, BLOCKS), (BLOCKS, 10)):
        assert cd.first.do(struct.pack(">BxIIxx", 0xA7, trigger, lba)).code == 0x2100


def test_there_is_nothing_to_synchronize(cd: DriveWorld) -> None:
    cd.first.good("35 00 00 00 00 00 00 00 00 00")
    cd.first.good("35 02 00 00 ff ff 00 00 01 00")


@pytest.mark.parametrize(("interface", "queueing"), [(Interface.SCSI, 2), (Interface.ATAPI, 0)])
def test_only_a_scsi_drive_queues_commands(cd: DriveWorld, interface: Interface, queueing: int) -> None:
    cd.drive.interface = interface
    data = cd.first.good("12 00 00 00 60 00", room=96)
    assert (data[0], data[1], data[7] & 2) == (0x05, 0x80, queueing)


# --- mode pages


def test_mode_pages(cd: DriveWorld) -> None:
    data = cd.first.good("5a 00 3f 00 00 00 00 01 00 00", room=256)
    assert struct.unpack(">HBBxxH", data[:8]) == (len(data) - 2, 0, 0, 0)
    pages = {}
    at = 8
    while at < len(data):
        pages[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    assert pages[0x0D] == bytes((0, 0, 0, 60, 0, 75))
    assert list(pages) == [0x01, 0x0D, 0x0E, 0x1A, 0x1D, 0x2A]
    assert len(pages[0x2A]) == 30
    assert cd.first.good("1a 00 01 00 ff 00", room=255).hex() == "0f000000" + "010ac005" + "00" * 8
    assert cd.first.do("5a 00 0c 00 00 00 00 01 00 00", room=99).field == (2, 5)
    answer = cd.first.do("5a 00 c1 00 00 00 00 01 00 00", room=99)
    assert (answer.key, answer.code) == (5, 0x3900)


def test_setting_mode_pages(cd: DriveWorld) -> None:
    volumes = bytes.fromhex("0e0e 06 0000000000 01 80 02 80 00 00 00 00")
    cd.first.good("55 10 00 00 00 00 00 00 18 00", out=bytes(8) + volumes)
    assert cd.first.good("5a 00 0e 00 00 00 00 00 18 00", room=24)[8:] == volumes
    assert cd.second.do("00 00 00 00 00 00").code == 0x2A01
    assert cd.first.good("5a 00 8e 00 00 00 00 00 18 00", room=24)[8 + 9] == 0xFF
    # IMMED cannot be changed, nor can any speed.
    answer = cd.first.do("55 10 00 00 00 00 00 00 18 00", out=bytes(8) + volumes[:2] + bytes(14))
    assert (answer.code, answer.field) == (0x2600, (10, 2))
    capabilities = bytearray(cd.first.good("5a 00 2a 00 00 00 00 00 28 00", room=40)[8:])
    cd.first.good("55 10 00 00 00 00 00 00 28 00", out=bytes(8) + capabilities)
    capabilities[15] ^= 1
    assert cd.first.do("55 10 00 00 00 00 00 00 28 00", out=bytes(8) + capabilities).code == 0x2600


@pytest.mark.parametrize(
    ("descriptor", "field"),
    [("0000000000000800", None), ("0000000000000000", None), ("0000000000000200", (9, None))],
)
def test_block_descriptors(cd: DriveWorld, descriptor: str, field: tuple[int, None] | None) -> None:
    out = bytes.fromhex("00000008" + descriptor)
    answer = cd.first.do("15 10 00 00 0c 00", out=out)
    assert answer.field == field
    assert (answer.status is GOOD) == (field is None)


def test_what_a_drive_is(insert: Callable[..., DriveWorld]) -> None:
    world = insert(data_disc(CD), vendor="ACME", product="SPINNER", ver="2.5", serial="S9", wwn=0x5000_1234)
    data = world.first.good("12 00 00 00 60 00", room=96)
    assert (data[0], data[1], data[2]) == (5, 0x80, 6)
    assert data[8:36] == b"ACME    SPINNER         2.5 "
    assert data[58:64].hex() == "00a0046004e0"
    assert world.first.good("12 01 00 00 60 00", room=96).hex() == "05000003" + "008083"
    assert world.first.good("12 01 80 00 60 00", room=96) == bytes((5, 0x80, 0, 2)) + b"S9"
    assert world.first.good("12 01 83 00 60 00", room=96)[8:16] == (0x5000_1234).to_bytes(8, "big")
    assert world.first.do("12 01 b0 00 60 00", room=96).field == (2, None)
    assert world.first.good("a0 00 00 00 00 00 00 00 00 10 00 00", room=16)[:4] == bytes((0, 0, 0, 8))


def test_request_sense(cd: DriveWorld) -> None:
    cd.change(None)
    cd.change(data_disc(CD))
    data = cd.first.good("03 00 00 00 12 00", room=18)
    assert (data[2], data[12], data[13]) == (6, 0x28, 0)
    data = cd.first.good("03 00 00 00 12 00", room=18)
    assert (data[2], data[12], data[13]) == (0, 0, 0)


@pytest.mark.parametrize("opcode", [0x0A, 0x2A, 0xAA, 0x04, 0xA1, 0xA3, 0xA4, 0x9E, 0xFF])
def test_what_is_no_command_of_a_drive(cd: DriveWorld, opcode: int) -> None:
    answer = cd.first.do(bytes((opcode, *bytes(15))))
    assert (answer.key, answer.code) == (5, 0x2000)
