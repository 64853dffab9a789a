"""`rerror` and `werror`: an error is reported, ignored, or stops the machine until it is continued."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Mapping

import pytest

from devmodels.blockbackend import Flags, Graph, Op, Request
from devmodels.blockbackend.errorpolicy import ErrorPolicy, OnReadError, OnWriteError
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from tests.unit.blockbackend.support import DIRT, Disk, WatchedNode, payload

FULL = OSError(errno.ENOSPC, "full")
BROKEN = OSError(errno.EIO, "broken")


class Machine(Disk):
    """A disk whose node fails where a test says so, in a machine that can be stopped; what it told meanwhile."""

    node: WatchedNode

    def __init__(self, rerror: OnReadError = "auto", werror: OnWriteError = "auto") -> None:
        self.run_state = RunState()
        self.told: list[tuple[str, Mapping[str, object]]] = []
        self.run_state.events.add_listener(lambda name, data: self.told.append((name, data)))
        super().__init__(WatchedNode(IoContext.virtual()), run_state=self.run_state)
        self.backend.error_policy = ErrorPolicy(rerror, werror)

    def fail(self, op: Op, offset: int, error: Exception) -> None:
        """Requests of this kind that touch `offset` fail from now on."""
        self.node.errors[op, offset] = error

    def heal(self) -> None:
        """Nothing fails any more."""
        self.node.errors.clear()

    def events(self) -> list[str]:
        """Names of the events since this was asked last."""
        names = [name for name, _ in self.told]
        self.told.clear()
        return names

    def ended(self, request: Request) -> bool:
        """Whether the device has heard of the request's end, at most once."""
        assert self.ends[request] <= 1
        return bool(self.ends[request])


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine(rerror="stop", werror="stop")
    yield machine
    machine.close()


def test_a_request_that_stopped_the_machine_is_tried_again_and_ends_well(machine: Machine) -> None:
    machine.fail(Op.WRITE, 0, FULL)
    request = machine.submit(Op.WRITE, 0, data=b"new")
    assert not machine.ended(request)
    assert list(machine.backend.in_flight) == [request]
    assert machine.run_state.status == "io-error"
    assert machine.events() == ["BLOCK_IO_ERROR", "STOP"]
    machine.heal()
    machine.run_state.cont()
    assert machine.events() == ["RESUME"]
    assert (machine.ended(request), request.error) == (True, 0)
    assert machine.read(0, 4) == b"new\0"


def test_one_that_fails_again_stops_again(machine: Machine) -> None:
    machine.fail(Op.FLUSH, 0, BROKEN)
    request = machine.submit(Op.FLUSH)
    for _ in range(3):
        assert machine.events()[-2:] == ["BLOCK_IO_ERROR", "STOP"]
        assert not machine.ended(request)
        machine.run_state.cont()
    assert machine.events() == ["RESUME", "BLOCK_IO_ERROR", "STOP"]
    machine.heal()
    machine.run_state.cont()
    assert machine.ended(request)


def test_several_that_fail_at_once_are_tried_again_in_the_order_of_submission(machine: Machine) -> None:
    machine.node.held = True
    requests = [machine.submit(Op.WRITE, at, data=b"x" * 512) for at in (8192, 0, 4096)]
    for at in (8192, 0, 4096):
        machine.fail(Op.WRITE, at, BROKEN)
    for request in (requests[1], requests[2], requests[0]):
        machine.node.release(request)
        machine.context.run_until_idle()
    assert machine.events() == ["BLOCK_IO_ERROR", "STOP", "BLOCK_IO_ERROR", "BLOCK_IO_ERROR"]
    later = machine.submit(Op.READ, 0, 512)
    machine.heal()
    machine.node.held = False
    machine.node.seen.clear()
    machine.run_state.cont()
    assert machine.node.seen == [*requests, later]
    assert all(machine.ended(request) and not request.error for request in (*requests, later))


def test_what_was_running_when_another_one_failed_runs_to_its_end(machine: Machine) -> None:
    machine.node.held = True
    failing, running = machine.submit(Op.READ, 0, 512), machine.submit(Op.READ, 512, 512)
    machine.fail(Op.READ, 0, BROKEN)
    machine.node.release(failing)
    machine.context.run_until_idle()
    machine.node.release(running)
    machine.context.run_until_idle()
    assert (machine.ended(failing), machine.ended(running)) == (False, True)


def test_of_a_merged_batch_only_the_right_one_is_held_and_those_behind_it(machine: Machine) -> None:
    machine.fail(Op.WRITE, 1024, FULL)
    with machine.backend.batch():
        requests = [machine.submit(Op.WRITE, at, data=bytes([at >> 8]) * 512) for at in (0, 512, 1024, 1536)]
    assert [machine.ended(request) for request in requests] == [True, True, False, False]
    assert machine.events() == ["BLOCK_IO_ERROR", "STOP"]
    machine.heal()
    machine.run_state.cont()
    assert all(machine.ended(request) and not request.error for request in requests)
    assert machine.read(0, 2048) == b"".join(bytes([at >> 8]) * 512 for at in (0, 512, 1024, 1536))


def test_a_write_through_that_could_not_be_made_stable_is_written_anew(machine: Machine) -> None:
    machine.backend.write_cache = False
    machine.fail(Op.WRITE, 0, FULL)
    request = machine.submit(Op.WRITE, 0, data=b"x")
    machine.heal()
    machine.node.seen.clear()
    machine.run_state.cont()
    assert [seen.flags for seen in machine.node.seen] == [Flags.FUA]
    assert machine.ended(request)


def test_what_was_submitted_write_through_is_stable_although_the_cache_is_on_by_then(
    machine: Machine,
) -> None:
    """Held by an error, behind it, and merged with others: none is told to be written before it is stable."""
    machine.backend.write_cache = False
    machine.fail(Op.WRITE, 512, FULL)
    with machine.backend.batch():
        requests = [machine.submit(Op.WRITE, at, data=b"x" * 512) for at in (0, 512, 1024)]
    requests.append(machine.submit(Op.WRITE, 8192, data=b"x"))
    machine.backend.write_cache = True
    later = machine.submit(Op.WRITE, 4096, data=b"x")
    machine.heal()
    machine.node.seen.clear()
    machine.run_state.cont()
    flags = {seen.offset: seen.flags for seen in machine.node.seen}
    assert flags == {512: Flags.FUA, 8192: Flags.FUA, 4096: Flags.NONE}
    assert all(machine.ended(request) for request in (*requests, later))


def test_a_reset_drops_what_is_held(machine: Machine) -> None:
    machine.fail(Op.WRITE, 0, FULL)
    request = machine.submit(Op.WRITE, 0, data=b"x")
    machine.backend.cancel_held()
    assert request.error == errno.ECANCELED
    machine.heal()
    machine.events()
    machine.run_state.cont()
    assert machine.events() == ["RESUME"]
    assert machine.ended(request)
    assert machine.read(0, 1) == b"\0"


def test_a_drain_does_not_wait_for_what_an_error_holds(machine: Machine) -> None:
    machine.node.held = True
    request = machine.submit(Op.WRITE, 0, data=b"x")
    machine.fail(Op.WRITE, 0, FULL)
    drained: list[bool] = []
    machine.context.start(machine.backend.drain(), lambda *_: drained.append(True))
    machine.node.release()
    machine.context.run_until_idle()
    assert drained
    assert not machine.ended(request)


def test_a_disk_that_is_given_room_by_a_resize_meanwhile() -> None:
    """`block_resize`, and then `cont`: what lay beyond the end is inside."""
    machine = Machine(rerror="stop")
    request = machine.submit(Op.READ, machine.backend.size, 512)
    assert machine.backend.io_status == "failed"
    machine.context.run(machine.backend.resize(machine.backend.size * 2))
    machine.run_state.cont()
    assert (machine.ended(request), request.error) == (True, 0)
    machine.close()


def test_another_disk_takes_the_place_of_the_one_that_failed() -> None:
    """The graph changes while requests are held; on `cont` they go to what is there then."""
    context = IoContext.virtual()
    graph = Graph(context)
    run_state = RunState()
    for name, driver in (("bad", "null-co"), ("good", "memory")):
        graph.add({"driver": driver, "node-name": name, "size": 4096})
    disk = Disk(graph["bad"], run_state=run_state)
    disk.backend.error_policy = ErrorPolicy("stop", "stop")
    graph.delete("bad", force=True)
    write, read = disk.submit(Op.WRITE, 0, data=b"x" * 512), disk.submit(Op.READ, 0, 512)
    assert (disk.ends[write], disk.backend.io_status) == (0, "failed")
    context.run(graph.lead(disk.backend.edge, "good"))
    run_state.cont()
    assert (write.error, read.error, payload(read)) == (0, 0, b"x" * 512)
    disk.backend.close()
    graph.close()
    context.close()


def test_two_devices_that_fail_stop_the_machine_once_and_go_on_together(machine: Machine) -> None:
    other = Disk(machine.node, run_state=machine.run_state)
    other.backend.error_policy = ErrorPolicy("stop", "stop")
    machine.node.held = True
    requests = [machine.submit(Op.READ, 0, 512), other.submit(Op.READ, 0, 512)]
    machine.fail(Op.READ, 0, BROKEN)
    machine.node.release()
    machine.context.run_until_idle()
    assert machine.events() == ["BLOCK_IO_ERROR", "STOP", "BLOCK_IO_ERROR"]
    machine.heal()
    machine.node.held = False
    machine.run_state.cont()
    assert [request.error for request in requests] == [0, 0]
    assert (machine.ends[requests[0]], other.ends[requests[1]]) == (1, 1)
    other.backend.close()


def test_an_error_of_a_paused_machine_leaves_it_paused(machine: Machine) -> None:
    machine.node.held = True
    request = machine.submit(Op.READ, 0, 512)
    machine.run_state.stop("paused")
    machine.fail(Op.READ, 0, BROKEN)
    machine.node.release()
    machine.context.run_until_idle()
    assert machine.run_state.status == "paused"
    assert machine.events() == ["STOP", "BLOCK_IO_ERROR"]
    assert not machine.ended(request)


def test_who_continues_at_once_lets_it_be_tried_again(machine: Machine) -> None:
    """A listener answers STOP with `cont`: the node is well by then."""

    def go_on(name: str, data: Mapping[str, object]) -> None:
        if name == "STOP":
            machine.heal()
            machine.run_state.cont()

    machine.run_state.events.add_listener(go_on)
    machine.fail(Op.READ, 0, BROKEN)
    requests = [machine.submit(Op.READ, at, 512) for at in (0, 512)]
    assert all(machine.ended(request) and not request.error for request in requests)
    assert machine.events() == ["BLOCK_IO_ERROR", "STOP", "RESUME"]


def test_what_comes_while_the_error_is_told_waits_behind_it(machine: Machine) -> None:
    later: list[Request] = []

    def hear(name: str, data: Mapping[str, object]) -> None:
        if name == "BLOCK_IO_ERROR" and not later:
            later.append(machine.submit(Op.READ, 8192, 512))

    machine.run_state.events.add_listener(hear)
    machine.fail(Op.READ, 0, BROKEN)
    machine.node.held = True
    first = machine.submit(Op.READ, 0, 512)
    machine.node.held = False
    machine.node.release()
    machine.context.run_until_idle()
    assert machine.node.seen == [first]
    assert list(machine.backend.in_flight) == [first, *later]


def test_a_request_that_its_node_has_given_up_stops_nothing(machine: Machine) -> None:
    machine.fail(Op.WRITE, 0, OSError(errno.ECANCELED, "given up"))
    assert machine.do(Op.WRITE, 0, data=b"x") == errno.ECANCELED
    assert machine.events() == []


def test_a_read_that_stops_the_machine_is_one_that_read_now_leaves_alone(machine: Machine) -> None:
    buffer = memoryview(bytearray(512))
    machine.run_state.stop()
    assert machine.backend.read_now([(0, [buffer], 512)]) == 0


# --- ignore, report


def test_an_ignored_error_is_none_and_what_could_not_be_read_is_zeroes() -> None:
    machine = Machine(rerror="ignore", werror="ignore")
    machine.fail(Op.READ, 0, BROKEN)
    machine.fail(Op.WRITE, 0, FULL)
    read = machine.submit(Op.READ, 0, 512)
    assert DIRT * 512 != payload(read) == bytes(512)
    assert machine.do(Op.WRITE, 0, data=b"x") == 0
    assert machine.events() == ["BLOCK_IO_ERROR"] * 2
    stats = machine.backend.stats
    assert (stats.rd_operations, stats.wr_operations) == (1, 1)
    assert (stats.failed_rd_operations, stats.failed_wr_operations) == (0, 0)
    machine.close()


def test_a_reported_error_is_told_to_both_sides() -> None:
    machine = Machine(rerror="report", werror="report")
    machine.fail(Op.WRITE, 0, FULL)
    assert machine.do(Op.WRITE, 0, data=b"x") == errno.ENOSPC
    assert machine.events() == ["BLOCK_IO_ERROR"]
    assert machine.run_state.running
    machine.close()


def test_a_held_request_has_not_failed_and_counts_once(machine: Machine) -> None:
    machine.fail(Op.WRITE, 0, FULL)
    machine.submit(Op.WRITE, 0, data=b"x")
    machine.run_state.cont()
    machine.heal()
    machine.run_state.cont()
    stats = machine.backend.stats
    assert (stats.wr_operations, stats.failed_wr_operations, stats.wr_bytes) == (1, 0, 1)


# --- what is told


def test_members_of_the_event(machine: Machine) -> None:
    machine.fail(Op.WRITE, 0, FULL)
    machine.submit(Op.WRITE, 0, data=b"x")
    name = machine.backend.name
    assert machine.told[0] == (
        "BLOCK_IO_ERROR",
        {
            "device": name,
            "qom-path": "",
            "node-name": machine.node.node_name,
            "operation": "write",
            "action": "stop",
            "nospace": True,
            "reason": "No space left on device",
        },
    )
    machine.backend.qom_path = "/machine/peripheral/vd0/virtio-backend"
    machine.fail(Op.READ, 0, BROKEN)
    machine.heal()
    machine.run_state.cont()
    machine.told.clear()
    machine.fail(Op.READ, 0, BROKEN)
    machine.submit(Op.READ, 0, 512)
    ((_, members), _) = machine.told
    assert members["device"] == ""
    assert members["qom-path"] == "/machine/peripheral/vd0/virtio-backend"
    assert (members["operation"], members["nospace"]) == ("read", False)


def test_without_an_io_status_nothing_is_said_of_space() -> None:
    machine = Machine(rerror="report", werror="report")
    machine.fail(Op.WRITE, 0, FULL)
    machine.do(Op.WRITE, 0, data=b"x")
    ((_, members),) = machine.told
    assert "nospace" not in members
    assert machine.backend.io_status is None
    machine.close()


def test_a_stop_is_one_line_in_the_log(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.fail(Op.FLUSH, 0, BROKEN)
    with caplog.at_level(logging.WARNING):
        machine.submit(Op.FLUSH)
    assert [record.getMessage() for record in caplog.records] == [
        f"{machine.backend.name}: <FLUSH 0@0x0>: Input/output error: stopped until `cont`"
    ]


@pytest.mark.parametrize(
    ("rerror", "werror", "there"),
    [
        ("report", "report", False),
        ("ignore", "ignore", False),
        ("stop", "report", True),
        ("report", "stop", True),
        ("report", "enospc", True),
        ("auto", "auto", True),
    ],
)
def test_there_is_an_io_status_where_an_error_can_stop(
    rerror: OnReadError, werror: OnWriteError, there: bool
) -> None:
    machine = Machine(rerror, werror)
    assert machine.backend.io_status == ("ok" if there else None)
    machine.close()


def test_io_status_is_that_of_the_first_error_and_cont_makes_it_ok(machine: Machine) -> None:
    machine.node.held = True
    first, second = machine.submit(Op.WRITE, 0, data=b"x"), machine.submit(Op.WRITE, 512, data=b"x")
    machine.fail(Op.WRITE, 0, FULL)
    machine.fail(Op.WRITE, 512, BROKEN)
    for request in (first, second):
        machine.node.release(request)
        machine.context.run_until_idle()
    assert machine.backend.io_status == "nospace"
    machine.backend.cancel_held()
    assert machine.backend.io_status == "nospace", "a reset of the device says nothing of the disk"
    machine.heal()
    machine.run_state.cont()
    status: str | None = machine.backend.io_status
    assert status == "ok"


def test_a_closed_backend_stops_nothing(machine: Machine) -> None:
    machine.node.held = True
    request = machine.submit(Op.READ, 0, 512)
    machine.fail(Op.READ, 0, BROKEN)
    machine.backend.close()
    machine.node.release()
    machine.context.run_until_idle()
    assert machine.run_state.running
    assert (machine.ended(request), request.error) == (True, errno.EIO)
