"""FORMAT UNIT and SANITIZE: what is done to all of a medium, and what goes on meanwhile."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from devmodels.blockbackend import Op
from devmodels.conformance import Profile
from devmodels.scsi import Function, Outcome, Status, TaskAttribute
from tests.unit.scsi.initiator import BLOCKS, SIZE, Answer, World
from tests.unit.scsi.slowdisk import SlowWorld

GOOD = Status.GOOD
OVERWRITE, BLOCK, CRYPTO, EXIT = 1, 2, 3, 0x1F
IMMED, AUSE = 0x80, 0x20
READY = "00 00 00 00 00 00"


def sanitize(action: int, length: int = 0, flags: int = 0) -> bytes:
    return struct.pack(">BB5xHB", 0x48, flags | action, length, 0)


def fill(world: World) -> None:
    world.first.good(struct.pack(">BBIBHB", 0x41, 0, 0, 0, BLOCKS, 0), out=b"old " * 128)


def content(world: World) -> bytes:
    return world.first.good(struct.pack(">BBIBHB", 0x28, 0, 0, 0, BLOCKS, 0), room=SIZE)


def overwrite(world: World, pattern: bytes, count: int = 1, invert: int = 0) -> Answer:
    data = struct.pack(">BxH", invert << 7 | count, len(pattern)) + pattern
    return world.first.do(sanitize(OVERWRITE, len(data)), out=data)


@pytest.mark.parametrize("action", [BLOCK, CRYPTO])
def test_erasing(world: World, action: int) -> None:
    fill(world)
    assert world.first.do(sanitize(action)).status is GOOD
    assert content(world) == bytes(SIZE)
    data = world.first.good(struct.pack(">BBQIBB", 0x9E, 0x12, 0, 24, 0, 0), room=24)
    assert struct.unpack(">QIB", data[8:21]) == (0, BLOCKS, 1)


@pytest.mark.parametrize("pattern", [b"\xaa", b"abc", bytes(range(256)) * 2])
def test_overwriting(world: World, pattern: bytes) -> None:
    assert overwrite(world, pattern).status is GOOD
    block = (pattern * 512)[:512]
    assert content(world) == block * BLOCKS


def test_each_pass_the_complement_of_the_one_before() -> None:
    world = SlowWorld()
    world.watched.held = False
    world.watched.seen.clear()
    assert overwrite(world, b"\x0f", 3, 1).status is GOOD
    first = [request for request in world.watched.seen if request.offset == 0 and request.op is Op.WRITE]
    assert [bytes(request.vectors[0][:1]) for request in first] == [b"\x0f", b"\xf0", b"\x0f"]
    world.close()


@pytest.mark.parametrize("length", [0, 3, 4, 517, 600])
def test_lists_that_are_too_short_or_too_long(world: World, length: int) -> None:
    answer = world.first.do(sanitize(OVERWRITE, length), out=bytes(length))
    assert (answer.code, answer.field) == (0x2400, (7, None))


@pytest.mark.parametrize("head", ["00 00 00 04", "21 00 00 04", "01 00 00 03", "01 00 00 05"])
def test_lists_that_are_wrong(world: World, head: str) -> None:
    fill(world)
    assert world.first.do(sanitize(OVERWRITE, 8), out=bytes.fromhex(head) + bytes(4)).code == 0x2400
    assert content(world)[:4] == b"old "


def test_parameters_where_there_are_none(world: World) -> None:
    for action in (BLOCK, CRYPTO, EXIT):
        assert world.first.do(sanitize(action, 4), out=bytes(4)).field == (7, None)


@pytest.mark.parametrize("byte", range(1, 7))
def test_reserved_bits_are_looked_at_in_any_profile(make: Callable[..., World], byte: int) -> None:

    cdb = bytearray(sanitize(BLOCK))
    cdb[byte] |= 0x40
    assert make(profile=Profile.LENIENT).first.do(bytes(cdb)).code == 0x2400


def running(action: int = BLOCK) -> tuple[SlowWorld, Answer]:
    """A world in which a sanitize operation goes on."""
    world = SlowWorld()
    answer = world.first.send(sanitize(action, flags=IMMED))
    world.context.run_until_idle()
    return world, answer


def test_meanwhile_other_commands_say_how_far_it_is() -> None:
    world, answer = running()
    assert answer.status is GOOD
    for cdb in (READY, "28 00 00 00 00 00 00 00 01 00", "1b 00 00 00 00 00", "04 00 00 00 00 00"):
        answer = world.second.do(cdb, room=512)
        assert (answer.key, answer.code) == (2, 0x041B)
        assert answer.task.sense[15] & 0x80
    assert world.second.do(sanitize(BLOCK)).code == 0x041B
    logs = "4d 00 42 00 00 00 00 00 ff 00"
    for cdb in ("12 00 00 00 24 00", "a0 00 00 00 00 00 00 00 00 10 00 00", logs):
        assert world.second.do(cdb, room=255).status is GOOD
    progress = []
    while world.watched.waiting:
        sense = world.second.good("03 00 00 00 12 00", room=18)
        progress.append(int.from_bytes(sense[16:18], "big"))
        assert sense[12:14].hex() == "041b"
        world.release()
    assert progress == sorted(progress)
    assert len(set(progress)) > 1
    assert world.second.do(READY).status is GOOD
    world.close()


@pytest.mark.parametrize(
    ("cdb", "data"),
    [
        ("1a 08 08 00 ff 00", b""),
        ("3b 02 00 00 00 00 00 00 04 00", b"abcd"),
        ("16 00 00 00 00 00", b""),
        ("1d 04 00 00 00 00", b""),
        ("1e 00 00 00 01 00", b""),
        ("5e 00 00 00 00 00 00 00 ff 00", b""),
    ],
)
def test_meanwhile_hardly_anything_is_done(cdb: str, data: bytes) -> None:
    """SBC-4 §4.11.2: commands that need no medium are refused, too."""
    world, _ = running()
    assert world.second.do(cdb, out=data, room=255).code == 0x041B
    world.close()


def test_while_it_is_formatted_no_log_is_read() -> None:
    world = SlowWorld()
    assert world.first.send("04 10 00 00 00 00", out=bytes.fromhex("00 02 00 00")).status is GOOD
    world.context.run_until_idle()
    for cdb in ("4d 00 42 00 00 00 00 00 ff 00", "1a 08 08 00 ff 00", "48 02 00 00 00 00 00 00 00 00"):
        assert world.second.do(cdb, room=255).code == 0x0404
    world.close()


@pytest.mark.parametrize("action", [OVERWRITE, BLOCK, CRYPTO])
def test_a_medium_that_was_taken_out_is_not_sanitized(make: Callable[..., World], action: int) -> None:
    world = make(removable=True)
    fill(world)
    world.first.good("1b 00 00 00 02 00")
    data = bytes.fromhex("01 00 00 04") + b"zero"
    answer = world.first.do(sanitize(action, 8 if action == OVERWRITE else 0), out=data)
    assert (answer.key, answer.code) == (2, 0x3A00)
    assert world.first.do("04 00 00 00 00 00").code == 0x3A00
    world.first.good("1b 00 00 00 03 00")
    assert content(world)[:4] == b"old "


@pytest.mark.parametrize("cdb", [sanitize(BLOCK), sanitize(BLOCK, flags=IMMED), b"\x04" + bytes(5)])
def test_what_was_begun_before_ends_before_it_begins(cdb: bytes) -> None:
    """SBC-4 §4.11.2: no WRITE of before lands on a medium that was sanitized."""
    world = SlowWorld()
    write = struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 1, 0)
    before = world.first.send(write, out=b"old " * 128)
    waiting = world.first.send(READY, attribute=TaskAttribute.ORDERED)
    listing = world.first.send(
        "a0 00 00 00 00 00 00 00 00 10 00 00", room=16, attribute=TaskAttribute.ORDERED
    )
    answer = world.second.send(cdb, attribute=TaskAttribute.HEAD_OF_QUEUE)
    world.context.run_until_idle()
    assert [request.op for request in world.watched.waiting] == [Op.WRITE], "the medium is as it was"
    assert not answer.ended
    assert world.second.send(READY, attribute=TaskAttribute.HEAD_OF_QUEUE).key == 2
    assert (waiting.key, before.ended) == (2, False)
    world.watched.held = False
    world.release()
    assert (before.key, before.status) == (2, Status.CHECK_CONDITION)
    assert (answer.status, listing.status) == (GOOD, GOOD)
    assert content(world) == bytes(SIZE)
    world.close()


@pytest.mark.parametrize(
    "function", [Function.ABORT_TASK_SET, Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET]
)
def test_nothing_ends_it_but_the_command_that_waits_for_it(function: Function) -> None:
    world = SlowWorld()
    answer = world.first.send(sanitize(BLOCK))
    done = world.first.manage(function)
    world.context.run_until_idle()
    assert len(done) == 1
    assert answer.outcome in (Outcome.ABORTED, Outcome.RESET)
    while (again := world.first.do(READY)).key == 6:
        pass
    assert again.code == 0x041B
    world.watched.held = False
    world.release()
    assert world.first.do(READY).status is GOOD
    world.close()


def test_one_that_failed_leaves_nothing_to_be_read() -> None:
    world, _ = running()
    world.watched.errors[Op.SECURE_ERASE, 0] = OSError(errno.EIO, "as told")
    world.watched.held = False
    world.release()
    for cdb in (READY, "28 00 00 00 00 00 00 00 01 00"):
        answer = world.first.do(cdb, room=512)
        assert (answer.key, answer.code) == (3, 0x3103)
    assert world.first.do(sanitize(EXIT)).field == (1, 4)
    world.watched.errors.clear()
    assert world.first.do(sanitize(BLOCK)).status is GOOD
    assert world.first.do(READY).status is GOOD
    world.close()


def test_one_that_failed_and_may_be_left_so() -> None:
    world = SlowWorld()
    world.watched.errors[Op.SECURE_ERASE, 0] = OSError(errno.EIO, "as told")
    world.watched.held = False
    answer = world.first.do(sanitize(BLOCK, flags=AUSE))
    assert (answer.key, answer.code) == (3, 0x3103)
    assert world.first.do(sanitize(EXIT)).status is GOOD
    assert world.first.do(READY).status is GOOD
    assert world.first.do(sanitize(EXIT)).status is GOOD
    world.close()


def test_what_may_not_be_left_can_only_be_sanitized_in_the_same_way() -> None:
    world, _ = running()
    world.watched.errors[Op.SECURE_ERASE, 0] = OSError(errno.EIO, "as told")
    world.watched.held = False
    world.release()
    answer = world.first.do(sanitize(BLOCK, flags=AUSE))
    assert (answer.key, answer.code, answer.field) == (5, 0x2400, (1, 5))
    assert world.first.do(sanitize(EXIT)).field == (1, 4)
    world.watched.errors.clear()
    assert world.first.do(sanitize(BLOCK)).status is GOOD
    assert world.first.do(sanitize(BLOCK, flags=AUSE)).status is GOOD
    world.close()


def test_what_was_never_begun_allows_nothing(tmp_path: Path) -> None:
    world = World(state=str(tmp_path / "state"))
    (tmp_path / "state.new").mkdir()
    assert world.first.do(sanitize(BLOCK, flags=AUSE)).status is Status.CHECK_CONDITION
    assert not world.disk.operation.unrestricted
    world.close()


def test_on_a_write_protected_disk(make: Callable[..., World]) -> None:
    world = make(read_only=True)
    for cdb in (sanitize(BLOCK), b"\x04" + bytes(5)):
        assert world.first.do(cdb).key == 7


# --- FORMAT UNIT


def test_formatting(world: World) -> None:
    fill(world)
    assert world.first.do("04 00 00 00 00 00").status is GOOD
    assert content(world) == bytes(SIZE)


def test_formatting_with_a_pattern(world: World) -> None:
    data = bytes.fromhex("00 88 00 00") + bytes.fromhex("00 01 00 02") + b"zy"
    assert world.first.do("04 10 00 00 00 00", out=data).status is GOOD
    assert content(world) == b"zy" * (SIZE // 2)
    data = bytes.fromhex("00 88 00 00 00 00 00 00") + bytes.fromhex("00 00 00 00")
    assert world.first.do("04 30 00 00 00 00", out=data).status is GOOD
    assert content(world) == bytes(SIZE)


@pytest.mark.parametrize(
    ("data", "code", "field"),
    [
        ("00", 0x1A00, None),
        ("01 80 00 00", 0x2600, (0, 2)),
        ("00 20 00 00", 0x2600, (1, 7)),
        ("00 80 00 08", 0x2600, (2, None)),
        ("00 88 00 00", 0x1A00, None),
        ("00 88 00 00 00 02 00 04", 0x2600, (5, None)),
        ("00 88 00 00 00 01 00 00", 0x2600, (6, None)),
        ("00 88 00 00 00 01 02 01", 0x2600, (6, None)),
        ("00 88 00 00 00 01 00 04 00", 0x1A00, None),
    ],
)
def test_formatting_in_a_way_that_is_not_there(
    world: World, data: str, code: int, field: tuple[int, int | None] | None
) -> None:
    fill(world)
    answer = world.first.do("04 10 00 00 00 00", out=bytes.fromhex(data))
    assert (answer.code, answer.field) == (code, field)
    assert content(world)[:4] == b"old "


def test_formatting_with_fields_that_need_parameters(world: World) -> None:
    assert world.first.do("04 20 00 00 00 00").field == (1, 5)
    assert world.first.do("04 08 00 00 00 00").field == (1, 3)
    assert world.first.do("04 40 00 00 00 00").field == (1, 6)


def test_formatting_in_the_background() -> None:
    world = SlowWorld()
    answer = world.first.send("04 10 00 00 00 00", out=bytes.fromhex("00 02 00 00"))
    assert (answer.ended, answer.status) == (True, GOOD)
    assert world.first.do(READY).code == 0x0404
    world.watched.held = False
    world.release()
    assert world.first.do(READY).status is GOOD
    world.close()


def test_formatting_that_fails() -> None:
    world = SlowWorld()
    world.watched.errors[Op.FLUSH, 0] = OSError(errno.EIO, "as told")
    world.watched.held = False
    answer = world.first.do("04 00 00 00 00 00")
    assert (answer.key, answer.code) == (3, 0x3101)
    for cdb in (READY, "28 00 00 00 00 00 00 00 01 00", "25 00 00 00 00 00 00 00 00 00"):
        answer = world.first.do(cdb, room=512)
        assert (answer.key, answer.code) == (3, 0x3100), "MEDIUM FORMAT CORRUPTED"
    world.watched.errors.clear()
    assert world.first.do("04 00 00 00 00 00").status is GOOD
    assert world.first.do(READY).status is GOOD
    world.close()


def test_formatting_in_the_background_that_fails() -> None:
    world = SlowWorld()
    world.watched.errors[Op.WRITE_ZEROES, 0] = OSError(errno.EIO, "as told")
    world.watched.held = False
    assert world.first.do("04 10 00 00 00 00", out=bytes.fromhex("00 02 00 00")).status is GOOD
    world.context.run_until_idle()
    answer = world.first.do(READY)
    assert (answer.task.sense[0] & 0x7F, answer.code) == (0x71, 0x3101), "a deferred error"
    assert [each.do(READY).code for each in (world.first, world.second)] == [0x3100, 0x3100]
    world.close()


@pytest.mark.parametrize(
    ("cdb", "code"), [(sanitize(BLOCK, flags=IMMED), 0x3103), (b"\x04" + bytes(5), 0x3100)]
)
def test_one_that_nobody_saw_end(tmp_path: Path, cdb: bytes, code: int) -> None:
    """The disk comes again by its state file: what was begun has failed until it is done."""
    path = str(tmp_path / "state")
    world = SlowWorld(state=path)
    world.first.send(cdb)
    world.context.run_until_idle()
    assert world.watched.waiting
    again = World(state=path)
    assert again.first.do(READY).code == code
    assert again.first.do("28 00 00 00 00 00 00 00 01 00", room=512).code == code
    assert again.first.do(sanitize(BLOCK)).status is GOOD
    again.close()
    again = World(state=path)
    assert again.first.do(READY).status is GOOD
    again.close()
    world.close()


def test_a_state_file_that_cannot_be_written(tmp_path: Path) -> None:
    """Then nothing is begun."""
    world = World(state=str(tmp_path / "state"))
    fill(world)
    (tmp_path / "state.new").mkdir()
    for cdb in (sanitize(BLOCK), b"\x04" + bytes(5)):
        assert world.first.do(cdb).status is Status.CHECK_CONDITION
    assert content(world)[:4] == b"old "
    (tmp_path / "state.new").rmdir()
    page = bytes.fromhex("0a 0a 00 10 00" + " 00" * 7)
    assert world.first.do("55 11 00 00 00 00 00 00 14 00", out=bytes(8) + page).status is GOOD
    world.close()
    again = World(state=str(tmp_path / "state"))
    assert again.first.do(READY).status is GOOD, "nothing of it is kept with something else"
    again.close()


@pytest.mark.parametrize(
    ("cdb", "expected"),
    [
        ("37 00 1d 00 00 00 00 00 10 00", "001d0000"),
        ("37 00 08 00 00 00 00 00 10 00", "00080000"),
        ("b7 18 00 00 00 00 00 00 00 10 00 00", "0018000000000000"),
    ],
)
def test_there_are_no_defects(world: World, cdb: str, expected: str) -> None:
    assert world.first.good(cdb, room=16).hex() == expected


def test_a_disk_that_is_taken_out_meanwhile() -> None:
    """Nothing of it goes on in a backend that may be closed."""
    world, _ = running()
    over: list[bool] = []
    world.target.remove(0, lambda: over.append(True))
    world.context.run_until_idle()
    assert not over
    world.watched.held = False
    world.release()
    assert over
    assert not world.backend.in_flight
    world.target.add(0, world.disk)
    world.first.clear()
    assert world.first.do(READY).code == 0x3103
    world.close()
