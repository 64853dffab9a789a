"""What a range of a disk is: data, zeroes, or nothing of its own, and where that lies (`Op.BLOCK_STATUS`).

The words, and the numbers of the bits, are those of QEMU's block layer.  A driver says what it knows (`driver_status`
asks it, for an edge); `status_above` goes down a chain of overlays until somebody knows what a read would find.
"""

from __future__ import annotations

import errno
import struct
from enum import IntFlag
from typing import TYPE_CHECKING, NamedTuple

from devmodels.blockbackend.permissions import Role
from devmodels.blockbackend.request import Op, Request

if TYPE_CHECKING:
    from devmodels.blockbackend.edge import Edge
    from devmodels.blockbackend.node import BlockNode


class Status(IntFlag):
    """What is known of a range.

    `DATA`: something is stored there.  `ZERO`: it reads as zeroes.  `OFFSET_VALID`: it lies at `BlockStatus.offset` of
    `BlockStatus.node`, as it is.  `ALLOCATED`: the node that was asked has it itself, and not
    what is below an overlay; of a whole chain: one of its nodes has it.  `EOF`: the
    range ends where the disk does.  Neither `DATA` nor `ZERO`: it is found in the overlay's backing node; where there
    is none, reading finds anything.
    """

    NONE = 0
    DATA = 0x01
    ZERO = 0x02
    OFFSET_VALID = 0x04
    ALLOCATED = 0x10
    EOF = 0x20


STATUS_BYTES = struct.Struct("<QQ")
"""What a trace keeps of an answer: flags, and how many bytes."""


class BlockStatus(NamedTuple):
    """One answer: the first `pnum` bytes of what was asked for are `flags`.

    What follows may be the same.  `depth`: how many overlays above have nothing there.
    """

    flags: Status
    pnum: int
    offset: int = 0
    node: BlockNode | None = None
    depth: int = 0


def data(length: int) -> BlockStatus:
    """All `length` bytes are data, as far as is known."""
    return BlockStatus(Status.DATA, length)


def stored(node: BlockNode, flags: Status, offset: int, length: int) -> BlockStatus:
    """`length` bytes that are stored in `node` as they are, at `offset`."""
    return BlockStatus(flags | Status.OFFSET_VALID, length, offset, node)


async def driver_status(node: BlockNode, request: Request) -> BlockStatus:
    """What `node` says of the request's range, whole blocks asked for and the rest cut off again."""
    offset = request.offset
    length = min(request.length, node.size - offset)
    if length <= 0:
        return BlockStatus(Status.EOF, 0)
    align = node.limits.request_alignment
    start, end = offset // align * align, -(-(offset + length) // align) * align
    if end - start != length:
        request = request.derive(start, end - start)
    flags, pnum, where, owner, depth = await node.block_status(request)
    # A file may end within a block.
    pnum = min(-(-pnum // align) * align - (offset - start), length)
    if pnum <= 0:
        raise OSError(errno.EIO, f"{node.description} does not say what is at offset {offset}")
    flags &= ~Status.EOF
    if flags & (Status.DATA | Status.ZERO):
        flags |= Status.ALLOCATED
    elif (backing := backing_edge(node)) is not None and offset >= backing.node.size:
        flags |= Status.ZERO
    if offset + pnum == node.size:
        flags |= Status.EOF
    return BlockStatus(flags, pnum, where + (offset - start), owner, depth)


async def status_above(edge: Edge, request: Request) -> BlockStatus:
    """What a read of the range would find, and how deep below `edge` it lies; asks one overlay after the other."""
    status = await edge.block_status(request)
    end = request.offset + status.pnum if status.flags & Status.EOF else -1
    node, depth = unfiltered(edge.node), 0
    while status.pnum and not status.flags & (Status.DATA | Status.ZERO):
        below = backing_edge(node)
        if below is None:
            break
        depth += 1
        length = min(status.pnum, below.node.size - request.offset)
        status = await below.block_status(request.derive(request.offset, length, op=Op.BLOCK_STATUS))
        node = unfiltered(below.node)
    flags = status.flags & ~Status.EOF
    if request.offset + status.pnum == end:
        flags |= Status.EOF
    return status._replace(flags=flags, depth=depth)


def backing_edge(node: BlockNode) -> Edge | None:
    """The edge to what an overlay shows where it has nothing itself."""
    return _child(node, Role.COW)


def unfiltered(node: BlockNode) -> BlockNode:
    """`node`, or what is below where it is a filter."""
    while (edge := _child(node, Role.FILTERED)) is not None:
        node = edge.node
    return node


def _child(node: BlockNode, role: Role) -> Edge | None:
    return next((edge for edge in node.children.values() if role in edge.role), None)
