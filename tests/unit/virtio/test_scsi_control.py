"""virtio-scsi's control queue, VIRTIO 1.4 §5.6.6.2: task management, asynchronous notification, resets."""

from __future__ import annotations

import struct

import pytest

from devmodels.iocontext import Event
from tests.unit.virtio.model import EVENT_IDX
from tests.unit.virtio.scsirig import (
    ABORT_TASK,
    ABORT_TASK_SET,
    CLEAR_ACA,
    CLEAR_TASK_SET,
    CONTROL,
    GOOD,
    I_T_NEXUS_RESET,
    LOGICAL_UNIT_RESET,
    QUERY_TASK,
    QUERY_TASK_SET,
    REQUEST,
    S_ABORTED,
    S_BAD_TARGET,
    S_FAILURE,
    S_FUNCTION_REJECTED,
    S_FUNCTION_SUCCEEDED,
    S_INCORRECT_LUN,
    S_OK,
    S_RESET,
    TEST_UNIT_READY,
    ScsiRig,
    Sent,
    bring_up,
    lun_of,
    read_10,
    scsi,
    set_up,
    write_10,
)

CLAUSE = "VIRTIO 1.4 §5.6.6.2"
EVERY_FUNCTION = range(8)


def held(r: ScsiRig, *places: tuple[int, int]) -> list[Sent]:
    """A read of each unit that its disk does not answer."""
    out = []
    for place in places:
        r.ready(lun_of(*place))
        r.disks[place].gate = Event(r.device.context)
        out.append(r.start(read_10(0, 1), room=512, lun=lun_of(*place)))
        r.go()
    return out


def release(r: ScsiRig) -> None:
    for disk in r.disks.values():
        if disk.gate is not None:
            disk.gate.set()
            disk.gate = None
    r.settle()


# --- functions


@pytest.mark.parametrize("function", [ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET])
def test_an_aborted_command_ends_before_the_function_does(function: int) -> None:
    r = scsi(without=EVENT_IDX)
    (command,) = held(r, (0, 0))
    r.notifications.used.clear()
    function_sent = r.start_control(struct.pack("<II", 0, function) + lun_of() + struct.pack("<Q", r.tag))
    assert command.length is None
    assert function_sent.length is None
    release(r)
    assert r.notifications.used == [REQUEST, CONTROL]
    assert r.answer(command).response == S_ABORTED
    assert r.content(function_sent.writable) == bytes((S_OK,))


def test_a_command_that_has_not_started_is_aborted_at_once() -> None:
    r = scsi(without=EVENT_IDX)
    r.ready()
    r.run_state.stop("paused")
    command = r.start(read_10(0, 1), room=512)
    r.go()
    r.notifications.used.clear()
    assert r.manage(ABORT_TASK, tag=r.tag) == S_OK
    assert r.notifications.used == [REQUEST, CONTROL]
    answer = r.answer(command)
    assert (answer.response, answer.residual, answer.length) == (S_ABORTED, 512, 12 + 96)


def test_only_the_command_with_that_tag_is_aborted() -> None:
    r = scsi()
    first, second = [*held(r, (0, 0)), r.start(write_10(1, 1), bytes(512))]
    r.go()
    r.start_control(struct.pack("<II", 0, ABORT_TASK) + lun_of() + struct.pack("<Q", r.tag - 1))
    release(r)
    assert r.answer(first).response == S_ABORTED
    assert r.answer(second).response == S_OK


def test_a_logical_unit_reset_ends_the_commands_of_that_unit() -> None:
    r = scsi((0, 0), (0, 1))
    mine, other = held(r, (0, 0), (0, 1))
    r.start_control(struct.pack("<II", 0, LOGICAL_UNIT_RESET) + lun_of(0, 0) + bytes(8))
    release(r)
    assert r.answer(mine).response == S_RESET
    assert r.answer(other).response == S_OK
    assert r.send(TEST_UNIT_READY).sense_triple == (0x6, 0x29, 0x03)
    assert r.send(TEST_UNIT_READY, lun=lun_of(0, 1)).status == GOOD


def test_a_nexus_reset_ends_the_commands_of_a_target() -> None:
    r = scsi((0, 0), (0, 1), (1, 0))
    a, b, other = held(r, (0, 0), (0, 1), (1, 0))
    r.start_control(struct.pack("<II", 0, I_T_NEXUS_RESET) + lun_of(0, 77) + bytes(8))
    release(r)
    assert [r.answer(each).response for each in (a, b, other)] == [S_RESET, S_RESET, S_OK]
    assert r.send(TEST_UNIT_READY).sense_triple == (0x6, 0x29, 0x07)


def test_queries_tell_what_is_there() -> None:
    r = scsi()
    (command,) = held(r, (0, 0))
    assert r.manage(QUERY_TASK, tag=r.tag) == S_FUNCTION_SUCCEEDED
    assert r.manage(QUERY_TASK, tag=r.tag + 1) == S_OK
    assert r.manage(QUERY_TASK_SET) == S_FUNCTION_SUCCEEDED
    release(r)
    assert r.answer(command).response == S_OK
    assert r.manage(QUERY_TASK_SET) == S_OK


def test_there_is_no_aca_to_clear() -> None:
    assert scsi().manage(CLEAR_ACA) == S_FUNCTION_REJECTED


@pytest.mark.parametrize("function", EVERY_FUNCTION)
def test_a_target_that_is_not_there(function: int) -> None:
    assert scsi().manage(function, lun=lun_of(9)) == S_BAD_TARGET


@pytest.mark.parametrize("function", [each for each in EVERY_FUNCTION if each != I_T_NEXUS_RESET])
def test_a_unit_that_is_not_there(function: int) -> None:
    assert scsi().manage(function, lun=lun_of(0, 9)) == S_INCORRECT_LUN


def test_unknown_functions_are_rejected() -> None:
    r = scsi()
    assert r.manage(8) == S_FUNCTION_REJECTED
    assert r.clauses == [CLAUSE]


def test_a_function_gives_back_room_that_it_does_not_need() -> None:
    r = scsi()
    assert r.control(struct.pack("<II", 0, QUERY_TASK_SET) + lun_of() + bytes(8), room=10) == bytes((S_OK,))


# --- asynchronous notification


@pytest.mark.parametrize("kind", [1, 2])
def test_a_disk_has_no_asynchronous_events(kind: int) -> None:
    r = scsi()
    request = struct.pack("<I8sI", kind, lun_of(), 0xFFFF_FFFF)
    assert r.control(request, 5) == struct.pack("<IB", 0, S_OK)
    request = struct.pack("<I8sI", kind, lun_of(4), 0xFFFF_FFFF)
    assert r.control(request, 5) == struct.pack("<IB", 0, S_BAD_TARGET)
    request = struct.pack("<I8sI", kind, lun_of(0, 4), 0xFFFF_FFFF)
    assert r.control(request, 5) == struct.pack("<IB", 0, S_INCORRECT_LUN)


# --- what a driver gets wrong


@pytest.mark.parametrize(
    ("request_bytes", "room", "expected"),
    [
        (b"", 1, bytes((S_FAILURE,))),
        (bytes(3), 1, bytes((S_FAILURE,))),
        (struct.pack("<I", 3) + bytes(20), 1, bytes((S_FAILURE,))),
        (struct.pack("<I", 3) + bytes(20), 5, bytes(4) + bytes((S_FAILURE,))),
        (struct.pack("<I", 3) + bytes(20), 5000, b""),
        (struct.pack("<II", 0, 5) + bytes(15), 1, bytes((S_FAILURE,))),
        (struct.pack("<II", 0, 5) + bytes(16), 0, b""),
        (struct.pack("<I", 1) + bytes(11), 5, bytes(4) + bytes((S_FAILURE,))),
        (struct.pack("<I", 1) + bytes(12), 4, bytes(3) + bytes((S_FAILURE,))),
    ],
)
def test_requests_of_the_wrong_kind_or_size_fail(request_bytes: bytes, room: int, expected: bytes) -> None:
    r = scsi()
    assert r.control(request_bytes, room) == expected
    assert r.clauses == [CLAUSE]
    assert r.manage(QUERY_TASK_SET) == S_OK


def test_a_request_outside_memory_fails() -> None:
    r = scsi()
    sent = r.place(CONTROL, [(0x4000_0000_0000, 24)], r.writable(1))
    r.go(CONTROL)
    assert r.content(sent.writable) == bytes((S_FAILURE,))
    assert r.clauses == [CLAUSE]


# --- resets


def test_a_device_reset_waits_for_what_runs_and_resets_the_units() -> None:
    r = scsi()
    held(r, (0, 0))
    r.device.write_status(0)
    assert r.device.status
    release(r)
    assert r.device.status == 0
    bring_up(r, r.device.device_features)
    assert r.send(TEST_UNIT_READY).sense_triple == (0x6, 0x29, 0x00)


def test_a_queue_reset_waits_for_what_runs() -> None:
    r = scsi()
    held(r, (0, 0))
    queue = r.device.queues[REQUEST]
    r.device.reset_queue(queue)
    assert queue.resetting
    release(r)
    assert not queue.resetting


def test_a_reset_of_the_control_queue_waits_for_no_function() -> None:
    r = scsi()
    (read,) = held(r, (0, 0))
    function = r.start_control(struct.pack("<II", 0, ABORT_TASK) + lun_of() + struct.pack("<Q", r.tag))
    queue = r.device.queues[CONTROL]
    r.device.reset_queue(queue)
    assert not queue.resetting
    r.sent.remove(function)
    r.drivers[CONTROL] = set_up(r, queue, r.device.driver_features)
    # The next request has the buffer of the first one.
    assert r.manage(QUERY_TASK, tag=r.tag) == S_OK
    before = r.content(function.writable)
    release(r)
    assert r.answer(read).response == S_ABORTED
    assert r.content(function.writable) == before
    assert r.manage(QUERY_TASK, tag=r.tag) == S_OK
    assert r.clauses == []


def test_an_answer_that_waits_for_bus_mastering_is_dropped_with_its_queue() -> None:
    r = scsi()
    (read,) = held(r, (0, 0))
    function = r.start_control(struct.pack("<II", 0, ABORT_TASK) + lun_of() + struct.pack("<Q", r.tag))
    before = r.content(function.writable)
    r.device.pause()
    release(r)
    queue = r.device.queues[CONTROL]
    r.device.reset_queue(queue)
    assert not queue.resetting
    r.sent.remove(function)
    r.drivers[CONTROL] = set_up(r, queue, r.device.driver_features)
    r.device.resume()
    r.settle()
    assert r.content(function.writable) == before
    assert r.answer(read).response == S_ABORTED
    assert r.manage(QUERY_TASK, tag=r.tag) == S_OK


def test_a_suspension_waits_for_functions_unless_their_queue_is_reset() -> None:
    r = scsi()
    held(r, (0, 0))
    function = r.start_control(struct.pack("<II", 0, ABORT_TASK) + lun_of() + struct.pack("<Q", r.tag))
    r.device.write_status(int(r.device.status) | 0x10)
    r.settle()
    assert not r.device.suspended
    r.device.reset_queue(r.device.queues[CONTROL])
    r.sent.remove(function)
    release(r)
    assert r.device.suspended
