"""A port of an AHCI HBA as a driver of random sequences has it: memory, structures, start and recovery (AHCI 1.3.1)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from guestsim.diff.access import Access, Read, Rest, Store, Wait, Write
from guestsim.diff.arena import ARENA, ARENA_SIZE
from guestsim.diff.grammar.ata import Task
from guestsim.diff.grammar.packets import SENSE, packet, request_sense
from guestsim.diff.grammar.replies import Reply
from guestsim.drivers.ahci_layouts import (
    ACMD_OFFSET,
    ENABLED,
    FIS_H2D,
    HEADER,
    HEADER_ATAPI,
    HEADER_SIZE,
    HEADER_WRITE,
    PORTS_OFFSET,
    PRD,
    PRDT_OFFSET,
    Cmd,
    Ghc,
    Hba,
    PortReg,
)

LIST, RECEIVED, TABLES = ARENA + 0x1000, ARENA + 0x2000, ARENA + 0x4000
TABLE_ROOM = 0x400
SLOTS = 32
BUFFERS, BUFFERS_END = ARENA + 0x2_0000, ARENA + ARENA_SIZE
UNTOUCHED = b"\xee"

SCRATCH = TABLES - 0x100
"""Data that are not looked at."""

IDLE = Cmd.FRE | Cmd.SUD | Cmd.POD | Cmd.ICC_ACTIVE
RUNNING = IDLE | Cmd.ST


def port(register: PortReg) -> Read:
    """Read a register of the port."""
    return Read("hba", PORTS_OFFSET + register, 4)


def put(register: PortReg, value: int) -> Write:
    """Write a register of the port."""
    return Write("hba", PORTS_OFFSET + register, 4, value & 0xFFFF_FFFF)


def start(*, cd: bool) -> tuple[Access, ...]:
    """Reset the HBA, start its port (§10.1.2), and have the device forget what its reset has left."""
    return (
        Write("hba", Hba.GHC, 4, Ghc.AE),
        Write("hba", Hba.GHC, 4, Ghc.AE | Ghc.HR),
        Rest(),
        Write("hba", Hba.GHC, 4, Ghc.AE),
        put(PortReg.CLB, LIST),
        put(PortReg.CLBU, 0),
        put(PortReg.FB, RECEIVED),
        put(PortReg.FBU, 0),
        *settle(cd=cd),
        put(PortReg.IE, ENABLED),
        Write("hba", Hba.GHC, 4, Ghc.AE | Ghc.IE),
        Wait(),
    )


def settle(*, cd: bool) -> tuple[Access, ...]:
    """Start the port, and issue two commands: the status after a reset is one thing here and another there.

    The first one ends with a unit attention condition on one side, where the device is a CD drive; the second fetches
    what sense data there are.
    """
    tasks = nothing(cd=cd), request_sense() if cd else nothing(cd=cd)
    do: list[Access] = []
    for one, over in zip(tasks, (Rest() if cd else DONE, DONE), strict=True):
        do += alone(one, SCRATCH, over)
    do += [Store(SCRATCH, bytes(SENSE)), put(PortReg.IS, -1), Write("hba", Hba.IS, 4, 0xFFFF_FFFF)]
    return *do, Store(RECEIVED, bytes(0x100))


def alone(one: Task, buffer: int, over: Access) -> tuple[Access, ...]:
    """Start the port anew, and have it do one command in the last slot, until it is `over`."""
    slot = SLOTS - 1
    table = TABLES + slot * TABLE_ROOM
    return (
        Store(table, fis(one, slot)),
        Store(table + ACMD_OFFSET, one.packet.ljust(16, b"\0")),
        Store(table + PRDT_OFFSET, PRD.pack(buffer, 0, max(one.room, 2) - 1)),
        Store(LIST + HEADER_SIZE * slot, header(one, 1 if one.room else 0, table)),
        put(PortReg.CMD, IDLE),
        Rest(),
        put(PortReg.SERR, -1),
        put(PortReg.CMD, RUNNING),
        put(PortReg.CI, 1 << slot),
        over,
    )


def header(one: Task, regions: int, table: int) -> bytes:
    """A command header (§4.2.2)."""
    flags = 5 | (HEADER_WRITE if one.data else 0) | (HEADER_ATAPI if one.packet else 0)
    return HEADER.pack(flags, regions, 0, table, 0)


DONE = Rest(Read("hba", PORTS_OFFSET + PortReg.CI, 4))
"""What was issued has ended."""


def nothing(*, cd: bool) -> Task:
    """A command that changes nothing, and ends well."""
    return packet("test-unit-ready", bytes(6), Reply()) if cd else Task("flush-cache", 0xE7)


def acknowledge() -> tuple[Access, ...]:
    """Read what has come, and clear it (§5.6.2)."""
    return port(PortReg.IS), put(PortReg.IS, -1), Write("hba", Hba.IS, 4, 1), Wait()


def recover() -> tuple[Access, ...]:
    """After an error: stop, clear, start (§6.2.2.1)."""
    return (
        put(PortReg.CMD, IDLE),
        Wait(),
        put(PortReg.SERR, -1),
        put(PortReg.IS, -1),
        Write("hba", Hba.IS, 4, 1),
        put(PortReg.CMD, RUNNING),
        Wait(),
    )


def issued(slots: int, queued: int) -> Iterator[Access]:
    """Issue what is in these slots, some of it queued (§5.5.1)."""
    if queued:
        yield put(PortReg.SACT, queued)
    yield put(PortReg.CI, slots)


def table_of(slot: int, one: Task, pieces: int, buffer: int) -> Iterator[Access]:
    """Command table, header and buffer of a slot."""
    at = TABLES + slot * TABLE_ROOM
    length = one.room or len(one.data)
    if length:
        yield Store(buffer, one.data or UNTOUCHED * one.room)
    yield Store(at, fis(one, slot))
    if one.packet:
        yield Store(at + ACMD_OFFSET, one.packet.ljust(16, b"\0"))
    prds = list(_cut(buffer, length, pieces)) if length else []
    if prds:
        yield Store(at + PRDT_OFFSET, b"".join(PRD.pack(where, 0, size - 1) for where, size in prds))
    yield Store(LIST + HEADER_SIZE * slot, header(one, len(prds), at))


def _cut(start: int, length: int, pieces: int) -> Iterator[tuple[int, int]]:
    """A buffer in parts of even length."""
    size = max(2, length // pieces & ~1)
    end = start + length
    while pieces > 1 and end - start > size:
        yield start, size
        start += size
        pieces -= 1
    yield start, end - start


def fis(one: Task, slot: int) -> bytes:
    """The register FIS of a command (Serial ATA 3.2 §10.5.5)."""
    features, count = one.features, one.count
    if one.way.startswith("ncq"):
        features, count = one.count, slot << 3
    lba, device = one.registers
    low, high = lba & 0xFF_FFFF, lba >> 24 & 0xFF_FFFF
    return struct.pack(
        "<BBBB3sB3sBHBBxxxx",
        FIS_H2D,
        0x80,
        one.command,
        features & 0xFF,
        low.to_bytes(3, "little"),
        device,
        high.to_bytes(3, "little"),
        features >> 8,
        count,
        0,
        0,
    )
