"""Requests that a device has submitted, as plain data: for a replay, which brings them back as they were.

(A snapshot of a machine does without: there they start anew, from the buffers they came in.)
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import msgspec

from devmodels.blockbackend.request import Flags, Op, Request
from devmodels.dma import Direction
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.scatter import skip
from devmodels.virtio_blk.device import VirtioBlk
from devmodels.virtio_blk.request import HEADER_SIZE, BlkRequest, RangePart, split_tail


class RequestState(msgspec.Struct, frozen=True):
    """A request by its buffer's `queue` and `head`; a `part` of it where it is one of several.

    `error` is the errno that parts which are over have left.
    """

    queue: int
    head: int
    op: int
    offset: int
    length: int
    flags: int
    part: bool
    error: int


def save_request(request: Request) -> RequestState:
    """What `restore_requests` makes it again of; AssertionError where no virtio-blk device has made it."""
    part = isinstance(request, RangePart)
    whole = request.whole if isinstance(request, RangePart) else request
    assert isinstance(whole, BlkRequest)
    what = int(request.op), request.offset, request.length, int(request.flags)
    return RequestState(whole.queue.index, whole.chain.head, *what, part, whole.error if part else 0)


class PutOff(msgspec.Struct, frozen=True):
    """A request that is over, of which nothing has been shown: the device did not master the bus."""

    request: RequestState
    status: int
    filled: bool
    reachable: bool


def save_put_off(device: VirtioBlk) -> list[PutOff]:
    """What `device` is still to show, in order."""
    saved = []
    for show in device.put_off:
        assert isinstance(show, partial)
        request, status = show.args
        saved.append(PutOff(save_request(request), status, **show.keywords))
    return saved


def restore_put_off(device: VirtioBlk, saved: Iterable[PutOff]) -> None:
    """The opposite; KeyError or IndexError where it is not of this device."""
    for each in saved:
        request = _whole(device.queues[each.request.queue], each.request)
        device.put_off.append(
            partial(device.finish, request, each.status, filled=each.filled, reachable=each.reachable)
        )


def restore_requests(device: VirtioBlk, states: Iterable[RequestState]) -> list[Request]:
    """The requests again, of buffers that the device's queues have in flight; nothing is submitted.

    KeyError, IndexError or ValueError where they are not of this device.
    """
    wholes: dict[tuple[int, int], BlkRequest] = {}
    made: list[Request] = []
    for state in states:
        key = state.queue, state.head
        whole = wholes.get(key)
        if whole is None:
            whole = wholes[key] = _whole(device.queues[state.queue], state)
        if not state.part:
            _map(device, whole, state)
            made.append(whole)
            continue
        part = RangePart(Op(state.op), state.offset, state.length, (), Flags(state.flags), device.part_done)
        part.whole = whole
        whole.parts += 1
        made.append(part)
    return made


def _whole(queue: VirtQueue, state: RequestState) -> BlkRequest:
    request = BlkRequest(Op(state.op), state.offset, state.length, (), Flags(state.flags))
    request.queue = queue
    request.chain = queue.in_flight[state.head]
    request.dma = request.header = None
    request.parts = 0
    request.error = state.error
    _, request.status_address = split_tail(request.chain.writable)
    return request


def _map(device: VirtioBlk, request: BlkRequest, state: RequestState) -> None:
    """Let a request that is no range have its payload."""
    request.done = device.io_done
    chain = request.chain
    if state.op == Op.READ:
        request.dma = device.memory.map(split_tail(chain.writable)[0], Direction.FROM_DEVICE)
    elif state.op == Op.WRITE:
        request.dma = device.memory.map(skip(chain.readable, HEADER_SIZE), Direction.TO_DEVICE)
    request.vectors = () if request.dma is None else request.dma.views
