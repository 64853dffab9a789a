"""MODE SENSE and MODE SELECT: current, changeable, default and saved values, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from devmodels.blockbackend import Op
from devmodels.scsi import Function, Outcome, Response, Status
from tests.unit.scsi.initiator import Answer, World
from tests.unit.scsi.slowdisk import SlowWorld

CACHING_OFF = "08 12 00" + " 00" * 17
CONTROL = "0a 0a {:02x} 10 {:02x} {:02x} 00 00 00 00 00 00"


def sense(world: World, page: int, control: int = 0, subpage: int = 0) -> bytes:
    """A page without header and block descriptor."""
    return world.first.good(f"1a 08 {control << 6 | page:02x} {subpage:02x} ff 00", room=255)[4:]


def select(world: World, pages: str, *, save: bool = False, header: str = "00 00 00 00") -> Answer:
    """MODE SELECT (6)."""
    data = bytes.fromhex(header) + bytes.fromhex(pages)
    return world.first.do(f"15 1{int(save)} 00 00 {len(data):02x} 00", out=data)


def test_all_pages_with_their_lengths(world: World) -> None:
    data = world.first.good("5a 08 3f ff 00 00 00 04 00 00", room=1024)
    assert int.from_bytes(data[:2], "big") == len(data) - 2
    at, found = 8, []
    while at < len(data):
        spf = data[at] & 0x40
        found.append((data[at] & 0x3F, data[at + 1] if spf else 0))
        at += 4 + int.from_bytes(data[at + 2 : at + 4], "big") if spf else 2 + data[at + 1]
    assert at == len(data)
    assert found == [(0x01, 0), (0x08, 0), (0x0A, 0), (0x0A, 1), (0x1C, 0), (0x1C, 2)]
    only = world.first.good("5a 08 3f 00 00 00 00 04 00 00", room=1024)
    assert len(only) < len(data)


def test_block_descriptors(world: World) -> None:
    data = world.first.good("1a 00 08 00 ff 00", room=255)
    assert data[3] == 8
    assert data[4:12].hex() == "0000040000000200"
    data = world.first.good("5a 10 08 00 00 00 00 00 ff 00", room=255)
    assert (data[4] & 1, data[7]) == (1, 16)
    assert data[8:24].hex() == "0000000000000400" + "00000000" + "00000200"


def test_what_can_be_changed(world: World) -> None:
    assert sense(world, 0x08, 1)[2:].hex() == "04" + "00" * 17
    assert sense(world, 0x0A, 1)[2:].hex() == "040638400000" + "00" * 4
    assert sense(world, 0x08, 2) == sense(world, 0x08)


@pytest.mark.parametrize(
    ("cdb", "byte", "bit"),
    [("1a 08 05 00 ff 00", 2, 5), ("1a 08 08 01 ff 00", 3, None), ("5a 08 3e 00 00 00 00 00 ff 00", 2, 5)],
)
def test_pages_that_are_not_there(world: World, cdb: str, byte: int, bit: int | None) -> None:
    answer = world.first.do(cdb, room=255)
    assert (answer.code, answer.field) == (0x2400, (byte, bit))


def test_the_write_cache_is_switched_at_run_time_and_flushed(make: Callable[..., World]) -> None:
    world = SlowWorld()
    world.watched.held = False
    assert sense(world, 0x08)[2] & 4
    world.first.good("2a 00 00 00 00 00 00 00 01 00", out=b"x" * 512)
    assert select(world, CACHING_OFF).status is Status.GOOD
    assert not world.backend.write_cache
    assert not sense(world, 0x08)[2] & 4
    assert sense(world, 0x08, 2)[2] & 4
    assert [request.op for request in world.watched.seen][-1] is Op.FLUSH
    world.close()


def test_a_cache_that_was_switched_off_is_flushed_though_the_command_is_aborted() -> None:
    world = SlowWorld()
    world.run_state.stop("paused")
    data = bytes(4) + bytes.fromhex(CACHING_OFF)
    task = world.first.send(f"15 10 00 00 {len(data):02x} 00", out=data, tag=7)
    answers = world.first.manage(Function.ABORT_TASK, tag=7)
    world.context.run_until_idle()
    assert answers == [Response.COMPLETE]
    assert (task.outcome, world.backend.write_cache) == (Outcome.ABORTED, False)
    world.watched.held = False
    world.run_state.cont()
    world.context.run_until_idle()
    assert [request.op for request in world.watched.seen] == [Op.FLUSH]
    world.close()


def test_the_others_are_told_of_a_change_and_of_no_other(world: World) -> None:
    select(world, CACHING_OFF)
    assert world.second.do("00 00 00 00 00 00").code == 0x2A01
    assert world.first.do("00 00 00 00 00 00").status is Status.GOOD
    select(world, CACHING_OFF)
    assert world.second.do("00 00 00 00 00 00").status is Status.GOOD


def test_software_write_protection(world: World) -> None:
    assert select(world, CONTROL.format(0, 0x08, 0)).status is Status.GOOD
    answer = world.first.do("2a 00 00 00 00 00 00 00 01 00", out=bytes(512))
    assert (answer.key, answer.code) == (7, 0x2702)
    assert world.first.good("1a 08 08 00 ff 00", room=255)[2] & 0x80
    select(world, CONTROL.format(0, 0, 0))
    world.first.good("2a 00 00 00 00 00 00 00 01 00", out=bytes(512))


@pytest.mark.parametrize(
    ("pages", "code", "field"),
    [
        ("05 00", 0x2600, (4, 5)),
        ("08 11" + " 00" * 17, 0x2600, (5, None)),
        ("08 12 05" + " 00" * 17, 0x2600, (6, 0)),
        ("08 12 04" + " 00" * 16, 0x1A00, None),
        ("48 01 00 00", 0x2600, (4, 5)),
        ("08", 0x1A00, None),
        ("1c 0a 00 0f" + " 00" * 8, 0x2600, (7, 3)),
        ("0a 0a 00 14" + " 00" * 8, 0x2600, (7, 2)),
        ("0a 0a 00 10 10" + " 00" * 7, 0x2600, (8, 5)),
    ],
)
def test_a_bad_list_changes_nothing(
    world: World, pages: str, code: int, field: tuple[int, int | None] | None
) -> None:
    answer = select(world, pages)
    assert (answer.key, answer.code, answer.field) == (5, code, field)
    assert world.backend.write_cache


def test_two_pages_of_which_the_second_is_bad(world: World) -> None:
    assert select(world, CACHING_OFF + " 05 00").code == 0x2600
    assert world.backend.write_cache


@pytest.mark.parametrize(
    ("descriptor", "good"),
    [
        ("00 00 00 00 00 00 02 00", True),
        ("00 00 04 00 00 00 02 00", True),
        ("ff ff ff ff 00 00 02 00", True),
        ("00 00 03 00 00 00 02 00", False),
        ("00 00 00 00 00 00 10 00", False),
    ],
)
def test_block_descriptors_must_say_what_is(world: World, descriptor: str, good: bool) -> None:
    answer = select(world, descriptor, header="00 00 00 08")
    assert (answer.status is Status.GOOD) is good


def test_the_parameter_list_must_be_there(world: World) -> None:
    assert world.first.do("15 10 00 00 18 00", out=bytes(4)).code == 0x1A00
    assert world.first.do("15 10 00 00 03 00", out=bytes(3)).code == 0x1A00
    assert world.first.do("15 10 00 00 00 00").status is Status.GOOD
    assert world.first.do("15 00 00 00 00 00").field == (1, 4)


def test_mode_select_10(world: World) -> None:
    data = bytes(8) + bytes.fromhex(CACHING_OFF)
    world.first.good(f"55 10 00 00 00 00 00 00 {len(data):02x} 00", out=data)
    assert not world.backend.write_cache


def test_without_a_file_nothing_can_be_saved(world: World) -> None:
    assert not sense(world, 0x08)[0] & 0x80
    assert world.first.do("1a 08 c8 00 ff 00", room=255).code == 0x3900
    assert select(world, CACHING_OFF, save=True).field == (1, 0)


def test_saved_values_outlive_a_reset_and_a_restart(make: Callable[..., World], tmp_path: Path) -> None:
    state = str(tmp_path / "state.json")
    world = make(state=state)
    assert sense(world, 0x08)[0] & 0x80
    select(world, CACHING_OFF, save=True)
    select(world, CONTROL.format(4, 0, 0))
    world.first.manage(Function.LOGICAL_UNIT_RESET)
    world.first.clear()
    assert not sense(world, 0x08)[2] & 4
    assert not sense(world, 0x0A)[2] & 4
    assert not sense(world, 0x08, 3)[2] & 4
    again = make(state=state)
    assert not again.backend.write_cache
    assert again.first.good("1a 08 88 00 ff 00", room=255)[6] & 4


def test_a_reset_without_a_file_brings_back_the_defaults(world: World) -> None:
    select(world, CACHING_OFF)
    world.first.manage(Function.LOGICAL_UNIT_RESET)
    assert world.backend.write_cache


def test_a_predicted_failure_is_told_as_asked_for(world: World) -> None:
    select(world, "1c 0a 04 06" + " 00" * 8)
    data = world.first.good("03 00 00 00 12 00", room=18)
    assert (data[2] & 0xF, data[12:14].hex()) == (0, "5dff")
    assert world.first.good("4d 00 6f 00 00 00 00 00 40 00", room=64)[8:10].hex() == "5dff"
    select(world, "1c 0a 04 02" + " 00" * 8)
    world.second.clear()
    select(world, "1c 0a 00 00" + " 00" * 8)
    assert world.first.good("03 00 00 00 12 00", room=18)[12:14].hex() == "0000"


@pytest.mark.parametrize("subpage", [1, 2, 0xFE])
def test_all_pages_are_asked_for_with_or_without_subpages(world: World, subpage: int) -> None:
    """SPC-4 Table 184: other subpages of page 3Fh are reserved."""
    answer = world.first.do(bytes((0x1A, 8, 0x3F, subpage, 255, 0)), room=255)
    assert (answer.code, answer.field) == (0x2400, (3, None))
