"""SCSI disks over nodes of one target's unit: reservations are the unit's, and hold between the disks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from devmodels.blockbackend import BlockBackend, open_node
from devmodels.blockbackend.drivers.iscsi.node import IscsiNode
from devmodels.iocontext import IoContext
from devmodels.protocols.iscsi.pdu import Opcode
from devmodels.scsi import Function, Outcome, ScsiTarget, Status
from devmodels.scsi.disk import Disk, DiskOptions
from tests.unit.exports.iscsi.initiator import World
from tests.unit.scsi.initiator import Initiator

from .ours import options
from .target import Target, settle

Make = Callable[..., Initiator]
READ, WRITE = "28 00 00 00 00 00 00 00 01 00", "2a 00 00 00 00 00 00 00 01 00"
REGISTER, RESERVE_WRITE_EXCLUSIVE = "5f 00", "5f 01 01"
CONFLICT = Status.RESERVATION_CONFLICT
UNIT_ATTENTION, REGISTRATIONS_PREEMPTED = 6, 0x2A05


@pytest.fixture
def host(world: World) -> Iterator[Make]:
    """Hosts, each with a SCSI disk over a node of its own."""
    disks: list[Disk] = []

    def build(name: str, reservations: str = "passthrough") -> Initiator:
        node = world.graph.add(options(node_name=name))
        target = ScsiTarget(world.context, name=name)
        disk = Disk(BlockBackend(node, name=name), DiskOptions(reservations=reservations))  # type: ignore[arg-type]
        disks.append(disk)
        target.add(0, disk)
        found = Initiator(target, 1)
        found.clear()
        return found

    yield build
    for disk in disks:
        disk.close()
        disk.backend.close()


def persistent(host: Initiator, action: str, key: int, new: int = 0) -> Status:
    cdb = action + " 00" * (5 - len(action.split())) + " 00 00 00 18 00"
    parameters = key.to_bytes(8, "big") + new.to_bytes(8, "big") + bytes(8)
    return host.do(cdb, out=parameters).status


def keys(host: Initiator) -> bytes:
    return host.good("5e 00 00 00 00 00 00 01 00 00", room=256)[8:]


def test_persistent_reservations_hold_between_hosts(host: Make) -> None:
    first, second = host("a"), host("b")
    assert persistent(first, REGISTER, 0, 11) is Status.GOOD
    assert persistent(first, RESERVE_WRITE_EXCLUSIVE, 11) is Status.GOOD
    assert keys(first) == keys(second) == (11).to_bytes(8, "big")
    assert second.do(WRITE, out=bytes(512)).status is CONFLICT
    assert second.do(READ, room=512).status is Status.GOOD
    assert first.do(WRITE, out=b"x" * 512).status is Status.GOOD
    assert persistent(second, RESERVE_WRITE_EXCLUSIVE, 0) is CONFLICT


def test_a_unit_reserved_by_one_host_is_closed_to_the_other(host: Make) -> None:
    first, second = host("a"), host("b")
    assert first.do("16 00 00 00 00 00").status is Status.GOOD
    assert second.do("16 00 00 00 00 00").status is CONFLICT
    assert second.do(READ, room=512).status is CONFLICT
    assert first.do("17 00 00 00 00 00").status is Status.GOOD
    assert second.do(READ, room=512).status is Status.GOOD


def test_what_the_unit_below_finds_wrong_is_told_as_it_is(host: Make) -> None:
    first = host("a")
    answer = first.do("5f 03 01 00 00 00 00 00 18 00", out=bytes(24))
    assert answer.status is CONFLICT  # Whoever is not registered cannot clear.
    answer = first.do("5e 07 00 00 00 00 00 01 00 00", room=256)
    assert (answer.key, answer.code) == (5, 0x2400)
    assert persistent(first, REGISTER, 5, 5) is CONFLICT


def test_reservations_of_ones_own_are_nobody_elses(host: Make) -> None:
    first, second = host("a", "own"), host("b", "own")
    assert persistent(first, REGISTER, 0, 11) is Status.GOOD
    assert persistent(first, RESERVE_WRITE_EXCLUSIVE, 11) is Status.GOOD
    assert keys(second) == b""
    assert second.do(WRITE, out=bytes(512)).status is Status.GOOD


def test_a_disk_that_is_no_unit_has_none_to_hand_on(world: World) -> None:
    backend = BlockBackend(world.graph["d0m"], name="m")
    target = ScsiTarget(world.context, name="m")
    disk = Disk(backend, DiskOptions(reservations="passthrough"))
    target.add(0, disk)
    initiator = Initiator(target, 1)
    initiator.clear()
    assert initiator.do("5e 00 00 00 00 00 00 01 00 00", room=256).status is Status.CHECK_CONDITION
    disk.close()
    backend.close()


@pytest.mark.parametrize("kind", ["01", "03", "05", "06"])
def test_a_second_host_opens_a_unit_that_is_reserved_and_registers(host: Make, kind: str) -> None:
    first = host("a")
    assert persistent(first, REGISTER, 0, 11) is Status.GOOD
    assert persistent(first, f"5f 01 {kind}", 11) is Status.GOOD
    second = host("b")
    assert persistent(second, REGISTER, 0, 22) is Status.GOOD
    assert keys(first) == (11).to_bytes(8, "big") + (22).to_bytes(8, "big")


def test_a_reset_ends_what_was_handed_on(target: Target, context: IoContext) -> None:
    node = open_node(options(), context)
    disk = Disk(BlockBackend(node, name="d"), DiskOptions(reservations="passthrough"))
    above = ScsiTarget(context, name="above")
    above.add(0, disk)
    first = Initiator(above, 1)
    first.clear()
    target.hooks[Opcode.SCSI_COMMAND] = lambda _ends, found: found["cdb"][0] == 0x5F
    command = first.send("5f 00 00 00 00 00 00 00 18 00", out=bytes(24))
    settle(context)
    assert not command.ended
    answers = first.manage(Function.LOGICAL_UNIT_RESET)
    settle(context)
    assert answers
    assert command.ended
    assert command.outcome is Outcome.RESET
    disk.close()
    disk.backend.close()
    node.close()


def test_whoever_is_preempted_hears_of_it(host: Make) -> None:
    first, second = host("a"), host("b")
    assert persistent(first, REGISTER, 0, 11) is Status.GOOD
    assert persistent(second, REGISTER, 0, 22) is Status.GOOD
    assert persistent(first, "5f 01 05", 11) is Status.GOOD
    assert persistent(second, "5f 04 05", 22, 11) is Status.GOOD
    # The first command below meets the condition, and is done again; the next one above tells of it.
    assert first.do(READ, room=512).status is Status.GOOD
    answer = first.do(READ, room=512)
    assert (answer.key, answer.code) == (UNIT_ATTENTION, REGISTRATIONS_PREEMPTED)
    assert first.do(WRITE, out=bytes(512)).status is CONFLICT
    assert first.do(READ, room=512).status is Status.GOOD


def test_whoever_loses_a_reservation_with_a_session_hears_of_it(world: World, host: Make) -> None:
    first = host("a")
    assert first.do("16 00 00 00 00 00").status is Status.GOOD
    IscsiNode.transport.cut()  # type: ignore[attr-defined]
    world.context.run_until_idle()
    assert first.do(READ, room=512).status is Status.GOOD
    answer = first.do("00 00 00 00 00 00")
    assert (answer.key, answer.code >> 8) == (UNIT_ATTENTION, 0x29)
    assert first.do("00 00 00 00 00 00").status is Status.GOOD


def test_nobody_else_is_told_what_becomes_of_reservations_below(world: World, host: Make) -> None:
    first = host("a", "own")
    IscsiNode.transport.cut()  # type: ignore[attr-defined]
    world.context.run_until_idle()
    assert first.do(READ, room=512).status is Status.GOOD
    assert first.do(READ, room=512).status is Status.GOOD
