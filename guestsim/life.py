"""The life of one request in a trace: its buffer, its bytes, its way through the nodes, and when each station was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from devmodels.virtio_blk.layout import REQUEST_HEADER
from guestsim.forms import BLK, Form

_HEADER = REQUEST_HEADER.layout


class At(NamedTuple):
    """A moment in a trace: the number of an event, and its time in ns."""

    number: int
    time_ns: int


class Piece:
    """A piece of a buffer: guest `address`, `length` in bytes, and what the device has read or written there.

    `length` is what a guest says, up to 32 bits: bytes are kept where the device has touched them only.
    """

    __slots__ = ("_runs", "address", "known", "length")

    def __init__(self, address: int, length: int) -> None:
        self.address = address
        self.length = length
        self.known = 0
        """How many bytes the device has touched, those of repeated accesses counted again."""
        self._runs: list[tuple[int, bytes]] = []

    @property
    def data(self) -> bytes:
        """All of its bytes; what the device has not touched is zero."""
        return self.cut(0, self.length)

    def cut(self, start: int, end: int) -> bytes:
        """Its bytes from `start` to `end`, both within it; what the device has not touched is zero."""
        if len(self._runs) == 1:
            ((at, run),) = self._runs
            if at <= start and end <= at + len(run):
                return run[start - at : end - at]
        data = bytearray(end - start)
        for at, run in self._runs:
            first, last = max(at, start), min(at + len(run), end)
            if first < last:
                data[first - start : last - start] = run[first - at : last - at]
        return bytes(data)

    def note(self, address: int, data: bytes) -> None:
        """The device has touched `data` at `address`, which begins in this piece."""
        at = address - self.address
        data = data[: self.length - at]
        if len(data) == self.length:
            self._runs.clear()
        self._runs.append((at, data))
        self.known += len(data)


@dataclass(slots=True, eq=False)
class Step:
    """What one node of the graph did for a request of the disk.

    `parent` is the number of the step above, which wanted it, or None.  `ended` and `errno` are None until it is over.
    """

    number: int
    parent: int | None
    node: str
    driver: str
    op: str
    offset: int
    length: int
    flags: int
    began: At
    ended: At | None = None
    errno: int | None = None


@dataclass(slots=True, eq=False)
class Part:
    """A block request that was submitted for a buffer: mostly one, several for a discard of several segments.

    `disk` is the device whose disk it is for: that of the buffer, or a unit on its bus.
    `life` is that of the buffer, None where it was not seen.  `served_with` are the parts of all buffers that one
    request of the disk served (this one included), and `steps` its way through the nodes, in the order in which they
    began.  `errno` is None until it is over; `done_errno` is what the disk itself said last, which an error policy
    may have ignored or tried again.
    """

    disk: str
    number: int
    op: str
    offset: int
    length: int
    submitted: At
    life: Life | None = None
    dispatch: int | None = None
    dispatched: At | None = None
    done: At | None = None
    completed: At | None = None
    errno: int | None = None
    done_errno: int | None = None
    served_with: list[Part] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Life:
    """One buffer of a virtqueue, from the moment that the device takes it.

    `number` counts the buffers of a trace; `session` the drivers of a device, by their FEATURES, from 1.  `kicked` is
    the last notification of the queue before; `notified` and `interrupt` are filled in when they come, after `used`.
    `used` stays None where the buffer was never given back: a reset dropped it, or the trace ends.
    """

    number: int
    device: str
    queue: int
    head: int
    session: int
    features: int
    taken: At
    readable: list[Piece]
    writable: list[Piece]
    form: Form = BLK
    """What lies where in it."""
    kicked: At | None = None
    parts: list[Part] = field(default_factory=list)
    used: At | None = None
    written: int = 0
    notified: At | None = None
    interrupt: At | None = None
    violations: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    """(clause, place, what happened, bytes) of what was wrong with it."""
    events: list[int] = field(default_factory=list)
    """The numbers of the events that belong to it, in order."""

    @property
    def sent(self) -> bytes:
        """The device-readable bytes; what the device has not read is zero."""
        return b"".join(piece.data for piece in self.readable)

    @property
    def answer(self) -> bytes:
        """The device-writable bytes; what the device has not written is zero."""
        return b"".join(piece.data for piece in self.writable)

    @property
    def header(self) -> tuple[int, int, int] | None:
        """`type`, `ioprio` and `sector` of a virtio-blk request (VIRTIO 1.4 §5.2.6); None where it was not read, or is
        another device's."""
        sent = self.opening if self.form is BLK else b""
        if len(sent) < _HEADER.size:
            return None
        kind, ioprio, sector = _HEADER.unpack_from(sent)
        return kind, ioprio, sector

    @property
    def opening(self) -> bytes:
        """What says what it is about (`Form.head_size`), as far as the device has read it."""
        size = self.form.head_size
        sent = b""
        for piece in self.readable:
            if not piece.known or len(sent) >= size:
                break
            sent += piece.cut(0, min(piece.length, size - len(sent)))
        return sent

    @property
    def status(self) -> int | None:
        """What came of it: a virtio-blk status, or a number as of `guestsim.forms`; None where the device has not
        written any."""
        if self.used is None:
            return None
        return self.form.status(
            self.opening, sum([piece.length for piece in self.writable]), self.written_part
        )

    def written_part(self, start: int, end: int) -> bytes | None:
        """The device-writable bytes from `start` to `end`; None where the device has not written some of them."""
        data = b""
        at = 0
        for piece in self.writable:
            first, last = max(start - at, 0), min(end - at, piece.length)
            if first < last:
                if not piece.known:
                    return None
                data += piece.cut(first, last)
            at += piece.length
            if at >= end:
                break
        return data
