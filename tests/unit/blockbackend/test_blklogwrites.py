"""blklogwrites: what was written is in a log, and the log makes the same disk again."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockBackend, BlockOptionError, Flags, Graph, Op, open_node
from devmodels.blockbackend.drivers.blklogwrites import BlklogwritesNode, BlklogwritesOptions
from devmodels.blockbackend.writelog import ENTRY, SUPER, LogEntry, LogError, LogFlags, WriteLog
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import SIZE, Disk, WatchedNode

MEMORY: dict[str, object] = {"driver": "memory", "size": SIZE, "discard": "unmap"}


class Logged:
    """A disk whose writes are logged, and its log."""

    def __init__(self, context: IoContext, log_size: int = 0, **options: object) -> None:
        self.nodes: dict[str, object] = {}
        self.graph = Graph(context)
        self.graph.add({**MEMORY, "node-name": "f0"})
        self.graph.add({"driver": "memory", "size": log_size, "node-name": "l0"})
        more = {name.replace("_", "-"): value for name, value in options.items()}
        self.options = {
            "driver": "blklogwrites",
            "node-name": "w0",
            "discard": "unmap",
            "file": "f0",
            "log": "l0",
        }
        self.options |= more  # type: ignore[arg-type]
        self.disk = Disk(self.graph.add(dict(self.options)))
        self.context = context

    @property
    def node(self) -> BlklogwritesNode:
        """The node."""
        node = self.graph["w0"]
        assert isinstance(node, BlklogwritesNode)
        return node

    def log(self) -> WriteLog:
        """What is logged."""
        return WriteLog(BlockBackend(self.graph["l0"], read_only=True))

    def entries(self) -> list[tuple[LogFlags, int, int]]:
        """Flags, offset and length of each entry that counts."""
        return [(entry.flags, entry.offset, entry.length) for entry in listed(self.context, self.log())]


def listed(context: IoContext, log: WriteLog) -> list[LogEntry]:
    """The entries of a log."""

    async def collect() -> list[LogEntry]:
        return [entry async for entry in log.entries()]

    return context.run(collect())


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext.virtual()
    yield context
    context.close()


def test_what_changes_the_disk_is_logged_in_order(context: IoContext) -> None:
    logged = Logged(context)
    disk = logged.disk
    disk.write(512, b"x" * 1024)
    disk.do(Op.READ, 0, SIZE)
    disk.do(Op.WRITE_ZEROES, 4096, 512)
    disk.do(Op.DISCARD, 0, 8192)
    disk.do(Op.FLUSH)
    disk.do(Op.SECURE_ERASE, 0, 512)
    disk.write(0, b"y" * 512, Flags.FUA)
    assert logged.entries() == [
        (LogFlags.NONE, 512, 1024),
        (LogFlags.NONE, 4096, 512),
        (LogFlags.DISCARD, 0, 8192),
        (LogFlags.FLUSH, 0, 0),
        (LogFlags.FUA, 0, 512),
        (LogFlags.FUA, 0, 512),
    ]
    logged.graph.close()


def test_only_what_was_flushed_counts(context: IoContext) -> None:
    logged = Logged(context)
    disk = logged.disk
    disk.write(0, b"x" * 512)
    with pytest.raises(LogError, match=r"^the log begins with 0x0; expected 0x6a736677736872$"):
        logged.entries()
    disk.do(Op.FLUSH)
    disk.do(Op.FLUSH)
    assert len(logged.entries()) == 2, "the second flush had nothing to flush"
    disk.write(0, b"x" * 512)
    assert len(logged.entries()) == 2
    logged.graph.close()


def test_the_superblock_counts_after_each_interval(context: IoContext) -> None:
    logged = Logged(context, log_super_update_interval=3)
    for number in range(8):
        logged.disk.write(number * 512, b"x" * 512)
    assert len(logged.entries()) == 6
    logged.graph.close()


def test_a_part_of_a_sector_is_logged_as_a_whole_one(context: IoContext) -> None:
    logged = Logged(context, log_sector_size=4096)
    logged.disk.write(4000, b"x" * 200)
    logged.disk.do(Op.FLUSH)
    assert logged.entries() == [(LogFlags.NONE, 0, 8192), (LogFlags.FLUSH, 0, 0)]
    logged.graph.close()


def test_a_mark_says_how_far_to_replay(context: IoContext) -> None:
    logged = Logged(context)
    logged.disk.write(0, b"1" * 512)
    context.run(logged.node.mark("mkfs ✓"))
    logged.disk.write(0, b"2" * 512)
    logged.disk.do(Op.FLUSH)
    again = Disk(dict(MEMORY), context=context)
    done = context.run(logged.log().replay(again.backend, until=partial(is_mark, "mkfs ✓")))
    assert (done, again.read(0, 512)) == (1, b"1" * 512)
    assert context.run(logged.log().replay(again.backend)) == 4
    assert again.read(0, 512) == b"2" * 512
    with pytest.raises(ValueError, match="a mark of 481 bytes; at most 480 fit"):
        context.run(logged.node.mark("x" * 481))
    again.backend.close()
    again.node.close()
    logged.graph.close()


def test_it_goes_on_with_a_log_that_is_there(context: IoContext) -> None:
    logged = Logged(context, log_sector_size=1024)
    logged.disk.write(0, b"1" * 1024)
    logged.disk.do(Op.FLUSH)
    logged.disk.backend.close()
    logged.graph.delete("w0")
    options = {name: value for name, value in logged.options.items() if name != "log-sector-size"}
    disk = Disk(logged.graph.add({**options, "log-append": True}))
    assert logged.node.limits.request_alignment == 1024
    disk.write(1024, b"2" * 1024)
    disk.do(Op.FLUSH)
    assert logged.entries() == [
        (LogFlags.NONE, 0, 1024),
        (LogFlags.FLUSH, 0, 0),
        (LogFlags.NONE, 1024, 1024),
        (LogFlags.FLUSH, 0, 0),
    ]
    disk.backend.close()
    logged.graph.close()


def test_appending_to_an_empty_log_begins_one(context: IoContext) -> None:
    logged = Logged(context, log_append=True)
    logged.disk.write(0, b"1" * 512)
    logged.disk.do(Op.FLUSH)
    assert len(logged.entries()) == 2
    logged.graph.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"log-sector-size": 100}, "$.log-sector-size: 100 is given; expected a power of 2 from 32 to 2**23"),
        ({"log-sector-size": 1 << 24}, "$.log-sector-size: 16777216 is given; expected a power"),
        ({"log-sector-size": 512, "log-append": True}, "$.log-sector-size: is given; expected nothing with"),
        (
            {"log-super-update-interval": 0},
            "$.log-super-update-interval: 0 is given; expected a number of entries",
        ),
        ({"log-append": True}, "$.log: the log begins with 0x0; expected 0x6a736677736872"),
    ],
)
def test_what_cannot_be_is_refused(context: IoContext, options: dict[str, object], text: str) -> None:
    nodes: dict[str, object] = {"file": MEMORY, "log": {"driver": "memory", "size": 4096}}
    with pytest.raises(BlockOptionError) as caught:
        open_node({"driver": "blklogwrites", **nodes, **options}, context)
    assert str(caught.value).startswith(text)


def test_a_log_that_cannot_grow_is_full(context: IoContext) -> None:
    log = {"driver": "raw", "size": 2048, "file": {"driver": "memory", "size": 4096}}
    disk = Disk({"driver": "blklogwrites", "file": MEMORY, "log": log}, context=context)
    assert [disk.write(0, b"x" * 512) for _ in range(2)] == [0, errno.ENOSPC]
    assert disk.do(Op.FLUSH) == 0, "there is room for that"
    disk.close()


def test_a_write_that_fails_is_logged_and_fails(context: IoContext) -> None:
    file, log = WatchedNode(context), WatchedNode(context)
    options = BlklogwritesOptions(driver="blklogwrites", file="f", log="l")
    disk = Disk(BlklogwritesNode(options, context, file, log))
    file.errors[Op.WRITE, 0] = OSError(errno.EIO, "broken")
    assert disk.write(0, b"x" * 512) == errno.EIO
    assert disk.do(Op.FLUSH) == 0
    entries = listed(context, WriteLog(BlockBackend(log, read_only=True)))
    assert [entry.flags for entry in entries] == [LogFlags.NONE, LogFlags.FLUSH]
    log.errors[Op.WRITE, 2048] = OSError(errno.ENOSPC, "full")
    assert disk.write(512, b"x" * 512) == errno.ENOSPC
    del log.errors[Op.WRITE, 2048]
    assert disk.write(1024, b"y" * 512) == disk.do(Op.FLUSH) == 0
    entries = listed(context, WriteLog(BlockBackend(log, read_only=True)))
    assert [entry.offset for entry in entries] == [0, 0, 1024, 0], "what could not be logged left no hole"


def test_a_guest_that_changes_its_buffer_makes_no_difference(context: IoContext) -> None:
    file, log = WatchedNode(context), WatchedNode(context)
    options = BlklogwritesOptions(driver="blklogwrites", file="f", log="l")
    disk = Disk(BlklogwritesNode(options, context, file, log))
    file.held = True
    request = disk.submit(Op.WRITE, 0, data=b"1" * 512)
    request.vectors[0][:] = b"2" * 512
    file.held = False
    file.release()
    assert disk.wait(request) == disk.do(Op.FLUSH) == 0
    again = Disk(dict(MEMORY), context=context)
    context.run(WriteLog(BlockBackend(log, read_only=True)).replay(again.backend))
    assert again.read(0, 512) == disk.read(0, 512) == b"1" * 512


def test_it_comes_and_goes_and_all_counts(context: IoContext) -> None:
    graph = Graph(context)
    graph.add({**MEMORY, "node-name": "f0"})
    graph.add({"driver": "memory", "size": 0, "node-name": "l0"})
    disk = Disk(graph["f0"])
    context.run(graph.insert({"driver": "blklogwrites", "node-name": "w0", "log": "l0"}, above="f0"))
    disk.write(0, b"x" * 512)
    context.run(graph.remove("w0"))
    disk.write(512, b"y" * 512)
    (entry,) = listed(context, WriteLog(BlockBackend(graph["l0"], read_only=True)))
    assert (entry.offset, entry.length) == (0, 512)
    disk.backend.close()
    graph.close()


def is_mark(text: str, entry: LogEntry) -> bool:
    """Whether an entry is that mark."""
    return entry.mark == text


def test_another_log_begins_anew_and_a_filter_over_it_does_not(context: IoContext) -> None:
    logged = Logged(context)
    graph, disk = logged.graph, logged.disk
    graph.add({"driver": "memory", "size": 0, "node-name": "l1"})
    disk.write(0, b"1" * 512)
    context.run(graph.insert({"driver": "delay", "node-name": "slow", "latency-ns": 1}, above="l0"))
    disk.write(512, b"2" * 512)
    disk.do(Op.FLUSH)
    assert [entry[1] for entry in logged.entries()] == [0, 512, 0]
    context.run(graph.replace_child("w0", "log", "l1"))
    disk.write(1024, b"3" * 512)
    disk.do(Op.FLUSH)
    assert [entry[1] for entry in logged.entries()] == [0, 512, 0]
    entries = listed(context, WriteLog(BlockBackend(graph["l1"], read_only=True)))
    assert [entry.offset for entry in entries] == [1024, 0]
    graph.close()


actions = st.tuples(
    st.sampled_from([Op.WRITE, Op.WRITE, Op.WRITE_ZEROES, Op.DISCARD, Op.FLUSH, Op.SECURE_ERASE]),
    st.integers(0, 3000),
    st.integers(1, 1500),
    st.sampled_from([Flags.NONE, Flags.FUA]),
)


@given(st.lists(actions, max_size=6), st.sampled_from([64, 512, 1024]))
def test_a_replay_up_to_any_flush_is_the_disk_at_that_time(
    steps: list[tuple[Op, int, int, Flags]], sector_size: int
) -> None:
    context = IoContext.virtual()
    logged = Logged(context, log_sector_size=sector_size)
    disk = logged.disk
    contents = []
    for number, (op, offset, length, flags) in enumerate(steps):
        if op is Op.WRITE:
            disk.write(offset, bytes([number + 1]) * length, flags)
        elif op is Op.FLUSH:
            disk.do(Op.FLUSH)
        else:
            disk.do(op, offset, length)
        context.run(logged.node.mark(str(number)))
        contents.append(disk.read(0, SIZE))
    for number, content in enumerate(contents):
        again = Disk(dict(MEMORY), context=context)
        context.run(logged.log().replay(again.backend, until=partial(is_mark, str(number))))
        assert again.read(0, SIZE) == content
        again.backend.close()
        again.node.close()
    logged.graph.close()
    context.close()


headers = st.builds(
    lambda sector, count, flags, length: ENTRY.pack(sector, count, flags, length).ljust(512, b"\1"),
    st.integers(0, (1 << 64) - 1) | st.integers(0, 9),
    st.integers(0, (1 << 64) - 1) | st.integers(0, 3),
    st.integers(0, 40),
    st.integers(0, 600),
)


@given(
    st.integers(0, 12) | st.integers(0, (1 << 64) - 1),
    st.sampled_from([512, 512, 0, 33, 1 << 31]),
    st.lists(headers, max_size=8),
)
def test_any_log_is_entries_or_one_line(count: int, sector_size: int, sectors: list[bytes]) -> None:
    context = IoContext.virtual()
    content = SUPER.pack(0x6A736677736872, 1, count, sector_size).ljust(512, b"\0") + b"".join(sectors)
    disk = Disk({"driver": "memory", "size": len(content)}, context=context)
    disk.write(0, content)
    try:
        entries = listed(context, WriteLog(disk.backend))
    except LogError as error:
        lines = str(error).splitlines()
    else:
        lines = ["well"]
        assert len(entries) == count
        assert all(entry.end <= len(content) for entry in entries)
    assert len(lines) == 1
    disk.close()
    context.close()
