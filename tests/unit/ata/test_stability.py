"""What a power cut leaves of the writes of an ATA disk that has a volatile write cache."""

from __future__ import annotations

import pytest

from devmodels.ata.constants import LBA
from tests.unit.ata.host import MIB, Host
from tests.unit.powercut import cut, volatile

DATA = bytes(range(256)) * 4
AT = 7 * 512
QUEUED_FUA = LBA | 0x80
CACHE_OFF = 0x82


def host() -> Host:
    """With READ and WRITE MULTIPLE switched on."""
    made = Host(node=volatile(MIB))
    made.do(0xC6, count=2)
    return made


def left(host: Host) -> bytes:
    return cut(host.node)[AT : AT + len(DATA)]


@pytest.mark.parametrize("opcode", [0x3D, 0xCE])
def test_what_was_written_with_fua_is_stable_when_the_command_ends(opcode: int) -> None:
    """WRITE DMA FUA EXT, WRITE MULTIPLE FUA EXT (ACS-3), whatever the write cache does with others."""
    with host() as disk:
        assert not disk.do(opcode, lba=7, count=2, given=DATA).error
        assert left(disk) == DATA


def test_what_was_queued_with_fua_is_stable_when_the_command_ends() -> None:
    """WRITE FPDMA QUEUED (ACS-3), bit 7 of the device field."""
    with host() as disk:
        assert not disk.do(0x61, lba=7, features=2, count=0, device=QUEUED_FUA, given=DATA).error
        assert left(disk) == DATA


@pytest.mark.parametrize("opcode", [0x35, 0x39, 0x61])
def test_what_was_written_without_may_be_lost(opcode: int) -> None:
    with host() as disk:
        count, features = (0, 2) if opcode == 0x61 else (2, 0)
        assert not disk.do(opcode, lba=7, count=count, features=features, given=DATA).error
        assert left(disk) == bytes(len(DATA))


@pytest.mark.parametrize("opcode", [0xE7, 0xEA])
def test_what_was_written_before_a_flush_is_stable_when_that_ends(opcode: int) -> None:
    """FLUSH CACHE, FLUSH CACHE EXT (ACS-3 §7.10, §7.11)."""
    with host() as disk:
        disk.do(0x35, lba=7, count=2, given=DATA)
        assert not disk.do(opcode).error
        assert left(disk) == DATA


@pytest.mark.parametrize("before", [True, False])
def test_a_write_cache_that_is_off_keeps_nothing(before: bool) -> None:
    """SET FEATURES, subcommand 82h (ACS-3 §7.45): of writes `before` it nor of those after it."""
    with host() as disk:
        if before:
            disk.do(0x35, lba=7, count=2, given=DATA)
        assert not disk.do(0xEF, features=CACHE_OFF).error
        if not before:
            disk.do(0x35, lba=7, count=2, given=DATA)
        assert left(disk) == DATA
