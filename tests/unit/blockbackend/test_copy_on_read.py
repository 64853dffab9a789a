"""`copy-on-read`: what is read is copied, once, and never over what a guest has written meanwhile."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockBackend, BlockOptionError, Graph, Op, Request
from devmodels.blockbackend.ranges import InFlight
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk, payload

CLUSTER = 4096
SIZE = 4 * CLUSTER
OLD = b"o"


class World:
    """`cor` over the overlay `q`, with `top` for its own data and `base`, full of "o", below; both may be slow."""

    def __init__(self, *, slow: dict[str, object] | None = None, size: int = SIZE, **options: object) -> None:
        self.context = IoContext.virtual()
        self.graph = Graph(self.context)
        for name in ("base", "top"):
            self.graph.add({"driver": "memory", "size": size, "node-name": f"{name}-m"})
            delay = {"driver": "delay", "node-name": name, "file": f"{name}-m", "discard": "unmap"}
            self.graph.add(delay | (slow or {}))
        filling = Disk(self.graph["base-m"])
        filling.write(0, OLD * size)
        filling.backend.close()
        self.graph.add({"driver": "overlay", "node-name": "q", "file": "top", "backing": "base"})
        self.graph.add({"driver": "copy-on-read", "node-name": "cor", "file": "q", **options})
        self.disk = Disk(self.graph["cor"])

    def own(self, name: str = "q") -> list[bool]:
        """Which clusters a node has itself."""
        backend = BlockBackend(self.graph[name], read_only=True)
        found: list[bool] = []
        while len(found) * CLUSTER < self.disk.backend.size:
            request = Request(Op.BLOCK_STATUS, len(found) * CLUSTER, CLUSTER)
            backend.submit(request)
            self.context.run_until_idle()
            found.append(request.status.depth == 0)
        backend.close()
        return found

    def close(self) -> None:
        """Close all."""
        self.disk.backend.close()
        self.graph.close()
        self.context.close()


def test_what_is_read_is_copied_and_read_above_from_then_on() -> None:
    world = World()
    assert world.disk.read(CLUSTER + 5, CLUSTER) == OLD * CLUSTER
    assert world.own() == [False, True, True, False]
    base = Disk(world.graph["base-m"])
    base.write(0, b"?" * SIZE)
    base.backend.close()
    assert world.disk.read(0, SIZE) == b"?" * CLUSTER + OLD * 2 * CLUSTER + b"?" * CLUSTER
    assert world.own() == [True] * 4
    world.close()


def test_what_is_there_already_is_not_copied_and_zeroes_are_zeroes() -> None:
    world = World()
    world.disk.write(CLUSTER, b"n" * CLUSTER)
    base = Disk(world.graph["base-m"])
    base.do(Op.WRITE_ZEROES, 0, SIZE)
    base.backend.close()
    assert world.disk.read(0, SIZE) == bytes(CLUSTER) + b"n" * CLUSTER + bytes(2 * CLUSTER)
    top = Disk(world.graph["top-m"], read_only=True)
    assert top.backend.stats is not None
    assert top.read(0, SIZE) == world.disk.read(0, SIZE)
    top.backend.close()
    world.close()


def test_a_filter_between_is_copied_through() -> None:
    world = World()
    world.context.run(
        world.graph.insert({"driver": "delay", "node-name": "between", "latency-ns": 3}, above="q")
    )
    assert world.graph["cor"].children["file"].node is world.graph["between"]
    assert world.disk.read(CLUSTER - 10, 20) == OLD * 20
    assert world.own() == [True, True, False, False]
    world.close()


def test_a_guests_buffer_is_not_what_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest scribbles over its buffer while its read is under way."""
    world = World(slow={"latency-ns": 10})
    request = world.disk.submit(Op.READ, 0, CLUSTER)
    for at in range(1, 100):
        world.context.call_at(at, lambda: request.vectors[0].__setitem__(slice(0, 8), b"scribble"))
    assert world.disk.wait(request) == 0
    world.context.run_until_idle()
    assert world.disk.read(0, CLUSTER) == OLD * CLUSTER
    world.close()


def test_a_copy_that_cannot_be_written_fails_the_read(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async def fails(_request: object) -> None:
        raise OSError(errno.ENOSPC, "as told")

    top = world.graph["top-m"]
    monkeypatch.setattr(top, "write", fails)
    top.changed()
    assert world.disk.do(Op.READ, 0, 512) == errno.ENOSPC
    assert world.own()[0] is False
    world.close()


def test_a_reader_may_use_it_but_a_read_only_child_may_not() -> None:
    world = World()
    world.disk.backend.close()
    reader = Disk(world.graph["cor"], read_only=True)
    assert reader.read(0, 512) == OLD * 512
    assert world.own()[0] is True
    reader.backend.close()
    with pytest.raises(BlockOptionError, match=r"is read-only; node '.*' wants to write-unchanged"):
        world.graph.add(
            {"driver": "copy-on-read", "read-only": True, "file": {"driver": "memory", "size": SIZE}}
        )
    world.close()


# --- bottom


def chain(bottom: str | None) -> World:
    """A second overlay `q2` over `q`; cluster 1 is `q`'s own; `cor2` copies into `q2`."""
    world = World()
    world.disk.write(CLUSTER, b"n" * CLUSTER)
    world.disk.backend.close()
    world.graph.delete("cor")
    memory = {"driver": "memory", "size": SIZE, "node-name": "top2"}
    world.graph.add({"driver": "overlay", "node-name": "q2", "file": memory, "backing": "q"})
    options: dict[str, object] = {"driver": "copy-on-read", "node-name": "cor2", "file": "q2"}
    world.graph.add(options if bottom is None else options | {"bottom": bottom})
    world.disk = Disk(world.graph["cor2"])
    return world


@pytest.mark.parametrize(
    ("bottom", "copied"),
    [
        (None, [True, True, True, True]),
        ("base-m", [True, True, True, True]),
        ("q", [False, True, False, False]),
        ("q2", [False, False, False, False]),
    ],
)
def test_only_data_down_to_bottom_is_copied(bottom: str | None, copied: list[bool]) -> None:
    world = chain(bottom)
    expected = OLD * CLUSTER + b"n" * CLUSTER + OLD * 2 * CLUSTER
    assert world.disk.read(0, SIZE) == expected
    assert world.own("q2") == copied
    assert world.disk.read(0, SIZE) == expected
    world.close()


@pytest.mark.parametrize("bottom", ["nobody", "base", "cor2"])
def test_bottom_is_a_node_of_the_chain_and_no_filter(bottom: str) -> None:
    with pytest.raises(
        BlockOptionError, match=rf'^\$.bottom: "{bottom}" is given; expected one of "q2", "q", "base-m"$'
    ):
        chain(bottom)


# --- nobody's data is overtaken


class Wish(NamedTuple):
    """A request: after `pause` ns, by the device over the filter or by one at the child."""

    pause: int
    kind: Op
    start: int
    sectors: int
    past: bool


class Write(NamedTuple):
    """A write as it was: `value` from `begin` until `end`."""

    begin: int
    end: float
    start: int
    stop: int
    value: int


SECTOR = 512
WISHES = st.lists(
    st.builds(
        Wish,
        st.integers(0, 40),
        st.sampled_from([Op.READ, Op.READ, Op.WRITE, Op.WRITE_ZEROES]),
        st.integers(0, 23),
        st.integers(1, 12),
        st.booleans(),
    ),
    max_size=10,
)


class Watch:
    """Requests at any time, and which bytes each of them may have found."""

    def __init__(self, seed: int) -> None:
        latency = {"distribution": "uniform", "max-ns": 30}
        self.world = World(slow={"latency": latency, "seed": seed}, size=3 * CLUSTER)
        self.past = BlockBackend(self.world.graph["q"])
        self.writes: list[Write] = [Write(-1, -1, 0, 3 * CLUSTER, OLD[0])]
        self.reads: list[tuple[int, int, Request]] = []

    def submit(self, wish: Wish, value: int) -> None:
        """One request; a write is of nothing but `value`."""
        context = self.world.context
        start = wish.start * SECTOR
        length = min(wish.sectors * SECTOR, 3 * CLUSTER - start)
        begin = context.now_ns()
        backend = self.past if wish.past else self.world.disk.backend
        vectors = [memoryview(bytearray([value] * length))] if wish.kind is not Op.WRITE_ZEROES else []
        number = len(self.writes)

        def done(request: Request) -> None:
            assert request.error == 0
            now = context.now_ns()
            if wish.kind is Op.READ:
                self.reads.append((begin, now, request))
            else:
                self.writes[number] = self.writes[number]._replace(end=now)

        if wish.kind is not Op.READ:
            stored = 0 if wish.kind is Op.WRITE_ZEROES else value
            self.writes.append(Write(begin, float("inf"), start, start + length, stored))
        backend.submit(Request(wish.kind, start, length, vectors, done=done))

    async def run(self, wishes: list[Wish]) -> None:
        """All of them."""
        for number, wish in enumerate(wishes):
            await self.world.context.sleep(wish.pause)
            self.submit(wish, number + 1)

    def allowed(self, sector: int, begin: float, end: float) -> set[int]:
        """What a read of [begin, end] may find: no write that another one has followed before the read began."""
        here = [
            each for each in self.writes if each.start <= sector * SECTOR < each.stop and each.begin <= end
        ]
        return {
            each.value
            for each in here
            if not any(other.begin > each.end and other.end < begin for other in here)
        }

    def check(self) -> None:
        """Every read, and what is left at the end."""
        context = self.world.context
        context.run_until_idle()
        for begin, end, request in self.reads:
            self.compare(request, begin, end)
        now = context.now_ns()
        self.reads.clear()
        self.submit(Wish(0, Op.READ, 0, 24, False), 0)
        context.run_until_idle()
        ((_, _, request),) = self.reads
        self.compare(request, now + 1, now + 1)

    def compare(self, request: Request, begin: int, end: int) -> None:
        """What one read found."""
        found = payload(request)
        for at in range(0, request.length, SECTOR):
            sector = (request.offset + at) // SECTOR
            values = set(found[at : at + SECTOR])
            assert len(values) == 1, f"sector {sector} is torn"
            assert values <= self.allowed(sector, begin, end), f"sector {sector}"

    def close(self) -> None:
        """Close all."""
        self.past.close()
        self.world.close()


@given(WISHES, st.integers(0, 3))
def test_no_copy_overtakes_a_write_whenever_they_meet(wishes: list[Wish], seed: int) -> None:
    watch = Watch(seed)
    watch.world.context.start(watch.run(wishes))
    watch.check()
    watch.close()


MEETING = [Wish(0, Op.READ, 0, 8, False), Wish(1, Op.WRITE, 0, 8, False)]


def meet() -> None:
    """A write comes while what is below is being read for a copy."""
    for seed in range(20):
        watch = Watch(seed)
        watch.world.context.start(watch.run(MEETING))
        watch.check()
        watch.close()


def test_the_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the table of what is in flight old data wins, and the check sees it."""
    meet()

    @asynccontextmanager
    async def at_once(*_range: object, serialising: bool) -> AsyncIterator[None]:
        del serialising
        yield

    monkeypatch.setattr(InFlight, "hold", at_once)
    with pytest.raises(AssertionError, match="sector 0"):
        meet()


def test_it_comes_and_goes_while_requests_run() -> None:
    world = World(slow={"latency-ns": 10})
    world.disk.backend.close()
    world.graph.delete("cor")
    disk = Disk(world.graph["q"])
    requests = [disk.submit(Op.READ, at, 512) for at in range(0, SIZE, 512)]
    world.context.run(world.graph.insert({"driver": "copy-on-read", "node-name": "c"}, above="q"))
    requests += [disk.submit(Op.READ, at, 512) for at in range(0, SIZE // 2, 512)]
    world.context.run(world.graph.remove("c"))
    assert all(disk.wait(request) == 0 and payload(request) == OLD * 512 for request in requests)
    assert world.own() == [True, True, False, False]
    assert not world.graph["q"].serialised
    disk.backend.close()
    world.disk = Disk(world.graph["q"])
    world.close()
