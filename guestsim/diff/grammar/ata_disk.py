"""Random commands for ATA disks (ACS-3 §7; those that are obsolete there: ATA/ATAPI-4 to 7)."""

from __future__ import annotations

import struct
from dataclasses import replace
from random import Random

from guestsim.diff.grammar.ata import (
    DATA_SET_MANAGEMENT,
    HEADS,
    LBA28,
    SECTOR,
    SECTORS,
    TRACK,
    Alone,
    Result,
    Table,
    Task,
    Way,
    content,
    identify,
    place,
)

MULTIPLE = frozenset((0x29, 0x39, 0xC4, 0xC5))
SET_MULTIPLE, SMART, SET_FEATURES = 0xC6, 0xB0, 0xEF
BY_CYLINDER = SECTORS - SECTORS % (HEADS * TRACK)
"""How many sectors have a cylinder, head and sector."""
KEY = 0xC24F00
"""LBA of SMART's commands."""

_READS: tuple[tuple[int, Way, str], ...] = (
    (0x20, "pio-in", "read-sectors"),
    (0x21, "pio-in", "read-sectors-no-retry"),
    (0x24, "pio-in", "read-sectors-ext"),
    (0x25, "dma-in", "read-dma-ext"),
    (0x29, "pio-in", "read-multiple-ext"),
    (0xC4, "pio-in", "read-multiple"),
    (0xC8, "dma-in", "read-dma"),
    (0xC9, "dma-in", "read-dma-no-retry"),
)
_WRITES: tuple[tuple[int, Way, str], ...] = (
    (0x30, "pio-out", "write-sectors"),
    (0x31, "pio-out", "write-sectors-no-retry"),
    (0x34, "pio-out", "write-sectors-ext"),
    (0x35, "dma-out", "write-dma-ext"),
    (0x39, "pio-out", "write-multiple-ext"),
    (0xC5, "pio-out", "write-multiple"),
    (0xCA, "dma-out", "write-dma"),
    (0xCB, "dma-out", "write-dma-no-retry"),
)


def transfer(random: Random) -> Task:
    """Reads and writes: PIO, DMA, several sectors a block; 28 and 48 bits of address, or cylinder, head and sector."""
    lba, count = place(random)
    code, way, name = random.choice(_READS + _WRITES)
    device = 0x40
    if code in LBA28 and random.random() < 0.3:
        device, lba = 0, min(lba, BY_CYLINDER - count)
    one = Task(name, code, way, lba=lba, count=count, device=device)
    if code in MULTIPLE:
        block = random.choice((1, 2, 4, 8, 16))
        one = replace(one, block=block, before=(Task("set-multiple-mode", SET_MULTIPLE, count=block),))
    if way in ("pio-out", "dma-out"):
        return replace(one, data=content(random, count * SECTOR))
    return replace(one, room=count * SECTOR)


def all_that_a_count_has(random: Random) -> Task:
    """A count of 0, which is 256 (ACS-3 §7.21)."""
    lba = random.randint(0, SECTORS - 256)
    if random.random() < 0.5:
        return Task("read-verify", random.choice((0x40, 0x41)), lba=lba, count=0)
    return Task("read-dma-256", random.choice((0xC8, 0xC9)), "dma-in", lba=lba, count=0, room=256 * SECTOR)


def verify(random: Random) -> Task:
    """READ VERIFY in all forms."""
    lba, count = place(random)
    return Task("read-verify", random.choice((0x40, 0x41, 0x42)), lba=lba, count=count)


def without_data(random: Random) -> Task:
    """Commands that change nothing on the medium."""
    lba, _ = place(random)
    return random.choice(
        (
            Task("flush-cache", 0xE7),
            Task("flush-cache-ext", 0xEA),
            Task("seek", 0x70, lba=lba),
            Task("recalibrate", 0x10),
            Task("security-freeze-lock", 0xF5),
            Task("initialize-device-parameters", 0x91, count=63, device=0x0F),
            Task("read-native-max", 0xF8, result="native"),
            Task("read-native-max-ext", 0x27, result="native"),
            Task("check-power-mode", 0xE5, result="active"),
            Task("set-multiple-mode", SET_MULTIPLE, count=random.choice((0, 1, 2, 4, 8, 16))),
        )
    )


def diagnose(_: Random) -> Task:
    """EXECUTE DEVICE DIAGNOSTIC."""
    return Task("execute-device-diagnostic", 0x90, result="signature")


MODES: tuple[tuple[int, str, Result], ...] = (
    (0xE0, "standby-immediate", "standby"),
    (0xE1, "idle-immediate", "idle"),
    (0xE2, "standby", "standby"),
    (0xE3, "idle", "idle"),
)


def power(random: Random) -> Task:
    """Power modes; what comes last makes the disk active again."""
    lba, count = place(random)
    awake = Task("read-verify", 0x42, lba=lba, count=count)
    code, name, result = random.choice(MODES)
    return Task(name, code, after=(Task("check-power-mode", 0xE5, result=result), awake))


def features(random: Random) -> Task:
    """SET FEATURES; the write cache is on again after it."""
    value, count = random.choice(
        (
            *((0x02, 0), (0x82, 0), (0xAA, 0), (0x55, 0), (0x66, 0), (0xCC, 0), (0x05, 0x80), (0x85, 0)),
            *((0x03, 0x0B), (0x03, 0x0C), (0x03, 0x22), (0x03, 0x45)),
        )
    )
    on = Task("set-features", SET_FEATURES, features=0x02)
    return Task(
        "set-features", SET_FEATURES, features=value, count=count, after=(on,) if value == 0x82 else ()
    )


def smart(random: Random) -> Task:
    """SMART, which is on after it; what its data are is the vendor's."""
    own = ((0, SECTOR),)
    on = Task("smart-enable", SMART, features=0xD8, lba=KEY)
    return random.choice(
        (
            on,
            Task("smart-disable", SMART, features=0xD9, lba=KEY, after=(on,)),
            Task("smart-autosave", SMART, features=0xD2, lba=KEY, count=random.choice((0, 0xF1))),
            Task("smart-status", SMART, features=0xDA, lba=KEY),
            Task("smart-data", SMART, "pio-in", features=0xD0, lba=KEY, room=SECTOR, unequal=own),
            Task("smart-thresholds", SMART, "pio-in", features=0xD1, lba=KEY, room=SECTOR, unequal=own),
            Task("smart-log", SMART, "pio-in", features=0xD5, lba=KEY | 6, count=1, room=SECTOR, unequal=own),
            Task("smart-without-key", SMART, features=0xDA, lba=random.choice((0, 0x4FC200)), fails=True),
            Task("smart-unknown", SMART, features=0xDF, lba=KEY, fails=True),
        )
    )


def refused(random: Random) -> Task:
    """Commands that nobody has, those of other devices, and what nobody takes."""
    code, value, count = random.choice(
        (
            *((code, 0, 0) for code in (0x00, 0x01, 0x08, 0x0F, 0x86, 0xA1, 0xF9, 0xFE, 0xFF)),
            *((SET_FEATURES, value, 0) for value in (0x00, 0x44, 0xFF)),
            *((SET_MULTIPLE, 0, count) for count in (3, 17, 32, 255)),
        )
    )
    return Task("refused", code, features=value, count=count, fails=True)


_THEIRS = tuple((code, 0) for code in (0x94, 0x95, 0x96, 0x97))
_THEIRS += tuple((SET_FEATURES, value) for value in (0x42, 0x67, 0x69, 0x96, 0x9A, 0xC2))
_OURS = (SET_FEATURES, 0x07), (SET_FEATURES, 0x86), (0x78, 0x02)
NOT_BOTH: tuple[tuple[int, int, Alone], ...] = (
    *((code, value, "theirs") for code, value in _THEIRS),
    *((code, value, "ours") for code, value in _OURS),
)


def not_both(random: Random) -> Task:
    """Commands, and subcommands of SET FEATURES, that only one of the two has; none has data."""
    code, value, one = random.choice(NOT_BOTH)
    return Task("not-both", code, features=value, alone=one, after=(Task("flush-cache", 0xE7),))


def beyond(random: Random) -> Task:
    """A transfer that ends behind the last sector."""
    code = random.choice((0x20, 0x24, 0x25, 0xC8))
    way: Way = "dma-in" if code in (0x25, 0xC8) else "pio-in"
    lba = random.choice((SECTORS, SECTORS + 1, 1 << 27 if code in LBA28 else 1 << 40))
    name = "beyond-dma" if way == "dma-in" else "beyond-pio"
    return Task(name, code, way, lba=lba, count=2, room=2 * SECTOR, fails=True)


def trim(random: Random) -> Task:
    """DATA SET MANAGEMENT, with ranges of sectors (ACS-3 §7.5)."""
    ranges = b"".join(struct.pack("<Q", lba | count << 48) for lba, count in (place(random), place(random)))
    data = ranges.ljust(SECTOR, b"\0")
    return Task("data-set-management", DATA_SET_MANAGEMENT, "dma-out", features=1, count=1, data=data)


DISK: Table = (
    (transfer, 12),
    (verify, 0.7),
    (all_that_a_count_has, 0.3),
    (without_data, 2.5),
    (diagnose, 0.1),
    (power, 0.4),
    (features, 0.6),
    (smart, 0.8),
    (identify, 0.4),
    (refused, 0.6),
    (not_both, 0.5),
    (beyond, 0.4),
    (trim, 0.3),
)
