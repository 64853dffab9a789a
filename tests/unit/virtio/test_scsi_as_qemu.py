"""A virtio SCSI host device under profile `qemu`: its units answer as QEMU 7.2's, its data lie where QEMU has them."""

from __future__ import annotations

import errno
import struct

import msgspec
import pytest

from devmodels.blockbackend import Op
from devmodels.blockbackend.backend import BlockBackend
from devmodels.conformance import Profile
from devmodels.iocontext import Event
from devmodels.scsi.mmc import CdDrive, CdOptions
from tests.unit.virtio.blkrig import Disk
from tests.unit.virtio.scsirig import (
    ABORT_TASK,
    ABORT_TASK_SET,
    CHECK_CONDITION,
    CLEAR_ACA,
    CLEAR_TASK_SET,
    GOOD,
    I_T_NEXUS_RESET,
    INQUIRY,
    LOGICAL_UNIT_RESET,
    S_ABORTED,
    S_BAD_TARGET,
    S_FUNCTION_REJECTED,
    S_INCORRECT_LUN,
    S_OK,
    S_OVERRUN,
    TEST_UNIT_READY,
    Answer,
    ScsiRig,
    Sent,
    lun_of,
    read_10,
    scsi,
    write_10,
)

REQUEST_SENSE = bytes((0x03, 0, 0, 0, 252, 0))
REPORT_LUNS = struct.pack(">BBB3xIxx", 0xA0, 0, 0, 256)
MODE_SELECT = bytes((0x15, 0x10, 0, 0, 3, 0))
LOG_SENSE = struct.pack(">BBB4xHx", 0x4D, 0, 0x40, 64)
WRONG = read_10(1 << 30, 1)
SYNCHRONIZE_CACHE_16 = bytes((0x91,)) + bytes(15)
VERIFY_10 = struct.pack(">BBIBHB", 0x2F, 0, 1 << 30, 0, 1, 0)
PREVENT = bytes((0x1E, 0, 0, 0, 1, 0))
EJECT = bytes((0x1B, 0, 0, 0, 2, 0))
UNMAP, NO_BLOCKS = struct.pack(">B6xHx", 0x42, 24), struct.pack(">HH4xQI4x", 22, 16, 0, 0)
PERSISTENT_RESERVE_IN = struct.pack(">BB5xHx", 0x5E, 0, 8)
ATTENTION = (6, 0x29, 0)
UNTOUCHED = b"\xee"
NEEDS_RESET = 0x40


@pytest.fixture
def rig() -> ScsiRig:
    rig = scsi(profile=Profile.QEMU)
    rig.ready()
    return rig


def codes(answer: Answer) -> tuple[int, int, int]:
    """Sense key, additional sense code and its qualifier."""
    assert (answer.response, answer.status) == (S_OK, CHECK_CONDITION)
    return answer.sense[2], answer.sense[12], answer.sense[13]


@pytest.mark.parametrize("function", [LOGICAL_UNIT_RESET, I_T_NEXUS_RESET])
def test_one_condition_is_told_of_any_reset(rig: ScsiRig, function: int) -> None:
    rig.manage(function)
    assert codes(rig.send(TEST_UNIT_READY)) == ATTENTION
    assert rig.send(TEST_UNIT_READY).status == GOOD


def test_a_command_that_overruns_takes_the_condition_with_it(rig: ScsiRig) -> None:
    rig.manage(LOGICAL_UNIT_RESET)
    assert rig.send(read_10(0, 2), room=512).response == S_OVERRUN
    assert rig.send(TEST_UNIT_READY).status == GOOD


def test_sense_data_stay_for_request_sense(rig: ScsiRig) -> None:
    assert codes(rig.send(read_10(1 << 30, 1), room=512)) == (5, 0x21, 0)
    told = rig.send(REQUEST_SENSE, room=252).data
    assert (told[0], told[2], told[12], told[18:]) == (0x70, 5, 0x21, UNTOUCHED * 234)
    nothing = rig.send(REQUEST_SENSE, room=252).data
    assert (nothing[0], nothing[2], nothing[18:]) == (0x70, 0, bytes(234))


@pytest.mark.parametrize(
    ("cdb", "data", "room"),
    [
        (read_10(1 << 30, 2), b"", 512),
        (read_10(0, 1), bytes(512), 0),
        (write_10(1 << 30, 1), b"", 512),
        (LOG_SENSE, b"", 32),
    ],
    ids=["a wrong address", "the other way", "a write that reads", "a command that there is not"],
)
def test_direction_and_length_are_judged_before_all_else(
    rig: ScsiRig, cdb: bytes, data: bytes, room: int
) -> None:
    assert rig.send(cdb, data, room).response == S_OVERRUN


def test_all_room_is_filled_beyond_the_transfer_length(rig: ScsiRig) -> None:
    rig.disk.data[:2048] = bytes(range(256)) * 8
    answer = rig.send(read_10(1, 1), room=1124)
    assert answer.data == bytes(range(256)) * 4 + UNTOUCHED * 100
    assert (answer.status, answer.residual) == (GOOD, (512 - 1124) & 0xFFFF_FFFF)


def test_all_data_are_written_beyond_the_transfer_length(rig: ScsiRig) -> None:
    assert rig.send(write_10(0, 1), b"\x77" * 1024).status == GOOD
    assert rig.disk.data[512:1024] == b"\x77" * 512


def test_what_is_moved_beyond_the_end_is_an_error(rig: ScsiRig) -> None:
    last = len(rig.disk.data) // 512 - 1
    assert codes(rig.send(read_10(last, 1), room=1024)) == (0xB, 0, 6)


@pytest.mark.parametrize("cdb", [LOG_SENSE, PERSISTENT_RESERVE_IN, bytes((0xC5,)), bytes((0x7F,))])
def test_commands_that_qemus_disk_has_not(rig: ScsiRig, cdb: bytes) -> None:
    assert codes(rig.send(cdb, room=64)) == (5, 0x20, 0)


def test_a_parameter_list_without_its_header(rig: ScsiRig) -> None:
    assert codes(rig.send(MODE_SELECT, bytes(3))) == (5, 0x1A, 0)


def test_without_any_layout_data_begin_at_the_second_piece(rig: ScsiRig) -> None:
    assert rig.send(write_10(0, 1), bytes(10) + b"\x55" * 512, cuts=((61,), (108,))).status == GOOD
    assert rig.disk.data[:512] == b"\x55" * 512


def test_the_task_attribute_is_not_looked_at(rig: ScsiRig) -> None:
    assert rig.send(TEST_UNIT_READY, attribute=3).status == GOOD


def test_the_list_of_units_begins_with_lun_0_and_goes_on_with_the_newest() -> None:
    rig = scsi((0, 1), (0, 5), profile=Profile.QEMU)
    rig.ready(lun_of(0, 1))
    rig.ready(lun_of(0, 5))
    data = rig.send(REPORT_LUNS, room=256, lun=lun_of(0, 0)).data
    assert struct.unpack(">I4xQQQ", data[:32]) == (24, 0, 5 << 48, 1 << 48)
    assert codes(rig.send(REPORT_LUNS, room=256, lun=lun_of(0, 1))) == (5, 0x25, 0)


def test_a_unit_that_is_not_there(rig: ScsiRig) -> None:
    assert rig.send(INQUIRY, room=36, lun=lun_of(0, 3)).data[0] == 0x7F
    assert codes(rig.send(TEST_UNIT_READY, lun=lun_of(0, 3))) == (5, 0x25, 0)
    assert rig.send(TEST_UNIT_READY, lun=bytes((1, 0, 0x80, 0)) + bytes(4)).response == S_BAD_TARGET
    assert rig.send(TEST_UNIT_READY, lun=bytes((0xC1, 1)) + bytes(6)).response == S_BAD_TARGET


def test_a_unit_that_comes_is_told_once_on_the_whole_bus(rig: ScsiRig) -> None:
    rig.plug(1, 0)
    assert codes(rig.send(TEST_UNIT_READY)) == (6, 0x3F, 0x0E)
    rig.plug(2, 0)
    assert codes(rig.send(TEST_UNIT_READY, lun=lun_of(1))) == ATTENTION
    assert codes(rig.send(TEST_UNIT_READY, lun=lun_of(1))) == (6, 0x3F, 0x0E)
    assert rig.send(TEST_UNIT_READY).status == GOOD


@pytest.mark.parametrize(
    ("number", "status", "sense"),
    [
        (errno.EIO, CHECK_CONDITION, (0xB, 0, 6)),
        (errno.ENOLINK, CHECK_CONDITION, (0xB, 0, 6)),
        (errno.EREMOTEIO, CHECK_CONDITION, (4, 0x44, 0)),
        (errno.EBADE, 0x18, ()),
        (errno.EDOM, 0x28, ()),
    ],
)
def test_what_a_failure_of_the_disk_is(
    rig: ScsiRig, number: int, status: int, sense: tuple[int, ...]
) -> None:
    rig.disk.fail[Op.READ] = number
    answer = rig.send(read_10(0, 1), room=512)
    assert (answer.response, answer.status) == (S_OK, status)
    assert tuple(answer.sense[at] for at in (2, 12, 13) if answer.sense) == sense


def test_asynchronous_events_of_any_unit_are_none(rig: ScsiRig) -> None:
    assert rig.control(struct.pack("<I8sI", 1, lun_of(7, 1), 0xFF), room=5) == bytes(5)


def test_sizes_that_cannot_be_need_a_reset(rig: ScsiRig) -> None:
    rig.device.write_config(24, 4, 256)
    assert rig.device.status & NEEDS_RESET


# --- what comes with one notification


def together(rig: ScsiRig, *commands: tuple[bytes, bytes, int]) -> list[Answer]:
    """What becomes of commands that are made available at once: their CDBs, data and room."""
    sent = [rig.start(*each) for each in commands]
    rig.go()
    return [rig.answer(each) for each in sent]


def kept(rig: ScsiRig) -> int:
    """The sense key that REQUEST SENSE finds."""
    return rig.send(REQUEST_SENSE, room=252).data[2]


def test_all_are_judged_before_any_of_them_begins(rig: ScsiRig) -> None:
    failed, told = together(rig, (WRONG, b"", 512), (REQUEST_SENSE, b"", 252))
    assert codes(failed) == (5, 0x21, 0)
    assert (told.data[2], told.residual) == (0, 0)


def test_one_attention_is_for_the_first_of_them(rig: ScsiRig) -> None:
    rig.manage(LOGICAL_UNIT_RESET)
    told, overrun, good = together(
        rig, (TEST_UNIT_READY, b"", 0), (read_10(0, 2), b"", 512), (TEST_UNIT_READY, b"", 0)
    )
    assert codes(told) == ATTENTION
    assert (overrun.response, good.status) == (S_OVERRUN, GOOD)


@pytest.mark.parametrize(
    "moved",
    [(write_10(0, 1), bytes(512), 0), (read_10(0, 1), b"", 512), (UNMAP, NO_BLOCKS, 0)],
    ids=["WRITE", "READ", "UNMAP of nothing"],
)
def test_what_moves_data_ends_behind_all_that_does_not(rig: ScsiRig, moved: tuple[bytes, bytes, int]) -> None:
    first, second = rig.start(*moved), rig.start(WRONG, room=512)
    rig.go()
    assert rig.order[-2:] == [second, first]
    assert [rig.answer(each).status for each in (first, second)] == [GOOD, CHECK_CONDITION]
    assert kept(rig) == 0


def test_what_overruns_is_answered_before_any_of_them_begins(rig: ScsiRig) -> None:
    first, second = rig.start(TEST_UNIT_READY), rig.start(read_10(0, 2), room=512)
    rig.go()
    assert rig.order[-2:] == [second, first]


# --- task management


def test_a_reset_of_a_nexus_with_no_target_goes_well(rig: ScsiRig) -> None:
    assert rig.manage(I_T_NEXUS_RESET, lun=lun_of(7)) == S_OK
    assert rig.manage(LOGICAL_UNIT_RESET, lun=lun_of(7)) == S_BAD_TARGET
    assert rig.send(TEST_UNIT_READY).status == GOOD


def test_a_reset_of_a_nexus_is_one_of_the_target_in_byte_1_whatever_else_is_there(rig: ScsiRig) -> None:
    assert rig.manage(I_T_NEXUS_RESET, lun=bytes((0xC1, 0, 0x99, 5, 6, 7, 8, 9))) == S_OK
    assert codes(rig.send(TEST_UNIT_READY)) == ATTENTION


def test_a_reset_of_a_nexus_puts_the_medium_in_again() -> None:
    rig = scsi(profile=Profile.QEMU)
    rig.plug(1, 0, removable=True)
    rig.ready()
    rig.ready(lun_of(1))
    assert rig.send(EJECT, lun=lun_of(1)).status == GOOD
    assert codes(rig.send(TEST_UNIT_READY, lun=lun_of(1))) == (2, 0x3A, 0)
    rig.manage(I_T_NEXUS_RESET, lun=lun_of(1))
    assert codes(rig.send(TEST_UNIT_READY, lun=lun_of(1))) == ATTENTION
    assert rig.send(TEST_UNIT_READY, lun=lun_of(1)).status == GOOD


@pytest.mark.parametrize("lun", [lun_of(), lun_of(0, 3), lun_of(7), bytes(8)])
def test_clear_aca_is_rejected_whatever_it_is_about(rig: ScsiRig, lun: bytes) -> None:
    assert rig.manage(CLEAR_ACA, lun=lun) == S_FUNCTION_REJECTED


def test_a_function_of_a_unit_that_is_not_there(rig: ScsiRig) -> None:
    assert rig.manage(LOGICAL_UNIT_RESET, lun=lun_of(0, 3)) == S_INCORRECT_LUN


def held(rig: ScsiRig, *tags: int) -> list[Sent]:
    """READs that are under way."""
    rig.disk.gate = Event(rig.device.context)
    sent = [rig.start(read_10(0, 1), room=512, tag=each) for each in tags]
    rig.go()
    return sent


def ask(rig: ScsiRig, function: int, tag: int = 0) -> Sent:
    """Give the function to the control queue."""
    return rig.start_control(struct.pack("<II", 0, function) + lun_of() + struct.pack("<Q", tag))


def resume(rig: ScsiRig) -> None:
    assert rig.disk.gate is not None
    rig.disk.gate.set()
    rig.settle()


def test_of_commands_with_one_tag_the_first_is_aborted(rig: ScsiRig) -> None:
    sent = held(rig, 5, 5)
    function = ask(rig, ABORT_TASK, 5)
    resume(rig)
    assert [rig.answer(each).response for each in sent] == [S_ABORTED, S_OK]
    assert function.length == 1


@pytest.mark.parametrize("function", [ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET])
def test_what_is_being_aborted_is_not_waited_for_again(rig: ScsiRig, function: int) -> None:
    sent = held(rig, 5)
    first = ask(rig, function, 5)
    second = ask(rig, function, 5)
    assert (first.length, second.length) == (None, 1)
    resume(rig)
    assert (first.length, rig.answer(sent[0]).response) == (1, S_ABORTED)


# --- commands and conditions


def test_verify_looks_at_no_address(rig: ScsiRig) -> None:
    assert rig.send(VERIFY_10).status == GOOD


def test_there_is_no_synchronize_cache_16(rig: ScsiRig) -> None:
    assert codes(rig.send(SYNCHRONIZE_CACHE_16)) == (5, 0x20, 0)


def test_request_sense_ends_with_a_condition(rig: ScsiRig) -> None:
    rig.manage(LOGICAL_UNIT_RESET)
    assert codes(rig.send(REQUEST_SENSE, room=252)) == ATTENTION
    assert kept(rig) == 0


def test_sense_data_that_stay_are_all_given_or_overrun(rig: ScsiRig) -> None:
    assert codes(rig.send(WRONG, room=512)) == (5, 0x21, 0)
    assert rig.send(REQUEST_SENSE, room=17).response == S_OVERRUN
    assert kept(rig) == 5


def test_a_condition_comes_before_an_unknown_code_and_is_told_of_no_unit(rig: ScsiRig) -> None:
    for cdb, lun in ((LOG_SENSE, lun_of()), (TEST_UNIT_READY, lun_of(0, 3))):
        rig.manage(LOGICAL_UNIT_RESET)
        assert codes(rig.send(cdb, room=64, lun=lun)) == ATTENTION
        assert rig.send(TEST_UNIT_READY).status == GOOD


def test_a_condition_is_forgotten_with_a_code_of_no_group(rig: ScsiRig) -> None:
    rig.manage(LOGICAL_UNIT_RESET)
    assert codes(rig.send(bytes((0x7F,)), room=64)) == (5, 0x20, 0)
    assert rig.send(TEST_UNIT_READY).status == GOOD


def test_no_queue_of_a_unit_is_ever_full() -> None:
    rig = scsi(profile=Profile.QEMU, ring=1024)
    rig.ready()
    rig.disk.gate = Event(rig.device.context)
    sent = [rig.start(read_10(0, 1), room=512) for _ in range(257)]
    rig.go()
    rig.disk.gate.set()
    rig.settle()
    assert {rig.answer(each).status for each in sent} == {GOOD}


# --- snapshots


def restored(rig: ScsiRig, fresh: ScsiRig) -> ScsiRig:
    """`fresh`, of which the units know what those of `rig` do."""
    parts = rig.device.save_parts()
    fresh.device.judge_parts(parts)
    fresh.device.restore_parts(parts)
    return fresh


def test_a_snapshot_has_the_sense_data_that_stay(rig: ScsiRig) -> None:
    assert codes(rig.send(WRONG, room=512)) == (5, 0x21, 0)
    fresh = scsi(profile=Profile.QEMU)
    fresh.ready()
    assert kept(restored(rig, fresh)) == 5


def test_a_snapshot_has_what_is_to_be_told_of_the_bus(rig: ScsiRig) -> None:
    rig.plug(1, 0)
    fresh = restored(rig, scsi((0, 0), (1, 0), profile=Profile.QEMU))
    assert codes(fresh.send(TEST_UNIT_READY)) == (6, 0x3F, 0x0E)
    assert fresh.send(TEST_UNIT_READY).status == GOOD


def test_a_snapshot_has_the_size_of_blocks(rig: ScsiRig) -> None:
    descriptor = struct.pack(">4xI", 1024)
    assert rig.send(bytes((0x15, 0x10, 0, 0, 12, 0)), bytes((0, 0, 0, 8)) + descriptor).status == GOOD
    assert rig.send(read_10(0, 1), room=512).response == S_OVERRUN
    assert restored(rig, scsi(profile=Profile.QEMU)).send(read_10(0, 1), room=512).response == S_OVERRUN


def test_a_snapshot_has_the_medium_that_is_held() -> None:
    rigs = [scsi((0, 0), profile=Profile.QEMU) for _ in range(2)]
    for each in rigs:
        each.plug(1, 0, removable=True)
        each.ready(lun_of(1))
    assert rigs[0].send(PREVENT, lun=lun_of(1)).status == GOOD
    assert codes(restored(*rigs).send(EJECT, lun=lun_of(1))) == (5, 0x53, 2)


def test_a_snapshot_has_what_a_drive_has_yet_to_tell() -> None:
    rigs = [scsi(profile=Profile.QEMU) for _ in range(2)]
    drives = [put_drive(each) for each in rigs]
    drives[0].tray.user_opens()
    drives[0].tray.user_closes()
    fresh = restored(*rigs)
    found = [codes(fresh.send(TEST_UNIT_READY, lun=lun_of(1))) for _ in range(2)]
    assert found == [(6, 0x3A, 0), (6, 0x28, 0)]


def put_drive(rig: ScsiRig) -> CdDrive:
    """A CD drive at target 1, which has nothing to tell."""
    context, violations = rig.device.context, rig.device.violations
    backend = BlockBackend(Disk(context, 1 << 16), name="cd0", run_state=rig.run_state, read_only=True)
    drive = CdDrive(backend, CdOptions(), violations=violations)
    rig.device.plug(1, 0, drive)
    rig.ready(lun_of(1))
    return drive


@pytest.mark.parametrize("part", [b"", b"\x80", b"\xc0"])
def test_what_is_no_snapshot_is_refused(rig: ScsiRig, part: bytes) -> None:
    parts = {**rig.device.save_parts(), "as-qemu": part}
    with pytest.raises(ValueError, match="not the state of units as QEMU's"):
        rig.device.judge_parts(parts)


@pytest.mark.parametrize("change", [{"block_size": 700}, {"max_lba": -1}, {"sense": bytes(300)}])
def test_a_snapshot_of_what_cannot_be_is_refused(rig: ScsiRig, change: dict[str, object]) -> None:
    parts = rig.device.save_parts()
    state = msgspec.msgpack.decode(parts["as-qemu"])
    state["fronts"]["0.0"].update(change)
    with pytest.raises(ValueError, match="not the state of units as QEMU's"):
        rig.device.judge_parts({**parts, "as-qemu": msgspec.msgpack.encode(state)})


def test_a_snapshot_of_other_units_is_refused(rig: ScsiRig) -> None:
    parts = rig.device.save_parts()
    state = msgspec.msgpack.decode(parts["as-qemu"])
    del state["fronts"]["0.0"]
    with pytest.raises(ValueError, match="expected"):
        rig.device.judge_parts({**parts, "as-qemu": msgspec.msgpack.encode(state)})


def test_a_snapshot_of_units_under_another_profile_is_refused(rig: ScsiRig) -> None:
    strict = scsi()
    for one, other in ((rig, strict), (strict, rig)):
        with pytest.raises(ValueError, match="of units under another profile"):
            one.device.judge_parts(other.device.save_parts())
