"""Parameter lists that commands may take, with fields that are often right and sometimes anything."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from random import Random

from tests.unit.scsi.initiator import BLOCKS

NAME = 0x3000_0000_0000_0001
"""The NAA name of the disk; its neighbour's is one more."""
EDGES = (
    0,
    1,
    2,
    7,
    8,
    BLOCKS - 4,
    BLOCKS - 1,
    BLOCKS,
    BLOCKS + 1,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    2**63,
    2**64 - 1,
)


DRIVE_VALUES: Mapping[str, Sequence[int]] = {
    "polled": (1, 1, 1, 1, 0),
    "requested_classes": (0x10, 0x02, 0x04, 0x7E, 0),
    "rt": (0, 1, 2, 3),
    "starting_feature": (0, 0, 0x10, 0x1E, 0x200),
    "format": (0, 0, 1, 2, 4, 5, 0xFF),
    "parameter_list": (1, 2, 3, 0),
    "vendor_control": (0, 0, 0, 1, 2),
    "number": (0, 1, 1, 4, 0xAA),
    "track_number": (1, 3, 9),
    "data_type": (0, 0, 0, 1),
    "address_type": (0, 1, 2, 3),
    "address": (0, 1, 1, 30),
    "media_type": (0, 1, 1, 0, 2),
    "layer_number": (0, 0, 0, 1),
    "performance_type": (0, 0, 3, 1),
    "maximum_descriptors": (1, 1, 0, 7),
    "starting_lba": (0, 5),
    "trigger_lba": (0, 5),
    "rotational_control": (0, 1, 2),
    "sector_type": (0, 0, 0, 1, 2, 4),
    "c2_errors": (0, 0, 0, 1, 2),
    "sub_channel_selection": (0, 0, 1, 2, 4),
    "blocks_23_16": (0,),
    "power_condition": (0, 0, 0, 0, 2, 3, 5, 4),
    "start_minute": (0, 0, 0, 0xFF),
    "end_minute": (0,),
    "start_second": (2, 2, 2, 0xFF),
    "end_second": (2, 2, 3),
    "start_frame": (0, 10, 41, 60, 0xFF),
    "end_frame": (0, 12, 45, 74),
}
"""The same of drives alone."""
VALUES: Mapping[str, Sequence[int]] = {
    "page_code": (
        0,
        1,
        2,
        3,
        8,
        0x0A,
        0x0E,
        0x1A,
        0x2A,
        0x0C,
        0x19,
        0x1C,
        0x2F,
        0x3F,
        0x80,
        0x83,
        0x86,
        0x8F,
        0xB0,
        0xB1,
        0xB2,
    ),
    "subpage_code": (0, 0, 0, 1, 2, 0xFF),
    "parameter_pointer": (0, 0, 0, 1, 0x100),
    "select_report": (0, 1, 2, 2, 3),
    "reporting_options": (0, 1, 2, 3),
    "scope": (0, 0, 0, 0, 0, 1),
    "type": (1, 1, 3, 5, 6, 7, 8, 0, 2),
    "list_identifier": (0, 1, 2),
    "mode": (0, 2, 2, 3, 10, 10, 11, 1),
    "self_test": (1,),
    "bytchk": (0, 0, 1, 1, 2, 3),
    "priority_reported": (0, 1),
    "priority_to_set": (0, 1, 2),
    "prevent": (0, 0, 0, 1, 2),
    "atomic_boundary": (0, 0, 0, 1),
    "buffer_id": (0,),
    "offset_23_16": (0,),
    "length_23_16": (0,),
    "defect_list_format": (0, 4, 5),
    **DRIVE_VALUES,
}
"""What fields of CDBs, by name, may sensibly hold."""


def number(random: Random, bits: int) -> int:
    """A number that is small, near the end of a disk, or as large as can be; or any."""
    value = random.choice(EDGES) if random.random() < 0.8 else random.getrandbits(64)
    return value & (1 << bits) - 1


def small(random: Random, most: int) -> int:
    """A number that is mostly small."""
    return random.randint(0, most) if random.random() < 0.95 else random.getrandbits(16)


def ranges(random: Random) -> bytes:
    """UNMAP: descriptors whose count and lengths may disagree."""
    count = random.choice((0, 1, 1, 1, 2, 3, 300))
    lbas = [random.randrange(BLOCKS) if random.random() < 0.8 else number(random, 64) for _ in range(count)]
    body = b"".join(struct.pack(">QI4x", lba, random.choice((0, 1, 8))) for lba in lbas)
    said = len(body) if random.random() < 0.9 else random.getrandbits(16)
    return struct.pack(">HH4x", said + 6 & 0xFFFF, said) + body


_MODE_PAGES = tuple(
    bytes.fromhex(page)
    for page in (
        "0812 04" + "00" * 17,
        "0812 00" + "00" * 17,
        "0812 05" + "00" * 17,
        "0a0a 04 10 00 40" + "00" * 6,
        "0a0a 00 10 00 00" + "00" * 6,
        "0a0a 04 10 08" + "00" * 7,
        "0a0a 02 10 00" + "00" * 7,
        "0a0a 00 16" + "00" * 8,
        "0a0a 00 12 20 40" + "00" * 6,
        "0a0a 04 10 30" + "00" * 7,
        "1c0a 04 02" + "00" * 8,
        "1c0a 04 06" + "00" * 8,
        "1c0a 00 00" + "00" * 8,
        "1c0a 04 03" + "00" * 8,
        "010a c0" + "00" * 9,
        "5c02 002c" + "00" * 12 + "8002 0000 0000 0000" * 4,
        "5c02 002c" + "00" * 12 + "8101 0000 0000 0001" + "0000 0000 0000 0000" * 3,
        "4a01 001c" + "00" * 28,
        "3f0a" + "00" * 10,
        "3f3f",
    )
)
_HEADS = tuple(
    bytes.fromhex(head)
    for head in (
        "00" * 4,
        "00" * 4,
        "00" * 8,
        "00" * 8,
        "00 00 00 08  00 00 04 00 00 00 02 00",
        "00 00 00 08  00 00 00 00 00 00 01 00",
        "00 00 00 00 01 00 00 10" + "00" * 12 + "00 00 02 00",
        "00 00 00 ff",
    )
)


def pages(random: Random) -> bytes:
    """MODE SELECT: a header of either length and a page or two, perhaps cut off."""
    data = random.choice(_HEADS) + b"".join(random.choices(_MODE_PAGES, k=random.choice((0, 1, 1, 1, 2))))
    return data if random.random() < 0.9 else data[: random.randrange(len(data) + 1)]


_NAMES = (
    struct.pack(">B3xQ12x", 6, 1),
    struct.pack(">B3xQ12x", 6, 2),
    struct.pack(">B3xQ12x", 6, 3),
    bytes((0x45, 0, 0, 20)) + b"iqn.a,i,0x1".ljust(20, b"\0"),
    bytes((0x45, 0, 0xFF, 0xFF)),
    b"\x05",
)


def reservation(random: Random) -> bytes:
    """PERSISTENT RESERVE OUT: keys that are often those in use, and other nexuses by name."""
    keys = random.choice((0, 1, 1, 1)), random.choice((0, 1, 1, 1, 2))
    flags = random.choice((0, 0, 0, 1, 4, 5))
    if random.random() < 0.85:
        return struct.pack(">QQ4xB3x", *keys, flags)
    names = b"".join(random.choices(_NAMES, k=random.randint(0, 3)))
    said = len(names) if random.random() < 0.8 else number(random, 32)
    return struct.pack(">QQ4xB3xI", *keys, flags | 8, said) + names


def move(random: Random) -> bytes:
    """PERSISTENT RESERVE OUT, REGISTER AND MOVE."""
    name = random.choice(_NAMES[:2]) if random.random() < 0.8 else random.choice(_NAMES)
    said = len(name) if random.random() < 0.9 else number(random, 32)
    keys, flags = (1, random.choice((0, 1, 1, 1))), random.choice((0, 0, 0, 1, 2, 3))
    return struct.pack(">QQxBHI", *keys, flags, random.choice((1, 1, 1, 0)), said) + name


def copies(random: Random) -> bytes:
    """EXTENDED COPY: between the disk and its neighbour, within one of them, or with one that is not there."""
    targets = [
        struct.pack(">BBHBBxB20sBB2s", 0xE4, 0, 0, 1, 3, 8, name.to_bytes(8, "big"), 0, 0, b"\x02\x00")
        for name in random.choices((NAME, NAME, NAME, NAME + 1, NAME + 1, 0), k=random.choice((1, 2, 2, 17)))
    ]
    if random.random() < 0.1:
        targets[-1] = random.randbytes(32)
    segments = []
    for _ in range(random.choice((0, 1, 1, 1, 2, 65))):
        ends = random.choice((0, 0, 0, 1)), random.choice((0, 1, 1, 2))
        lbas = small(random, 100), small(random, 100)
        if random.random() < 0.7:
            segments.append(
                struct.pack(">BBHHHxxHQQ", 2, random.choice((0, 2)), 24, *ends, random.randrange(10), *lbas)
            )
        else:
            segments.append(
                struct.pack(
                    ">BBHHHIQQHH", 10, 0, 28, *ends, random.randrange(3000), *lbas, 0, random.randrange(600)
                )
            )
    body = b"".join(segments)
    said = len(body) if random.random() < 0.9 else number(random, 32)
    usage = random.choice((0, 0, 0, 0x10, 0x18, 0x08))
    head = struct.pack(
        ">BBH4xII", random.randrange(3), usage, 32 * len(targets), said, random.choice((0, 0, 0, 4))
    )
    return head + b"".join(targets) + body


def formats(random: Random) -> bytes:
    """FORMAT UNIT: a header of either length, perhaps with a pattern."""
    options = random.choice((0, 0x02, 0x80, 0x82, 0x88, 0x8A, 0xC2, 0x0A, 0xFF))
    head = struct.pack(">BBH", random.choice((0, 0, 0, 1)), options, random.choice((0, 0, 0, 4)))
    if random.random() < 0.3:
        head = struct.pack(">BBxBI", 0, options, 0, random.choice((0, 0, 4)))
    pattern = struct.pack(">BBH", 0, random.choice((0, 1, 1, 2)), random.choice((0, 1, 4, 513, 0xFFFF)))
    return head + pattern + random.randbytes(4)


def overwrites(random: Random) -> bytes:
    """SANITIZE, OVERWRITE: a pattern and how often."""
    pattern = random.randbytes(random.choice((1, 4, 512, 600)))
    how = random.choice((1, 2, 0x81, 0, 0x20, 0xFF))
    return (
        struct.pack(">BxH", how, len(pattern) if random.random() < 0.9 else random.getrandbits(16)) + pattern
    )


def priorities(random: Random) -> bytes:
    """SET PRIORITY: of this nexus or of one that is named."""
    name = random.choice((b"", *_NAMES))
    return struct.pack(">BxH2xH", random.randrange(16), random.choice((0, 1)), len(name)) + name


_DRIVE_PAGES = tuple(
    bytes.fromhex(page)
    for page in (
        "010a c0 05" + "00" * 8,
        "010a 00 00" + "00" * 8,
        "0e0e 06 0000000000 01 80 02 80 00 00 00 00",
        "0e0e 00 0000000000 01 80 02 80 00 00 00 00",
        "1a0a 00 03 0000 0001 0000 0002",
        "1a0a 00 02 0000 0000 0000 0000",
        "1d0a 0000 0c 00 0001 0002 0003",
        "2a1e" + "00" * 30,
        "3f0a" + "00" * 10,
        "3f3f",
    )
)
_DRIVE_HEADS = tuple(
    bytes.fromhex(head)
    for head in ("00" * 4, "00" * 8, "00000008 00000000 00000800", "00000008 00000000 00000200", "000000ff")
)


def drive_pages(random: Random) -> bytes:
    """MODE SELECT of a drive."""
    chosen = random.choices(_DRIVE_PAGES, k=random.choice((0, 1, 1, 1, 2)))
    data = random.choice(_DRIVE_HEADS) + b"".join(chosen)
    return data if random.random() < 0.9 else data[: random.randrange(len(data) + 1)]


def streaming(random: Random) -> bytes:
    """SET STREAMING: how much in how long."""
    numbers = (0, random.choice((99, 0xFFFF_FFFF)), number(random, 32), random.choice((0, 1000, 1000)))
    return struct.pack(">B3xIIII8x", random.choice((0, 0, 4, 0xFF)), *numbers)


DRIVE: Mapping[tuple[int, int | None], Callable[[Random], bytes]] = {
    (0x15, None): drive_pages,
    (0x55, None): drive_pages,
    (0xB6, None): streaming,
}
"""The same of a drive."""
DISK: Mapping[tuple[int, int | None], Callable[[Random], bytes]] = {
    (0x04, None): formats,
    (0x15, None): pages,
    (0x42, None): ranges,
    (0x48, 0x01): overwrites,
    (0x55, None): pages,
    **{(0x5F, action): reservation for action in range(7)},
    (0x5F, 0x07): move,
    (0x83, 0x00): copies,
    (0xA4, 0x0E): priorities,
}
"""By operation code and service action."""
