"""Unit attentions: queued in their order on every nexus, told once (SAM-5 §5.14)."""

from __future__ import annotations

from devmodels.scsi import Function
from devmodels.scsi.asc import Asc
from devmodels.scsi.attentions import Attentions
from devmodels.scsi.disk import Disk
from devmodels.scsi.unit import LogicalUnit
from tests.unit.scsi.initiator import SIZE, Initiator, World

TEST_UNIT_READY = "00 00 00 00 00 00"


def codes(initiator: Initiator) -> list[int]:
    """What the unit has to tell, heard by TEST UNIT READY."""
    out = []
    while (answer := initiator.do(TEST_UNIT_READY)).key == 6:
        out.append(answer.code)
    return out


def test_who_comes_is_told_that_the_power_is_on(world: World) -> None:
    assert codes(Initiator(world.target, 3)) == [0x2900]


def test_each_nexus_hears_each_condition_once_in_order(world: World) -> None:
    world.disk.establish(Asc.CAPACITY_DATA_CHANGED)
    world.disk.establish(Asc.MODE_PARAMETERS_CHANGED, but=world.first.nexus)
    world.disk.establish(Asc.CAPACITY_DATA_CHANGED)
    assert codes(world.first) == [0x2A09]
    assert codes(world.second) == [0x2A09, 0x2A01]


def test_a_reset_takes_the_place_of_what_was_before(world: World) -> None:
    world.disk.establish(Asc.CAPACITY_DATA_CHANGED)
    world.disk.establish(Asc.BUS_DEVICE_RESET)
    world.disk.establish(Asc.MODE_PARAMETERS_CHANGED)
    assert codes(world.first) == [0x2903, 0x2A01]


def test_a_greater_reset_tells_of_a_smaller_one_too(world: World) -> None:
    world.disk.establish(Asc.POWER_ON_OR_RESET)
    world.disk.establish(Asc.BUS_DEVICE_RESET)
    world.disk.establish(Asc.NEXUS_LOSS)
    assert codes(world.first) == [0x2900]
    world.disk.establish(Asc.NEXUS_LOSS)
    world.disk.establish(Asc.BUS_DEVICE_RESET)
    assert codes(world.second) == [0x2900]
    assert codes(world.first) == [0x2903]


def test_inquiry_and_report_luns_neither_tell_nor_clear(world: World) -> None:
    world.disk.establish(Asc.CAPACITY_DATA_CHANGED)
    world.first.good("12 00 00 00 24 00", room=36)
    world.first.good("a0 00 00 00 00 00 00 00 00 10 00 00", room=16)
    assert codes(world.first) == [0x2A09]


def test_request_sense_tells_and_clears(world: World) -> None:
    world.disk.establish(Asc.CAPACITY_DATA_CHANGED)
    data = world.first.good("03 00 00 00 12 00", room=18)
    assert (data[2] & 0xF, data[12:14].hex()) == (6, "2a09")
    assert world.first.good("03 00 00 00 12 00", room=18)[2] & 0xF == 0
    assert codes(world.first) == []


def test_a_command_that_is_told_does_nothing(world: World) -> None:
    world.disk.establish(Asc.CAPACITY_DATA_CHANGED)
    assert world.first.do("2a 00 00 00 00 00 00 00 01 00", out=b"x" * 512).key == 6
    assert world.first.good("28 00 00 00 00 00 00 00 01 00", room=512) == bytes(512)


def test_a_new_unit_changes_the_inventory_of_the_others(world: World) -> None:
    heard: list[tuple[int, Asc]] = []

    def listen(unit: LogicalUnit, code: Asc) -> None:
        heard.append((unit.lun, code))

    world.target.on_attention.append(listen)
    other = Disk(world.backend, name="d1")
    world.target.add(1, other)
    assert (0, Asc.REPORTED_LUNS_DATA_CHANGED) in heard
    assert codes(world.first) == [0x3F0E]
    assert world.first.do(TEST_UNIT_READY, lun=1).code == 0x2900
    world.target.remove(1)
    # Who asks for the list knows.
    world.first.good("a0 00 00 00 00 00 00 00 00 10 00 00", room=16)
    assert codes(world.first) == []
    assert codes(world.second) == [0x3F0E]
    other.close()


def test_a_disk_of_another_size_tells_its_initiators(world: World) -> None:
    world.disk._resized(SIZE)
    assert codes(world.first) == codes(world.second) == [0x2A09]


def test_a_nexus_that_is_gone_is_forgotten(world: World) -> None:
    world.disk.establish(Asc.CAPACITY_DATA_CHANGED)
    world.target.nexus_lost(world.first.nexus)
    assert world.first.nexus not in world.disk.attentions
    world.disk.establish(Asc.CAPACITY_DATA_CHANGED)
    assert world.first.nexus not in world.disk.attentions


def test_what_has_been_learned_otherwise() -> None:
    attentions = Attentions()
    nexus = World().first.nexus
    attentions.clear(nexus, Asc.CAPACITY_DATA_CHANGED)
    attentions.establish([nexus], Asc.CAPACITY_DATA_CHANGED)
    attentions.clear(nexus, Asc.MODE_PARAMETERS_CHANGED)
    assert attentions
    attentions.clear(nexus, Asc.CAPACITY_DATA_CHANGED)
    assert not attentions
    assert attentions.take(nexus) is None


def test_a_new_unit_has_only_its_power_on_to_tell(world: World) -> None:
    other = Disk(world.backend, name="d1")
    world.target.add(1, other)
    assert world.first.do(TEST_UNIT_READY, lun=1).code == 0x2900
    world.first.good(TEST_UNIT_READY, lun=1)
    world.target.remove(1)
    other.close()


def test_a_nexus_reset_does_not_hide_a_reset_before_it(world: World) -> None:
    world.second.manage(Function.LOGICAL_UNIT_RESET)
    world.first.manage(Function.I_T_NEXUS_RESET)
    assert codes(world.first) == [0x2903]
    world.first.manage(Function.I_T_NEXUS_RESET)
    assert codes(world.first) == [0x2907]
