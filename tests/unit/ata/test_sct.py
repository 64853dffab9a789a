"""SCT Command Transport: key sectors, what they do, and how they are refused (ACS-3 §8)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devmodels.ata import Error, Reset
from devmodels.ata import Status as AtaStatus
from devmodels.ata.disk.sct import Status
from tests.unit.ata.host import MIB, Host, Outcome

OK = AtaStatus.DRDY | AtaStatus.DSC
SMART_KEY = 0xC24F00
COMMAND, DATA = 0xE0, 0xE1
WRITE_SAME, ERROR_RECOVERY, FEATURE_CONTROL, DATA_TABLE = 2, 3, 4, 5
SECOND = 1_000_000_000


def key(*words: int, lba: int = 0, count: int = 0, pattern: int = 0) -> bytes:
    if words[0] == WRITE_SAME:
        made = struct.pack("<2HQQI", *words, lba, count, pattern)
    else:
        made = struct.pack(f"<{len(words)}H", *words)
    return made.ljust(512, b"\0")


def send(host: Host, data: bytes, *, smart: bool = False, log: int = COMMAND) -> Outcome:
    if smart:
        return host.do(0xB0, features=0xD6, lba=SMART_KEY | log, count=len(data) // 512, given=data)
    return host.do(0x3F, lba=log, count=len(data) // 512, given=data)


def result(answer: Outcome) -> tuple[int, int]:
    """What a command returns, and how many blocks are to follow."""
    assert answer.status == OK
    taskfile = answer.taskfile
    return taskfile.count & 0xFF | (taskfile.lba & 0xFF) << 8, taskfile.lba >> 8 & 0xFFFF


def status(host: Host, *, smart: bool = False) -> tuple[int, int, int]:
    """Extended status code, action, function."""
    if smart:
        page = host.do(0xB0, features=0xD5, lba=SMART_KEY | COMMAND, count=1).data
    else:
        page = host.do(0x2F, lba=COMMAND, count=1).data
    assert struct.unpack_from("<H", page) == (3,)
    code, action, function = struct.unpack_from("<3H", page, 14)
    return code, action, function


def test_it_is_announced() -> None:
    with Host() as host:
        assert struct.unpack("<256H", host.do(0xEC).data)[206] == 0x3D
        directory = struct.unpack("<256H", host.do(0x2F, count=1).data)
        assert directory[COMMAND] == directory[DATA] == 1
        smart = struct.unpack("<256H", host.do(0xB0, features=0xD5, lba=SMART_KEY, count=1).data)
        assert smart[COMMAND] == smart[DATA] == 1
        page = host.do(0x2F, lba=0x30 | 3 << 8, count=1).data
        assert struct.unpack_from("<Q", page, 144) == (1 << 63 | 0x0303_003D,)


def test_what_stands_in_the_status_page() -> None:
    with Host() as host:
        page = host.do(0x2F, lba=COMMAND, count=1).data
        assert (page[10], page[200:206]) == (0, bytes([30] * 5 + [60]))
        assert struct.unpack_from("<H", page, 214) == (0xC24F,)
        host.do(0xE0)
        assert host.do(0x2F, lba=COMMAND, count=1).data[10] == 1
        host.disk.bad.reallocated = 90
        page = host.do(0x2F, lba=COMMAND, count=1).data
        assert struct.unpack_from("<H", page, 214) == (0x2CF4,)


@pytest.mark.parametrize("smart", [False, True])
@pytest.mark.parametrize("function", [0x0001, 0x0101])
def test_a_pattern_is_written_again_and_again(function: int, smart: bool) -> None:
    with Host() as host:
        command = key(WRITE_SAME, function, lba=10, count=5000 // 4, pattern=0x11223344)
        assert result(send(host, command, smart=smart)) == (0, 0)
        assert host.content(10 * 512, 1250 * 512) == bytes.fromhex("44332211") * (1250 * 128)
        assert not any(host.content(0, 10 * 512))
        assert not any(host.content(1260 * 512, 512))
        assert status(host, smart=smart) == (Status.GOOD, WRITE_SAME, function)


def test_zeroes_reach_to_the_end() -> None:
    with Host() as host:
        host.do(0x35, lba=2040, count=8, given=b"\x55" * 4096)
        assert result(send(host, key(WRITE_SAME, 0x0101, lba=2044))) == (0, 0)
        assert host.content(2040 * 512, 4096) == b"\x55" * 2048 + bytes(2048)


@pytest.mark.parametrize("size", [512, 4096])
@pytest.mark.parametrize("smart", [False, True])
def test_a_sector_follows_by_the_other_log(size: int, smart: bool) -> None:
    with Host(logical_block_size=size, physical_block_size=size) as host:
        sector = bytes(range(256)) * (size // 256)
        assert result(send(host, key(WRITE_SAME, 0x0102, lba=3, count=4), smart=smart)) == (0, size // 512)
        assert result(send(host, sector, smart=smart, log=DATA)) == (0, 0)
        assert host.content(3 * size, 4 * size) == sector * 4
        assert not any(host.content(7 * size, size))
        again = send(host, sector, smart=smart, log=DATA)
        assert (again.error, again.taskfile.count) == (Error.ABRT, Status.NO_COMMAND)


def test_sectors_that_were_unreadable_are_written() -> None:
    with Host() as host:
        host.do(0x45, features=0x55, lba=10, count=2)
        send(host, key(WRITE_SAME, 0x0101, lba=10, count=2, pattern=7))
        assert host.do(0x25, lba=10, count=2).status == OK


@pytest.mark.parametrize(
    ("function", "failed", "code"),
    [(0x0101, True, Status.FOREGROUND_FAILED), (0x0001, False, Status.BACKGROUND_FAILED)],
)
def test_an_error_is_the_commands_or_told_afterwards(function: int, failed: bool, code: Status) -> None:
    node: dict[str, object] = {
        "driver": "blkdebug",
        "node-name": "d0",
        "image": {"driver": "memory", "size": MIB},
        "inject-error": [{"event": "none", "iotype": "write", "sector": 100, "errno": 5}],
    }
    with Host(node=node) as host:
        answer = send(host, key(WRITE_SAME, function, lba=90, count=20, pattern=1))
        assert (answer.error == Error.ABRT) is failed
        assert status(host)[0] == code


def test_recovery_timers_are_kept_until_power_goes() -> None:
    with Host() as host:
        for selection, value in ((1, 70), (2, 0x1234)):
            assert result(send(host, key(ERROR_RECOVERY, 1, selection, value))) == (0, 0)
            host.disk.reset(Reset.HARDWARE, lambda: None)
            assert result(send(host, key(ERROR_RECOVERY, 2, selection), smart=True)) == (value, 0)
        host.disk.reset(Reset.POWER_ON, lambda: None)
        assert result(send(host, key(ERROR_RECOVERY, 2, 2))) == (0, 0)


@pytest.mark.parametrize(("state", "forced"), [(2, True), (3, False)])
def test_the_write_cache_is_forced(state: int, forced: bool) -> None:
    with Host(write_cache="on" if not forced else "off") as host:
        send(host, key(FEATURE_CONTROL, 1, 1, state))
        assert result(send(host, key(FEATURE_CONTROL, 2, 1))) == (state, 0)
        assert host.backend.write_cache is forced
        assert host.do(0xEF, features=0x82 if forced else 0x02).status == OK
        assert host.backend.write_cache is forced
        host.do(0xEF, features=0x90, count=6)
        host.disk.reset(Reset.HARDWARE, lambda: None)
        assert host.backend.write_cache is forced
        host.disk.reset(Reset.POWER_ON, lambda: None)
        assert host.backend.write_cache is not forced


def test_a_state_may_outlive_a_loss_of_power() -> None:
    with Host() as host:
        assert result(send(host, key(FEATURE_CONTROL, 3, 2))) == (0, 0)
        send(host, key(FEATURE_CONTROL, 1, 2, 2, 1))
        send(host, key(FEATURE_CONTROL, 1, 3, 10))
        assert result(send(host, key(FEATURE_CONTROL, 3, 2))) == (1, 0)
        host.disk.reset(Reset.POWER_ON, lambda: None)
        assert [result(send(host, key(FEATURE_CONTROL, 2, n)))[0] for n in (2, 3)] == [2, 1]


def test_the_history_of_temperatures_grows() -> None:
    with Host() as host:

        def history(*, smart: bool = False) -> bytes:
            assert result(send(host, key(DATA_TABLE, 1, 2))) == (0, 1)
            if smart:
                return host.do(0xB0, features=0xD5, lba=SMART_KEY | DATA, count=1).data
            return host.do(0x47, lba=DATA, count=1).data

        page = history()
        assert struct.unpack_from("<HHH4B", page) == (2, 1, 1, 60, 60, 0, 0)
        assert struct.unpack_from("<HH", page, 30) == (128, 0)
        assert page[34 : 34 + 128] == bytes([30] + [0x80] * 127)
        _let_pass(host, 300)
        page = history(smart=True)
        assert struct.unpack_from("<HH", page, 30) == (128, 5)
        assert page[34 : 34 + 128] == bytes([30] * 6 + [0x80] * 122)
        _let_pass(host, 200 * 60)
        assert struct.unpack_from("<HH", history(), 30) == (128, 205 % 128)
        send(host, key(FEATURE_CONTROL, 1, 3, 2))
        _let_pass(host, 300)
        page = history()
        assert struct.unpack_from("<HHH", page) == (2, 1, 2)
        assert struct.unpack_from("<HH", page, 30) == (128, 2)
        assert host.do(0x2F, lba=DATA, count=1).error == Error.ABRT


def _let_pass(host: Host, seconds: int) -> None:
    host.context.call_at(host.context.now_ns() + seconds * SECOND, lambda: None)
    host.context.run_until_idle()


@pytest.mark.parametrize(
    ("sector", "code"),
    [
        (key(0, 1), Status.BAD_ACTION),
        (key(6, 1), Status.BAD_ACTION),
        (key(WRITE_SAME, 0), Status.BAD_FUNCTION),
        (key(WRITE_SAME, 3), Status.BAD_FUNCTION),
        (key(WRITE_SAME, 0x0201), Status.BAD_FUNCTION),
        (key(WRITE_SAME, 0x0101, lba=2048), Status.BAD_LBA),
        (key(WRITE_SAME, 0x0102, lba=2047, count=2), Status.BAD_LBA),
        (key(WRITE_SAME, 0x0001, lba=1 << 63), Status.BAD_LBA),
        (key(ERROR_RECOVERY, 3, 1), Status.BAD_RECOVERY_FUNCTION),
        (key(ERROR_RECOVERY, 1, 3), Status.BAD_SELECTION),
        (key(FEATURE_CONTROL, 4, 1), Status.BAD_CONTROL_FUNCTION),
        (key(FEATURE_CONTROL, 1, 4), Status.BAD_FEATURE),
        (key(FEATURE_CONTROL, 1, 1, 4), Status.BAD_STATE),
        (key(FEATURE_CONTROL, 1, 3, 0), Status.BAD_STATE),
        (key(FEATURE_CONTROL, 1, 2, 1, 2), Status.BAD_OPTIONS),
        (key(DATA_TABLE, 2, 2), Status.BAD_FUNCTION),
        (key(DATA_TABLE, 1, 3), Status.BAD_TABLE),
    ],
)
def test_what_is_wrong_with_a_command_is_told(sector: bytes, code: Status) -> None:
    with Host() as host:
        answer = send(host, sector)
        assert (answer.status, answer.error) == (OK | AtaStatus.ERR, Error.ABRT)
        assert (answer.taskfile.count & 0xFF, answer.taskfile.lba) == (code, 0)
        assert status(host)[0] == code
        assert send(host, bytes(512), log=DATA).taskfile.count == Status.NO_COMMAND


def test_logs_of_one_page_have_no_other() -> None:
    with Host() as host:
        assert host.do(0x3F, lba=COMMAND, count=2, given=bytes(1024)).error == Error.ABRT
        assert host.do(0x2F, lba=COMMAND | 1 << 8, count=1).error == Error.ABRT
        send(host, key(WRITE_SAME, 0x0102, lba=0, count=1))
        assert send(host, bytes(1024), log=DATA).taskfile.count == Status.BAD_COUNT
        assert host.do(0x64, features=1, count=2 << 8 | 4 << 3, lba=COMMAND, given=bytes(512)).error
        host.do(0x2F, lba=0x10, count=1)
        assert host.do(0x65, features=1, count=1 << 8 | 4 << 3, lba=COMMAND).status == OK
        assert host.do(0x65, features=1, count=1 << 8 | 4 << 3, lba=DATA).error == Error.ABRT


def test_a_sector_that_is_held_is_still_wanted_elsewhere() -> None:
    with Host() as first, Host() as second:
        send(first, key(WRITE_SAME, 0x0102, lba=1, count=1))
        first.assembly.run_state.stop()
        first.backend.quiesce()
        first.start(0x3F, lba=DATA, count=1, given=b"\x66" * 512)
        second.disk.restore(first.disk.save())
        assert result(send(second, b"\x66" * 512, log=DATA)) == (0, 0)
        assert second.content(512, 512) == b"\x66" * 512
        first.backend.unquiesce()


def test_an_end_that_has_moved_is_seen() -> None:
    with Host() as host:
        send(host, key(WRITE_SAME, 0x0102, lba=2000, count=1))
        host.do(0x78, features=1, lba=999)
        answer = send(host, bytes(512), log=DATA)
        assert (answer.error, answer.taskfile.count) == (Error.ABRT, Status.BAD_LBA)


def test_a_locked_disk_is_not_written() -> None:
    with Host() as host:
        password = (bytes(2) + b"secret".ljust(32, b"\0")).ljust(512, b"\0")
        host.do(0xF1, given=password)
        host.disk.reset(Reset.POWER_ON, lambda: None)
        assert send(host, key(WRITE_SAME, 0x0101, pattern=1)).error == Error.ABRT
        answer = send(host, key(WRITE_SAME, 0x0101, pattern=1), smart=True)
        assert (answer.error, answer.taskfile.count) == (Error.ABRT, Status.LOCKED)


def test_what_was_set_moves_along() -> None:
    with Host() as first, Host() as second:
        send(first, key(ERROR_RECOVERY, 1, 1, 70))
        send(first, key(FEATURE_CONTROL, 1, 1, 3))
        send(first, key(WRITE_SAME, 0x0102, lba=1, count=1))
        saved = first.disk.save()
        second.disk.judge(saved)
        second.disk.restore(saved)
        assert not second.backend.write_cache
        assert result(send(second, b"\x77" * 512, log=DATA)) == (0, 0)
        assert second.content(512, 512) == b"\x77" * 512
        assert result(send(second, key(ERROR_RECOVERY, 2, 1))) == (70, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([COMMAND, COMMAND, DATA]),
            st.tuples(*[st.integers(0, 6)] * 2, st.sampled_from([0, 0x100]), *[st.integers(0, 5)] * 3),
        ),
        max_size=6,
    )
)
@settings(max_examples=20)
def test_no_key_sector_does_harm(writes: list[tuple[int, tuple[int, ...]]]) -> None:
    with Host(size=64 << 10) as host:
        for log, (action, function, more, *rest) in writes:
            sector = struct.pack("<5H", action, function | more, *rest).ljust(512, b"\0")
            answer = send(host, sector, log=log)
            assert bool(answer.error) is bool(answer.status & AtaStatus.ERR)
            host.do(0x47, lba=log, count=1)
        assert host.do(0xEC).status == OK
        assert host.do(0x25, count=128).status == OK


def test_a_reset_ends_what_is_being_written() -> None:
    node: dict[str, object] = {
        "driver": "delay",
        "node-name": "d0",
        "latency-ns": SECOND,
        "file": {"driver": "memory", "size": 4 * MIB},
    }
    with Host(node=node) as host:
        outcome = host.start(0x3F, lba=COMMAND, count=1, given=key(WRITE_SAME, 0x0101, pattern=5))
        over: list[int] = []
        host.context.call_at(host.context.now_ns() + SECOND // 2, lambda: None)
        host.context.run_once()
        host.disk.reset(Reset.SOFTWARE, lambda: over.append(1))
        assert not over
        host.context.run_until_idle()
        assert over
        assert outcome.dropped
        assert any(host.content(0, 512))
        assert not any(host.content(3 * MIB, 512))
