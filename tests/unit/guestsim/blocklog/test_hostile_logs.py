"""Whatever is in a file: it is a log, or one line says where it is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestsim.blocklog.blkparse import read_blkparse
from guestsim.blocklog.events import Begin, Event, Lines, LogError, Losses
from guestsim.blocklog.fio import read_fio
from guestsim.blocklog.formats import FORMATS, WRITTEN, OpenLog
from guestsim.blocklog.qemuio import read_qemu_io

from .logs import Reader

_GOOD: dict[Reader, list[str]] = {
    read_fio: [
        "fio version 2 iolog",
        "fio version 3 iolog",
        "f add",
        "f open",
        "5 f read 0 512",
        "f wait 9 0",
    ],
    read_blkparse: [
        "  8,0    1       12     4.041034133    37  D  WS 524160 + 128 [kworker/0:1H]",
        "  8,0    1       13     4.041034133    37  C FWFS 524160 + 128 [0]",
        "  8,0    1       14     4.041034133    37  D   N 36 (12 00 ..) [x]",
        "CPU0 (t):",
    ],
    read_qemu_io: [
        "write -P 0x11 0 64k",
        "aio_read -C 1.5M 512 512",
        "sleep 20",
        "aio_flush",
        "discard 0 1G",
        "# x",
    ],
}
_SPOIL = st.text("0x9 ,+-.[]()kKWFDNRSé\t\r\0", max_size=3)


@st.composite
def _texts(draw: st.DrawFn, good: list[str]) -> list[str]:
    """Lines that are right, or almost."""
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        line = draw(st.sampled_from(good))
        if draw(st.booleans()):
            start = draw(st.integers(0, len(line)))
            end = draw(st.integers(start, min(len(line), start + 4)))
            line = line[:start] + draw(_SPOIL) + line[end:]
        lines.append(line)
    return lines


@pytest.mark.parametrize("reader", _GOOD)
@given(data=st.data())
def test_a_spoilt_line_is_told_or_means_something(reader: Reader, data: st.DataObject) -> None:
    lines = data.draw(_texts(_GOOD[reader]))
    begins, wrong = _outcome(reader(Lines(lines, "log"), Losses()))
    assert all(0 <= begin.offset < 1 << 64 and 0 <= begin.length < 1 << 64 for begin in begins)
    if wrong:
        place, _, text = wrong.partition(": expected ")
        assert text
        assert place == "log:0" or 1 <= int(place.removeprefix("log:")) <= len(lines)


def _outcome(events: Iterator[Event]) -> tuple[list[Begin], str]:
    """The requests, and what was wrong then; empty where nothing was."""
    begins: list[Begin] = []
    try:
        begins += (event for event in events if isinstance(event, Begin))
    except LogError as error:
        return begins, str(error)
    return begins, ""


@given(
    content=st.binary(max_size=200), name=st.sampled_from([None, *FORMATS]), to=st.sampled_from([*WRITTEN])
)
def test_any_bytes_are_a_log_or_one_line_says_why_not(
    content: bytes, name: str | None, to: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.log"
    path.write_bytes(content)
    write = WRITTEN[to].write
    assert write is not None
    wrong = ""
    try:
        with OpenLog(path, None if name is None else FORMATS[name]) as log:
            list(write(log.of_one_disk(None), Losses(), ends=log.format.ends))
    except LogError as error:
        wrong = str(error)
    assert "\n" not in wrong


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"read 0 512\n" + b"0" * (2 << 20))
    with pytest.raises(LogError, match=r"a\.log:2: expected a shorter line"), OpenLog(path) as log:
        list(log.events)
