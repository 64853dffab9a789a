"""The graph against QEMU's: the same options make the same edges with the same permissions, and the same disks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockBackend, BlockOptionError, Graph, open_node
from devmodels.blockbackend.describe import describe
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.qemuio import need
from tests.unit.blockbackend.support import Disk

pytestmark = pytest.mark.qemu

SIZE = 1 << 20


@pytest.fixture(autouse=True)
def _tools() -> None:
    need("qemu-io", "qemu-storage-daemon")


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext.virtual()
    yield context
    context.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    return path


Edges = set[tuple[str, str, str, frozenset[str], frozenset[str]]]


def edges(data: dict[str, list[dict[str, object]]]) -> Edges:
    """Parent, child, name, what is used and what is shared, of each edge."""
    names = {node["id"]: str(node["name"]) for node in data["nodes"]}
    found = set()
    for edge in data["edges"]:
        perm, shared = edge["perm"], edge["shared-perm"]
        assert isinstance(perm, list)
        assert isinstance(shared, list)
        found.add(
            (
                names[edge["parent"]],
                names[edge["child"]],
                str(edge["name"]),
                frozenset(perm),
                frozenset(shared),
            )
        )
    return found


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("top", ["f0", "r0", "r1", "t0", "d0", "d1", "v0", "w0"])
def test_edges_and_permissions_are_qemus(image: Path, context: IoContext, top: str, writable: bool) -> None:
    nodes: list[dict[str, object]] = [
        {"driver": "file", "filename": str(image), "node-name": "f0"},
        {"driver": "null-co", "size": 1024, "node-name": "m0"},
        {"driver": "raw", "file": "f0", "node-name": "r0"},
        {"driver": "raw", "file": "f0", "node-name": "r1", "offset": 512, "size": 1024},
        {"driver": "throttle", "throttle-group": "g0", "file": "r0", "node-name": "t0"},
        {"driver": "blkdebug", "image": "f0", "node-name": "d0"},
        {
            "driver": "blkdebug",
            "image": {"driver": "null-co", "size": 1024, "node-name": "m1"},
            "node-name": "d1",
            "take-child-perms": ["consistent-read"],
            "unshare-child-perms": ["resize"],
        },
        {
            "driver": "blklogwrites",
            "file": "f0",
            "log": {"driver": "null-co", "size": 1024, "node-name": "l0"},
            "node-name": "w0",
        },
        {"driver": "blkverify", "test": "r1", "raw": "m0", "node-name": "v0"},
    ]
    arguments = ["--object", "throttle-group,id=g0"]
    for node in nodes:
        arguments += ["--blockdev", json.dumps(node)]
    socket = image.with_name("e0")
    arguments += [
        "--export",
        (
            f"vhost-user-blk,id=e0,node-name={top},addr.type=unix,addr.path={socket},"
            f"writable={'on' if writable else 'off'}"
        ),
    ]
    commands = ("qmp_capabilities", "x-debug-query-block-graph", "quit")
    answer = subprocess.run(
        ["qemu-storage-daemon", *arguments, "--chardev", "stdio,id=c", "--monitor", "c"],
        input="".join(json.dumps({"execute": command}) for command in commands),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    replies = [json.loads(line) for line in answer.stdout.splitlines()]
    theirs = next(reply["return"] for reply in replies if reply.get("return"))

    graph = Graph(context)
    graph.add_object({"qom-type": "throttle-group", "id": "g0"})
    for node in nodes:
        graph.add(node)
    backend = BlockBackend(graph[top], name="e0", read_only=not writable)
    backend.name = ""  # QEMU's has none.
    ours = json.loads(json.dumps(describe(graph.nodes.values())))
    assert edges(ours) == edges(theirs)
    graph.close()


@pytest.mark.parametrize("offset", [0, 512, 4096, SIZE - 512, SIZE, SIZE + 512])
@pytest.mark.parametrize("size", [None, 0, 512, 4096, 100, SIZE - 512, SIZE])
def test_raw_shows_what_qemus_does(image: Path, context: IoContext, offset: int, size: int | None) -> None:
    options: dict[str, object] = {"driver": "raw", "offset": offset}
    options |= {} if size is None else {"size": size}
    options["file"] = {"driver": "file", "filename": str(image)}
    command = ["qemu-io", "-c", "write -P 0x5a 0 512", "json:" + json.dumps(options)]
    theirs = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    written, refused = image.read_bytes(), "can't open" in theirs.stderr
    image.write_bytes(bytes(SIZE))
    try:
        node = open_node(options, context)
    except BlockOptionError:
        assert refused
        return
    assert not refused
    disk = Disk(node)
    disk.write(0, b"\x5a" * 512)
    disk.backend.close()
    node.close()
    assert image.read_bytes() == written
