"""A guest that is hostile to an HBA: FISes, command lists, PRD tables, port and HBA registers, resets, hot plug."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from random import Random
from typing import Any

from devmodels.ahci import AhciPci
from devmodels.ata.table import Command
from tests.unit.ahci.moves import Moves
from tests.unit.ata.hostility import (
    BYTES,
    DISK,
    DRIVE,
    INWARD,
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

BASE = 0x5_A5C0_0000
SIZE = 0x2_0000
LIST, OTHER_LIST, RECEIVED, OTHER_RECEIVED = 0, 0x400, 0x800, 0x900
TABLES, TABLE, PRDS = 0x1000, 0x100, 8
OWN_TABLE, OWN_BUFFER, OWN_SIZE = 0x3000, 0x3800, 0x1000
BUFFERS = 0x8000
NOWHERE = (0, BASE - 0x200, BASE + SIZE - 0x100, 1 << 40, (1 << 64) - 0x200)
PORT = 0x100
CLB, CLBU, FB, FBU, IS, IE, CMD, TFD, SCTL, SERR, SACT, CI = (
    *(0x00, 0x04, 0x08, 0x0C, 0x10, 0x14),
    *(0x18, 0x20, 0x2C, 0x30, 0x34, 0x38),
)
SSTS = 0x28
GHC, HBA_IS = 0x04, 0x08
ST, CLO, FRE, FR, CR = 1, 1 << 3, 1 << 4, 1 << 14, 1 << 15
AE, HR = 1 << 31, 1
BUSY, BSY, ERR = 0x88, 0x80, 0x01
ATAPI, WRITE, RESET, CLEAR_BUSY = 1 << 5, 1 << 6, 1 << 8, 1 << 10
HEADER, H2D, PRD = struct.Struct("<HHIII16x"), struct.Struct("<BBBBIIHBBI"), struct.Struct("<QII")
EVERYTHING = 0xFFFF_FFFF
RESETS = ("comreset", "comreset", "pulse", "hba", "hba", "srst", "srst", "function")
"""A pulse is a COMRESET while the port may run."""
QUEUED = range(0x60, 0x66)
CONTROLS = (0, 1, 4, 0x300, 0x301, 0x304, 0x310, 0x330)
STARTS = (
    0,
    ST,
    FRE,
    ST | FRE,
    ST | FRE,
    CLO | FRE,
    ST | CLO,
    1 << 28,
    2 << 28,
    6 << 28 | ST | FRE,
    EVERYTHING,
)


class HbaBench(Bench):
    """An HBA with one port, at which there is a disk or, with `drive`, a CD drive."""

    def __init__(
        self, stack: ExitStack, ends: Counter[str], *, backend: str, shared: bool, drive: bool
    ) -> None:
        node = {**blockdev(backend, drive=drive), "node-name": "n0"} | ({"read-only": True} if drive else {})
        super().__init__(stack, Shadow(BASE, SIZE, shared=shared), [node], ends, drive=drive)
        for options in (
            {"driver": "ich9-ahci", "id": "sata0", "addr": "4", "ports": 1},
            {"driver": "ide-cd" if drive else "ide-hd", "id": "u0", "bus": "sata0.0", "drive": "n0"},
        ):
            self.assembly.add_device(options)
        function = self.assembly.ata_hosts["sata0"]
        assert isinstance(function, AhciPci)
        self.function = function
        self.port = function.hba.ports[0]
        assert self.port.device is not None
        self.device = self.port.device
        self.watch(self.device)
        Moves(self.port, self.shadow, self.wrong)
        self.windows = function.hba.windows()
        for at in (RECEIVED, OTHER_RECEIVED):
            self.shadow.always(at, 0x100)
        for at in range(4, 0x800, 32):
            self.shadow.always(at, 4)
        self.shadow.always(OWN_BUFFER, OWN_SIZE)
        self.begin_anew("hba")

    # --- registers

    def get(self, register: int) -> int:
        """Read a register of the port."""
        return self.windows.read(PORT + register, 4)

    def set(self, register: int, value: int) -> None:
        """Write one."""
        self.windows.write(PORT + register, 4, value)

    def do(self, step: Step) -> None:
        """One step."""
        match step:
            case "command", int(slot), bytes(fis), int(flags), int(prdtl), prds, bytes(acmd), bool(inward):
                self.place(slot, fis, flags, prdtl, prds, acmd, inward=inward)
            case "issue", int(tags), int(slots):
                if tags:
                    self.set(SACT, tags)
                self.set(CI, slots)
            case "port", int(register), int(size), int(value):
                self.windows.write(PORT + register, size, value)
            case "hba", int(register), int(size), int(value):
                self.windows.write(register, size, value)
            case "read", int(register), int(size):
                self.windows.read(register, size)
            case "address", int(register), int(value):
                self.set(register, value & EVERYTHING)
                self.set(register + 4, value >> 32)
                if register == FB:
                    self.shadow.allow(value, 0x100)
            case "pair", int(register), int(value):
                self.function.index_data.write(0x10, 4, register)
                self.function.index_data.write(0x14, 4, value)
            case "restart", *_:
                self._stop()
                self.set(IS, EVERYTHING)
                self.set(CMD, FRE | ST)
            case "master", int(value):
                self.function.config_write(4, 2, 6 if value else 2)
            case "plug", *_:
                if self.port.device is None:
                    self.port.attach(self.device)
                else:
                    self.port.detach()
            case _:
                super().do(step)

    def place(
        self,
        slot: int,
        fis: bytes,
        flags: int,
        prdtl: int,
        prds: Sequence[tuple[int, int]],
        acmd: bytes,
        *,
        inward: bool,
    ) -> None:
        """A command header with its table."""
        at = TABLES + TABLE * slot
        table = fis.ljust(0x40, b"\0") + acmd.ljust(0x40, b"\0")
        table += b"".join(PRD.pack(address, 0, last) for address, last in prds)
        self.shadow.put(at, table)
        address = BASE + at
        self.shadow.put(LIST + 32 * slot, HEADER.pack(flags, prdtl, 0, address & EVERYTHING, address >> 32))
        if inward:
            for where, last in prds:
                self.shadow.allow(where & ~1, (last & 0x3F_FFFF) + 1)

    # --- beginning anew

    def begin_anew(self, how: str) -> None:
        """One of `RESETS`, wherever things stand; then as a driver begins (AHCI 1.3.1 §10.1.2, §10.4)."""
        if self.port.device is None:
            self.port.attach(self.device)
        if how == "function":
            self.function.reset()
            # Registers are as after power on: it is the device that is busy.
            self.until(lambda: not self.get(TFD) & BSY)
            self._rests()
        elif how == "hba":
            self.windows.write(GHC, 4, AE | HR)
        if self.windows.read(GHC, 4) & HR:
            self.until(lambda: not self.windows.read(GHC, 4) & HR)
            self._rests()
        if how == "pulse":
            self.set(SCTL, 0x301)
            self.context.turn()
            self.set(SCTL, 0x300)
        self.function.config_write(4, 2, 6)
        self.assembly.run_state.cont()
        self.windows.write(GHC, 4, AE)
        self._stop()
        self._rests()
        if how in ("comreset", "pulse"):
            self.set(SCTL, 0x301)
        self.set(SCTL, 0x300)
        self.settle()
        self.at_rest()
        self._start(how)
        self._look()

    def _rests(self) -> None:
        """Nothing of what was before is written to memory any more."""
        self.shadow.check()
        self.assembly.run_state.cont()
        self.settle()
        self.shadow.rests()

    def _stop(self) -> None:
        """AHCI 1.3.1 §10.1.2."""
        self.set(CMD, self.get(CMD) & ~ST)
        self.until(lambda: not self.get(CMD) & CR)
        self.set(CMD, self.get(CMD) & ~FRE)
        self.until(lambda: not self.get(CMD) & FR)

    def _start(self, how: str) -> None:
        self.shadow.put(LIST, bytes(0x800))
        for register, at in ((CLB, LIST), (FB, RECEIVED)):
            self.do(("address", register, BASE + at))
        self.set(SERR, EVERYTHING)
        self.set(IS, EVERYTHING)
        self.set(CMD, FRE)
        self.settle()
        if how == "srst" and self.get(TFD) & BUSY:
            self.set(CMD, FRE | CLO)
        assert not self.get(TFD) & BUSY, hex(self.get(TFD))
        assert self.get(SSTS) & 0xF == 3
        self.set(CMD, FRE | ST)
        if how == "srst":
            for control, flags in ((4, RESET | CLEAR_BUSY), (0, 0)):
                self.place(
                    0, H2D.pack(0x27, 0, 0, 0, 0, 0, 0, 0, control, 0), 5 | flags, 0, (), b"", inward=False
                )
                self.set(CI, 1)
                self.settle()
                assert not self.get(CI)
            assert not self.get(TFD) & BUSY
        assert self.get(CMD) & (CR | FR) == CR | FR

    def command(
        self,
        opcode: int,
        *,
        features: int = 0,
        count: int = 0,
        lba: int = 0,
        device: int = 0x40,
        out: bytes = b"",
        acmd: bytes = b"",
    ) -> bytes | None:
        """A driver's own command, with a buffer of 4 KiB; what that holds, or None where it has failed."""
        fis = H2D.pack(0x27, 0x80, opcode, features, lba | device << 24, 0, count, 0, 0, 0)
        self.shadow.put(OWN_BUFFER, out.ljust(OWN_SIZE, b"\xee"))
        flags = 5 | (WRITE if out else 0) | (ATAPI if acmd else 0)
        prds = ((BASE + OWN_BUFFER, OWN_SIZE - 1),)
        self.place(0, fis, flags, 1, prds, acmd, inward=False)
        if opcode in QUEUED:
            self.set(SACT, 1)
        self.set(CI, 1)
        self.settle()
        taskfile, issued = self.get(TFD), self.get(CI)
        if taskfile & ERR:
            self._stop()
            self.set(IS, EVERYTHING)
            self.set(CMD, FRE)
            self.set(CMD, FRE | ST)
            return None
        assert not issued, hex(issued)
        assert not taskfile & BUSY
        return bytes(self.shadow.data[OWN_BUFFER : OWN_BUFFER + OWN_SIZE])

    def _look(self) -> None:
        if not self.drive:
            self.command(0x2F, lba=0x10, count=1)
        self.works()

    def identify(self) -> bytes:
        """IDENTIFY (PACKET) DEVICE."""
        identity = self.command(0xA1 if self.drive else 0xEC)
        assert identity is not None
        return identity[:512]

    def switch(self, opcode: int, features: int = 0) -> None:
        """Any command without data."""
        assert self.command(opcode, features=features) is not None

    def write_sector(self, data: bytes) -> None:
        """WRITE DMA EXT."""
        assert self.command(0x35, count=1, out=data) is not None

    def write_sector_fua(self, data: bytes) -> None:
        """WRITE DMA FUA EXT."""
        assert self.command(0x3D, count=1, out=data) is not None

    def _write_queued(self, data: bytes) -> None:
        """WRITE FPDMA QUEUED with FUA."""
        assert self.command(0x61, features=1, out=data, device=0xC0) is not None
        assert not self.get(SACT)

    @property
    def stable_ways(self) -> Sequence[Callable[[bytes], None]]:
        """With one by the queue."""
        return *super().stable_ways, self._write_queued

    def read_sector(self) -> bytes:
        """READ DMA EXT and READ FPDMA QUEUED by turns."""
        read = self.command(0x60, features=1) if self.turns % 2 else self.command(0x25, count=1)
        assert read is not None
        return read[:512]

    def packet(self, *cdb: int, length: int = 0) -> bytes | None:
        """By DMA."""
        read = self.command(0xA0, features=1, acmd=bytes(cdb).ljust(16, b"\0"))
        return None if read is None else read[:length]


def make_disk(stack: ExitStack, configuration: str, ends: Counter[str]) -> Bench:
    """With a disk over a backend of `BACKENDS`; "copied": memory can only be copied from and to."""
    backend, shared = backend_of(configuration)
    return HbaBench(stack, ends, backend=backend, shared=shared, drive=False)


def make_drive(stack: ExitStack, configuration: str, ends: Counter[str]) -> Bench:
    """The same with a CD drive."""
    backend, shared = backend_of(configuration)
    return HbaBench(stack, ends, backend=backend, shared=shared, drive=True)


# --- what guests do

READY: Step = (
    "command",
    0,
    H2D.pack(0x27, 0x80, 0xA0, 0, 0x40 << 24, 0, 0, 0, 0, 0),
    5 | ATAPI,
    0,
    (),
    b"",
    False,
)
RESTART: Step = ("restart",)
AWAKE: tuple[Step, ...] = (READY, ("issue", 0, 1), ("turn",))
"""TEST UNIT READY, which hears of the reset before."""


def _prds(random: Random) -> tuple[tuple[int, int], ...]:
    """A few regions: buffers, mostly."""
    made = []
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, PRDS))):
        where = somewhere(random, BASE + BUFFERS, BASE + SIZE - 0x100, NOWHERE)
        length = random.choice((2, 100, 512, 512, 1024, 4096, 4096, 16384, 65536, 1 << 22))
        last = length - 1 & ~(not random.randrange(16)) | random.choice((0, 0, 0, 1 << 31))
        made.append((where, last))
    return tuple(made)


def _fis(random: Random, commands: Sequence[Command[Any]], slot: int) -> tuple[bytes, bool]:
    """A command FIS, and whether data may come of it."""
    kind = random.randrange(24)
    if not kind:
        fis = bytearray(random.randbytes(20))
        if random.randrange(2):
            fis[:2] = 0x27, 0x80
        fis[2] += fis[2] == 0xF1
        return bytes(fis), True
    if kind == 1:
        return H2D.pack(0x27, 0, 0, 0, 0, 0, 0, 0, random.choice((0, 4, 4, 2, 0xFF)), 0), False
    opcode, features, count, lba, device = registers(random, commands)
    found = [each for each in commands if each.opcode == opcode]
    if found and found[0].protocol.queued and random.randrange(8):
        count = count & ~0xF8 | slot << 3
    inward = any(each.protocol in INWARD for each in found)
    low = lba & 0xFF_FFFF | device << 24
    high = lba >> 24 | features >> 8 << 24
    auxiliary = random.choice((0, 1, 1, EVERYTHING))
    return H2D.pack(0x27, 0x80, opcode, features & 0xFF, low, high, count, 0, 0, auxiliary), inward


def _command(random: Random, commands: Sequence[Command[Any]]) -> list[Step]:
    """A command in a slot, which mostly is issued."""
    slot = random.choice((0, 0, 0, 1, 2, 5, 31))
    fis, inward = _fis(random, commands, slot)
    flags = 5 if random.randrange(16) else random.choice((0, 1, 2, 16, 17))
    acmd = b""
    if fis[2] == 0xA0:
        acmd = packet(random)
        flags |= ATAPI if random.randrange(16) else 0
        fis = fis[:3] + bytes((random.choice((0, 1, 1, 1, 3)),)) + fis[4:]
        fis = (
            fis[:5] + random.choice((0, 1, 2, 13, 2048, 2352, 0xFFFE, 0xFFFF)).to_bytes(2, "little") + fis[7:]
        )
    if not random.randrange(4):
        flags |= random.choice((WRITE, 1 << 7, RESET, 1 << 9, CLEAR_BUSY, 1 << 12))
    prds = _prds(random)
    prdtl = len(prds) if random.randrange(8) else random.choice((0, len(prds), PRDS, 0xFFFF))
    if prdtl > len(prds):
        # What is behind them are the regions of an earlier command there.
        prds += ((random.choice(NOWHERE), 511),) * (PRDS - len(prds))
    steps: list[Step] = [("command", slot, fis, flags, prdtl, prds, acmd, inward)]
    if random.randrange(8):
        steps.append(("issue", 1 << slot if fis[2] in QUEUED else 0, 1 << slot))
        steps += [("turn",)] * random.choice((0, 1, 1, 1, 2))
        if not random.randrange(3):
            steps.append(RESTART)
    return steps


def _access(random: Random) -> Step:
    """An access to a register."""
    match random.randrange(12):
        case 0 | 1:
            return "port", CMD, 4, random.choice(STARTS)
        case 2:
            return "port", SCTL, 4, random.choice(CONTROLS)
        case 3:
            return (
                "port",
                random.choice((IS, IE, SERR)),
                4,
                random.choice((0, EVERYTHING, random.getrandbits(32))),
            )
        case 4:
            register = random.choice((CLB, FB))
            place = OTHER_LIST if register == CLB else OTHER_RECEIVED
            return "address", register, random.choice((BASE + place, *NOWHERE))
        case 5:
            size = random.choice((1, 2, 4, 8))
            return "port", random.randrange(0x10, 0x80, size), size, random.getrandbits(8 * size)
        case 6:
            return "hba", GHC, 4, random.choice((AE | HR, AE, AE | 2, 0, HR))
        case 7:
            size = random.choice((1, 2, 4))
            value = random.getrandbits(8 * size) & ~(HR if random.randrange(4) else 0)
            return "hba", random.randrange(0, 0x100, size), size, value
        case 8:
            return "issue", random.choice((0, 1, EVERYTHING)), random.choice((0, 1, 0x27, EVERYTHING))
        case 9:
            return (
                "pair",
                random.choice((GHC, PORT + CMD, PORT + CI, PORT + SCTL, 0xFFFC)),
                random.choice(BYTES),
            )
        case _:
            return "read", random.randrange(0x180), random.choice((1, 2, 4, 8))


def _other(random: Random) -> Step:
    kind = random.choice(("turn", "turn", "settle", "stop", "stop", "cont", "restart", "plug", "master"))
    return (kind, random.randrange(4)) if kind == "master" else (kind,)


def _example(random: Random, commands: Sequence[Command[Any]]) -> Example:
    steps = sequence(
        random,
        (1, 2, 3, 4, 5, 6, 8, 12),
        lambda: _command(random, commands),
        lambda: _access(random),
        lambda: _other(random),
    )
    return steps, random.choice(RESETS)


def disk_example(random: Random) -> Example:
    """For an HBA with a disk."""
    return _example(random, DISK)


def drive_example(random: Random) -> Example:
    """For one with a CD drive."""
    steps, how = _example(random, DRIVE)
    if random.randrange(4):
        steps = (*AWAKE, RESTART, *AWAKE, RESTART, *steps)
    return steps, how
