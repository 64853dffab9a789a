"""INQUIRY and vital product data (SPC-4 §6.6, §7.8; SBC-4 §6.6)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from devmodels.scsi import Protocol, Status, TargetPort
from tests.unit.scsi.initiator import Initiator, World


def vpd(world: World, page: int, initiator: Initiator | None = None) -> bytes:
    """A page of vital product data, whose length agrees."""
    data = (initiator or world.first).good(f"12 01 {page:02x} 02 00 00", room=512)
    assert data[0] == 0
    assert data[1] == page
    assert struct.unpack(">H", data[2:4])[0] == len(data) - 4
    return data[4:]


def test_what_the_options_say(make: Callable[..., World]) -> None:
    world = make(vendor="ACME", product="Rocket", ver="2.0", removable=True)
    data = world.first.good("12 00 00 00 ff 00", room=255)
    assert data[1] == 0x80
    assert data[8:36] == b"ACME    Rocket          2.0 "


def test_a_page_code_without_evpd(world: World) -> None:
    answer = world.first.do("12 00 80 00 ff 00", room=255)
    assert (answer.code, answer.field) == (0x2400, (2, None))


def test_a_page_that_is_not_there(world: World) -> None:
    assert world.first.do("12 01 c0 00 ff 00", room=255).code == 0x2400


def test_supported_pages_can_all_be_had(world: World) -> None:
    pages = vpd(world, 0x00)
    assert list(pages) == sorted(pages)
    assert {0x00, 0x80, 0x83, 0x86, 0xB0, 0xB1, 0xB2} <= set(pages)
    for page in pages:
        vpd(world, page)


def test_the_serial_number(make: Callable[..., World]) -> None:
    assert vpd(make(serial="S-17"), 0x80) == b"S-17"
    assert len(vpd(make(), 0x80)) == 8


def designators(data: bytes) -> list[tuple[int, int, bytes]]:
    """Association, type, designator."""
    out = []
    while data:
        size = data[3]
        out.append((data[1] >> 4 & 3, data[1] & 0xF, data[4 : 4 + size]))
        data = data[4 + size :]
    return out


def test_the_names_of_the_unit_and_of_the_port(make: Callable[..., World]) -> None:
    world = make(wwn=0x5000C50012345678, serial="S-17", vendor="ACME")
    port = TargetPort(3, Protocol.ISCSI, "iqn.2026-11.org.example:d0,t,0x0001")
    initiator = Initiator(world.target, 9, port)
    initiator.clear()
    found = designators(vpd(world, 0x83, initiator))
    assert (0, 3, bytes.fromhex("5000c50012345678")) in found
    assert (0, 1, b"ACME    S-17") in found
    assert (1, 4, b"\0\0\0\3") in found
    assert [(where, kind) for where, kind, _ in found[-2:]] == [(1, 8), (2, 8)]
    assert found[-1][2].rstrip(b"\0") == b"iqn.2026-11.org.example:d0"
    assert all(len(name) % 4 == 0 for _, kind, name in found if kind == 8)


def test_block_limits(make: Callable[..., World]) -> None:
    world = make(logical_block_size=4096, physical_block_size=4096, opt_io_size=65536, max_unmap_size=1 << 20)
    data = vpd(world, 0xB0)
    assert len(data) == 60
    wsnz, compare, granularity, longest, optimal = struct.unpack(">BBHII", data[:12])
    assert (wsnz, compare, granularity, longest, optimal) == (1, 255, 0, (32 << 20) // 4096, 16)
    assert struct.unpack(">II", data[16:24]) == ((1 << 20) // 4096, 256)


def test_block_device_characteristics(make: Callable[..., World]) -> None:
    assert vpd(make(rotation_rate=7200), 0xB1)[:2] == struct.pack(">H", 7200)
    assert len(vpd(make(), 0xB1)) == 60


def test_without_thin_provisioning(make: Callable[..., World]) -> None:
    world = make(thin=False)
    assert 0xB2 not in vpd(world, 0x00)
    assert world.first.do("12 01 b2 00 ff 00", room=255).code == 0x2400
    assert struct.unpack(">II", vpd(world, 0xB0)[16:24]) == (0, 0)
    assert not world.first.good("9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00", room=32)[14]


def test_with_it(world: World) -> None:
    assert vpd(world, 0xB2)[1] >> 5 == 0b111
    assert world.first.good("9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00", room=32)[14] == 0xC0


@pytest.mark.parametrize(("physical", "exponent"), [(512, 0), (4096, 3), (65536, 7)])
def test_the_physical_exponent(make: Callable[..., World], physical: int, exponent: int) -> None:
    world = make(physical_block_size=physical)
    data = world.first.good("9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00", room=32)
    assert data[13] == exponent


def test_the_well_known_unit_and_its_list(world: World) -> None:
    lun = 1 << 48 | 1
    assert world.first.good("12 00 00 00 ff 00", room=255, lun=lun)[0] == 0x1E
    luns = world.first.good("a0 00 02 00 00 00 00 00 00 40 00 00", room=64, lun=lun)
    assert luns.hex() == "00000010" + "00" * 4 + "00" * 8 + "c101" + "00" * 6
    assert world.first.do("28 00 00 00 00 00 00 00 01 00", room=512, lun=lun).code == 0x2000


def test_the_well_known_unit_is_ready_and_has_nothing_to_tell(world: World) -> None:
    lun = 1 << 48 | 1
    world.first.good("00 00 00 00 00 00", lun=lun)
    assert not any(world.first.good("03 01 00 00 fc 00", room=252, lun=lun)[1:])


@pytest.mark.parametrize("lun", [9, 1 << 24, None])
def test_where_no_unit_is_the_others_are_listed(world: World, lun: int | None) -> None:
    assert world.first.good("12 00 00 00 24 00", room=36, lun=lun)[0] == 0x7F
    luns = world.first.good("a0 00 00 00 00 00 00 00 00 40 00 00", room=64, lun=lun)
    assert luns.hex() == "00000008" + "00" * 12


def test_report_luns_asks_for_too_little(world: World) -> None:
    assert world.first.do("a0 00 00 00 00 00 00 00 00 08 00 00", room=8).code == 0x2400
    assert world.first.do("a0 00 03 00 00 00 00 00 00 10 00 00", room=16).code == 0x2400


def test_no_unit_there_says_so_in_its_sense_data(world: World) -> None:
    data = world.first.good("03 00 00 00 12 00", room=18, lun=9)
    assert (data[2] & 0xF, data[12:14].hex()) == (5, "2500")
    assert world.first.do("ff 00 00 00 00 00", lun=9).code == 0x2500


@pytest.mark.parametrize("lun", [0, 3, 8 + 5, None])
def test_numbers_of_units_in_byte_1_are_reported_and_answered(world: World, lun: int | None) -> None:
    """As from Linux, of a unit that is not LUN 0 and is plugged first of its target."""
    bits = ((lun or 0) & 7) << 5
    assert world.first.do(bytes((0x12, bits, 0, 0, 36, 0)), room=36, lun=lun).status is Status.GOOD
    assert world.violations.total == bool(bits)
    wrong = bits ^ 0x20
    answer = world.first.do(bytes((0x12, wrong, 0, 0, 36, 0)), room=36, lun=lun)
    assert (answer.key, answer.code, answer.field) == (5, 0x2400, (1, wrong.bit_length() - 1))
    answer = world.first.do(bytes((0x00, 0x20, 0, 0, 0, 0)), lun=0)
    assert (answer.key, answer.code) == (5, 0x2400)
