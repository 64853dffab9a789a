"""A medium that can be taken out: START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL, SYNCHRONIZE CACHE, PRE-FETCH."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from devmodels.blockbackend import Op
from devmodels.scsi import Function, Status
from tests.unit.scsi.initiator import BLOCKS, World
from tests.unit.scsi.slowdisk import SlowWorld

GOOD = Status.GOOD
EJECT, LOAD = "1b 00 00 00 02 00", "1b 00 00 00 03 00"
PREVENT, ALLOW = "1e 00 00 00 01 00", "1e 00 00 00 00 00"
READY = "00 00 00 00 00 00"


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make(removable=True)


def test_ejecting_and_loading(world: World) -> None:
    assert world.first.do(EJECT).status is GOOD
    assert world.second.do(READY).code == 0x2800
    for initiator in (world.first, world.second):
        answer = initiator.do(READY)
        assert (answer.key, answer.code) == (2, 0x3A00)
    assert world.first.do("28 00 00 00 00 00 00 00 01 00", room=512).code == 0x3A00
    assert world.first.do("25" + " 00" * 9, room=8).code == 0x3A00
    assert world.first.do("12 00 00 00 24 00", room=36).status is GOOD
    assert world.first.do("1a 00 08 00 ff 00", room=255).status is GOOD
    assert world.first.do(LOAD).status is GOOD
    assert world.first.do(READY).status is GOOD
    assert world.second.do(READY).code == 0x2800


def test_the_host_ejects_and_loads(world: World) -> None:
    world.disk.eject()
    world.disk.eject()
    world.disk.load()
    world.disk.load()
    assert world.first.do(READY).code == 0x2800
    assert world.first.do(READY).status is GOOD


def test_preventing_is_for_everybody(world: World) -> None:
    world.first.good(PREVENT)
    world.second.good(PREVENT)
    for initiator in (world.first, world.second):
        answer = initiator.do(EJECT)
        assert (answer.key, answer.code) == (5, 0x5302)
    world.first.good(ALLOW)
    assert world.first.do(EJECT).code == 0x5302
    world.second.good(ALLOW)
    assert world.first.do(EJECT).status is GOOD


def test_the_mechanism_stands_still_while_removal_is_prevented_even_without_a_medium(world: World) -> None:
    world.first.good(EJECT)
    world.first.good(PREVENT)
    assert world.first.do(LOAD).code == 0x5302
    assert world.first.do(EJECT).code == 0x5302
    world.first.good(ALLOW)
    assert world.first.do(LOAD).status is GOOD


@pytest.mark.parametrize("how", ["reset", "lost"])
def test_what_ends_preventing(world: World, how: str) -> None:
    world.first.good(PREVENT)
    if how == "reset":
        world.second.manage(Function.LOGICAL_UNIT_RESET)
    else:
        world.target.nexus_lost(world.first.nexus)
    world.second.clear()
    assert world.second.do(EJECT).status is GOOD


STOP, START = "1b 00 00 00 00 00", "1b 00 00 00 01 00"


def test_a_unit_that_is_stopped_wants_to_be_started(make: Callable[..., World]) -> None:
    world = make()
    world.first.good(STOP)
    for initiator in (world.first, world.second):
        for cdb in (READY, "28 00 00 00 00 00 00 00 01 00", "25" + " 00" * 9, "35" + " 00" * 9):
            answer = initiator.do(cdb, room=512)
            assert (answer.key, answer.code) == (2, 0x0402)
    assert world.first.good("03 00 00 00 12 00", room=18)[2::10] == b"\x02\x04"
    assert world.first.do("12 00 00 00 24 00", room=36).status is GOOD
    assert world.first.do("1a 00 08 00 ff 00", room=255).status is GOOD
    world.first.good(STOP)
    world.second.good(START)
    assert world.first.do(READY).status is GOOD
    assert world.first.do("28 00 00 00 00 00 00 00 01 00", room=512).status is GOOD


def test_a_reset_starts_it(make: Callable[..., World]) -> None:
    world = make()
    world.first.good(STOP)
    world.second.manage(Function.LOGICAL_UNIT_RESET)
    world.first.clear()
    assert world.first.do(READY).status is GOOD


def test_power_conditions_and_stopping_leave_the_medium_in(world: World) -> None:
    for cdb in ("1b 00 00 00 00 00", "1b 00 00 00 01 00", "1b 01 00 00 04 00", "1b 00 00 0f 32 00"):
        assert world.first.do(cdb).status is GOOD
        assert world.first.do(READY).status is GOOD


def test_what_can_not_be_taken_out(make: Callable[..., World]) -> None:
    answer = make().first.do(EJECT)
    assert (answer.code, answer.field) == (0x2400, (4, 1))
    assert make().first.do("1e 00 00 00 02 00").field == (4, 1)


def test_what_was_written_is_flushed_before() -> None:
    world = SlowWorld(removable=True)
    world.watched.held = False
    world.watched.seen.clear()
    world.first.good("1b 00 00 00 06 00")
    assert not world.watched.seen
    world.first.good(LOAD)
    world.first.good(EJECT)
    assert [request.op for request in world.watched.seen] == [Op.FLUSH]
    world.close()


@pytest.mark.parametrize("cdb", ["35 00 00 00 00 00 00 00 00 00", "91 00" + " 00" * 14])
def test_synchronizing(cdb: str) -> None:
    world = SlowWorld()
    world.watched.seen.clear()
    answer = world.first.send(cdb)
    assert not answer.count
    world.release()
    assert answer.status is GOOD
    immediate = bytearray.fromhex(cdb)
    immediate[1] = 2
    assert world.first.send(bytes(immediate)).status is GOOD
    assert [request.op for request in world.watched.seen] == [Op.FLUSH, Op.FLUSH]
    world.close()


def test_a_flush_that_failed_after_its_status_is_a_deferred_error() -> None:
    world = SlowWorld()
    world.watched.errors[Op.FLUSH, 0] = OSError(errno.EIO, "as told")
    assert world.first.send("35 02 00 00 00 00 00 00 00 00").status is GOOD
    world.watched.held = False
    world.release()
    answer = world.first.do(READY)
    assert (answer.task.sense[0] & 0x7F, answer.key, answer.code) == (0x71, 3, 0x0C00)
    assert world.first.do(READY).status is GOOD
    assert world.second.do(READY).status is GOOD
    world.close()


def test_synchronizing_and_prefetching_beyond_the_end(world: World) -> None:
    for opcode in (0x35, 0x34):
        assert world.first.do(bytes((opcode, 0, 0, 0, BLOCKS >> 8, 0, 0, 0, 1, 0))).code == 0x2100
        assert world.first.do(bytes((opcode, 0, 0, 0, 0, 0, 0, 0, 1, 0))).status is GOOD
    assert world.first.do(bytes((0x90, 2, *bytes(11), 9, 3, 0))).status is GOOD
