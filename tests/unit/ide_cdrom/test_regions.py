"""A bus master's table of physical regions, entry by entry (SFF-8038i §1.2)."""

from __future__ import annotations

import struct

import pytest

from devmodels.conformance import Profile
from guestsim.drivers.ide_layouts import AtaCommand, BmStatus
from guestsim.drivers.ide_task import Task, Way

from .machine import IdeMachine, sector

EOT = 0x8000_0000
BASE = 0x40_0000
TABLE = 0x60_0000
OVER = (1, 0)
"""One interrupt, and the bus master has stopped."""
SHORT = (0, 0)


def read(machine: IdeMachine, count: int, *entries: tuple[int, int]) -> tuple[int, int]:
    """READ DMA of `count` sectors by a table of these words: interrupts, and the bus master's status at its end."""
    ide = machine.ide
    before = ide.interrupts
    machine.target.ram_write(BASE, b"\xee" * 0x3_0000)
    machine.target.ram_write(TABLE, b"".join(struct.pack("<II", *entry) for entry in entries))
    ide.prepare(TABLE, to_memory=True)
    ide.write_task(0, Task(AtaCommand.READ_DMA, lba=0, count=count))
    ide.start(to_memory=True)
    machine.run(machine.guest.settle())
    status = ide.stop()
    assert machine.violations() == []
    return ide.interrupts - before, status


def content(count: int) -> bytes:
    return b"".join(sector(number) if number < 64 else bytes(512) for number in range(count))


@pytest.mark.parametrize("shared", [True, False])
def test_a_count_of_0_is_64_kib(shared: bool) -> None:
    with IdeMachine(shared=shared) as machine:
        assert read(machine, 129, (BASE, 0), (BASE + 0x2_0000, 512 | EOT)) == OVER
        assert machine.target.ram_read(BASE, 0x1_0001) == content(128) + b"\xee"
        assert machine.target.ram_read(BASE + 0x2_0000, 513) == bytes(512) + b"\xee"


def test_bit_0_of_address_and_count_means_nothing() -> None:
    with IdeMachine() as machine:
        status = read(machine, 1, (BASE | 1, 3), (BASE + 0x100, 255), (BASE + 0x301, 257 | EOT))
        assert status == OVER
        ram = machine.target.ram_read
        assert ram(BASE, 3) == content(1)[:2] + b"\xee"
        assert ram(BASE + 0x100, 255) == content(1)[2:256] + b"\xee"
        assert ram(BASE + 0x300, 257) == content(1)[256:] + b"\xee"


def test_the_last_entry_is_the_last() -> None:
    """What lies behind it is not looked at: the bus master stops, and the device waits."""
    with IdeMachine() as machine:
        assert read(machine, 2, (BASE, 512 | EOT), (BASE + 0x1000, 512 | EOT)) == SHORT
        assert machine.target.ram_read(BASE, 513) == content(1) + b"\xee"
        assert machine.target.ram_read(BASE + 0x1000, 1) == b"\xee"
        machine.run(machine.ide.reset())


@pytest.mark.parametrize("length", [2, 300, 510, 514, 812])
def test_a_read_fills_a_table_that_is_too_short(length: int) -> None:
    """A device moves whole sectors: what of the last one has no place goes nowhere; a next table gets the others."""
    with IdeMachine() as machine:
        assert read(machine, 3, (BASE, length | EOT)) == SHORT
        assert machine.target.ram_read(BASE, length + 1) == content(2)[:length] + b"\xee"
        done = (length + 511) // 512 * 512
        rest = struct.pack("<II", BASE + 0x1000, 1536 - done | EOT)
        machine.target.ram_write(TABLE, rest)
        machine.ide.prepare(TABLE, to_memory=True)
        machine.ide.start(to_memory=True)
        machine.run(machine.guest.settle())
        assert (machine.ide.stop(), machine.ide.alternate_status) == (0, 0x50)
        assert machine.target.ram_read(BASE + 0x1000, 1537 - done) == content(3)[done:] + b"\xee"


@pytest.mark.parametrize("profile", Profile)
def test_a_table_that_is_long_enough_is_enough_for_every_profile(profile: Profile) -> None:
    with IdeMachine() as machine:
        machine.target.assembly.violations.profile = profile
        assert read(machine, 3, (BASE, 512), (BASE + 0x1000, 1024 | EOT)) == OVER
        assert machine.target.ram_read(BASE, 512) == content(1)
        assert machine.target.ram_read(BASE + 0x1000, 1025) == content(3)[512:] + b"\xee"


def test_regions_that_are_left_are_told_of() -> None:
    with IdeMachine() as machine:
        status = read(machine, 1, (BASE, 512), (BASE + 0x1000, 512 | EOT))
        assert status == (1, BmStatus.ACTIVE)
        assert machine.target.ram_read(BASE + 0x1000, 1) == b"\xee"
        assert read(machine, 1, (BASE, 512 | EOT)) == OVER


@pytest.mark.parametrize("length", [1024, 4096, 0])
def test_of_the_last_region_no_more_is_filled_than_there_is_data(length: int) -> None:
    with IdeMachine() as machine:
        status = read(machine, 2, (BASE, 512), (BASE + 0x1_0000, length | EOT))
        assert status == (1, BmStatus.ACTIVE)
        assert machine.target.ram_read(BASE, 513) == content(1) + b"\xee"
        assert machine.target.ram_read(BASE + 0x1_0000, 1024) == content(2)[512:] + b"\xee" * 512


def test_a_table_without_an_end_is_64_kib_long() -> None:
    """The 8192nd entry is the last one, whatever it says."""
    with IdeMachine() as machine:
        entries = [(BASE + 2 * number, 2) for number in range(8192)] + [(BASE + 0x8000, 512 | EOT)]
        assert read(machine, 33, *entries) == SHORT
        assert machine.target.ram_read(BASE, 0x4001) == content(32) + b"\xee"
        assert machine.target.ram_read(BASE + 0x8000, 1) == b"\xee"
        machine.run(machine.ide.reset())


@pytest.mark.parametrize("lengths", [(510,), (2, 508), (512, 2)])
def test_a_write_takes_whole_sectors(lengths: tuple[int, ...]) -> None:
    """Where the table is too short, the sector that it does not fill is left alone."""
    with IdeMachine() as machine:
        ide = machine.ide
        machine.target.ram_write(BASE, b"\xaa" * 1024)
        at = [BASE + sum(lengths[:number]) for number in range(len(lengths))]
        entries = [struct.pack("<II", address, length) for address, length in zip(at, lengths, strict=True)]
        entries[-1] = struct.pack("<II", at[-1], lengths[-1] | EOT)
        machine.target.ram_write(TABLE, b"".join(entries))
        ide.prepare(TABLE, to_memory=False)
        ide.write_task(0, Task(AtaCommand.WRITE_DMA, lba=3, count=2))
        ide.start(to_memory=False)
        machine.run(machine.guest.settle())
        assert ide.stop() & BmStatus.ACTIVE == 0
        machine.run(ide.reset())
        reply = machine.run(ide.do(0, Task(AtaCommand.READ_DMA, lba=3, count=2, way=Way.DMA_IN, length=1024)))
        assert (
            reply.data
            == b"\xaa" * (sum(lengths) // 512 * 512) + (content(5)[1536:])[sum(lengths) // 512 * 512 :]
        )


# --- tables that are wrong

ENTRIES = 0x1000 // 8
"""So many has the longest table of QEMU's."""
NOWHERE = 0xE000_0000
READY, WAITING = 0x50, 0x58


@pytest.mark.parametrize(
    ("profile", "ended", "data"),
    [("strict", (1, READY, 0), content(3)), ("qemu", (0, READY, 0), b"\xee" * 1536)],
)
def test_a_table_of_more_than_4096_bytes(profile: str, ended: tuple[int, int, int], data: bytes) -> None:
    """QEMU's has ended by then, the command is over without data and interrupt."""
    with IdeMachine(profile=profile) as machine:
        entries = [(BASE + 2 * number, 2) for number in range(3 * 256)]
        entries[-1] = (entries[-1][0], 2 | EOT)
        interrupts, status = read(machine, 3, *entries)
        assert (interrupts, machine.ide.alternate_status, status) == ended
        assert machine.target.ram_read(BASE, 1536) == data


@pytest.mark.parametrize(("profile", "ended"), [("strict", (1, BmStatus.ACTIVE)), ("qemu", OVER)])
def test_after_4096_bytes_of_a_table_regions_may_be_left(profile: str, ended: tuple[int, int]) -> None:
    with IdeMachine(profile=profile) as machine:
        assert read(machine, 2, *((BASE + 2 * number, 2) for number in range(ENTRIES))) == ended
        assert machine.target.ram_read(BASE, 1025) == content(2) + b"\xee"


@pytest.mark.parametrize(
    ("profile", "ended", "data"),
    [
        ("strict", (0, WAITING, BmStatus.ERROR), b"\xee" * 512),
        ("qemu", (1, READY, BmStatus.ACTIVE), content(1)),
    ],
)
def test_a_table_outside_memory(profile: str, ended: tuple[int, int, int], data: bytes) -> None:
    """It is an error, or, as QEMU has it, one of zeroes: all regions are the first 64 KiB of memory."""
    with IdeMachine(profile=profile) as machine:
        ide = machine.ide
        before = ide.interrupts
        machine.target.ram_write(0, b"\xee" * 512)
        ide.prepare(NOWHERE, to_memory=True)
        ide.write_task(0, Task(AtaCommand.READ_DMA, lba=0, count=1))
        ide.start(to_memory=True)
        machine.run(machine.guest.settle())
        assert (ide.interrupts - before, ide.alternate_status, ide.stop()) == ended
        assert machine.target.ram_read(0, 512) == data
        assert machine.violations() == ["SFF-8038i §2.2"]
        machine.run(ide.reset())
