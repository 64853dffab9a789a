"""A disk under profile `qemu`: the commands that QEMU 7.2's has, and what it keeps."""

from __future__ import annotations

import struct

import pytest

from devmodels.ata.constants import LBA, Reset, Transport
from devmodels.ata.disk import AtaDisk
from devmodels.conformance import Profile, ViolationLog

from .host import MIB, Host

ABORTED, DONE, WITHOUT_DSC = (0x41, 0x04), (0x50, 0), (0x40, 0)
IDENTIFY = 0xEC


def as_qemu(*, blocks: bool = False) -> Host:
    """The host of a disk that does as QEMU's."""
    host = Host(blocks=blocks)
    host.device = host.disk = AtaDisk(host.backend, violations=ViolationLog(Profile.QEMU))
    host.disk.transport = Transport.SERIAL
    return host


def end(host: Host, opcode: int, **fields: int) -> tuple[int, int]:
    outcome = host.do(opcode, given=b"", **fields)
    return outcome.status, outcome.error


def word(host: Host, number: int) -> int:
    value: int
    (value,) = struct.unpack_from("<H", host.do(IDENTIFY).data, 2 * number)
    return value


@pytest.mark.parametrize(
    ("opcode", "fields", "ends"),
    [
        (0x91, {"count": 0}, DONE),  # INITIALIZE DEVICE PARAMETERS, no sectors
        (0xF3, {}, ABORTED),  # SECURITY ERASE PREPARE
        (0x78, {"features": 0}, ABORTED),  # GET NATIVE MAX ADDRESS EXT
        (0x78, {"features": 2}, ABORTED),  # FREEZE ACCESSIBLE MAX ADDRESS EXT
        (0x2F, {"count": 1}, ABORTED),  # READ LOG EXT
        (0xEF, {"features": 0x06}, ABORTED),  # SET FEATURES, power-up in standby
        (0xEF, {"features": 0x05}, DONE),  # APM, level 0
        (0xEF, {"features": 0x42}, DONE),  # acoustic management
        (0xEF, {"features": 0x03, "count": 0x47}, DONE),  # UDMA mode 7
        (0xEF, {"features": 0x03, "count": 0x91}, ABORTED),
        (0x94, {}, WITHOUT_DSC),  # STANDBY IMMEDIATE of ATA-3
        (0xE0, {}, WITHOUT_DSC),
        (0xF5, {}, DONE),  # SECURITY FREEZE LOCK
        (0x42, {"lba": 1 << 40, "count": 1}, DONE),  # READ VERIFY SECTOR(S) EXT, beyond the end
    ],
)
def test_what_qemus_disk_takes(opcode: int, fields: dict[str, int], ends: tuple[int, int]) -> None:
    with as_qemu() as host:
        assert end(host, opcode, device=LBA, **fields) == ends


def test_sectors_go_sixteen_at_a_time_before_anybody_asked() -> None:
    with as_qemu() as host:
        assert end(host, 0xC4, count=1) == DONE
        host.do(0xC6, count=0)
        assert end(host, 0xC4, count=1) == ABORTED
        host.disk.reset(Reset.HARDWARE, lambda: None)
        assert end(host, 0xC4, count=1) == DONE


def test_identity_is_what_it_was_when_asked_first() -> None:
    with as_qemu() as host:
        assert (word(host, 59), word(host, 85), word(host, 88), word(host, 255)) == (
            0x0110,
            0x4021,
            0x203F,
            0,
        )
        host.do(0xC6, count=8)
        host.do(0xEF, features=0x82)
        host.do(0xEF, features=0x03, count=0x22)
        assert (word(host, 59), word(host, 85)) == (0x0110, 0x4001)
        assert (word(host, 63), word(host, 88)) == (0x0407, 0x003F)


def test_a_snapshot_knows_what_was_told_first() -> None:
    with as_qemu() as host, as_qemu() as other:
        host.do(0xC6, count=8)
        assert word(host, 59) == 0x0108
        host.do(0xB0, features=0xD4, lba=0xC24F01)
        saved = host.disk.save()
        other.disk.judge(saved)
        other.disk.restore(saved)
        assert word(other, 59) == 0x0108
        assert other.do(0xB0, features=0xD5, lba=0xC24F06, count=1).data[508] == 1


def test_smart_tells_of_qemus_attributes() -> None:
    with as_qemu() as host:
        data = host.do(0xB0, features=0xD0, lba=0xC24F00).data
        assert data[:14].hex() == "0100010300646400000000000000"
        assert data[74:86].hex() == "be030045451f001f1f000000"
        assert data[362:375].hex() == "82002001001903000100023601"
        assert not sum(data) & 0xFF
        assert end(host, 0xB0, features=0xD6, lba=0xC24F80, count=1) == ABORTED
        host.do(0xB0, features=0xD2, lba=0xC24F00)
        assert host.do(0xB0, features=0xD0, lba=0xC24F00).data[362] == 0x02


@pytest.mark.parametrize(("multiple", "first", "count"), [(0, 2, 4), (4, 6, 8)], ids=["sectors", "multiple"])
def test_data_blocks_before_the_end_of_the_medium_are_moved(multiple: int, first: int, count: int) -> None:
    block = 512 * (multiple or 1)
    whole = first * 512 // block * block
    with as_qemu(blocks=True) as host:
        if multiple:
            host.do(0xC6, count=multiple)
        at = MIB // 512 - first
        written = host.do(0xC5 if multiple else 0x30, given=b"\x09" * (512 * count), lba=at, count=count)
        assert (written.status, written.error) == ABORTED
        assert written.moves == [block] * (whole // block + 1)
        assert host.content(MIB - 512 * first, 512 * first) == b"\x09" * whole + bytes(512 * first - whole)
        read = host.do(0xC4 if multiple else 0x20, lba=at, count=count)
        assert (read.status, read.error, read.data[:whole]) == (*ABORTED, b"\x09" * whole)
        assert end(host, 0xC8, lba=at, count=count) == ABORTED


def test_nothing_is_read_where_the_first_data_block_is_beyond_the_end() -> None:
    with as_qemu(blocks=True) as host:
        read = host.do(0x20, lba=MIB // 512, count=1)
        assert (read.status, read.error, read.moves) == (*ABORTED, [])
