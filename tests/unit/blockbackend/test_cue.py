"""`cue`: the bytes of the files that a sheet names, and the disc that they are."""

from __future__ import annotations

import os
import wave
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devmodels.blockbackend import BlockOptionError, Op, Request, open_node
from devmodels.disc import Mode
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk

RAW = 2352


def sheet(folder: Path, text: str) -> dict[str, object]:
    (folder / "disc.cue").write_text(text)
    return {"driver": "cue", "filename": str(folder / "disc.cue"), "node-name": "c0"}


def two_files(folder: Path) -> dict[str, object]:
    (folder / "one.bin").write_bytes(bytes(range(48)) * 49 * 3)
    (folder / "two.bin").write_bytes(b"\x22" * (RAW * 2 + 10))
    return sheet(
        folder,
        'FILE "one.bin" BINARY\nTRACK 01 MODE1/2352\nINDEX 01 00:00:00\n'
        'FILE "two.bin" BINARY\nTRACK 02 AUDIO\nINDEX 01 00:00:00\n',
    )


def test_the_files_one_after_the_other(tmp_path: Path) -> None:
    disk = Disk(two_files(tmp_path))
    size = 5 * RAW + 10
    whole = (bytes(range(48)) * 49 * 3 + b"\x22" * (RAW * 2 + 10)).ljust(-(-size // 512) * 512, b"\0")
    assert disk.backend.size == len(whole)
    assert disk.read(0, len(whole)) == whole
    for offset, length in ((0, 1), (3 * RAW - 5, 10), (size - 3, 6), (size, 2), (7, 3 * RAW)):
        assert disk.read(offset, length) == whole[offset : offset + length]
    buffer = memoryview(bytearray(20))
    assert disk.backend.read_now(((3 * RAW - 10, (buffer[:3], buffer[3:]), 20),)) in (0, 1)
    disk.close()


def test_files_that_take_their_time(tmp_path: Path) -> None:
    """What is not at hand is read from each file in turn, and what is behind the last one is zeroes."""
    node = open_node(two_files(tmp_path), IoContext.virtual())
    whole = (bytes(range(48)) * 49 * 3 + b"\x22" * (RAW * 2 + 10)).ljust(node.size, b"\0")
    buffer = memoryview(bytearray(len(whole)))
    node.context.run(node.read(Request(Op.READ, 0, len(whole), (buffer[:7], buffer[7:]))))
    assert buffer == whole
    node.close()


def test_what_the_disc_is(tmp_path: Path) -> None:
    node = open_node(two_files(tmp_path), IoContext.virtual())
    assert node.disc is not None
    assert [(track.mode, track.start) for track in node.disc.tracks] == [(Mode.MODE1, 0), (Mode.AUDIO, 3)]
    node.close()


def test_filters_show_the_disc_and_windows_do_not(tmp_path: Path) -> None:
    inner = two_files(tmp_path)
    context = IoContext.virtual()
    over = open_node({"driver": "delay", "latency-ns": 5, "file": inner}, context)
    assert over.disc is not None
    assert over.disc.blocks == 5
    assert over.read_only
    over.close()
    window = open_node({"driver": "raw", "offset": 512, "file": inner}, context)
    assert window.disc is None
    window.close()


def test_nothing_is_written(tmp_path: Path) -> None:
    disk = Disk(two_files(tmp_path), read_only=True)
    assert disk.node.read_only
    assert disk.do(Op.WRITE, 0, data=b"x") != 0
    disk.close()


def test_block_status_is_the_files(tmp_path: Path) -> None:
    disk = Disk(two_files(tmp_path), read_only=True)
    request = disk.submit(Op.BLOCK_STATUS, 0, 512)
    assert disk.wait(request) == 0
    disk.close()


def test_audio_in_wave_files(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as audio:
        audio.setparams((2, 2, 44100, 0, "NONE", ""))
        audio.writeframes(b"\x11\x22\x33\x44" * 588 * 2)
    node = open_node(
        sheet(tmp_path, 'FILE "a.wav" WAVE\nTRACK 01 AUDIO\nINDEX 01 00:00:00'), IoContext.virtual()
    )
    assert node.disc is not None
    assert (node.disc.blocks, node.disc.extents[0].offset) == (2, 44)
    node.close()


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WAVE" + b"".join(
        name + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2) for name, data in chunks
    )
    return b"RIFF" + len(body).to_bytes(4, "little") + body


FORM = (b"fmt ", bytes.fromhex("0100 0200 44ac0000 10b10200 0400 1000"))
LONG_FORM = (
    b"fmt ",
    bytes.fromhex(
        "feff 0200 44ac0000 10b10200 0400 1000 1600 1000 03000000 0100 000000001000800000aa00389b71"
    ),
)


@pytest.mark.parametrize("form", [FORM, LONG_FORM])
def test_the_last_sector_of_a_wave_file_is_filled_up_with_silence(
    tmp_path: Path, form: tuple[bytes, bytes]
) -> None:
    """What follows the samples is not heard, and the next file begins with a sector."""
    for name in ("a.wav", "b.wav"):
        samples = name[:1].encode() * (RAW + 400)
        (tmp_path / name).write_bytes(
            riff((b"LIST", b"odd"), form, (b"data", samples), (b"LIST", b"x" * 900))
        )
    tracks = "".join(
        f'FILE "{name}.wav" WAVE\nTRACK {number} AUDIO\nINDEX 01 00:00:00\n'
        for number, name in ((1, "a"), (2, "b"))
    )
    disk = Disk(sheet(tmp_path, tracks))
    disc = disk.node.disc
    assert disc is not None
    assert [(track.start, track.end) for track in disc.tracks] == [(0, 2), (2, 4)]
    for extent, letter in zip(disc.extents, b"ab", strict=True):
        assert extent.offset is not None
        assert disk.read(extent.offset, 2 * RAW) == (bytes([letter]) * (RAW + 400)).ljust(2 * RAW, b"\0")
    disk.close()


@pytest.mark.parametrize("claimed", [0, 0xFFFF_FFFF])
def test_a_wave_file_that_does_not_know_its_length(tmp_path: Path, claimed: int) -> None:
    head = riff(FORM, (b"data", b""))[:-4] + claimed.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(head + b"\x11" * RAW * 3)
    text = "FILE a.wav WAVE\nTRACK 01 AUDIO\nINDEX 01 00:00:00"
    node = open_node(sheet(tmp_path, text), IoContext.virtual())
    assert node.disc is not None
    assert node.disc.blocks == 3
    node.close()


def test_a_wave_file_of_nothing_but_chunks(tmp_path: Path) -> None:
    """Not all of them are looked at."""
    (tmp_path / "a.wav").write_bytes(b"RIFF" + bytes(4) + b"WAVE")
    os.truncate(tmp_path / "a.wav", 1 << 40)
    with pytest.raises(
        BlockOptionError, match=r"'a\.wav' is no WAVE file: no samples in its first 1000 chunks"
    ):
        open_node(sheet(tmp_path, "FILE a.wav WAVE\nTRACK 01 AUDIO\nINDEX 01 00:00:00"), IoContext.virtual())


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "disc.cue")
    with pytest.raises(BlockOptionError, match="expected a regular file"):
        open_node({"driver": "cue", "filename": str(tmp_path / "disc.cue")}, IoContext.virtual())


def test_a_file_below_the_sheet(tmp_path: Path) -> None:
    (tmp_path / "disc 1").mkdir()
    (tmp_path / "disc 1" / "a.bin").write_bytes(bytes(RAW))
    text = 'FILE "disc 1/a.bin" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00'
    open_node(sheet(tmp_path, text), IoContext.virtual()).close()


SHIFT_JIS = "テスト.bin".encode("shift-jis")


def test_names_of_files_are_bytes(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + SHIFT_JIS)).write_bytes(bytes(RAW))
    name = tmp_path / "disc.cue"
    name.write_bytes(b'FILE "' + SHIFT_JIS + b'" BINARY\r\nTRACK 01 AUDIO\r\nINDEX 01 00:00:00\r\n')
    open_node({"driver": "cue", "filename": str(name)}, IoContext.virtual()).close()
    name.write_bytes(b'FILE "' + SHIFT_JIS + b'2" BINARY\r\nTRACK 01 AUDIO\r\nINDEX 01 00:00:00\r\n')
    with pytest.raises(BlockOptionError) as raised:
        open_node({"driver": "cue", "filename": str(name)}, IoContext.virtual())
    assert str(raised.value).isprintable()
    str(raised.value).encode()


SCRAPS = st.sampled_from(
    [
        *(
            b"FILE one.bin BINARY",
            b'FILE "one.bin" WAVE',
            b"TRACK 01 AUDIO",
            b"INDEX 01 00:00:00",
            b'REM 7" x',
        ),
        *(b"\n", b"\r\n", b'"', b"\xff\xfe", b"\xef\xbb\xbf", b"\x85", b"\x1b[2J", SHIFT_JIS, b"9" * 5000),
    ]
)


@given(scraps=st.lists(st.one_of(SCRAPS, st.binary(max_size=8)), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_disc_or_one_line(tmp_path: Path, scraps: list[bytes]) -> None:
    (tmp_path / "one.bin").write_bytes(bytes(RAW))
    (tmp_path / "disc.cue").write_bytes(b"".join(scraps))
    message = "a disc"
    try:
        open_node({"driver": "cue", "filename": str(tmp_path / "disc.cue")}, IoContext.virtual()).close()
    except BlockOptionError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    message.encode()


def test_files_are_let_go(tmp_path: Path) -> None:
    node = open_node(two_files(tmp_path), IoContext.virtual())
    children = [edge.node for edge in node.children.values()]
    assert len(children) == 2
    node.close()
    assert all(child.closed for child in children)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TRACK 01 AUDIO", "line 1: TRACK before any FILE"),
        (
            'FILE "none.bin" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00',
            "line 1: cannot open",
        ),
        (
            'FILE "../one.bin" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00',
            "line 1: '../one.bin' is elsewhere; expected a file beside the sheet",
        ),
        (
            'FILE "/etc/passwd" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00',
            "line 1: '/etc/passwd' is elsewhere; expected a file beside the sheet",
        ),
        (f"FILE x BINARY\nTRACK {'9' * 5000} AUDIO", "line 2: track '999"),
        ('FILE "mono.wav" WAVE\nTRACK 01 MODE1/2352', "line 2: mode 'MODE1/2352' of a track in a WAVE file"),
        ('FILE "." BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00', "line 1: "),
        ('FILE "one.bin" WAVE\nTRACK 01 AUDIO\nINDEX 01 00:00:00', "line 1: 'one.bin' is no WAVE file: "),
        (
            'FILE "mono.wav" WAVE\nTRACK 01 AUDIO\nINDEX 01 00:00:00',
            "line 1: 'mono.wav' has 1 channels of 16 bits",
        ),
        (
            'FILE "one.bin" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:09:00',
            "line 3: INDEX 01 is beyond the end of 'one.bin'",
        ),
    ],
)
def test_a_bad_sheet_is_one_line_and_nothing_stays_open(tmp_path: Path, text: str, message: str) -> None:
    two_files(tmp_path)
    with wave.open(str(tmp_path / "mono.wav"), "wb") as audio:
        audio.setparams((1, 2, 44100, 0, "NONE", ""))
        audio.writeframes(bytes(5000))
    with pytest.raises(BlockOptionError) as raised:
        open_node(sheet(tmp_path, text), IoContext.virtual())
    assert str(raised.value).startswith('$.filename: "')
    assert f", {message}" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("data", [b"\0" * 100, b"REM x\n" * 200_000])
def test_what_is_no_sheet(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "disc.cue").write_bytes(data)
    with pytest.raises(BlockOptionError, match="expected a cue sheet, which is text"):
        open_node({"driver": "cue", "filename": str(tmp_path / "disc.cue")}, IoContext.virtual())


def test_no_sheet_at_all(tmp_path: Path) -> None:
    with pytest.raises(BlockOptionError, match=r"cannot open .*: No such file or directory"):
        open_node({"driver": "cue", "filename": str(tmp_path / "none.cue")}, IoContext.virtual())


def test_a_sheet_in_another_encoding(tmp_path: Path) -> None:
    two_files(tmp_path)
    text = 'REM Bj\xf6rk\nFILE "one.bin" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00'
    (tmp_path / "disc.cue").write_bytes(text.encode("latin-1"))
    node = open_node({"driver": "cue", "filename": str(tmp_path / "disc.cue")}, IoContext.virtual())
    node.close()
