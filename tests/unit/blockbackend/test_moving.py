"""Nodes and their backends go from one thread to another while I/O runs."""

from __future__ import annotations

import errno
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockBackend, Graph, Op, Request
from devmodels.blockbackend.graph import GraphError
from devmodels.iocontext import IoContext, WrongContextError
from devmodels.options import OptionError
from devmodels.runstate import RunState

BLOCK = 4096
BLOCKS = 16


@pytest.fixture
def graph() -> Iterator[Graph]:
    """A graph on the wall clock with threads t0 and t1."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    context = IoContext.wall()
    context.assert_owner()
    found = Graph(context)
    for name in ("t0", "t1"):
        found.object_add({"qom-type": "iothread", "id": name, "poll-max-ns": 0})
    yield found
    assert all(thread.errors == 0 for thread in found.iothreads.by_id.values())
    found.close()
    context.close()
    sys.setswitchinterval(before)


def on(graph: Graph, thread: str, do: Callable[[], None]) -> None:
    """Do something on a thread and wait for it."""
    errors: list[BaseException] = []

    def safely() -> None:
        try:
            do()
        except BaseException as error:
            errors.append(error)

    graph.iothreads[thread].context.post(safely)
    graph.iothreads[thread].settle()
    if errors:
        raise errors[0]


def where(graph: Graph, name: str) -> str:
    """The thread that a node belongs to."""
    found = {thread.context: name for name, thread in graph.iothreads.by_id.items()}
    return found.get(graph[name].context, "home")


def test_everything_that_hangs_together_moves(graph: Graph) -> None:
    graph.add({"driver": "memory", "node-name": "d0", "size": BLOCK * BLOCKS})
    graph.add({"driver": "raw", "node-name": "r0", "file": "d0", "read-only": True})
    graph.add({"driver": "raw", "node-name": "r1", "file": "d0", "read-only": True})
    graph.add({"driver": "memory", "node-name": "d1", "size": BLOCK})
    backend = BlockBackend(graph["r0"])
    other = BlockBackend(graph["r1"])
    graph.context.run(graph.set_iothread("r0", "t0"))
    assert [where(graph, name) for name in ("d0", "r0", "r1", "d1")] == ["t0", "t0", "t0", "home"]
    assert backend.context is other.context is graph["d0"].context
    graph.context.run(graph.set_iothread("d0", "t1"))
    assert where(graph, "r1") == "t1"
    graph.context.run(graph.set_iothread("r1", None))
    assert where(graph, "r0") == "home"
    assert backend.context is graph.context


def test_each_is_used_where_it_belongs_and_nowhere_else(graph: Graph) -> None:
    graph.add({"driver": "memory", "node-name": "d0", "size": BLOCK})
    backend = BlockBackend(graph["d0"])
    graph.context.run(graph.set_iothread("d0", "t0"))
    seen: list[int] = []

    def use() -> None:
        backend.submit(Request(Op.FLUSH, 0, 0, done=lambda request: seen.append(threading.get_ident())))
        assert backend.read_now([(0, [memoryview(bytearray(512))], 512)]) == 1

    on(graph, "t0", use)
    assert seen == [graph.iothreads["t0"].ident]
    for wrong in (use, lambda: setattr(backend, "write_cache", False)):
        with pytest.raises(WrongContextError):
            wrong()
        with pytest.raises(WrongContextError):
            on(graph, "t1", wrong)
    node = graph["d0"]
    forbidden: list[Callable[[], object]] = [
        lambda: BlockBackend(node),
        lambda: node.reopen(node.options),
        backend.activate,
    ]
    for each in forbidden:
        with pytest.raises(WrongContextError):
            each()
    with pytest.raises(WrongContextError):
        graph.context.run(backend.drain())
    with pytest.raises(WrongContextError):
        graph.context.run(backend.resize(BLOCK))


@pytest.mark.long
@pytest.mark.parametrize("aio", ["threads", "io_uring", "sync", "memory"])
def test_it_moves_to_and_fro_under_load(graph: Graph, tmp_path: Path, aio: str) -> None:
    """Writes come from wherever the disk is; each is done once, and in order where it must be."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(BLOCK * BLOCKS))
    limits = {"iops-total": 20000}
    graph.object_add({"qom-type": "throttle-group", "id": "g", "limits": limits})
    options: dict[str, object] = {"driver": "file", "filename": str(image), "aio": aio}
    if aio == "memory":
        options = {"driver": "memory", "size": BLOCK * BLOCKS}
    try:
        graph.add({**options, "node-name": "d0", "accounting": True})
    except OptionError as error:
        pytest.skip(str(error))
    graph.add({"driver": "throttle", "throttle-group": "g", "file": "d0", "node-name": "thr"})
    graph.add({"driver": "delay", "latency-ns": 20_000, "file": "thr", "node-name": "f0"})
    backend = BlockBackend(graph["f0"])
    counts = [0] * BLOCKS
    over = False
    done = 0

    def write(block: int) -> None:
        """The next write of a block, from where the last one has ended."""
        nonlocal done
        backend.context.assert_owner()
        counts[block] += 1
        data = counts[block].to_bytes(4, "little") * (BLOCK // 4)
        request = Request(Op.WRITE, block * BLOCK, BLOCK, [memoryview(data)])

        def ended(request: Request) -> None:
            nonlocal done
            assert request.error == 0
            done += 1
            if not over:
                write(block)

        request.done = ended
        backend.submit(request)

    for block in range(BLOCKS):
        write(block)
    context = graph.context
    for thread in ("t0", "t1", None) * 4:
        context.run(graph.set_iothread("f0", thread))
        before = done
        while done < before + 40:
            context.run(context.sleep(200_000))
    over = True
    context.run(backend.drain())
    found = backend.stats.as_dict()
    assert done == sum(counts) == found["wr_operations"]
    stats = graph["d0"].stats
    assert stats is not None
    assert stats.as_dict()["wr_operations"] == done - found["wr_merged"]
    for block, count in enumerate(counts):
        data = bytearray(BLOCK)
        backend.submit(Request(Op.READ, block * BLOCK, BLOCK, [memoryview(data)]))
        context.run(backend.drain())
        assert data == count.to_bytes(4, "little") * (BLOCK // 4)
    backend.close()


def test_a_disk_with_a_device_stays(graph: Graph) -> None:
    graph.add({"driver": "memory", "node-name": "d0", "size": BLOCK})
    backend = BlockBackend(graph["d0"], name="vd0", run_state=RunState())
    with pytest.raises(GraphError, match="node 'd0' cannot change its thread: backend 'vd0' works with it"):
        graph.context.run(graph.set_iothread("d0", "t0"))
    assert where(graph, "d0") == "home"
    assert graph["d0"].sections == []
    backend.close()
    graph.context.run(graph.set_iothread("d0", "t0"))


def test_a_driver_that_cannot_move_keeps_all_where_they_are(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.add({"driver": "memory", "node-name": "d0", "size": BLOCK})
    graph.add({"driver": "raw", "node-name": "r0", "file": "d0"})
    backend = BlockBackend(graph["r0"])

    def no(_context: IoContext) -> None:
        raise OSError(errno.ENOMEM, "no memory for a ring")

    monkeypatch.setattr(graph["d0"], "moved", no)
    with pytest.raises(GraphError, match="node 'r0' cannot change its thread: no memory for a ring"):
        graph.context.run(graph.set_iothread("r0", "t0"))
    assert (where(graph, "r0"), where(graph, "d0")) == ("home", "home")
    done: list[int] = []
    backend.submit(Request(Op.FLUSH, 0, 0, done=lambda request: done.append(request.error)))
    assert done == [0]


def test_the_graph_leaves_alone_what_is_elsewhere(graph: Graph) -> None:
    graph.add({"driver": "memory", "node-name": "d0", "size": BLOCK})
    graph.add({"driver": "memory", "node-name": "d1", "size": BLOCK})
    run = graph.context.run
    run(graph.set_iothread("d0", "t0"))
    text = "node 'd0' is on iothread \"t0\"; expected it at home"
    for change in (
        lambda: run(graph.insert({"driver": "raw", "node-name": "f"}, above="d0")),
        lambda: run(graph.replace("d1", "d0")),
        lambda: run(graph.replace("d0", "d1")),
        lambda: run(graph.set_active("d0", False)),
        lambda: run(graph.reopen({"driver": "memory", "node-name": "d0", "size": BLOCK})),
        lambda: graph.delete("d0"),
    ):
        with pytest.raises(GraphError) as caught:
            change()
        assert str(caught.value) == text
    with pytest.raises(OptionError, match='"d0" is given; it belongs to another context'):
        graph.add({"driver": "raw", "node-name": "r0", "file": "d0"})
    with pytest.raises(GraphError, match="object \"t0\" is in use: by node 'd0'"):
        graph.delete_object("t0")
    with pytest.raises(OptionError, match='no iothread "t9"; the iothreads are: "t0", "t1"'):
        run(graph.set_iothread("d0", "t9"))
    run(graph.set_iothread("d0", None))
    graph.delete("d0")
    graph.delete_object("t0")


@pytest.mark.parametrize("driver", ["blkverify", "blklogwrites"])
def test_requests_that_wait_for_each_other_do_so_where_the_filter_is(graph: Graph, driver: str) -> None:
    slow = {"driver": "delay", "latency-ns": 1000, "file": {"driver": "memory", "size": BLOCK}}
    children = {"blkverify": ("test", "raw"), "blklogwrites": ("file", "log")}[driver]
    graph.add({"driver": driver, "node-name": "v0", children[0]: slow, children[1]: slow})
    backend = BlockBackend(graph["v0"])
    graph.context.run(graph.set_iothread("v0", "t0"))
    requests = [Request(Op.WRITE, 0, 512, [memoryview(b"x" * 512)]) for _ in range(3)]
    seen: list[int] = []

    def use() -> None:
        for request in requests:
            request.done = lambda request: seen.append(threading.get_ident())
            backend.submit(request)

    on(graph, "t0", use)
    graph.context.run(graph.set_iothread("v0", None))
    assert [request.error for request in requests] == [0, 0, 0]
    assert seen == [graph.iothreads["t0"].ident] * 3


def test_a_throttle_group_counts_over_threads(graph: Graph) -> None:
    """Three disks on three threads, as fast as they can: together no more than their limit, and all get on."""
    limit = 1000
    graph.object_add({"qom-type": "throttle-group", "id": "g", "limits": {"iops-total": limit}})
    done = [0, 0, 0]
    over = False
    started = time.monotonic_ns()

    def read(number: int, backend: BlockBackend) -> None:
        def ended(request: Request) -> None:
            assert request.error == 0
            done[number] += 1
            if not over:
                read(number, backend)

        backend.submit(Request(Op.READ, 0, 512, [memoryview(bytearray(512))], done=ended))

    backends = []
    for number, thread in enumerate((None, "t0", "t1")):
        graph.add({"driver": "memory", "node-name": f"d{number}", "size": BLOCK})
        options = {"driver": "throttle", "throttle-group": "g", "file": f"d{number}"}
        graph.add({**options, "node-name": f"thr{number}"})
        backends.append(BlockBackend(graph[f"thr{number}"]))
        graph.context.run(graph.set_iothread(f"thr{number}", thread))
        backends[number].context.post(partial(read, number, backends[number]))
    while min(done) < 40:
        graph.context.run(graph.context.sleep(1_000_000))
    over = True
    for number in range(3):
        graph.context.run(graph.set_iothread(f"d{number}", None))
    elapsed = time.monotonic_ns() - started
    # A tenth of a second's worth may come at once; and what waits is let go where a disk is drained, to be moved.
    assert sum(done) <= limit * elapsed // 10**9 + limit // 10 + 1 + 3
    counts = [backend.stats.as_dict()["rd_operations"] for backend in backends]
    assert counts == done
    for backend in backends:
        backend.close()
