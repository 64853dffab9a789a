"""Random packets for a CD drive: commands of MMC-6, their data by PIO or by DMA, in DRQ blocks of any size."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from random import Random

from guestsim.diff.access import Loose
from guestsim.diff.grammar.ata import BLOCK, OWN_PACKET, SECTOR, SECTORS, Differs, Maker, Table, Task
from guestsim.diff.grammar.replies import Codes, Reply, table

SENSE = 18
"""Bytes of fixed format sense data (SPC-4 §4.5.3)."""
BLOCKS = SECTORS * SECTOR // BLOCK
DMA = 1
"""Features of PACKET (ATA/ATAPI-7 vol. 1 §6.24.4)."""
LARGEST_LIMIT = 0xFFFE
MOST_BLOCKS = 6
"""DRQ blocks of one command."""

IDENTIFICATION = bytes((0x12, 1, 0x83))
"""INQUIRY of the page 83h, which QEMU refuses where there is little room."""
ALLOCATION = {
    0x03: (4, 1),
    0x12: (3, 2),
    0x1A: (4, 1),
    **dict.fromkeys((0x42, 0x43, 0x46, 0x51, 0x52, 0x5A), (7, 2)),
    **dict.fromkeys((0xAD, 0xBD), (8, 2)),
}
"""Where operation codes have an allocation length, and how long it is; events are given whole, or not at all."""
WITH_ADDRESS = frozenset(
    {*((0x21, 0x00, code) for code in (0x28, 0xA8, 0xBE, 0x2B, 0xB9)), (0x64, 0x00, 0xBE)}
)
"""Codes and operation codes with which ours says in INFORMATION where it was."""

NO_ERROR: Codes = (0, 0, 0)
ROWS = tuple(table("cd"))
REQUEST_SENSE = bytes((0x03, 0, 0, 0, SENSE, 0))


def packet(
    name: str,
    cdb: bytes,
    reply: Reply,
    theirs: Reply | None = None,
    *,
    out: bytes = b"",
    limit: int | None = None,
) -> Task:
    """PACKET with its data by DMA, or by PIO with DRQ blocks of `limit` bytes at most."""
    replies = reply, reply if theirs is None else theirs
    room = max(one.length for one in replies)
    moves = bool(room or out)
    return Task(
        name,
        0xA0,
        "packet",
        features=DMA if moves and limit is None else 0,
        lba=(LARGEST_LIMIT if limit is None else limit) << 8,
        device=0,
        room=room,
        data=out,
        packet=cdb.ljust(12, b"\0"),
        fails=any(one.fails for one in replies),
        replies=replies,
    )


def limit_of(one: Task) -> int:
    """The byte count limit of a packet's."""
    return one.lba >> 8


def by_dma(one: Task) -> bool:
    """Whether its data go by DMA."""
    return bool(one.features & DMA)


def even(one: Task) -> Task:
    """The same with room for whole words."""
    return replace(one, room=one.room + (one.room & 1))


def sides(one: Task) -> tuple[Reply, Reply]:
    """What ours and theirs answer."""
    assert one.replies is not None
    return one.replies


def stuck(one: Task) -> bool:
    """Whether theirs does not get to an end by PIO: a last block of an odd length, or a limit of one byte."""
    theirs = sides(one)[1]
    return not by_dma(one) and bool(theirs.length & 1 or (theirs.length and limit_of(one) == 1))


def aborted(one: Task, *, ours: bool) -> bool:
    """Whether there is no byte count limit that its data could keep to, before the drive looks at it."""
    moves = sides(one)[not ours].length or (ours and one.data)
    return bool(moves) and not by_dma(one) and limit_of(one) < (2 if ours else 1)


def apart(one: Task) -> bool:
    """Whether one side has another outcome than the other one, or other lengths."""
    ours, theirs = sides(one)
    short = aborted(one, ours=True) or stuck(one)
    return bool(ours.fails != theirs.fails or ours.length != theirs.length or one.data or short)


def blocks_of(length: int, limit: int) -> Iterator[int]:
    """The DRQ blocks of so many bytes: a limit that is odd holds for a last block alone (§6.24.4)."""
    most = min(limit, LARGEST_LIMIT)
    most = most if length <= most else most & ~1
    for begin in range(0, length, most or 1):
        yield min(most, length - begin)


def last_of_pio(one: Task) -> tuple[int, int]:
    """Bytes of the last transfer of a command that reads the medium: a DRQ block; on QEMU what is left of a sector."""
    *_, last = blocks_of(one.room, limit_of(one))
    return last, min(last, WHOLE if one.name == "read-cd-whole" else BLOCK)


# --- sense data


@dataclass(slots=True)
class Sense:
    """The sense data that REQUEST SENSE fetches: ours are those of the last command, QEMU's stay until others come."""

    ours: Codes = NO_ERROR
    theirs: Codes = NO_ERROR
    address: int = 0

    def done(self, one: Task) -> None:
        """A command has ended."""
        if one.way != "packet":
            return
        ours, theirs = sides(one)
        if not aborted(one, ours=False):
            self.theirs = theirs.codes or self.theirs
        if not aborted(one, ours=True):
            self.ours = ours.codes or NO_ERROR
            self.address = _address(one.packet) if (*self.ours[1:], one.packet[0]) in WITH_ADDRESS else 0

    def pieces(self) -> Iterator[tuple[str, int, bytes | None, bytes]]:
        """What differs, or may: reason, place, and the bytes of ours (None: any) and theirs."""
        yield "sense-detail", 0, b"\xf0" if self.address else b"\x70", b"\xf0"
        for at, mine, others in zip((2, 12, 13), self.ours, self.theirs, strict=True):
            yield "kept-sense", at, bytes((mine,)), bytes((others,))
        yield "sense-detail", 3, self.address.to_bytes(4, "big"), bytes(4)
        yield "sense-detail", 15, None, bytes(3)

    def words(self, length: int) -> Iterator[tuple[str, int | None, int]]:
        """The same by words, of so many bytes: reason, and the values of ours and theirs."""
        mine, others = bytearray(SENSE), bytearray(SENSE)
        mine[7] = others[7] = 0x0A
        hidden: dict[int, str] = {}
        for reason, at, first, second in self.pieces():
            others[at : at + len(second)] = second
            for place in range(at, at + len(second)):
                if first is None:
                    hidden[place // 2] = reason
            if first is not None:
                mine[at : at + len(first)] = first
        for word in range((length + 1) // 2):
            at, end = 2 * word, min(2 * word + 2, length)
            ours, theirs = (int.from_bytes(side[at:end], "little") for side in (mine, others))
            reason = "kept-sense" if word in (1, 6) and ours != theirs else "sense-detail"
            yield reason, None if word in hidden else ours, theirs

    def loose(self, buffer: int, length: int) -> Iterator[Loose]:
        """What of it is not compared, where it is in memory from `buffer` on."""
        for reason, at, mine, others in self.pieces():
            size = min(len(others), length - at)
            if size > 0 and mine != others:
                first = None if mine is None else mine[:size]
                yield Loose(reason, buffer + at, size, values=(first, others[:size]))


def _address(cdb: bytes) -> int:
    """The first block that is wrong."""
    if cdb[0] == 0xB9:
        return max((cdb[3] * 60 + cdb[4]) * 75 + cdb[5] - 150, BLOCKS)
    lba = int.from_bytes(cdb[2:6], "big")
    if cdb[0] == 0xBE:
        return lba if int.from_bytes(cdb[9:10], "big") and cdb[1] else max(lba, BLOCKS)
    return max(lba, BLOCKS)


def request_sense(allocation: int = SENSE, limit: int | None = None) -> Task:
    """REQUEST SENSE; what comes is the lowering's to know."""
    cdb = bytes((0x03, 0, 0, 0, allocation, 0))
    return packet("request-sense", cdb, Reply(min(allocation, SENSE)), limit=limit)


def mask_of(one: Task) -> str:
    """The mask of what is not the same with a command."""
    ours, theirs = sides(one)
    if stuck(one) and ours == theirs:
        return "odd-block" if theirs.length & 1 else "byte-count-limit"
    if aborted(one, ours=True) or aborted(one, ours=False):
        return "byte-count-limit"
    return one.name if one.name.startswith("packet:") else "identity"


def loose(one: Task, sense: Sense, buffer: int) -> Iterator[Loose]:
    """What of its data, in memory from `buffer` on, is not compared."""
    if one.name == "request-sense":
        yield from sense.loose(buffer, one.room)
        return
    ours, theirs = sides(one)
    for mask, at, first, second in one.differs:
        untouched = at >= theirs.length
        yield Loose(
            mask, buffer + at, len(second), values=(first, b"\xee" * len(second) if untouched else second)
        )
    if ours == theirs:
        return
    held = [
        None if side.length and side.data is None else (side.data or b"").ljust(one.room, b"\xee")
        for side in (ours, theirs)
    ]
    start = 0
    for at, size in (*((at, len(second)) for _, at, _, second in one.differs), (one.room, 0)):
        if at > start:
            first, last = (None if side is None else side[start:at] for side in held)
            yield Loose(mask_of(one), buffer + start, at - start, values=(first, last))
        start = at + size


# --- random commands


def carried(random: Random, one: Task) -> Task:
    """Its data by DMA, or by PIO with a limit: of even and odd blocks, of nothing, of one byte."""
    length = one.room or len(one.data)
    if not length or (random.random() < 0.5 and not one.data):
        return one
    whole = one.room + (one.room & 1) or length
    limits = [LARGEST_LIMIT, LARGEST_LIMIT + 1, whole, whole + 1]
    if not one.data and not apart(replace(one, features=0)):
        least = max(2, -(-length // MOST_BLOCKS) + 1)
        limits += [
            random.randint(least, length) if length > least else least,
            (length // 2 + 1) & ~1 or 2,
            least | 1,
        ]
    if random.random() < 0.06 and not one.fails and not one.data:
        limits = [0, 1]
    return replace(one, features=0, lba=random.choice(limits) << 8)


def told(random: Random) -> Task:
    """A command of the table, with an allocation length where it has one."""
    name = random.choice(NAMES)
    row = random.choice([row for row in ROWS if row.name == name])
    cdb, ours, theirs = row.cdb, row.ours, row.theirs
    place = ALLOCATION.get(cdb[0])
    if place is not None and cdb[:3] != IDENTIFICATION and random.random() < 0.4:
        at, size = place
        most = max(ours.length, theirs.length, 8)
        allocation = random.choice((0, 1, 2, 4, 8, random.randint(0, most), most))
        cdb = cdb[:at] + allocation.to_bytes(size, "big") + cdb[at + size :]
        ours, theirs = ours.cut(allocation), theirs.cut(allocation)
    one = packet(f"packet:{name}", cdb, ours, theirs, out=row.out)
    if cdb[0] in OF_ITS_OWN:
        at, end = OF_ITS_OWN[cdb[0]]
        told = (theirs.data or b"").ljust(one.room, b"\0")[at:end]
        one = replace(one, differs=((one.name, at, None, told),) if told else ())
    return carried(random, one)


OF_ITS_OWN = {0x4A: (4, 6), 0xBD: (2, 6)}
"""Where commands tell what was done before: events, the current address; QEMU's drive has none of it."""


NAMES = sorted({row.name for row in ROWS})


def read_blocks(random: Random) -> Task:
    """READ (10) and (12), READ CD with the data of blocks or with all of them."""
    count = random.randint(1, 8)
    lba = random.randint(0, BLOCKS - count)
    kind = random.choice(MEDIUM)
    if kind == "read-10":
        one = packet(kind, struct.pack(">BxIxHx", 0x28, lba, count), Reply(count * BLOCK))
    elif kind == "read-12":
        one = packet(kind, struct.pack(">BxIIxx", 0xA8, lba, count), Reply(count * BLOCK))
    else:
        count = min(count, 2)
        fields, size = (0x10, BLOCK) if kind == "read-cd" else (0xF8, WHOLE)
        where = struct.pack(">BBI3sBBx", 0xBE, 0, lba, count.to_bytes(3, "big"), fields, 0)
        one = packet(kind, where, Reply(count * size))
        if fields == 0xF8:
            differs = (_sector(lba + number, WHOLE * number) for number in range(count))
            one = replace(one, differs=tuple(chain.from_iterable(differs)))
    return carried(random, one)


READS = (0x28, 0xA8, 0xBE)
"""READ (10) and (12), READ CD."""
MEDIUM = ("read-10", "read-12", "read-cd", "read-cd-whole")
"""What reads the medium."""
WHOLE, HEADER_AT, CHECKS_AT = 2352, 12, 2064
"""Bytes of a whole sector, where its header is, and what guards it."""


def _sector(lba: int, at: int) -> Iterator[Differs]:
    """What is not the same of a sector of mode 1: QEMU's address is not BCD, and its EDC and ECC are 0."""
    address = lba + 150
    parts = address // 75 // 60, address // 75 % 60, address % 75
    header = bytes(part // 10 << 4 | part % 10 for part in parts), bytes(parts)
    yield "sector-header", at + HEADER_AT, header[0] + b"\x01", header[1] + b"\x01"
    yield "sector-header", at + CHECKS_AT, None, bytes(WHOLE - CHECKS_AT)


def fetched(random: Random) -> Task:
    """REQUEST SENSE with any allocation length."""
    return carried(random, request_sense(random.choice((0, 4, 8, 14, SENSE, SENSE, 252))))


def ready(random: Random) -> Task:
    """Packets without data."""
    lba = random.randrange(BLOCKS)
    name, cdb = random.choice(
        (
            ("test-unit-ready", bytes(6)),
            ("allow", bytes([0x1E, 0, 0, 0, random.choice((0, 2))])),
            ("start", bytes([0x1B, 0, 0, 0, random.choice((0, 1, 0x20, 0x50))])),
            ("seek", struct.pack(">BxI4x", 0x2B, lba)),
            ("set-cd-speed", struct.pack(">BxHH6x", 0xBB, 0xFFFF, 0xFFFF)),
            ("read-no-blocks", struct.pack(">BxI4x", 0x28, lba)),
        )
    )
    return packet(name, cdb, Reply())


def identify_packet(_: Random) -> Task:
    """IDENTIFY PACKET DEVICE: who it is is its own."""
    return Task("identify-packet", 0xA1, "pio-in", room=SECTOR, unequal=OWN_PACKET, device=0)


CD: Table = ((read_blocks, 8), (told, 8), (ready, 3), (fetched, 1), (identify_packet, 0.5))


def as_theirs(maker: Maker) -> Maker:
    """The same commands for a drive of ours that answers as QEMU's: nothing is expected to differ."""

    def make(random: Random) -> Task:
        one = maker(random)
        if one.replies is None:
            return one
        theirs = one.replies[1]
        moves = one.room or one.data
        one = replace(one, replies=(theirs, theirs), fails=theirs.fails, differs=())
        return carried(random, replace(one, features=DMA if moves else 0, lba=LARGEST_LIMIT << 8))

    return make


def tray(random: Random) -> Task:
    """The tray moves, or is kept closed; mostly it is closed again."""
    name, cdb = random.choice(
        (
            ("load", bytes((0x1B, 0, 0, 0, 3))),
            ("load", bytes((0x1B, 0, 0, 0, 3))),
            ("eject", bytes((0x1B, 0, 0, 0, 2))),
            ("prevent", bytes((0x1E, 0, 0, 0, 1))),
            ("allow", bytes((0x1E, 0, 0, 0, 0))),
        )
    )
    return packet(name, cdb, Reply())


FIELDS = (0, 0, 0, 1, 2, 3, 0x0E, 0x10, 0x12, 0x24, 0x2A, 0x40, 0x80, 0x83, 0xAA, 0xF8, 0xFF)
"""What bytes of a packet are, where nothing else is known of them."""
OF_BOTH = (
    0x00,
    0x03,
    0x12,
    0x1B,
    0x1E,
    0x25,
    0x28,
    0x2B,
    0x43,
    0x46,
    0x4A,
    0x51,
    0x5A,
    0xAD,
    0xBB,
    0xBD,
    0xBE,
)
"""Operation codes of QEMU's drive."""


def anything(random: Random) -> Task:
    """Any bytes after an operation code: what comes of them, if anything, comes by DMA."""
    code = random.choice(OF_BOTH) if random.random() < 0.9 else random.randrange(256)
    cdb = bytearray((code, *(random.choice(FIELDS) for _ in range(11))))
    if code in READS:
        # Sometimes of more blocks than there is room for.
        cdb[2:5], cdb[6:8] = bytes(3), bytes(2)
        most = 3 if code == 0xBE else 5
        cdb[8], cdb[9] = (0, random.randint(0, most)) if code == 0xA8 else (random.randint(0, most), cdb[9])
    return packet(f"anything:{code:02x}", bytes(cdb), Reply(MOST_OF_ANYTHING))


MOST_OF_ANYTHING = 8192
CD_AS_QEMU: Table = (
    *((as_theirs(maker), weight) for maker, weight in CD),
    (tray, 1),
    (anything, 4),
)
