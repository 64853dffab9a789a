"""An edge of the graph: how a user reaches a node below it.

A user - another node, or a BlockBackend - hands its requests to the edge.  The edge makes them fit the node (limits,
`discard`, `detect-zeroes`), so that no driver has to, and can be moved to another node while nothing runs on it.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Protocol

from devmodels.blockbackend import permissions
from devmodels.blockbackend.accounting import Served
from devmodels.blockbackend.debug.announcing import Announced, announcing
from devmodels.blockbackend.drain import Section, drained
from devmodels.blockbackend.fitting import Fitting, write_out
from devmodels.blockbackend.permissions import Role, Use
from devmodels.blockbackend.request import (
    HAS_NO_FALLBACK,
    HAS_UPDATE,
    WITHOUT_MAY_UNMAP,
    BeginWrite,
    Flags,
    Op,
    Read,
    ReadNow,
    Request,
    WriteNow,
)
from devmodels.blockbackend.status import BlockStatus, driver_status, status_above
from devmodels.blockbackend.vectors import is_zero
from devmodels.iocontext import Coro

if TYPE_CHECKING:
    from devmodels.blockbackend.node import BlockNode

Handler = Callable[[Request], Coro[None]]
StatusHandler = Callable[[Request], Coro[BlockStatus]]


class User(Protocol):
    """Who holds an edge: a node, or a backend."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def description(self) -> str:
        """Who it is, for messages: `node 'f0'`."""
        ...

    @property
    def announces(self) -> Announced:
        """The events that it tells a node of, if that wants to hear of them."""
        ...

    def child_changed(self, edge: Edge) -> None:
        """`edge` leads to another node, or its node has got another size, other limits or other options."""
        ...

    def attention(self, code: int) -> None:
        """What a node below stands for is a SCSI unit, which has told something that its users may care for: an
        additional sense code with its qualifier."""
        ...

    def cover(self, section: Section) -> None:
        """A node that it leads to is in `section`: let nothing run there."""
        ...


class Edge:
    """`user`'s door to `node`.

    `handlers` are coroutine functions by `Op`, also reachable by name; `read_now` reads at once, as the node does,
    where reads need not be made to fit (`reads_now`), else it does none.  `write_now` and `begin_write` are the node's
    own, or None where writes must not pass by what stands before it, or `write_now` is not worth trying.
    `block_status` returns what the node itself knows; the handler of BLOCK_STATUS asks what is below an overlay, too.
    `use` is what the user does there and shares.
    """

    __slots__ = (
        "active",
        "begin_write",
        "block_status",
        "discard",
        "flush",
        "handlers",
        "name",
        "node",
        "passthrough",
        "read",
        "read_now",
        "reads_now",
        "role",
        "secure_erase",
        "serialises",
        "unflushed",
        "use",
        "user_object",
        "write",
        "write_now",
        "write_zeroes",
    )

    def __init__(self, user: User, name: str, role: Role, node: BlockNode, use: Use) -> None:
        self.user_object = user
        self.name = name
        self.role = role
        self.node = node
        self.use = use
        self.active: bool | None = None
        """Whether the user writes, while it is active; None while it rests."""
        self.serialises = False
        self.write_now: WriteNow | None = None
        self.begin_write: BeginWrite | None = None
        self.unflushed = False
        """Whether anything has been written through here since the last flush, as far as is known."""
        node.context.assert_owner()
        node.parents.append(self)
        try:
            permissions.refresh([node])
        except BaseException:
            node.parents.remove(self)
            raise
        self.bind()
        for section in node.sections:
            user.cover(section)

    @property
    def user(self) -> str:
        """Who uses the node, for messages."""
        return self.user_object.description

    def set_active(self, active: bool, *, write: bool) -> None:
        """The user begins, with `active`, to read, or also to `write`, or it rests.

        OSError, and nothing changed, where somebody else's use of the image rules that out.
        """
        self.node.context.assert_owner()
        if active:
            self.node.activate(self, write=write)
            self.active = write
        elif self.active is not None:
            self.node.inactivate(self)
            self.active = None

    def serialise(self) -> None:
        """The user will ask for `SERIALISING`: from now on the node keeps a table of what is in flight."""
        self.serialises = True
        node = self.node
        node.changed()
        # What is under way already is in no table: it is over before anything new begins.
        node.context.start(_settle(node))

    @asynccontextmanager
    async def alone(self, start: int, end: int) -> AsyncIterator[Fitting]:
        """Be alone at the blocks [start, end) of the node (after `serialise`); what is yielded does requests there."""
        node = self.node
        async with node.in_flight.hold(start, end, serialising=True):
            yield node.inside()

    def close(self) -> None:
        """The user no longer uses the node, which ends where nobody else wants it."""
        node = self.node
        self.set_active(False, write=False)
        node.parents.remove(self)
        permissions.refresh([node])
        self._set([_gone] * len(Op), _gone, _not_now)
        self.write_now = self.begin_write = None
        if self.serialises:
            node.changed()
        node.close_if_unwanted()

    def bind(self) -> None:
        """Look again at what the node wants."""
        node = self.node
        options = node.options
        fitting = node.fitting()
        served = node.served
        to: Fitting | Served = fitting or served
        write: Handler = to.write
        discard: Handler = to.discard
        write_zeroes: Handler = to.write_zeroes
        if fitting is None:
            write_zeroes = partial(_or_written, write, write_zeroes)
            discard = partial(_if_possible, discard)
        if options.discard == "ignore":
            discard = _nothing
            write_zeroes = partial(_keep_space, write_zeroes)
        if options.detect_zeroes != "off":
            flags = Flags.MAY_UNMAP if options.detect_zeroes == "unmap" else Flags.NONE
            write = partial(_detect_zeroes, write, write_zeroes, flags)
        changes = [write, served.flush, discard, write_zeroes, to.secure_erase]
        handlers = [to.read, *changes, self._tell_status, node.passthrough]
        plain = to is node and options.detect_zeroes == "off"
        if node.wants_events and Role.PRIMARY in self.role:
            handlers = announcing(self, handlers)
            plain = False
        else:
            self.unflushed = True
        self.write_now = node.write_now if plain and node.writes_now else None
        self.begin_write = node.begin_write if plain else None
        self.reads_now = fitting is None or fitting.reads_fit
        self._set(handlers, partial(driver_status, node), to.read_now if self.reads_now else _not_now)

    def _set(self, handlers: list[Handler], block_status: StatusHandler, read_now: ReadNow) -> None:
        self.handlers = handlers
        self.read, self.write, self.flush, self.discard, self.write_zeroes, self.secure_erase = handlers[:6]
        self.passthrough = handlers[Op.PASSTHROUGH]
        self.block_status = block_status
        self.read_now = read_now

    async def _tell_status(self, request: Request) -> None:
        request.status = await status_above(self, request)

    def __repr__(self) -> str:
        return f"<{self.user} -{self.name}-> {self.node.node_name!r}>"


def move(moves: Sequence[tuple[Edge, BlockNode]]) -> None:
    """Let each edge lead to another node; nothing may run on any of them (a drained section).

    A node that nobody wants any more is closed.

    Raises PermissionConflictError, with nothing changed, where the users of a node would exclude each other, and
    OSError where the new node cannot be had for those that are active.
    """
    moves = [(edge, node) for edge, node in moves if edge.node is not node]
    before = [(edge, edge.node) for edge, _ in moves]
    touched = [node for _, node in (*before, *moves)]
    active = [(edge, node, edge.active) for edge, node in moves if edge.active is not None]
    _lead(moves)
    try:
        permissions.refresh(touched)
        for edge, node, write in active:
            node.activate(edge, write=write)
    except BaseException:
        for edge, node, _ in active:
            node.inactivate(edge)
        _lead(before)
        permissions.refresh(touched)
        raise
    for edge, node in before:
        node.inactivate(edge)
    affected = [edge for edge, _ in moves]
    if any(edge.serialises for edge in affected):
        affected = [edge for node in dict.fromkeys(touched) for edge in node.parents]
    for edge in affected:
        edge.bind()
    for edge in affected:
        edge.user_object.child_changed(edge)
    for _, node in before:
        node.close_if_unwanted()


async def _settle(node: BlockNode) -> None:
    async with drained(node):
        pass


def _lead(moves: Sequence[tuple[Edge, BlockNode]]) -> None:
    for edge, node in moves:
        edge.node.parents.remove(edge)
        edge.node = node
        node.parents.append(edge)
        for section in node.sections:
            edge.user_object.cover(section)


# --- what an edge does for a node


def _not_now(_reads: Sequence[Read]) -> int:
    return 0


async def _gone(_request: Request) -> NoReturn:
    raise OSError(errno.ENOMEDIUM, "the edge is closed")


async def _nothing(_request: Request) -> None:
    """`discard` is `ignore`."""


async def _or_written(write: Handler, write_zeroes: Handler, request: Request) -> None:
    """Zeroes are written where a node has no quicker way (with limits `Fitting` does the same)."""
    try:
        await write_zeroes(request)
    except OSError as error:
        if error.errno != errno.ENOTSUP or HAS_NO_FALLBACK[request.flags]:
            raise
        await write_out(write, request)


async def _if_possible(discard: Handler, request: Request) -> None:
    """A discard is advice: a node that cannot take it does no harm (with limits `Fitting` says the same)."""
    try:
        await discard(request)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise


async def _keep_space(write_zeroes: Handler, request: Request) -> None:
    """`discard` is `ignore`: zeroes are written without freeing space."""
    flags = WITHOUT_MAY_UNMAP[request.flags]
    if flags != request.flags:
        request = request.derive(request.offset, request.length, flags=flags)
    await write_zeroes(request)


async def _detect_zeroes(write: Handler, write_zeroes: Handler, more: Flags, request: Request) -> None:
    """`detect-zeroes`: a write of nothing but zeroes becomes a request for zeroes.

    A guest that changes its buffer meanwhile gets what was in it at some moment, as with any write.
    """
    if request.length and not HAS_UPDATE[request.flags] and is_zero(request.vectors):
        await write_zeroes(
            request.derive(request.offset, request.length, op=Op.WRITE_ZEROES, flags=request.flags | more)
        )
    else:
        await write(request)
