"""blkdebug: requests that fail by rules, requests that are held, and a graph that changes meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockBackend, BlockOptionError, Flags, Graph, Op, Request
from devmodels.blockbackend.debug.commands import debug_command
from devmodels.blockbackend.debug.rules import IO_TYPES
from devmodels.blockbackend.drain import drained
from devmodels.blockbackend.drivers.blkdebug import BlkdebugNode
from devmodels.blockbackend.permissions import Perm, PermissionConflictError, Use
from devmodels.blockbackend.registry import coerce
from devmodels.iocontext import IoContext
from devmodels.options import parse_keyval
from tests.unit.blockbackend.support import SIZE, Disk

MEMORY: dict[str, object] = {"driver": "memory", "size": SIZE, "node-name": "m0", "discard": "unmap"}


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


def rules(*inject: Mapping[str, object], **others: object) -> dict[str, object]:
    """blkdebug over a memory disk."""
    more = {name.replace("_", "-"): value for name, value in others.items()}
    return {
        "driver": "blkdebug",
        "node-name": "dbg",
        "discard": "unmap",
        "image": MEMORY,
        "inject-error": list(inject),
        **more,
    }


def over(options: dict[str, object]) -> dict[str, object]:
    """`raw` over it, which tells of its reads and writes."""
    return {"driver": "raw", "discard": "unmap", "file": options}


def below(disk: Disk) -> BlkdebugNode:
    """The blkdebug node of a disk, alone or below raw."""
    node = disk.node if isinstance(disk.node, BlkdebugNode) else disk.node.children["file"].node
    assert isinstance(node, BlkdebugNode)
    return node


def at_hand(disk: Disk) -> bool:
    """Whether a read needs no request."""
    return disk.backend.read_now([(0, (memoryview(bytearray(512)),), 512)]) == 1


# --- errors


def test_an_event_of_the_node_above_makes_requests_fail() -> None:
    disk = Disk(over(rules({"event": "write_aio", "errno": errno.ENOSPC, "iotype": "write"})))
    assert disk.do(Op.READ, 0, 512) == 0
    assert disk.write(0, b"x" * 512) == errno.ENOSPC
    assert disk.read(0, 512) == bytes(512)
    disk.close()


def test_without_a_node_above_there_is_nobody_to_tell_of_guest_data() -> None:
    disk = Disk(rules({"event": "write_aio"}, {"event": "read_aio"}))
    assert disk.write(0, b"x" * 512) == disk.do(Op.READ, 0, 512) == 0
    disk.close()


def test_an_error_stays_until_another_event_brings_one() -> None:
    disk = Disk(rules({"event": "pwritev", "errno": errno.ENOSPC}, {"event": "pwritev_zero", "errno": 0}))
    assert disk.do(Op.READ, 0, 512) == 0
    assert disk.write(0, b"x") == errno.ENOSPC
    assert disk.do(Op.READ, 0, 512) == errno.ENOSPC
    assert disk.do(Op.WRITE_ZEROES, 0, 512) == 0
    assert disk.do(Op.READ, 0, 512) == 0
    disk.close()


def test_states_lead_to_the_second_write() -> None:
    change = {"event": "write_aio", "state": 1, "new_state": 2}
    error = {"event": "write_aio", "state": 2, "once": True, "iotype": "write"}
    disk = Disk(over(rules(error, set_state=[change])))
    assert [disk.write(0, b"x" * 512) for _ in range(4)] == [0, errno.EIO, 0, 0]
    disk.close()


@pytest.mark.parametrize("op", IO_TYPES)
def test_one_kind_of_request_fails(op: Op) -> None:
    name = op.name.lower().replace("_", "-")
    disk = Disk(rules({"event": "none", "iotype": name}))
    for each in IO_TYPES:
        length = 0 if each is Op.FLUSH else 512
        data = b"x" * 512 if each is Op.WRITE else None
        assert disk.do(each, 0, length, data) == (errno.EIO if each is op else 0)
    disk.close()


def test_a_range_of_sectors_fails() -> None:
    disk = Disk(rules({"event": "none", "sector": 8, "sectors": 3}))
    failed = [sector for sector in range(16) if disk.write(sector * 512 + 100, b"x")]
    assert failed == [8, 9, 10]
    assert disk.do(Op.READ, 0, SIZE) == errno.EIO
    assert disk.do(Op.FLUSH) == disk.do(Op.READ, 9 * 512, 0) == 0, "nothing is touched"
    disk.close()


def test_requests_of_one_label_fail() -> None:
    disk = Disk(rules({"event": "none", "label": "journal"}))
    found = []
    for label in ("data", "journal"):
        request = Request(Op.WRITE, 0, 1, [memoryview(b"x")], label=label)
        disk.backend.submit(request)
        disk.context.run_until_idle()
        found.append(request.error)
    assert found == [0, errno.EIO]
    disk.close()


def test_an_immediate_error_comes_within_submit() -> None:
    for immediately in (True, False):
        disk = Disk(rules({"event": "none", "immediately": immediately}))
        request = disk.submit(Op.READ, 0, 512)
        assert disk.ends[request] == immediately
        assert disk.wait(request) == errno.EIO
        disk.close()


@pytest.mark.parametrize("immediately", [True, False])
def test_a_rule_with_a_delay_makes_requests_late(immediately: bool) -> None:
    rule = {"event": "none", "iotype": "discard", "delay-ns": 1_000_000, "immediately": immediately}
    for number in (0, errno.EIO):
        disk = Disk(rules({**rule, "errno": number}))
        before = disk.context.now_ns()
        assert disk.do(Op.DISCARD, 0, 4096) == number
        assert disk.context.now_ns() - before == 1_000_000
        assert disk.do(Op.READ, 0, 512) == 0
        assert disk.context.now_ns() - before == 1_000_000, "only what the rule is about"
        disk.close()


def test_zeroes_that_are_not_supported_are_written() -> None:
    disk = Disk(rules({"event": "none", "iotype": "write-zeroes", "errno": errno.ENOTSUP}))
    disk.write(0, b"x" * 4096)
    assert disk.do(Op.WRITE_ZEROES, 0, 4096, flags=Flags.NO_FALLBACK) == errno.ENOTSUP
    assert disk.read(0, 4096) == b"x" * 4096
    assert disk.do(Op.WRITE_ZEROES, 0, 4096) == 0
    assert disk.read(0, 4096) == bytes(4096)
    disk.close()


def test_no_rule_sees_a_flush_with_nothing_to_flush() -> None:
    disk = Disk(rules({"event": "none", "iotype": "flush"}))
    assert disk.do(Op.FLUSH) == 0
    disk.write(0, b"x")
    assert disk.do(Op.FLUSH) == errno.EIO
    assert disk.do(Op.FLUSH) == errno.EIO
    disk.close()


def test_a_read_modify_write_whose_read_fails_writes_nothing() -> None:
    disk = Disk(rules({"event": "pwritev_rmw_tail", "iotype": "read", "once": True}, align=512))
    assert disk.write(512, b"x" * 1000) == errno.EIO
    assert disk.read(0, SIZE) == bytes(SIZE)
    assert disk.write(512, b"x" * 1000) == 0
    disk.close()


def test_rules_of_the_file_come_first(tmp_path: Path) -> None:
    config = tmp_path / "rules.conf"
    config.write_text('[inject-error]\nevent = "none"\niotype = "read"\nerrno = "28"\n')
    disk = Disk(rules({"event": "none", "errno": 5}, config=str(config)))
    assert disk.do(Op.READ, 0, 512) == errno.ENOSPC
    assert disk.write(0, b"x") == errno.EIO
    disk.close()


def test_a_file_that_is_wrong_is_one_line(graph: Graph, tmp_path: Path) -> None:
    config = tmp_path / "rules.conf"
    for text, complaint in (
        (b"[other]", r"^\$\.config: .*/rules\.conf:1: \"\[other\]\" is given; expected "),
        (b"\xff", r"^\$\.config: cannot read '.*/rules\.conf': 'utf-8' codec"),
    ):
        config.write_bytes(text)
        with pytest.raises(BlockOptionError, match=complaint):
            graph.add(rules(config=str(config)))
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        ("/no/such", "No such file"),
        ("a\0b", "embedded null"),
        ("/dev/zero", "expected a regular file"),
        (str(tmp_path / "pipe"), "expected a regular file"),
        (str(tmp_path), "expected a regular file"),
    ):
        with pytest.raises(BlockOptionError, match=f"^\\$\\.config: cannot read .*: {reason}"):
            graph.add(rules(config=path))
    assert not graph.nodes


def test_rules_are_given_on_the_command_line(graph: Graph) -> None:
    text = (
        "driver=blkdebug,node-name=dbg,align=4k,inject-error.0.event=none,inject-error.0.once=on,"
        "inject-error.1.event=read_aio,inject-error.1.errno=28,image.driver=memory,image.size=1M"
    )
    node = graph.add(coerce(parse_keyval(text)))
    assert node.limits.request_alignment == 4096
    assert BlockBackend(node).size == 1 << 20
    with pytest.raises(
        BlockOptionError, match=r"^\$\.inject-error\[0\]\.event: \"x\" is given; expected one of "
    ):
        graph.add(rules({"event": "x"}))


def test_only_the_child_that_stands_for_a_node_is_told_of_its_flushes() -> None:
    for child, expected in (("file", [0, errno.EIO]), ("log", [0, 0])):
        children: dict[str, object] = {"file": {"driver": "null-co"}, "log": {"driver": "memory", "size": 0}}
        children[child] = {**rules({"event": "flush_to_os"}), "image": children[child]}
        disk = Disk({"driver": "blklogwrites", **children})
        assert [disk.write(0, b"x" * 512), disk.do(Op.FLUSH)] == expected
        disk.close()


def test_a_copy_on_read_tells_of_its_writes() -> None:
    backing = {"driver": "memory", "size": SIZE}
    image = {"driver": "overlay", "file": {"driver": "memory", "size": SIZE}, "backing": backing}
    debug = {**rules({"event": "cor_write", "errno": errno.ENOSPC, "iotype": "write-zeroes"}), "image": image}
    disk = Disk({"driver": "copy-on-read", "file": debug})
    assert disk.do(Op.READ, 0, 512) == errno.ENOSPC
    disk.close()


# --- break points


def test_a_request_is_held_and_goes_on() -> None:
    disk = Disk(over(rules()))
    node = below(disk)
    node.debug_breakpoint("write_aio", "A")
    first = disk.submit(Op.WRITE, 0, data=b"1" * 512)
    second = disk.submit(Op.WRITE, 512, data=b"2" * 512)
    disk.context.run_until_idle()
    assert (disk.ends[first], disk.ends[second]) == (0, 1), "a break point holds one request"
    assert node.debug_is_suspended("A")
    assert [(each.op, each.offset, each.where) for each in disk.backend.list_in_flight()] == [
        ("write", 0, "suspended")
    ]
    assert disk.read(0, 1024) == bytes(512) + b"2" * 512
    node.debug_resume("A")
    assert disk.wait(first) == 0
    assert disk.read(0, 512) == b"1" * 512
    disk.close()


def test_of_two_requests_at_a_tag_the_later_one_goes_first() -> None:
    disk = Disk(rules())
    node = below(disk)
    requests = []
    for _ in range(2):
        node.debug_breakpoint("pwritev", "A")
        requests.append(disk.submit(Op.WRITE, 0, data=b"x"))
    node.debug_resume("A")
    assert disk.wait(requests[1]) == 0
    assert not disk.ends[requests[0]]
    node.debug_remove_breakpoint("A")
    assert disk.wait(requests[0]) == 0
    disk.close()


def test_two_break_points_for_one_event_hold_one_request_twice() -> None:
    disk = Disk(rules())
    node = below(disk)
    node.debug_breakpoint("pwritev", "A")
    node.debug_breakpoint("pwritev", "B")
    request = disk.submit(Op.WRITE, 0, data=b"x")
    node.debug_resume("B")
    disk.context.run_until_idle()
    assert not disk.ends[request]
    node.debug_resume("A")
    assert disk.wait(request) == 0
    disk.close()


def test_a_break_point_that_is_not_there_is_an_error() -> None:
    disk = Disk(rules())
    node = below(disk)
    for text in ("break sometimes A", "resume A", "remove_break A"):
        assert disk.context.run(debug_command(node, text)).endswith(": No such file or directory\n")
    disk.close()


def test_somebody_waits_for_a_request_to_be_held() -> None:
    disk = Disk(over(rules()))
    disk.context.run(debug_command(disk.node, "break pwritev_done A"))
    over_yet: list[str | None] = []
    disk.context.start(debug_command(disk.node, "wait_break A"), lambda said, _: over_yet.append(said))
    disk.context.run_until_idle()
    assert over_yet == []
    request = disk.submit(Op.WRITE, 0, data=b"y" * 512)
    disk.context.run_until_idle()
    assert over_yet == [""]
    assert disk.read(0, 512) == b"y" * 512, "it is held after its data was written"
    assert disk.context.run(debug_command(disk.node, "resume A")) == ""
    assert disk.wait(request) == 0
    disk.close()


def test_without_rules_nothing_is_looked_at() -> None:
    disk = Disk(over(rules()))
    node = below(disk)
    assert at_hand(disk)
    node.debug_breakpoint("read_aio", "A")
    assert not at_hand(disk)
    request = disk.submit(Op.READ, 0, 512)
    disk.context.run_until_idle()
    node.debug_resume("A")
    assert disk.wait(request) == 0
    assert at_hand(disk), "the break point is gone"
    node.debug_breakpoint("read_aio", "A")
    node.debug_remove_breakpoint("A")
    assert at_hand(disk)
    disk.close()


def test_a_rule_that_holds_once_is_looked_at_no_more() -> None:
    disk = Disk(rules({"event": "none", "once": True}))
    assert not at_hand(disk)
    assert disk.do(Op.READ, 0, 512) == errno.EIO
    assert at_hand(disk)
    disk.close()


# --- a graph that changes


def test_a_drained_section_lets_go_what_is_held() -> None:
    disk = Disk(over(rules()))
    node = below(disk)
    node.debug_breakpoint("pwritev", "A")
    node.debug_breakpoint("pwritev_done", "B")
    request = disk.submit(Op.WRITE, 0, data=b"x" * 512)

    async def section() -> None:
        async with drained(disk.node.children["file"].node):
            assert disk.ends[request] == 1, "nothing runs"

    disk.context.run(section())
    later = disk.submit(Op.WRITE, 0, data=b"x" * 512)
    disk.context.run_until_idle()
    assert node.debug_is_suspended("B"), "a break point that held nothing is still there"
    node.debug_resume("B")
    assert disk.wait(later) == 0
    disk.close()


def test_it_comes_and_goes_while_requests_run(graph: Graph) -> None:
    graph.add(MEMORY)
    disk = Disk(graph["m0"])
    run = graph.context.run
    inject = [{"event": "none", "iotype": "write", "errno": 28}]
    run(graph.insert({"driver": "blkdebug", "node-name": "dbg", "inject-error": inject}, above="m0"))
    assert graph["dbg"].children["image"].node is graph["m0"]
    assert disk.write(0, b"x") == errno.ENOSPC
    run(graph.insert({"driver": "delay", "node-name": "slow", "latency-ns": 5}, below="dbg"))
    assert graph["dbg"].children["image"].node is graph["slow"]
    assert disk.write(0, b"x") == errno.ENOSPC
    node = graph["dbg"]
    assert isinstance(node, BlkdebugNode)
    run(graph.reopen({"driver": "blkdebug", "node-name": "dbg", "image": "slow"}))
    node.debug_breakpoint("pwritev", "A")
    held = disk.submit(Op.WRITE, 0, data=b"y" * 512)
    run(graph.remove("dbg"))
    assert disk.wait(held) == 0
    assert disk.backend.node is graph["slow"]
    assert disk.read(0, 512) == b"y" * 512
    disk.backend.close()


def test_a_node_closed_by_force_holds_nobody(graph: Graph) -> None:
    disk = Disk(graph.add(rules()))
    below(disk).debug_breakpoint("pwritev", "A")
    held = disk.submit(Op.WRITE, 0, data=b"y")
    graph.delete("dbg", force=True)
    assert disk.wait(held) == errno.ENOMEDIUM
    disk.backend.close()


def test_reopen_brings_other_rules_and_limits(graph: Graph, tmp_path: Path) -> None:
    disk = Disk(graph.add(rules({"event": "none", "errno": 28})))
    options = {key: value for key, value in rules().items() if key != "image"} | {"image": "m0"}
    run = graph.context.run
    assert disk.do(Op.READ, 0, 512) == errno.ENOSPC
    run(graph.reopen(options))
    assert disk.do(Op.READ, 0, 512) == 0
    assert at_hand(disk)
    config = tmp_path / "rules.conf"
    config.write_text('[inject-error]\nevent = "pwritev"\nstate = "1"\niotype = "write"\n')
    change = [{"event": "pwritev", "state": 1, "new_state": 2}]
    run(graph.reopen({**options, "config": str(config), "align": 512, "set-state": change}))
    assert disk.backend.node.limits.request_alignment == 512
    assert disk.write(0, b"x" * 512) == errno.EIO
    config.write_text("nonsense")
    with pytest.raises(BlockOptionError, match=r":1: \"nonsense\" is given"):
        run(graph.reopen({**options, "config": str(config)}))
    assert disk.write(0, b"x" * 512) == errno.EIO, "all is as before, the error is active still"
    run(graph.reopen({**options, "inject-error": [{"event": "pwritev", "state": 1}]}))
    assert disk.write(0, b"x" * 512) == errno.EIO, "the state begins at 1 again"
    disk.backend.close()


def test_permissions_are_taken_and_not_shared_besides(graph: Graph) -> None:
    graph.add(rules(take_child_perms=["resize"], unshare_child_perms=["write"]))
    edge = graph["dbg"].children["image"]
    assert edge.use == Use(Perm.RESIZE, Perm.ALL & ~Perm.WRITE)
    with pytest.raises(
        PermissionConflictError, match="needs 'write' on node 'm0', which node 'dbg' does not share"
    ):
        BlockBackend(graph["m0"])
    graph.context.run(graph.reopen({"driver": "blkdebug", "node-name": "dbg", "image": "m0"}))
    assert edge.use == Use(Perm.NONE, Perm.ALL)


def test_without_rules_a_change_below_is_followed(graph: Graph) -> None:
    for name in ("m0", "m1"):
        disk = Disk(graph.add({**MEMORY, "node-name": name}))
        disk.write(0, name.encode() * 256)
        disk.backend.close()
    node = graph.add({"driver": "blkdebug", "node-name": "dbg", "image": "m0"})
    disk = Disk(node, read_only=True)
    assert disk.read(0, 512) == b"m0" * 256
    run = graph.context.run
    run(graph.replace_child("dbg", "image", "m1"))
    assert disk.read(0, 512) == b"m1" * 256
    run(graph.insert({"driver": "delay", "node-name": "slow", "latency-ns": 70}, below="dbg"))
    before = graph.context.now_ns()
    assert disk.read(0, 512) == b"m1" * 256
    assert graph.context.now_ns() == before + 70
    run(graph.remove("slow"))
    run(graph.reopen({"driver": "memory", "node-name": "m1", "size": SIZE, "read-only": True}))
    assert disk.backend.node.read_only
    disk.backend.close()


def test_of_merged_neighbours_one_fails_once() -> None:
    for sector, expected in ((-1, [5, 0, 0, 0]), (2, [0, 0, 5, 0])):
        disk = Disk(over(rules({"event": "write_aio", "iotype": "write", "once": True, "sector": sector})))
        with disk.backend.batch():
            requests = [disk.submit(Op.WRITE, number * 512, data=b"x" * 512) for number in range(4)]
        disk.context.run_until_idle()
        assert [request.error for request in requests] == expected
        disk.close()


def test_of_merged_neighbours_that_of_the_label_fails() -> None:
    disk = Disk(rules({"event": "none", "label": "journal"}))
    requests = [
        Request(Op.WRITE, at * 512, 512, [memoryview(bytes(512))], label=label)
        for at, label in enumerate(("data", "journal", "data"))
    ]
    with disk.backend.batch():
        for request in requests:
            disk.backend.submit(request)
    disk.context.run_until_idle()
    assert [request.error for request in requests] == [0, errno.EIO, 0]
    disk.close()


# --- whatever happens, each request ends once

TAGS = st.sampled_from("AB")
EVENTS = st.sampled_from(
    ["write_aio", "read_aio", "pwritev", "pwritev_done", "pwritev_rmw_head", "flush_to_os"]
)
STEPS = st.one_of(
    st.tuples(st.just("break"), EVENTS, TAGS),
    st.tuples(st.sampled_from(["resume", "remove_break"]), TAGS),
    st.tuples(st.sampled_from(["write", "read"]), st.integers(0, 3000), st.integers(1, 1500)),
    st.tuples(st.sampled_from(["flush", "drain", "run", "insert", "remove"])),
)


@given(st.lists(STEPS, max_size=15), st.sampled_from([0, 512]))
def test_whoever_is_held_and_let_go_each_request_ends_once_and_well(
    steps: list[tuple[object, ...]], align: int
) -> None:
    context = IoContext.virtual()
    graph = Graph(context)
    disk = Disk(graph.add({**over(rules(align=align)), "node-name": "r0"}))
    node = below(disk)
    for step in steps:
        match step:
            case ("break" | "resume" | "remove_break", *_):
                context.run(debug_command(node, " ".join(map(str, step))))
            case ("write", int(offset), int(length)):
                disk.submit(Op.WRITE, offset, data=b"x" * length)
            case ("read", int(offset), int(length)):
                disk.submit(Op.READ, offset, length)
            case ("flush",):
                disk.submit(Op.FLUSH)
            case ("drain",):
                context.run(quiet(node, disk))
            case ("insert",) if "slow" not in graph.nodes:
                context.run(graph.insert({"driver": "delay", "node-name": "slow"}, below="dbg"))
            case ("remove",) if "slow" in graph.nodes:
                context.run(graph.remove("slow"))
            case _:
                context.run_until_idle()
    for tag in "AB":
        context.run(debug_command(node, f"remove_break {tag}"))
    context.run_until_idle()
    assert all(ended == 1 for ended in disk.ends.values())
    assert all(request.error == 0 for request in disk.ends)
    assert not disk.backend.in_flight
    expected = bytearray(SIZE)
    for request in disk.ends:
        if request.op is Op.WRITE:
            expected[request.offset : request.offset + request.length] = b"x" * request.length
    assert disk.read(0, SIZE) == expected
    assert at_hand(disk) or align or "slow" in graph.nodes
    graph.close()
    context.close()


async def quiet(node: BlkdebugNode, disk: Disk) -> None:
    """A drained section, in which nothing runs."""
    async with drained(node):
        assert not disk.backend.in_flight
