"""Which waiting requests become one: neighbours of one kind, in the order in which they came."""

from __future__ import annotations

from collections import deque

from devmodels.blockbackend.node import BlockLimits
from devmodels.blockbackend.request import Op, Request

_MERGED = frozenset({Op.READ, Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES})


def joins(last: Request, request: Request) -> bool:
    """Whether `request` begins where `last` ends and asks for the same in the same way."""
    return (
        request.offset == last.offset + last.length
        and request.op is last.op
        and request.flags == last.flags
        and request.op in _MERGED
    )


def take_run(first: Request, waiting: deque[Request], size: int, limits: BlockLimits) -> list[Request]:
    """`first` with those from the head of `waiting` (they are taken out) that one node request can serve as well.

    The whole stays within `limits` and within the disk's `size` bytes.  Order is kept: a run acts like its requests in
    turn.
    """
    run = [first]
    vectors = len(first.vectors)
    longest = limits.max_transfer or size
    while waiting and joins(run[-1], waiting[0]):
        request = waiting[0]
        end = request.offset + request.length
        vectors += len(request.vectors)
        if first.offset < 0 or first.length < 0 or request.length < 0 or end > size:
            break
        if end - first.offset > longest or vectors > limits.max_iov:
            break
        run.append(waiting.popleft())
    return run
