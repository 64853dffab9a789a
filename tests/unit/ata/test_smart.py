"""SMART: self-tests that go on between commands, and logs of what went wrong."""

from __future__ import annotations

import struct

import pytest

from devmodels.ata import Error, Reset, Status
from tests.unit.ata.host import MIB, Host

OK = Status.DRDY | Status.DSC
FAILED = OK | Status.ERR
KEY = 0xC24F00
SIZE = 8 * MIB
SHORT, EXTENDED, CAPTIVE, ABORT = 1, 2, 0x80, 0x7F
BAD = 5000
"""A sector that cannot be read, far behind what a short test looks at."""


def broken() -> Host:
    node: dict[str, object] = {
        "driver": "blkdebug",
        "node-name": "d0",
        "image": {"driver": "memory", "size": SIZE},
        "inject-error": [{"event": "none", "iotype": "read", "sector": BAD, "errno": 5}],
    }
    return Host(node=node)


def begin(host: Host, which: int) -> int:
    """Ask for a test, and give the disk no time for it; the command's status."""
    return host.start(0xB0, features=0xD4, lba=KEY | which).status


def execution_status(host: Host) -> int:
    return host.start(0xB0, features=0xD0, lba=KEY).data[363]


def results(host: Host) -> list[tuple[int, int, int]]:
    """What each test was, how it ended, where it failed; the newest last."""
    page = host.start(0xB0, features=0xD5, lba=KEY | 6, count=1).data
    rows = [struct.unpack_from("<BBHBI", page, 2 + 24 * at) for at in range(page[508])]
    extended = host.start(0x2F, lba=7, count=1).data
    for at, row in enumerate(rows):
        which, outcome, _, _, low, high = struct.unpack_from("<BBHBIH", extended, 4 + 26 * at)
        assert (which, outcome, low | high << 32) == (row[0], row[1], row[4])
    assert sum(page) & 0xFF == sum(extended) & 0xFF == 0
    return [(which, outcome, lba) for which, outcome, _, _, lba in rows]


def test_a_test_goes_on_while_commands_are_done() -> None:
    with Host(size=SIZE) as host:
        assert begin(host, EXTENDED) == OK
        assert execution_status(host) >> 4 == 0xF
        assert host.start(0xC8, count=1).status == OK
        host.context.run_until_idle()
        assert execution_status(host) == 0
        assert results(host) == [(EXTENDED, 0, 0)]


def test_a_test_is_aborted_or_interrupted() -> None:
    with Host(size=SIZE) as host:
        begin(host, EXTENDED)
        assert begin(host, ABORT) == OK
        begin(host, SHORT)
        host.disk.reset(Reset.SOFTWARE, lambda: None)
        begin(host, EXTENDED)
        begin(host, SHORT)
        host.context.run_until_idle()
        assert results(host) == [(EXTENDED, 0x10, 0), (SHORT, 0x20, 0), (EXTENDED, 0x10, 0), (SHORT, 0, 0)]


def test_a_test_names_the_sector_that_fails() -> None:
    with broken() as host:
        for which in (SHORT, EXTENDED):
            begin(host, which)
            host.context.run_until_idle()
        assert results(host) == [(SHORT, 0, 0), (EXTENDED, 0x70, BAD)]
        assert execution_status(host) == 0x70


def test_a_captive_test_lasts_as_long_as_its_command() -> None:
    with broken() as host:
        answer = host.do(0xB0, features=0xD4, lba=KEY | CAPTIVE | EXTENDED)
        assert (answer.status, answer.error, answer.taskfile.lba >> 8) == (FAILED, Error.ABRT, 0x2CF4)
        answer = host.do(0xB0, features=0xD4, lba=KEY | CAPTIVE | SHORT)
        assert (answer.status, answer.taskfile.lba >> 8) == (OK, 0xC24F)
        assert results(host) == [(CAPTIVE | EXTENDED, 0x70, BAD), (CAPTIVE | SHORT, 0, 0)]


@pytest.mark.parametrize("which", [0x03, 0x04, 0x83, 0xFF])
def test_tests_that_there_are_not(which: int) -> None:
    with Host() as host:
        assert host.do(0xB0, features=0xD4, lba=KEY | which).error == Error.ABRT


def test_errors_of_the_medium_are_logged_and_no_others() -> None:
    with broken() as host:
        host.do(0xFF)
        host.do(0x25, lba=SIZE // 512, count=1)
        assert host.do(0x25, lba=BAD - 8, count=16).error == Error.UNC
        for address in (1, 2):
            page = host.do(0xB0, features=0xD5, lba=KEY | address, count=1).data
            assert sum(page) & 0xFF == 0
            assert (page[0], page[1]) == (1, 1)
            assert struct.unpack_from("<H", page, 452) == (1,)
            features, count, low, high, device, opcode, _ = struct.unpack_from("<xBBBHBBI", page, 2 + 48)
            assert (opcode, count, high << 8 | low, device, features) == (0x25, 16, BAD - 8, 0x40, 0)
            error, _, low, high, _, status, state = struct.unpack_from("<xBBBHBB19xB", page, 2 + 60)
            assert (error, status, high << 8 | low, state) == (Error.UNC, FAILED, BAD, 3)


def test_the_extended_log_has_addresses_of_48_bits() -> None:
    with Host(node={"driver": "null-co", "size": 1 << 50, "node-name": "d0"}) as host:
        host.do(0x45, features=0x55, lba=0x1_2345_6789, count=1)
        for _ in range(6):
            assert host.do(0x25, lba=0x1_2345_6789, count=1).error == Error.UNC
        page = host.do(0x2F, lba=3, count=1).data
        assert sum(page) & 0xFF == 0
        assert struct.unpack_from("<BxH", page, 0) == (1, 4)
        assert struct.unpack_from("<H", page, 500) == (6,)
        for at in range(4):
            lba = page[4 + 124 * at + 94 :][:6]
            assert lba == bytes((0x89, 0x23, 0x67, 0x01, 0x45, 0x00))


def attributes(host: Host) -> dict[int, tuple[int, int, int]]:
    """What each one is worth, has been worth at worst, and its raw value."""
    data = host.do(0xB0, features=0xD0, lba=KEY).data
    rows = [struct.unpack_from("<BHBB6sx", data, 2 + 12 * at) for at in range(30)]
    return {
        number: (value, worst, int.from_bytes(raw, "little"))
        for number, _, value, worst, raw in rows
        if number
    }


def test_attributes_tell_of_sectors_that_fail_until_they_are_written() -> None:
    with broken() as host:
        assert attributes(host)[197] == (100, 100, 0)
        host.do(0x25, lba=BAD, count=1)
        host.do(0x45, features=0x55, lba=9, count=1)
        host.do(0x25, lba=8, count=2)
        found = attributes(host)
        assert (found[187], found[197], found[198]) == ((98, 98, 2), (98, 98, 2), (98, 98, 2))
        host.do(0x35, lba=BAD, count=1, given=bytes(512))
        host.do(0x35, lba=8, count=2, given=bytes(1024))
        found = attributes(host)
        assert (found[5], found[196]) == ((99, 99, 1), (99, 99, 1))
        assert (found[187], found[197]) == ((98, 98, 2), (100, 98, 0))


def test_a_disk_on_which_many_sectors_fail_says_that_it_is_about_to() -> None:
    node: dict[str, object] = {
        "driver": "blkdebug",
        "node-name": "d0",
        "image": {"driver": "memory", "size": SIZE},
        "inject-error": [{"event": "none", "iotype": "read", "errno": 5}],
    }
    with Host(node=node) as host:
        for lba in range(90):
            assert host.do(0xB0, features=0xDA, lba=KEY).taskfile.lba == KEY
            host.do(0x25, lba=lba, count=1)
            host.do(0x35, lba=lba, count=1, given=bytes(512))
        assert attributes(host)[5] == (10, 10, 90)
        answer = host.do(0xB0, features=0xDA, lba=KEY)
        assert (answer.status, answer.taskfile.lba) == (OK, 0x2CF400)


def test_the_disk_counts_how_often_it_is_switched_on() -> None:
    with Host() as host:
        host.disk.reset(Reset.POWER_ON, lambda: None)
        host.disk.reset(Reset.HARDWARE, lambda: None)
        assert attributes(host)[12] == (100, 100, 2)


def test_errors_of_flagged_sectors_are_not_logged() -> None:
    with Host() as host:
        host.do(0x45, features=0xAA, lba=10, count=2)
        host.do(0x45, features=0x55, lba=11, count=1)
        for lba in (10, 11):
            answer = host.do(0x25, lba=lba, count=1)
            assert (answer.error, answer.taskfile.lba) == (Error.UNC, lba)
        page = host.do(0xB0, features=0xD5, lba=KEY | 1, count=1).data
        assert struct.unpack_from("<H", page, 452) == (1,)
        assert attributes(host)[187][2] == 1


def test_more_sectors_than_can_be_unreadable() -> None:
    with Host(node={"driver": "null-co", "size": 1 << 40, "node-name": "d0"}) as host:
        assert host.do(0x45, features=0x55, lba=0, count=0).status == OK
        assert host.do(0x45, features=0x55, lba=1 << 20, count=1).error == Error.ABRT
        answer = host.do(0x25, lba=0xFFFF, count=2)
        assert answer.taskfile.lba == 0xFFFF
        assert host.do(0x25, lba=1 << 16, count=0).status == OK
