"""Commands and their data: immediate, unsolicited, asked for; Data-In, status, residuals (RFC 7143 §4.2.5, §11.3)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from devmodels.protocols.iscsi import codes, pdu
from devmodels.protocols.iscsi.pdu import Opcode

from .initiator import INQUIRY, NOBODY, TEST_UNIT_READY, Initiator, World, read_10, write_10

PATTERN = bytes(range(256)) * 64
KEYS = {"InitialR2T": "No", "ImmediateData": "Yes", "MaxBurstLength": "4096", "FirstBurstLength": "2048"}


def ready(world: World, **keys: str) -> Initiator:
    initiator = world.login(keys=KEYS | keys)
    initiator.ready()
    return initiator


def write_16_kib(initiator: Initiator) -> int:
    """Send a WRITE with 2 KiB of immediate data; the rest is to be asked for."""
    flags = pdu.FINAL | pdu.WRITE | 1
    return initiator.command(write_10(0, 32), PATTERN[:2048], flags=flags, expected=16384)


# --- reading


def test_a_read_is_one_pdu_with_its_status(initiator: Initiator) -> None:
    itt = initiator.command(read_10(8, 8), reads=4096)
    found = initiator.receive()
    assert (found.opcode, found["itt"], found["flags"]) == (Opcode.DATA_IN, itt, 0x81)
    assert (found["status"], found["residual"], found.data) == (0, 0, bytes(4096))


def test_a_long_read_is_cut_into_segments_and_bursts(world: World) -> None:
    initiator = ready(world, MaxRecvDataSegmentLength="1536")
    initiator.command(read_10(0, 12), reads=6144)
    found = initiator.receive_all()
    assert [(each["offset"], len(each.data)) for each in found] == [
        (0, 1536),
        (1536, 1536),
        (3072, 1024),
        (4096, 1536),
        (5632, 512),
    ]
    assert [each["flags"] for each in found] == [0, 0, 0x80, 0, 0x81]
    assert [each["data_sn"] for each in found] == [0, 1, 2, 3, 4]


def test_no_data_comes_with_a_failure(initiator: Initiator) -> None:
    initiator.command(read_10(1 << 20, 1), reads=512)
    found = initiator.receive()
    assert found.opcode is Opcode.SCSI_RESPONSE
    assert (found["status"], found.sense) == (2, (5, 0x2100))
    assert (found["flags"], found["residual"]) == (0x82, 512)


@pytest.mark.parametrize(
    ("blocks", "expected", "flags", "residual", "length"),
    [
        (2, 1024, 0x81, 0, 1024),
        (1, 1024, 0x83, 512, 512),
        (1, 10000, 0x83, 9488, 512),
        (3, 1024, 0x85, 512, 1024),
        (1, 200, 0x85, 312, 200),
    ],
)
def test_a_residual_is_what_was_expected_and_not_wanted_or_the_other_way_round(
    initiator: Initiator, blocks: int, expected: int, flags: int, residual: int, length: int
) -> None:
    initiator.command(read_10(0, blocks), reads=expected)
    found = initiator.receive()
    assert (found["flags"], found["residual"], len(found.data)) == (flags, residual, length)


def test_a_read_for_which_nothing_was_expected_overflows(initiator: Initiator) -> None:
    initiator.command(read_10(0, 1), flags=0xC1, expected=0)
    found = initiator.receive()
    assert (found.opcode, found["status"]) == (Opcode.SCSI_RESPONSE, 0)
    assert (found["flags"], found["residual"]) == (0x84, 512)


def test_data_of_any_length_is_padded(initiator: Initiator) -> None:
    initiator.command(INQUIRY[:4] + b"\x05\0", reads=5)
    assert len(initiator.receive().data) == 5


# --- writing


def test_a_write_with_immediate_data_is_answered_at_once(initiator: Initiator) -> None:
    itt = initiator.command(write_10(4, 2), PATTERN[:1024])
    found = initiator.receive()
    assert (found.opcode, found["itt"], found["status"], found["flags"]) == (
        Opcode.SCSI_RESPONSE,
        itt,
        0,
        0x80,
    )
    assert initiator.read(4, 2) == PATTERN[:1024]


def test_what_did_not_come_with_the_command_is_asked_for_burst_by_burst(world: World) -> None:
    initiator = ready(world)
    itt = write_16_kib(initiator)
    for number in range(4):
        asked = initiator.receive()
        assert asked.opcode is Opcode.R2T
        assert asked["itt"] == itt
        assert (asked["r2t_sn"], asked["offset"]) == (number, 2048 + 4096 * number)
        length = min(4096, 16384 - asked["offset"])
        assert asked["desired"] == length
        part = PATTERN[asked["offset"] :][:length]
        middle = min(2048, length - 512)
        initiator.data_out(itt, asked["ttt"], 0, asked["offset"], part[:middle], final=False)
        assert initiator.receive_all() == []
        initiator.data_out(itt, asked["ttt"], 1, asked["offset"] + middle, part[middle:], final=True)
    found = initiator.receive()
    assert (found.opcode, found["status"], found["exp_data_sn"]) == (Opcode.SCSI_RESPONSE, 0, 4)
    assert initiator.read(0, 32) == PATTERN


def test_several_bursts_may_be_asked_for_at_a_time(world: World) -> None:
    initiator = ready(world, MaxOutstandingR2T="3")
    itt = write_16_kib(initiator)
    asked = initiator.receive_all()
    assert [each["offset"] for each in asked] == [2048, 6144, 10240]
    for each in asked:
        part = PATTERN[each["offset"] :][: each["desired"]]
        initiator.data_out(itt, each["ttt"], 0, each["offset"], part, final=True)
    (last,) = initiator.receive_all()
    initiator.data_out(itt, last["ttt"], 0, last["offset"], PATTERN[14336:], final=True)
    assert initiator.receive()["status"] == 0
    assert initiator.read(0, 32) == PATTERN


def test_unsolicited_data_follows_its_command(world: World) -> None:
    initiator = ready(world)
    flags = pdu.WRITE | 1
    itt = initiator.command(write_10(0, 4), PATTERN[:512], flags=flags, expected=2048)
    initiator.data_out(itt, NOBODY, 0, 512, PATTERN[512:1024], final=False)
    initiator.data_out(itt, NOBODY, 1, 1024, PATTERN[1024:2048], final=True)
    assert initiator.receive()["status"] == 0
    assert initiator.read(0, 4) == PATTERN[:2048]


def test_unsolicited_data_may_come_without_immediate_data(world: World) -> None:
    initiator = ready(world, ImmediateData="No")
    itt = initiator.command(write_10(0, 4), flags=pdu.WRITE | 1, expected=2048)
    initiator.data_out(itt, NOBODY, 0, 0, PATTERN[:2048], final=True)
    assert initiator.receive()["status"] == 0
    assert initiator.read(0, 4) == PATTERN[:2048]


def test_after_less_unsolicited_data_than_allowed_the_rest_is_asked_for(world: World) -> None:
    initiator = ready(world)
    itt = initiator.command(write_10(0, 4), PATTERN[:512], flags=pdu.WRITE | 1, expected=2048)
    initiator.data_out(itt, NOBODY, 0, 512, PATTERN[512:1024], final=True)
    asked = initiator.receive()
    assert (asked["offset"], asked["desired"]) == (1024, 1024)
    initiator.data_out(itt, asked["ttt"], 0, 1024, PATTERN[1024:2048], final=True)
    assert initiator.receive()["status"] == 0
    assert initiator.read(0, 4) == PATTERN[:2048]


def test_a_first_burst_that_is_full_is_followed_by_what_is_asked_for(world: World) -> None:
    initiator = ready(world)
    itt = initiator.command(write_10(0, 8), PATTERN[:2048], flags=pdu.WRITE | 1, expected=4096)
    asked = initiator.receive()
    assert (asked["offset"], asked["desired"]) == (2048, 2048)
    initiator.data_out(itt, asked["ttt"], 0, 2048, PATTERN[2048:4096], final=True)
    assert initiator.receive()["status"] == 0


@pytest.mark.parametrize(
    ("blocks", "expected", "flags", "residual", "written"),
    [(1, 1024, 0x82, 512, 512), (2, 512, 0x84, 512, 512), (1, 0, 0x84, 512, 0), (1, 200, 0x84, 312, 0)],
)
def test_residuals_of_writes(
    initiator: Initiator, blocks: int, expected: int, flags: int, residual: int, written: int
) -> None:
    data = PATTERN[:expected]
    initiator.command(write_10(0, blocks), data, flags=0xA1, expected=expected)
    found = initiator.receive()
    assert (found["status"], found["flags"], found["residual"]) == (0, flags, residual)
    assert initiator.read(0, 2) == PATTERN[:written].ljust(1024, b"\0")


BOTH = pdu.FINAL | pdu.READ | pdu.WRITE | 1


@pytest.mark.parametrize(
    ("cdb", "data", "flags", "residuals"),
    [
        (read_10(0, 1), PATTERN[:512], 0xA1, (pdu.UNDERFLOW, 512, 0)),
        (write_10(0, 1), b"", 0xC1, (pdu.UNDERFLOW, 512, 0)),
        (read_10(0, 1), PATTERN[:512], BOTH, (pdu.UNDERFLOW, 512, 0)),
        (read_10(0, 2), PATTERN[:512], BOTH, (pdu.UNDERFLOW | pdu.BIDIRECTIONAL_OVERFLOW, 512, 512)),
        (write_10(0, 1), PATTERN[:512], BOTH, (pdu.BIDIRECTIONAL_UNDERFLOW, 0, 512)),
        (write_10(0, 2), PATTERN[:512], BOTH, (pdu.OVERFLOW | pdu.BIDIRECTIONAL_UNDERFLOW, 512, 512)),
    ],
    ids=["read", "write", "read as both", "long read as both", "write as both", "long write as both"],
)
def test_what_goes_the_other_way_is_left_over(
    initiator: Initiator, cdb: bytes, data: bytes, flags: int, residuals: tuple[int, int, int]
) -> None:
    """A residual for each way (§11.4.5): nobody is told that data has moved that has not."""
    ahs = b"\0\5\2\0\0\0\2\0" if flags == BOTH else b""
    initiator.command(cdb, data, flags=flags, expected=512, ahs=ahs)
    found = initiator.receive_all()[-1]
    assert (found.opcode, found["status"]) == (Opcode.SCSI_RESPONSE, 0)
    said = found["flags"] & ~pdu.FINAL, found["residual"], found["bidirectional_residual"]
    assert said == residuals


# --- data that is wrong


def test_immediate_data_that_was_not_agreed_on_is_refused(world: World) -> None:
    initiator = ready(world, ImmediateData="No")
    initiator.command(write_10(0, 1), PATTERN[:512])
    assert initiator.receive().sense == (0xB, 0x0C0C)
    assert initiator.read(0, 1) == bytes(512)


def test_more_immediate_data_than_the_first_burst_is_refused(world: World) -> None:
    initiator = ready(world)
    initiator.command(write_10(0, 8), PATTERN[:4096])
    assert initiator.receive().sense == (0xB, 0x0C0C)


def test_data_with_a_command_that_writes_nothing_is_refused(initiator: Initiator) -> None:
    initiator.command(TEST_UNIT_READY, PATTERN[:512], flags=0x81, expected=0)
    assert initiator.receive().sense == (0xB, 0x0C0C)


def test_unsolicited_data_that_was_not_agreed_on_is_refused_with_its_last_pdu(world: World) -> None:
    initiator = ready(world, InitialR2T="Yes")
    itt = initiator.command(write_10(0, 4), flags=pdu.WRITE | 1, expected=2048)
    initiator.data_out(itt, NOBODY, 0, 0, PATTERN[:1024], final=False)
    assert initiator.receive_all() == []
    initiator.data_out(itt, NOBODY, 1, 1024, PATTERN[1024:2048], final=True)
    assert initiator.receive().sense == (0xB, 0x0C0C)
    assert initiator.read(0, 4) == bytes(2048)


@pytest.mark.parametrize(
    ("data_sn", "offset", "length"),
    [(1, 2048, 4096), (0, 2049, 4096), (0, 0, 4096), (0, 2048, 4097), (0, 2048, 2048)],
    ids=["number", "offset", "before", "longer", "shorter"],
)
def test_a_burst_out_of_order_ends_the_command(world: World, data_sn: int, offset: int, length: int) -> None:
    initiator = ready(world)
    itt = write_16_kib(initiator)
    asked = initiator.receive()
    initiator.data_out(itt, asked["ttt"], data_sn, offset, PATTERN[:length], final=True)
    assert initiator.receive().sense == (0xB, 0x0C0D)
    assert initiator.read(0, 32) == bytes(16384)


def test_data_for_another_transfer_tag_ends_the_command(world: World) -> None:
    initiator = ready(world)
    itt = write_16_kib(initiator)
    asked = initiator.receive()
    initiator.data_out(itt, asked["ttt"] + 1, 0, 2048, PATTERN[:4096], final=True)
    assert initiator.receive()["status"] == 2
    # What comes afterwards is for nobody.
    initiator.data_out(itt, asked["ttt"], 0, 2048, PATTERN[:4096], final=True)
    assert initiator.receive_all() == []
    assert "RFC 7143 §11.7" in world.violations


# --- numbers


def test_every_command_has_its_number_and_moves_the_window(initiator: Initiator) -> None:
    first = initiator.cmd_sn
    windows = []
    for _ in range(3):
        initiator.command(TEST_UNIT_READY)
        found = initiator.receive()
        windows.append((found["exp_cmd_sn"], found["max_cmd_sn"]))
    assert windows[0] == (first + 1, first + 128)
    assert all(after == (before[0] + 1, before[1] + 1) for before, after in pairwise(windows))


def test_the_window_is_closed_while_so_many_commands_are_there(make: Callable[..., World]) -> None:
    world = make(delay_ns=10**6)
    initiator = world.login()
    initiator.ready()
    for _ in range(130):
        initiator.command(read_10(0, 1), reads=512)
    assert initiator.receive_all() == []
    world.context.step(10**6)
    found = initiator.receive_all()
    assert len(found) == 128
    assert found[-1]["exp_cmd_sn"] == initiator.cmd_sn - 2
    assert world.violations == ["RFC 7143 §4.2.2.1"] * 2


@pytest.mark.parametrize("away", [-1, 128, 1 << 31])
def test_what_is_outside_the_window_is_ignored(world: World, away: int) -> None:
    initiator = world.login()
    initiator.ready()
    initiator.command(TEST_UNIT_READY, cmd_sn=(initiator.cmd_sn + away) & 0xFFFFFFFF)
    assert initiator.receive_all() == []
    assert world.violations == ["RFC 7143 §4.2.2.1"]


def test_commands_are_done_in_the_order_of_their_numbers(world: World) -> None:
    initiator = world.login(keys=KEYS)
    initiator.ready()
    number = initiator.cmd_sn
    later = initiator.command(read_10(0, 1), reads=512, cmd_sn=number + 1)
    assert initiator.receive_all() == []
    earlier = initiator.command(write_10(0, 1), PATTERN[:512], cmd_sn=number)
    found = initiator.receive_all()
    assert [each["itt"] for each in found] == [earlier, later]
    assert found[1].data == PATTERN[:512]


def test_a_number_that_comes_twice_counts_once(world: World) -> None:
    initiator = world.login()
    initiator.ready()
    number = initiator.cmd_sn
    for _ in range(2):
        initiator.command(TEST_UNIT_READY, cmd_sn=number + 1)
    initiator.command(TEST_UNIT_READY, cmd_sn=number)
    assert len(initiator.receive_all()) == 2


def test_an_immediate_command_has_no_number_of_its_own(initiator: Initiator) -> None:
    number = initiator.cmd_sn
    initiator.command(TEST_UNIT_READY, immediate=True)
    assert initiator.receive()["exp_cmd_sn"] == number
    initiator.command(TEST_UNIT_READY)
    assert initiator.receive()["exp_cmd_sn"] == number + 1


def test_numbers_go_round(world: World) -> None:
    initiator = world.connect()
    initiator.cmd_sn = 0xFFFFFFFE
    initiator.login()
    for number in (0xFFFFFFFE, 0xFFFFFFFF, 0, 1):
        initiator.command(TEST_UNIT_READY, cmd_sn=number)
        assert initiator.receive()["exp_cmd_sn"] == (number + 1) & 0xFFFFFFFF


# --- several tasks


def test_an_ordered_task_does_not_pass_one_that_waits_for_its_data(world: World) -> None:
    initiator = ready(world)
    writing = write_16_kib(initiator)
    asked = initiator.receive()
    ordered = initiator.command(read_10(0, 1), flags=0xC2, expected=512)
    simple = initiator.command(read_10(0, 1), reads=512)
    assert initiator.receive_all() == []
    while asked.opcode is Opcode.R2T:
        part = PATTERN[asked["offset"] :][: asked["desired"]]
        initiator.data_out(writing, asked["ttt"], 0, asked["offset"], part, final=True)
        asked, *others = initiator.receive_all()
    assert [each["itt"] for each in (asked, *others)] == [writing, ordered, simple]
    assert others[0].data == PATTERN[:512]


def test_a_simple_task_passes_one_that_waits_for_its_data(world: World) -> None:
    initiator = ready(world)
    write_16_kib(initiator)
    initiator.receive()
    simple = initiator.command(read_10(0, 1), reads=512)
    assert initiator.receive()["itt"] == simple


def test_a_tag_that_is_in_use_is_rejected(world: World) -> None:
    initiator = ready(world)
    itt = write_16_kib(initiator)
    initiator.receive()
    initiator.command(TEST_UNIT_READY, itt=itt)
    found = initiator.receive()
    assert (found.opcode, found["reason"]) == (Opcode.REJECT, codes.RejectReason.TASK_IN_PROGRESS)


def test_an_attribute_that_there_is_not_is_rejected(initiator: Initiator) -> None:
    initiator.command(TEST_UNIT_READY, flags=0x85)
    found = initiator.receive()
    assert (found.opcode, found["reason"]) == (Opcode.REJECT, codes.RejectReason.INVALID_PDU_FIELD)
    assert found.data[20:24] == bytes(4)


# --- room


def test_commands_wait_for_room_for_their_data(make: Callable[..., World]) -> None:
    world = make(delay_ns=10**6)
    initiator = world.login(keys={"MaxRecvDataSegmentLength": "262144"})
    initiator.ready()
    # Each may want 32 MiB as far as anybody knows, two of them fit.
    tags = [initiator.command(read_10(number, 1), reads=1 << 30) for number in range(5)]
    answered = []
    for _ in range(3):
        world.context.step(10**6)
        answered.append([each["itt"] for each in initiator.receive_all()])
    assert answered == [tags[:2], tags[2:4], tags[4:]]


def test_more_than_a_command_can_move_is_left_over(initiator: Initiator) -> None:
    initiator.command(read_10(0, 1), reads=0xFFFFFFFF)
    found = initiator.receive()
    assert (found["flags"], found["residual"]) == (0x83, 0xFFFFFFFF - 512)
