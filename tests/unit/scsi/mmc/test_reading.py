"""READ (10), READ (12), READ CD, READ CD MSF, SEEK: which bytes of a disc come."""

from __future__ import annotations

import errno
import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pycdlib
import pytest

from devmodels.blockbackend import Op
from devmodels.blockbackend.request import Read
from devmodels.disc.sector import mode1, sync_and_header
from devmodels.disc.subchannel import formatted_q, raw_sub_channel
from devmodels.iocontext import IoContext
from devmodels.scsi import Function, Outcome, Status
from tests.unit.blockbackend.support import WatchedNode
from tests.unit.scsi.mmc.driveworld import BLOCK, BLOCKS, RAW, DriveWorld, content, data_disc, mode2, stored

GOOD = Status.GOOD
WRONG_MODE, OUT_OF_RANGE, INCOMPATIBLE = (5, 0x6400), (5, 0x2100), (5, 0x3002)


def read_10(lba: int, blocks: int) -> bytes:
    return struct.pack(">BxIxHx", 0x28, lba, blocks)


def read_12(lba: int, blocks: int) -> bytes:
    return struct.pack(">BxIIxx", 0xA8, lba, blocks)


def read_cd(lba: int, blocks: int, main: int = 0xF8, *, kind: int = 0, sub: int = 0) -> bytes:
    return struct.pack(">BBI3sBBx", 0xBE, kind << 2, lba, blocks.to_bytes(3, "big"), main, sub)


def read_cd_msf(start: tuple[int, ...], end: tuple[int, ...], main: int = 0xF8) -> bytes:
    return bytes((0xB9, 0, 0, *start, *end, main, 0, 0))


def test_blocks_of_an_image(cd: DriveWorld) -> None:
    assert cd.first.good("25" + " 00" * 9, room=8) == struct.pack(">II", BLOCKS - 1, BLOCK)
    assert cd.first.good(read_10(7, 3), room=3 * BLOCK) == b"".join(map(content, (7, 8, 9)))
    assert cd.first.good(read_12(BLOCKS - 1, 1), room=BLOCK) == content(BLOCKS - 1)
    assert cd.first.do(read_10(0, 0)).status is GOOD


def test_blocks_of_a_disc_that_has_audio_too(insert: Callable[..., DriveWorld], tmp_path: Path) -> None:
    """They lie in the image as they are read."""
    (tmp_path / "a.iso").write_bytes(b"".join(map(content, range(150))))
    (tmp_path / "b.bin").write_bytes(b"\x33" * RAW * 200)
    sheet = (
        'FILE "a.iso" BINARY\nTRACK 01 MODE1/2048\nINDEX 01 00:00:00\n'
        'FILE "b.bin" BINARY\nTRACK 02 AUDIO\nINDEX 00 00:00:00\nINDEX 01 00:01:00\n'
    )
    (tmp_path / "a.cue").write_text(sheet)
    world = insert({"driver": "cue", "filename": str(tmp_path / "a.cue")})
    host = world.first
    assert host.good(read_10(147, 3), room=3 * BLOCK) == b"".join(map(content, (147, 148, 149)))
    whole = host.good(read_cd(149, 1), room=RAW)
    assert whole == mode1(149, content(149))
    assert host.good(read_cd(225, 1), room=RAW) == b"\x33" * RAW
    # What is before the audio comes, and which block does not is told.
    answer = host.do(read_10(148, 20), room=20 * BLOCK)
    assert ((answer.key, answer.code), answer.information) == (WRONG_MODE, 150)
    assert answer.data == content(148) + content(149)
    answer = host.do(read_10(160, 2), room=2 * BLOCK)
    assert ((answer.key, answer.code), answer.information, answer.data) == (WRONG_MODE, 160, b"")


def test_a_file_of_an_iso_image_is_where_its_directory_says(
    insert: Callable[..., DriveWorld], tmp_path: Path
) -> None:
    text = b"a file on a CD\n" * 300
    image = pycdlib.PyCdlib()
    image.new()
    image.add_fp(io.BytesIO(text), len(text), "/A.TXT;1")
    image.write(str(tmp_path / "a.iso"))
    image.close()
    world = insert({"driver": "file", "filename": str(tmp_path / "a.iso")})
    descriptor = world.first.good(read_10(16, 1), room=BLOCK)
    assert descriptor[1:6] == b"CD001"
    (root,) = struct.unpack_from("<I", descriptor, 158)
    directory = world.first.good(read_10(root, 1), room=BLOCK)
    at = directory.index(b"A.TXT;1") - 33
    where, _, size = struct.unpack_from("<III", directory, at + 2)
    assert size == len(text)
    blocks = -(-size // BLOCK)
    assert world.first.good(read_10(where, blocks), room=blocks * BLOCK)[:size] == text


def test_blocks_that_are_not_there(cd: DriveWorld) -> None:
    answer = cd.first.do(read_10(BLOCKS - 1, 2), room=2 * BLOCK)
    assert ((answer.key, answer.code), answer.information) == (OUT_OF_RANGE, BLOCKS)
    for cdb, lba in (
        (read_10(BLOCKS + 3, 1), BLOCKS + 3),
        (read_12(0xFFFF_FFFF, 2), 0xFFFF_FFFF),
        (read_cd(BLOCKS, 1), BLOCKS),
        (struct.pack(">BxI4x", 0x2B, BLOCKS + 1), BLOCKS + 1),
    ):
        answer = cd.first.do(cdb, room=BLOCK)
        assert ((answer.key, answer.code), answer.information) == (OUT_OF_RANGE, lba)
    # What is before the disc's first block is not read, either.
    assert cd.first.do(read_cd(0xFFFF_FF6A, 1), room=RAW).code == 0x2100
    assert cd.first.do(struct.pack(">BxI4x", 0x2B, BLOCKS - 1)).status is GOOD
    assert {each.clause for each in cd.violations.recent} == {"MMC-6 §4.1.9"}


def test_more_than_one_command_moves(insert: Callable[..., DriveWorld]) -> None:
    world = insert(data_disc(70_000))
    answer = world.first.do(read_12(0, 0x1_0000))
    assert (answer.code, answer.field) == (0x2400, (6, None))
    assert world.first.do(read_cd(0, 0x1_0000)).code == 0x2400
    assert world.first.do(read_10(0, 0xFFFF)).task.wanted == 0xFFFF * BLOCK


def test_a_read_with_less_room_than_it_asks_for(cd: DriveWorld, mixed: DriveWorld) -> None:
    for world, cdb, size in (
        (cd, read_10(0, 4), BLOCK),
        (mixed, read_10(0, 4), BLOCK),
        (mixed, read_cd(0, 4), RAW),
        (mixed, read_cd(0, 4, 0x78), RAW - 12),
    ):
        answer = world.first.do(cdb, room=3000, pieces=7)
        assert (answer.status, answer.task.sent, answer.task.wanted) == (GOOD, 3000, 4 * size)


def test_user_data_out_of_whole_sectors(mixed: DriveWorld) -> None:
    assert mixed.first.good(read_10(3, 2), room=2 * BLOCK) == content(3) + content(4)
    assert mixed.first.good(read_10(21, 1), room=BLOCK) == mode2(21)[24:2072]
    answer = mixed.first.do(read_10(15, 6), room=6 * BLOCK, pieces=5)
    assert (answer.status, answer.data[:BLOCK]) == (Status.CHECK_CONDITION, content(15))
    assert answer.task.sent == 5 * BLOCK


def test_a_long_read_out_of_whole_sectors(insert: Callable[..., DriveWorld], tmp_path: Path) -> None:
    (tmp_path / "long.bin").write_bytes(b"".join(mode1(0, content(lba)) for lba in range(150)))
    sheet = tmp_path / "long.cue"
    sheet.write_text('FILE "long.bin" BINARY\nTRACK 01 MODE1/2352\nINDEX 01 00:00:00\n')
    world = insert({"driver": "cue", "filename": str(sheet)})
    expected = b"".join(map(content, range(150)))
    assert world.first.good(read_10(0, 150), room=150 * BLOCK) == expected


def test_a_long_read_gives_others_their_turns(cd: DriveWorld, mixed: DriveWorld) -> None:
    """Sectors that have to be made take a while: a few of them, then whoever else waits."""
    for world, cdb, size in ((cd, read_cd(0, 90), RAW), (mixed, read_10(0, 20), BLOCK)):
        answer = world.first.send(cdb, room=90 * size)
        assert not answer.count
        turns = 0
        while not answer.count:
            assert world.context.turn()
            turns += 1
        assert turns == (answer.task.wanted // size - 1) // 16
        assert answer.status is GOOD
        assert len(answer.data) == answer.task.wanted


def test_the_medium_goes_while_sectors_are_made(cd: DriveWorld) -> None:
    answer = cd.first.send(read_cd(0, 100), room=100 * RAW)
    cd.second.good("1b 00 00 00 02 00")
    cd.context.run_until_idle()
    assert (answer.key, answer.code) == (2, 0x3A02)


@pytest.mark.parametrize("lba", [22, 23, 45, 75])
def test_blocks_that_hold_no_2048_bytes_of_data(mixed: DriveWorld, lba: int) -> None:
    answer = mixed.first.do(read_10(lba, 1), room=BLOCK)
    assert (answer.key, answer.code) == WRONG_MODE


# --- READ CD

SPANS: dict[int, dict[str, tuple[int, int] | None]] = {
    # Main channel selection: bytes of a sector of each kind, None: not together.
    0x10: {
        "cdda": (0, 2352),
        "mode1": (16, 2064),
        "form1": (24, 2072),
        "form2": (24, 2352),
        "formless": (16, 2352),
    },
    0x18: {
        "cdda": (0, 2352),
        "mode1": (16, 2352),
        "form1": (24, 2352),
        "form2": (24, 2352),
        "formless": (16, 2352),
    },
    0x20: {"cdda": (0, 2352), "mode1": (12, 16), "form1": (12, 16), "form2": (12, 16), "formless": (12, 16)},
    0x30: {"cdda": (0, 2352), "mode1": (12, 2064), "form1": None, "form2": None, "formless": (12, 2352)},
    0x40: {"mode1": (0, 0), "form1": (16, 24), "form2": (16, 24), "formless": (0, 0)},
    0x50: {"mode1": (16, 2064), "form1": (16, 2072), "form2": (16, 2352), "formless": (16, 2352)},
    0x58: {"mode1": (16, 2352), "form1": (16, 2352), "form2": (16, 2352), "formless": (16, 2352)},
    0x60: {"mode1": (12, 16), "form1": (12, 24), "form2": (12, 24), "formless": (12, 16)},
    0x70: {"mode1": (12, 2064), "form1": (12, 2072), "form2": (12, 2352), "formless": (12, 2352)},
    0x78: {"mode1": (12, 2352), "form1": (12, 2352), "form2": (12, 2352), "formless": (12, 2352)},
    0x80: {"mode1": (0, 12), "form1": (0, 12), "form2": (0, 12), "formless": (0, 12)},
    0x90: {"mode1": None, "form1": None, "form2": None, "formless": None},
    0xA0: {"mode1": (0, 16), "form1": (0, 16), "form2": (0, 16), "formless": (0, 16)},
    0xB0: {"mode1": (0, 2064), "form1": None, "form2": None, "formless": (0, 2352)},
    0xB8: {"mode1": (0, 2352), "form1": None, "form2": None, "formless": (0, 2352)},
    0xE0: {"mode1": (0, 16), "form1": (0, 24), "form2": (0, 24), "formless": (0, 16)},
    0xF0: {"mode1": (0, 2064), "form1": (0, 2072), "form2": (0, 2352), "formless": (0, 2352)},
    0xF8: {
        "cdda": (0, 2352),
        "mode1": (0, 2352),
        "form1": (0, 2352),
        "form2": (0, 2352),
        "formless": (0, 2352),
    },
}
KINDS = {"cdda": (55, 1), "mode1": (5, 2), "formless": (23, 3), "form1": (21, 4), "form2": (22, 5)}
"""A block of each kind, and its sector type."""


@pytest.mark.parametrize("main", SPANS)
def test_fields_of_sectors(mixed: DriveWorld, main: int) -> None:
    for kind, span in SPANS[main].items():
        lba, number = KINDS[kind]
        for expected in (0, number):
            answer = mixed.first.do(read_cd(lba, 1, main, kind=expected), room=RAW)
            if span is None:
                assert (answer.key, answer.code, answer.field) == (5, 0x2400, (9, 7)), kind
            else:
                assert answer.data == stored(lba)[span[0] : span[1]], kind
                assert answer.task.wanted == span[1] - span[0]


def test_sectors_of_another_type_than_expected(mixed: DriveWorld) -> None:
    for kind, (lba, number) in KINDS.items():
        for other in range(1, 6):
            answer = mixed.first.do(read_cd(lba, 1, kind=other), room=RAW)
            assert (answer.status is GOOD) == (other == number), kind
            if other != number:
                assert (answer.key, answer.code) == WRONG_MODE
    answer = mixed.first.do(read_cd(0, 1, kind=6), room=RAW)
    assert (answer.code, answer.field) == (0x2400, (1, 4))


@pytest.mark.parametrize(
    ("lba", "kind", "first"), [(18, 2, 20), (40, 2, 40), (48, 1, 110), (30, 5, 30), (22, 5, 23)]
)
def test_sectors_come_up_to_the_first_of_another_type(
    mixed: DriveWorld, lba: int, kind: int, first: int
) -> None:
    blocks = min(30, 110 - lba)
    answer = mixed.first.do(read_cd(lba, blocks, kind=kind), room=blocks * RAW)
    if first < lba + blocks:
        assert ((answer.key, answer.code), answer.information) == (WRONG_MODE, first)
    else:
        assert answer.status is GOOD
    assert len(answer.data) == (min(first, lba + blocks) - lba) * RAW
    # Where nothing of them is asked for, they are of another type still.
    answer = mixed.first.do(read_cd(lba, blocks, 0, kind=kind), room=0)
    assert (answer.status is GOOD) == (first >= lba + blocks)


def test_sectors_of_any_type_one_after_the_other(mixed: DriveWorld) -> None:
    data = mixed.first.good(read_cd(18, 30), room=30 * RAW)
    assert data == b"".join(map(stored, range(18, 48)))
    data = mixed.first.good(read_cd(19, 4, 0x10), room=4 * RAW)
    assert len(data) == 2048 + 2336 + 2048 + 2328


def test_sectors_of_an_image_that_has_user_data_only(cd: DriveWorld) -> None:
    data = cd.first.good(read_cd(100, 1), room=RAW)
    assert data == mode1(100, content(100))
    assert data[:16] == sync_and_header(100, 1)
    assert cd.first.good(read_cd(100, 2, 0x10), room=2 * BLOCK) == content(100) + content(101)
    assert cd.first.good(read_cd(100, 1, 0x10, kind=2), room=BLOCK) == content(100)


def test_gaps_are_silent(mixed: DriveWorld) -> None:
    # Track 4 has a pregap of 10 blocks that are in no file.
    assert mixed.first.good(read_cd(74, 12, kind=1), room=12 * RAW) == (
        stored(74) + bytes(10 * RAW) + stored(75)
    )


def test_sub_channels_and_errors_beside_the_main_channel(mixed: DriveWorld) -> None:
    disc = mixed.drive.medium.disc
    q = mixed.first.good(read_cd(50, 2, sub=2), room=2 * (RAW + 16))
    assert q == stored(50) + formatted_q(disc, 50) + stored(51) + formatted_q(disc, 51)
    raw = mixed.first.good(read_cd(50, 1, 0, sub=1), room=96)
    assert raw == raw_sub_channel(disc, 50)
    with_c2 = mixed.first.good(read_cd(5, 1, 0xF8 | 0x02, sub=2), room=RAW + 294 + 16)
    assert with_c2 == stored(5) + bytes(294) + formatted_q(disc, 5)
    assert len(mixed.first.good(read_cd(5, 1, 0xF8 | 0x04), room=3000)) == RAW + 296
    assert mixed.first.do(read_cd(5, 1, 0xF8 | 0x06), room=3000).field == (9, 2)
    for reserved in (3, 5, 6, 7):
        assert mixed.first.do(read_cd(5, 1, sub=reserved), room=3000).field == (10, 2)
    # R to W hold nothing on such a disc.
    assert mixed.first.good(read_cd(50, 2, sub=4), room=3 * RAW) == (
        stored(50) + bytes(96) + stored(51) + bytes(96)
    )
    # Where the sub-channel alone is wanted of mode 2, no sector has to be looked at.
    assert mixed.first.good(read_cd(30, 1, 0, sub=2), room=16) == formatted_q(disc, 30)


def test_nothing_at_all_is_asked_for(mixed: DriveWorld) -> None:
    for cdb in (read_cd(5, 0), read_cd(5, 3, 0), read_cd(30, 2, 0)):
        answer = mixed.first.do(cdb, room=100)
        assert (answer.status, answer.task.sent) == (GOOD, 0)


def test_sectors_by_minutes_seconds_and_frames(mixed: DriveWorld) -> None:
    assert mixed.first.good(read_cd_msf((0, 2, 50), (0, 2, 52)), room=9 * RAW) == stored(50) + stored(51)
    assert mixed.first.good(read_cd_msf((0, 2, 50), (0, 2, 50)), room=RAW) == b""
    # From where the pick-up is.
    mixed.first.good(struct.pack(">BxI4x", 0x2B, 60))
    assert mixed.first.good(read_cd_msf((0xFF,) * 3, (0, 2, 61)), room=RAW) == stored(60)
    for start, end, field in (
        ((0, 60, 0), (0, 2, 0), (3, None)),
        ((0, 2, 0), (0, 2, 75), (6, None)),
        ((0, 2, 5), (0, 2, 4), (6, None)),
    ):
        answer = mixed.first.do(read_cd_msf(start, end), room=RAW)
        assert (answer.code, answer.field) == (0x2400, field)
    assert mixed.first.do(read_cd_msf((0, 1, 74), (0, 2, 1)), room=RAW).code == 0x2100
    assert mixed.first.do(read_cd_msf((0, 2, 0), (5, 2, 1)), room=RAW).code == 0x2100


def test_sectors_of_what_is_no_cd(insert: Callable[..., DriveWorld]) -> None:
    world = insert(data_disc(1_000_000))
    for command in (read_cd(0, 1), read_cd_msf((0, 2, 0), (0, 2, 1))):
        answer = world.first.do(command, room=RAW)
        assert (answer.key, answer.code) == INCOMPATIBLE


# --- images that fail, commands that are aborted


class ColdNode(WatchedNode):
    """Nothing of it is at hand."""

    def read_now(self, reads: Sequence[Read]) -> int:
        return 0


class SlowImage:
    """A drive whose image answers when the test says so."""

    def __init__(self, insert: Callable[..., DriveWorld]) -> None:
        self.node = ColdNode(IoContext.virtual(), 100 * BLOCK)
        self.world = insert(self.node)
        self.node.held = True


def test_an_image_that_fails(insert: Callable[..., DriveWorld]) -> None:
    slow = SlowImage(insert)
    slow.node.held = False
    slow.node.errors[Op.READ, 5 * BLOCK] = OSError(errno.EIO, "as told")
    for cdb, room in ((read_10(5, 1), BLOCK), (read_cd(5, 1), RAW)):
        answer = slow.world.first.do(cdb, room=room)
        assert (answer.key, answer.code) == (3, 0x1100)


@pytest.mark.parametrize("cdb", [read_10(5, 1), read_cd(5, 1)])
def test_a_read_that_is_aborted(insert: Callable[..., DriveWorld], cdb: bytes) -> None:
    slow = SlowImage(insert)
    answer = slow.world.first.send(cdb, room=RAW)
    assert not answer.count
    slow.world.second.manage(Function.LOGICAL_UNIT_RESET)
    slow.node.held = False
    slow.node.release(None)
    slow.world.context.run_until_idle()
    assert answer.outcome is Outcome.RESET
