"""Persistent reservations: registering, each type, releasing, preempting, keeping (SPC-4 §5.12)."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.scsi import Function, Outcome, Status, TargetPort, iscsi_transport_id, sas_transport_id
from devmodels.scsi.asc import Asc
from devmodels.scsi.reservations import Reservations, ReservationType
from devmodels.scsi.statefile import StateFile, StateFileError
from tests.unit.scsi.initiator import Answer, Initiator, World
from tests.unit.scsi.slowdisk import SlowWorld

REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, IGNORE, MOVE = range(8)
WE, EA, WERO, EARO, WEAR, EAAR = 1, 3, 5, 6, 7, 8
GOOD, CONFLICT = Status.GOOD, Status.RESERVATION_CONFLICT
READ, WRITE = "28 00 00 00 00 00 00 00 01 00", "2a 00 00 00 00 00 00 00 01 00"
APTPL, ALL_TG_PT, SPEC_I_PT = 1, 4, 8


def out(
    initiator: Initiator,
    action: int,
    key: int = 0,
    new: int = 0,
    kind: int = 0,
    flags: int = 0,
    more: bytes = b"",
) -> Answer:
    """PERSISTENT RESERVE OUT."""
    data = struct.pack(">QQ4xB3x", key, new, flags) + more
    return initiator.do(struct.pack(">BBBxxIx", 0x5F, action, kind, len(data)), out=data)


def register(initiator: Initiator, key: int, flags: int = 0) -> None:
    assert out(initiator, IGNORE, 0, key, flags=flags).status is GOOD


def keys(world: World) -> list[int]:
    data = world.second.good("5e 00 00 00 00 00 00 04 00 00", room=1024)
    assert struct.unpack(">I", data[4:8])[0] == len(data) - 8
    return [each for (each,) in struct.iter_unpack(">Q", data[8:])]


def generation(world: World) -> int:
    return int.from_bytes(world.second.good("5e 00 00 00 00 00 00 00 08 00", room=8)[:4], "big")


def reservation(world: World) -> tuple[int, int] | None:
    """Key and type."""
    data = world.second.good("5e 01 00 00 00 00 00 00 ff 00", room=255)[8:]
    return (struct.unpack(">Q", data[:8])[0], data[13]) if data else None


def may(initiator: Initiator) -> tuple[bool, bool]:
    """Whether an initiator can read, and write."""
    read = initiator.do(READ, room=512).status is GOOD
    return read, initiator.do(WRITE, out=bytes(512)).status is GOOD


def test_registering_changing_and_leaving(world: World) -> None:
    assert out(world.first, REGISTER, 0, 7).status is GOOD
    assert keys(world) == [7]
    assert out(world.first, REGISTER, 8, 9).status is CONFLICT
    assert out(world.first, REGISTER, 7, 9).status is GOOD
    assert keys(world) == [9]
    register(world.second, 9)
    assert keys(world) == [9, 9], "as often as it is registered"
    assert out(world.second, REGISTER, 9, 0).status is GOOD
    assert out(world.first, REGISTER, 9, 0).status is GOOD
    assert keys(world) == []
    assert generation(world) == 5


def test_an_unregistered_nexus_can_do_nothing(world: World) -> None:
    for action in (RESERVE, RELEASE, CLEAR, PREEMPT, ABORT):
        assert out(world.first, action, 0, 1, WE).status is CONFLICT
    assert out(world.first, REGISTER, 5, 7).status is CONFLICT
    assert out(world.first, REGISTER, 0, 0).status is GOOD
    assert keys(world) == []


@pytest.mark.parametrize(
    ("kind", "registered", "unregistered"),
    [
        (WE, (True, False), (True, False)),
        (EA, (False, False), (False, False)),
        (WERO, (True, True), (True, False)),
        (EARO, (True, True), (False, False)),
        (WEAR, (True, True), (True, False)),
        (EAAR, (True, True), (False, False)),
    ],
)
def test_who_may_do_what(
    world: World, kind: int, registered: tuple[bool, bool], unregistered: tuple[bool, bool]
) -> None:
    third = Initiator(world.target, 3)
    third.clear()
    register(world.first, 1)
    register(world.second, 2)
    assert out(world.first, RESERVE, 1, kind=kind).status is GOOD
    assert reservation(world) == (0 if kind in (WEAR, EAAR) else 1, kind)
    assert may(world.first) == (True, True)
    assert may(world.second) == registered
    assert may(third) == unregistered
    assert third.do("00 00 00 00 00 00").status is GOOD
    assert third.do("12 00 00 00 24 00", room=36).status is GOOD


def test_reserving_twice(world: World) -> None:
    register(world.first, 1)
    register(world.second, 2)
    assert out(world.first, RESERVE, 1, kind=WE).status is GOOD
    assert out(world.first, RESERVE, 1, kind=WE).status is GOOD
    assert out(world.first, RESERVE, 1, kind=EA).status is CONFLICT
    assert out(world.second, RESERVE, 2, kind=WE).status is CONFLICT


@pytest.mark.parametrize(("kind", "field"), [(0, (2, 3)), (2, (2, 3)), (9, (2, 3)), (0x11, (2, 7))])
def test_types_and_scopes_that_there_are_not(world: World, kind: int, field: tuple[int, int]) -> None:
    register(world.first, 1)
    answer = out(world.first, RESERVE, 1, kind=kind)
    assert (answer.code, answer.field) == (0x2400, field)


def test_releasing(world: World) -> None:
    register(world.first, 1)
    register(world.second, 2)
    out(world.first, RESERVE, 1, kind=WERO)
    assert out(world.second, RELEASE, 2, kind=WERO).status is GOOD
    assert reservation(world) == (1, WERO)
    assert out(world.first, RELEASE, 1, kind=WE).code == 0x2604
    assert out(world.first, RELEASE, 1, kind=WERO).status is GOOD
    assert reservation(world) is None if world.second.do("00" * 6).status is GOOD else True
    assert out(world.first, RELEASE, 1, kind=WERO).status is GOOD


def test_registrants_are_told_that_it_is_released(world: World) -> None:
    register(world.first, 1)
    register(world.second, 2)
    out(world.first, RESERVE, 1, kind=WERO)
    out(world.first, RELEASE, 1, kind=WERO)
    assert world.second.do("00" * 6).code == 0x2A04
    out(world.first, RESERVE, 1, kind=WE)
    out(world.first, RELEASE, 1, kind=WE)
    assert world.second.do("00" * 6).status is GOOD


def test_a_holder_that_leaves_gives_it_up(world: World) -> None:
    register(world.first, 1)
    register(world.second, 2)
    out(world.first, RESERVE, 1, kind=EARO)
    assert out(world.first, REGISTER, 1, 0).status is GOOD
    assert world.second.do("00" * 6).code == 0x2A04
    assert reservation(world) is None


def test_all_registrants_hold_it_until_the_last_leaves(world: World) -> None:
    register(world.first, 1)
    register(world.second, 2)
    out(world.first, RESERVE, 1, kind=WEAR)
    out(world.first, REGISTER, 1, 0)
    assert reservation(world) == (0, WEAR)
    out(world.second, REGISTER, 2, 0)
    assert reservation(world) is None


def test_clearing(world: World) -> None:
    register(world.first, 1)
    register(world.second, 2)
    out(world.first, RESERVE, 1, kind=EA)
    before = generation(world)
    assert out(world.first, CLEAR, 1).status is GOOD
    assert world.second.do("00" * 6).code == 0x2A03
    assert (keys(world), reservation(world)) == ([], None)
    assert generation(world) == before + 1


def test_preempting_the_holder(world: World) -> None:
    register(world.first, 1)
    register(world.second, 2)
    out(world.first, RESERVE, 1, kind=WE)
    assert out(world.second, PREEMPT, 2, 1, EA).status is GOOD
    assert reservation(world) == (2, EA)
    assert keys(world) == [2]
    assert world.first.do("00" * 6).code == 0x2A05


def test_preempting_one_who_does_not_hold_it(world: World) -> None:
    register(world.first, 1)
    register(world.second, 2)
    out(world.first, RESERVE, 1, kind=WERO)
    assert out(world.first, PREEMPT, 1, 2, EA).status is GOOD
    assert world.second.do("00" * 6).code == 0x2A05
    assert reservation(world) == (1, WERO)
    assert keys(world) == [1]


def test_preempting_all_registrants(world: World) -> None:
    third = Initiator(world.target, 3)
    third.clear()
    for number, initiator in enumerate((world.first, world.second, third), 1):
        register(initiator, number)
    out(world.first, RESERVE, 1, kind=WEAR)
    assert out(third, PREEMPT, 3, 1, WE).status is GOOD
    assert sorted(keys(world)) == [2, 3]
    assert reservation(world) == (0, WEAR)
    assert out(third, PREEMPT, 3, 0, WE).status is GOOD
    assert world.second.do("00" * 6).code == 0x2A05
    assert keys(world) == [3]
    assert reservation(world) == (3, WE)


def test_preempting_nobody(world: World) -> None:
    register(world.first, 1)
    assert out(world.first, PREEMPT, 1, 99, WE).status is CONFLICT
    answer = out(world.first, PREEMPT, 1, 0, WE)
    assert (answer.code, answer.field) == (0x2600, (8, None))


def test_another_type_is_told_to_those_who_stay(world: World) -> None:
    third = Initiator(world.target, 3)
    third.clear()
    for number, initiator in enumerate((world.first, world.second, third), 1):
        register(initiator, number)
    out(world.first, RESERVE, 1, kind=WERO)
    out(world.second, PREEMPT, 2, 1, EARO)
    assert third.do("00" * 6).code == 0x2A04
    assert world.first.do("00" * 6).code == 0x2A05


def test_preempt_and_abort_ends_the_commands_of_those_who_are_preempted() -> None:
    world = SlowWorld()
    register(world.first, 1)
    register(world.second, 2)
    out(world.first, RESERVE, 1, kind=WERO)
    victim = world.second.send(WRITE, out=bytes(512))
    own = world.first.send(WRITE, out=bytes(512))
    data = struct.pack(">QQ8x", 1, 2)
    answer = world.first.send("5f 05 05 00 00 00 00 00 18 00", out=data)
    assert not answer.count
    world.release()
    assert answer.status is GOOD
    assert victim.outcome is Outcome.ABORTED
    assert (own.outcome, own.status) == (Outcome.COMPLETE, GOOD)
    told = [world.second.do("00" * 6).code for _ in range(2)]
    assert sorted(told) == [0x2A05, 0x2F00]
    world.close()


# --- parameter lists


@pytest.mark.parametrize("length", [0, 8, 23, 25, 30])
def test_the_list_has_24_bytes(world: World, length: int) -> None:
    cdb = struct.pack(">BBBxxIx", 0x5F, REGISTER, 0, length)
    assert world.first.do(cdb, out=bytes(length)).code == 0x1A00


def test_without_a_file_aptpl_is_refused(world: World) -> None:
    answer = out(world.first, REGISTER, 0, 1, flags=APTPL)
    assert (answer.code, answer.field) == (0x2600, (20, 0))
    assert world.first.good("5e 02 00 00 00 00 00 00 08 00", room=8)[2] & 1 == 0


def test_capabilities(world: World) -> None:
    data = world.first.good("5e 02 00 00 00 00 00 00 08 00", room=8)
    assert data.hex() == "0008" + "1c" + "90" + "ea01" + "0000"


def test_registering_for_others(world: World) -> None:
    more = sas_transport_id(2)
    assert (
        out(world.first, REGISTER, 0, 7, flags=SPEC_I_PT, more=struct.pack(">I", len(more)) + more).status
        is GOOD
    )
    assert keys(world) == [7, 7]
    assert out(world.second, REGISTER, 7, 8).status is GOOD
    assert sorted(keys(world)) == [7, 8]


def test_registering_for_others_in_a_bad_way(world: World) -> None:
    name = iscsi_transport_id("iqn.2026-11.org.example:host", bytes(6))
    for more in (
        b"",
        struct.pack(">I", 8),
        struct.pack(">I", len(name) - 4) + name[:-4],
        struct.pack(">I", 2) + b"ab",
    ):
        assert out(world.first, REGISTER, 0, 7, flags=SPEC_I_PT, more=more).key == 5
    assert out(
        world.first, IGNORE, 0, 7, flags=SPEC_I_PT, more=struct.pack(">I", len(name)) + name
    ).field == (20, 3)
    assert keys(world) == []


def test_registering_at_each_port(world: World) -> None:
    other = Initiator(world.target, 1, TargetPort(2))
    other.clear()
    register(world.first, 7, ALL_TG_PT)
    assert keys(world) == [7, 7]
    assert out(other, RESERVE, 7, kind=WE).status is GOOD
    register(world.first, 0, ALL_TG_PT)
    assert (keys(world), reservation(world)) == ([], None)


def move(initiator: Initiator, key: int, new: int, name: bytes, port: int = 1, unreg: bool = False) -> Answer:
    data = struct.pack(">QQxBHI", key, new, 2 * unreg, port, len(name)) + name
    return initiator.do(struct.pack(">BBBxxIx", 0x5F, MOVE, 0, len(data)), out=data)


def test_moving_a_reservation(world: World) -> None:
    register(world.first, 1)
    name = sas_transport_id(2)
    assert move(world.first, 1, 2, name).field == (1, 4)
    out(world.first, RESERVE, 1, kind=WE)
    assert move(world.first, 1, 0, name).field == (8, None)
    assert move(world.first, 1, 2, sas_transport_id(1)).field == (24, None)
    assert move(world.first, 1, 2, name, port=9).field == (18, None)
    assert move(world.first, 1, 2, name[:20]).code in (0x2600, 0x1A00)
    assert move(world.first, 1, 2, name, unreg=True).status is GOOD
    assert reservation(world) == (2, WE)
    assert keys(world) == [2]
    assert may(world.first) == (True, False)
    assert may(world.second) == (True, True)


@pytest.mark.parametrize("kind", [WE, EA, WERO, EARO])
@pytest.mark.parametrize("cdb", ["a3 0c" + " 00" * 7 + " ff 00 00", "a3 0d" + " 00" * 7 + " 10 00 00"])
def test_what_is_supported_is_not_told_to_strangers_with_exclusive_access(
    world: World, kind: int, cdb: str
) -> None:
    register(world.first, 1)
    assert out(world.first, RESERVE, 1, kind=kind).status is GOOD
    assert world.first.do(cdb, room=255).status is GOOD
    expected = CONFLICT if kind in (EA, EARO) else GOOD
    assert world.second.do(cdb, room=255).status is expected


def test_a_conflict_is_told_before_what_else_has_happened_but_not_before_a_reset(world: World) -> None:
    register(world.first, 1)
    assert out(world.first, RESERVE, 1, kind=EA).status is GOOD
    world.disk.establish(Asc.CAPACITY_DATA_CHANGED)
    assert world.second.do(WRITE, out=bytes(512)).status is CONFLICT
    assert world.second.do("00 00 00 00 00 00").code == Asc.CAPACITY_DATA_CHANGED
    world.first.clear()
    world.disk.establish(Asc.BUS_DEVICE_RESET)
    assert world.second.do(WRITE, out=bytes(512)).code == Asc.BUS_DEVICE_RESET
    assert world.second.do(WRITE, out=bytes(512)).status is CONFLICT


def test_what_cannot_be_kept_is_not_done(
    make: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make(state=str(tmp_path / "state.json"))
    register(world.first, 1, APTPL)
    before = (keys(world), generation(world))

    async def full(_self: StateFile, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(StateFile, "write_file", full)
    assert out(world.second, REGISTER, 0, 5, flags=APTPL).code == Asc.SPACE_ALLOCATION_FAILED
    assert (keys(world), generation(world)) == before
    page = bytes.fromhex("0a 0a 00 10 08" + " 00" * 7)
    select = world.first.do(struct.pack(">BB5xHB", 0x55, 0x11, 20, 0), out=bytes(8) + page)
    assert select.code == Asc.SPACE_ALLOCATION_FAILED
    assert not world.disk.write_protected
    world.second.clear()
    assert out(world.first, RESERVE, 1, kind=WE).code == Asc.SPACE_ALLOCATION_FAILED
    assert reservation(world) is None


def test_full_status(world: World) -> None:
    register(world.first, 1)
    register(world.second, 2)
    out(world.second, RESERVE, 2, kind=EA)
    data = world.second.good("5e 03 00 00 00 00 00 04 00 00", room=1024)
    entries = [data[at : at + 48] for at in range(8, len(data), 48)]
    assert [struct.unpack(">Q", entry[:8])[0] for entry in entries] == [1, 2]
    assert [entry[12] & 1 for entry in entries] == [0, 1]
    assert [entry[13] for entry in entries] == [0, EA]
    assert [entry[18:20] for entry in entries] == [b"\0\1"] * 2, "the port's relative identifier"
    assert entries[0][24:] == sas_transport_id(1)


# --- what outlives what


def test_it_outlives_a_nexus_and_a_reset(world: World) -> None:
    register(world.first, 1)
    out(world.first, RESERVE, 1, kind=EA)
    world.target.nexus_lost(world.first.nexus)
    world.second.manage(Function.LOGICAL_UNIT_RESET)
    world.second.clear()
    assert may(world.second) == (False, False)
    again = Initiator(world.target, 1)
    again.clear()
    assert may(again) == (True, True)


def test_a_file_keeps_it_over_a_loss_of_power(make: Callable[..., World], tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    world = make(state=str(path))
    register(world.first, 1, APTPL)
    register(world.second, 2, APTPL)
    out(world.first, RESERVE, 1, kind=EA)
    assert world.first.good("5e 02 00 00 00 00 00 00 08 00", room=8)[3] & 1
    again = make(state=str(path))
    assert keys(again) == [1, 2]
    assert reservation(again) == (1, EA)
    assert may(again.first) == (True, True)
    assert may(again.second) == (False, False)
    assert generation(again) == 0
    register(again.first, 1)
    assert make(state=str(path)).disk.reservations.registrations == {}


def test_without_aptpl_nothing_is_kept(make: Callable[..., World], tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    register(make(state=str(path)).first, 1)
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"version": 2}',
        '{"nonsense": 1}',
        '{"reservations": {"type": 1}}',
        '{"reservations": {"type": 77, "registrations": [], "holder": null}}',
        '{"reservations": {"type": 1, "registrations": [["00", 1, 7]], "holder": null}}',
        '{"reservations": {"type": 1, "registrations": [["zz", 1, 7]], "holder": null}}',
        '{"modes": {"08.00": "zz"}}',
        '{"modes": {"08.00": "0812ff0000000000000000000000000000000000"}}',
    ],
)
def test_a_damaged_file_is_one_line(make: Callable[..., World], tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(StateFileError) as error:
        make(state=str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_too_many_registrations(world: World) -> None:
    for number in range(1, 257):
        initiator = Initiator(world.target, 1000 + number)
        initiator.clear()
        register(initiator, number)
    assert out(world.first, IGNORE, 0, 1).code == 0x5504


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, 7),
            st.integers(0, 3),
            st.integers(0, 3),
            st.sampled_from([WE, EA, WERO, EARO, WEAR, EAAR]),
        ),
        max_size=15,
    )
)
def test_invariants_hold(script: list[tuple[int, int, int, int, int]]) -> None:
    world = World()
    initiators = [world.first, world.second, Initiator(world.target, 3)]
    for who, action, key, new, kind in script:
        initiators[who].clear()
        if action == MOVE:
            move(initiators[who], key, new, sas_transport_id(new))
        else:
            out(initiators[who], action, key, new, kind)
        state = world.disk.reservations
        assert all(state.registrations.values())
        if state.type is ReservationType.NONE:
            assert state.holder is None
        elif state.all_registrants:
            assert state.holder is None
            assert state.registrations
        else:
            assert state.holder in state.registrations
        state.aptpl = True
        copy = Reservations()
        copy.restore(state.save())
        assert (copy.registrations, copy.type, copy.holder) == (state.registrations, state.type, state.holder)
    world.close()
