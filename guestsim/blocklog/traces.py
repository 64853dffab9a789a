"""A trace of devices (`devmodels.tracefile`) as a log: what their guests asked for, by the lives of their buffers.

A request begins where the device takes its buffer, and ends where it gives it back.
"""

from __future__ import annotations

import errno
import heapq
from collections.abc import Iterable, Iterator, Sequence

from devmodels.blockbackend.request import Flags, Op
from devmodels.trace import TraceEvent
from devmodels.virtio_blk.layout import (
    RANGE_FLAG_UNMAP,
    RANGE_SEGMENT,
    REQUEST_HEADER,
    SECTOR,
    BlkStatus,
    BlkType,
)
from guestsim.blocklog.events import Begin, End, Event, Losses
from guestsim.forms import BLK
from guestsim.life import Life, Part, Piece
from guestsim.story import lives

_HEADER = REQUEST_HEADER.layout.size
_SEGMENT = RANGE_SEGMENT.layout

_RANGES = {
    BlkType.VIRTIO_BLK_T_DISCARD: Op.DISCARD,
    BlkType.VIRTIO_BLK_T_WRITE_ZEROES: Op.WRITE_ZEROES,
    BlkType.VIRTIO_BLK_T_SECURE_ERASE: Op.SECURE_ERASE,
}
_ERRORS: dict[int, int] = {
    BlkStatus.VIRTIO_BLK_S_OK: 0,
    BlkStatus.VIRTIO_BLK_S_IOERR: errno.EIO,
    BlkStatus.VIRTIO_BLK_S_UNSUPP: errno.ENOTSUP,
}

_OPS = {op.name: op for op in (Op.READ, Op.WRITE, Op.FLUSH, Op.DISCARD, Op.WRITE_ZEROES, Op.SECURE_ERASE)}

MOST_HELD = 1 << 16
"""A buffer that is not given back while so many later ones are is not waited for: none of them would come out."""


def read_trace(events: Iterable[TraceEvent], losses: Losses) -> Iterator[Event]:
    """The requests in a trace, with what they wrote and read."""
    return _Reader(losses).events(lives(events))


class _Reader:
    """Puts lives, which come as they end, into the order of what happened in them."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._held: dict[int, Life] = {}
        self._next = 0
        self._number = 0
        self._events: list[tuple[int, int, Event]] = []
        """Place in the trace, place here, event: a heap."""
        self._pushed = 0

    def events(self, found: Iterable[Life]) -> Iterator[Event]:
        for life in found:
            self._held[life.number] = life
            if len(self._held) > MOST_HELD:
                self._next = min(self._held)
            taken = None
            while (following := self._held.pop(self._next, None)) is not None:
                self._next += 1
                self._tell(following)
                taken = following.taken.number
            if taken is not None:
                # Whatever else comes was taken later.
                yield from self._before(taken + 1)
        for number in sorted(self._held):
            self._tell(self._held[number])
        yield from self._before(None)

    def _before(self, place: int | None) -> Iterator[Event]:
        events = self._events
        while events and (place is None or events[0][0] < place):
            yield heapq.heappop(events)[2]

    def _push(self, place: int, event: Event) -> None:
        heapq.heappush(self._events, (place, self._pushed, event))
        self._pushed += 1

    def _tell(self, life: Life) -> None:
        """The requests of one buffer."""
        if life.form is not BLK:
            self._tell_parts(life)
            return
        for begin in self._requests(life):
            self._push(life.taken.number, begin)
            status = life.status
            if life.used is None:
                self._losses["request that was never answered"] += 1
            else:
                error = _ERRORS.get(status, errno.EIO) if status is not None else errno.EIO
                data = None
                if begin.op is Op.READ and not error:
                    data = _known(life.writable, 0, begin.length)
                self._push(life.used.number, End(begin.number, life.used.time_ns, error, data))

    def _tell_parts(self, life: Life) -> None:
        """What a SCSI host was asked comes as what its units asked of their disks."""
        for part in life.parts:
            op = _OPS.get(part.op)
            if op is None:
                self._losses[f"{part.op}: neither reads nor writes the disk"] += 1
                continue
            begin = self._begin(life, op, part.offset, part.length, part=part)
            self._push(part.submitted.number, begin)
            if part.completed is None or part.errno is None:
                self._losses["request that was never answered"] += 1
            else:
                self._push(part.completed.number, End(begin.number, part.completed.time_ns, part.errno, None))

    def _requests(self, life: Life) -> Iterator[Begin]:
        header = life.header
        if header is None:
            self._losses["buffer whose header was not read"] += 1
            return
        kind, _, sector = header
        if kind == BlkType.VIRTIO_BLK_T_IN:
            length = sum(piece.length for piece in life.writable) - 1
            yield self._begin(life, Op.READ, sector * SECTOR, max(0, length))
        elif kind == BlkType.VIRTIO_BLK_T_OUT:
            length = sum(piece.length for piece in life.readable) - _HEADER
            data = _known(life.readable, _HEADER, length)
            yield self._begin(life, Op.WRITE, sector * SECTOR, length, data=data)
        elif kind == BlkType.VIRTIO_BLK_T_FLUSH:
            yield self._begin(life, Op.FLUSH, 0, 0)
        elif kind in _RANGES:
            yield from self._ranges(life, _RANGES[BlkType(kind)])
        else:
            name = (
                BlkType(kind).name.removeprefix("VIRTIO_BLK_T_") if kind in set(BlkType) else f"type {kind}"
            )
            self._losses[f"{name}: neither reads nor writes the disk"] += 1

    def _ranges(self, life: Life, op: Op) -> Iterator[Begin]:
        length = sum(piece.length for piece in life.readable) - _HEADER
        data = _known(life.readable, _HEADER, length)
        if data is None or length % _SEGMENT.size:
            self._losses[f"{op.name} whose ranges were not read"] += 1
            return
        for sector, count, flags in _SEGMENT.iter_unpack(data):
            unmap = flags & RANGE_FLAG_UNMAP and op is Op.WRITE_ZEROES
            wanted = Flags.MAY_UNMAP if unmap else Flags.NONE
            yield self._begin(life, op, sector * SECTOR, count * SECTOR, flags=wanted)

    def _begin(
        self,
        life: Life,
        op: Op,
        offset: int,
        length: int,
        *,
        flags: Flags = Flags.NONE,
        data: bytes | None = None,
        part: Part | None = None,
    ) -> Begin:
        number = self._number
        self._number += 1
        at, disk = (life.taken, life.device) if part is None else (part.submitted, part.disk)
        return Begin(number, at.time_ns, op, offset, length, disk, flags, data, life.queue)


def _known(pieces: Sequence[Piece], start: int, length: int) -> bytes | None:
    """`length` bytes of `pieces` from `start` on; None where the device has not touched all of that."""
    if length < 0 or sum(piece.known for piece in pieces) < start + length:
        return None
    whole = b"".join(piece.data for piece in pieces if piece.known)
    return whole[start : start + length]
