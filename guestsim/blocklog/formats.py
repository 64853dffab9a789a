"""The formats of logs: what each is called, how it is told from others, read and written."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from devmodels.trace import TraceEvent
from devmodels.tracefile import MAGIC, TraceFileError, TraceReader
from guestsim.blocklog.blkparse import LINE, read_blkparse, write_blkparse
from guestsim.blocklog.events import End, Event, Lines, LogError, Losses
from guestsim.blocklog.fio import HEADERS, read_fio, write_fio
from guestsim.blocklog.qemuio import read_qemu_io, write_qemu_io
from guestsim.blocklog.traces import read_trace

STDIO = Path("-")


@dataclass(frozen=True, slots=True)
class LogFormat:
    """A format: its `name`, whether it tells when requests ended, all times, and which requests failed."""

    name: str
    ends: bool
    timed: bool
    errors: bool
    read: Callable[[Lines, Losses], Iterator[Event]] | None = None
    write: Callable[..., Iterator[str]] | None = None
    suffixes: tuple[str, ...] = ()


def _fio(version: int) -> Callable[..., Iterator[str]]:
    def write(events: Iterable[Event], losses: Losses, *, ends: bool) -> Iterator[str]:  # noqa: ARG001
        return write_fio(events, losses, version)

    return write


TRACE = LogFormat("trace", True, True, True)
FIO_2 = LogFormat("fio2", False, False, False, read_fio, _fio(2))
FIO_3 = LogFormat("fio3", False, True, False, read_fio, _fio(3), (".iolog", ".fio"))
BLKPARSE = LogFormat("blkparse", True, True, True, read_blkparse, write_blkparse, (".blkparse", ".blktrace"))
QEMU_IO = LogFormat("qemu-io", True, False, False, read_qemu_io, write_qemu_io, (".qemu-io", ".qemuio"))
FORMATS = {each.name: each for each in (TRACE, FIO_2, FIO_3, BLKPARSE, QEMU_IO)}
WRITTEN = {each.name: each for each in FORMATS.values() if each.write is not None}

_LONGEST_LINE = 1 << 20
_QEMU_IO = re.compile(
    r"#|(read|readv|write|writev|aio_read|aio_write|aio_flush|discard|flush|sleep|[rwdf])( |$)"
)
_EXPECTED = "a trace, fio's iolog, blkparse's text or qemu-io's commands (--from names the format)"


class OpenLog:
    """A log that is being read: its `format`, its `events`, and in `losses` what reading has left out.

    `total` and `position()` say how far it is, in bytes, or in events of a trace; `total` is 0 where that isn't known.
    LogError where it is no log, or not of the format given; OSError where it can't be read.
    """

    def __init__(self, path: Path, given: LogFormat | None = None) -> None:
        self.name = "standard input" if path == STDIO else str(path)
        self.losses = Losses()
        self.total = 0
        self._done = 0
        self._resources = ExitStack()
        try:
            file = sys.stdin.buffer if path == STDIO else self._resources.enter_context(path.open("rb"))
            first = file.readline(_LONGEST_LINE)
            while first.isspace() and len(first) < _LONGEST_LINE and (more := file.readline(_LONGEST_LINE)):
                first += more
            self.format = given or self._told(first)
            if self.format is TRACE:
                self.events = self._trace(path)
            else:
                if path != STDIO:
                    self.total = path.stat().st_size
                assert self.format.read is not None
                self.events = self.format.read(self._lines(first, file), self.losses)
        except BaseException:
            self._resources.close()
            raise

    def _told(self, first: bytes) -> LogFormat:
        """The format that a file begins with."""
        text = first.decode(errors="backslashreplace").strip()
        if first == MAGIC:
            return TRACE
        if text in HEADERS:
            return FIO_2 if HEADERS[text] == 2 else FIO_3
        if LINE.fullmatch(first.decode(errors="backslashreplace").strip("\r\n")):
            return BLKPARSE
        if _QEMU_IO.match(text):
            return QEMU_IO
        raise LogError(f"{self.name}:1: expected {_EXPECTED}")

    def _lines(self, first: bytes, file: BinaryIO) -> Lines:
        def read() -> Iterator[str]:
            for line in chain(
                first.splitlines(keepends=True), iter(partial(file.readline, _LONGEST_LINE), b"")
            ):
                self._done += len(line)
                if len(line) == _LONGEST_LINE:
                    raise lines.error("a shorter line", lines.number + 1)
                yield line.decode(errors="backslashreplace")

        lines = Lines(read(), self.name)
        return lines

    def _trace(self, path: Path) -> Iterator[Event]:
        if path == STDIO:
            raise LogError(f"{self.name}: expected a trace in a file")
        try:
            reader = self._resources.enter_context(TraceReader(path))
            self.total = reader.count()
        except TraceFileError as error:
            raise LogError(str(error)) from None
        return read_trace(self._counted(reader), self.losses)

    def _counted(self, reader: TraceReader) -> Iterator[TraceEvent]:
        try:
            for event in reader:
                self._done += 1
                yield event
            if reader.cut:
                self.losses["rest of the trace, whose file is cut short"] += 1
        except TraceFileError as error:
            raise LogError(str(error)) from None

    def position(self) -> int:
        """How far it is."""
        return self._done

    def of_one_disk(self, only: str | None) -> Iterator[Event]:
        """The events of one disk, the first that there is where none is named; those of others are lost.

        LogError, at the end, where there was nothing of that disk.
        """
        others: set[int] = set()
        disks: dict[str, None] = {}
        for event in self.events:
            if isinstance(event, End):
                if event.number in others:
                    others.discard(event.number)
                    continue
            else:
                disks[event.disk] = None
                only = event.disk if only is None else only
                if event.disk != only:
                    self.losses[f"request of {event.disk}, and this is of {only} (--only chooses)"] += 1
                    others.add(event.number)
                    continue
            yield event
        if only is not None and only not in disks:
            raise LogError(
                f"{self.name}: expected requests of {only}, found are those of {', '.join(disks) or 'none'}"
            )

    def close(self) -> None:
        """Give the file up. Idempotent."""
        self._resources.close()

    def __enter__(self) -> OpenLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
