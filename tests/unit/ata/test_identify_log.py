"""The log of IDENTIFY DEVICE data: it says what the words say, before and after hosts change something."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from devmodels.ata import Reset, Status
from devmodels.ata.constants import Transport
from devmodels.ata.disk.identifylog import PAGES
from tests.unit.ata.host import MIB, Host

OK = Status.DRDY | Status.DSC
VALID = 1 << 63
PASSWORD = (bytes(2) + b"secret".ljust(32, b"\0")).ljust(512, b"\0")
SMART_KEY = 0xC24F00


def words(host: Host) -> tuple[int, ...]:
    return struct.unpack("<256H", host.do(0xEC).data)


def page(host: Host, number: int) -> bytes:
    answer = host.do(0x2F, lba=0x30 | number << 8, count=1)
    assert answer.status == OK
    return answer.data


def quadword(host: Host, number: int, offset: int) -> int:
    value: int = struct.unpack_from("<Q", page(host, number), offset)[0]
    assert value & VALID
    return value & ~VALID


@pytest.mark.parametrize(
    ("transport", "pages", "absent"),
    [
        (Transport.SERIAL, [0, 1, 2, 3, 4, 5, 6, 8], [7]),
        (Transport.PARALLEL, [0, 1, 2, 3, 4, 5, 6, 7], []),
    ],
)
def test_the_pages_are_listed_and_each_says_which_it_is(
    transport: Transport, pages: list[int], absent: list[int]
) -> None:
    with Host() as host:
        host.disk.transport = transport
        listing = page(host, 0)
        assert listing[:9] == struct.pack("<QB", 1, len(pages))
        assert list(listing[9 : 9 + len(pages)]) == pages
        assert not any(listing[9 + len(pages) :])
        assert page(host, 1) == host.do(0xEC).data
        for number in pages[2:]:
            assert quadword(host, number, 0) == number << 16 | 1
        for number in absent:
            assert not any(page(host, number))
        directory = struct.unpack("<256H", host.do(0x2F, count=1).data)
        assert directory[0x30] == pages[-1] + 1


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"queue_depth": 0, "discard_granularity": 0, "rotation_rate": 7200, "wwn": 0x5000C500_12345678},
        {"queue_depth": 5, "puis": True, "serial": "SN", "model": "A DISK", "ver": "2"},
    ],
)
def test_every_field_is_as_its_words_are(transport: Transport, options: dict[str, object]) -> None:
    with Host(**options) as host:  # type: ignore[arg-type]
        host.disk.transport = transport
        found, listing = words(host), page(host, 0)
        for number in PAGES.keys() & set(listing[9 : 9 + listing[8]]):
            data = page(host, number)
            for offset, rows in PAGES[number].items():
                value = struct.unpack_from("<Q", data, offset)[0]
                for row in rows:
                    expected = found[row.word] >> row.bit & (1 << row.width) - 1
                    assert value >> row.at & (1 << row.width) - 1 == expected, row.name


def test_what_a_disk_is() -> None:
    with Host(
        8 * MIB, rotation_rate=7200, wwn=0x5000C500_12345678, serial="SN1", ver="2.5", model="A DISK"
    ) as host:
        capabilities = quadword(host, 3, 8)
        assert {n for n in range(63) if capabilities >> n & 1} == {
            *(1, 2, 7, 8, 11, 12, 13, 16, 17, 18, 20, 22, 23, 24, 25, 27, 28, 29, 31, 32, 35, 36, 39, 41),
        }
        assert (quadword(host, 3, 24), quadword(host, 3, 32)) == (7200, 0)
        assert struct.unpack_from("<QQ", page(host, 3), 56) == (0x5000C500_12345678, VALID)
        assert quadword(host, 3, 72) == 8 << 16 | 1
        assert quadword(host, 3, 136) == 31
        strings = page(host, 5)
        identity = host.do(0xEC).data
        assert (strings[8:28], strings[32:40], strings[48:88]) == (
            identity[20:40],
            identity[46:54],
            identity[54:94],
        )
        assert quadword(host, 6, 8) == 0xFFFE
        assert quadword(host, 6, 16) == 1 << 6 | 1 << 4
        assert quadword(host, 6, 24) == quadword(host, 6, 32) == 1
        assert quadword(host, 8, 8) == 1 << 23 | 3 << 16 | 1 << 14 | 1 << 11 | 3 << 7 | 7
        assert quadword(host, 8, 16) == 1 << 8 | 3
        assert quadword(host, 2, 8) == 16384
        host.disk.transport = Transport.PARALLEL
        assert quadword(host, 7, 8) == 7 << 36 | 7 << 30 | 0x40 << 23 | 0x7F << 16
        assert quadword(host, 7, 16) == 3
        assert quadword(host, 7, 24) == quadword(host, 7, 32) == 120 << 16 | 120
        assert quadword(host, 7, 48) == 1 << 55 | 1 << 4 | 1


Change = Callable[[Host], object]


@pytest.mark.parametrize(
    ("change", "place", "bits"),
    [
        (lambda host: host.do(0xEF, features=0x82), (4, 8, 13), [(85, 5)]),
        (lambda host: host.do(0xEF, features=0x55), (4, 8, 7), [(85, 6)]),
        (lambda host: host.do(0xB0, features=0xD9, lba=SMART_KEY), (4, 8, 6), [(85, 0)]),
        (lambda host: host.do(0xEF, features=0x06), (4, 8, 3), [(86, 5)]),
        (lambda host: host.do(0xEF, features=0x66), (4, 8, 11), []),
        (lambda host: host.do(0xF1, given=PASSWORD), (6, 16, 0), [(85, 1), (128, 1)]),
        (lambda host: host.do(0xF5), (6, 16, 2), [(128, 3)]),
        (lambda host: host.do(0xEF, features=0x90, count=6), (8, 16, 8), [(79, 6)]),
    ],
    ids=["cache", "look-ahead", "smart", "puis", "reverting", "password", "frozen", "preservation"],
)
def test_a_change_is_one_bit_of_the_log_and_those_of_the_words_that_say_the_same(
    change: Change, place: tuple[int, int, int], bits: list[tuple[int, int]]
) -> None:
    with Host() as host:

        def seen() -> tuple[list[bytes], list[int]]:
            return [page(host, number) for number in (2, 3, 4, 5, 6, 8)], list(words(host)[:255])

        pages, before = seen()
        assert getattr(change(host), "status", OK) == OK
        number, offset, bit = place
        at = (2, 3, 4, 5, 6, 8).index(number)
        value = int.from_bytes(pages[at][offset : offset + 8], "little") ^ 1 << bit
        pages[at] = pages[at][:offset] + value.to_bytes(8, "little") + pages[at][offset + 8 :]
        for word, at in bits:
            before[word] ^= 1 << at
        assert seen() == (pages, before)


def test_apm_has_a_level_and_transfer_modes_a_number() -> None:
    with Host() as host:
        host.do(0xEF, features=0x05, count=0x80)
        assert quadword(host, 4, 16) == 0x8000
        host.disk.transport = Transport.PARALLEL
        for mode, enabled in ((0x42, 1 << 25), (0x21, 1 << 34)):
            host.do(0xEF, features=0x03, count=mode)
            assert quadword(host, 7, 40) == mode
            assert quadword(host, 7, 8) & (7 << 33 | 0x7F << 23) == enabled


def test_a_locked_disk_says_so() -> None:
    with Host() as host:
        host.do(0xF1, given=PASSWORD)
        host.disk.reset(Reset.POWER_ON, lambda: None)
        assert quadword(host, 6, 16) & 3 == 3
