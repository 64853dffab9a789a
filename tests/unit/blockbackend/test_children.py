"""Nodes over nodes: nested options or names, what is inherited, what is refused, and who is still there afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockBackend, BlockOptionError, Flags, Graph, Op, open_node
from devmodels.blockbackend.permissions import USES, PermissionConflictError, Role
from devmodels.blockbackend.registry import coerce
from devmodels.iocontext import IoContext
from devmodels.options import parse_keyval
from tests.unit.blockbackend.support import SIZE, Disk

MEMORY: dict[str, object] = {"driver": "memory", "size": SIZE}


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext.virtual()
    yield context
    context.close()


@pytest.fixture
def graph(context: IoContext) -> Iterator[Graph]:
    graph = Graph(context)
    yield graph
    graph.close()
    assert not graph.nodes


def complaint(graph: Graph, options: dict[str, object]) -> str:
    """The line for options that cannot be opened; nothing stays of them."""
    before = dict(graph.nodes)
    with pytest.raises(BlockOptionError) as caught:
        graph.add(json.dumps(options))
    assert graph.nodes == before
    return str(caught.value)


# --- children


def test_a_nested_child_is_opened_and_named(graph: Graph) -> None:
    raw = graph.add({"driver": "raw", "node-name": "r0", "file": {**MEMORY, "node-name": "m0"}})
    assert list(graph.nodes) == ["m0", "r0"]
    assert raw.children["file"].node is graph["m0"]
    assert (graph["m0"].references, raw.references) == (1, 1)


def test_a_child_by_name_is_shared(graph: Graph) -> None:
    memory = graph.add({**MEMORY, "node-name": "m0"})
    raws = [graph.add({"driver": "raw", "node-name": f"r{n}", "file": "m0"}) for n in range(2)]
    assert [edge.user_object for edge in memory.parents] == raws
    assert memory.references == 3


def test_a_nested_child_ends_with_its_parent_one_of_its_own_does_not(graph: Graph) -> None:
    graph.add({**MEMORY, "node-name": "m0"})
    graph.add({"driver": "raw", "node-name": "r0", "file": "m0"})
    graph.add({"driver": "raw", "node-name": "r1", "file": {**MEMORY, "node-name": "m1"}})
    graph.delete("r0")
    graph.delete("r1")
    assert list(graph.nodes) == ["m0"]


def test_a_nested_child_that_another_node_uses_too_stays(graph: Graph) -> None:
    graph.add({"driver": "raw", "node-name": "r0", "file": {**MEMORY, "node-name": "m0"}})
    graph.add({"driver": "raw", "node-name": "r1", "file": "m0"})
    graph.delete("r0")
    assert not graph["m0"].closed
    graph.delete("r1")
    assert not graph.nodes


def test_a_used_node_is_not_deleted(graph: Graph) -> None:
    graph.add({"driver": "raw", "node-name": "r0", "file": {**MEMORY, "node-name": "m0"}})
    backend = BlockBackend(graph["r0"], name="vda")
    with pytest.raises(ValueError, match=r"^node 'm0' is in use: node 'r0' \(file\)$"):
        graph.delete("m0")
    with pytest.raises(ValueError, match=r"^node 'r0' is in use: backend 'vda' \(root\)$"):
        graph.delete("r0")
    backend.close()
    graph.delete("r0")


def test_what_a_child_is_not_told_is_as_with_its_parent(graph: Graph, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    nested = {"driver": "file", "filename": str(image)}
    cache = {"no-flush": True}
    raw = graph.add({"driver": "raw", "read-only": True, "force-share": True, "cache": cache, "file": nested})
    options = raw.children["file"].node.options
    assert options.read_only
    assert options.force_share
    assert options.cache.no_flush
    assert options.discard == "unmap"
    raw.close()
    raw = graph.add({"driver": "raw", "file": {**nested, "read-only": True, "discard": "ignore"}})
    options = raw.children["file"].node.options
    assert (options.read_only, options.force_share, options.discard) == (True, False, "ignore")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"driver": "raw"}, "$.file: missing; expected the options of a node, or the name of one"),
        (
            {"driver": "raw", "file": 7},
            "$.file: 7 is given; expected the options of a node, or the name of one",
        ),
        ({"driver": "raw", "file": "m1"}, '$.file: "m1" is given; expected "m0"'),
        ({"driver": "raw", "file": {}}, '$.file.driver: missing; expected one of "'),
        ({"driver": "raw", "file": {"driver": "file"}}, "$.file.filename: missing; expected a string"),
        (
            {"driver": "raw", "file": {"driver": "raw", "file": {"driver": "file", "filename": "/no/such"}}},
            "$.file.file.filename: cannot open '/no/such'",
        ),
        (
            {"driver": "raw", "file": {**MEMORY, "cache": {"direct": "no"}}},
            '$.file.cache.direct: "no" is given; expected on or off',
        ),
        (
            {"driver": "raw", "file": {**MEMORY, "node-name": "m0"}},
            '$.file.node-name: "m0" is given; a node of that name is there',
        ),
        (
            {"driver": "raw", "node-name": "x", "file": {**MEMORY, "node-name": "x"}},
            '$.node-name: "x" is given; a node of that name is there',
        ),
    ],
)
def test_a_wrong_option_is_named_with_its_place(graph: Graph, options: dict[str, object], text: str) -> None:
    graph.add({**MEMORY, "node-name": "m0"})
    assert complaint(graph, options).startswith(text)
    assert graph["m0"].references == 1


def test_nodes_nested_too_deep_are_refused(graph: Graph) -> None:
    options: dict[str, object] = MEMORY
    for _ in range(150):
        options = {"driver": "raw", "file": options}
    assert "more than 100 nodes in one another" in complaint(graph, options)


def test_a_node_of_another_context_is_refused(graph: Graph) -> None:
    other = IoContext.virtual()
    graph.nodes["m0"] = open_node(MEMORY, other)
    assert "it belongs to another context" in complaint(graph, {"driver": "raw", "file": "m0"})
    graph.nodes.pop("m0").close()
    other.close()


def test_key_value_options_of_children_get_their_types() -> None:
    text = "driver=raw,offset=1k,file.driver=raw,file.file.driver=memory,file.file.size=1M,file.read-only=on"
    assert coerce(parse_keyval(text)) == {
        "driver": "raw",
        "offset": 1024,
        "file": {"driver": "raw", "read-only": True, "file": {"driver": "memory", "size": 1 << 20}},
    }


# --- raw


def window(offset: int, size: int | None = None) -> Disk:
    options: dict[str, object] = {"driver": "raw", "offset": offset, "discard": "unmap", "file": MEMORY}
    if size is not None:
        options["size"] = size
    return Disk(options)


@pytest.mark.parametrize("offset", [0, 1024])
def test_raw_reads_and_writes_its_window(offset: int) -> None:
    disk = window(offset, 4096)
    below = Disk(disk.node.children["file"].node)
    assert below.write(0, bytes(range(256)) * 32) == 0
    assert disk.backend.size == 4096
    assert disk.read(0, 256) == bytes(range(256))
    assert disk.write(512, b"w" * 512) == 0
    assert disk.do(Op.WRITE_ZEROES, 1024, 512) == 0
    assert disk.do(Op.SECURE_ERASE, 1536, 512) == 0
    assert disk.do(Op.FLUSH) == 0
    assert below.read(offset + 512, 1536) == b"w" * 512 + bytes(1024)
    assert disk.do(Op.READ, 4096, 512) != 0
    below.backend.close()
    disk.close()


def test_raw_discards_as_far_as_it_and_its_child_are_told_to() -> None:
    for discard, left in (("unmap", bytes(4096)), ("ignore", b"x" * 4096)):
        disk = Disk({"driver": "raw", "offset": 4096, "discard": discard, "file": MEMORY})
        below = Disk(disk.node.children["file"].node)
        below.write(4096, b"x" * 4096)
        assert disk.do(Op.DISCARD, 0, 4096) == 0
        assert below.read(4096, 4096) == left
        assert disk.node.can_unmap == (discard == "unmap")
        below.backend.close()
        disk.close()


@pytest.mark.parametrize("offset", [0, 512])
def test_raw_gives_what_its_child_has_at_hand(offset: int) -> None:
    disk = window(offset)
    disk.write(1024, b"y" * 512)
    buffer = memoryview(bytearray(512))
    assert disk.backend.read_now([(1024, (buffer,), 512)]) == 1
    assert buffer == b"y" * 512
    disk.close()


def test_raw_over_a_child_in_blocks_makes_requests_fit(tmp_path: Path, context: IoContext) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"\1" * SIZE)
    nested = {"driver": "file", "filename": str(image), "cache": {"direct": True}}
    disk = Disk({"driver": "raw", "offset": 512, "file": nested}, context=context)
    assert disk.write(100, b"\2" * 50) == 0
    assert disk.read(99, 52) == b"\1" + b"\2" * 50 + b"\1"
    assert disk.backend.read_now([(0, (memoryview(bytearray(512)),), 512)]) == 0
    disk.backend.close()
    disk.node.close()
    assert image.read_bytes()[600:700] == b"\1" * 12 + b"\2" * 50 + b"\1" * 38


def test_raw_follows_its_childs_size() -> None:
    disk = window(4096)
    seen: list[int] = []
    disk.backend.add_resize_listener(seen.append)
    child = disk.node.children["file"].node
    disk.context.run(child.truncate(8192))
    disk.context.run(disk.backend.resize(12288))
    assert (seen, child.size) == ([4096, 12288], 16384)
    disk.context.run(child.truncate(512))
    assert disk.backend.size == 0
    disk.close()


def test_a_fixed_window_shrinks_with_its_child_and_is_not_resized() -> None:
    disk = window(4096, 4096)
    with pytest.raises(OSError, match="fixed size"):
        disk.context.run(disk.backend.resize(8192))
    disk.context.run(disk.node.children["file"].node.truncate(6144))
    assert disk.backend.size == 2048
    disk.close()


@pytest.mark.parametrize(
    ("window_options", "text"),
    [
        ({"offset": 100}, "$.offset: 100 is given; expected a multiple of 512"),
        ({"size": 100}, "$.size: 100 is given; expected a multiple of 512"),
        ({"offset": SIZE + 512}, f"$.offset: {SIZE + 512} is given; the child has {SIZE} bytes"),
        ({"offset": 512, "size": SIZE}, f"$.size: {SIZE} is given; after offset 512 the child has"),
    ],
)
def test_a_window_lies_within_the_child(graph: Graph, window_options: dict[str, object], text: str) -> None:
    assert complaint(graph, {"driver": "raw", "file": MEMORY, **window_options}).startswith(text)


def test_raw_is_a_filter_only_as_a_whole(graph: Graph) -> None:
    whole = graph.add({"driver": "raw", "file": MEMORY})
    part = graph.add({"driver": "raw", "file": MEMORY, "size": 512})
    assert whole.children["file"].role == Role.FILTERED | Role.PRIMARY
    assert part.children["file"].role == Role.DATA | Role.PRIMARY


def test_raw_over_a_read_only_child_is_read_only(graph: Graph) -> None:
    raw = graph.add({"driver": "raw", "file": {**MEMORY, "read-only": True}})
    assert BlockBackend(raw).read_only


# --- delay


@pytest.mark.parametrize("op", list(Op))
def test_delay_adds_its_time_to_each_request(op: Op) -> None:
    options = {"driver": "delay", "latency-ns": 7000, "flush-ns": 9000, "discard": "unmap", "file": MEMORY}
    disk = Disk(options)
    data = b"x" if op is Op.WRITE else None
    for _ in range(2):
        disk.submit(op, 0, 0 if op is Op.FLUSH else 1, data)
    disk.context.run_until_idle()
    assert disk.context.now_ns() == (9000 if op is Op.FLUSH else 7000)
    disk.close()


def test_a_filter_sees_each_read() -> None:
    disk = Disk({"driver": "delay", "file": MEMORY})
    assert disk.backend.read_now([(0, (memoryview(bytearray(512)),), 512)]) == 0
    disk.close()


# --- options that an edge sees to


def test_zeroes_are_detected_and_freed_above_any_driver() -> None:
    disk = Disk(
        {"driver": "delay", "detect-zeroes": "unmap", "discard": "unmap", "write-ns": 5, "file": MEMORY}
    )
    assert disk.write(0, bytes(4096), Flags.FUA) == 0
    assert disk.context.now_ns() == 0, "it was a request for zeroes"
    assert disk.write(0, b"1" * 4096) == 0
    assert disk.context.now_ns() == 5
    disk.close()


# --- permissions


def test_a_writers_permission_reaches_the_image(graph: Graph) -> None:
    raw = graph.add({"driver": "raw", "file": {"driver": "delay", "file": {**MEMORY, "node-name": "m0"}}})
    backend = BlockBackend(raw)
    (edge,) = graph["m0"].parents
    assert edge.use == backend.edge.use
    backend.close()
    assert edge.use.used == 0


def test_two_devices_do_not_write_to_one_image(graph: Graph) -> None:
    graph.add({**MEMORY, "node-name": "m0"})
    raws = [graph.add({"driver": "raw", "node-name": f"r{n}", "file": "m0"}) for n in range(2)]
    shared = USES["device"].shared
    first = BlockBackend(raws[0], name="a", shared=shared)
    text = r"^node 'r1' needs 'write' on node 'm0', which node 'r0' does not share$"
    with pytest.raises(PermissionConflictError, match=text):
        BlockBackend(raws[1], name="b", shared=shared)
    assert not raws[1].parents
    first.close()
    second = BlockBackend(raws[1], name="b", shared=shared)
    second.close()


def test_readers_that_share_nothing_written_keep_a_writer_away(graph: Graph) -> None:
    memory = graph.add(MEMORY)
    reader = BlockBackend(memory, name="a", read_only=True, shared=USES["device"].shared)
    other = BlockBackend(memory, name="b", read_only=True, shared=USES["device"].shared)
    with pytest.raises(PermissionConflictError, match="backend 'c' needs 'write' on node"):
        BlockBackend(memory, name="c")
    reader.close()
    other.close()
