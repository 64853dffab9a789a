"""The graph is changed while I/O runs: nothing is lost, nothing fails, order is kept."""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from devmodels.blockbackend import BlockBackend, BlockOptionError, Graph, GraphError, Op, Request, open_node
from devmodels.blockbackend.drain import drained
from devmodels.blockbackend.permissions import Perm
from devmodels.iocontext import IoContext
from devmodels.options import OptionError
from tests.unit.blockbackend.support import SIZE, Disk, payload

MEMORY: dict[str, object] = {"driver": "memory", "size": SIZE}


@pytest.fixture
def graph() -> Iterator[Graph]:
    context = IoContext.virtual()
    graph = Graph(context)
    yield graph
    graph.close()
    context.close()


def way(node_or_backend: object) -> list[str]:
    """The names of the nodes from a backend to its disk."""
    assert isinstance(node_or_backend, BlockBackend)
    node = node_or_backend.node
    names = [node.node_name]
    while "file" in node.children:
        node = node.children["file"].node
        names.append(node.node_name)
    return names


@pytest.fixture
def disk(graph: Graph) -> Disk:
    """A device over r0 over m0."""
    return Disk(graph.add({"driver": "raw", "node-name": "r0", "file": {**MEMORY, "node-name": "m0"}}))


SLOW: dict[str, object] = {"driver": "delay", "node-name": "slow", "latency-ns": 1000}


def test_a_filter_is_inserted_above_a_node(graph: Graph, disk: Disk) -> None:
    graph.context.run(graph.insert(SLOW, above="r0"))
    assert way(disk.backend) == ["slow", "r0", "m0"]
    assert disk.write(0, b"x") == 0
    assert graph.context.now_ns() == 1000
    graph.context.run(graph.remove("slow"))
    assert way(disk.backend) == ["r0", "m0"]
    assert disk.read(0, 1) == b"x"
    assert graph.context.now_ns() == 1000
    assert "slow" not in graph.nodes


def test_a_filter_is_inserted_below_a_node(graph: Graph, disk: Disk) -> None:
    other = BlockBackend(graph["m0"], name="b")
    graph.context.run(graph.insert(SLOW, below="r0"))
    assert way(disk.backend) == ["r0", "slow", "m0"]
    assert way(other) == ["m0"]
    graph.context.run(graph.remove("slow"))
    assert way(disk.backend) == ["r0", "m0"]


def test_what_a_filter_is_not_told_is_as_with_the_node_below(graph: Graph) -> None:
    graph.add({**MEMORY, "node-name": "m0", "read-only": True, "discard": "unmap"})
    node = graph.context.run(graph.insert(SLOW, above="m0"))
    assert (node.options.read_only, node.options.discard) == (True, "unmap")


def test_requests_wait_for_a_change_and_keep_their_order(graph: Graph, disk: Disk) -> None:
    graph.context.run(graph.insert(SLOW, above="r0"))
    running = disk.submit(Op.WRITE, 0, data=b"1" * 512)
    graph.context.start(graph.remove("slow"))
    waiting = [disk.submit(Op.WRITE, 0, data=b"2" * 1024), disk.submit(Op.READ, 0, 512)]
    assert disk.backend.read_now([(0, (memoryview(bytearray(512)),), 512)]) == 0
    assert way(disk.backend) == ["slow", "r0", "m0"], "the running request is awaited"
    graph.context.run_until_idle()
    assert [request.error for request in (running, *waiting)] == [0, 0, 0]
    assert payload(waiting[1]) == b"2" * 512
    assert graph.context.now_ns() == 1000
    assert disk.backend.read_now([(0, (memoryview(bytearray(512)),), 512)]) == 1


def test_a_device_that_comes_in_a_drained_section_waits_too(graph: Graph, disk: Disk) -> None:
    graph.context.run(graph.insert(SLOW, above="r0"))
    disk.submit(Op.READ, 0, 512)
    graph.context.start(graph.insert({"driver": "raw"}, above="m0"))
    other = Disk(graph["slow"])
    request = other.submit(Op.READ, 0, 512)
    assert other.ends[request] == 0
    graph.context.run_until_idle()
    assert request.error == 0
    assert way(other.backend)[:2] == ["slow", "r0"]


def test_changes_are_done_one_after_the_other(graph: Graph, disk: Disk) -> None:
    for n in range(3):
        graph.context.start(graph.insert({"driver": "delay", "node-name": f"f{n}"}, above="r0"))
    graph.context.start(graph.remove("f1"))
    graph.context.run_until_idle()
    assert way(disk.backend) == ["f0", "f2", "r0", "m0"]


def test_a_stopped_machine_does_not_hold_up_a_change(graph: Graph, disk: Disk) -> None:
    with disk.backend.batch():
        request = disk.submit(Op.READ, 0, 512)
        graph.context.run(graph.insert(SLOW, above="r0"))
    graph.context.run_until_idle()
    assert request.error == 0


def test_all_users_of_a_node_are_replaced_but_for_those_below_the_new_one(graph: Graph, disk: Disk) -> None:
    graph.add({"driver": "delay", "node-name": "top", "file": "r0"})
    other = BlockBackend(graph["r0"], name="b")
    graph.context.run(graph.replace("r0", "top"))
    assert way(disk.backend) == way(other) == ["top", "r0", "m0"]
    assert [edge.user for edge in graph["r0"].parents] == ["node 'top'"]


def test_a_replaced_disk_has_another_content_and_size(graph: Graph, disk: Disk) -> None:
    graph.add({**MEMORY, "node-name": "m1", "size": 1024})
    seen: list[int] = []
    disk.backend.add_resize_listener(seen.append)
    disk.write(0, b"x")
    graph.context.run(graph.replace_child("r0", "file", "m1"))
    assert disk.read(0, 1) == b"\0"
    assert seen == [1024]
    assert "m0" not in graph.nodes, "nobody else used it"


def test_no_change_makes_a_cycle(graph: Graph, disk: Disk) -> None:
    graph.add({"driver": "raw", "node-name": "top", "file": "r0"})
    with pytest.raises(GraphError, match="node 'top' cannot be below node 'r0': it stands over it"):
        graph.context.run(graph.replace_child("r0", "file", "top"))
    with pytest.raises(GraphError, match="cannot be below"):
        graph.context.run(graph.replace_child("r0", "file", "r0"))
    graph.context.run(graph.replace("m0", "top"))
    assert way(disk.backend) == ["r0", "m0"]


def test_a_child_is_not_replaced_in_a_node_that_went_meanwhile(graph: Graph, disk: Disk) -> None:
    graph.context.run(graph.insert(SLOW, above="r0"))
    graph.add({**MEMORY, "node-name": "m1"})
    disk.submit(Op.READ, 0, 512)
    graph.context.start(graph.remove("slow"))
    with pytest.raises(GraphError, match=r"^node 'slow' is no longer there$"):
        graph.context.run(graph.replace_child("slow", "file", "m1"))
    assert way(disk.backend) == ["r0", "m0"]


@pytest.mark.parametrize(
    ("options", "place", "text"),
    [
        (SLOW, {}, "a filter is inserted either above a node or below one"),
        (SLOW, {"above": "x"}, 'no node "x"; the nodes are: "m0", "r0"'),
        (SLOW, {"below": "m0"}, "node 'm0' has no child"),
        (SLOW | {"file": "m0"}, {"above": "r0"}, r"$.file: is given; expected nothing: "),
        (MEMORY, {"above": "r0"}, 'driver "memory" is not a filter'),
        (
            {"driver": "raw", "offset": 512, "node-name": "x"},
            {"above": "r0"},
            "node 'x' is not a filter: driver",
        ),
        (
            SLOW | {"read-only": True},
            {"above": "r0"},
            "node 'slow' is read-only; backend 'r0' wants to write",
        ),
    ],
)
def test_what_cannot_be_inserted_changes_nothing(
    graph: Graph, disk: Disk, options: dict[str, object], place: dict[str, str], text: str
) -> None:
    with pytest.raises(OptionError) as caught:
        graph.context.run(graph.insert(options, **place))
    assert str(caught.value).startswith(text)
    assert way(disk.backend) == ["r0", "m0"]
    assert sorted(graph.nodes) == ["m0", "r0"]
    assert disk.write(0, b"x") == 0


def test_only_filters_are_removed(graph: Graph, disk: Disk) -> None:
    graph.add({"driver": "raw", "node-name": "part", "size": 512, "file": "r0"})
    for name in ("m0", "part"):
        with pytest.raises(GraphError, match="is not a filter"):
            graph.context.run(graph.remove(name))


def test_a_node_closed_by_force_leaves_its_users_errors(graph: Graph, disk: Disk) -> None:
    graph.context.run(graph.insert(SLOW, above="r0"))
    running = disk.submit(Op.READ, 0, 512)
    graph.delete("m0", force=True)
    assert disk.wait(running) == errno.ENOMEDIUM
    assert disk.backend.size == SIZE
    for op in Op:
        assert disk.do(op, 0, 0 if op is Op.FLUSH else 512, b"x" * 512 if op is Op.WRITE else None) in (
            errno.ENOMEDIUM,
            0 if op is Op.DISCARD else errno.ENOMEDIUM,
        )
    assert sorted(graph.nodes) == ["r0", "slow"]
    graph.context.run(graph.replace("slow", "r0"))
    assert way(disk.backend)[0] == "r0"
    graph.delete("r0", force=True)
    assert disk.do(Op.READ, 0, 512) == errno.ENOMEDIUM


def test_a_request_inside_a_filter_that_goes_ends_with_an_error(graph: Graph, disk: Disk) -> None:
    graph.context.run(graph.insert(SLOW, above="r0"))
    running = disk.submit(Op.READ, 0, 512)
    graph.delete("slow", force=True)
    assert disk.wait(running) == errno.ENOMEDIUM
    assert not disk.backend.in_flight


@pytest.mark.parametrize(
    ("change", "victim"),
    [
        (lambda graph: graph.insert(SLOW, above="r0"), "r0"),
        (lambda graph: graph.insert(SLOW, below="r0"), "r0"),
        (lambda graph: graph.insert(SLOW, below="r0"), "m0"),
        (lambda graph: graph.remove("r0"), "r0"),
        (lambda graph: graph.replace("r0", "m1"), "r0"),
        (lambda graph: graph.replace("r0", "m1"), "m1"),
        (lambda graph: graph.replace_child("r0", "file", "m1"), "r0"),
        (lambda graph: graph.replace_child("r0", "file", "m1"), "m1"),
        (lambda graph: graph.reopen({"driver": "raw", "node-name": "r0", "file": "m0"}), "r0"),
        (lambda graph: graph.reopen({"driver": "raw", "node-name": "r0", "file": "m1"}), "m1"),
        (lambda graph: graph.set_active("r0", False), "r0"),
    ],
)
def test_a_node_that_is_closed_by_force_while_it_is_about_to_be_changed(
    graph: Graph, change: Callable[[Graph], Coroutine[Any, None, object]], victim: str
) -> None:
    for name in ("m0", "m1"):
        graph.add({"driver": "null-co", "node-name": name, "latency-ns": 1000})
    disk = Disk(graph.add({"driver": "raw", "node-name": "r0", "file": "m0"}))
    running = disk.submit(Op.READ, 0, 512)
    errors: list[BaseException | None] = []
    graph.context.start(change(graph), lambda _, error: errors.append(error))
    assert not errors, "the change waits for what is running"
    graph.delete(victim, force=True)
    graph.context.run_until_idle()
    (error,) = errors
    assert isinstance(error, GraphError)
    assert str(error) == f"node '{victim}' is no longer there"
    assert disk.wait(running) == 0
    assert disk.do(Op.READ, 0, 512) == (0 if victim == "m1" else errno.ENOMEDIUM)


def test_image_locks_follow_the_device_through_every_change(graph: Graph, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    file: dict[str, object] = {"driver": "file", "filename": str(image), "active": False}
    node = graph.add(
        {"driver": "raw", "node-name": "r0", "active": False, "file": {**file, "node-name": "f0"}}
    )
    backend = BlockBackend(node, name="a")

    def locked() -> bool:
        other = Graph(graph.context)
        try:
            other.add({**file, "active": True})
        except BlockOptionError as error:
            return "in use elsewhere" in str(error)
        other.close()
        return False

    assert not locked()
    backend.activate()
    assert locked()
    graph.context.run(graph.insert(SLOW, below="r0"))
    assert locked()
    graph.context.run(graph.insert({"driver": "delay", "node-name": "top"}, above="r0"))
    assert locked()
    for name in ("slow", "top"):
        graph.context.run(graph.remove(name))
        assert locked()
    graph.add({**MEMORY, "node-name": "m0"})
    graph.context.run(graph.replace_child("r0", "file", "m0"))
    assert not locked(), "the file is closed"
    graph.add({**file, "node-name": "f1"})
    other = BlockBackend(open_node(file, graph.context), name="b")
    other.activate()
    with pytest.raises(OSError, match="in use elsewhere"):
        graph.context.run(graph.replace_child("r0", "file", "f1"))
    assert way(backend) == ["r0", "m0"]
    other.close()
    other.node.close()
    graph.context.run(graph.replace_child("r0", "file", "f1"))
    assert locked()
    graph.context.run(backend.inactivate())
    assert not locked()


# --- other options, other times


def test_options_are_changed_while_requests_run(graph: Graph, disk: Disk) -> None:
    graph.context.run(graph.insert(SLOW, above="r0"))
    running = disk.submit(Op.READ, 0, 512)
    graph.context.start(graph.reopen({**SLOW, "file": "r0", "latency-ns": 5}))
    waiting = disk.submit(Op.READ, 0, 512)
    graph.context.run_until_idle()
    assert (running.error, waiting.error, graph.context.now_ns()) == (0, 0, 1005)


def test_another_child_takes_the_place_of_the_first(graph: Graph, disk: Disk) -> None:
    disk.write(0, b"x")
    graph.add({**MEMORY, "node-name": "m1", "discard": "unmap"})
    graph.context.run(graph.reopen({"driver": "raw", "node-name": "r0", "file": "m1", "discard": "unmap"}))
    assert way(disk.backend) == ["r0", "m1"]
    assert disk.read(0, 1) == b"\0"
    assert disk.node.options.discard == "unmap"
    disk.write(0, b"x" * 4096)
    assert disk.do(Op.DISCARD, 0, 4096) == 0
    assert disk.read(0, 1) == b"\0"
    assert "m0" not in graph.nodes


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "$.node-name: missing; expected the name of a node"),
        ({"node-name": "x"}, 'no node "x"; the nodes are: "m0", "r0"'),
        ({"node-name": "r0", "driver": "delay"}, '$.driver: "delay" is given; expected "raw", as it is'),
        ({"node-name": "r0", "driver": "raw", "file": "x"}, 'no node "x"'),
        ({"node-name": "r0", "driver": "raw", "file": MEMORY}, "$.file: {"),
        ({"node-name": "r0", "driver": "raw", "file": "r0"}, "node 'r0' cannot be below node 'r0'"),
        (
            {"node-name": "r0", "driver": "raw", "file": "m0", "offset": 512},
            "$.offset: 512 is given; it stays 0 while the node is open",
        ),
        (
            {"node-name": "r0", "driver": "raw", "file": "m0", "read-only": True},
            "node 'r0' is read-only; backend 'r0' wants to write",
        ),
        (
            {"node-name": "r0", "driver": "raw", "file": "m0", "discard": 1},
            "$.discard: 1 is given; expected one of",
        ),
    ],
)
def test_what_cannot_be_reopened_stays_as_it_is(
    graph: Graph, disk: Disk, options: dict[str, object], text: str
) -> None:
    with pytest.raises(OptionError) as caught:
        graph.context.run(graph.reopen(options))
    assert str(caught.value).startswith(text)
    assert way(disk.backend) == ["r0", "m0"]
    assert disk.write(0, b"x") == 0


@pytest.mark.parametrize("direct", [False, True])
def test_a_file_becomes_writable_and_read_only_again(graph: Graph, tmp_path: Path, direct: bool) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"a" * SIZE)
    options: dict[str, object] = {"driver": "file", "filename": str(image), "node-name": "f0"}
    options |= {"cache": {"direct": direct}}
    graph.add({**options, "read-only": True})
    reader = Disk(graph["f0"])
    other = Graph(graph.context)
    other.add({**options, "read-only": True})
    with pytest.raises(OptionError, match=r"^\$.read-only: cannot lock .*in use elsewhere"):
        graph.context.run(graph.reopen(options))
    assert graph["f0"].read_only
    assert reader.read(0, 1) == b"a"
    other.close()
    image.rename(tmp_path / "renamed.img")
    graph.context.run(graph.reopen(options))
    writer = Disk(graph["f0"])
    assert writer.write(0, b"b") == 0
    assert reader.read(0, 1) == b"b"
    assert reader.write(0, b"c") == errno.EPERM, "a device stays what it was"
    with pytest.raises(OptionError, match="node 'f0' is read-only; backend 'f0' wants to write"):
        graph.context.run(graph.reopen({**options, "read-only": True}))
    writer.backend.close()
    graph.context.run(graph.reopen({**options, "read-only": True}))
    other.add({**options, "filename": str(tmp_path / "renamed.img"), "read-only": True})
    other.close()
    assert (tmp_path / "renamed.img").read_bytes() == b"b" + b"a" * (SIZE - 1)


def test_an_image_is_given_up_and_taken_again(graph: Graph, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    file: dict[str, object] = {"driver": "file", "filename": str(image)}
    node = graph.add({"driver": "raw", "node-name": "r0", "file": file})
    run = graph.context.run
    with pytest.raises(BlockOptionError, match="in use elsewhere"):
        open_node(file, graph.context)
    run(graph.set_active("r0", False))
    other = open_node(file, graph.context)
    with pytest.raises(GraphError, match=r"node 'r0': cannot lock .* in use elsewhere"):
        run(graph.set_active("r0", True))
    other.close()
    run(graph.set_active("r0", True))
    backend = BlockBackend(node, name="vda")
    backend.activate()
    with pytest.raises(GraphError, match="node 'r0' is in use: backend 'vda' is active"):
        run(graph.set_active("r0", False))
    run(backend.inactivate())
    run(graph.set_active("r0", False))
    open_node(file, graph.context).close()


def test_a_size_that_another_user_relies_on_stays(graph: Graph, disk: Disk) -> None:
    kept = BlockBackend(graph["m0"], name="b", shared=Perm.ALL & ~Perm.RESIZE)
    with pytest.raises(
        OSError, match="node 'r0' needs 'resize' on node 'm0', which backend 'b' does not share"
    ):
        graph.context.run(disk.backend.resize(512))
    assert disk.write(SIZE - 512, b"x") == 0
    kept.close()
    graph.context.run(disk.backend.resize(512))
    assert disk.backend.edge.use.used == Perm.CONSISTENT_READ | Perm.WRITE


def test_resizes_and_changes_of_the_graph_at_one_time(graph: Graph, disk: Disk) -> None:
    graph.context.run(graph.insert(SLOW, above="r0"))
    disk.submit(Op.READ, 0, 512)
    ends: list[BaseException | None] = []
    for coro in (disk.backend.resize(1024), graph.remove("slow"), disk.backend.resize(2048)):
        graph.context.start(coro, lambda _, error: ends.append(error))
    graph.context.run_until_idle()
    assert ends == [None, None, None]
    assert disk.backend.size == 2048
    assert disk.backend.edge.use.used == Perm.CONSISTENT_READ | Perm.WRITE


def test_a_device_that_raises_as_it_goes_on_leaves_the_others_alone(graph: Graph, disk: Disk) -> None:
    others = [disk, Disk(graph["r0"], read_only=True)]

    def fail(_request: Request) -> None:
        raise RuntimeError("a defect of the device")

    async def section() -> list[Request]:
        async with drained(graph["m0"]):
            return [
                disk.submit(Op.READ, 0, 512, done=fail),
                *(each.submit(Op.READ, 0, 512) for each in others),
            ]

    with pytest.raises(RuntimeError, match="a defect"):
        graph.context.run(section())
    graph.context.run_until_idle()
    assert [len(each.backend.in_flight) for each in others] == [0, 0]
    assert [each.read(0, 1) for each in others] == [b"\0"] * 2


def test_a_node_that_is_being_changed_is_not_deleted(graph: Graph) -> None:
    graph.add({**MEMORY, "node-name": "m0"})
    disk = Disk(graph["m0"])
    graph.context.run(graph.insert(SLOW, above="m0"))
    request = disk.submit(Op.READ, 0, 512)
    graph.context.start(graph.remove("slow"))
    with pytest.raises(GraphError, match="is being changed"):
        graph.delete("slow")
    assert isinstance(request, Request)
    graph.context.run_until_idle()
    assert "slow" not in graph.nodes
