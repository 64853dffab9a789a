"""Any sequence of changes of the graph under a load: every block right, no request lost, every edge as it must be.

The model knows which node stands over which, and what each block holds.  Requests are in flight all the time (`delay`
nodes hold them); those in flight at one time do not overlap, so that each has one right answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from devmodels.blockbackend import BlockBackend, BlockNode, Flags, Graph, Op
from devmodels.blockbackend.permissions import Perm
from devmodels.iocontext import Coro, IoContext
from devmodels.options import OptionError
from tests.unit.blockbackend.support import Disk, payload

BLOCK, BLOCKS = 512, 12
SIZE = BLOCK * BLOCKS

BACKENDS = {"a": "m0", "b": "m0", "reader": "m0", "c": "m1"}
"""Backends and the disks that they have from beginning to end."""

FILTERS = st.sampled_from(
    [
        {"driver": "raw"},
        {"driver": "delay"},
        {"driver": "delay", "latency-ns": 1000},
        {"driver": "delay", "read-ns": 10, "write-ns": 3000},
        {"driver": "delay", "latency-ns": 50, "detect-zeroes": "on"},
        {"driver": "blkdebug"},
        {"driver": "blkdebug", "align": 512},
        {"driver": "blkdebug", "inject-error": [{"event": "none", "errno": 0}]},
    ]
)
NUMBERS = st.integers(0, 1 << 16)


def child_of(driver: object) -> str:
    """The option of the child that a filter shows."""
    return "image" if driver == "blkdebug" else "file"


class GraphMachine(RuleBasedStateMachine):
    """`file` has the child of each node over another one, `root` the node of each backend, by names."""

    def __init__(self) -> None:
        super().__init__()
        self.context = IoContext.virtual()
        self.graph = Graph(self.context)
        self.file: dict[str, str] = {}
        self.root = dict(BACKENDS)
        for name in ("m0", "m1"):
            self.graph.add({"driver": "memory", "size": SIZE, "node-name": name, "discard": "unmap"})
        self.disks: dict[str, Disk] = {}
        for name, node in BACKENDS.items():
            self.disks[name] = Disk(self.graph[node], read_only=name == "reader")
            self.disks[name].backend.name = name
        self.content = {name: [0] * BLOCKS for name in ("m0", "m1")}
        self.busy: set[tuple[str, int]] = set()
        self.checks: list[Callable[[], None]] = []
        self.numbers = 0
        self.pending = 0

    # --- the load

    @rule(
        who=st.sampled_from(sorted(BACKENDS)),
        first=st.integers(0, BLOCKS - 1),
        length=st.integers(1, 3),
        op=st.sampled_from([Op.READ, Op.READ, Op.WRITE, Op.WRITE, Op.WRITE_ZEROES, Op.SECURE_ERASE]),
        fill=st.integers(0, 255),
    )
    def submit(self, who: str, first: int, length: int, op: Op, fill: int) -> None:
        """A request for blocks that no other one is at."""
        disk = BACKENDS[who]
        blocks = range(first, min(first + length, BLOCKS))
        mine = {(disk, block) for block in blocks}
        if mine & self.busy:
            return
        self.busy |= mine
        content = self.content[disk]
        refused = who == "reader" and op is not Op.READ
        expected = b"".join(bytes([content[block]]) * BLOCK for block in blocks)
        if op is not Op.READ and not refused:
            for block in blocks:
                content[block] = fill if op is Op.WRITE else 0
        data = bytes([fill]) * (BLOCK * len(blocks)) if op is Op.WRITE else None
        request = self.disks[who].submit(
            op,
            blocks.start * BLOCK,
            BLOCK * len(blocks),
            data,
            Flags.NONE,
            BLOCK,
            done=lambda _: self.busy.difference_update(mine),
        )

        def check() -> None:
            assert self.disks[who].ends[request] == 1
            assert bool(request.error) == refused
            assert op is not Op.READ or payload(request) == expected

        self.checks.append(check)

    @rule(who=st.sampled_from(sorted(BACKENDS)))
    def flush(self, who: str) -> None:
        """A flush."""
        request = self.disks[who].submit(Op.FLUSH)
        self.checks.append(lambda: None if request.error == 0 else self.fail("a flush failed"))

    def fail(self, text: str) -> None:
        raise AssertionError(text)

    @rule(turns=st.integers(1, 5))
    def run(self, turns: int) -> None:
        """Time goes on a little."""
        for _ in range(turns):
            if self.busy or self.pending:
                self.context.run_once()

    # --- changes

    def change(self, coro: Coro[object], then: Callable[[], None]) -> None:
        """Begin a change; where it succeeds the model does it as well."""
        self.pending += 1

        def done(_result: object, error: BaseException | None) -> None:
            self.pending -= 1
            if error is None:
                then()
            elif not isinstance(error, OptionError):
                raise error

        self.context.start(coro, done)

    def pick(self, number: int) -> str:
        names = sorted(self.graph.nodes)
        return names[number % len(names)]

    def name(self) -> str:
        self.numbers += 1
        return f"n{self.numbers}"

    def bottom(self, name: str) -> str:
        while name in self.file:
            name = self.file[name]
        return name

    def under(self, name: str) -> set[str]:
        found = {name}
        while name in self.file:
            name = self.file[name]
            found.add(name)
        return found

    def lead(self, old: str, new: str, but: Iterable[str]) -> None:
        """Every user of `old` goes to `new`, but for some nodes."""
        for users in (self.root, self.file):
            for user, node in users.items():
                if node == old and not (users is self.file and user in but):
                    users[user] = new

    @rule(options=FILTERS, where=NUMBERS)
    def insert_above(self, options: dict[str, object], where: int) -> None:
        """A filter above a node."""
        name, target = self.name(), self.pick(where)

        def then() -> None:
            self.lead(target, name, ())
            self.file[name] = target

        self.change(self.graph.insert({**options, "node-name": name}, above=target), then)

    @rule(options=FILTERS, where=NUMBERS)
    def insert_below(self, options: dict[str, object], where: int) -> None:
        """A filter below a node; where that has no child it is refused."""
        name, target = self.name(), self.pick(where)

        def then() -> None:
            self.file[name] = self.file[target]
            self.file[target] = name

        self.change(self.graph.insert({**options, "node-name": name}, below=target), then)

    @rule(where=NUMBERS)
    def remove(self, where: int) -> None:
        """A filter goes; a disk is refused."""
        name = self.pick(where)

        def then() -> None:
            self.lead(name, self.file[name], ())
            del self.file[name]

        self.change(self.graph.remove(name), then)

    @rule(where=NUMBERS, by=NUMBERS)
    def replace(self, where: int, by: int) -> None:
        """All users of a node go to another one over the same disk."""
        old, new = self.pick(where), self.pick(by)
        if self.bottom(old) == self.bottom(new):
            self.change(self.graph.replace(old, new), lambda: self.lead(old, new, self.under(new)))

    @rule(where=NUMBERS, by=NUMBERS)
    def replace_child(self, where: int, by: int) -> None:
        """A node gets another child over the same disk."""
        name, new = self.pick(where), self.pick(by)
        if self.bottom(name) == self.bottom(new):
            child = child_of(self.graph[name].options.driver)
            self.change(self.graph.replace_child(name, child, new), lambda: self.file.__setitem__(name, new))

    @rule(latency=st.integers(0, 2000), where=NUMBERS)
    def reopen(self, latency: int, where: int) -> None:
        """A filter gets other options; a disk has none that it could."""
        name = self.pick(where)
        options: dict[str, object] = {"node-name": name, "driver": self.graph[name].options.driver}
        option = child_of(options["driver"])
        if name in self.file:
            options[option] = self.graph[name].children[option].node.node_name
        child = options.get(option)
        if options["driver"] == "delay":
            options["latency-ns"] = latency
        if options["driver"] == "blkdebug" and latency % 2:
            options["inject-error"] = [{"event": "pwritev", "errno": 0}]
        if options["driver"] != "memory":
            self.change(self.graph.reopen(options), lambda: self.file.__setitem__(name, str(child)))

    @rule(options=FILTERS, where=NUMBERS)
    def add(self, options: dict[str, object], where: int) -> None:
        """A node that nobody uses yet."""
        name, target = self.name(), self.pick(where)
        self.graph.add({**options, "node-name": name, child_of(options["driver"]): target})
        self.file[name] = target

    @precondition(lambda self: not self.pending)
    @rule(where=NUMBERS)
    def delete(self, where: int) -> None:
        """A node goes exactly if nobody uses it."""
        name = self.pick(where)
        used = name in self.file.values() or name in self.root.values()
        refused = False
        try:
            self.graph.delete(name)
        except OptionError:
            refused = True
        assert refused == used
        if not refused:
            del self.file[name]

    # --- what always holds

    @invariant()
    def the_graph_is_the_models(self) -> None:
        """Edges, references and permissions."""
        nodes = self.graph.nodes
        edges = [edge for node in nodes.values() for edge in node.parents]
        for edge in edges:
            user = edge.user_object
            if edge.node.fitting() is None:
                assert edge.read == edge.node.served.read, "it leads where it says"
                assert edge.read_now == edge.node.served.read_now
            if isinstance(user, BlockNode):
                assert user.children[edge.name] is edge
                assert nodes[user.node_name] is user
            else:
                assert isinstance(user, BlockBackend)
                assert user.edge is edge
                assert user.node is edge.node
        if self.pending:
            return
        assert {
            edge.user_object.name: edge.node.node_name
            for edge in edges
            if isinstance(edge.user_object, BlockNode)
        } == self.file
        assert {
            edge.user_object.name: edge.node.node_name
            for edge in edges
            if isinstance(edge.user_object, BlockBackend)
        } == self.root
        for name, node in nodes.items():
            users = [*self.file.values(), *self.root.values()].count(name)
            assert node.references == users + 1
            assert not node.sections
            used = Perm.NONE
            for who, at in self.root.items():
                if name in self.under(at):
                    used |= Perm.CONSISTENT_READ | (Perm.NONE if who == "reader" else Perm.WRITE)
            assert Perm(sum({bit for edge in node.parents for bit in edge.use.used})) == used

    def teardown(self) -> None:
        """Everything runs out: each request has ended once, rightly, and the disks hold what was written."""
        self.context.run_until_idle()
        self.the_graph_is_the_models()
        assert self.pending == 0
        assert not self.busy
        for check in self.checks:
            check()
        for disk in self.disks.values():
            assert not disk.backend.in_flight
        for name, content in self.content.items():
            expected = b"".join(bytes([fill]) * BLOCK for fill in content)
            assert Disk(self.graph[name]).read(0, SIZE) == expected
        for disk in self.disks.values():
            disk.backend.close()
        self.graph.close()
        self.context.close()


TestGraphMachine = GraphMachine.TestCase
TestGraphMachine.settings = settings(
    max_examples=settings().max_examples // 2, stateful_step_count=40, deadline=None
)


@pytest.mark.slow
class TestGraphMachineForLong(GraphMachine.TestCase):  # type: ignore[misc, valid-type]
    """The same, longer."""

    settings = settings(max_examples=500, stateful_step_count=60, deadline=None)
