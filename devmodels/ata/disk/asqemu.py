"""The commands of a disk under profile `qemu`: those of QEMU 7.2's `ide-hd`, and what it tells of itself.

Where QEMU's does as the standards have it the handlers are the disk's own.  No command of the power, security and
accessible maximum address sets does anything, and what IDENTIFY DEVICE was asked for first stays, but for a few words.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import BLOCK, HEAD, LBA, MAX_LBA28, Status, Transport
from devmodels.ata.disk import basic, cache, power, rw, trim
from devmodels.ata.disk.memory import MAX_TESTS
from devmodels.ata.disk.options import NAMES_AS_QEMU
from devmodels.ata.disk.smart import KEY, KEY_SHIFT, smart_command
from devmodels.ata.features import TAKEN, mode_words, set_features
from devmodels.ata.table import Addressing, Command, Handler, Protocol, Sub
from devmodels.ata.transfer import DataIn
from devmodels.ata.words import Words, checksummed

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk
    from devmodels.ata.disk.options import AtaDiskOptions

ERRORS_LOG, TESTS_LOG = 0x01, 0x06
CYCLE_NS = 120
WRITE_CACHE = 1 << 5

ATTRIBUTES = (
    (1, 0x03, 0x64, 0, 0x06),
    (3, 0x03, 0x64, 0x10, 0),
    (4, 0x02, 0x64, 0x64, 0x14),
    (5, 0x03, 0x64, 0, 0x24),
    (9, 0x03, 0x64, 1, 0),
    (12, 0x03, 0x64, 0, 0),
    (190, 0x03, 0x45, 0x1F1F_001F, 0x32),
)
"""Number, flags, how good it is and has been, raw value, threshold."""


# --- IDENTIFY DEVICE


def tell(disk: AtaDisk, _command: AtaCommand) -> DataIn:
    """IDENTIFY DEVICE: as it was told first, but for its size and what SET FEATURES has changed since."""
    memory = disk.memory
    if not memory.identity:
        memory.identity = _words(disk).plain()
    sectors = disk.sectors
    low, high = min(sectors, MAX_LBA28) & 0xFFFF, min(sectors, MAX_LBA28) >> 16
    memory.know({60: low, 61: high, **{100 + at: sectors >> 16 * at for at in range(4)}})
    return DataIn(memory.identity)


def _words(disk: AtaDisk) -> Words:
    words, options = Words(), disk.options
    geometry, cylinders = disk.geometry, disk.default_geometry.cylinders
    heads, sectors = geometry.heads, geometry.sectors
    words[0] = 0x0040
    for word in (1, 54):
        words[word] = cylinders
    for word in (3, 55):
        words[word] = heads
    words[4], words[5] = 512 * sectors, 512
    for word in (6, 56):
        words[word] = sectors
    words.text(10, 10, disk.serial)
    words[20], words[21], words[22] = 3, 512, 4
    words.text(23, 4, options.ver or NAMES_AS_QEMU[0])
    words.text(27, 20, options.model or NAMES_AS_QEMU[1])
    words[47] = 0x8000 | disk.MAX_MULTIPLE
    words[48], words[49] = 1, 0x0B00
    words[51] = words[52] = 0x0200
    words[53] = 0x0007
    words.number(57, 2, cylinders * heads * sectors)
    words[59] = 0x0100 | disk.multiple if disk.multiple else 0
    words[62] = words[63] = 0x0007
    words[64] = 0x0003
    for word in (65, 66, 67, 68):
        words[word] = CYCLE_NS
    if options.discard_granularity:
        words[69], words[169] = 0x4000, 1
    if disk.transport is Transport.SERIAL and options.queue_depth:
        words[75], words[76] = options.queue_depth - 1, 0x0100
    words[80], words[81] = 0x00F0, 0x0016
    words[82], words[83], words[84] = 0x4021, 0x7400, 0x4000
    words[85], words[86], words[87] = _cache_word(on=disk.backend.write_cache), 0x3400, 0x4000
    words[88] = 0x203F
    words[93] = 0x6001
    if options.physical_block_size:
        ratio = options.physical_block_size // options.logical_block_size
        words[106] = 0x6000 | ratio.bit_length() - 1
    if options.wwn:
        words.set_bit(84, 8)
        words.set_bit(87, 8)
        for at in range(4):
            words[108 + at] = options.wwn >> 48 - 16 * at
    words[217] = options.rotation_rate
    return words


# --- SET FEATURES


def _cache_word(*, on: bool) -> int:
    return 0x4001 | (WRITE_CACHE if on else 0)


def cache_on(disk: AtaDisk, _command: AtaCommand) -> None:
    """The write cache is switched on."""
    disk.backend.write_cache = True
    disk.memory.know({85: _cache_word(on=True)})


async def cache_off(disk: AtaDisk, command: AtaCommand) -> None:
    """The write cache is switched off, and what it holds made stable."""
    disk.backend.write_cache = False
    disk.memory.know({85: _cache_word(on=False)})
    await disk.flush(command)


def transfer_mode(disk: AtaDisk, command: AtaCommand) -> None:
    """Every mode from 0 to 7 is there."""
    disk.memory.know(mode_words(_count(disk, command)))


def revert(disk: AtaDisk, _command: AtaCommand, *, on: bool) -> None:
    """Whether the next reset has the default translation."""
    disk.reverts = on


# --- what is over at once


def _count(disk: AtaDisk, command: AtaCommand) -> int:
    """All of a count behind an HBA, the current content of a channel's."""
    return command.taskfile.count & disk.count_bits


def _show_count(disk: AtaDisk, command: AtaCommand, value: int) -> None:
    command.taskfile.count = command.taskfile.count & ~disk.count_bits | value


def _without_dsc(_disk: AtaDisk, command: AtaCommand) -> None:
    command.taskfile.status = Status.DRDY


def _show(disk: AtaDisk, command: AtaCommand, *, count: int) -> None:
    _show_count(disk, command, count)


def verify(disk: AtaDisk, command: AtaCommand) -> None:
    """READ VERIFY SECTORS reads nothing, nor looks whether the sectors are there."""
    if command.taskfile.command != 0x42 and not _count(disk, command):
        _show_count(disk, command, 0x100 if disk.transport is Transport.SERIAL else 0)


def initialize(disk: AtaDisk, command: AtaCommand) -> None:
    """INITIALIZE DEVICE PARAMETERS: with no sectors, too, after which no address by cylinders can be used."""
    sectors = _count(disk, command) & 0xFF
    if sectors:
        disk.translation = (command.taskfile.device & HEAD) + 1, sectors


def set_multiple(disk: AtaDisk, command: AtaCommand) -> None:
    """SET MULTIPLE MODE: what is refused leaves the number as it is."""
    count = _count(disk, command)
    if count & 0xFF and (count & 0xFF > disk.MAX_MULTIPLE or count & (count - 1)):
        raise AtaError
    disk.multiple = count & 0xFF


def native_max(disk: AtaDisk, command: AtaCommand, *, wide: bool) -> None:
    """READ NATIVE MAX ADDRESS (EXT), by cylinder, head and sector, too."""
    taskfile, last = command.taskfile, max(disk.sectors - 1, 0)
    if not wide and disk.transport is Transport.SERIAL:
        taskfile.count = taskfile.count or 0x100
    if not taskfile.device & LBA:
        disk.geometry.place(last, taskfile)
    elif wide:
        taskfile.lba = last
    else:
        taskfile.lba28 = last


# --- SMART


def _check(disk: AtaDisk, command: AtaCommand) -> None:
    if command.taskfile.lba >> KEY_SHIFT & 0xFFFF != KEY or not disk.smart.enabled:
        raise AtaError


def switch(disk: AtaDisk, command: AtaCommand, *, on: bool) -> None:
    """SMART ENABLE and DISABLE OPERATIONS."""
    if on and command.taskfile.lba >> KEY_SHIFT & 0xFFFF == KEY:
        disk.smart.enabled = True
    _check(disk, command)
    disk.smart.enabled = on


def autosave(disk: AtaDisk, command: AtaCommand) -> None:
    """SMART ENABLE/DISABLE ATTRIBUTE AUTOSAVE: told in SMART READ DATA."""
    _check(disk, command)
    which = command.taskfile.lba & 0xFF
    if which not in (0x00, 0xF1):
        raise AtaError
    disk.memory.autosave = which != 0


def status(disk: AtaDisk, command: AtaCommand) -> None:
    """SMART RETURN STATUS: no disk is about to fail."""
    _check(disk, command)


def thresholds(disk: AtaDisk, command: AtaCommand) -> DataIn:
    """SMART READ ATTRIBUTE THRESHOLDS."""
    _check(disk, command)
    return DataIn(
        checksummed(b"\1\0" + b"".join(struct.pack("<BB10x", each[0], each[-1]) for each in ATTRIBUTES))
    )


def attributes(disk: AtaDisk, command: AtaCommand) -> DataIn:
    """SMART READ DATA."""
    _check(disk, command)
    page = b"\1\0" + b"".join(
        struct.pack("<BHBBIHx", number, flags, good, good, raw, 0)
        for number, flags, good, raw, _threshold in ATTRIBUTES
    )
    off_line = 0x82 if disk.memory.autosave else 0x02
    capabilities = bytes((off_line, 0, 0x20, 0x01, 0, 0x19, 0x03, 0, 0x01, 0, 0x02, 0x36, 0x01))
    return DataIn(checksummed(page.ljust(362, b"\0") + capabilities))


def read_log(disk: AtaDisk, command: AtaCommand) -> DataIn:
    """SMART READ LOG: a page of the summary error log or of the self-test log, whatever the count says."""
    _check(disk, command)
    address, memory = command.taskfile.lba & 0xFF, disk.memory
    page = bytearray(BLOCK - 1)
    page[0] = 1
    if address == TESTS_LOG:
        for at, which in enumerate(memory.tests):
            page[2 + 24 * at : 6 + 24 * at] = bytes((which, 0, 0x34, 0x12))
        page[508] = memory.last
    elif address != ERRORS_LOG:
        raise AtaError
    return DataIn(checksummed(bytes(page)))


def test_itself(disk: AtaDisk, command: AtaCommand) -> None:
    """SMART EXECUTE OFF-LINE IMMEDIATE: every test is over at once, and has passed."""
    _check(disk, command)
    which, memory = command.taskfile.lba & 0xFF, disk.memory
    if which > 2:
        raise AtaError
    memory.last = memory.last % MAX_TESTS + 1
    memory.tests[memory.last - 1 : memory.last] = [which]


# --- the table

_OWN = {each.opcode: each for each in (*basic.COMMANDS, *cache.COMMANDS, *rw.COMMANDS)}
AS_IT_IS = (
    *(0x10, 0x20, 0x21, 0x24, 0x25, 0x29, 0x30, 0x31, 0x34, 0x35, 0x39, 0x60, 0x61, 0x70, 0x90),
    *(0xC4, 0xC5, 0xC8, 0xC9, 0xCA, 0xCB, 0xE7, 0xEA),
)
"""Codes of commands that go as those of any disk."""
POWER = (0x94, 0x95, 0x96, 0x97, 0x99, 0xE0, 0xE1, 0xE2, 0xE3, 0xE6)
"""Codes of commands for power modes, of which there is one; 94h to 99h are retired since ATA-4."""


def _plain(
    opcode: int, name: str, handler: Handler[AtaDisk], addressing: Addressing = Addressing.NONE
) -> Command[AtaDisk]:
    return Command(opcode, name, Protocol.NON_DATA, handler, addressing=addressing)


def _smart(
    value: int, name: str, handler: Handler[AtaDisk], protocol: Protocol = Protocol.NON_DATA
) -> Command[AtaDisk]:
    return smart_command(value, name, protocol, handler)


COMMANDS: tuple[Command[AtaDisk], ...] = (
    *(_OWN[opcode] for opcode in AS_IT_IS),
    Command(
        0x06,
        "DATA SET MANAGEMENT, TRIM",
        Protocol.DMA_OUT,
        trim.trim_as_qemu,
        "ACS-3 §7.5",
        sub=Sub.FEATURES,
        value=1,
        feature="TRIM",
    ),
    Command(
        0x3C,
        "WRITE VERIFY",
        Protocol.PIO_OUT,
        partial(rw.transfer, out=True),
        "ATA-3",
        addressing=Addressing.LBA28,
    ),
    *(_plain(opcode, "READ VERIFY SECTOR(S)", verify) for opcode in (0x40, 0x41, 0x42)),
    *(_plain(opcode, "a power mode", _without_dsc) for opcode in POWER),
    *(_plain(opcode, "CHECK POWER MODE", partial(_show, count=power.ACTIVE)) for opcode in (0x98, 0xE5)),
    _plain(0x27, "READ NATIVE MAX ADDRESS EXT", partial(native_max, wide=True)),
    _plain(0xF8, "READ NATIVE MAX ADDRESS", partial(native_max, wide=False)),
    _plain(0x91, "INITIALIZE DEVICE PARAMETERS", initialize),
    _plain(0xC6, "SET MULTIPLE MODE", set_multiple),
    _plain(0xF5, "SECURITY FREEZE LOCK", partial(_show, count=0)),
    Command(0xEC, "IDENTIFY DEVICE", Protocol.PIO_IN, tell, "ACS-3 §7.12"),
    set_features(0x02, "enable volatile write cache", cache_on),
    set_features(0x82, "disable volatile write cache", cache_off),
    set_features(0x03, "set transfer mode", transfer_mode),
    set_features(0x66, "disable reverting to power-on defaults", partial(revert, on=False)),
    set_features(0xCC, "enable reverting to power-on defaults", partial(revert, on=True)),
    *(set_features(value, "taken", basic.nothing) for value in TAKEN),
    _smart(0xD0, "READ DATA", attributes, Protocol.PIO_IN),
    _smart(0xD1, "READ ATTRIBUTE THRESHOLDS", thresholds, Protocol.PIO_IN),
    _smart(0xD2, "ENABLE/DISABLE ATTRIBUTE AUTOSAVE", autosave),
    _smart(0xD4, "EXECUTE OFF-LINE IMMEDIATE", test_itself),
    _smart(0xD5, "READ LOG", read_log, Protocol.PIO_IN),
    _smart(0xD8, "ENABLE OPERATIONS", partial(switch, on=True)),
    _smart(0xD9, "DISABLE OPERATIONS", partial(switch, on=False)),
    _smart(0xDA, "RETURN STATUS", status),
)


def of(options: AtaDiskOptions) -> tuple[Command[AtaDisk], ...]:
    """Those of a disk with such options."""
    absent = {"NCQ" if not options.queue_depth else "", "TRIM" if not options.discard_granularity else ""} - {
        ""
    }
    return tuple(each for each in COMMANDS if each.feature not in absent)
