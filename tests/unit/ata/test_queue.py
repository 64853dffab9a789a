"""The queue of NCQ: what is refused, what an error does to the rest, and what lets it go on (SATA 3.x §13.6)."""

from __future__ import annotations

import struct

import pytest

from devmodels.ata import Error, Reset, Status
from devmodels.ata.constants import Transport
from tests.unit.ata.host import Host

OK = Status.DRDY | Status.DSC
FAILED = OK | Status.ERR


def failed_log(host: Host) -> bytes:
    return host.do(0x47, lba=0x10, count=1).data


def test_after_an_error_nothing_is_done_before_its_log_has_been_read() -> None:
    with Host() as host:
        assert host.do(0x60, features=1, lba=5000, count=0).error == Error.IDNF
        for opcode in (0xEC, 0xC8, 0xE7, 0x2F):
            assert host.do(opcode, count=1).error == Error.ABRT
        assert host.do(0x61, features=1, tag=3, count=3 << 3, given=bytes(512)).error == Error.ABRT
        page = failed_log(host)
        assert (page[0], page[3]) == (0, Error.IDNF)
        assert host.do(0xEC).status == OK


def test_a_reset_lets_the_queue_go_on() -> None:
    with Host() as host:
        host.do(0x60, features=1, lba=5000)
        host.disk.reset(Reset.SOFTWARE, lambda: None)
        assert host.do(0xC8, count=1).status == OK


def test_a_command_of_another_kind_ends_the_queue_and_the_log_says_so() -> None:
    with Host() as host:
        host.assembly.run_state.stop()
        host.backend.quiesce()
        queued = host.start(0x61, features=1, tag=2, count=2 << 3, given=bytes(512))
        assert host.do(0xC8, lba=7, count=1).error == Error.ABRT
        assert queued.dropped
        host.backend.unquiesce()
        page = failed_log(host)
        assert (page[0], page[2], page[3], page[4]) == (0x80, FAILED, Error.ABRT, 7)


@pytest.mark.parametrize(("tag", "error"), [(3, Error.ABRT), (5, Error.ABRT), (4, 0)])
def test_a_tag_has_one_command_and_is_below_the_depth(tag: int, error: int) -> None:
    with Host(queue_depth=5) as host:
        host.assembly.run_state.stop()
        host.backend.quiesce()
        first = host.start(0x61, features=1, tag=3, count=3 << 3, given=bytes(512))
        second = host.start(0x61, features=1, tag=tag, count=tag << 3, given=bytes(512))
        assert second.error == error
        assert first.dropped is bool(error)
        host.backend.unquiesce()


def test_a_disk_on_a_cable_has_no_queue() -> None:
    with Host() as host:
        host.disk.transport = Transport.PARALLEL
        for opcode in (0x60, 0x61, 0x63, 0x64):
            assert host.do(opcode, features=1).error == Error.ABRT
        assert host.do(0xC8, count=1).status == OK
        directory = host.do(0x2F, count=1).data
        assert not any(directory[2 * 0x10 : 2 * 0x14])


@pytest.mark.parametrize(("granularity", "expected"), [(512, (1, 1, 1, 1)), (0, (0, 0, 1, 1))])
def test_what_can_be_sent_and_received_is_told(granularity: int, expected: tuple[int, ...]) -> None:
    """Log 13h: DATA SET MANAGEMENT, TRIM, READ and WRITE LOG (ACS-3 §A.16)."""
    with Host(discard_granularity=granularity) as host:
        assert struct.unpack_from("<IIII", host.do(0x47, lba=0x13, count=1).data) == expected
        trim = host.do(0x64, features=1, count=0, auxiliary=1, given=bytes(512))
        assert (trim.status == OK) is bool(granularity)


def test_logs_are_read_and_written_in_the_queue() -> None:
    with Host() as host:
        supported = struct.unpack_from("<IIII", host.do(0x47, lba=0x13, count=1).data)
        assert supported == (1, 1, 1, 1)
        data = bytes((0x5A,)) * 1024
        written = host.do(0x64, features=2, count=2 << 8 | 4 << 3, lba=0x80 | 1 << 8, given=data)
        assert written.status == OK
        assert host.do(0x65, features=2, count=1 << 8 | 4 << 3, lba=0x80 | 1 << 8).data == data
        assert host.do(0x47, lba=0x80 | 1 << 8, count=2).data == data
        assert host.do(0x65, features=1, count=1 << 8, lba=0x10).error == Error.ABRT


def test_deadlines_are_handled() -> None:
    with Host() as host:
        assert struct.unpack_from("<II", host.do(0x47, lba=0x12, count=1).data) == (0x1F, 7)
        assert host.do(0x63, features=0x31, count=1 << 3).status == OK
        assert host.do(0x63, features=2, count=1 << 3).error == Error.ABRT


@pytest.mark.parametrize(
    ("kind", "tag", "error"),
    [(0, 9, 0), (1, 9, 0), (2, 9, 0), (3, 2, 0), (3, 9, Error.ABRT), (4, 2, Error.ABRT)],
)
def test_a_queue_is_asked_to_abort(kind: int, tag: int, error: int) -> None:
    """ABORT NCQ QUEUE: all, streaming or other commands, or the one with a tag that has to be there (ACS-3 §7.16)."""
    with Host() as host:
        host.assembly.run_state.stop()
        host.backend.quiesce()
        queued = host.start(0x61, features=1, tag=2, count=2 << 3, given=bytes(512))
        assert host.do(0x63, features=kind << 4, count=1 << 3, lba=tag << 3).error == error
        assert queued.dropped is bool(error)
        host.backend.unquiesce()


@pytest.mark.parametrize(("depth", "expected"), [(32, 0x1100), (0, 0)])
def test_a_queue_has_priorities(depth: int, expected: int) -> None:
    with Host(queue_depth=depth) as host:
        words = struct.unpack("<256H", host.do(0xEC).data)
        assert words[76] & 0x1100 == expected


def test_features_are_set_in_the_queue() -> None:
    with Host() as host:
        assert struct.unpack_from("<6I", host.do(0x47, lba=0x12, count=1).data)[5] == 1
        tag = 3 << 3
        assert host.do(0x63, features=0x82 << 8 | 5, count=tag).status == OK
        assert not host.backend.write_cache
        assert host.do(0x63, features=0x05 << 8 | 5, count=0x80 << 8 | tag).status == OK
        assert struct.unpack("<256H", host.do(0xEC).data)[91] == 0x80
        assert host.do(0x63, features=0x03 << 8 | 5, count=0x42 << 8 | tag).status == OK
        assert host.disk.modes.ultra == 2


def test_an_unknown_feature_is_an_error_of_the_queue() -> None:
    with Host() as host:
        assert host.do(0x63, features=0x77 << 8 | 5, count=4 << 3).error == Error.ABRT
        assert host.do(0xEC).error == Error.ABRT
        assert failed_log(host)[0] == 4
        assert host.do(0xEC).status == OK


def test_a_write_cache_that_is_switched_off_in_the_queue_is_made_stable_first() -> None:
    with Host() as host:
        assert host.do(0x61, features=1, count=1 << 3, given=bytes(512)).status == OK
        before = host.backend.stats.flush_operations
        assert host.do(0x63, features=0x82 << 8 | 5, count=2 << 3).status == OK
        assert host.backend.stats.flush_operations == before + 1
