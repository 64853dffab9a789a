"""Reading a trace file: whole frames, one in memory at a time, nothing of it believed before it was judged."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec
import zstandard

from devmodels.trace import MAX_PAYLOAD, EventKind, TraceEvent
from devmodels.tracefile.format import (
    END,
    FRAME,
    FRAME_HEAD,
    HEAD,
    MAGIC,
    MAX_EVENTS,
    MAX_HEADER,
    MAX_TABLE,
    VERSION,
    Columns,
    Ending,
    FrameHead,
    TraceFileError,
    TraceHeader,
)
from devmodels.traceshapes import SHAPES, Shape

Detail = tuple[int | str | bytes, ...]

_SHAPES_KEPT = 4096
"""How many combinations of types are remembered as good ones."""


def _ends_in_bytes(shape: Shape) -> bool:
    return bool(shape.fields) and shape.fields[-1][1] is bytes


def _stored(shape: Shape) -> Shape:
    """The shape as a table has it: bytes are in the payload, and how many they are stands for them."""
    if not _ends_in_bytes(shape):
        return shape
    return shape._replace(fields=(*shape.fields[:-1], (shape.fields[-1][0], int)))


_STORED = {kind: _stored(shape) for kind, shape in SHAPES.items()}
_decode_columns = msgspec.msgpack.Decoder(Columns).decode
_new = tuple.__new__


class _Version(msgspec.Struct):
    version: int


class RawFrame:
    """A frame's events as columns, for whoever needs few of them whole: details are not judged, bytes stay in `raw`.

    `first` is the first one's number, `kinds` are numbers (`TraceReader.kinds`); a detail that ends in bytes has their
    length in their place.
    """

    __slots__ = ("_reader", "_starts", "details", "first", "kinds", "payload", "raw", "sources", "times")

    def __init__(
        self,
        reader: TraceReader,
        first: int,
        times: list[int],
        sources: list[str],
        kinds: list[int],
        details: list[tuple[int | str, ...]],
        raw: bytes,
        payload: int,
    ) -> None:
        self._reader = reader
        self._starts: list[int] | None = None
        self.first = first
        self.times = times
        self.sources = sources
        self.kinds = kinds
        self.details = details
        self.raw = raw
        self.payload = payload

    @property
    def starts(self) -> list[int]:
        """Where in `raw` each event's bytes begin, those of the last end at the last of these; judged."""
        if self._starts is None:
            self._starts = self._reader._payload(self)
        return self._starts

    def event(self, at: int) -> TraceEvent:
        """The event at place `at` of the frame, judged; TraceFileError where it is damaged."""
        reader = self._reader
        kind, detail = self.kinds[at], self.details[at]
        starts = self.starts
        number = self.first + at
        reader.judge(number, kind, detail)
        whole: Detail = detail
        if reader._ends_in_bytes[kind]:
            whole = (*detail[:-1], self.raw[starts[at] : starts[at + 1]])
        return TraceEvent(number, self.times[at], self.sources[at], reader.kinds[kind], whole)


class TraceReader:
    """A trace in a file; TraceFileError where it is none.  Iterating gives its events.

    Once the end has been met, `ending` says why the recording ended, and `cut` is true where the file does not: its
    writer was killed, or still writes, or somebody cut it off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut = False
        self.ending: Ending | None = None
        self._decompressor = zstandard.ZstdDecompressor()
        self._good: set[tuple[object, ...]] = set()
        try:
            if path.exists() and not (path.is_file() or path.is_dir()):
                # A pipe, say, would be waited for.
                self._wrong("not a file")
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise TraceFileError(f"{path}: cannot be read: {error.strerror}") from None
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self.header = self._read_header()
            self._start = self._file.tell()
            self.kinds = self._known_kinds()
            self._ends_in_bytes = [_ends_in_bytes(SHAPES[kind]) for kind in self.kinds]
        except OSError as error:
            self._file.close()
            raise TraceFileError(f"{path}: cannot be read: {error.strerror}") from None
        except BaseException:
            self._file.close()
            raise

    # --- the header

    def _read_header(self) -> TraceHeader:
        head = self._file.read(len(MAGIC) + HEAD.size)
        if not head.startswith(MAGIC):
            self._wrong(f"not a trace, expected {MAGIC.decode().strip()!r} at its beginning")
        if len(head) < len(MAGIC) + HEAD.size:
            self._wrong("it ends within its header")
        length, crc = HEAD.unpack_from(head, len(MAGIC))
        if length > MAX_HEADER:
            self._wrong(f"a header of {length} bytes, expected at most {MAX_HEADER}")
        text = self._file.read(length)
        if len(text) < length:
            self._wrong("it ends within its header")
        if zlib.crc32(text) != crc:
            self._wrong("the header is damaged")
        try:
            version = msgspec.json.decode(text, type=_Version).version
            if version != VERSION:
                self._wrong(f"trace version {version}, expected {VERSION}")
            return msgspec.json.decode(text, type=TraceHeader)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self._wrong(f"header: {error}")

    def _known_kinds(self) -> list[EventKind]:
        try:
            return [EventKind(name) for name in self.header.kinds]
        except ValueError as error:
            self._wrong(f"of another program, {self.header.program!r}: {error}")

    def _wrong(self, text: str) -> NoReturn:
        raise TraceFileError(f"{self.path}: {text}") from None

    # --- frames

    def heads(self) -> Iterator[FrameHead]:
        """The heads of whole frames; the file stands behind the head, and is to stand at any place afterwards."""
        at = self._start
        expected: int | None = None
        self.cut = False
        self.ending = None
        while at + FRAME_HEAD.size <= self._size:
            self._file.seek(at)
            head = FrameHead(*FRAME_HEAD.unpack(self._file.read(FRAME_HEAD.size)))
            self._judge(head, at)
            at += FRAME_HEAD.size + head.length
            if at > self._size:
                break
            if expected is not None and head.first != expected:
                self._wrong(f"at byte {at - head.length} is event {head.first}, expected event {expected}")
            if head.magic == END:
                self._end(head)
                if at < self._size:
                    self._wrong(f"{self._size - at} bytes behind its end")
                return
            yield head
            expected = head.first + head.events
        self.cut = True

    def _judge(self, head: FrameHead, at: int) -> None:
        """Whether it can be the head of a frame; one that cannot is damage, whatever comes after it."""
        if head.magic not in (FRAME, END):
            self._wrong(f"no frame at byte {at}")
        payload = head.raw - head.table
        fits = (
            not head.table and not head.raw and not head.events and head.length <= MAX_HEADER
            if head.magic == END
            else 0 < head.events <= MAX_EVENTS
            and 0 < head.table <= MAX_TABLE
            and 0 <= payload <= MAX_PAYLOAD
            and head.length <= head.raw + head.raw // 128 + 1024
        )
        if not fits:
            self._wrong(f"the frame at byte {at} is damaged: {head.events} events of {head.raw} bytes")

    def _end(self, head: FrameHead) -> None:
        text = self._file.read(head.length)
        try:
            if zlib.crc32(text) != head.crc:
                raise msgspec.DecodeError("wrong checksum")
            self.ending = msgspec.json.decode(text, type=Ending)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self._wrong(f"its end is damaged: {error}")
        self.cut = False

    def count(self) -> int:
        """How many events there are; reads the frames' heads only."""
        return sum(head.events for head in self.heads())

    def frames(self, number: int = 0) -> Iterator[list[TraceEvent]]:
        """The events a frame at a time, from the frame on that has the event `number`: those before stay unread."""
        for frame in self.raw_frames(number):
            yield self._events(frame)

    def raw_frames(self, number: int = 0) -> Iterator[RawFrame]:
        """The frames as they are in the file, from the one on that has the event `number`."""
        for head in self.heads():
            if head.first + head.events > number:
                yield self._read(head)

    def _read(self, head: FrameHead) -> RawFrame:
        """The frame behind `head`, at which the file stands."""
        what = f"events {head.first} to {head.first + head.events - 1}"
        data = self._file.read(head.length)
        if len(data) != head.length or zlib.crc32(data) != head.crc:
            self._wrong(f"{what} are damaged")
        try:
            if zstandard.frame_content_size(data) != head.raw:
                raise zstandard.ZstdError("another length than the frame's head says")
            raw = self._decompressor.decompress(data)
            sources, steps, source, kind, details = _decode_columns(memoryview(raw)[: head.table])
        except (zstandard.ZstdError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self._wrong(f"{what} are damaged: {error}")
        if not head.events == len(steps) == len(source) == len(kind) == len(details):
            self._wrong(f"{what} are damaged: columns of different lengths")
        if not (
            min(source) >= 0 and max(source) < len(sources) and min(kind) >= 0 and max(kind) < len(self.kinds)
        ):
            self._wrong(f"{what} are damaged: a source or a kind that is not there")
        times = list(accumulate(steps))
        names = [sources[at] for at in source]
        return RawFrame(self, head.first, times, names, kind, details, raw, head.table)

    def _events(self, frame: RawFrame) -> list[TraceEvent]:
        first = frame.first
        columns = zip(
            range(first, first + len(frame.times)),
            frame.times,
            frame.sources,
            [self.kinds[at] for at in frame.kinds],
            self._details(first, frame.kinds, frame.details, frame.raw, frame.payload),
            strict=True,
        )
        # As `TraceEvent(...)`, at half its price.
        return [_new(TraceEvent, event) for event in columns]

    def _payload(self, frame: RawFrame) -> list[int]:
        """Where in `raw` the bytes of each event are: its begin, and the next one's."""
        ends_in_bytes = self._ends_in_bytes
        try:
            lengths = [
                row[-1] if ends_in_bytes[kind] else 0
                for kind, row in zip(frame.kinds, frame.details, strict=True)
            ]
            starts = list(accumulate(lengths, initial=frame.payload))
            if min(lengths) < 0 or starts[-1] != len(frame.raw):  # type: ignore[operator]
                raise ValueError("payload of another length")
        except (IndexError, TypeError, ValueError):
            # Which one it is.
            self._events(frame)
            raise AssertionError("judged otherwise a second time") from None
        return starts  # type: ignore[return-value]

    def judge(self, number: int, kind: int, detail: Sequence[object]) -> None:
        """TraceFileError where these cannot be the details of the event `number`, of a kind by its number here."""
        types = (kind, *map(type, detail))
        if types not in self._good:
            self._judge_types(number, types)

    def _details(
        self, first: int, kinds: Sequence[int], rows: Sequence[tuple[int | str, ...]], raw: bytes, at: int
    ) -> list[Detail]:
        """Each event's detail, of its kind's shape, with its bytes, which begin at `at` of `raw`."""
        good = self._good
        ends_in_bytes = self._ends_in_bytes
        out: list[Detail] = []
        for kind, row in zip(kinds, rows, strict=True):
            types = (kind, *map(type, row))
            if types not in good:
                self._judge_types(first + len(out), types)
            if ends_in_bytes[kind]:
                *others, length = row
                end = at + length  # type: ignore[operator]
                if not at <= end <= len(raw):
                    self._wrong(f"event {first + len(out)} is damaged: {length} bytes of payload")
                out.append((*others, raw[at:end]))
                at = end
            else:
                out.append(row)
        if at != len(raw):
            self._wrong(
                f"events {first} to {first + len(out) - 1} are damaged: {len(raw) - at} bytes left over"
            )
        return out

    def _judge_types(self, number: int, types: tuple[object, ...]) -> None:
        """Whether details of these types (behind the kind's number) are of the kind's shape; remembers good ones."""
        at, *given = types
        kind = self.kinds[at]  # type: ignore[call-overload]
        if not _STORED[kind].fits(given):  # type: ignore[arg-type]
            self._wrong(f"event {number} is damaged: {kind.name} with other details than ({SHAPES[kind]})")
        if len(self._good) < _SHAPES_KEPT:
            self._good.add(types)

    # --- events

    def read_from(self, number: int) -> Iterator[TraceEvent]:
        """The events from `number` on."""
        for frame in self.frames(number):
            yield from frame[max(0, number - frame[0].number) :]

    def __iter__(self) -> Iterator[TraceEvent]:
        return chain.from_iterable(self.frames())

    def close(self) -> None:
        """Give the file up. Idempotent."""
        self._file.close()

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
