"""The volatile write cache: what it keeps, what flushes and FUA make stable, what a power cut leaves."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockBackend, BlockOptionError, Flags, Graph, Op, Request, open_node
from devmodels.blockbackend.drivers.volatile_cache import VolatileCacheNode
from devmodels.blockbackend.status import Status
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk, WatchedNode, payload

SECTOR = 512
SIZE = 16 * SECTOR


class Cache(Disk):
    """A backend over a volatile cache over a disk that does as the test wants."""

    def __init__(self, **options: object) -> None:
        context = IoContext.virtual()
        self.child = WatchedNode(context, SIZE)
        self.child.node_name = "disk"
        given = {"driver": "volatile-cache", "file": "disk", "discard": "unmap", **options}
        node = open_node(given, context, {"disk": self.child})
        assert isinstance(node, VolatileCacheNode)
        self.cache = node
        super().__init__(node)

    @property
    def stable(self) -> bytes:
        """The sectors of the child, by the first byte of each."""
        return bytes(self.child._view[::SECTOR])

    @property
    def seen(self) -> bytes:
        """The sectors as a read shows them."""
        return self.read(0, SIZE)[::SECTOR]

    def put(self, sector: int, letters: str, flags: Flags = Flags.NONE) -> None:
        """Write sectors, one for each letter."""
        assert self.write(sector * SECTOR, sectors(letters), flags) == 0

    def cut(self, choice: str) -> bytes:
        """Cut the power; the child's sectors."""
        self.context.run(self.cache.cut(choice))
        return self.stable


def sectors(letters: str) -> bytes:
    return b"".join(letter.encode() * SECTOR for letter in letters)


@pytest.fixture
def disk() -> Iterator[Cache]:
    disk = Cache()
    yield disk
    disk.close()


def image(text: str) -> bytes:
    """Sectors by letter; `.` and what is not said are zero."""
    return text.replace(".", "\0").ljust(SIZE // SECTOR, "\0").encode()


# --- what is kept, what is seen


def test_writes_are_kept_and_seen(disk: Cache) -> None:
    disk.put(0, "aaa")
    disk.put(1, "b")
    assert disk.do(Op.WRITE_ZEROES, 2 * SECTOR, SECTOR) == 0
    assert disk.child.log() == []
    assert disk.stable == image("")
    assert disk.seen == image("ab")


def test_a_read_of_a_part_sees_parts(disk: Cache) -> None:
    disk.put(2, "abcd")
    request = disk.submit(Op.READ, 3 * SECTOR - 8, 16, cut=5)
    assert disk.wait(request) == 0
    assert payload(request) == b"a" * 8 + b"b" * 8


def test_the_guests_buffer_may_change_after_a_write(disk: Cache) -> None:
    data = bytearray(sectors("a"))
    request = Request(Op.WRITE, 0, SECTOR, [memoryview(data)])
    disk.backend.submit(request)
    data[:] = sectors("z")
    assert disk.seen == image("a")


def test_a_discard_waits_its_turn(disk: Cache) -> None:
    disk.put(0, "aa")
    assert disk.do(Op.FLUSH) == 0
    assert disk.do(Op.DISCARD, 0, SIZE) == 0
    disk.put(1, "b")
    assert disk.seen == image("ab")
    assert disk.do(Op.FLUSH) == 0
    assert [op for op, *_ in disk.child.log() if op is not Op.READ] == [
        Op.WRITE,
        Op.FLUSH,
        Op.DISCARD,
        Op.WRITE,
        Op.FLUSH,
    ]


def test_a_read_under_way_keeps_what_it_found(disk: Cache) -> None:
    disk.put(0, "a")
    disk.child.held = True
    read = Request(Op.READ, 0, SECTOR, [memoryview(bytearray(SECTOR))])
    disk.context.start(disk.cache.read(read))
    flush = disk.submit(Op.FLUSH)
    (reading, writing) = disk.child.waiting
    disk.child.release(writing)
    disk.context.run_until_idle()
    disk.child.release(reading)
    disk.child.held = False
    disk.child.release()
    assert disk.wait(flush) == 0
    assert payload(read) == sectors("a")


def test_block_status_knows_what_is_kept(disk: Cache) -> None:
    disk.put(2, "aa")
    assert disk.do(Op.WRITE_ZEROES, 3 * SECTOR, 2 * SECTOR) == 0
    found, at = [], 0
    while at < 8:
        request = disk.submit(Op.BLOCK_STATUS, at * SECTOR, (8 - at) * SECTOR)
        assert disk.wait(request) == 0
        flags = request.status.flags & (Status.DATA | Status.ZERO | Status.OFFSET_VALID)
        found.append((at, flags))
        at += request.status.pnum // SECTOR
    nothing = Status.ZERO | Status.OFFSET_VALID
    assert found == [(0, nothing), (2, Status.DATA), (3, Status.ZERO), (4, Status.ZERO), (5, nothing)]


# --- flush and FUA


def test_a_flush_brings_everything_down_in_order(disk: Cache) -> None:
    disk.put(0, "aaaa")
    disk.put(1, "bb")
    assert disk.do(Op.WRITE_ZEROES, 0, SECTOR, flags=Flags.MAY_UNMAP) == 0
    assert disk.do(Op.FLUSH) == 0
    assert disk.child.log() == [
        (Op.WRITE, 0, 4 * SECTOR),
        (Op.WRITE, SECTOR, 2 * SECTOR),
        (Op.WRITE_ZEROES, 0, SECTOR),
        (Op.FLUSH, 0, 0),
    ]
    assert disk.child.seen[2].flags == Flags.MAY_UNMAP
    assert disk.stable == image(".bba")
    assert not disk.cache.volatile


def test_a_flush_leaves_what_comes_after_it(disk: Cache) -> None:
    disk.put(0, "a")
    disk.child.held = True
    flush = disk.submit(Op.FLUSH)
    disk.put(1, "b")
    disk.child.held = False
    disk.child.release()
    assert disk.wait(flush) == 0
    assert disk.stable == image("a")
    assert disk.seen == image("ab")


def test_a_second_flush_waits_for_what_the_first_is_bringing_down(disk: Cache) -> None:
    disk.put(0, "a")
    disk.child.held = True
    flushes = [disk.submit(Op.FLUSH) for _ in range(2)]
    disk.context.run_until_idle()
    assert [disk.ends[flush] for flush in flushes] == [0, 0]
    assert disk.child.log() == [(Op.WRITE, 0, SECTOR)]
    disk.child.held = False
    disk.child.release()
    assert [disk.wait(flush) for flush in flushes] == [0, 0]
    assert disk.child.log()[1:] == [(Op.FLUSH, 0, 0)] * 2


def test_fua_makes_its_own_write_stable_and_nothing_else(disk: Cache) -> None:
    disk.put(0, "aaaa")
    disk.put(1, "bb", Flags.FUA)
    assert disk.child.log() == [(Op.WRITE, SECTOR, 2 * SECTOR)]
    assert disk.child.seen[0].flags == Flags.FUA
    assert disk.seen == image("abba")
    # What it covers of older writes will not come back.
    assert disk.cut("all") == image("abba")


def test_newer_writes_stay_over_one_with_fua(disk: Cache) -> None:
    disk.child.held = True
    fua = disk.submit(Op.WRITE, 0, data=sectors("aa"), flags=Flags.FUA)
    disk.put(0, "b")
    disk.child.held = False
    disk.child.release()
    assert disk.wait(fua) == 0
    assert disk.seen == image("ba")
    assert disk.stable == image("aa")


def test_write_through_is_fua(disk: Cache) -> None:
    disk.backend.write_cache = False
    disk.put(0, "ab")
    assert disk.do(Op.WRITE_ZEROES, 0, SECTOR) == 0
    assert disk.stable == image(".b")
    assert [request.flags for request in disk.child.seen] == [Flags.FUA, Flags.FUA]


def test_a_secure_erase_leaves_nothing_older(disk: Cache) -> None:
    disk.put(0, "aaaa")
    assert disk.do(Op.FLUSH) == 0
    disk.put(0, "bbbb")
    assert disk.do(Op.SECURE_ERASE, SECTOR, 2 * SECTOR) == 0
    assert disk.seen == image("b..b")
    assert disk.cut("none") == image("a..a")


def test_what_fails_on_its_way_down_stays(disk: Cache) -> None:
    disk.put(0, "a")
    disk.put(1, "b")
    disk.child.errors[Op.WRITE, SECTOR] = OSError(errno.ENOSPC, "full")
    assert disk.do(Op.FLUSH) == errno.ENOSPC
    assert disk.seen == image("ab")
    assert disk.stable == image("a")
    disk.child.errors.clear()
    assert disk.do(Op.FLUSH) == 0
    assert disk.stable == image("ab")


def test_fua_that_fails_is_not_kept(disk: Cache) -> None:
    disk.child.errors[Op.WRITE, 0] = OSError(errno.EIO, "broken")
    assert disk.write(0, sectors("a"), Flags.FUA) == errno.EIO
    assert not disk.cache.volatile
    assert disk.cut("all") == image("")


# --- room


def test_the_oldest_goes_where_there_is_no_room() -> None:
    disk = Cache(capacity=4 * SECTOR)
    disk.put(0, "aaa")
    disk.put(3, "b")
    assert disk.stable == image("")
    disk.put(4, "cc")
    assert disk.stable == image("aaa")
    assert disk.seen == image("aaabcc")
    disk.put(0, "ddddddd")
    assert disk.stable == image("aaabcc")
    assert disk.seen == image("ddddddd")
    disk.close()


def test_a_write_that_finds_no_room_fails_with_what_was_in_the_way() -> None:
    disk = Cache(capacity=SECTOR)
    disk.put(0, "a")
    disk.child.errors[Op.WRITE, 0] = OSError(errno.ENOSPC, "full")
    assert disk.write(SECTOR, sectors("b")) == errno.ENOSPC
    assert disk.seen == image("a")
    disk.close()


# --- its place in the graph


def test_it_gives_up_what_it_keeps_when_it_is_taken_out() -> None:
    graph = Graph(IoContext.virtual())
    memory = graph.add({"driver": "memory", "size": SIZE, "node-name": "m0"})
    backend = BlockBackend(memory)
    graph.context.run(graph.insert({"driver": "volatile-cache", "node-name": "vc"}, above="m0"))
    backend.submit(Request(Op.WRITE, 0, SECTOR, [memoryview(sectors("a"))]))
    out = bytearray(SECTOR)
    assert memory.read_now([(0, [memoryview(out)], SECTOR)])
    assert out == bytes(SECTOR)
    graph.context.run(graph.remove("vc"))
    assert memory.read_now([(0, [memoryview(out)], SECTOR)])
    assert out == sectors("a")
    backend.close()
    graph.close()


@pytest.mark.parametrize("how", ["reopen", "replace", "replace_child"])
def test_it_gives_up_what_it_keeps_when_it_gets_another_child(how: str) -> None:
    graph = Graph(IoContext.virtual())
    for name in ("m0", "m1"):
        graph.add({"driver": "memory", "size": SIZE, "node-name": name})
    options = {"driver": "volatile-cache", "node-name": "vc", "file": "m0"}
    disk = Disk(graph.add(options))
    assert disk.write(0, sectors("a")) == 0
    if how == "reopen":
        graph.context.run(graph.reopen({**options, "file": "m1"}))
    elif how == "replace":
        graph.context.run(graph.replace("m0", "m1"))
    else:
        graph.context.run(graph.replace_child("vc", "file", "m1"))
    assert disk.do(Op.FLUSH) == 0
    assert disk.read(0, SECTOR) == bytes(SECTOR)
    disk.backend.close()
    graph.delete("vc")
    assert Disk(graph["m0"]).read(0, SECTOR) == sectors("a")
    graph.close()


def test_a_child_that_shrinks_while_it_is_given_everything_loses_nothing_else() -> None:
    graph = Graph(IoContext.virtual())
    context = graph.context
    below = graph.add({"driver": "memory", "size": SIZE, "node-name": "m0"})
    slow = {"driver": "delay", "latency-ns": 1000, "file": "m0"}
    disk = Disk(graph.add({"driver": "volatile-cache", "node-name": "vc", "file": slow}))
    assert disk.write(12 * SECTOR, sectors("a")) == disk.write(0, sectors("b")) == 0
    context.start(graph.remove("vc"))
    resizing = BlockBackend(below, name="other")

    async def shrink() -> None:
        await context.sleep(500)
        await resizing.resize(8 * SECTOR)

    context.start(shrink())
    context.run_until_idle()
    assert disk.read(0, SECTOR) == sectors("b")
    resizing.close()
    disk.backend.close()
    graph.close()


def test_a_resize_flushes_first(disk: Cache) -> None:
    disk.put(0, "abcd")
    disk.context.run(disk.backend.resize(2 * SECTOR))
    assert disk.stable == b"ab"
    disk.context.run(disk.backend.resize(4 * SECTOR))
    assert disk.read(0, 4 * SECTOR)[::SECTOR] == b"ab\0\0"


def test_what_lies_beyond_a_child_that_shrank_is_gone(disk: Cache) -> None:
    disk.put(0, "abcd")
    disk.context.run(disk.child.truncate(2 * SECTOR))
    assert disk.do(Op.FLUSH) == 0
    assert disk.stable == b"ab"


def test_it_does_not_grow_by_writes(disk: Cache) -> None:
    request = Request(Op.WRITE, SIZE - SECTOR, 2 * SECTOR, [memoryview(sectors("ab"))])
    with pytest.raises(OSError, match="does not grow by writes") as caught:
        disk.context.run(disk.cache.write(request))
    assert caught.value.errno == errno.ENOSPC
    assert disk.seen == image("")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"atomic-unit": 768}, "$.atomic-unit: 768 is given; expected a power of two from 512 to 1048576"),
        ({"atomic-unit": 256}, "$.atomic-unit: 256 is given; expected a power of two from 512 to 1048576"),
        ({"seed": -1}, "$.seed: -1 is given; expected a number from 0 on"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, object], text: str) -> None:
    with pytest.raises(BlockOptionError) as caught:
        Cache(**options)
    assert str(caught.value) == text


# --- the power cut


@pytest.mark.parametrize(
    ("choice", "left"),
    [
        ("none", "s.ssss"),
        ("all", "saabcc"),
        ("but-0", "s.sbcc"),
        ("but-1", "saaacc"),
        ("but-2", "saabss"),
        ("but-4", "saaacc"),
    ],
)
def test_what_a_cut_leaves(disk: Cache, choice: str, left: str) -> None:
    disk.put(0, "s.ssss".replace(".", "\0"))
    assert disk.do(Op.FLUSH) == 0
    disk.put(1, "aaa")
    disk.put(3, "b")
    disk.put(4, "cc")
    assert disk.cut(choice) == image(left)


def test_a_random_cut_is_the_same_for_the_same_seed() -> None:
    def left(**options: object) -> bytes:
        disk = Cache(**options)
        for letter in "abcdef":
            disk.put(0, letter * 16)
        try:
            return disk.cut(str(options.pop("choice", "random")))
        finally:
            disk.close()

    assert left(seed=3) == left(seed=3)
    assert len({left(seed=seed) for seed in range(20)}) > 15


def test_requests_fail_until_the_node_is_reopened() -> None:
    graph = Graph(IoContext.virtual())
    graph.add({"driver": "memory", "size": SIZE, "node-name": "m0"})
    options = {"driver": "volatile-cache", "node-name": "vc", "file": "m0"}
    node = graph.add(options)
    assert isinstance(node, VolatileCacheNode)
    disk = Disk(node)
    assert disk.write(0, sectors("a")) == 0
    graph.context.run(node.cut("none"))
    for op in (Op.READ, Op.FLUSH, Op.WRITE_ZEROES, Op.SECURE_ERASE, Op.DISCARD):
        expected = 0 if op is Op.DISCARD else errno.EIO  # Which `discard` `ignore` does not pass on.
        assert disk.do(op, 0, 0 if op is Op.FLUSH else SECTOR) == expected
    assert disk.write(0, sectors("a")) == errno.EIO
    graph.context.run(graph.reopen(options))
    assert disk.read(0, SECTOR) == bytes(SECTOR)
    assert disk.write(0, sectors("a")) == 0
    disk.backend.close()
    graph.close()


def test_requests_under_way_fail_with_the_cut(disk: Cache) -> None:
    disk.put(0, "ab")
    disk.child.held = True
    flush = disk.submit(Op.FLUSH)
    later = [disk.submit(Op.FLUSH), disk.submit(Op.WRITE, 0, data=sectors("c"), flags=Flags.FUA)]
    disk.context.start(disk.cache.cut("none"))
    disk.child.held = False
    disk.child.release()
    disk.context.run_until_idle()
    assert [disk.wait(each) for each in (flush, *later)] == [errno.EIO] * 3
    # What the flush was just bringing down has arrived.
    assert disk.stable == image("ab")
    assert not disk.cache.volatile


def test_a_cut_at_which_the_child_fails_leaves_nothing_volatile(disk: Cache) -> None:
    disk.put(0, "ab")
    disk.child.errors[Op.WRITE, 0] = OSError(errno.EIO, "broken")
    with pytest.raises(OSError, match="broken"):
        disk.context.run(disk.cache.cut("all"))
    assert not disk.cache.volatile


def test_a_choice_that_there_is_not(disk: Cache) -> None:
    for choice in ("some", "but", "but-", "but--1", "random-x", "all-1"):
        with pytest.raises(ValueError, match="expected none, all, but-N, random or random-N"):
            disk.cache.survivors(choice)
    assert disk.write(0, sectors("a")) == 0


def test_a_cut_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    disk = Disk({"driver": "volatile-cache", "file": {"driver": "file", "filename": str(path)}})
    assert disk.write(0, sectors("a")) == 0
    assert disk.do(Op.FLUSH) == 0
    assert disk.write(0, sectors("bb")) == 0
    assert path.read_bytes()[::SECTOR] == image("a")
    assert isinstance(disk.node, VolatileCacheNode)
    disk.context.run(disk.node.cut("all"))
    assert path.read_bytes()[::SECTOR] == image("bb")
    disk.close()


# --- any requests, any cut

CHANGES = st.tuples(
    st.sampled_from([Op.WRITE, Op.WRITE, Op.WRITE_ZEROES, Op.FLUSH, Op.SECURE_ERASE]),
    st.integers(0, 15),
    st.integers(1, 6),
    st.booleans(),
)


@given(st.lists(CHANGES, max_size=8), st.integers(0, 2**32), st.sampled_from([512, 1024, 4096]))
def test_every_cut_leaves_what_may_be_left(
    changes: list[tuple[Op, int, int, bool]], seed: int, unit: int
) -> None:
    """Each sector holds its last stable value or a later one; units of one write are whole; reads see the last."""
    disk = Cache(**{"atomic-unit": unit, "capacity": 20 * SECTOR})
    last = [0] * 16
    legal: list[set[int]] = [{0} for _ in range(16)]
    for number, (op, at, count, fua) in enumerate(changes, 1):
        count = min(count, 16 - at)
        value = number if op is Op.WRITE else 0
        flags = Flags.FUA if fua and op in (Op.WRITE, Op.WRITE_ZEROES) else Flags.NONE
        data = bytes([value]) * (count * SECTOR) if op is Op.WRITE else None
        if op is Op.FLUSH:
            assert disk.do(op) == 0
            legal = [{value} for value in last]
            continue
        assert disk.do(op, at * SECTOR, count * SECTOR, data, flags) == 0
        for sector in range(at, at + count):
            last[sector] = value
            stable = flags is Flags.FUA or op is Op.SECURE_ERASE
            legal[sector] = {value} if stable else legal[sector] | {value}
    assert list(disk.seen) == last
    left = disk.cut(f"random-{seed}")
    assert all(value in allowed for value, allowed in zip(left, legal, strict=True))
    assert disk.child._view.tobytes() == b"".join(bytes([value]) * SECTOR for value in left)
    disk.close()
