"""Traces in files: what goes in comes out, as far as the file is whole; nothing else does."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devmodels.trace import MAX_PAYLOAD, EventKind, TraceEvent, Tracer
from devmodels.tracefile import Ending, TraceFileError, TraceHeader, TraceReader, TraceWriter
from devmodels.tracefile import writer as writing
from devmodels.tracefile.format import END, FRAME, FRAME_HEAD, HEAD, MAGIC, FrameHead
from devmodels.traceshapes import SHAPES

HEADER = TraceHeader.of("a test")
Detail = tuple[int | str | bytes, ...]
Happened = tuple[int, str, EventKind, Detail]
"""Time, source, kind and detail of an event."""

VALUES: dict[type, st.SearchStrategy[int | str | bytes]] = {
    int: st.integers(-(1 << 63), (1 << 64) - 1),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=200),
}


@st.composite
def details(draw: st.DrawFn, kind: EventKind) -> Detail:
    """What may be an event's of this kind."""
    shape = SHAPES[kind]
    fields = [*shape.fields, *shape.repeated * draw(st.integers(0, 3 if shape.repeated else 0))]
    return tuple(draw(VALUES[kind]) for _, kind in fields)


def happening() -> st.SearchStrategy[Happened]:
    times = st.integers(0, 1 << 62)
    sources = st.sampled_from(["vd0", "memory", "ⅷ"])
    return st.sampled_from(EventKind).flatmap(
        lambda kind: st.tuples(times, sources, st.just(kind), details(kind))
    )


def happenings(most: int = 30) -> st.SearchStrategy[list[Happened]]:
    return st.lists(happening(), max_size=most)


def events_of(happened: Sequence[Happened]) -> list[TraceEvent]:
    return [TraceEvent(number, *each) for number, each in enumerate(happened)]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="devmodels-") as name:
        yield Path(name)


def write(
    path: Path, events: Sequence[TraceEvent], *, each: int = 7, limit: int | None = None
) -> TraceWriter:
    """A file of these events, so many in a frame."""
    writer = TraceWriter(path, HEADER, limit=limit)
    for at, event in enumerate(events, 1):
        writer(event)
        if at % each == 0:
            writer.flush()
    writer.close()
    return writer


def some_events(count: int = 20, size: int = 100) -> list[TraceEvent]:
    """Events with bytes that do not compress."""
    return [
        TraceEvent(number, 1000 * number, "memory", EventKind.DMA_READ, (number, os.urandom(size)))
        for number in range(count)
    ]


# --- what goes in comes out


@given(happenings(), st.integers(1, 10))
def test_what_was_written_is_read(folder: Path, happened: list[Happened], each: int) -> None:
    events = events_of(happened)
    path = folder / "written.trace"
    writer = write(path, events, each=each)
    with TraceReader(path) as reader:
        assert list(reader) == events
        assert (reader.header, reader.ending, reader.cut) == (HEADER, Ending("closed"), False)
        assert reader.count() == len(events) == writer.events
    assert writer.nbytes == path.stat().st_size


@given(happenings(), st.integers(1, 10), st.integers(0, 40))
def test_reading_begins_anywhere(folder: Path, happened: list[Happened], each: int, number: int) -> None:
    events = events_of(happened)
    path = folder / "from.trace"
    write(path, events, each=each)
    with TraceReader(path) as reader:
        assert list(reader.read_from(number)) == events[number:]


def test_a_tracer_that_has_told_others_before_keeps_its_numbers(tmp_path: Path) -> None:
    tracer = Tracer(lambda: 5)
    tracer.emit("vd0", EventKind.KICK, 0, -1)
    writer = TraceWriter(tmp_path / "t", HEADER)
    tracer.sinks.append(writer)
    tracer.emit("vd0", EventKind.KICK, 1, -1)
    writer.close()
    with TraceReader(tmp_path / "t") as reader:
        assert list(reader) == [TraceEvent(1, 5, "vd0", EventKind.KICK, (1, -1))]


def test_a_frame_that_is_full_is_written_at_once(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "t", HEADER, idle_seconds=3600)
    size = writing.FRAME_WEIGHT // 2
    for event in some_events(5, size):
        writer(event)
    writer.flush()
    with TraceReader(tmp_path / "t") as reader:
        assert [len(frame) for frame in reader.frames()] == [2, 2, 1]
        assert reader.cut, "it is still being written"
    writer.close()


def test_few_events_do_not_wait_for_more(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "t", HEADER, idle_seconds=0.001)
    events = some_events(3)
    for event in events:
        writer(event)
    with writer.changed:
        assert writer.changed.wait_for(lambda: writer.events == 3, timeout=10)
    with TraceReader(tmp_path / "t") as reader:
        assert list(reader) == events
    writer.close()


# --- files that end early


def start_of(whole: bytes) -> int:
    """Where the frames begin."""
    return len(MAGIC) + HEAD.size + int(HEAD.unpack_from(whole, len(MAGIC))[0])


@pytest.mark.long
@given(happenings(12), st.integers(1, 5))
@settings(max_examples=8)
def test_a_file_cut_off_anywhere_has_its_whole_frames(
    folder: Path, happened: list[Happened], each: int
) -> None:
    events = events_of(happened)
    path = folder / "cut.trace"
    write(path, events, each=each)
    with TraceReader(path) as reader:
        heads = list(reader.heads())
    start = start_of(path.read_bytes())
    ends = [start + sum(FRAME_HEAD.size + head.length for head in heads[:n]) for n in range(len(heads) + 1)]
    for length in reversed(range(start, path.stat().st_size)):
        os.truncate(path, length)
        expected = sum(head.events for head, end in zip(heads, ends[1:], strict=True) if end <= length)
        with TraceReader(path) as reader:
            assert list(reader) == events[:expected]
            assert reader.count() == expected
            assert (reader.cut, reader.ending) == (True, None)


def test_a_file_cut_off_within_its_header_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write(path, some_events(1))
    for length in reversed(range(start_of(path.read_bytes()))):
        os.truncate(path, length)
        with pytest.raises(TraceFileError, match=r"not a trace|ends within its header"):
            TraceReader(path)


# --- files of a limited length, and disks of a limited size


@given(happenings(), st.integers(0, 3000), st.integers(1, 10))
def test_the_limit_is_kept_and_said(folder: Path, happened: list[Happened], room: int, each: int) -> None:
    events = events_of(happened)
    path = folder / "limited.trace"
    least = least_limit(path)
    writer = write(path, events, each=each, limit=least + room)
    assert path.stat().st_size <= least + room
    with TraceReader(path) as reader:
        found = list(reader)
        assert found == events[: len(found)]
        assert not reader.cut
        assert reader.ending == writer.ending
        assert reader.ending is not None
        assert reader.ending.reason == ("closed" if len(found) == len(events) else "limit")


def least_limit(path: Path) -> int:
    """The least limit that is taken."""
    with pytest.raises(ValueError, match="expected at least") as refused:
        TraceWriter(path, HEADER, limit=1)
    return int(str(refused.value).rpartition(" ")[2])


def test_behind_the_end_there_is_nothing(tmp_path: Path) -> None:
    write(tmp_path / "t", some_events(3, 10))
    with (tmp_path / "t").open("ab") as file:
        file.write(b"more")
    with (
        TraceReader(tmp_path / "t") as reader,
        pytest.raises(TraceFileError, match=r"t: 4 bytes behind its end$"),
    ):
        reader.count()


def test_a_header_with_another_memory_is_refused(tmp_path: Path) -> None:
    text = msgspec.json.encode(msgspec.structs.asdict(HEADER) | {"memory": "elsewhere"})
    (tmp_path / "t").write_bytes(MAGIC + HEAD.pack(len(text), zlib.crc32(text)) + text)
    with pytest.raises(TraceFileError, match="Invalid enum value 'elsewhere'"):
        TraceReader(tmp_path / "t")


def test_a_limit_is_used_up_as_far_as_events_fit(tmp_path: Path) -> None:
    limit = 100_000
    write(tmp_path / "t", some_events(200, 1000), each=200, limit=limit)
    assert limit - 2500 < (tmp_path / "t").stat().st_size <= limit


def test_the_end_by_the_limit_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []
    writer = TraceWriter(
        tmp_path / "t", HEADER, limit=least_limit(tmp_path / "t"), on_end=lambda: ended.append("ended")
    )
    for event in some_events(10, 1000):
        writer(event)
        writer.flush()
    writer.close()
    writer.close()
    assert ended == ["ended"]
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 't'}: recording ends after 0 events: it would be longer than")


def test_a_full_disk_ends_the_recording_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t"
    writer = TraceWriter(path, HEADER)
    events = some_events(20)
    for event in events[:10]:
        writer(event)
    writer.flush()
    before = path.stat().st_size
    write = os.write

    def full(fd: int, data: bytes | memoryview) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[:50])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for event in events[10:]:
            writer(event)
            writer.flush()
        writer.close()
    assert caplog.messages == [f"{path}: recording ends after 10 events: No space left on device"]
    assert path.stat().st_size == before
    with TraceReader(path) as reader:
        assert list(reader) == events[:10]
        assert reader.cut


def test_an_event_that_cannot_be_written_ends_the_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = TraceWriter(tmp_path / "t", HEADER)
    writer(TraceEvent(0, 0, "vd0", EventKind.KICK, (0, 1 << 80)))
    writer.flush()
    writer(TraceEvent(1, 0, "vd0", EventKind.KICK, (0, 1)))
    writer.close()
    assert len(caplog.messages) == 1
    with TraceReader(tmp_path / "t") as reader:
        assert list(reader) == []
        assert reader.ending is not None
        assert reader.ending.reason == "error"


def test_numbers_and_texts_may_be_of_types_of_their_own(tmp_path: Path) -> None:
    class Size(int):
        pass

    class Name(str):
        __slots__ = ()

    writer = TraceWriter(tmp_path / "t", HEADER)
    writer(TraceEvent(0, 0, "vd0", EventKind.REQUEST, (0, Name("READ"), Size(1 << 40), 512, 0, 0)))
    writer.close()
    with TraceReader(tmp_path / "t") as reader:
        assert [event.detail for event in reader] == [(0, "READ", 1 << 40, 512, 0, 0)]


def test_what_is_given_up_ends_with_what_came_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = TraceWriter(tmp_path / "t", HEADER)
    events = some_events(5)
    for event in events[:3]:
        writer(event)
    writer.give_up("too much")
    writer.give_up("again")
    for event in events[3:]:
        writer(event)
    writer.close()
    with TraceReader(tmp_path / "t") as reader:
        assert list(reader) == events[:3]
        assert reader.ending == Ending("error", "too much")
    assert len(caplog.messages) == 1


def test_where_the_disk_is_slow_whoever_emits_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    append = TraceWriter._append

    def slow(writer: TraceWriter, data: bytes) -> None:
        nonlocal most
        most = max(most, writer.waiting.count(None))
        append(writer, data)

    monkeypatch.setattr(TraceWriter, "_append", slow)
    writer = TraceWriter(tmp_path / "t", HEADER)
    data = bytes(writing.FRAME_WEIGHT)
    for number in range(40):
        writer(TraceEvent(number, 0, "memory", EventKind.DMA_READ, (0, data)))
    writer.close()
    assert most <= writing.MAX_WAITING + 1
    with TraceReader(tmp_path / "t") as reader:
        assert reader.count() == 40


# --- hostile files


def header(text: bytes | None = None) -> bytes:
    text = msgspec.json.encode(HEADER) if text is None else text
    return MAGIC + HEAD.pack(len(text), zlib.crc32(text)) + text


def frame(
    columns: object,
    payload: bytes = b"",
    *,
    data: bytes | None = None,
    first: int = 0,
    events: int = 1,
    table: int | None = None,
    raw: int | None = None,
) -> bytes:
    packed = msgspec.msgpack.encode(columns)
    if data is None:
        data = zstandard.ZstdCompressor().compress(packed + payload)
    table = len(packed) if table is None else table
    raw = len(packed) + len(payload) if raw is None else raw
    return FRAME_HEAD.pack(*FrameHead(FRAME, first, events, table, raw, len(data), zlib.crc32(data))) + data


def one(kind: EventKind, *detail: object) -> list[object]:
    """Columns of one event."""
    return [["vd0"], [0], [0], [list(EventKind).index(kind)], [list(detail)]]


ENDED = FRAME_HEAD.pack(*FrameHead(END, 1, 0, 0, 0, 2, zlib.crc32(b"{}"))) + b"{}"
BOMB = zstandard.ZstdCompressor().compress(bytes(1 << 20))
LIAR = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20))

HOSTILE = {
    "nothing": (b"", "not a trace"),
    "other": (b"{" * 100, "not a trace"),
    "magic only": (MAGIC, "ends within its header"),
    "long header": (MAGIC + HEAD.pack(0xFFFF_FFFF, 0), "expected at most"),
    "header's sum": (header()[:-1] + b"!", "the header is damaged"),
    "header no JSON": (header(b"\xff"), "header: "),
    "header deep": (header(b"[" * 5000), "header: "),
    "header a list": (header(b"[]"), "header: "),
    "version": (header(b'{"version":3}'), "trace version 3, expected 2"),
    "header's kinds": (header(b'{"version":2,"program":"p","kinds":3}'), "header: "),
    "unknown kind": (
        header(b'{"version":2,"program":"p 2","kinds":["x"]}'),
        "of another program, .p 2.: .x. is not",
    ),
    "no frame": (header() + b"x" * 100, "no frame at byte"),
    "too many events": (header() + frame([], events=1 << 20), "damaged"),
    "too long a table": (header() + frame([], table=1 << 24, raw=1 << 24), "damaged"),
    "payload beyond": (header() + frame([], raw=MAX_PAYLOAD + 1000), "damaged"),
    "table beyond": (header() + frame([], table=10, raw=9), "damaged"),
    "bomb": (header() + frame(one(EventKind.STOP, 0), data=BOMB), "another length"),
    "bomb without a size": (header() + frame(one(EventKind.STOP, 0), data=LIAR), "another length"),
    "no zstd": (header() + frame(one(EventKind.STOP, 0), data=b"x" * 30), "events 0 to 0 are damaged"),
    "sum": (header() + frame(one(EventKind.STOP, 0))[:-1] + b"!", "events 0 to 0 are damaged"),
    "no columns": (header() + frame(5), "events 0 to 0 are damaged: Expected"),
    "few columns": (header() + frame([[], []]), "events 0 to 0 are damaged: Expected"),
    "columns of bytes": (
        header() + frame([b"", [0], [0], [0], [[0]]]),
        "events 0 to 0 are damaged: Expected",
    ),
    "lengths": (header() + frame([["a"], [0, 1], [0], [0], [[0]]]), "different lengths"),
    "no source": (header() + frame([["a"], [0], [1], [0], [[0]]]), "that is not there"),
    "source below": (header() + frame([["a"], [0], [-1], [0], [[0]]]), "that is not there"),
    "no kind": (header() + frame([["a"], [0], [0], [99], [[0]]]), "that is not there"),
    "kind below": (header() + frame([["a"], [0], [0], [-1], [[0]]]), "that is not there"),
    "detail's length": (header() + frame(one(EventKind.STOP)), r"event 0 is damaged: STOP with .*\(queue\)"),
    "detail's type": (header() + frame(one(EventKind.STOP, "0")), "event 0 is damaged: STOP"),
    "a float": (header() + frame(one(EventKind.STOP, 0.5)), "events 0 to 0 are damaged"),
    "nested": (header() + frame(one(EventKind.STOP, [[[]]])), "events 0 to 0 are damaged"),
    "half a piece": (header() + frame(one(EventKind.CHAIN, 0, 1, 1, 4096)), "event 0 is damaged: CHAIN"),
    "bytes in place": (header() + frame(one(EventKind.DMA_READ, 0, b"ab")), "events 0 to 0 are damaged"),
    "payload short": (header() + frame(one(EventKind.DMA_READ, 0, 3), b"ab"), "3 bytes of payload"),
    "payload below": (header() + frame(one(EventKind.DMA_READ, 0, -1), b"ab"), "-1 bytes of payload"),
    "payload left": (header() + frame(one(EventKind.DMA_READ, 0, 1), b"ab"), "1 bytes left over"),
    "a gap": (
        header() + frame(one(EventKind.STOP, 0)) + frame(one(EventKind.STOP, 0), first=5),
        "is event 5, expected event 1",
    ),
    "events again": (header() + 2 * frame(one(EventKind.STOP, 0)), "expected event 1"),
    "another end": (header() + ENDED, "its end is damaged"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_one_line_that_says_where(tmp_path: Path, what: str) -> None:
    data, expected = HOSTILE[what]
    path = tmp_path / "hostile.trace"
    path.write_bytes(data)
    with pytest.raises(TraceFileError, match=expected) as refused, TraceReader(path) as reader:
        list(reader)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TraceFileError, match="cannot be read: No such file"):
        TraceReader(tmp_path / "none")
    with pytest.raises(TraceFileError, match="cannot be read: Is a directory"):
        TraceReader(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TraceFileError, match="pipe: not a file"):
        TraceReader(tmp_path / "pipe")


@given(st.binary(max_size=300), st.integers(0, 400), st.booleans())
@example(b"\x95\x91\xa0\x91\x00\x91\x00\x91\x00\x91" + b"\x91" * 200, 0, True)
def test_no_bytes_make_it_raise_anything_else(folder: Path, junk: bytes, at: int, sealed: bool) -> None:
    path = folder / "junk.trace"
    if sealed:
        # Past the sums: the table itself is hostile.
        data = zstandard.ZstdCompressor().compress(junk)
        head = FrameHead(FRAME, 0, 1, max(1, len(junk)), max(1, len(junk)), len(data), zlib.crc32(data))
        whole = header() + FRAME_HEAD.pack(*head) + data
    else:
        write(path, some_events(5), each=2)
        whole = path.read_bytes()
        whole = whole[:at] + junk + whole[at + len(junk) :]
    path.write_bytes(whole)
    with suppress(TraceFileError), TraceReader(path) as reader:
        for event in reader:
            assert SHAPES[event.kind].fits([type(value) for value in event.detail])


# --- shapes


@given(st.sampled_from(EventKind).flatmap(lambda kind: st.tuples(st.just(kind), details(kind))))
def test_a_detail_of_its_shape_fits(of: tuple[EventKind, tuple[int | str | bytes, ...]]) -> None:
    kind, detail = of
    types = [type(value) for value in detail]
    shape = SHAPES[kind]
    assert shape.fits(types)
    assert not shape.fits([*types, float])
    if shape.fields:
        assert not shape.fits(types[: len(shape.fields) - 1])


def test_every_kind_has_a_shape_and_bytes_come_last() -> None:
    assert set(SHAPES) == set(EventKind)
    for kind, shape in SHAPES.items():
        before = [*shape.fields[:-1], *shape.repeated]
        assert not any(of is bytes for _, of in before), kind
