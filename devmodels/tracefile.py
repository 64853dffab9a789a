"""Traces in files: events framed, numbered, versioned and compressed.

    MAGIC, length of the header, CRC-32 of it, the header as JSON; then frames:
    FRAME_MAGIC, first event's number, how many, raw and compressed length, CRC-32 of what follows; zstd

A frame holds msgpack: a list of events, each [ns since the one before (for the first: the time itself), source, kind's
place in the header's `kinds`, details …].  Whatever ends the writer, the file is readable to its last whole frame.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import zstandard

from devmodels.trace import EventKind, TraceEvent

MAGIC = b"devmodels-trace\n"
VERSION = 1
FRAME_MAGIC = b"FRAM"

_HEAD = struct.Struct("<II")
"""Length and CRC-32 of the header."""
_FRAME = struct.Struct("<4sQIIII")
FRAME_EVENTS = 4096
FRAME_BYTES = 1 << 20
"""A frame is ended after so many events, or bytes of payload."""
FRAME_NS = 1_000_000_000
"""Or after so long."""
MAX_FRAME = 1 << 30
_EVENT_BYTES = 24
"""About what an event takes beside its payload."""


Row = tuple[Any, ...]
"""An event as a frame has it: ns since the one before (for a frame's first: the time itself), source, kind's place in
`TraceReader.kinds`, details."""
_decode_rows = msgspec.msgpack.Decoder(list[Row]).decode


class TraceFileError(ValueError):
    """The file is no trace, or is damaged; the text is one line."""


class DiskFacts(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """What a device sees of its disk: `size` in bytes, limits in bytes and pieces (0: none)."""

    node_name: str
    size: int
    read_only: bool = False
    can_unmap: bool = False
    write_cache: bool = True
    max_transfer: int = 0
    max_iov: int = 1024


class DeviceFacts(msgspec.Struct, frozen=True, rename="kebab"):
    """One device of a trace, as its DEVICE event has it in JSON: its options and its disk when it was made.

    `kind` is `device` (a machine's, as `-device` has it) or `export` (as `--export` has it); `name` is its source in
    the trace.
    """

    name: str
    kind: str
    options: dict[str, object]
    disk: DiskFacts


class TraceHeader(msgspec.Struct, frozen=True, rename="kebab"):
    """What is true of a whole trace: who made it, whether devices report everything (`strict`), how they reach memory
    (`shared` or `bounced`)."""

    version: int
    program: str
    kinds: list[str]
    strict: bool = True
    memory: str = "shared"


class TraceWriter:
    """A sink for a `Tracer` that writes `path`; OSError where that cannot be.  `limit` is the most bytes it may have.

    At the limit it stops, on a whole frame: `full` is true then.
    """

    def __init__(self, path: Path, header: TraceHeader, *, limit: int | None = None) -> None:
        self.full = False
        self.events = 0
        self.nbytes = 0
        self._limit = limit
        self._file: BinaryIO = path.open("wb")
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._kinds = {kind: number for number, kind in enumerate(EventKind)}
        self._pending: list[tuple[object, ...]] = []
        self._weight = 0
        self._first_ns = self._last_ns = 0
        text = msgspec.json.encode(header)
        self._write(MAGIC + _HEAD.pack(len(text), zlib.crc32(text)) + text)

    def __call__(self, event: TraceEvent) -> None:
        """Take one event."""
        if self.full:
            return
        time_ns = event.time_ns
        if not self._pending:
            self._first_ns = time_ns
            self._last_ns = 0
        self._pending.append((time_ns - self._last_ns, event.source, self._kinds[event.kind], *event.detail))
        self._last_ns = time_ns
        last = event.detail[-1] if event.detail else 0
        self._weight += _EVENT_BYTES + (len(last) if isinstance(last, bytes) else 0)
        if (
            len(self._pending) >= FRAME_EVENTS
            or self._weight >= FRAME_BYTES
            or time_ns - self._first_ns >= FRAME_NS
        ):
            self.flush()

    def flush(self) -> None:
        """End the frame: what came so far is in the file."""
        if not self._pending:
            return
        count = len(self._pending)
        raw = msgspec.msgpack.encode(self._pending)
        self._pending = []
        self._weight = 0
        data = self._compressor.compress(raw)
        frame = _FRAME.pack(FRAME_MAGIC, self.events, count, len(raw), len(data), zlib.crc32(data)) + data
        if self._limit is not None and self.nbytes + len(frame) > self._limit:
            self.full = True
            return
        self._write(frame)
        self.events += count

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self.nbytes += len(data)

    def close(self) -> None:
        """Write what is left. Idempotent."""
        if not self._file.closed:
            self.flush()
            self._file.close()


class TraceReader:
    """A trace in a file; TraceFileError where it is none.  Iterating gives its events, a frame in memory at a time.

    `cut` is true, once that is known, where the file does not end with a whole frame.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut = False
        self._file: BinaryIO = path.open("rb")
        self._decompressor = zstandard.ZstdDecompressor()
        try:
            self.header = self._read_header()
            self._kinds = [EventKind(name) for name in self.header.kinds]
        except BaseException as error:
            self.close()
            if not isinstance(error, ValueError) or isinstance(error, TraceFileError):
                raise
            raise TraceFileError(f"{path}: of a newer program: {error}") from None
        self._start = self._file.tell()

    def _read_header(self) -> TraceHeader:
        head = self._file.read(len(MAGIC) + _HEAD.size)
        if len(head) < len(MAGIC) + _HEAD.size or not head.startswith(MAGIC):
            raise TraceFileError(
                f"{self.path}: not a trace, expected {MAGIC.decode().strip()!r} at its beginning"
            )
        length, crc = _HEAD.unpack_from(head, len(MAGIC))
        text = self._file.read(length)
        if len(text) != length or zlib.crc32(text) != crc:
            raise TraceFileError(f"{self.path}: the header is damaged")
        version = json.loads(text).get("version")
        if version != VERSION:
            raise TraceFileError(f"{self.path}: trace version {version}, expected {VERSION}")
        try:
            return msgspec.json.decode(text, type=TraceHeader)
        except msgspec.DecodeError as error:
            raise TraceFileError(f"{self.path}: header: {error}") from None

    def count(self) -> int:
        """How many events there are; reads the frames' heads only."""
        self._file.seek(self._start)
        total = 0
        while (head := self._frame_head()) is not None:
            _, count, _, length, _ = head
            total += count
            self._file.seek(length, 1)
        return total

    def _frame_head(self) -> tuple[int, int, int, int, int] | None:
        """First number, count, raw length, compressed length, CRC of the frame here; None at the end."""
        data = self._file.read(_FRAME.size)
        if not data:
            return None
        if len(data) < _FRAME.size:
            self.cut = True
            return None
        magic, first, count, raw, length, crc = _FRAME.unpack(data)
        if magic != FRAME_MAGIC or raw > MAX_FRAME or length > MAX_FRAME:
            raise TraceFileError(f"{self.path}: no frame at byte {self._file.tell() - _FRAME.size}")
        return first, count, raw, length, crc

    @property
    def kinds(self) -> list[EventKind]:
        """What the numbers in `frames` stand for."""
        return self._kinds

    def frames(self) -> Iterator[tuple[int, list[Row]]]:
        """For whoever needs no more than what is in the file: each frame, with its first event's number."""
        self._file.seek(self._start)
        while (head := self._frame_head()) is not None:
            number, count, raw_length, length, crc = head
            data = self._file.read(length)
            if len(data) < length:
                self.cut = True
                return
            if zlib.crc32(data) != crc:
                raise TraceFileError(f"{self.path}: events from {number} on are damaged")
            raw = self._decompressor.decompress(data, max_output_size=raw_length)
            rows = _decode_rows(raw)
            if len(rows) != count:
                raise TraceFileError(f"{self.path}: {len(rows)} events from {number} on, expected {count}")
            yield number, rows

    def __iter__(self) -> Iterator[TraceEvent]:
        kinds = self._kinds
        for first, rows in self.frames():
            time_ns = 0
            for number, (step, source, kind, *detail) in enumerate(rows, first):
                time_ns += step
                yield TraceEvent(number, time_ns, source, kinds[kind], tuple(detail))

    def close(self) -> None:
        """Give the file up. Idempotent."""
        self._file.close()

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
