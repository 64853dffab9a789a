"""The graph: nodes by name, and every change of how they hang together.

Changes happen in drained sections (`drain.py`), one after the other: requests that come meanwhile wait and go on over
the new way, in order.  No change makes a cycle, and none leaves two users of a node that exclude each other
(`permissions.py`); where it would, it is refused with one line and nothing has changed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NoReturn
from weakref import WeakValueDictionary

import msgspec

from devmodels.blockbackend import options as block_options
from devmodels.blockbackend.backend import BlockBackend
from devmodels.blockbackend.drain import below, drained
from devmodels.blockbackend.edge import Edge, move
from devmodels.blockbackend.moving import PinnedError, move_to
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.objects import KINDS as BLOCK_KINDS
from devmodels.blockbackend.objects import Objects, add_object
from devmodels.blockbackend.opening import open_node, opening_node
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, shown
from devmodels.blockbackend.permissions import Role, parents_first
from devmodels.blockbackend.registry import driver_of
from devmodels.blockbackend.request import Op, Request
from devmodels.iocontext import IoContext, IoThread, Lock
from devmodels.iothreads import IoThreads
from devmodels.options import OptionError
from devmodels.secretobjects import Secrets
from devmodels.trace import Tracer

if TYPE_CHECKING:
    from devmodels.blockbackend.graphtrace import GraphTrace
    from devmodels.blockbackend.throttling import ThrottleGroup, ThrottleLimits

KINDS = ("iothread", "secret", *BLOCK_KINDS)
"""The objects there can be."""


class GraphError(OptionError):
    """The graph cannot be changed that way; the text is one line."""


class Graph:
    """The nodes of one context.

    `nodes` has each by its name, those nested in another one's options included; `objects` what nodes can name besides;
    `iothreads` what devices and exports can name: threads beside the graph's own; `secrets` passwords.
    """

    def __init__(self, context: IoContext) -> None:
        self.context = context
        self.nodes: dict[str, BlockNode] = {}
        self.objects: Objects = {}
        self.iothreads = IoThreads(context)
        self.secrets = Secrets()
        self._own_groups: WeakValueDictionary[str, ThrottleGroup] = WeakValueDictionary()
        """Throttle groups that only backends name, as long as one of them is there."""
        self._changing = Lock(context)
        self._trace: GraphTrace | None = None

    def __getitem__(self, name: str) -> BlockNode:
        """The node of that name; GraphError where there is none."""
        node = self.nodes.get(name)
        if node is None:
            known = ", ".join(map(shown, sorted(self.nodes))) or "none"
            raise GraphError(f"no node {shown(name)}; the nodes are: {known}")
        return node

    @property
    def tracer(self) -> Tracer | None:
        """Who is told of the way of each traced device's requests through the nodes, those to come included."""
        return None if self._trace is None else self._trace.tracer

    @tracer.setter
    def tracer(self, tracer: Tracer | None) -> None:
        from devmodels.blockbackend.graphtrace import GraphTrace  # slow to import, and for traces only

        self._trace = None if tracer is None else GraphTrace(tracer)
        self._watch()

    def _watch(self) -> None:
        for node in self.nodes.values():
            node.watch(self._trace)

    # --- nodes come and go

    def add(self, options: Mapping[str, object] | str) -> BlockNode:
        """Open a node, and those nested in it; BlockOptionError where that cannot be.

        Where a node has to wait for something - a target elsewhere - everything else goes on meanwhile.
        """
        self.context.assert_owner()
        node = open_node(options, self.context, self.nodes, self.objects, self.secrets)
        self._watch()
        return node

    async def open(self, options: Mapping[str, object] | str) -> BlockNode:
        """The same for coroutines (`blockdev-add`)."""
        self.context.assert_owner()
        node = await opening_node(options, self.context, self.nodes, self.objects, self.secrets)
        self._watch()
        return node

    def object_add(self, options: Mapping[str, object]) -> None:
        """Make an object of any kind (`object-add`); OptionError where that cannot be."""
        kind, name = options.get("qom-type"), options.get("id")
        if kind is not None and kind not in KINDS:
            raise BlockOptionError(
                f"$.qom-type: {shown(kind)} is given; expected {', '.join(map(shown, KINDS))}"
            )
        if isinstance(name, str) and any(name in there for there in self._objects()):
            raise BlockOptionError(f"$.id: {shown(name)} is given; an object of that name is there")
        if kind == "iothread":
            if name in self._own_groups:
                raise BlockOptionError(f"$.id: {shown(name)} is given; an object of that name is there")
            self.iothreads.add(options)
        elif kind == "secret":
            self.secrets.add(options)
        else:
            self.add_object(options)

    def _objects(self) -> tuple[Mapping[str, object], ...]:
        """All objects, kind by kind."""
        return self.objects, self.iothreads.by_id, self.secrets.by_id

    def add_object(self, options: Mapping[str, object]) -> ThrottleGroup:
        """Make an object that nodes can name; BlockOptionError where that cannot be."""
        self.context.assert_owner()
        name = options.get("id")
        if name in self.iothreads.by_id or name in self.secrets.by_id:
            raise BlockOptionError(f"$.id: {shown(name)} is given; an object of that name is there")
        if isinstance(name, str) and name in self._own_groups:
            raise BlockOptionError(f"$.id: {shown(name)} is given; a throttle group of that name is in use")
        return add_object(options, self.objects)

    def set_io_throttle(
        self, backend: BlockBackend, limits: ThrottleLimits, group: str | None = None
    ) -> None:
        """Limit one backend (`block_set_io_throttle`); no limits at all: let it go.

        `limits` become those of the `group`, for all its members: a throttle group of that id, or one that only
        backends name.  Without a name, a backend stays in its group; one that is in none gets one of its own name.
        """
        self.context.assert_owner()
        if not limits.enabled:
            backend.set_throttle_group(None)
            return
        member = backend.throttled_by
        if group is None and member is not None:
            found = member.group
        else:
            found = self.throttle_group(group or backend.name)
        backend.set_throttle_group(found)
        found.configure(limits)

    def throttle_group(self, name: str) -> ThrottleGroup:
        """The throttle group of that id, or the one that only backends name so, made where there is none."""
        group = self.objects.get(name)
        if group is None:
            group = self._own_groups.get(name)
        if group is None:
            from devmodels.blockbackend.throttling import ThrottleGroup

            group = self._own_groups[name] = ThrottleGroup(name)
        return group

    def delete_object(self, name: str) -> None:
        """Drop an object (`object-del`); OptionError where it is used or is not there."""
        if name in self.secrets.by_id:
            self.secrets.delete(name)
            return
        group = self.objects.get(name)
        thread = self.iothreads.by_id.get(name)
        if thread is not None:
            on_it = [node.description for node in self.nodes.values() if node.context is thread.context]
            if on_it:
                raise GraphError(f"object {shown(name)} is in use: by {', '.join(on_it)}")
            self.iothreads.delete(name)
            return
        if group is None:
            known = (
                ", ".join(map(shown, sorted([*self.objects, *self.iothreads.by_id, *self.secrets.by_id])))
                or "none"
            )
            raise GraphError(f"no object {shown(name)}; the objects are: {known}")
        if group.members:
            raise GraphError(f"object {shown(name)} is in use: by {len(group.members)} members")
        del self.objects[name]

    def delete(self, name: str, *, force: bool = False) -> None:
        """Close a node, and those nested in it that nobody else uses (`blockdev-del`).

        GraphError where it is used; with `force` its users lose it instead, and their requests end with ENOMEDIUM.
        """
        self.context.assert_owner()
        node = self._here(name)
        if node.sections and not force:
            raise GraphError(f"{node.description} is being changed")
        if node.parents and not force:
            raise GraphError(f"{node.description} is in use: {users(node)}")
        if node.parents:
            gone = _GoneNode(node)
            move([(edge, gone) for edge in list(node.parents)])
        node.close()

    async def reopen(self, options: Mapping[str, object]) -> BlockNode:
        """Change the options of the node that they name (`blockdev-reopen`); what they do not say is as usual.

        A child is given by name; another one than before takes its place.  Raises BlockOptionError or GraphError, with
        nothing changed, where an option is wrong or cannot be changed.
        """
        async with self._changing:
            node, checked, moves = self._other_options(options)
            nodes = node, *(new for _, new in moves)
            async with drained(*nodes):
                await _ready(nodes, [node] if any(edge.node is not new for edge, new in moves) else [])
                before = node.options
                node.reopen(checked)
                try:
                    move(moves)
                except BaseException:
                    node.reopen(before)
                    raise
        return node

    def _other_options(
        self, options: Mapping[str, object]
    ) -> tuple[BlockNode, NodeOptions, list[tuple[Edge, BlockNode]]]:
        """The node to be reopened, its options, and where its edges go."""
        name = options.get("node-name")
        if not isinstance(name, str):
            raise BlockOptionError("$.node-name: missing; expected the name of a node")
        node = self._here(name)
        before = node.options
        if options.get("driver") != before.driver:
            raise BlockOptionError(
                f"$.driver: {shown(options.get('driver'))} is given; expected {shown(before.driver)}, as it is"
            )
        checked = block_options.check(options, type(before))
        moves = []
        for field in msgspec.structs.fields(type(before)):
            option, old, wanted = field.encode_name, getattr(before, field.name), getattr(checked, field.name)
            if option in node.children:
                if not isinstance(wanted, str):
                    raise BlockOptionError(
                        f"$.{option}: {shown(wanted)} is given; expected the name of a node"
                    )
                new = self._here(wanted)
                if node in below([new]):
                    raise GraphError(
                        f"{new.description} cannot be below {node.description}: it stands over it"
                    )
                moves.append((node.children[option], new))
            elif old != wanted and field.name not in node.CHANGEABLE:
                raise BlockOptionError(
                    f"$.{option}: {shown(wanted)} is given; it stays {shown(old)} while the node is open"
                )
        return node, checked, moves

    async def set_active(self, name: str, active: bool) -> None:
        """Take a node's image into use, or give it up with all below for somebody else to use (`blockdev-set-active`).

        Raises GraphError where somebody else has it, or, to give it up, where a device or an export is active.
        """
        async with self._changing:
            node = self._here(name)
            if active:
                try:
                    node.activate(node, write=not node.read_only)
                except OSError as error:
                    raise GraphError(f"{node.description}: {error.strerror or error}") from None
                return
            async with drained(node):
                await _ready([node])
                for edge in node.parents:
                    if edge.active is not None:
                        raise GraphError(f"{node.description} is in use: {edge.user} is active")
                if not node.read_only:
                    try:
                        await node.flush(Request(Op.FLUSH, 0, 0))
                    except OSError as error:
                        text = f"{node.description}: cannot flush: {error.strerror or error}"
                        raise GraphError(text) from None
                node.inactivate(node)
                for each in below([node]):
                    if all(edge.active is None for edge in each.parents):
                        each.inactivate(each)

    async def set_iothread(self, name: str, iothread: str | None) -> None:
        """Let a node, with all nodes and backends that hang together with it, work on a thread, or, with None, on the
        graph's own context again (`x-blockdev-set-iothread`).

        What has begun is awaited, what comes meanwhile waits and goes on there.  While nodes are elsewhere they belong
        to that thread, and the graph does not change them.  Raises GraphError where a device or an export works with
        them, and OptionError where there is no such thread.
        """
        async with self._changing:
            node = self[name]
            source = self._thread_of(node)
            target = None if iothread is None else self.iothreads[iothread]
            if source is target:
                return
            try:
                await move_to(self.context, node, source, target)
            except PinnedError as error:
                raise GraphError(f"{node.description} cannot change its thread: {error}") from None
            except OSError as error:
                text = error.strerror or str(error)
                raise GraphError(f"{node.description} cannot change its thread: {text}") from None

    def _thread_of(self, node: BlockNode) -> IoThread | None:
        """The thread that a node is on; None where it is at home."""
        return next((t for t in self.iothreads.by_id.values() if t.context is node.context), None)

    def _here(self, name: str) -> BlockNode:
        """The node of that name; GraphError where there is none, or where it is on a thread."""
        node = self[name]
        thread = self._thread_of(node)
        if thread is not None:
            raise GraphError(f"{node.description} is on iothread {shown(thread.name)}; expected it at home")
        return node

    def close(self) -> None:
        """End every thread, and close every node, those above first."""
        self.iothreads.close()
        for node in parents_first(self.nodes.values()):
            if self.nodes.get(node.node_name) is node:
                node.close()

    # --- how they hang together

    async def insert(
        self,
        options: Mapping[str, object],
        *,
        above: str | None = None,
        below: str | None = None,
        child: str | None = None,
    ) -> BlockNode:
        """Open a filter and put it into the way: `above` a node, for all its users, or `below` one, over its `child`
        (None: the child that stands for the node).

        `options` are the filter's without the child that it shows (`file`, mostly); what they do not say of
        `read-only`, `discard`, `active` is as with the node that the filter stands over.
        """
        if (above is None) == (below is None):
            raise GraphError("a filter is inserted either above a node or below one")
        async with self._changing:
            edge = None if below is None else self._edge(below, child or _primary(self[below]))
            target = self._here(above or "") if edge is None else edge.node
            given = _over(options, target)
            async with drained(target):
                await _ready([target] if edge is None else [target, *_nodes([edge])])
                node = await self.open(given)
                edges = [edge] if edge is not None else _others(target, node)
                try:
                    if Role.FILTERED not in node.children[node.FILTERED or ""].role:
                        raise GraphError(
                            f"{node.description} is not a filter: driver {shown(node.options.driver)}"
                        )
                    move([(each, node) for each in edges])
                except BaseException:
                    node.close()
                    raise
        return node

    async def remove(self, name: str) -> None:
        """Take a filter out of the way: its users go to its child."""
        async with self._changing:
            node = self._here(name)
            async with drained(node):
                await _ready([node], [node])
                edge = _filtered(node)
                move([(each, edge.node) for each in list(node.parents)])
                node.close()

    async def replace(self, name: str, by: str) -> None:
        """Let every user of node `name` use node `by` instead, but for those that `by` itself consists of."""
        async with self._changing:
            old, new = self._here(name), self._here(by)
            async with drained(old, new):
                await _ready([old, new], _nodes(_others(old, new)))
                move([(edge, new) for edge in _others(old, new)])

    async def replace_child(self, name: str, child: str, by: str) -> None:
        """Let `child` of node `name` be node `by`."""
        await self.lead(self._edge(name, child), by)

    async def lead(self, edge: Edge, by: str) -> None:
        """Let one user's edge lead to node `by`: a child of a node, or the disk of a device."""
        await self.lead_to(edge, self._here(by))

    async def lead_to(self, edge: Edge, new: BlockNode) -> None:
        """The same for a node that need not have a name."""
        async with self._changing:
            user = edge.user_object
            _check_there(edge)
            if user in below([new]):
                raise GraphError(f"{new.description} cannot be below {user.description}: it stands over it")
            async with drained(edge.node, new):
                await _ready([new], _nodes([edge]))
                _check_there(edge)
                move([(edge, new)])

    def _edge(self, name: str, child: str) -> Edge:
        node = self._here(name)
        if child not in node.children:
            known = ", ".join(map(shown, node.children)) or "none"
            raise GraphError(f"{node.description} has no child {shown(child)}; its children are: {known}")
        return node.children[child]


async def _ready(nodes: Iterable[BlockNode], leaving: Iterable[BlockNode] = ()) -> None:
    """In a drained section: those `leaving` a child give it what they keep back.

    GraphError where they cannot, or where one of `nodes` was closed meanwhile, by force.
    """
    for node in leaving:
        try:
            await node.settle()
        except OSError as error:
            raise GraphError(
                f"{node.description} cannot give up what it keeps back: {error.strerror or error}"
            ) from None
    for node in nodes:
        if node.closed:
            raise GraphError(f"{node.description} is no longer there")


def _check_there(edge: Edge) -> None:
    """GraphError where the user at `edge` has gone."""
    if edge not in edge.node.parents:
        raise GraphError(f"{edge.user} is no longer there")


def _nodes(edges: Iterable[Edge]) -> list[BlockNode]:
    """Those of the users at `edges` that are nodes."""
    return [edge.user_object for edge in edges if isinstance(edge.user_object, BlockNode)]


def users(node: BlockNode) -> str:
    """Who uses `node`, in words."""
    return ", ".join(f"{edge.user} ({edge.name})" for edge in node.parents)


def _others(node: BlockNode, new: BlockNode) -> list[Edge]:
    """The edges to `node` that do not come from `new` or from below it: moving those makes no cycle."""
    own = below([new])
    return [edge for edge in node.parents if edge.user_object not in own]


def _primary(node: BlockNode) -> str:
    """The child that stands for `node`, by its name."""
    for name, edge in node.children.items():
        if Role.PRIMARY in edge.role:
            return name
    raise GraphError(f"{node.description} has no child")


def _filtered(node: BlockNode) -> Edge:
    for edge in node.children.values():
        if Role.FILTERED in edge.role:
            return edge
    raise GraphError(f"{node.description} is not a filter: driver {shown(node.options.driver)}")


def _over(options: Mapping[str, object], target: BlockNode) -> dict[str, object]:
    """The options of a filter over `target`."""
    child = driver_of(options).FILTERED
    if child is None:
        raise GraphError(f"driver {shown(options['driver'])} is not a filter")
    if child in options:
        raise BlockOptionError(f"$.{child}: is given; expected nothing: the filter stands over another node")
    theirs = target.options
    own = {"read-only": theirs.read_only, "discard": theirs.discard, "active": theirs.active}
    return {**own, **options, child: target.node_name}


GONE = "gone"
"""The driver of what is left to the users of a node that was closed by force."""


class _GoneNode(BlockNode):
    """What is left to the users of a node that was closed by force: its size, and errors."""

    def __init__(self, node: BlockNode) -> None:
        super().__init__(NodeOptions(driver=GONE, discard="unmap"), node.context, node.size)
        self.kept = False

    async def read(self, request: Request) -> NoReturn:  # noqa: ARG002
        """There is nothing."""
        raise OSError(errno.ENOMEDIUM, "the node was closed by force")

    write = flush = discard = write_zeroes = secure_erase = block_status = passthrough = read
