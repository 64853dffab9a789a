"""Which requests of one batch become one: neighbours of one kind, in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterator

from devmodels.blockbackend.node import BlockLimits
from devmodels.blockbackend.request import Op, Request

_MERGED = frozenset({Op.READ, Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES})


def merged_runs(requests: list[Request], size: int, limits: BlockLimits) -> Iterator[list[Request]]:
    """Split `requests` into runs that one node request can serve.

    A request joins the one before it where it begins at that one's end, is of the same kind and flags, and the whole
    stays within `limits` and the disk's `size` bytes.  Order is kept, so that a batch acts like its requests in turn.
    """
    run = [requests[0]]
    for request in requests[1:]:
        if _joins(run, request, size, limits):
            run.append(request)
        else:
            yield run
            run = [request]
    yield run


def _joins(run: list[Request], request: Request, size: int, limits: BlockLimits) -> bool:
    last = run[-1]
    if request.offset != last.offset + last.length or request.op is not last.op:
        return False
    if request.flags != last.flags or request.op not in _MERGED or run[0].offset < 0:
        return False
    end = request.offset + request.length
    if request.length < 0 or end > size:
        return False
    if limits.max_transfer and end - run[0].offset > limits.max_transfer:
        return False
    return sum(len(each.vectors) for each in run) + len(request.vectors) <= limits.max_iov
