"""Sessions of several connections, over several portals (RFC 7143 §4.2.2.1, §4.2.5.1, §4.4.3)."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.exports.iscsi import portal as portals
from devmodels.protocols.iscsi import codes, pdu
from devmodels.protocols.iscsi.codes import LoginStatus
from devmodels.protocols.iscsi.pdu import Opcode

from .initiator import LOGIN_KEYS, NOBODY, TEST_UNIT_READY, Initiator, Pdu, World, read_10, write_10

SECOND = 10**9
Make = Callable[..., World]


def joined(world: World, first: Initiator, cid: int) -> Initiator:
    """One more connection of a session."""
    other = world.connect()
    other.tsih, other.cid = first.tsih, cid
    other.login()
    return other


class Several:
    """A session of several connections; commands are numbered over all of them."""

    def __init__(self, world: World, count: int) -> None:
        first = world.login(keys={"MaxConnections": "8", "InitialR2T": "No"})
        first.ready()
        self.lines = [first, *(joined(world, first, cid) for cid in range(2, count + 1))]
        for number, line in enumerate(self.lines):
            line.itt = 0x1000 * (number + 1)

    def command(self, line: int, cdb: bytes, data: bytes = b"", **fields: int) -> int:
        """Send the next command on one of them."""
        numbers = self.lines[0]
        fields.setdefault("cmd_sn", numbers.cmd_sn)
        numbers.cmd_sn += 1
        return self.lines[line].command(cdb, data, **fields)

    def answers(self) -> list[list[Pdu]]:
        """What has come on each of them."""
        return [line.receive_all() for line in self.lines]


def test_each_command_is_answered_where_it_came(world: World) -> None:
    session = Several(world, 4)
    tags = [session.command(line, write_10(line, 1), bytes([line]) * 512) for line in (2, 0, 3, 1, 0)]
    found = session.answers()
    assert [[each["itt"] for each in line] for line in found] == [
        [tags[1], tags[4]],
        [tags[3]],
        [tags[0]],
        [tags[2]],
    ]
    session.command(3, read_10(0, 4), reads=2048)
    (answer,) = session.lines[3].receive_all()
    assert answer.data == b"".join(bytes([number]) * 512 for number in range(4))


def test_commands_are_done_in_their_order_whichever_way_they_come(world: World) -> None:
    session = Several(world, 3)
    start = session.lines[0].cmd_sn
    session.command(1, write_10(5, 1), b"2" * 512, cmd_sn=start + 1)
    session.command(2, read_10(5, 1), reads=512, cmd_sn=start + 2)
    assert session.answers() == [[], [], []]
    session.command(0, write_10(5, 1), b"1" * 512, cmd_sn=start)
    first, second, third = session.answers()
    assert [first[0]["status"], second[0]["status"]] == [0, 0]
    assert third[0].data == b"2" * 512


def test_data_is_asked_for_and_comes_on_the_commands_connection(world: World) -> None:
    session = Several(world, 2)
    tag = session.command(1, write_10(0, 8), writes=4096, flags=pdu.FINAL | pdu.WRITE | 1)
    nothing, (asked,) = session.answers()
    assert (nothing, asked.opcode, asked["desired"]) == ([], Opcode.R2T, 4096)
    session.lines[1].data_out(tag, asked["ttt"], 0, 0, b"d" * 4096, final=True)
    nothing, (answer,) = session.answers()
    assert (nothing, answer["status"]) == ([], 0)


def test_data_on_another_connection_belongs_to_no_burst(world: World) -> None:
    session = Several(world, 2)
    tag = session.command(1, write_10(0, 8), writes=4096, flags=pdu.FINAL | pdu.WRITE | 1)
    (asked,) = session.lines[1].receive_all()
    session.lines[0].data_out(tag, asked["ttt"], 0, 0, b"d" * 4096, final=True)
    assert "RFC 7143 §11.7" in world.violations
    _, (answer,) = session.answers()
    assert answer["status"] == 2
    session.command(0, read_10(0, 8), reads=4096)
    assert session.answers()[0][0].data == bytes(4096)


def test_a_task_is_aborted_by_another_connection(make: Make) -> None:
    world = make(delay_ns=SECOND)
    session = Several(world, 2)
    world.context.step(SECOND)
    session.answers()
    tag = session.command(1, read_10(0, 1), reads=512)
    session.lines[0].request(
        Opcode.TASK_MANAGEMENT_REQUEST,
        flags=pdu.FINAL | codes.Function.ABORT_TASK,
        referenced_tag=tag,
        ref_cmd_sn=session.lines[0].cmd_sn - 1,
        immediate=True,
    )
    world.context.step(2 * SECOND)
    (response,), nothing = session.answers()
    assert (response.opcode, response["response"], nothing) == (Opcode.TASK_MANAGEMENT_RESPONSE, 0, [])


def test_others_go_on_where_one_is_logged_out(make: Make) -> None:
    world = make(delay_ns=SECOND)
    session = Several(world, 3)
    world.context.step(SECOND)
    session.answers()
    session.command(1, read_10(0, 1), reads=512)
    session.command(2, read_10(1, 1), reads=512)
    session.lines[0].request(Opcode.LOGOUT_REQUEST, flags=0x81, cid=2, immediate=True)
    world.context.step(2 * SECOND)
    (response,), _, (answer,) = session.answers()
    assert (response["response"], answer["flags"] & pdu.STATUS_PRESENT) == (0, 1)
    assert session.lines[1].gone
    session.command(0, TEST_UNIT_READY)
    assert session.lines[0].receive()["status"] == 0


def test_all_end_with_one_that_breaks(world: World) -> None:
    """Error recovery level 0: nobody would know what became of its commands."""
    session = Several(world, 3)
    session.command(1, write_10(0, 8), writes=4096, flags=pdu.FINAL | pdu.WRITE | 1)
    session.lines[1].close()
    assert session.lines[0].gone
    assert session.lines[2].gone
    assert not world.export.target.sessions


def test_connections_of_a_session_may_come_to_different_portals(world: World) -> None:
    world.add_disk("d1")
    second = world.add_export("e1", "d1", lun=1)
    first = world.login(keys={"MaxConnections": "2"})
    ours, theirs = socket.socketpair()
    second.portal.welcome(theirs)
    other = Initiator(ours, world.context)
    other.tsih, other.cid = first.tsih, 2
    other.login()
    assert second.portal is not world.export.portal
    (session,) = world.export.target.sessions.values()
    assert len(session.connections) == 2
    first.ready()
    other.command(read_10(0, 1), reads=512, cmd_sn=first.cmd_sn)
    assert other.receive().data == bytes(512)
    other.close()
    assert first.gone


def test_a_portal_takes_so_many_connections(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portals, "MAX_CONNECTIONS", 3)
    world = make()
    there = [world.connect() for _ in range(3)]
    for number, each in enumerate(there):
        each.isid = bytes([0x80, 0, 0, 0, 2, number])
        each.login()
    assert not world.export.portal.accepting
    there[1].close()
    assert world.export.portal.accepting


@given(st.integers(0, 2**32 - 1))
def test_any_interleaving_does_what_one_connection_would(seed: int) -> None:
    """Writes and reads over several connections, in any order of arrival within the window: the order is CmdSN's."""
    chance = random.Random(seed)
    world = World(strict=False)
    try:
        session = Several(world, chance.randint(2, 5))
        expected: dict[int, bytes] = {}
        model: dict[int, bytes] = {}
        planned = []
        for number in range(24):
            lba = chance.randrange(3)
            line = chance.randrange(len(session.lines))
            cmd_sn = session.lines[0].cmd_sn + number & NOBODY
            if chance.random() < 0.5:
                data = bytes([number + 1]) * 512
                model[lba] = data
                planned.append((line, write_10(lba, 1), data, cmd_sn, 0))
            else:
                expected[cmd_sn] = model.get(lba, bytes(512))
                planned.append((line, read_10(lba, 1), b"", cmd_sn, 512))
        chance.shuffle(planned)
        tags = {}
        for line, cdb, data, cmd_sn, reads in planned:
            tags[session.lines[line].command(cdb, data, reads=reads, cmd_sn=cmd_sn)] = cmd_sn
        found = [each for line in session.answers() for each in line]
        assert len(found) == len(planned)
        assert {each.fields.get("status", 0) for each in found} == {0}
        read = {tags[each["itt"]]: each.data for each in found if each.opcode is Opcode.DATA_IN}
        assert read == expected
    finally:
        world.close()


def test_a_session_ends_with_the_last_connection_that_leaves_it(world: World) -> None:
    """Both leave, each while the other is there: the answer to the first one waits for its initiator to read."""
    session = Several(world, 2)
    first, second = session.lines
    first.declare(MaxRecvDataSegmentLength="262144")
    for _ in range(16):
        session.command(0, read_10(0, 512), reads=1 << 18)
    for cid, line in enumerate(session.lines, 1):
        line.request(Opcode.LOGOUT_REQUEST, flags=0x81, cid=cid, immediate=True)
    assert second.receive()["response"] == 0
    assert second.gone
    assert world.export.target.sessions
    assert first.receive_all()[-1]["response"] == 0
    assert first.gone
    assert not world.export.target.sessions
    world.add_disk("d1")
    world.add_export("e1", "d1", lun=1)
    world.context.run_until_idle()


def test_connections_that_log_in_at_a_time_are_no_more_than_were_agreed(world: World) -> None:
    first = world.login(keys={"MaxConnections": "2"})
    others = [world.connect() for _ in range(3)]
    for cid, other in enumerate(others, 2):
        other.tsih, other.cid = first.tsih, cid
        assert other.login_request(LOGIN_KEYS)["status"] == 0
    statuses = [other.login_request({}, following=3)["status"] for other in others]
    assert statuses == [0, LoginStatus.TOO_MANY_CONNECTIONS, LoginStatus.TOO_MANY_CONNECTIONS]


# --- task management, and commands that are still on their way (§4.2.3.3, §11.5.1)


def reset(line: Initiator, cmd_sn: int, function: int = codes.Function.LOGICAL_UNIT_RESET) -> None:
    flags = pdu.FINAL | function
    line.request(Opcode.TASK_MANAGEMENT_REQUEST, flags=flags, cmd_sn=cmd_sn, immediate=True)


@pytest.mark.parametrize("function", [codes.Function.ABORT_TASK_SET, codes.Function.LOGICAL_UNIT_RESET])
def test_what_is_still_on_its_way_is_ended_when_it_has_come(make: Make, function: int) -> None:
    world = make(delay_ns=SECOND)
    session = Several(world, 3)
    start = session.lines[0].cmd_sn
    session.command(1, write_10(0, 1), b"2" * 512, cmd_sn=start + 1)
    reset(session.lines[0], start + 2, function)
    after = session.command(2, read_10(9, 1), reads=512, cmd_sn=start + 2)
    assert session.answers() == [[], [], []]
    session.command(0, write_10(0, 1), b"1" * 512, cmd_sn=start)
    world.context.step(3 * SECOND)
    (managed,), nothing, (answer,) = session.answers()
    assert (managed.opcode, managed["response"], nothing) == (Opcode.TASK_MANAGEMENT_RESPONSE, 0, [])
    assert answer["itt"] == after


def test_who_has_left_is_not_waited_for(world: World) -> None:
    session = Several(world, 2)
    start = session.lines[0].cmd_sn
    reset(session.lines[1], start + 1)
    session.lines[0].request(Opcode.LOGOUT_REQUEST, flags=0x81, cid=2, immediate=True)
    assert session.lines[0].receive()["response"] == 0
    assert session.lines[1].gone
    session.command(0, TEST_UNIT_READY, cmd_sn=start)
    assert session.lines[0].receive()["status"] == 0
    (found,) = world.export.target.sessions.values()
    assert (found.immediate, found.postponed) == (0, [])


@pytest.mark.parametrize("away", [-1, 200, 1 << 31])
def test_a_number_that_cannot_be_is_waited_for_by_nobody(world: World, away: int) -> None:
    session = Several(world, 1)
    reset(session.lines[0], (session.lines[0].cmd_sn + away) & NOBODY)
    assert session.lines[0].receive()["response"] == 0
