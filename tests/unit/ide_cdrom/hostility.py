"""A guest that is hostile to an IDE channel: task files, data blocks, packets, region tables, resets, hot plug."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from random import Random
from typing import Any

from devmodels.ata.table import Addressing, Command, Protocol
from devmodels.ide_cdrom import PiixIde
from tests.unit.ata.hostility import (
    BYTES,
    DISK,
    DRIVE,
    PLAIN,
    Bench,
    Example,
    Step,
    backend_of,
    blockdev,
    packet,
    registers,
    sequence,
    somewhere,
)
from tests.unit.ata.shadow import Shadow

BASE, SIZE = 0x7A00_0000, 0x4_0000
TABLE, REGIONS = 0, 16
OWN_TABLE, OWN_BUFFER = 0x800, 0x1000
BUFFERS = 0x8000
NOWHERE = (0, BASE - 0x200, BASE + SIZE - 0x100, 0xFFFF_FE00)
DATA, FEATURES, COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DEVICE, COMMAND = range(8)
ALTERNATE = 2
BM_COMMAND, BM_STATUS, BM_TABLE = 0, 2, 4
START, TO_MEMORY = 1, 8
ACTIVE = 1
REGION = struct.Struct("<IHH")
EOT = 0x8000
BSY, DRQ, ERR = 0x80, 0x08, 0x01
NIEN, SRST, HOB = 0x02, 0x04, 0x80
RESETS = ("srst", "srst", "pulse", "function", "device")
"""A pulse is SRST that is set and cleared without waiting."""
DMA_IN = frozenset({0xC8, 0xC9, 0x25, 0x47, 0xE9, 0xA0})


class ChannelBench(Bench):
    """A channel with a disk or, with `drive`, a CD drive; with `both` the other one is the other device."""

    def __init__(
        self,
        stack: ExitStack,
        ends: Counter[str],
        *,
        backend: str,
        shared: bool,
        drive: bool,
        both: bool,
    ) -> None:
        nodes = [{**blockdev(backend, drive=drive), "node-name": "n0"}, {**PLAIN, "node-name": "n1"}]
        nodes[not drive]["read-only"] = True
        super().__init__(stack, Shadow(BASE, SIZE, shared=shared), nodes, ends, drive=drive)
        self.assembly.add_device({"driver": "piix3-ide", "id": "ide0", "addr": "4", "native": True})
        self.unit = int(drive and both)
        """The number of the device that is looked at."""
        names = {drive: "n0", not drive: "n1"}
        for kind in (drive, not drive)[: 1 + both]:
            unit = self.unit if kind is drive else 1 - self.unit
            driver = "ide-cd" if kind else "ide-hd"
            self.assembly.add_device(
                {"driver": driver, "id": f"u{unit}", "bus": "ide0.0", "unit": unit, "drive": names[kind]}
            )
        function = self.assembly.ata_hosts["ide0"]
        assert isinstance(function, PiixIde)
        self.function = function
        self.channel = function.channels[0]
        self.devices = dict(self.channel.units)
        for device in self.devices.values():
            self.watch(device)
        self.master = self.channel.bus_master.registers
        self.read, self.write = self.channel.command_block.read, self.channel.command_block.write
        self._regions: list[tuple[int, int]] = []
        self._inward = False
        self.shadow.always(OWN_BUFFER, 0x1000)
        self.begin_anew("function")

    # --- registers

    @property
    def status(self) -> int:
        """Alternate status."""
        return self.channel.control_block.read(ALTERNATE, 1)

    def control(self, value: int) -> None:
        """Device control."""
        self.channel.control_block.write(ALTERNATE, 1, value)

    def do(self, step: Step) -> None:
        """One step."""
        match step:
            case "task", int(opcode), int(features), int(count), int(lba), int(device):
                self.task(opcode, features, count, lba, device)
            case "write", int(register), int(value):
                self._note(register, value)
                self.write(register, 1, value)
            case "control", int(value):
                self.control(value)
            case "read", int(register), int(size):
                self.read(register, size)
            case "alternate", int(register), int(size):
                self.channel.control_block.read(register, size)
            case "take", int(number), int(size):
                for _ in range(number):
                    self.read(DATA, size)
            case "give", int(number), int(size):
                for at in range(number):
                    self.write(DATA, size, at * 0x0101 & 0xFFFF)
            case "packet", bytes(cdb):
                self.context.turn()
                for at in range(0, 12, 2):
                    self.write(DATA, 2, int.from_bytes(cdb[at : at + 2], "little"))
            case "table", tuple(regions), int(where):
                self.table(regions, where)
            case "master", int(register), int(size), int(value):
                self.master.write(register, size, value)
            case "start", int(command):
                self.master.write(BM_COMMAND, 1, 0)
                self.master.write(BM_COMMAND, 1, command)
            case "bus-master", int(value):
                self.function.config_write(4, 2, 5 if value else 1)
            case "plug", int(unit):
                self.plug(unit % 2)
            case _:
                super().do(step)

    def plug(self, unit: int) -> None:
        """Off the cable, or on it again."""
        if unit in self.channel.units:
            self.channel.detach(unit)
        elif unit in self.devices:
            self.channel.attach(self.devices[unit], unit)

    def _note(self, register: int, value: int) -> None:
        """Whether anything may be written to memory is a matter of the commands that there were."""
        if register == COMMAND and value in DMA_IN:
            self._inward = True
            self._allow()

    def _allow(self) -> None:
        for address, length in self._regions:
            self.shadow.allow(address, length)

    def task(self, opcode: int, features: int, count: int, lba: int, device: int) -> None:
        """A command with its registers, each of which is written twice."""
        self.write(DEVICE, 1, device)
        for register, high, low in (
            (FEATURES, features >> 8, features),
            (COUNT, count >> 8, count),
            (LBA_LOW, lba >> 24, lba),
            (LBA_MID, lba >> 32, lba >> 8),
            (LBA_HIGH, lba >> 40, lba >> 16),
        ):
            self.write(register, 1, high & 0xFF)
            self.write(register, 1, low & 0xFF)
        self._note(COMMAND, opcode)
        self.write(COMMAND, 1, opcode)

    def table(self, regions: Sequence[tuple[int, int, int]], where: int) -> None:
        """A table of regions, and the bus master is told where it is."""
        data = b"".join(REGION.pack(*each) for each in regions)
        self.shadow.put(TABLE, data)
        self._regions += [(address & ~1, length & ~1 or 0x1_0000) for address, length, _ in regions]
        if self._inward:
            self._allow()
        self.master.write(BM_TABLE, 4, where)

    # --- beginning anew

    def begin_anew(self, how: str) -> None:
        """A reset, wherever things stand; then as a driver begins."""
        for unit, device in self.devices.items():
            if unit not in self.channel.units:
                self.channel.attach(device, unit)
        if how == "function":
            self.function.reset()
        elif how in ("srst", "pulse"):
            self.control(SRST)
            if how == "srst":
                self.settle()
            self.control(0)
        elif how == "device" and self.drive:
            self.write(DEVICE, 1, self.unit << 4)
            self.write(COMMAND, 1, 8)
        self.function.config_write(4, 2, 5)
        self.assembly.run_state.cont()
        self.master.write(BM_COMMAND, 1, 0)
        self.until(lambda: not self.master.read(BM_STATUS, 1) & ACTIVE)
        if how == "function":
            # The bus master's registers are as after power on: it is the devices that are busy.
            for unit in self.devices:
                self.write(DEVICE, 1, unit << 4)
                self.until(lambda: not self.status & BSY)
        self.shadow.check()
        self.settle()
        self.shadow.rests()
        if how != "function":
            # DEVICE RESET is heard by a drive that is selected, and not by a disk; SRST by both.
            self.control(SRST | NIEN)
            self.settle()
        self.control(NIEN)
        self.settle()
        self.master.write(BM_STATUS, 1, 0x06)
        # Nothing of what was before is written to memory any more.
        self.at_rest()
        self._regions.clear()
        self.shadow.put(TABLE, bytes(REGION.size * REGIONS))
        self._inward = False
        self.write(DEVICE, 1, self.unit << 4)
        assert not self.status & (BSY | DRQ), hex(self.status)
        self.works()

    def _own(self, opcode: int, *, features: int = 0, count: int = 1) -> bool:
        """A driver's own command; whether it has not failed yet."""
        self.task(opcode, features, count, 0, 0x40 | self.unit << 4)
        self.settle()
        return not self.read(COMMAND, 1) & ERR

    def _take(self, length: int) -> bytes:
        """A data block of so many bytes."""
        assert self.status & DRQ
        read = self.read
        data = b"".join(read(DATA, 4).to_bytes(4, "little") for _ in range(length // 4))
        assert not self.status & (BSY | DRQ | ERR), hex(self.status)
        return data

    def _dma(self, *, out: bytes = b"", length: int = 0) -> None:
        """The bus master does what a command wants."""
        self.shadow.put(OWN_TABLE, REGION.pack(BASE + OWN_BUFFER, len(out) or length, EOT))
        self.shadow.put(OWN_BUFFER, out or b"\xee" * length)
        self.master.write(BM_TABLE, 4, BASE + OWN_TABLE)
        self.master.write(BM_COMMAND, 1, START | (0 if out else TO_MEMORY))
        self.settle()
        self.master.write(BM_COMMAND, 1, 0)
        assert not self.status & (BSY | DRQ | ERR), hex(self.status)

    def identify(self) -> bytes:
        """IDENTIFY (PACKET) DEVICE."""
        assert self._own(0xA1 if self.drive else 0xEC)
        return self._take(512)

    def switch(self, opcode: int, features: int = 0) -> None:
        """Any command without data."""
        assert self._own(opcode, features=features)

    def write_sector(self, data: bytes) -> None:
        """WRITE DMA."""
        assert self._own(0xCA)
        self._dma(out=data)

    def write_sector_fua(self, data: bytes) -> None:
        """WRITE DMA FUA EXT."""
        assert self._own(0x3D)
        self._dma(out=data)

    def read_sector(self) -> bytes:
        """READ SECTORS and READ DMA by turns."""
        if self.turns % 2:
            assert self._own(0x20)
            return self._take(512)
        assert self._own(0xC8)
        self._dma(length=512)
        return bytes(self.shadow.data[OWN_BUFFER : OWN_BUFFER + 512])

    def packet(self, *cdb: int, length: int = 0) -> bytes | None:
        """By DMA where there is data."""
        assert self._own(0xA0, features=int(length > 0), count=0)
        for at in range(0, 12, 2):
            self.write(DATA, 2, int.from_bytes(bytes(cdb).ljust(12, b"\0")[at : at + 2], "little"))
        self.settle()
        if self.read(COMMAND, 1) & ERR:
            return None
        if length:
            self._dma(length=length)
        return bytes(self.shadow.data[OWN_BUFFER : OWN_BUFFER + length])


def _make(stack: ExitStack, configuration: str, ends: Counter[str], *, drive: bool) -> Bench:
    backend, shared = backend_of(configuration)
    both = configuration in ("both", "slow")
    return ChannelBench(stack, ends, backend=backend, shared=shared, drive=drive, both=both)


def make_disk(stack: ExitStack, configuration: str, ends: Counter[str]) -> Bench:
    """With a disk over a backend of `BACKENDS`; "copied": memory is; "both": there is a drive, too."""
    return _make(stack, configuration, ends, drive=False)


def make_drive(stack: ExitStack, configuration: str, ends: Counter[str]) -> Bench:
    """The same with a CD drive, which is device 1 where there is a disk, too."""
    return _make(stack, configuration, ends, drive=True)


# --- what guests do


def _table(random: Random) -> Step:
    """A table with a few regions: buffers, mostly."""
    regions = []
    for number in range(random.choice((1, 1, 1, 2, 3, REGIONS))):
        where = somewhere(random, BASE + BUFFERS, BASE + SIZE - 0x100, NOWHERE)
        length = random.choice((0, 1, 2, 3, 100, 512, 512, 1000, 4096, 4096, 0x8000))
        regions.append((where, length, 0 if random.randrange(4) or number % 3 else EOT))
    if random.randrange(8):
        regions[-1] = (*regions[-1][:2], EOT)
    else:
        regions += [(NOWHERE[0], 512, 0)] * (REGIONS - len(regions))
    where = BASE + TABLE if random.randrange(12) else random.choice((BASE + 8 * REGIONS - 8, *NOWHERE[1:]))
    return "table", tuple(regions), where


def _command(random: Random, commands: Sequence[Command[Any]], unit: int) -> list[Step]:
    """A command, and what a driver would do next, or not."""
    opcode, features, count, lba, device = registers(random, commands)
    device = device & ~0x10 | (unit if random.randrange(6) else 1 - unit) << 4
    found = [each for each in commands if each.opcode == opcode]
    protocol = found[0].protocol if found else Protocol.NON_DATA
    if found and found[0].addressing is Addressing.LBA28 and random.randrange(8):
        lba &= 0xFFF
    if protocol is Protocol.PACKET:
        features = random.choice((0, 0, 1, 1, 2, 3))
        lba = random.choice((0, 1, 2, 13, 2048, 2352, 0xFFFE, 0xFFFF)) << 8
    dma = protocol in (Protocol.DMA_IN, Protocol.DMA_OUT) or (protocol is Protocol.PACKET and features & 1)
    steps: list[Step] = []
    start: Step = ("start", START | random.choice((TO_MEMORY, TO_MEMORY, 0)))
    if dma and random.randrange(8):
        steps.append(_table(random))
        steps += [start] * (not random.randrange(4))
    steps.append(("task", opcode, features, count, lba, device))
    if protocol is Protocol.PACKET and random.randrange(12):
        steps.append(("packet", packet(random)))
    steps += [("turn",)] * random.choice((0, 1, 1, 1, 2, 3))
    if dma and random.randrange(8):
        steps.append(start)
        steps += [("turn",)] * random.choice((0, 1, 1, 2))
    elif protocol in (Protocol.PIO_IN, Protocol.PIO_OUT, Protocol.PACKET):
        for _ in range(random.choice((0, 1, 1, 2, 3))):
            way = "give" if protocol is Protocol.PIO_OUT else "take"
            steps.append((way, random.choice((1, 9, 128, 128, 256, 256, 256, 300)), random.choice((2, 4))))
            steps += [("turn",)] * random.choice((0, 1, 2))
    if random.randrange(4):
        steps.append(("read", COMMAND, 1))
    return steps


def _access(random: Random) -> Step:
    match random.randrange(9):
        case 0:
            return "write", random.randrange(1, 8), random.choice((*BYTES, 0xC8, 0xCA, 0x20, 0x30))
        case 1:
            return "control", random.choice((0, 0, NIEN, HOB, SRST, SRST | NIEN, 0xFF))
        case 2:
            return "alternate", random.randrange(4), random.choice((1, 2, 4))
        case 3:
            return "master", random.randrange(8), random.choice((1, 2, 4)), random.getrandbits(32)
        case 4:
            return "start", random.choice((0, START, START | TO_MEMORY, 0xFF))
        case 5:
            return random.choice(("take", "give")), random.randrange(1, 40), random.choice((2, 4))
        case 6:
            return _table(random)
        case _:
            return "read", random.randrange(8), random.choice((1, 2, 4))


def _other(random: Random) -> Step:
    kind = random.choice(("turn", "turn", "settle", "stop", "stop", "cont", "plug", "bus-master"))
    return (kind, random.randrange(4)) if kind in ("plug", "bus-master") else (kind,)


def _example(random: Random, commands: Sequence[Command[Any]], unit: int) -> Example:
    steps = sequence(
        random,
        (1, 1, 2, 3, 4, 6),
        lambda: _command(random, commands, unit),
        lambda: _access(random),
        lambda: _other(random),
    )
    return steps, random.choice(RESETS)


def disk_example(random: Random) -> Example:
    """For a channel with a disk."""
    return _example(random, DISK, 0)


def drive_example(random: Random) -> Example:
    """For one with a CD drive, whichever device it is."""
    unit = random.randrange(2)
    steps, how = _example(random, DRIVE, unit)
    if random.randrange(4):
        # TEST UNIT READY hears of the reset before.
        ready: Step = ("task", 0xA0, 0, 0, 0, unit << 4)
        steps = (*[ready, ("packet", bytes(12)), ("turn",), ("read", COMMAND, 1)] * 2, *steps)
    return steps, how
