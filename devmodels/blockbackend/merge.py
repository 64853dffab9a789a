"""Which waiting requests become one: neighbours of one kind, in whatever order they came."""

from __future__ import annotations

from collections import deque
from operator import attrgetter

from devmodels.blockbackend.node import BlockLimits
from devmodels.blockbackend.request import HAS_UPDATE, Op, Request

_MERGED = frozenset({Op.READ, Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES})


_offset = attrgetter("offset")
_kind = attrgetter("op", "flags")


def bring_together(waiting: deque[Request]) -> bool:
    """Put neighbours of one kind next to each other, as far as nobody can see that.

    Nothing passes a flush or an erasure.  Between those all keep their order where one of them changes what another
    one touches.  False, with nothing changed, where no request begins where another one ends.
    """
    ends = {request.offset + request.length for request in waiting}
    ends.discard(0)  # A flush has no place.
    if ends.isdisjoint(map(_offset, waiting)):
        return False
    if _in_order(waiting):
        return True
    ordered: list[Request] = []
    group: list[Request] = []
    for request in waiting:
        if request.op in _MERGED:
            group.append(request)
            continue
        ordered += _by_place(group)
        ordered.append(request)
        group = []
    ordered += _by_place(group)
    waiting.clear()
    waiting.extend(ordered)
    return True


def _in_order(waiting: deque[Request]) -> bool:
    """Whether all are of one kind, and each begins behind the one before."""
    op, flags = waiting[0].op, waiting[0].flags
    if op not in _MERGED:
        return False
    end = 0
    for request in waiting:
        if request.offset < end or request.op is not op or request.flags is not flags:
            return False
        end = request.offset + request.length
    return True


def _by_place(group: list[Request]) -> list[Request]:
    """`group` by kind and offset; unchanged where the order matters."""
    by_place = sorted(group, key=_offset)
    touched = changed = 0
    for request in by_place:
        changes = request.op is not Op.READ
        if request.offset < changed or (changes and request.offset < touched):
            return group
        touched = max(touched, request.offset + request.length)
        if changes:
            changed = max(changed, request.offset + request.length)
    return sorted(by_place, key=_kind)


def joins(last: Request, request: Request) -> bool:
    """Whether `request` begins where `last` ends and asks for the same in the same way."""
    return (
        request.offset == last.offset + last.length
        and request.op is last.op
        and request.flags == last.flags
        and request.op in _MERGED
        and not HAS_UPDATE[request.flags]
    )


def take_run(first: Request, waiting: deque[Request], size: int, limits: BlockLimits) -> list[Request]:
    """`first` with those from the head of `waiting` (they are taken out) that one node request can serve as well.

    The whole stays within `limits` and within the disk's `size` bytes.  Order is kept: a run acts like its requests in
    turn.
    """
    run = [first]
    op, flags, start = first.op, first.flags, first.offset
    if start < 0 or first.length < 0 or op not in _MERGED or HAS_UPDATE[flags]:
        return run
    vectors, most = len(first.vectors), limits.max_iov
    end, last = start + first.length, min(size, start + (limits.max_transfer or size))
    while waiting:
        request = waiting[0]
        if request.offset != end or request.op is not op or request.flags != flags or request.length < 0:
            break
        end += request.length
        vectors += len(request.vectors)
        if end > last or vectors > most:
            break
        run.append(waiting.popleft())
    return run
