"""`cue`: the bytes of the files that a sheet names, and the disc that they are."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

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
