"""What a block driver is to those above it: a node with a name, a size, limits and five kinds of request."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from devmodels.blockbackend.options import NodeOptions
from devmodels.blockbackend.ranges import RangeLock
from devmodels.blockbackend.request import Flags, Op, Request
from devmodels.blockbackend.vectors import is_zero
from devmodels.iocontext import IoContext, Lock

SECTOR = 512
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """What a node's requests must keep to; 0 means no limit.

    `request_alignment`: offset and length of reads, writes, zeroes and discards are multiples of it (bytes); the last
    block may reach beyond the node's size, where there are zeroes.  `max_transfer`: the longest read or write in
    bytes.  `max_iov`: the most vectors in one request.  `pdiscard_alignment`: space is freed in units of this many
    bytes (1: any).
    """

    request_alignment: int = 1
    max_transfer: int = 0
    max_iov: int = 1024
    pdiscard_alignment: int = 1


def unsupported(op: Op) -> OSError:
    """The error of a node that cannot do `op`."""
    return OSError(errno.ENOTSUP, f"{op.name} is not supported here")


class BlockNode:
    """One node.  A driver derives from it and overrides the requests that it can serve.

    The request methods are coroutines that await only what the context offers.  They take the whole `Request`, fill or
    read its `vectors`, honour its `flags` (`FUA`: return only when the data is stable; `MAY_UNMAP` where the node was
    opened with `discard=unmap`) and raise `OSError` with its errno on failure.  They do not touch `request.error` nor
    call `request.done`: that is for BlockBackend, which also has checked bounds, permissions and alignment.
    """

    Options: ClassVar[type[NodeOptions]] = NodeOptions

    def __init__(self, options: NodeOptions, context: IoContext, size: int) -> None:
        self.options = options
        self.context = context
        self.node_name = options.node_name or f"#block{next(_numbers):03d}"
        self.size = size
        self.read_only = options.read_only
        self.limits = BlockLimits()
        self.ranges = RangeLock(context)
        self.resizing = Lock(context)
        self.resize_listeners: list[Callable[[int], None]] = []
        self._users: dict[object, bool] = {}

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext) -> BlockNode:
        """Open what `options` (of type `cls.Options`) name; BlockOptionError or OSError where it cannot be."""
        raise NotImplementedError

    # --- who uses it (a node opened with `active` is a user of itself)

    def activate(self, user: object, *, write: bool) -> None:
        """`user` begins to read, or also to `write`; OSError where somebody else's use of the image rules that out.

        Until `inactivate`.  A second call for the same user changes what it does.
        """
        users = {**self._users, user: write}
        self._use(read=True, write=any(users.values()))
        self._users = users

    def inactivate(self, user: object) -> None:
        """`user` does no more, and has flushed what it wrote: others, perhaps elsewhere, may. Idempotent."""
        if self._users.pop(user, None) is not None:
            self._use(read=bool(self._users), write=any(self._users.values()))

    def _use(self, *, read: bool, write: bool) -> None:
        """Protect the image for all users together; OSError, and nothing changed, where that cannot be."""

    @property
    def can_unmap(self) -> bool:
        """Whether zeroing with MAY_UNMAP, or a discard, can really free space."""
        return False

    def read_now(self, offset: int, vectors: Sequence[memoryview], length: int) -> bool:  # noqa: ARG002
        """Fill `vectors`, together `length` bytes, from `offset` if that takes no waiting; False where it does.

        Reads are what there is most of, and most find their data at hand: for them no request has to be made.
        The range has been checked as for a `Request`.  After False the vectors may hold anything.
        """
        return False

    async def read(self, request: Request) -> None:
        """Fill the vectors with `length` bytes from `offset`."""
        raise unsupported(request.op)

    async def write(self, request: Request) -> None:
        """Store the vectors' `length` bytes at `offset`."""
        raise unsupported(request.op)

    async def flush(self, request: Request) -> None:
        """Return when every write that has returned before is on stable storage."""

    async def discard(self, request: Request) -> None:
        """The range's content is no longer needed; its space may be freed.  May do nothing."""

    async def write_zeroes(self, request: Request) -> None:
        """Make the range read as zeroes."""
        raise unsupported(request.op)

    async def secure_erase(self, request: Request) -> None:
        """Destroy the range's content: overwritten in place with zeroes and stable, never only unmapped."""
        raise unsupported(request.op)

    async def truncate(self, size: int) -> None:  # noqa: ARG002
        """Make the node `size` bytes long; what is new reads as zeroes."""
        raise OSError(errno.ENOTSUP, f"node {self.node_name!r} cannot be resized")

    def close(self) -> None:
        """Give up what the node holds.  Idempotent."""

    def _resized(self, size: int) -> None:
        """The node has got another size: tell everybody who asked."""
        self.size = size
        for listener in list(self.resize_listeners):
            listener(size)

    def _as_zeroes(self, request: Request) -> Request | None:
        """With `detect-zeroes`: the zero-writing request that does the same as this write, else None.

        A guest that changes its buffer meanwhile gets what was in it at some moment, as with any write.
        """
        if self.options.detect_zeroes == "off" or not request.length or not is_zero(request.vectors):
            return None
        flags = request.flags
        if self.options.detect_zeroes == "unmap":
            flags |= Flags.MAY_UNMAP
        return request.derive(request.offset, request.length, op=Op.WRITE_ZEROES, flags=flags)
