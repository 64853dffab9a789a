"""What a disk says that it can do agrees with what it does (SPC-4 §6.35, §6.36)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from devmodels.scsi import Status
from devmodels.scsi.disk.commands import COMMANDS
from tests.unit.scsi.initiator import World


def report(world: World, option: int, opcode: int = 0, action: int = 0, timeouts: int = 0) -> bytes:
    cdb = struct.pack(">BBBBHIxx", 0xA3, 0x0C, timeouts << 7 | option, opcode, action, 65535)
    return world.first.good(cdb, room=65535)


def test_all_commands_are_listed_in_order(world: World) -> None:
    data = report(world, 0)
    assert struct.unpack(">I", data[:4])[0] == len(data) - 4 == 8 * len(COMMANDS)
    found = [(data[at], struct.unpack(">H", data[at + 2 : at + 4])[0]) for at in range(4, len(data), 8)]
    assert found == sorted((command.opcode, command.action or 0) for command in COMMANDS)


def test_no_command_is_there_twice() -> None:
    keys = [(command.opcode, command.action) for command in COMMANDS]
    assert len(keys) == len(set(keys))


def test_each_has_its_usage_data(world: World) -> None:
    for command in COMMANDS:
        option = 1 if command.action is None else 2
        data = report(world, option, command.opcode, command.action or 0)
        assert data[1] & 7 == 0b011
        usage = data[4:]
        assert struct.unpack(">H", data[2:4])[0] == len(usage) == command.layout.size
        assert usage[0] == command.opcode
        if command.action is not None:
            assert usage[1] & 0x1F == command.action


def test_the_usage_of_read_10(world: World) -> None:
    assert report(world, 1, 0x28)[4:].hex(" ") == "28 18 ff ff ff ff 00 ff ff 00"


def test_without_dpofua_those_bits_are_not_used_and_refused(make: Callable[..., World]) -> None:
    world = make(dpofua=False)
    assert report(world, 1, 0x28)[5] == 0
    answer = world.first.do("28 08 00 00 00 00 00 00 01 00", room=512)
    assert (answer.code, answer.field) == (0x2400, (1, 3))
    assert not world.first.good("1a 00 08 00 ff 00", room=255)[2] & 0x10


def test_time_outs(world: World) -> None:
    data = report(world, 0, timeouts=1)
    assert (len(data) - 4) % 20 == 0
    assert data[4 + 5] & 2
    assert data[4 + 8 : 4 + 10] == b"\x00\x0a"
    one = report(world, 1, 0x28, timeouts=1)
    assert one[1] == 0x80 | 0b011
    assert len(one) == 4 + 10 + 12


def test_what_is_not_there(world: World) -> None:
    assert report(world, 1, 0xFE)[1] & 7 == 0b001
    assert report(world, 2, 0x9E, 0x1F)[1] & 7 == 0b001
    assert report(world, 3, 0x9E, 0x10)[1] & 7 == 0b011
    assert report(world, 3, 0x28, 0)[1] & 7 == 0b011
    assert report(world, 3, 0x28, 1)[1] & 7 == 0b001


def test_options_that_do_not_fit_the_command(world: World) -> None:
    for cdb in (
        "a3 0c 01 9e 00 10 00 00 ff ff 00 00",
        "a3 0c 02 28 00 00 00 00 ff ff 00 00",
        "a3 0c 04 28 00 00 00 00 ff ff 00 00",
    ):
        assert world.first.do(cdb, room=65535).code == 0x2400


def test_task_management_functions(world: World) -> None:
    data = world.first.good("a3 0d 00 00 00 00 00 00 00 04 00 00", room=4)
    assert data.hex() == "de070000"
    assert len(world.first.good("a3 0d 80 00 00 00 00 00 00 10 00 00", room=16)) == 16


def test_an_unknown_service_action(world: World) -> None:
    answer = world.first.do("9e 1f 00 00 00 00 00 00 00 00 00 00 00 00 00 00")
    assert (answer.code, answer.field) == (0x2400, (1, 4))


def test_a_cdb_that_is_too_short(world: World) -> None:
    for cdb in ("", "28", "28 00 00 00 00 00", "28" + " 00" * 8, "9e"):
        answer = world.first.do(cdb, room=512)
        assert (answer.status, answer.key) == (Status.CHECK_CONDITION, 5)
    assert [(each.clause, each.summary) for each in world.violations.recent] == [
        ("SPC-4 §4.2.5.1", f"READ (10) with a CDB of {length} bytes") for length in (1, 6, 9)
    ]


def test_a_cdb_that_is_longer(world: World) -> None:
    assert world.first.do("28 00 00 00 00 00 00 00 01 00" + " ff" * 22, room=512).status is Status.GOOD


def test_without_thin_provisioning_there_is_no_unmap(make: Callable[..., World]) -> None:
    world = make(thin=False)
    assert report(world, 1, 0x42)[1] & 7 == 0b001
    assert world.first.do("42 00 00 00 00 00 00 00 00 00").code == 0x2000
    answer = world.first.do("41 08 00 00 00 00 00 00 01 00", out=bytes(512))
    assert (answer.code, answer.field) == (0x2400, (1, 3))
