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
