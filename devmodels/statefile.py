"""What a disk keeps over a loss of power: one small file of JSON, replaced as a whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Generic, TypeVar

import msgspec

from devmodels.iocontext import IoContext, Lock
from devmodels.trace import EventKind, Tracer

VERSION = 1


class StateFileError(ValueError):
    """The file holds something else; one line."""


class Saved(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", frozen=True):
    """What is in such a file, at least."""

    version: int = VERSION


S = TypeVar("S", bound=Saved)


class SavedFile(Generic[S]):
    """The file at `path`, read now and written by a worker.  OSError where it is there and cannot be read.

    `KIND` is what is in it, `WHOSE` is whose state that is.
    """

    KIND: ClassVar[type[Saved]] = Saved
    WHOSE: ClassVar[str] = "anybody"
    state: S

    def __init__(self, context: IoContext, path: str) -> None:
        self._context = context
        self._path = path
        self._lock = Lock(context)
        self._trace: Tracer | None = None
        self._source = ""
        self.state = self._load()  # type: ignore[assignment]

    def observe(self, trace: Tracer | None, source: str) -> None:
        """Tell `trace`, as of `source`, what comes of saving; None: no more."""
        self._trace = trace
        self._source = source

    def _load(self) -> Saved:
        data = self.read_file()
        if data is None:
            return self.KIND()
        try:
            state = msgspec.json.decode(data, type=self.KIND)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateFileError(f"{self._path}: not the saved state of {self.WHOSE}: {error}") from None
        if state.version != VERSION:
            raise StateFileError(f"{self._path}: version {state.version}, expected {VERSION}")
        return state

    def read_file(self) -> bytes | None:
        """What is in the file; None where it is not there."""
        try:
            with open(self._path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    @contextmanager
    def read(self) -> Iterator[S]:
        """What was saved, for whoever takes it; a ValueError of theirs becomes a StateFileError."""
        try:
            yield self.state
        except ValueError as error:
            raise StateFileError(f"{self._path}: {error}") from None

    async def keep(self, **changes: object) -> None:
        """Return when `state` with `changes` is on stable storage; OSError where that cannot be, and then it is as it
        was before."""
        async with self._lock:
            state = msgspec.structs.replace(self.state, **changes)
            try:
                await self.write_file(msgspec.json.format(msgspec.json.encode(state)))
            except OSError as error:
                self._saved(error.errno or errno.EIO)
                raise
            self.state = state
            self._saved(0)

    def _saved(self, error: int) -> None:
        if self._trace is not None:
            self._trace.emit(self._source, EventKind.SAVED, error)

    async def write_file(self, data: bytes) -> None:
        """Put `data` on stable storage; OSError where that cannot be."""
        await self._context.worker(lambda: self._write(data))

    def _write(self, data: bytes) -> None:
        """Replace the file: whoever reads finds the old or the new, whole."""
        temporary = self._path + ".new"
        with open(temporary, "wb") as file:
            file.write(data + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)
        directory = os.open(os.path.dirname(self._path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
