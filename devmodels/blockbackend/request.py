"""The one kind of request that every device submits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from devmodels.blockbackend.status import BlockStatus


Read = tuple[int, Sequence[memoryview], int]
"""What is read without a request: offset, vectors, and their length together, in bytes."""

ReadNow = Callable[[Sequence[Read]], int]
"""Does the first of some reads at once; says how many (`BlockNode.read_now`)."""

WriteNow = Callable[[int, Sequence[memoryview], int], bool]
"""Does one write at once, given as a `Read` is; False where it could not (`BlockNode.write_now`)."""


class Op(IntEnum):
    """What is asked for."""

    READ = 0
    WRITE = 1
    FLUSH = 2
    DISCARD = 3
    WRITE_ZEROES = 4
    SECURE_ERASE = 5
    BLOCK_STATUS = 6
    PASSTHROUGH = 7


OP_NAMES = tuple(op.name for op in Op)
"""What they are called, by number: an index costs a tenth of an enumeration's `name`."""


class Flags(IntFlag):
    """How it is asked for.

    `FUA`: complete only when the data is on stable storage.  `MAY_UNMAP`: zeroes may be written by freeing space.
    `NO_FALLBACK`: zeroes are not written out as data; ENOTSUP where the node has no quicker way.
    `SERIALISING`: nothing else touches the range meanwhile (for users whose edge is told to `serialise`).  `UPDATE`: a
    write whose data follows from what is there (`UpdateRequest`, which is serialising).
    """

    NONE = 0
    FUA = 1
    MAY_UNMAP = 2
    NO_FALLBACK = 4
    SERIALISING = 8
    UPDATE = 16


_ALL = [Flags(n) for n in range(32)]

HAS_FUA = tuple(bool(flags & Flags.FUA) for flags in _ALL)
"""Whether `FUA` is set, by flags: an index costs a twentieth of an enumeration's `&`."""

HAS_MAY_UNMAP = tuple(bool(flags & Flags.MAY_UNMAP) for flags in _ALL)
"""Whether `MAY_UNMAP` is set, by flags."""

HAS_NO_FALLBACK = tuple(bool(flags & Flags.NO_FALLBACK) for flags in _ALL)
"""Whether `NO_FALLBACK` is set, by flags."""

HAS_SERIALISING = tuple(bool(flags & Flags.SERIALISING) for flags in _ALL)
"""Whether `SERIALISING` is set, by flags."""

HAS_UPDATE = tuple(bool(flags & Flags.UPDATE) for flags in _ALL)
"""Whether `UPDATE` is set, by flags."""

WITH_FUA = tuple(flags | Flags.FUA for flags in _ALL)
"""The same flags with `FUA`, by flags."""

WITHOUT_MAY_UNMAP = tuple(flags & ~Flags.MAY_UNMAP for flags in _ALL)
"""The same flags without `MAY_UNMAP`, by flags."""


class Origin(msgspec.Struct, frozen=True):
    """Where a request came from: a device, a queue's number there, and what the queue calls it (a ring's head)."""

    device: str
    queue: int
    tag: int


class Request:
    """One request to a block node.

    `offset` and `length` are in bytes.  `vectors` are the payload's memoryviews (of bytes), together `length` bytes
    long: filled by a read, read by a write, empty otherwise.  When it is over, `error` holds 0 or a positive errno and
    `done(request)` is called once, perhaps before `submit` returns.  `label` is free text for tests and filters.
    `started_ns` is the context's clock at `submit`.  `status` is there when a BLOCK_STATUS has succeeded.
    """

    __slots__ = (
        "done",
        "error",
        "flags",
        "label",
        "length",
        "offset",
        "op",
        "started_ns",
        "status",
        "vectors",
    )

    status: BlockStatus

    POLICY = True
    """Whether a backend's error policy decides about its errors; else they are for whoever asks."""

    def __init__(
        self,
        op: Op,
        offset: int,
        length: int,
        vectors: Sequence[memoryview] = (),
        flags: Flags = Flags.NONE,
        done: Callable[[Request], None] | None = None,
        label: str = "",
    ) -> None:
        self.op = op
        self.offset = offset
        self.length = length
        self.vectors = vectors
        self.flags = flags
        self.done = done
        self.label = label
        self.error = 0
        self.started_ns = 0

    def derive(
        self,
        offset: int,
        length: int,
        vectors: Sequence[memoryview] = (),
        *,
        op: Op | None = None,
        flags: Flags | None = None,
    ) -> DerivedRequest:
        """A request for another range (or with another operation or flags) on this one's behalf; nobody is told
        when it is done."""
        request = DerivedRequest(
            self.op if op is None else op,
            offset,
            length,
            vectors,
            self.flags if flags is None else flags,
            None,
            self.label,
        )
        request.behalf = (self,)
        return request

    @property
    def origin(self) -> Origin | None:
        """Where it came from, as far as its maker says: a device's requests know."""
        return None

    @property
    def buffer(self) -> tuple[int, int] | None:
        """Queue and head of the buffer of a virtqueue that it is for; (-1, -1) where a device makes it of its own
        accord, None where no device does."""
        origin = self.origin
        return None if origin is None else (origin.queue, origin.tag)

    def roots(self) -> Iterator[Request]:
        """The requests, as they were submitted, on whose behalf this one is: itself, if on nobody else's."""
        yield self

    def __repr__(self) -> str:
        label = f" {self.label!r}" if self.label else ""
        flags = f" {self.flags.name}" if self.flags else ""
        return f"<{self.op.name} {self.length}@{self.offset:#x}{flags}{label}>"


WriteEnded = Callable[[Request, BaseException | None], None]
"""Told once, in the context, that the write of a request is over: None, or what was wrong with it."""

BeginWrite = Callable[[int, Sequence[memoryview], int, Request, WriteEnded], bool]
"""Begins one write, given as a `Read` is; False where it has not (`BlockNode.begin_write`)."""


class UpdateRequest(Request):
    """A write whose data follows from what is there, which nobody changes in between.

    `change(at, old)` is given what is at `at`, counted from `offset`, and says what to write there: as many bytes, or
    None for nothing, after which nothing more is asked.  A range of up to `UPDATE_PIECE` bytes is given as a whole,
    a longer one piece by piece, of which those before have been written already.  `observer` is told of each answer.
    """

    __slots__ = ("change", "observer")

    def __init__(
        self,
        offset: int,
        length: int,
        change: Callable[[int, bytearray], bytes | bytearray | None],
        flags: Flags = Flags.NONE,
        done: Callable[[Request], None] | None = None,
    ) -> None:
        super().__init__(Op.WRITE, offset, length, (), flags | Flags.SERIALISING | Flags.UPDATE, done)
        self.change = change
        self.observer: Callable[[int, bytes, bytes | bytearray | None], None] | None = None

    def answer(self, at: int, old: bytearray) -> bytes | bytearray | None:
        """What to write at `at`, where `old` is."""
        if self.observer is None:
            return self.change(at, old)
        found = bytes(old)
        new = self.change(at, old)
        self.observer(at, found, new)
        return new


UPDATE_PIECE = 1 << 20
"""How much of its range an `UpdateRequest` is asked about at once, in bytes."""


class DerivedRequest(Request):
    """A request `behalf` of others, which it serves wholly or in part."""

    __slots__ = ("behalf",)

    behalf: Sequence[Request]

    @property
    def origin(self) -> Origin | None:
        """That of the first of them."""
        return self.behalf[0].origin

    def roots(self) -> Iterator[Request]:
        """Theirs."""
        for request in self.behalf:
            yield from request.roots()
