"""What a block driver is to those above it: a node with a name, a size, limits, children and its kinds of request."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec

from devmodels.blockbackend import permissions
from devmodels.blockbackend.accounting import Counted, NodeStats, Served
from devmodels.blockbackend.debug.announcing import FLUSHES, Announced
from devmodels.blockbackend.drain import Section
from devmodels.blockbackend.edge import Edge
from devmodels.blockbackend.fitting import Fitting
from devmodels.blockbackend.options import NodeOptions
from devmodels.blockbackend.permissions import Perm, Role, Use
from devmodels.blockbackend.ranges import InFlight
from devmodels.blockbackend.request import Op, Read, Request, WriteEnded
from devmodels.blockbackend.status import BlockStatus, data
from devmodels.iocontext import IoContext, Lock
from devmodels.secretobjects import Secrets

if TYPE_CHECKING:
    from devmodels.blockbackend.graphtrace import GraphTrace
    from devmodels.blockbackend.listing import Where
    from devmodels.blockbackend.throttling import ThrottleGroup
    from devmodels.disc import Disc

SECTOR = 512
CANNOT_RESIZE = "Image format driver does not support resize"
"""What QEMU says of a driver that knows no other size."""
_numbers = itertools.count()


class BlockLimits(msgspec.Struct, frozen=True):
    """What a node's requests must keep to; 0 means no limit.

    `request_alignment`: offset and length of reads, writes, zeroes and discards are multiples of it (bytes); the last
    block may reach beyond the node's size, where there are zeroes.  `max_transfer`: the longest read or write in
    bytes.  `max_iov`: the most vectors in one request.  `pdiscard_alignment`: space is freed in units of this many
    bytes (1: any).  `pwrite_zeroes_alignment`: zeroes are written in units of so many bytes, less as data (1: any).
    `max_pwrite_zeroes`, `max_pdiscard`: the longest request for zeroes and the longest discard in bytes.
    """

    request_alignment: int = 1
    max_transfer: int = 0
    max_iov: int = 1024
    pdiscard_alignment: int = 1
    pwrite_zeroes_alignment: int = 1
    max_pwrite_zeroes: int = 0
    max_pdiscard: int = 0

    @property
    def any_request(self) -> bool:
        """Whether every request fits as it is."""
        aligned = self.request_alignment == self.pwrite_zeroes_alignment == 1
        return aligned and not (self.max_transfer or self.max_pwrite_zeroes or self.max_pdiscard)


def unsupported(op: Op) -> OSError:
    """The error of a node that cannot do `op`."""
    return OSError(errno.ENOTSUP, f"{op.name} is not supported here")


class BlockNode:
    """One node.  A driver derives from it and overrides the requests that it can serve.

    The request methods are coroutines that await only what the context offers.  They take the whole `Request`, fill or
    read its `vectors`, honour its `flags` (`FUA`: return only when the data is stable; `MAY_UNMAP`) and raise `OSError`
    with its errno on failure.  They do not touch `request.error` nor call `request.done`: that is for BlockBackend.
    Bounds have been checked before, and the edge that leads here has seen to `limits`, `discard` and `detect-zeroes`.

    `children` are this node's edges to nodes below it, by option name; `parents` are the edges that lead here.  `kept`:
    who has opened it keeps it until `close`; one nested in another node's options ends with its last user.
    """

    Options: ClassVar[type[NodeOptions]] = NodeOptions
    FILTERED: ClassVar[str | None] = None
    """The option of the child that a filter shows; None for what is no filter."""
    ANNOUNCES: ClassVar[Announced] = FLUSHES
    """The events that this node tells a child of, before it does what they are about."""
    CHANGEABLE: ClassVar[frozenset[str]] = frozenset(
        {"read_only", "auto_read_only", "discard", "detect_zeroes", "accounting"}
    )
    """Options that `reopen` may change, by their names in Python."""

    def __init__(self, options: NodeOptions, context: IoContext, size: int) -> None:
        self.options = options
        self.context = context
        self.node_name = options.node_name or f"#block{next(_numbers):03d}"
        self.size = size
        self.read_only = options.read_only
        self.limits = BlockLimits()
        self.in_flight = InFlight(context)
        self.resizing = Lock(context)
        self.children: dict[str, Edge] = {}
        self.parents: list[Edge] = []
        self.sections: list[Section] = []
        self.kept = True
        self.closed = False
        self.wants_events = False
        """Whether `debug_event` looks at anything."""
        self.stats: NodeStats | None = None
        """What it has done while `accounting` was on; None where it never was."""
        self.counted: Counted | None = None
        """What its edges lead to while `accounting` is on."""
        self._set_accounting(options.accounting)
        self.trace: GraphTrace | None = None
        """Who is told of each request that comes (`watch`)."""
        self.names: dict[str, BlockNode] = {}
        """Where it is entered by its name."""
        self.disc: Disc | None = None
        """What its bytes are where they are a CD's; None where they are blocks of data."""
        self.empty = False
        """Whether it only stands where a medium would be."""
        self._users: dict[object, bool] = {}

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext, children: Mapping[str, BlockNode]) -> BlockNode:
        """Open what `options` (of type `cls.Options`) name; BlockOptionError or OSError where it cannot be.

        `children` are the nodes for the options of type `NodeRef`, already open, by option name.
        """
        raise NotImplementedError

    def bind(self, objects: Mapping[str, ThrottleGroup], secrets: Secrets) -> None:
        """Find what the options name among `--object`s; OptionError where it is not there."""

    async def prepare(self) -> None:
        """What opening has to wait for, after `bind` and before anybody uses the node; BlockOptionError where it fails.

        Where it does, the node is closed.
        """

    # --- the graph

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node_name

    @property
    def description(self) -> str:
        """What messages call it."""
        return f"node {self.node_name!r}"

    @property
    def announces(self) -> Announced:
        """The events that a child is told of, if it wants to hear of them."""
        return self.ANNOUNCES

    @property
    def references(self) -> int:
        """How many want this node: its parents, and who has opened it."""
        return len(self.parents) + self.kept

    def fitting(self) -> Fitting | None:
        """What makes requests fit this node; None where they fit as they are."""
        return None if self.limits.any_request and not self.serialised else Fitting(self, self.served)

    def inside(self) -> Fitting:
        """The same for somebody who is alone at the blocks that he touches (`Edge.alone`)."""
        return Fitting(self, self.served, alone=True)

    @property
    def served(self) -> Served:
        """What requests go to: the node itself, or what counts them, behind what tells a trace of them."""
        served = self if self.counted is None else self.counted
        return served if self.trace is None else self.trace.before(self, served)

    @property
    def serialised(self) -> bool:
        """Whether a user asks for ranges that nobody else touches (`Edge.serialise`)."""
        return any(edge.serialises for edge in self.parents)

    def attach(self, name: str, node: BlockNode, role: Role) -> Edge:
        """Make `node` a child; the edge returned takes requests for it."""
        edge = self.children[name] = Edge(self, name, role, node, Use(Perm.NONE, Perm.ALL))
        permissions.refresh([self])
        return edge

    def child_permissions(self, edge: Edge, use: Use) -> Use:
        """What this node does with the child at `edge` and shares, where its own users together are `use`."""
        return permissions.child_permissions(edge.role, self.read_only, use)

    async def debug_event(self, event: str, request: Request) -> None:
        """What is above is about to do `event` (QEMU's BlkdebugEvent) here, for `request`: `blkdebug` looks at it.

        For drivers with events of their own, which call it at a child's node.
        """

    def use_changed(self, edge: Edge) -> None:
        """What this node does with the child at `edge`, or shares, is other than before (`edge.use`)."""

    def child_changed(self, edge: Edge) -> None:
        """The child at `edge` is another node now, or has got another size."""

    def changed(self) -> None:
        """Size, limits or options are other than before: tell everybody above."""
        for edge in list(self.parents):
            edge.bind()
            edge.user_object.child_changed(edge)

    def attention(self, code: int) -> None:
        """The SCSI unit here, or below, has a unit attention condition: those above hear of it."""
        for edge in list(self.parents):
            edge.user_object.attention(code)

    def reopen(self, options: NodeOptions) -> None:
        """Take over `options`, which differ in what is `CHANGEABLE` only; nothing runs meanwhile.

        Raises OptionError, with nothing changed, where that cannot be.
        """
        self.context.assert_owner()
        before = self.options, self.read_only
        self.options, self.read_only = options, options.read_only
        try:
            permissions.refresh([self])
            self._reopen(before[0])
        except BaseException:
            self.options, self.read_only = before
            permissions.refresh([self])
            raise
        self._set_accounting(options.accounting)
        self.changed()

    def watch(self, trace: GraphTrace | None) -> None:
        """Tell `trace` of each request that comes from now on, or nobody any more; nothing runs meanwhile."""
        if self.trace is not trace:
            self.trace = trace
            self.changed()

    def _set_accounting(self, on: bool) -> None:
        """Count from now on, or no longer; the edges have to `bind` again."""
        if on and self.counted is None:
            self.stats = NodeStats() if self.stats is None else self.stats
            self.counted = Counted(self, self.stats, self.context)
        elif not on:
            self.counted = None

    def moved(self, context: IoContext) -> None:
        """Everything happens on `context` from now on; nothing runs meanwhile.  What a driver has bound to its context
        it binds anew."""
        self.context = context
        self.in_flight.move(context)
        self.resizing.move(context)

    def throttled_ns(self) -> int | None:
        """How long requests have waited here for limits, together, in ns; None where there are no limits here."""
        return None

    def _reopen(self, before: NodeOptions) -> None:
        """`options` are others than `before`: do what follows; OptionError, and nothing done, where that cannot be."""

    def _resized(self, size: int) -> None:
        """The node has got another size."""
        self.size = size
        self.changed()

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

    @property
    def active(self) -> bool:
        """Whether anybody uses the image."""
        return bool(self._users)

    def _use(self, *, read: bool, write: bool) -> None:
        """Protect the image for all users together; OSError, and nothing changed, where that cannot be.

        A node with children is a user of theirs.
        """
        before = [(edge, edge.active) for edge in self.children.values()]
        try:
            for edge, _ in before:
                writes = bool(edge.use.used & permissions.CHANGES) and write
                edge.set_active(read, write=writes)
        except OSError:
            for edge, active in before:
                edge.set_active(active is not None, write=bool(active))
            raise

    # --- drained sections

    def cover(self, section: Section) -> None:
        """Nothing is to run here, nor above, while `section` lasts."""
        if section in self.sections:
            return
        self.sections.append(section)
        section.nodes.append(self)
        for edge in self.parents:
            edge.user_object.cover(section)

    def drain_begin(self) -> None:
        """Requests that this node keeps waiting - for its own reasons, not for others - go on at once from now on."""

    def drain_end(self) -> None:
        """Keep requests waiting again.  Called as often as `drain_begin`."""

    def kept_back(self) -> Iterable[tuple[Request, Where]]:
        """Requests that this node keeps waiting, each with the word for why (for `list_in_flight`)."""
        return ()

    def cancel(self, wanted: Callable[[Request], bool]) -> None:
        """A device is reset: what this node keeps waiting on behalf of `wanted` requests may end with ECANCELED."""

    async def settle(self) -> None:
        """Nothing runs, and the node is about to leave its children: give them what is kept back from them."""

    def close(self) -> None:
        """Give up what the node holds, and children that nobody else uses.  Idempotent."""
        if self.closed:
            return
        self.closed = True
        self.kept = False
        if self.names.get(self.node_name) is self:
            del self.names[self.node_name]
        children, self.children = self.children, {}
        for edge in children.values():
            edge.close()
        self._close()

    def close_if_unwanted(self) -> None:
        """Close where nobody uses it and nobody keeps it."""
        if not self.references:
            self.close()

    def _close(self) -> None:
        """Give up what the driver holds.  Called once."""

    # --- requests

    @property
    def can_unmap(self) -> bool:
        """Whether zeroing with MAY_UNMAP, or a discard, can really free space."""
        return False

    def read_now(self, reads: Sequence[Read]) -> int:  # noqa: ARG002
        """Do the first of `reads`, each (offset, vectors, length), that take no waiting; returns how many.

        Reads are what there is most of, and most find their data at hand: for them no request has to be made.
        The ranges have been checked as for a `Request`.  What could not be done, or not well, comes again as a request;
        its vectors may hold anything.
        """
        return 0

    @property
    def writes_now(self) -> bool:
        """Whether `write_now` is worth trying."""
        return False

    def write_now(self, offset: int, vectors: Sequence[memoryview], length: int) -> bool:  # noqa: ARG002
        """Do a write, within the node and without FUA, if that takes no waiting; else it comes again as a request."""
        return False

    def begin_write(
        self,
        offset: int,  # noqa: ARG002
        vectors: Sequence[memoryview],  # noqa: ARG002
        length: int,  # noqa: ARG002
        request: Request,  # noqa: ARG002
        ended: WriteEnded,  # noqa: ARG002
    ) -> bool:
        """Begin a write, within the node and without flags, that ends with `ended(request, error)`, where no coroutine
        is needed for that; else, False, it comes to `write`."""
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

    async def block_status(self, request: Request) -> BlockStatus:
        """What the range is (`status.py`), or its first blocks; of an overlay, what it has itself."""
        return data(request.length)

    async def passthrough(self, request: Request) -> None:
        """Hand the command of a `PassthroughRequest` to the device that this node is."""
        raise unsupported(request.op)

    async def truncate(self, size: int) -> None:  # noqa: ARG002
        """Make the node `size` bytes long; what is new reads as zeroes."""
        raise OSError(errno.ENOTSUP, CANNOT_RESIZE)

    def truncate_now(self, size: int) -> None:  # noqa: ARG002
        """Make the node shorter without waiting: for a user that is about to go."""
        raise OSError(errno.ENOTSUP, CANNOT_RESIZE)
