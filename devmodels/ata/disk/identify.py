"""IDENTIFY DEVICE (ACS-3 §7.12): what the disk is, what it can do, and what of that is switched on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from devmodels.ata.command import AtaCommand
from devmodels.ata.constants import MAX_LBA28, Transport
from devmodels.ata.disk import sct
from devmodels.ata.disk.geometry import MAX_SECTORS
from devmodels.ata.disk.options import NAMES
from devmodels.ata.table import Command, Protocol
from devmodels.ata.transfer import DataIn
from devmodels.ata.words import Words, reset_result

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

MAX_MULTIPLE = 16
"""Most sectors in one DRQ data block of READ and WRITE MULTIPLE."""
MAX_TRIM_BLOCKS = 8
"""Most blocks of 64 ranges that one DATA SET MANAGEMENT takes."""
CYCLE_NS = 120
"""Cycle time of PIO mode 4 and multiword DMA mode 2."""
MAJOR_VERSION = 0x07F0
"""ATA/ATAPI-4 to ACS-3, a bit each (ACS-3 §7.12.7, word 80)."""
SPINS, SPIN_UP_FIRST = 0xC837, 0x738C
"""Word 2: SET FEATURES need not, or has to, spin it up; this data is complete (ACS-3 §7.12.7)."""
NO_PIO_LIMIT = 0x0200

Test = Callable[["AtaDisk"], bool]


def _always(_disk: AtaDisk) -> bool:
    return True


class Feature(NamedTuple):
    """A feature: the bit that says it is there, the one that says it is on (None: nothing says so), and whether."""

    name: str
    supported: tuple[int, int]
    enabled: tuple[int, int] | None
    on: Test = _always


FEATURES = (
    Feature("SMART", (82, 0), (85, 0), on=lambda disk: disk.smart.enabled),
    Feature("security", (82, 1), (85, 1), on=lambda disk: disk.security.user is not None),
    Feature("power management", (82, 3), (85, 3)),
    Feature("volatile write cache", (82, 5), (85, 5), on=lambda disk: disk.backend.write_cache),
    Feature("read look-ahead", (82, 6), (85, 6), on=lambda disk: disk.look_ahead),
    Feature("WRITE BUFFER", (82, 12), (85, 12)),
    Feature("READ BUFFER", (82, 13), (85, 13)),
    Feature("NOP", (82, 14), (85, 14)),
    Feature("advanced power management", (83, 3), (86, 3), on=lambda disk: bool(disk.apm)),
    Feature("power-up in standby", (83, 5), (86, 5), on=lambda disk: disk.puis),
    Feature("SET FEATURES, spin up", (83, 6), (86, 6)),
    Feature("48-bit addresses", (83, 10), (86, 10)),
    Feature("FLUSH CACHE", (83, 12), (86, 12)),
    Feature("FLUSH CACHE EXT", (83, 13), (86, 13)),
    Feature("SMART error logging", (84, 0), (87, 0)),
    Feature("SMART self-test", (84, 1), (87, 1)),
    Feature("general purpose logs", (84, 5), (87, 5)),
    Feature("WRITE DMA FUA EXT, WRITE MULTIPLE FUA EXT", (84, 6), (87, 6)),
    Feature("world wide name", (84, 8), (87, 8)),
    Feature("IDLE IMMEDIATE with unload", (84, 13), (87, 13)),
    Feature("WRITE UNCORRECTABLE EXT", (119, 2), (120, 2)),
    Feature("READ and WRITE LOG DMA EXT", (119, 3), (120, 3)),
    Feature("accessible maximum address", (119, 8), None),
)
"""Of words 82 to 87, 119 and 120."""


def _fixed() -> dict[int, int]:
    """The bits of these words that are always 1."""
    # Bit 14 says that a word is valid, bit 15 of word 86 that words 119 and 120 are.
    words = {82: 0, 85: 0, 86: 0x8000} | dict.fromkeys((83, 84, 87, 119, 120), 0x4000)
    for feature in FEATURES:
        for place in (feature.supported, feature.enabled if feature.on is _always else None):
            if place is not None:
                words[place[0]] |= 1 << place[1]
    return words


_FIXED = _fixed()
_SWITCHED = [(*each.enabled, each.on) for each in FEATURES if each.enabled and each.on is not _always]


def identify(disk: AtaDisk, _command: AtaCommand) -> DataIn:
    """The 256 words."""
    return DataIn(words(disk).pack())


def words(disk: AtaDisk) -> Words:
    """The same for logs."""
    words = Words()
    _identity(disk, words)
    _geometry(disk, words)
    _transfers(disk, words)
    _features(disk, words)
    _sectors(disk, words)
    if disk.transport is Transport.SERIAL:
        _serial(disk, words)
    else:
        words[93] = reset_result(disk.unit)
    return words


def _identity(disk: AtaDisk, words: Words) -> None:
    options = disk.options
    words[0] = 0x0040  # A fixed disk; bit 15 is 0: an ATA device.
    words[2] = SPIN_UP_FIRST if disk.waits else SPINS
    words.text(10, 10, disk.serial)
    words.text(23, 4, options.ver or NAMES[0])
    words.text(27, 20, options.model or NAMES[1])
    words[80] = MAJOR_VERSION
    words[89] = words[90] = 1  # An erasure takes up to 2 minutes.
    words[91] = disk.apm
    words[92] = disk.security.master_id
    words[128] = disk.security.word
    name = disk.wwn
    for at in range(4):
        words[108 + at] = name >> 48 - 16 * at
    words[206] = sct.SUPPORTED
    words[217] = options.rotation_rate


def _geometry(disk: AtaDisk, words: Words) -> None:
    accessible, default = disk.accessible, disk.default_geometry
    current = default if disk.translation is None else disk.geometry
    words[1], words[3], words[6] = default.cylinders, default.heads, default.sectors
    words[54], words[55], words[56] = current.cylinders, current.heads, current.sectors
    words.number(57, 2, min(current.capacity, accessible, MAX_SECTORS))
    words.number(60, 2, min(accessible, MAX_LBA28))
    words.number(100, 4, accessible)


def _transfers(disk: AtaDisk, words: Words) -> None:
    modes = disk.modes
    words[47] = 0x8000 | MAX_MULTIPLE
    words[48] = 0x4000  # No trusted computing.
    words[49] = 0x2F00  # Standby timers of the standard, IORDY, LBA, DMA.
    words[50] = 0x4000
    words[51] = NO_PIO_LIMIT
    words[53] = 0x0007  # Words 54 to 58, 64 to 70 and 88 are valid.
    words[59] = 0x0100 | disk.multiple if disk.multiple else 0
    words[63] = modes.multiword_word
    words[64] = 0x0003  # PIO modes 3 and 4.
    for word in (65, 66, 67, 68):
        words[word] = CYCLE_NS
    words[69] = 0x0C40  # READ and WRITE BUFFER DMA; every command of 28-bit addresses.
    words[88] = modes.ultra_word


def _features(disk: AtaDisk, words: Words) -> None:
    for word, bits in _FIXED.items():
        words[word] = bits
    for word, bit, on in _SWITCHED:
        if on(disk):
            words.set_bit(word, bit)


def _sectors(disk: AtaDisk, words: Words) -> None:
    options = disk.options
    size, physical = options.logical_block_size, options.physical_block_size
    words[106] = 0x4000
    if physical > size:
        words[106] |= 0x2000 | (physical // size).bit_length() - 1
    if size != 512:
        words[106] |= 0x1000
        words.number(117, 2, size // 2)
    words[209] = 0x4000  # Logical sector 0 begins a physical one.
    if disk.trims:
        words[105] = MAX_TRIM_BLOCKS
        words[169] = 0x0001
        if disk.zeroes:
            words[69] |= 0x4020  # What was trimmed reads as zeroes, the same each time.


def _serial(disk: AtaDisk, words: Words) -> None:
    depth = disk.options.queue_depth
    words[75] = max(depth - 1, 0)
    words[76] = (
        0x820E  # Gen1 to Gen3; the host may ask for link power states; READ LOG DMA EXT as READ LOG EXT.
    )
    if depth:
        words[76] |= 0x1100  # NCQ, with priorities.
    words[77] = disk.link_speed << 1
    if depth:
        words[77] |= 0x0060  # NCQ NON-DATA; SEND and RECEIVE FPDMA QUEUED.
    words[78] = 0x0040  # Software settings preservation.
    words[79] = 0x0040 if disk.preserves else 0
    words[222] = 0x107F  # Serial, up to SATA 3.1.


COMMANDS: tuple[Command[AtaDisk], ...] = (
    Command(0xEC, "IDENTIFY DEVICE", Protocol.PIO_IN, identify, "ACS-3 §7.12"),
)
