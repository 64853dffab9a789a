"""`preallocate`: how long a file is while it grows, and when nobody lets it grow any more."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockBackend, BlockOptionError, Graph, Op, Request, permissions
from devmodels.blockbackend.drivers import linux
from devmodels.blockbackend.drivers.file import FileNode
from devmodels.blockbackend.permissions import Perm, PermissionConflictError
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk

KIB = 1 << 10
MIB = 1 << 20
SIZE = 64 * KIB


class World:
    """`p` over a file of 64 KiB of "x"; `format` is a user that may let it grow."""

    def __init__(self, path: Path, options: dict[str, object] | None = None, *, wall: bool = False) -> None:
        self.path = path
        path.write_bytes(b"x" * SIZE)
        self.context = IoContext.wall() if wall else IoContext.virtual()
        options = dict(options or {})
        self.graph = Graph(self.context)
        file = {"driver": "file", "filename": str(path), "node-name": "f", "cache": options.pop("cache", {})}
        self.graph.add({"driver": "preallocate", "node-name": "p", "file": file, **options})
        self.backend = BlockBackend(self.graph["p"])

    @contextmanager
    def format(self) -> Iterator[None]:
        """Meanwhile its user may resize it, as an image format does."""
        with permissions.more(self.backend.edge, Perm.RESIZE):
            yield

    def put(self, offset: int, data: bytes, op: Op = Op.WRITE) -> None:
        """A write of the format."""
        request = Request(op, offset, len(data), [memoryview(data)] if op is Op.WRITE else [])
        self.context.run(self.backend.edge.handlers[op](request))

    @property
    def length(self) -> int:
        """How long the file is."""
        return self.path.stat().st_size

    def close(self) -> None:
        """Close all."""
        self.backend.close()
        self.graph.close()
        self.context.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "image"


@pytest.mark.parametrize("op", [Op.WRITE, Op.WRITE_ZEROES])
def test_a_file_grows_in_advance_and_ends_with_its_data(path: Path, op: Op) -> None:
    world = World(path, {"prealloc-size": 4 * MIB, "prealloc-align": MIB})
    data = b"y" * KIB if op is Op.WRITE else bytes(KIB)
    with world.format():
        world.put(SIZE, data, op)
        assert world.length == 5 * MIB
        assert path.stat().st_blocks * 512 >= 4 * MIB
        assert world.backend.size == SIZE + KIB
        world.put(SIZE + 2 * KIB, data, op)
        assert (world.length, world.backend.size) == (5 * MIB, SIZE + 3 * KIB)
        world.put(5 * MIB, data, op)
        assert world.length == 10 * MIB
    assert world.length == world.backend.size == 5 * MIB + KIB
    assert path.read_bytes()[SIZE : SIZE + 3 * KIB] == data + bytes(KIB) + data
    world.close()


def test_what_is_at_hand_is_read_without_a_request(path: Path) -> None:
    world = World(path)
    buffer = memoryview(bytearray(512))
    assert world.backend.read_now([(0, (buffer,), 512)]) == 1
    assert buffer == b"x" * 512
    world.close()


def test_what_does_not_grow_it_allocates_nothing(path: Path) -> None:
    world = World(path)
    with world.format():
        world.put(0, b"y" * SIZE)
        assert world.length == SIZE
    world.close()


def test_who_may_not_resize_gets_no_more_than_he_writes(path: Path) -> None:
    world = World(path)
    disk = Disk(world.graph["p"])
    assert disk.do(Op.WRITE, SIZE, data=b"y" * 512) == errno.EIO
    assert world.length == SIZE
    world.context.run(world.backend.resize(2 * SIZE))
    assert (world.length, world.backend.size) == (2 * SIZE, 2 * SIZE)
    disk.backend.close()
    world.close()


def test_meanwhile_nobody_else_may_write(path: Path) -> None:
    world = World(path)
    other = BlockBackend(world.graph["f"])
    with pytest.raises(PermissionConflictError, match="needs 'write' on node 'f'"), world.format():
        pass
    other.close()
    world.close()


def test_it_is_cut_when_it_rests_is_reopened_or_closed(path: Path) -> None:
    world = World(path)
    world.backend.activate()
    with world.format():
        world.put(SIZE, b"y")
        assert world.length > 128 * MIB
        world.context.run(world.backend.inactivate())
        assert world.length == SIZE + 1
        world.backend.activate()
        world.put(SIZE + 512, b"y")
        assert world.length > 128 * MIB
        options = {"driver": "preallocate", "node-name": "p", "file": "f", "prealloc-size": MIB}
        world.context.run(world.graph.reopen(options))
        assert world.length == SIZE + 513
        world.put(SIZE + 1024, b"y")
        assert world.length == 2 * MIB
        world.graph.close()
        assert world.length == SIZE + 1025
        world.graph.add({"driver": "null-co", "node-name": "p"})
    world.close()


def test_a_resize_drops_what_was_allocated_in_advance(path: Path) -> None:
    world = World(path, {"prealloc-size": MIB})
    with world.format():
        world.put(SIZE, b"y" * 512)
        world.context.run(world.graph["p"].truncate(8 * MIB))
        assert (world.length, world.backend.size) == (8 * MIB, 8 * MIB)
        assert path.stat().st_blocks * 512 < MIB
        world.context.run(world.graph["p"].truncate(SIZE))
        assert (world.length, world.backend.size) == (SIZE, SIZE)
        world.put(SIZE, b"z" * 512)
        assert world.backend.size == SIZE + 512
    assert path.read_bytes()[SIZE:] == b"z" * 512
    world.close()


def test_where_the_host_cannot_allocate_the_data_is_written_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "as told")

    monkeypatch.setattr(linux, "fallocate", refuse)
    world = World(path)
    with world.format():
        world.put(SIZE, b"y" * 512)
        assert (world.length, world.backend.size) == (SIZE + 512, SIZE + 512)
    assert path.read_bytes() == b"x" * SIZE + b"y" * 512
    world.close()


def test_what_cannot_be_cut_is_said_in_the_log(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_size: int) -> None:
        raise OSError(errno.EIO, "as told")

    world = World(path)
    with world.format():
        world.put(SIZE, b"y" * 512)
        monkeypatch.setattr(world.graph["f"], "truncate_now", refuse)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "node 'p': cannot drop preallocation: as told" in caplog.text
    world.close()


@pytest.mark.parametrize("direct", [False, True])
def test_writes_that_wait_for_room_are_not_zeroed(path: Path, direct: bool) -> None:
    """Many at once, each beyond the end, by workers."""
    options: dict[str, object] = {"prealloc-size": 0, "prealloc-align": 64 * KIB, "cache": {"direct": direct}}
    world = World(path, options, wall=True)
    length = 4 * KIB
    ends: list[Request] = []
    with world.format():

        async def put(number: int) -> None:
            data = memoryview(bytes([number]) * length)
            request = Request(Op.WRITE, SIZE + number * length, length, [data])
            await world.backend.edge.write(request)
            ends.append(request)

        for number in range(64):
            world.context.start(put(number))
        while len(ends) < 64:
            world.context.run_once()
    assert world.length == SIZE + 64 * length
    assert path.read_bytes()[SIZE:] == b"".join(bytes([number]) * length for number in range(64))
    world.close()


@pytest.mark.parametrize("moved", [False, True])
def test_a_write_into_what_is_being_zeroed_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    async def slow(self: FileNode, function: Callable[[], None]) -> None:
        zeroes = isinstance(function, partial) and function.func == self._write_zeroes
        await self.context.sleep(100 if zeroes else 1)
        function()

    monkeypatch.setattr(FileNode, "_blocking", slow)
    world = World(path)
    if moved:
        world.context = IoContext.virtual()
        for node in world.graph.nodes.values():
            node.moved(world.context)
        world.backend.moved(world.context)
    with world.format():
        for offset, byte in ((SIZE + 4096, b"1"), (SIZE, b"2"), (SIZE + 8192, b"3")):
            data = memoryview(byte * 4096)
            world.context.start(world.backend.edge.write(Request(Op.WRITE, offset, 4096, [data])))
        world.context.run_until_idle()
    assert path.read_bytes()[SIZE:] == b"2" * 4096 + b"1" * 4096 + b"3" * 4096
    world.close()


STEPS = st.lists(
    st.tuples(st.sampled_from([Op.WRITE, Op.WRITE_ZEROES]), st.integers(0, 50), st.integers(1, 9)), max_size=8
)


@given(
    st.lists(
        st.tuples(st.sampled_from([Op.WRITE, Op.WRITE_ZEROES]), st.integers(0, 50), st.integers(1, 9)),
        max_size=8,
    ),
    st.sampled_from([0, 512, 4096]),
    st.sampled_from([0, 1000, 8192]),
    st.booleans(),
)
def test_the_disk_is_what_was_written_and_the_file_is_long_enough(
    steps: list[tuple[Op, int, int]], align: int, more: int, memory: bool
) -> None:
    context = IoContext.virtual()
    graph = Graph(context)
    file: dict[str, object] = {"driver": "memory", "size": 4096, "node-name": "m"}
    if memory:
        file = {"driver": "delay", "latency-ns": 5, "discard": "unmap", "node-name": "d", "file": file}
    graph.add(
        {
            "driver": "preallocate",
            "node-name": "p",
            "prealloc-align": align,
            "prealloc-size": more,
            "file": file,
        }
    )
    backend = BlockBackend(graph["p"])
    model = bytearray(4096)
    with permissions.more(backend.edge, Perm.RESIZE):
        for number, (op, sector, count) in enumerate(steps):
            start, length = sector * 512, count * 512
            data = bytes([number % 255 + 1] * length) if op is Op.WRITE else bytes(length)
            before = graph["m"].size
            vectors = [memoryview(data)] if op is Op.WRITE else []
            context.run(backend.edge.handlers[op](Request(op, start, length, vectors)))
            model.extend(bytes(max(0, start + length - len(model))))
            model[start : start + length] = data
            assert backend.size == len(model)
            if start + length > before:
                wanted = start + length + more
                unit = max(align, 1)
                assert graph["m"].size == -(-(-(-wanted // unit) * unit) // 512) * 512
            else:
                assert graph["m"].size == before
    assert graph["m"].size == len(model)
    disk = Disk(graph["p"], read_only=True)
    assert disk.read(0, len(model)) == model
    disk.backend.close()
    backend.close()
    graph.close()
    context.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prealloc-align": 100}, "$.prealloc-align: 100 is given; expected a multiple of 512"),
        ({"prealloc-size": -1}, "$.prealloc-size: -1 is given; expected a number of bytes"),
    ],
)
def test_a_wrong_option_is_one_line(path: Path, options: dict[str, object], text: str) -> None:
    with pytest.raises(BlockOptionError) as caught:
        World(path, options)
    assert str(caught.value).startswith(text)
