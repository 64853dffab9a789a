"""What becomes of requests when targets go, come, move, are busy or silent, or want something of us."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from devmodels.blockbackend import BlockOptionError, Op, Request
from devmodels.blockbackend.passthrough import Direction, PassthroughRequest, ScsiCommand
from devmodels.protocols.iscsi import codes, pdu
from devmodels.protocols.iscsi.codes import AsyncEvent, LoginStatus
from devmodels.protocols.iscsi.pdu import Opcode
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.failures import sense_of_errno
from tests.unit.blockbackend.support import Disk
from tests.unit.exports.iscsi.initiator import NOBODY, Pdu

from .target import BLOCK, Ends, Target, sense, settle

SECOND = 10**9
Open = Callable[..., Disk]

READ_10, WRITE_10, SYNCHRONIZE_CACHE = 0x28, 0x2A, 0x35


def swallow(target: Target, opcode: Opcode = Opcode.SCSI_COMMAND, count: int = -1) -> list[Pdu]:
    """`count` PDUs of a kind (-1: all) are not answered; what was swallowed."""
    swallowed: list[Pdu] = []

    def hook(_end: Ends, found: Pdu) -> bool:
        if len(swallowed) == count:
            return False
        swallowed.append(found)
        return True

    target.hooks[opcode] = hook
    return swallowed


# --- data


@pytest.mark.parametrize("initial", ["Yes", "No"])
@pytest.mark.parametrize("immediate", ["Yes", "No"])
@pytest.mark.parametrize("digests", ["none", "crc32c"])
def test_data_goes_as_was_agreed(
    target: Target, opened: Open, initial: str, immediate: str, digests: str
) -> None:
    target.login_keys = {
        "InitialR2T": initial,
        "ImmediateData": immediate,
        "FirstBurstLength": "16384",
        "MaxBurstLength": "65536",
        "MaxRecvDataSegmentLength": "4096",
    }
    disk = opened(header_digest=digests, data_digest=digests)
    payload = bytes(range(256)) * 1024
    assert disk.write(BLOCK, payload) == 0
    assert disk.read(BLOCK, len(payload)) == payload
    sent = [found for found in target.end.seen if found.opcode in (Opcode.SCSI_COMMAND, Opcode.DATA_OUT)]
    assert max(len(found.data) for found in sent) == 4096
    (command,) = [found for found in sent if found.fields.get("cdb", b" ")[0] == WRITE_10]
    assert bool(command.data) is (immediate == "Yes")
    unsolicited = [found for found in sent if found.fields.get("ttt") == NOBODY]
    expected = {("Yes", "Yes"): 0, ("No", "Yes"): 3, ("Yes", "No"): 0, ("No", "No"): 4}[initial, immediate]
    assert len(unsolicited) == expected


@pytest.mark.parametrize("collapsed", [True, False])
@pytest.mark.parametrize("size", [512, 1536, 4096])
def test_data_comes_in_pieces_with_its_status_or_before_it(
    target: Target, disk: Disk, collapsed: bool, size: int
) -> None:
    target.disk[:8192] = bytes(range(256)) * 32

    def hook(end: Ends, found: Pdu) -> bool:
        if found["cdb"][0] != READ_10:
            return False
        data, tags = bytes(target.disk[:8192]), {"itt": found["itt"], "ttt": NOBODY}
        for number, at in enumerate(range(0, 8192, size)):
            last = at + size >= 8192
            if last and collapsed:
                end.data_in(found, data[at:], data_sn=number, offset=at, residual=0, flags=0x81)
            else:
                flags = pdu.FINAL if last else 0
                end.send(Opcode.DATA_IN, data[at : at + size], flags=flags, data_sn=number, offset=at, **tags)
        if not collapsed:
            end.status(Opcode.SCSI_RESPONSE, itt=found["itt"])
        return True

    target.hooks[Opcode.SCSI_COMMAND] = hook
    request = disk.submit(Op.READ, 0, 8192, cut=3000)
    assert disk.wait(request) == 0
    assert b"".join(request.vectors) == bytes(range(256)) * 32
    assert len(target.ends) == 1


def test_no_more_is_sent_than_the_target_takes(target: Target, opened: Open) -> None:
    target.window = 2
    disk = opened()
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    held = swallow(target)
    for number in range(8):
        disk.submit(Op.READ, number * BLOCK, BLOCK)
    settle(target.context)
    assert len(held) == 2
    target.end.close()
    settle(target.context)


# --- the connection breaks


def test_what_was_not_answered_is_sent_once_more_in_order(target: Target, disk: Disk) -> None:
    held = swallow(target, count=4)
    requests = [disk.submit(Op.WRITE, number * BLOCK, data=bytes([number]) * BLOCK) for number in range(4)]
    settle(disk.context)
    assert len(held) == 4
    del target.cdbs[:]
    target.end.close()
    assert [disk.wait(request) for request in requests] == [0, 0, 0, 0]
    assert [cdb[5] for cdb in target.sent(WRITE_10)] == [0, 1, 2, 3]
    assert bytes(target.disk[: 4 * BLOCK]) == b"".join(bytes([number]) * BLOCK for number in range(4))
    assert len(target.ends) == 2


def test_what_loses_its_connection_twice_has_failed(target: Target, disk: Disk) -> None:
    swallow(target, count=2)
    request = disk.submit(Op.READ, 0, BLOCK)
    for _ in range(2):
        settle(disk.context)
        target.end.close()
    assert disk.wait(request) == errno.ECONNRESET
    assert disk.read(0, BLOCK) == bytes(BLOCK)


def test_the_second_session_takes_the_place_of_the_first(target: Target, disk: Disk) -> None:
    first = target.end.seen[0]
    target.end.close()
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    second = target.end.seen[0]
    assert (second["isid"], second["tsih"]) == (first["isid"], 0)


def test_requests_wait_for_a_target_that_is_away(target: Target, opened: Open) -> None:
    disk = opened(reconnect_delay=60)
    target.refuses = 5
    target.end.close()
    settle(disk.context)
    begun = disk.context.now_ns()
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    # At once, then after 1, 2, 4, 8 and 16 seconds.
    assert disk.context.now_ns() - begun == 31 * SECOND
    assert len(target.hosts) == 7


def test_but_not_for_ever(target: Target, opened: Open) -> None:
    disk = opened(reconnect_delay=60)
    target.refuses = 1000
    target.end.close()
    requests = [disk.submit(Op.READ, 0, BLOCK) for _ in range(3)]
    assert [disk.wait(request) for request in requests] == [errno.ETIMEDOUT] * 3
    assert disk.context.now_ns() == 60 * SECOND
    # What comes now fails at once.
    assert disk.do(Op.READ, 0, BLOCK) == errno.ETIMEDOUT
    assert disk.context.now_ns() == 60 * SECOND
    target.refuses = 0
    disk.context.run(disk.context.sleep(31 * SECOND))
    assert disk.read(0, BLOCK) == bytes(BLOCK)


def test_without_patience_they_fail_at_once(target: Target, opened: Open) -> None:
    disk = opened(reconnect_delay=0)
    swallow(target, count=1)
    request = disk.submit(Op.READ, 0, BLOCK)
    settle(disk.context)
    target.refuses = 1
    target.end.close()
    assert disk.wait(request) == errno.ETIMEDOUT
    assert disk.context.now_ns() == 0


def command(disk: Disk, cdb: bytes, **fields: object) -> tuple[ScsiCommand, Request]:
    made = ScsiCommand(cdb, **fields)  # type: ignore[arg-type]
    request = PassthroughRequest(made, done=lambda request: ended(disk, request))
    disk.ends[request] = 0
    disk.backend.submit(request)
    return made, request


def ended(disk: Disk, request: Request) -> None:
    disk.ends[request] += 1


def test_what_must_not_be_sent_twice_is_not(target: Target, disk: Disk) -> None:
    """COMPARE AND WRITE, reservations: nobody knows whether they were done."""
    swallow(target, count=1)
    _, request = command(disk, bytes((0x5F,)) + bytes(9))
    settle(disk.context)
    target.end.close()
    assert disk.wait(request) == errno.ECONNRESET
    assert not target.sent(0x5F)


def test_passthrough_gives_back_status_and_sense(target: Target, disk: Disk) -> None:
    room = memoryview(bytearray(64))
    made, request = command(
        disk, bytes((0x12, 0, 0, 0, 64, 0)), direction=Direction.FROM_DEVICE, vectors=[room]
    )
    assert disk.wait(request) == 0
    assert (made.status, made.sense, made.residual) == (0, b"", 28)
    made, request = command(disk, bytes((0xEE,)) + bytes(9))
    assert disk.wait(request) == 0
    assert (made.status, made.sense) == (2, sense(5, 0x2000))
    # A unit attention is for whoever sent the command.
    target.answers[0x16] = [(2, sense(6, 0x2903)), (0x18, b"")]
    assert [command(disk, bytes((0x16,)) + bytes(5))[0].status for _ in range(2)] == [0, 0]
    disk.context.run_until_idle()


# --- the target is busy, or has something to say


def test_unit_attentions_are_noticed_and_the_command_tried_again(target: Target, disk: Disk) -> None:
    target.answers[READ_10] = [(2, sense(6, 0x2900)), (2, sense(6, 0x2903))]
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    assert len(target.sent(READ_10)) == 3
    target.answers[READ_10] = [(2, sense(6, 0x2900))] * 100
    assert disk.do(Op.READ, 0, BLOCK) == errno.EIO


@pytest.mark.parametrize("status", [0x08, 0x28])
def test_a_busy_target_is_asked_again_later(target: Target, disk: Disk, status: int) -> None:
    target.answers[WRITE_10] = [(status, b"")] * 3
    assert disk.write(0, b"x" * BLOCK) == 0
    assert disk.context.now_ns() == (8 + 32 + 128) * 10**6
    target.answers[WRITE_10] = [(status, b"")] * 100
    assert disk.do(Op.WRITE, 0, data=b"x" * BLOCK) == errno.EBUSY
    assert len(target.sent(WRITE_10)) == 4 + 8


def test_a_reservation_conflict_has_an_errno_of_its_own(target: Target, disk: Disk) -> None:
    target.answers[READ_10] = [(0x18, b"")]
    assert disk.do(Op.READ, 0, BLOCK) == errno.EBADE


def test_a_command_that_is_not_known_is_not_sent_again(target: Target, disk: Disk) -> None:
    target.answers[0x93] = [(2, sense(5, 0x2000))]
    target.answers[0x41] = [(2, sense(5, 0x2000))]
    for _ in range(2):
        assert disk.do(Op.WRITE_ZEROES, 0, BLOCK * 8) == 0
    assert [len(target.sent(opcode)) for opcode in (0x93, 0x41, WRITE_10)] == [1, 1, 2]


def test_a_flush_that_is_refused_once_is_asked_for_again(target: Target, disk: Disk) -> None:
    target.answers[SYNCHRONIZE_CACHE] = [(2, sense(5, 0x2400))]
    assert disk.do(Op.FLUSH) == errno.EIO
    assert disk.do(Op.FLUSH) == 0
    assert len(target.sent(SYNCHRONIZE_CACHE)) == 2


def test_a_write_that_was_cut_short_has_failed(target: Target, disk: Disk) -> None:
    def hook(ends: Ends, found: Pdu) -> bool:
        if found["cdb"][0] != WRITE_10:
            return False
        ends.respond(found, flags=pdu.FINAL | pdu.UNDERFLOW, residual=512)
        return True

    target.hooks[Opcode.SCSI_COMMAND] = hook
    assert disk.write(0, b"x" * 1024) == errno.EIO


def test_a_write_protected_unit_is_one_to_who_is_above(target: Target, disk: Disk) -> None:
    target.answers[WRITE_10] = [(2, sense(7, 0x2700))]
    found = sense_of_errno(disk.write(0, bytes(512)), write=True)
    assert (found.key, found.code) == (SenseKey.DATA_PROTECT, Asc.WRITE_PROTECTED)


def test_a_flush_that_is_not_known_is_not_needed_or_fails(target: Target, disk: Disk) -> None:
    target.answers[SYNCHRONIZE_CACHE] = [(2, sense(5, 0x2000))]
    # MODE SENSE tells of no page, so there may be a cache.
    assert disk.do(Op.FLUSH) == errno.EIO


def test_another_capacity_is_noticed_with_the_next_command(target: Target, disk: Disk) -> None:
    target.blocks //= 2
    target.answers[READ_10] = [(2, sense(6, 0x2A09))]
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    assert disk.node.size == target.blocks * BLOCK


def announce(target: Target, event: AsyncEvent, data: bytes = b"", *parameters: int) -> None:
    names = {f"parameters[{number}]": value for number, value in enumerate(parameters)}
    target.end.status(Opcode.ASYNC_MESSAGE, data, tag=NOBODY, event=event, **names)
    settle(target.context)


def test_a_message_about_the_capacity_is_enough(target: Target, disk: Disk) -> None:
    target.blocks *= 2
    announce(target, AsyncEvent.SCSI, b"\0\x12" + sense(6, 0x2A09))
    disk.context.run_until_idle()
    assert disk.node.size == target.blocks * BLOCK


def test_who_is_asked_to_leave_ends_what_runs_and_comes_again(target: Target, disk: Disk) -> None:
    (held,) = [swallow(target, count=1)]
    first = disk.submit(Op.READ, 0, BLOCK)
    settle(disk.context)
    before = target.end
    announce(target, AsyncEvent.LOGOUT_REQUESTED, b"", 0, 0, 10)
    second = disk.submit(Op.READ, BLOCK, BLOCK)
    settle(disk.context)
    assert not before.closed
    before.serve(held[0])
    assert disk.wait(first) == disk.wait(second) == 0
    assert [found.opcode for found in before.seen][-1] is Opcode.LOGOUT_REQUEST
    assert before.closed
    assert len(target.ends) == 2


def test_who_has_to_leave_leaves_in_time(target: Target, disk: Disk) -> None:
    swallow(target, count=1)
    request = disk.submit(Op.READ, 0, BLOCK)
    settle(disk.context)
    announce(target, AsyncEvent.LOGOUT_REQUESTED, b"", 0, 0, 6)
    assert disk.wait(request) == 0
    assert disk.context.now_ns() == 3 * SECOND
    assert len(target.ends) == 2


@pytest.mark.parametrize("event", [AsyncEvent.DROPPING_CONNECTION, AsyncEvent.DROPPING_SESSION])
def test_a_target_that_goes_says_when_to_come_again(target: Target, disk: Disk, event: AsyncEvent) -> None:
    announce(target, event, b"", 0, 7, 0)
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    assert disk.context.now_ns() == 7 * SECOND


def test_as_long_as_was_agreed_nobody_comes_again(target: Target, opened: Open) -> None:
    target.login_keys = {"DefaultTime2Wait": "3"}
    disk = opened()
    target.end.close()
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    assert disk.context.now_ns() == 3 * SECOND


def test_an_answer_to_a_logout_says_when_to_come_again(target: Target, disk: Disk) -> None:
    def hook(end: Ends, found: Pdu) -> bool:
        end.status(Opcode.LOGOUT_RESPONSE, itt=found["itt"], time_to_wait=4)
        end.close()
        return True

    target.hooks[Opcode.LOGOUT_REQUEST] = hook
    announce(target, AsyncEvent.LOGOUT_REQUESTED, b"", 0, 0, 10)
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    assert disk.context.now_ns() == 4 * SECOND


def test_a_target_that_wants_to_negotiate_may(target: Target, disk: Disk) -> None:
    announce(target, AsyncEvent.NEGOTIATION_REQUESTED, b"", 0, 0, 5)
    disk.context.run_until_idle()
    assert target.end.seen[-1].text == {"MaxRecvDataSegmentLength": "262144"}
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    assert len(target.ends) == 1


def test_a_question_is_answered(target: Target, disk: Disk) -> None:
    target.end.send(Opcode.NOP_IN, itt=NOBODY, ttt=0x77, lun=1 << 48)
    disk.context.run_until_idle()
    last = target.end.seen[-1]
    assert (last.opcode, last["itt"], last["ttt"], last["lun"]) == (Opcode.NOP_OUT, NOBODY, 0x77, 1 << 48)


# --- silence and time-outs


def test_a_target_that_says_nothing_is_asked_and_then_left(target: Target, disk: Disk) -> None:
    swallow(target, count=1)
    target.hooks[Opcode.NOP_OUT] = lambda _end, _found: True
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    assert disk.context.now_ns() == 20 * SECOND
    assert len(target.ends) == 2
    assert [found.opcode for found in target.ends[0].seen].count(Opcode.NOP_OUT) == 1


def test_a_slow_target_that_answers_pings_is_waited_for(target: Target, disk: Disk) -> None:
    held = swallow(target, count=1)
    end = target.end
    target.context.call_at(100 * SECOND, lambda: end.serve(held[0]))
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    assert target.context.now_ns() == 100 * SECOND
    assert len(target.ends) == 1


@pytest.mark.parametrize("answers", [True, False])
def test_a_window_that_is_closed_is_asked_about(target: Target, opened: Open, answers: bool) -> None:
    """Nothing runs that could tell when it opens."""
    target.window = 1
    disk = opened()
    target.window = 0
    assert disk.read(0, BLOCK) == bytes(BLOCK)  # The last one that there was room for.
    target.window = 32
    if not answers:
        target.hooks[Opcode.NOP_OUT] = lambda _end, _found: True
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    assert disk.context.now_ns() == (5 if answers else 20) * SECOND
    assert len(target.ends) == (1 if answers else 2)


def test_nobody_is_pinged_for_nothing(target: Target, disk: Disk) -> None:
    disk.read(0, BLOCK)
    disk.context.run_until_idle()
    assert disk.context.now_ns() == 0


def test_what_takes_too_long_is_aborted_and_fails(target: Target, opened: Open) -> None:
    disk = opened(timeout=3)
    held = swallow(target, count=1)
    assert disk.do(Op.READ, 0, BLOCK) == errno.ETIMEDOUT
    assert disk.context.now_ns() == 3 * SECOND
    last = target.end.seen[-1]
    assert (last["flags"], last["referenced_tag"]) == (0x80 | codes.Function.ABORT_TASK, held[0]["itt"])
    assert disk.read(0, BLOCK) == bytes(BLOCK)
    assert len(target.ends) == 1


def test_an_abort_that_is_not_answered_ends_the_session(target: Target, opened: Open) -> None:
    disk = opened(timeout=3)
    swallow(target, count=1)
    target.hooks[Opcode.TASK_MANAGEMENT_REQUEST] = lambda _end, _found: True
    assert disk.do(Op.READ, 0, BLOCK) == errno.ETIMEDOUT
    assert disk.context.now_ns() == 8 * SECOND
    assert len(target.ends) == 2


def test_a_device_that_is_reset_has_its_requests_aborted(target: Target, opened: Open) -> None:
    target.window = 1
    disk = opened()
    disk.read(0, BLOCK)
    swallow(target, count=1)
    sent, waiting, other = (disk.submit(Op.READ, at * BLOCK, BLOCK) for at in range(3))
    settle(disk.context)
    disk.node.cancel(lambda request: request in (sent, waiting))
    assert disk.wait(waiting) == disk.wait(sent) == errno.ECANCELED
    assert disk.wait(other) == 0
    assert [found.opcode for found in target.end.seen].count(Opcode.TASK_MANAGEMENT_REQUEST) == 1


# --- logins


def refusing(status: int, text: bytes = b"") -> Callable[[Ends, Pdu], bool]:
    def hook(end: Ends, found: Pdu) -> bool:
        end.status(Opcode.LOGIN_RESPONSE, text, status=status, isid=found["isid"], flags=0)
        return True

    return hook


def test_a_target_that_has_moved_is_followed(target: Target, opened: Open) -> None:
    elsewhere = refusing(LoginStatus.MOVED_TEMPORARILY, b"TargetAddress=[2001:db8::1]:99,1\0")

    def hook(end: Ends, found: Pdu) -> bool:
        return len(target.ends) == 1 and elsewhere(end, found)

    target.hooks[Opcode.LOGIN_REQUEST] = hook
    opened()
    assert target.hosts == [("127.0.0.1", 3260), ("2001:db8::1", 99)]


def test_but_not_in_circles(target: Target, opened: Open) -> None:
    target.hooks[Opcode.LOGIN_REQUEST] = refusing(LoginStatus.MOVED_PERMANENTLY, b"TargetAddress=a:1\0")
    with pytest.raises(BlockOptionError, match="the target has moved too often"):
        opened()
    assert len(target.hosts) == 5
    target.hooks[Opcode.LOGIN_REQUEST] = refusing(LoginStatus.MOVED_PERMANENTLY, b"TargetAddress=[::\0")
    with pytest.raises(BlockOptionError, match="the target has moved to"):
        opened()


def test_a_digest_that_is_demanded_has_to_be_agreed_to(target: Target, opened: Open) -> None:
    target.login_keys = {"HeaderDigest": "NotUnderstood"}
    with pytest.raises(BlockOptionError, match="HeaderDigest=NotUnderstood; expected CRC32C"):
        opened(header_digest="crc32c")
    opened(header_digest="crc32c-none")
