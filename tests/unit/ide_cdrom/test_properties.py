"""Whatever a guest does with a channel's registers, in any order, with resets at any moment."""

from __future__ import annotations

import struct
from collections.abc import Coroutine, Iterator
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devmodels.ata.units import AtaBus
from guestsim.drivers.ide import IdeChannel, identify
from guestsim.drivers.ide_layouts import AtaStatus, BmStatus, BusMaster, Reg
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

from .machine import IdeMachine

WINDOW = 0x4_0000
"""Guest memory that is looked at."""
TABLE = 0x3_0000
"""Where in it the table lies."""
FILL = 0xC3

KNOWN = [
    0x00,
    0x08,
    0x20,
    0x24,
    0x25,
    0x29,
    0x30,
    0x34,
    0x35,
    0x39,
    0x40,
    0x90,
    0xA0,
    0xA1,
    0xC4,
    0xC5,
    0xC6,
    0xC8,
]
OPCODES = st.sampled_from([*KNOWN, 0xCA, 0xE5, 0xE7, 0xEC, 0xEF]) | st.integers(0, 255)
PACKETS = st.sampled_from([0x00, 0x03, 0x12, 0x1B, 0x28, 0x43, 0x4A, 0x55, 0xA8, 0xBE]).flatmap(
    lambda opcode: st.binary(min_size=11, max_size=11).map(lambda rest: bytes((opcode,)) + rest)
)
ACCESSES = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 6), st.integers(0, 255)),
    st.tuples(st.just("command"), OPCODES, st.just(0)),
    st.tuples(st.just("control"), st.sampled_from([0, 0, 2, 0x80, 4, 6, 0xFF]), st.just(0)),
    st.tuples(st.just("read"), st.integers(0, 7), st.sampled_from([1, 2, 4])),
    st.tuples(st.just("data"), st.integers(1, 300), st.sampled_from([2, 4])),
    st.tuples(st.just("give"), st.integers(1, 300), st.sampled_from([2, 4])),
    st.tuples(st.just("packet"), PACKETS, st.integers(0, 0xFFFF)),
    st.tuples(st.just("master"), st.integers(0, 255), st.integers(0, 255)),
    st.tuples(st.just("table"), st.sampled_from([TABLE, TABLE + 16, 0xFFFF_FFF0]), st.just(0)),
    st.tuples(st.just("dma"), st.sampled_from([0xC8, 0x25, 0xCA, 0x35]), st.integers(0, 20)),
    st.tuples(st.just("dma"), st.sampled_from([0xC8, 0x25, 0xCA, 0x35]), st.integers(0, 20)),
    st.tuples(st.just("pio"), st.sampled_from([0x20, 0x30, 0x24, 0xC4, 0xC5]), st.integers(1, 20)),
    st.tuples(st.just("cd"), st.booleans(), st.integers(0, 20)),
    st.tuples(st.just("reset"), st.just(0), st.just(0)),
    st.tuples(st.just("turn"), st.just(0), st.just(0)),
    st.tuples(st.just("settle"), st.just(0), st.just(0)),
)
REGIONS = st.lists(
    st.tuples(st.integers(0, 0x1_0000), st.sampled_from([1, 2, 3, 512, 1000, 4096, 0]), st.booleans()),
    min_size=1,
    max_size=4,
)


class Driven(Protocol):
    """A guest and its target."""

    guest: Guest
    target: InProcessTarget

    @property
    def channel(self) -> AtaBus: ...

    def run(self, coro: Coroutine[object, None, object]) -> object: ...


def do(machine: Driven, ide: IdeChannel, base: int, access: tuple[str, object, object]) -> None:
    kind, first, second = access
    match kind, first, second:
        case "write", int(register), int(value):
            ide.command.write(register, 1, value)
        case "command", int(opcode), _:
            ide.set(Reg.STATUS, opcode)
        case "control", int(value), _:
            ide.control.write(0, 1, value)
        case "read", int(register), int(size):
            ide.command.read(register, size)
        case "data", int(number), int(size):
            for _ in range(number):
                ide.command.read(0, size)
        case "give", int(number), int(size):
            for at in range(number):
                ide.command.write(0, size, at)
        case "packet", bytes(cdb), int(limit):
            ide.set(Reg.LBA_MID, limit & 0xFF)
            ide.set(Reg.LBA_HIGH, limit >> 8)
            ide.set(Reg.STATUS, 0xA0)
            machine.run(machine.guest.settle())
            ide.write_block(cdb)
        case "master", int(command), int(status):
            ide.master.write(BusMaster.COMMAND, 1, command)
            ide.master.write(BusMaster.STATUS, 1, status)
        case "dma" | "pio", int(opcode), int(count):
            select(machine, ide, opcode, count, 0)
            if kind == "dma":
                ide.master.write(BusMaster.TABLE, 4, base + TABLE)
                ide.start(to_memory=opcode in (0xC8, 0x25))
        case "cd", bool(dma), int(count):
            select(machine, ide, 0xA0, 0x10, int(1 in machine.channel.units), int(dma))
            machine.run(machine.guest.settle())
            ide.write_block(bytes((0x28, 0, 0, 0, 0, count, 0, 0, 1 + count % 3, 0, 0, 0)))
            ide.master.write(BusMaster.TABLE, 4, base + TABLE)
            ide.start(to_memory=True)
        case "turn", _, _:
            machine.target.advance()
        case "reset", _, _:
            machine.run(ide.reset())
        case "table", int(address), _:
            ide.master.write(BusMaster.TABLE, 4, address if address > WINDOW else base + address)
        case _:
            machine.run(machine.guest.settle())


def select(machine: Driven, ide: IdeChannel, opcode: int, count: int, unit: int, features: int = 0) -> None:
    """A command to a low address, where the channel is idle."""
    ide.select(unit, 0x40)
    ide.stop()
    for register, value in ((Reg.ERROR, features), (Reg.COUNT, count), (Reg.LBA_LOW, 0), (Reg.LBA_MID, 0)):
        ide.set(register, value)
    ide.set(Reg.LBA_MID, count & 0xF0)
    ide.set(Reg.LBA_HIGH, 0)
    ide.set(Reg.STATUS, opcode)


def allowed(regions: list[tuple[int, int, bool]]) -> Iterator[tuple[int, int]]:
    """What of the window a bus master may write."""
    for offset, count, _ in regions:
        yield offset & ~1, count & ~1 or 0x1_0000


def drain(machine: IdeMachine, ide: IdeChannel) -> None:
    """A driver that reads and writes as long as it is asked to is asked no more after a bounded time."""
    for _ in range(70_000):
        machine.run(machine.guest.settle())
        status = ide.alternate_status
        assert not status & AtaStatus.BSY or not status & AtaStatus.DRQ
        if not status & AtaStatus.DRQ:
            return
        before = ide.master.read(BusMaster.STATUS, 1)
        for _ in range(256):
            ide.command.read(0, 2)
            ide.command.write(0, 2, 0)
        if ide.alternate_status == status and before & BmStatus.ACTIVE == 0:
            return


def check(
    regions: list[tuple[int, int, bool]], accesses: list[tuple[str, object, object]], only: str
) -> None:
    with IdeMachine(only=only, probed=False) as machine:
        ide, memory = machine.ide, machine.guest.memory
        base = memory.allocate(WINDOW, 0x1_0000)
        content = bytearray(bytes((FILL,)) * WINDOW)
        table = b"".join(
            struct.pack("<IHH", base + offset, count, 0x8000 if last or at == len(regions) - 1 else 0)
            for at, (offset, count, last) in enumerate(regions)
        ).ljust(64, b"\0")
        # What lies behind the table is a table, too: it says that memory at 0 is a region, which is none.
        content[TABLE : TABLE + 64] = table
        memory.write(base, bytes(content))
        for access in accesses:
            do(machine, ide, base, access)
            if access[0] in ("dma", "cd") and access[2] != 0:
                machine.target.advance()
        drain(machine, ide)
        found = bytearray(memory.read(base, WINDOW))
        for offset, length in allowed(regions):
            found[offset : offset + length] = content[offset : offset + length] = bytes(length)
        assert found[:TABLE] == content[:TABLE]
        assert found[TABLE + 64 :] == content[TABLE + 64 :]
        ide.master.write(BusMaster.COMMAND, 1, 0)
        machine.run(ide.reset())
        assert not ide.alternate_status & (AtaStatus.BSY | AtaStatus.DRQ)
        if only != "cd":
            assert len(machine.run(identify(ide, 0))) == 512
        else:
            assert len(machine.run(identify(ide, 0, packet=True))) == 512


@pytest.mark.parametrize("only", ["both", "cd"])
@given(regions=REGIONS, accesses=st.lists(ACCESSES, max_size=25))
def test_no_sequence_of_accesses_does_harm(
    only: str, regions: list[tuple[int, int, bool]], accesses: list[tuple[str, object, object]]
) -> None:
    check(regions, accesses, only)


@pytest.mark.slow
@settings(max_examples=400)
@given(
    regions=REGIONS, accesses=st.lists(ACCESSES, max_size=60), only=st.sampled_from(["both", "cd", "disk"])
)
def test_no_long_sequence_of_accesses_does_harm(
    regions: list[tuple[int, int, bool]], accesses: list[tuple[str, object, object]], only: str
) -> None:
    check(regions, accesses, only)
