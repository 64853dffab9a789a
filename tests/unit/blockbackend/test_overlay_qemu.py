"""`overlay` and `copy-on-read` against QEMU's qcow2 with a backing file: the same requests leave the same map."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockBackend, Graph, Op
from devmodels.blockbackend.describe import describe
from devmodels.cli.map import entries
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.qemuio import need
from tests.unit.blockbackend.support import Disk
from tests.unit.blockbackend.test_graph_qemu import edges

pytestmark = pytest.mark.qemu

KIB = 1 << 10
SIZE = 1024 * KIB
CLUSTER = 64 * KIB


@pytest.fixture(autouse=True)
def _tools() -> None:
    need("qemu-img", "qemu-io", "qemu-storage-daemon")


def qemu(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An image shorter than what will stand over it, with a hole."""
    path = tmp_path / "base.img"
    with path.open("wb") as file:
        file.truncate(600 * KIB)
        os.pwrite(file.fileno(), b"o" * 200 * KIB, 0)
        os.pwrite(file.fileno(), b"o" * 100 * KIB, 400 * KIB)
    return path


@pytest.fixture
def top(base: Path) -> Path:
    path = base.with_name("top.qcow2")
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(path), str(SIZE))
    return path


@pytest.fixture
def graph(base: Path) -> Iterator[Graph]:
    context = IoContext.virtual()
    graph = Graph(context)
    graph.add({"driver": "file", "filename": str(base), "node-name": "b0", "read-only": True})
    graph.add({"driver": "memory", "size": SIZE, "node-name": "f0"})
    overlay = {"driver": "overlay", "node-name": "q0", "file": "f0", "backing": "b0", "cluster-size": CLUSTER}
    graph.add(overlay)
    graph.add({"driver": "copy-on-read", "node-name": "c0", "file": "q0"})
    yield graph
    graph.close()
    context.close()


WORDS = ("start", "length", "depth", "present", "zero", "data")


def ours(graph: Graph, name: str) -> list[dict[str, object]]:
    found = graph.context.run(entries(graph[name]))
    return [{word: getattr(entry, word) for word in WORDS} for entry, _ in found]


def theirs(top: Path) -> list[dict[str, object]]:
    """Neighbours that differ only in where they lie are one here."""
    found: list[dict[str, object]] = []
    for entry in json.loads(qemu("qemu-img", "map", "--output=json", str(top))):
        entry = {word: entry[word] for word in WORDS}
        if found and {**found[-1], "start": 0, "length": 0} == {**entry, "start": 0, "length": 0}:
            found[-1]["length"] += entry["length"]
        else:
            found.append(entry)
    return found


WRITES = [(64, 64), (130, 10), (500, 30), (700, 100)]
READS = [(0, 4), (190, 20), (300, 10), (590, 60), (1000, 24)]


def test_maps_of_chains_are_qemus(graph: Graph, top: Path) -> None:
    assert ours(graph, "q0") == theirs(top)
    disk = Disk(graph["q0"])
    for start, length in WRITES:
        qemu("qemu-io", "-c", f"write -P 1 {start}k {length}k", str(top))
        disk.write(start * KIB, b"\1" * length * KIB)
    qemu("qemu-io", "-c", f"write -z {256}k 128k", str(top))
    disk.do(Op.WRITE_ZEROES, 256 * KIB, 128 * KIB)
    assert ours(graph, "q0") == theirs(top)
    disk.backend.close()


def test_what_is_copied_is_what_qemu_copies(graph: Graph, top: Path) -> None:
    disk = Disk(graph["c0"])
    layers = {"driver": "qcow2", "file": {"driver": "file", "filename": str(top)}}
    image = "json:" + json.dumps({"driver": "copy-on-read", "file": layers})
    for start, length in READS:
        qemu("qemu-io", "-c", f"read {start}k {length}k", image)
        disk.read(start * KIB, length * KIB)
        assert ours(graph, "q0") == theirs(top)
    disk.backend.close()


def test_with_bottom_only_what_lies_down_to_there_is_copied_as_in_qemu(graph: Graph, top: Path) -> None:
    """`top`, or `q0`, is in the middle here, and has some data of its own."""
    over = top.with_name("over.qcow2")
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(top), str(over), str(SIZE))
    graph.delete("c0")
    disk = Disk(graph["q0"])
    for start, length in WRITES:
        qemu("qemu-io", "-c", f"write -P 1 {start}k {length}k", str(top))
        disk.write(start * KIB, b"\1" * length * KIB)
    disk.backend.close()
    memory = {"driver": "memory", "size": SIZE}
    overlay = {"driver": "overlay", "node-name": "q1", "file": memory, "backing": "q0"}
    graph.add({**overlay, "cluster-size": CLUSTER})
    graph.add({"driver": "copy-on-read", "node-name": "c1", "file": "q1", "bottom": "q0"})
    disk = Disk(graph["c1"])
    backing = {"driver": "qcow2", "node-name": "q0", "file": {"driver": "file", "filename": str(top)}}
    layers = {"driver": "qcow2", "file": {"driver": "file", "filename": str(over)}, "backing": backing}
    image = "json:" + json.dumps({"driver": "copy-on-read", "bottom": "q0", "file": layers})
    for start, length in READS:
        qemu("qemu-io", "-c", f"read {start}k {length}k", image)
        disk.read(start * KIB, length * KIB)
        assert ours(graph, "q1") == theirs(over)
    assert any(entry["depth"] == 0 and entry["data"] for entry in ours(graph, "q1"))
    disk.backend.close()


@pytest.mark.parametrize("writable", [False, True])
def test_permissions_are_qemus(graph: Graph, base: Path, top: Path, writable: bool) -> None:
    nodes: list[dict[str, object]] = [
        {"driver": "file", "filename": str(base), "node-name": "b0", "read-only": True},
        {"driver": "file", "filename": str(top), "node-name": "f0"},
        {"driver": "qcow2", "file": "f0", "backing": "b0", "node-name": "q0"},
        {"driver": "copy-on-read", "file": "q0", "node-name": "c0"},
    ]
    arguments = [word for node in nodes for word in ("--blockdev", json.dumps(node))]
    socket = top.with_name("e0")
    export = f"vhost-user-blk,id=e0,node-name=c0,addr.type=unix,addr.path={socket}"
    arguments += ["--export", f"{export},writable={'on' if writable else 'off'}"]
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
    found = edges(next(reply["return"] for reply in replies if reply.get("return")))
    backend = BlockBackend(graph["c0"], name="e0", read_only=not writable)
    mine = edges(json.loads(json.dumps(describe(graph.nodes.values()))))
    # qcow2 has metadata to write below, the overlay has not.
    assert {edge for edge in mine if edge[0] == "c0"} == {edge for edge in found if edge[0] == "c0"}
    assert {edge for edge in mine if edge[1] == "b0"} == {edge for edge in found if edge[1] == "b0"}
    backend.close()
