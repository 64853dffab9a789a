"""Targets that mean ill: what they say ends their session, with one line in the log, and nothing else.

No byte outside of what was asked for is written, nothing grows without bound, nobody waits for ever.
"""

from __future__ import annotations

import errno
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockOptionError, Op
from devmodels.blockbackend.drivers.iscsi.node import IscsiNode
from devmodels.iocontext import IoContext
from devmodels.protocols.iscsi import pdu
from devmodels.protocols.iscsi.pdu import LAYOUTS, Opcode
from tests.unit.blockbackend.support import Disk
from tests.unit.exports.iscsi.initiator import NOBODY, Pdu, build

from .ours import options
from .target import BLOCK, Ends, Target, sense, settle

SECOND = 10**9
Open = Callable[..., Disk]
Answer = Callable[[Ends, Pdu], None]

COUNT = 8
DATA = bytes(range(256)) * 16


def once(target: Target, answer: Answer, opcode: int) -> None:
    """The first command with this operation code is answered so."""
    done: list[Pdu] = []

    def hook(end: Ends, found: Pdu) -> bool:
        if done or found["cdb"][0] != opcode:
            return False
        done.append(found)
        answer(end, found)
        return True

    target.hooks[Opcode.SCSI_COMMAND] = hook


def part(end: Ends, found: Pdu, length: int = 512, **fields: int) -> None:
    """A Data-In without a status."""
    given = {"itt": found["itt"], "ttt": NOBODY, "flags": 0, "stat_sn": 0}
    end.send(Opcode.DATA_IN, bytes(length), **(given | fields))


def then(*answers: Answer) -> Answer:
    """One after the other."""

    def answer(end: Ends, found: Pdu) -> None:
        for each in answers:
            each(end, found)

    return answer


def dealt(answer: Answer) -> Callable[[Ends, Pdu], bool]:
    """A hook that deals with everything so."""

    def hook(end: Ends, found: Pdu) -> bool:
        answer(end, found)
        return True

    return hook


def says(data: bytes) -> Answer:
    return lambda end, found: end.send_bytes(data)


def raw(opcode: int, length: int = 0, **fields: int) -> Answer:
    """A PDU of any opcode that says it has so much data."""

    def answer(end: Ends, found: Pdu) -> None:
        header = bytes([opcode, 0x80, 0, 0]) + length.to_bytes(4, "big") + bytes(8)
        header += found["itt"].to_bytes(4, "big") + bytes(28)
        end.send_bytes(header)

    return answer


def r2t(**fields: int) -> Answer:
    def answer(end: Ends, found: Pdu) -> None:
        given = {"itt": found["itt"], "ttt": 1, "offset": found["expected"] - 512, "desired": 512}
        end.send(Opcode.R2T, **(given | fields))

    return answer


ON_READ: dict[str, Answer] = {
    "hangs up": lambda end, found: end.close(),
    "hangs up in a PDU": then(says(bytes([0x25, 0x80])), lambda end, found: end.close()),
    "garbage": lambda end, found: end.send_bytes(b"HTTP/1.1 400 Bad Request\r\n" + bytes(64)),
    "ones": lambda end, found: end.send_bytes(b"\xff" * 48),
    "an initiator's opcode": raw(Opcode.SCSI_COMMAND),
    "an unknown opcode": raw(0x3E),
    "a login response": raw(Opcode.LOGIN_RESPONSE),
    "the longest data": raw(Opcode.DATA_IN, pdu.MAX_DATA_SEGMENT),
    "the longest text": raw(Opcode.TEXT_RESPONSE, pdu.MAX_DATA_SEGMENT),
    "more data than was asked for": lambda end, found: end.data_in(
        found, bytes(512 * COUNT + 512), residual=0, flags=0x81
    ),
    "data behind what was asked for": lambda end, found: part(end, found, offset=512 * COUNT),
    "data at the end of the world": lambda end, found: part(end, found, offset=0xFFFFFE00),
    "data out of order": lambda end, found: part(end, found, offset=512),
    "data twice": then(part, lambda end, found: part(end, found, data_sn=1)),
    "DataSN out of order": lambda end, found: part(end, found, data_sn=1),
    "data of nobody's": lambda end, found: part(end, found, itt=0x4711),
    "data for no task": lambda end, found: part(end, found, itt=NOBODY),
    "too little data": lambda end, found: end.data_in(found, bytes(512), residual=0),
    "a wrong residual": lambda end, found: end.data_in(found, bytes(512), residual=512),
    "no data": lambda end, found: end.status(Opcode.SCSI_RESPONSE, itt=found["itt"]),
    "a status that is not last": lambda end, found: part(end, found, flags=1, stat_sn=end.stat_sn),
    "a StatSN that was": lambda end, found: end.data_in(found, bytes(512 * COUNT), stat_sn=end.stat_sn - 1),
    "a StatSN to come": lambda end, found: end.data_in(found, bytes(512 * COUNT), stat_sn=end.stat_sn + 1),
    "an ExpCmdSN to come": lambda end, found: part(end, found, exp_cmd_sn=end.exp_cmd_sn + 1),
    "an answer to nobody": lambda end, found: end.status(Opcode.SCSI_RESPONSE, itt=0x4711),
    "an answer to no ping": lambda end, found: end.status(Opcode.NOP_IN, itt=7, ttt=NOBODY),
    "an answer to no abort": lambda end, found: end.status(Opcode.TASK_MANAGEMENT_RESPONSE, itt=7),
    "an answer to no text": lambda end, found: end.status(Opcode.TEXT_RESPONSE, itt=7, ttt=NOBODY),
    "an answer to no logout": lambda end, found: end.status(Opcode.LOGOUT_RESPONSE, itt=7),
    "data is asked for": r2t(),
    "a rejection": lambda end, found: end.status(
        Opcode.REJECT, build(Opcode.SCSI_COMMAND, itt=found["itt"]), reason=4, tag=NOBODY
    ),
    "sense data that is cut off": lambda end, found: end.status(
        Opcode.SCSI_RESPONSE, b"\0\xff" + bytes(18), itt=found["itt"], status=2
    ),
    "a status twice": then(*[lambda end, found: end.data_in(found, DATA)] * 2),
}


@pytest.mark.long
@pytest.mark.parametrize("name", ON_READ)
def test_what_is_wrong_ends_the_session_and_the_read_comes_again(
    target: Target, disk: Disk, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    target.disk[: len(DATA)] = DATA
    once(target, ON_READ[name], 0x28)
    request = disk.submit(Op.READ, 0, 512 * COUNT, cut=1000)
    assert disk.wait(request) == 0
    assert b"".join(request.vectors) == DATA
    settle(disk.context)
    assert disk.read(0, 512 * COUNT) == DATA
    assert len(target.ends) == 2
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    # Where more seems to be on its way it is waited for, as long as anybody may be silent.
    assert disk.context.now_ns() <= (40 * SECOND if name in ("garbage", "ones") else 0)


ON_WRITE: dict[str, Answer] = {
    "before it is its turn": r2t(offset=262144 + 512),
    "behind the end": r2t(offset=1 << 20),
    "over the end": r2t(desired=1024),
    "at the end of the world": r2t(offset=0xFFFFFFFF, desired=0xFFFFFFFF),
    "nothing": r2t(desired=0),
    "what was there": r2t(offset=0),
    "without a tag": r2t(ttt=NOBODY),
    "R2TSN out of order": r2t(r2t_sn=1),
}


@pytest.mark.parametrize("name", ON_WRITE)
def test_data_that_may_not_be_asked_for_is_not_sent(target: Target, disk: Disk, name: str) -> None:
    data = DATA * 65
    once(target, ON_WRITE[name], 0x2A)
    assert disk.write(0, data) == 0
    assert bytes(target.disk[: len(data)]) == data
    assert len(target.ends) == 2


@pytest.mark.parametrize(("digests", "broken"), [("crc32c", "header"), ("crc32c", "data")])
def test_a_wrong_digest_ends_the_session(target: Target, opened: Open, digests: str, broken: str) -> None:
    disk = opened(header_digest=digests, data_digest=digests)
    target.disk[: len(DATA)] = DATA
    once(target, lambda end, found: end.data_in(found, bytes(512 * COUNT), broken=broken), 0x28)
    assert disk.read(0, 512 * COUNT) == DATA
    assert len(target.ends) == 2


def test_a_target_that_answers_before_it_has_the_data_waits_for_it(target: Target, opened: Open) -> None:
    """The memory of a write is nobody else's before all of it is out."""
    disk = opened()
    once(target, lambda end, found: end.respond(found), 0x2A)
    request = disk.submit(Op.WRITE, 0, data=DATA * 64)
    assert disk.wait(request) == 0


def test_a_target_that_does_so_every_time_is_not_asked_for_ever(target: Target, disk: Disk) -> None:
    target.hooks[Opcode.SCSI_COMMAND] = dealt(lambda end, found: end.close())
    assert disk.do(Op.READ, 0, 512) == errno.ECONNRESET
    assert disk.do(Op.WRITE, 0, data=bytes(512)) == errno.ECONNRESET
    tries = len(target.ends)
    disk.context.run(disk.context.sleep(600 * SECOND))
    assert len(target.ends) <= tries + 1 + 600 // 30


def test_pings_without_end_do_not_fill_memory(target: Target, disk: Disk) -> None:
    tracemalloc.start()
    for _ in range(20):
        for _ in range(50):
            target.end.send(Opcode.NOP_IN, itt=NOBODY, ttt=1)
        settle(target.context)
        target.end.seen.clear()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    assert disk.read(0, 512) == bytes(512)


# --- logins


def replying(text: bytes, **fields: object) -> Callable[[Ends, Pdu], bool]:
    def hook(end: Ends, found: Pdu) -> bool:
        given: dict[str, object] = {"isid": found["isid"], "tsih": 7, "flags": found["flags"]}
        end.status(Opcode.LOGIN_RESPONSE, text, **(given | fields))
        return True

    return hook


LOGINS: dict[str, Callable[[Ends, Pdu], bool]] = {
    "nothing": lambda end, found: True,
    "hangs up": dealt(lambda end, found: end.close()),
    "garbage": dealt(says(b"SSH-2.0-OpenSSH_9.2\r\n" + bytes(48))),
    "data in place of a login": dealt(lambda end, found: end.send(Opcode.DATA_IN)),
    "long text": dealt(says(b"\x23\x80\0\0\0\xff\xff\xff" + bytes(40))),
    "text without end": replying(b"X-a=" + b"b" * 4000 + b"\0", flags=0x44),
    "no end of it": replying(b"", flags=0),
    "no text": replying(b"nothing"),
    "no name of a key": replying(b"\xff=1\0"),
    "a key twice": replying(b"TargetAlias=a\0TargetAlias=b\0"),
    "another login": replying(b"", itt=1),
    "another session": replying(b"", isid=bytes(6)),
    "another version": replying(b"", version_active=1),
    "another stage": replying(b"", flags=0x87),
    "a stage that is none": replying(b"", flags=0x82),
    "CHAP, unasked": replying(b"AuthMethod=CHAP\0"),
    "a challenge, unasked": replying(b"AuthMethod=None\0CHAP_A=5\0CHAP_I=1\0CHAP_C=0x00\0"),
    "an unknown status": replying(b"", status=0x0999),
    "busy": replying(b"", status=0x0301),
    "gone, nowhere": replying(b"", status=0x0101),
}


@pytest.mark.parametrize("name", LOGINS)
def test_a_login_that_goes_wrong_is_one_line(target: Target, opened: Open, name: str) -> None:
    target.hooks[Opcode.LOGIN_REQUEST] = LOGINS[name]
    with pytest.raises(BlockOptionError, match=r"^\$.portal: cannot open LUN 0 of .*: [^\n]+$"):
        opened()
    assert target.context.now_ns() <= 30 * SECOND
    settle(target.context)
    assert all(end.closed for end in target.ends)


@pytest.mark.parametrize(
    "keys",
    [
        {"MaxBurstLength": "1000000"},
        {"MaxBurstLength": "0"},
        {"InitialR2T": "Maybe"},
        {"ErrorRecoveryLevel": "2"},
        {"MaxConnections": "8"},
        {"MaxRecvDataSegmentLength": "16"},
        {"HeaderDigest": "MD5"},
        {"TaskReporting": "FastAbort"},
        {"InitiatorName": "iqn.x:y"},
    ],
)
def test_an_answer_that_is_none_is_refused(target: Target, opened: Open, keys: dict[str, str]) -> None:
    target.login_keys = keys
    with pytest.raises(BlockOptionError, match="cannot open LUN 0"):
        opened()


@pytest.mark.parametrize("away", [True, False])
@pytest.mark.parametrize("deaf", [True, False])
def test_a_unit_that_does_not_say_what_it_is_is_not_waited_for(
    target: Target, opened: Open, away: bool, deaf: bool
) -> None:
    def hook(end: Ends, found: Pdu) -> bool:
        target.refuses = 1000 if away else 0
        return True

    target.hooks[Opcode.SCSI_COMMAND] = hook
    if deaf:
        target.hooks[Opcode.TASK_MANAGEMENT_REQUEST] = hook
    with pytest.raises(BlockOptionError, match="it takes too long"):
        opened()
    assert target.context.now_ns() == 30 * SECOND


# --- units


def test_units_that_cannot_be_disks_are_refused(target: Target, opened: Open) -> None:
    for said, why in (
        (b"\x01" + bytes(35), "no disk: device type 0x01"),
        (b"\x7f" + bytes(35), "no such logical unit"),
        (b"", "no such logical unit|blocks"),
    ):
        once(target, lambda end, found, said=said: end.data_in(found, said), 0x12)  # type: ignore[misc]
        if said:
            with pytest.raises(BlockOptionError, match=why):
                opened()


@pytest.mark.parametrize(
    ("last", "length"),
    [(1 << 62, 512), ((1 << 64) - 1, 4096), (100, 0), (100, 520), (100, 256), (100, 1 << 24)],
)
def test_capacities_that_cannot_be_are_refused(target: Target, opened: Open, last: int, length: int) -> None:
    said = last.to_bytes(8, "big") + length.to_bytes(4, "big") + bytes(20)
    once(target, lambda end, found: end.data_in(found, said), 0x9E)
    with pytest.raises(BlockOptionError, match=r"its blocks have|too large"):
        opened()


def test_a_status_of_blocks_that_says_nothing_is_an_error(target: Target, opened: Open) -> None:
    disk = opened()
    for said in (b"", bytes(8), bytes(24), bytes(7) + b"\x05" + bytes(16), b"\xff" * 4096):
        once(target, lambda end, found, said=said: end.data_in(found, said[: found["expected"]]), 0x9E)  # type: ignore[misc]
        request = disk.submit(Op.BLOCK_STATUS, 0, 4096)
        assert disk.wait(request) == errno.EIO


# --- anything at all

pdus = st.builds(
    lambda opcode, flags, rest, data: bytes([opcode, flags, 0, 0, 0, 0, 0, len(data)]) + rest + data,
    st.sampled_from([*map(int, Opcode), 0x3E, 0x07]),
    st.integers(0, 255),
    st.binary(min_size=40, max_size=40),
    st.binary(max_size=64).map(lambda data: data[: len(data) // 4 * 4]),
)


@st.composite
def near_pdus(draw: st.DrawFn) -> tuple[Opcode, dict[str, int], bytes]:
    """PDUs whose numbers and tags are mostly right, so that they get somewhere."""
    opcode = draw(st.sampled_from([each for each in Opcode if each >= 0x20]))
    small = st.sampled_from([0, 1, 2, 3, 5, 512, 1024, NOBODY])
    names = [name for name in LAYOUTS[opcode].names if name not in ("opcode", "lengths", "isid")]
    numbers = {"stat_sn", "exp_cmd_sn", "max_cmd_sn"}
    fields = {
        name: draw(small) for name in names if name not in numbers | {"itt", "flags"} and draw(st.booleans())
    }
    if draw(st.integers(0, 9)) == 0:
        fields[draw(st.sampled_from(sorted(numbers & set(names))))] = draw(small)
    flags = draw(st.sampled_from([0, 0x80, 0x81, 0x82, 0x83, 0x84]))
    bounds = {"response": 255, "status": 255, "reason": 255, "event": 5}
    fields = {name: min(value, bounds.get(name, value)) for name, value in fields.items()}
    for name in fields:
        if name.startswith("parameters") or name in ("time_to_wait", "time_to_retain", "tsih"):
            fields[name] &= 0xFFFF
        elif name in ("vendor_code", "version_max", "version_active"):
            fields[name] &= 0xFF
    data = draw(st.sampled_from([b"", bytes(512), bytes(1024), b"\0\x12" + sense(6, 0x2A09)]))
    return opcode, {**fields, "flags": flags}, data


Said = tuple[bytes | tuple[Opcode, dict[str, int], bytes], bool]


@given(st.lists(st.tuples(st.one_of(pdus, near_pdus()), st.booleans()), min_size=1, max_size=8))
def test_whatever_a_target_says_nobody_waits_for_ever(said: list[Said]) -> None:
    """In place of an answer, or in front of it."""
    context = IoContext.virtual()
    target = Target(context)
    before, IscsiNode.transport = IscsiNode.transport, target
    try:
        disk = Disk(options(timeout=60, reconnect_delay=30), context=context)
        guard = [memoryview(bytearray(b"\x55" * 1536)) for _ in range(2)]
        left = list(said)

        def hook(end: Ends, found: Pdu) -> bool:
            if left and found["cdb"][0] in (0x28, 0x2A):
                each, instead = left.pop(0)
                if isinstance(each, bytes):
                    end.send_bytes(each)
                else:
                    opcode, fields, payload = each
                    if "itt" in LAYOUTS[opcode].names:
                        fields = {**fields, "itt": found["itt"]}
                    given: dict[str, Any] = fields
                    end.send(opcode, payload, **given)
                return instead
            return False

        target.hooks[Opcode.SCSI_COMMAND] = hook
        requests = [disk.submit(Op.READ, 0, 1024, cut=300), disk.submit(Op.WRITE, 0, data=bytes(1024))]
        for request in requests:
            assert disk.wait(request) in (
                0,
                errno.EIO,
                errno.EBUSY,
                errno.ECONNRESET,
                errno.ETIMEDOUT,
                errno.EBADE,
                errno.ECANCELED,
            )
        assert all(bytes(view) == b"\x55" * 1536 for view in guard)
        left.clear()
        # It is as it was as soon as the target is.
        context.run(context.sleep(31 * SECOND))
        assert disk.do(Op.READ, 0, BLOCK) == 0
        disk.backend.close()
        disk.node.close()
    finally:
        IscsiNode.transport = before
        target.close()
        settle(context)
        context.close()
