"""Feature sets of a disk: TRIM, logs, power, SMART, security, capacity."""

from __future__ import annotations

import struct

import pytest

from devmodels.ata import Error, Reset, Status
from devmodels.ata.constants import Transport
from tests.unit.ata.host import MIB, Host

OK = Status.DRDY | Status.DSC
FAILED = OK | Status.ERR
SMART_KEY = 0xC24F00
SCT_DATA = 0xE1
"""A log that reads as what was asked for before."""


def word(host: Host, number: int) -> int:
    return int.from_bytes(host.do(0xEC).data[2 * number : 2 * number + 2], "little")


def ranges(*entries: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<Q", lba | sectors << 48) for lba, sectors in entries).ljust(512, b"\0")


def test_trimmed_sectors_read_as_zeroes() -> None:
    with Host() as host:
        host.do(0x35, lba=0, count=16, given=b"\x5a" * 8192)
        assert host.do(0x06, features=1, count=1, given=ranges((2, 3), (0, 0), (8, 1))).status == OK
        kept = [bool(any(host.content(512 * lba, 512))) for lba in range(10)]
        assert kept == [True, True, False, False, False, True, True, True, False, True]
        assert word(host, 169) == 1
        assert word(host, 69) & 0x4020 == 0x4020


def test_nothing_is_trimmed_where_a_range_leaves_the_disk() -> None:
    with Host() as host:
        host.do(0x35, lba=0, count=1, given=b"\x5a" * 512)
        answer = host.do(0x06, features=1, count=1, given=ranges((0, 1), (2047, 2)))
        assert answer.status == FAILED
        assert answer.error & Error.ABRT
        assert host.content(0, 512) == b"\x5a" * 512


def test_queued_trim() -> None:
    with Host() as host:
        host.do(0x35, lba=0, count=1, given=b"\x5a" * 512)
        other = host.do(0x64, features=1, count=3 << 3, tag=3, given=ranges((0, 1)))
        assert other.error == Error.ABRT, "auxiliary says TRIM"
        host.do(0x2F, lba=0x10, count=1)
        assert host.content(0, 512) == b"\x5a" * 512
        trim = host.do(0x64, features=1, count=3 << 3, tag=3, auxiliary=1, given=ranges((0, 1)))
        assert trim.status == OK
        assert host.content(0, 512) == bytes(512)


def test_the_log_directory_tells_what_can_be_read() -> None:
    with Host() as host:
        directory = struct.unpack("<256H", host.do(0x2F, lba=0, count=1).data)
        assert directory[0] == 1
        for address, pages in enumerate(directory[1:], 1):
            if address == SCT_DATA:
                continue
            answer = host.do(0x47, lba=address, count=max(pages, 1))
            assert (answer.status == OK) is bool(pages)
            assert host.do(0x2F, lba=address, count=pages + 1).error == Error.ABRT


def test_the_log_of_identify_data_holds_identify_data() -> None:
    with Host() as host:
        pages = host.do(0x47, lba=0x30, count=3).data
        assert pages[512:1024] == host.do(0xEC).data
        assert struct.unpack_from("<QQ", pages, 1024) == (1 << 63 | 2 << 16 | 1, 1 << 63 | 2048)


def test_the_ncq_error_log_names_the_command_and_frees_the_queue() -> None:
    with Host() as host:
        host.do(0x60, features=1, lba=0x1234_5678_9ABC, count=7 << 3, tag=7)
        page = host.do(0x2F, lba=0x10, count=1).data
        assert (page[0], page[2], page[3]) == (7, FAILED, Error.IDNF)
        assert page[4:7] + page[8:11] == 0x1234_5678_9ABC.to_bytes(6, "little")
        assert sum(page) & 0xFF == 0
        assert host.do(0x60, features=1, count=7 << 3, tag=7).status == OK


def test_a_host_vendor_log_keeps_what_was_written() -> None:
    with Host() as host:
        host.do(0x3F, lba=0x80 | 2 << 8, count=1, given=b"\x42" * 512)
        assert host.do(0x2F, lba=0x80 | 2 << 8, count=1).data == b"\x42" * 512
        assert host.do(0x3F, lba=0x10, count=1, given=bytes(512)).error == Error.ABRT


def test_power_modes() -> None:
    with Host() as host:
        for opcode, expected in ((0xE0, 0x00), (0xE1, 0x80), (0xE2, 0x00), (0xE3, 0x80)):
            assert host.do(opcode).status == OK
            assert host.do(0xE5).taskfile.count == expected
        host.do(0x20, count=1)
        assert host.do(0xE5).taskfile.count == 0xFF
        host.do(0xE6)
        assert host.do(0xE5).error == Error.ABRT
        host.disk.reset(Reset.SOFTWARE, lambda: None)
        assert host.do(0xE5).status == OK


def test_smart_says_that_all_is_well() -> None:
    with Host() as host:
        assert host.do(0xB0, features=0xDA, lba=SMART_KEY).taskfile.lba == SMART_KEY
        for features in (0xD0, 0xD1):
            data = host.do(0xB0, features=features, lba=SMART_KEY).data
            assert len(data) == 512
            assert sum(data) & 0xFF == 0
        assert host.do(0xB0, features=0xD4, lba=SMART_KEY | 2).status == OK
        log = host.do(0xB0, features=0xD5, lba=SMART_KEY | 6, count=1).data
        assert (log[2], log[3], log[508]) == (2, 0, 1)
        assert host.do(0xB0, features=0xD0, lba=0).error == Error.ABRT
        host.do(0xB0, features=0xD9, lba=SMART_KEY)
        assert host.do(0xB0, features=0xD0, lba=SMART_KEY).error == Error.ABRT
        assert not word(host, 85) & 1
        assert host.do(0xB0, features=0xD8, lba=SMART_KEY).status == OK


def password(text: str, flags: int = 0) -> bytes:
    return (flags.to_bytes(2, "little") + text.encode().ljust(32, b"\0")).ljust(512, b"\0")


def test_a_locked_disk_gives_nothing_away() -> None:
    with Host() as host:
        host.do(0xCA, count=1, given=b"\x77" * 512)
        assert host.do(0xF1, given=password("secret")).status == OK
        assert word(host, 128) == 0x0023
        host.disk.reset(Reset.POWER_ON, lambda: None)
        assert word(host, 128) == 0x0027
        for opcode in (0xC8, 0xCA, 0xE7, 0x06, 0xF1, 0xF5, 0xF6, 0x60):
            assert host.do(opcode, count=1, features=1, given=bytes(512)).error == Error.ABRT
        host.do(0x2F, lba=0x10, count=1)
        for _ in range(5):
            assert host.do(0xF2, given=password("wrong")).error == Error.ABRT
        assert word(host, 128) & 0x10
        assert host.do(0xF2, given=password("secret")).error == Error.ABRT
        host.disk.reset(Reset.POWER_ON, lambda: None)
        assert host.do(0xF2, given=password("secret")).status == OK
        assert host.do(0xC8, count=1).data == b"\x77" * 512
        assert host.do(0xF6, given=password("secret")).status == OK
        assert word(host, 128) == 0x0021


def test_erasing_needs_to_be_prepared_and_takes_the_password_with_it() -> None:
    with Host() as host:
        host.do(0xCA, count=1, given=b"\x77" * 512)
        host.do(0xF1, given=password("secret"))
        assert host.do(0xF4, given=password("secret")).error == Error.ABRT
        assert host.do(0xF3).status == OK
        assert host.do(0xF4, given=password("secret")).status == OK
        assert host.do(0xC8, count=1).data == bytes(512)
        assert word(host, 128) == 0x0021


def test_a_frozen_disk_takes_no_password() -> None:
    with Host() as host:
        host.do(0xF1, given=password("secret"))
        assert host.do(0xF5).status == OK
        for opcode in (0xF1, 0xF2, 0xF3, 0xF4, 0xF6):
            assert host.do(opcode, given=password("secret")).error == Error.ABRT
        assert host.do(0xC8, count=1).status == OK
        assert word(host, 128) == 0x002B
        host.disk.reset(Reset.SOFTWARE, lambda: None)
        assert word(host, 128) == 0x002B
        host.disk.reset(Reset.POWER_ON, lambda: None)
        assert host.do(0xF2, given=password("secret")).status == OK
        assert host.do(0xF6, given=password("secret")).status == OK


def test_the_accessible_maximum_hides_the_rest() -> None:
    with Host() as host:
        assert host.do(0x78, features=0).taskfile.lba == 2047
        assert host.do(0x27).taskfile.lba == 2047
        assert host.do(0x78, features=1, lba=999).status == OK
        assert word(host, 100) == 1000
        assert host.do(0x25, lba=1000, count=1).error == Error.IDNF
        assert host.do(0x78, features=1, lba=1999).error == Error.ABRT


def test_an_uncorrectable_sector_fails_until_it_is_written() -> None:
    with Host() as host:
        assert host.do(0x45, features=0x55, lba=10, count=2).status == OK
        answer = host.do(0x25, lba=8, count=8)
        assert (answer.error, answer.taskfile.lba) == (Error.UNC, 10)
        host.do(0x35, lba=10, count=1, given=bytes(512))
        assert host.do(0x25, lba=8, count=8).taskfile.lba == 11
        host.do(0x35, lba=11, count=1, given=bytes(512))
        assert host.do(0x25, lba=8, count=8).status == OK


@pytest.mark.parametrize("read", [0xE4, 0xE9])
@pytest.mark.parametrize("write", [0xE8, 0xEB])
def test_the_sector_buffer(write: int, read: int) -> None:
    with Host() as host:
        assert host.do(read).data == bytes(512)
        assert host.do(write, given=b"\x99" * 512).status == OK
        assert host.do(read).data == b"\x99" * 512


def test_a_diagnostic_passes_and_shows_the_signature() -> None:
    with Host(size=MIB) as host:
        taskfile = host.do(0x90).taskfile
        assert (taskfile.error, taskfile.count, taskfile.lba) == (1, 1, 1)


def test_another_translation_is_told() -> None:
    with Host() as host:
        assert host.do(0x91, device=0xA7, count=32).status == OK
        assert [word(host, at) for at in (54, 55, 56)] == [8, 8, 32]
        assert host.do(0x91, device=0xA3, count=0).error == Error.ABRT
        assert [word(host, at) for at in (54, 55, 56)] == [8, 8, 32]


def test_verifying_reads_for_nobody() -> None:
    with Host() as host:
        for opcode in (0x40, 0x41, 0x42):
            answer = host.do(opcode, lba=2000, count=48)
            assert (answer.status, answer.data) == (OK, b"")
        host.do(0x45, features=0x55, lba=2040, count=1)
        for opcode in (0x40, 0x41, 0x42):
            answer = host.do(opcode, lba=2000, count=48)
            assert (answer.status, answer.error, answer.taskfile.lba) == (FAILED, Error.UNC, 2040)


@pytest.mark.parametrize(
    ("write", "read"), [(0x31, 0x21), (0xCB, 0xC9), (0xCE, 0x29)], ids=["sectors", "dma", "fua-multiple"]
)
def test_forms_that_nobody_uses_any_more(write: int, read: int) -> None:
    with Host(blocks=True) as host:
        host.do(0xC6, count=2)
        assert host.do(write, lba=5, count=3, given=b"\x31" * 1536).status == OK
        assert host.do(read, lba=5, count=3).data == b"\x31" * 1536


@pytest.mark.parametrize(
    ("on", "off", "word_bit", "count"), [(0xAA, 0x55, (85, 6), 0), (0x05, 0x85, (86, 3), 0x80)]
)
def test_features_are_switched_on_and_off(on: int, off: int, word_bit: tuple[int, int], count: int) -> None:
    with Host() as host:
        at, bit = word_bit
        for features, expected in ((off, 0), (on, 1)):
            assert host.do(0xEF, features=features, count=count).status == OK
            assert word(host, at) >> bit & 1 == expected


def test_a_software_reset_leads_to_the_defaults_unless_that_is_switched_off() -> None:
    with Host() as host:
        for features, kept in ((0x66, 8), (0xCC, 0)):
            host.do(0xC6, count=8)
            assert host.do(0xEF, features=features).status == OK
            host.disk.reset(Reset.SOFTWARE, lambda: None)
            assert word(host, 59) & 0xFF == kept


def test_a_block_of_read_multiple_is_a_power_of_two() -> None:
    with Host() as host:
        most = word(host, 47) & 0xFF
        for count, error in ((most, 0), (3, Error.ABRT), (1, 0), (2 * most, Error.ABRT), (2, 0), (0, 0)):
            assert host.do(0xC6, count=count).error == error
            assert word(host, 59) & 0xFF == (0 if error else count)
            assert host.do(0xC4, count=1).error == (0 if count and not error else Error.ABRT)


def test_commands_without_an_effect() -> None:
    with Host() as host:
        for opcode in (0x10, 0x70):
            assert host.do(opcode).status == OK
        assert host.do(0x00).error == Error.ABRT
        assert host.do(0x63, features=0, count=2 << 3, tag=2).status == OK
        assert host.do(0xEB, given=b"\x10" * 512).status == OK
        assert host.do(0xB0, features=0xD2, lba=SMART_KEY, count=0xF1).status == OK
        assert host.do(0x78, features=2).status == OK
        assert host.do(0xF8).taskfile.lba28 == 2047


def test_host_vendor_logs_by_every_command() -> None:
    with Host() as host:
        assert host.do(0x57, lba=0x81, count=1, given=b"\x57" * 512).status == OK
        assert host.do(0xB0, features=0xD5, lba=SMART_KEY | 0x81, count=1).data == b"\x57" * 512
        assert host.do(0xB0, features=0xD6, lba=SMART_KEY | 0x81, count=1, given=b"\xd6" * 512).status == OK
        assert host.do(0x47, lba=0x81, count=1).data == b"\xd6" * 512


def test_a_range_of_no_sectors_is_no_range_wherever_it_is() -> None:
    with Host() as host:
        assert host.do(0x06, features=1, count=1, given=ranges((1 << 40, 0), (0, 1))).status == OK


def test_the_preparation_of_an_erasure_holds_for_the_next_command_alone() -> None:
    with Host() as host:
        host.do(0xF1, given=password("secret"))
        host.do(0xF3)
        host.do(0xE5)
        assert host.do(0xF4, given=password("secret")).error == Error.ABRT


def test_nothing_is_erased_after_five_wrong_passwords() -> None:
    with Host() as host:
        host.do(0xF1, given=password("secret"))
        host.disk.reset(Reset.POWER_ON, lambda: None)
        for _ in range(4):
            assert host.do(0xF2, given=password("wrong")).error == Error.ABRT
        assert host.do(0xF2, given=password("secret")).status == OK, "the fifth attempt"
        host.disk.reset(Reset.POWER_ON, lambda: None)
        for _ in range(5):
            host.do(0xF2, given=password("wrong"))
        assert host.do(0xF2, given=password("secret")).error == Error.ABRT
        host.do(0xF3)
        assert host.do(0xF4, given=password("secret")).error == Error.ABRT
        host.disk.reset(Reset.POWER_ON, lambda: None)
        host.do(0xF3)
        assert host.do(0xF4, given=password("secret")).status == OK


def test_a_locked_disk_keeps_no_logs() -> None:
    with Host() as host:
        host.do(0xF1, given=password("secret"))
        host.disk.reset(Reset.POWER_ON, lambda: None)
        for opcode in (0x3F, 0x57):
            assert host.do(opcode, lba=0x80, count=1, given=bytes(512)).error == Error.ABRT
        assert host.do(0x2F, lba=0x80, count=1).status == OK


def test_a_hardware_reset_keeps_settings_unless_that_is_switched_off() -> None:
    with Host() as host:
        assert (word(host, 78) & 0x40, word(host, 79) & 0x40) == (0x40, 0x40)
        for features, on in ((0x10, True), (0x90, False)):
            host.do(0xC6, count=8)
            host.do(0xEF, features=0x82)
            assert host.do(0xEF, features=features, count=6).status == OK
            assert bool(word(host, 79) & 0x40) is on
            host.disk.reset(Reset.HARDWARE, lambda: None)
            assert bool(word(host, 59) & 0xFF) is on
            assert bool(word(host, 85) & 0x20) is not on
        assert host.do(0xEF, features=0x10, count=1).error == Error.ABRT


def test_a_hardware_reset_locks_again_and_gives_new_attempts_unless_settings_are_kept() -> None:
    with Host() as host:
        host.do(0xF1, given=password("secret"))
        host.do(0xF5)
        host.disk.reset(Reset.HARDWARE, lambda: None)
        assert word(host, 128) == 0x002B
        host.do(0xEF, features=0x90, count=6)
        host.disk.reset(Reset.HARDWARE, lambda: None)
        assert word(host, 128) == 0x0027


def test_a_disk_that_sleeps_comes_up_in_standby() -> None:
    with Host() as host:
        host.do(0xE6)
        host.disk.reset(Reset.HARDWARE, lambda: None)
        assert host.do(0xE5).taskfile.count == 0


def test_what_the_words_say_of_the_rest() -> None:
    with Host() as host:
        assert word(host, 48) == 0x4000
        assert word(host, 69) & 0x0C40 == 0x0C40
        assert word(host, 76) == 0x930E
        assert (word(host, 119), word(host, 120)) == (0x410C, 0x400C)
        assert word(host, 93) == 0
        host.disk.transport = Transport.PARALLEL
        assert [word(host, at) for at in (76, 77, 78, 79, 222)] == [0] * 5
        assert word(host, 93) == 0x600B
        host.disk.unit = 1
        assert word(host, 93) == 0x6B00


def test_a_disk_of_another_size_has_other_cylinders() -> None:
    with Host(MIB) as host:
        assert [word(host, at) for at in (1, 54, 57)] == [2, 2, 2016]
        host.context.run(host.backend.resize(4 * MIB))
        assert [word(host, at) for at in (1, 54, 57, 60)] == [8, 8, 8064, 8192]
        host.do(0x91, device=0xA7, count=32)
        host.context.run(host.backend.resize(2 * MIB))
        assert [word(host, at) for at in (1, 3, 6, 54, 55, 56)] == [4, 16, 63, 16, 8, 32]
        assert host.do(0xC8, device=0xA7, lba=15 << 8 | 32, count=1).status == OK
        assert host.do(0xC8, device=0xA0, lba=16 << 8 | 1, count=1).error == Error.IDNF


def test_no_translation_reaches_more_than_the_largest() -> None:
    with Host(node={"driver": "null-co", "size": 1 << 40, "node-name": "d0"}) as host:
        host.do(0x91, device=0xAF, count=32)
        cylinders = 16_514_064 // 512
        assert [word(host, at) for at in (54, 55, 56)] == [cylinders, 16, 32]
        assert host.do(0xC8, device=0xAF, lba=(cylinders - 1) << 8 | 32, count=1).status == OK
        assert host.do(0xC8, device=0xA0, lba=cylinders << 8 | 1, count=1).error == Error.IDNF


def test_a_disk_that_powers_up_in_standby_waits_to_be_spun_up() -> None:
    with Host() as host:
        assert (word(host, 2), word(host, 83) & 0x60, word(host, 86) & 0x60) == (0xC837, 0x60, 0x40)
        assert host.do(0xEF, features=0x06).status == OK
        assert host.do(0x20, count=1).status == OK
        host.disk.reset(Reset.POWER_ON, lambda: None)
        assert (word(host, 2), word(host, 86) & 0x60) == (0x738C, 0x60)
        assert host.do(0xE5).taskfile.count == 0
        assert host.do(0x20, count=1).error == Error.ABRT
        host.disk.reset(Reset.SOFTWARE, lambda: None)
        assert host.do(0xC8, count=1).error == Error.ABRT
        assert host.do(0xEF, features=0x07).status == OK
        assert host.do(0x20, count=1).status == OK
        assert word(host, 2) == 0xC837
        assert host.do(0xEF, features=0x86).status == OK
        host.disk.reset(Reset.POWER_ON, lambda: None)
        assert host.do(0x20, count=1).status == OK


def test_a_disk_may_be_made_to_power_up_in_standby() -> None:
    with Host(puis=True) as host:
        assert host.do(0x20, count=1).error == Error.ABRT
        host.do(0xEF, features=0x07)
        assert host.do(0x20, count=1).status == OK


@pytest.mark.parametrize(
    ("opcode", "count", "seconds"), [(0xE3, 12, 60), (0xE2, 241, 1800), (0xE3, 252, 1260), (0xE3, 255, 1275)]
)
def test_the_standby_timer_runs_while_the_medium_is_not_used(opcode: int, count: int, seconds: int) -> None:
    with Host() as host:
        host.do(opcode, count=count)
        host.do(0x20, count=1)
        _let_pass(host, seconds - 1)
        assert host.do(0xE5).taskfile.count == 0xFF
        _let_pass(host, 2)
        assert host.do(0xE5).taskfile.count == 0
        host.do(0xE3, count=0)
        _let_pass(host, 100_000)
        assert host.do(0xE5).taskfile.count == 0x80


def _let_pass(host: Host, seconds: int) -> None:
    host.context.call_at(host.context.now_ns() + seconds * 1_000_000_000, lambda: None)
    host.context.run_until_idle()
