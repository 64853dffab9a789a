"""Writes of any values to an HBA's registers, and the way back to a port that works (AHCI 1.3.1 §3, §10.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from guestsim.diff.access import Access, Read, Rest, Wait, Write
from guestsim.diff.grammar.ahci_driver import received
from guestsim.diff.grammar.ahci_port import (
    DONE,
    IDLE,
    LIST,
    RECEIVED,
    SCRATCH,
    alone,
    nothing,
    port,
    put,
    settle,
    start,
)
from guestsim.diff.grammar.ahci_port_state import CLO, FRE, ST, UP, Expected, narrow
from guestsim.diff.grammar.ata import Table
from guestsim.diff.grammar.ata_disk import DISK
from guestsim.diff.grammar.registers import Registers
from guestsim.drivers.ahci_layouts import ENABLED, PORTS_OFFSET, Ghc, Hba, PortReg

ANY = 0xFFFF_FFFF
CCC_CTL, CCC_PORTS, EM_LOC, EM_CTL, BOHC = 0x14, 0x18, 0x1C, 0x20, 0x28
SNTF, FBS, DEVSLP = 0x3C, 0x40, 0x44
CONSTANTS = (Hba.CAP, Hba.PI, Hba.VS, CCC_CTL, CCC_PORTS, EM_LOC, EM_CTL, Hba.CAP2, BOHC)
"""Registers of the HBA that only tell (§3.1): what is not there holds nothing."""
TELLING = (PortReg.TFD, PortReg.SIG, PortReg.SSTS, SNTF, FBS, DEVSLP)
"""Those of a port (§3.3)."""


def any_value(random: Random) -> int:
    """A value of 32 bits: few bits, many, or all."""
    return random.choice(
        (
            0,
            ANY,
            1 << random.randrange(32),
            random.getrandbits(32),
            random.getrandbits(32) & random.getrandbits(32),
        )
    )


def _all(name: str, cd: bool, random: Random, do: Iterable[Access]) -> Registers:
    """Accesses to a port that is stopped and tells nothing, the way back, and a command.

    PxIE is 0 then: of what PxIS tells on one side alone nobody hears.
    """
    before = (
        put(PortReg.IE, 0),
        *alone(nothing(cd=cd), SCRATCH, DONE),
        put(PortReg.CMD, IDLE),
        Rest(),
        put(PortReg.SCTL, 0x300),
        put(PortReg.IS, -1),
        Write("hba", Hba.IS, 4, ANY),
    )
    back = start(cd=cd)[:-1] if random.random() < 0.5 else _comreset(cd=cd)
    one = nothing(cd=cd)
    after = (
        *back,
        *alone(one, SCRATCH, DONE),
        *(port(register) for register in (PortReg.CMD, PortReg.TFD, PortReg.IS, PortReg.SCTL, PortReg.SERR)),
        put(PortReg.IS, -1),
        Write("hba", Hba.IS, 4, ANY),
        *received((one,)),
        Wait(),
    )
    return Registers(name, (*before, *do, *after), tags=frozenset({"reset", "any-registers"}))


def _comreset(*, cd: bool) -> tuple[Access, ...]:
    """COMRESET, whatever registers hold (§10.4.2); structures are placed while nothing is received (§10.3.2)."""
    places = (PortReg.CLB, LIST), (PortReg.CLBU, 0), (PortReg.FB, RECEIVED), (PortReg.FBU, 0)
    return (
        put(PortReg.CMD, UP),
        Rest(),
        *(put(*each) for each in places),
        put(PortReg.CMD, IDLE),
        *(put(PortReg.SCTL, value) for value in (0x301, 0x300)),
        Rest(),
        *settle(cd=cd),
        put(PortReg.IE, ENABLED),
        Write("hba", Hba.GHC, 4, Ghc.AE | Ghc.IE),
    )


def _port(
    name: str,
    random: Random,
    table: Table,
    pairs: Iterable[tuple[PortReg, int]],
    size: int = 4,
    lane: int = 0,
) -> Registers:
    """Registers of the port are written, and all are read after each write."""
    cd = table is not DISK
    expected = Expected(cd)
    do: list[Access] = []
    for register, value in pairs:
        value &= (1 << 8 * size) - 1
        do += [expected.write(register, value, size, lane), Rest(), *expected.reads()]
    return _all(name, cd, random, do)


def _command(random: Random) -> int:
    """A value for PxCMD: the engines, and any other bits (§3.3.7)."""
    engines = random.choice((0, ST, FRE, ST | FRE)) | random.choice((0, UP)) | random.choice((0, 0, CLO))
    return engines | random.choice((0, any_value(random))) & ~(ST | FRE) | random.choice((0, 1, 2, 6)) << 28


def command(random: Random, table: Table) -> Registers:
    """PxCMD (§3.3.7)."""
    pairs = [(PortReg.CMD, _command(random)) for _ in range(random.randint(1, 3))]
    return _port("write PxCMD", random, table, pairs)


def control(random: Random, table: Table) -> Registers:
    """PxSCTL (§3.3.11), with PxCMD as it is, or before or after it."""
    pairs = [
        (PortReg.SCTL, any_value(random) & ~0xF | random.choice((0, 0, 1, 1, 4, random.randrange(16))))
        for _ in range(random.randint(1, 3))
    ]
    if random.random() < 0.5:
        pairs.insert(random.randrange(len(pairs) + 1), (PortReg.CMD, _command(random)))
    return _port("write PxSCTL", random, table, pairs)


def override(random: Random, table: Table) -> Registers:
    """PxCMD.CLO where BSY or DRQ is set: there is no device, or its first FIS is not received (§3.3.7, §3.3.8)."""
    link = random.choice(((1,), (4,), (1, 0)))
    pairs = [
        (PortReg.CMD, UP | random.choice((0, FRE))),
        *((PortReg.SCTL, value) for value in link),
        (PortReg.CMD, UP | CLO | random.choice((0, FRE))),
    ]
    return _port("write PxCMD.CLO", random, table, pairs)


def errors(random: Random, table: Table) -> Registers:
    """PxSERR and PxIS, where they have bits (§3.3.5, §3.3.12)."""
    pairs = [(PortReg.SCTL, value) for value in random.choice(((), (1,), (4,), (1, 0), (4, 0)))]
    for _ in range(random.randint(1, 4)):
        register = random.choice((PortReg.SERR, PortReg.IS))
        pairs.append((register, random.choice((any_value(random), 1 << 16, 1 << 26, 1))))
    return _port("write PxSERR and PxIS", random, table, pairs)


def stopped(random: Random, table: Table) -> Registers:
    """PxCI and PxSACT, which take nothing while PxCMD.ST is 0; PxSACT alone also while it is 1 (§3.3.13, §3.3.14)."""
    both = PortReg.CI, PortReg.SACT
    pairs = [(random.choice(both), any_value(random)) for _ in range(random.randint(1, 3))]
    if random.random() < 0.3:
        before = (PortReg.CMD, IDLE | ST), (PortReg.SACT, any_value(random)), (PortReg.CMD, IDLE)
        pairs = [*before, *pairs[:1]]
    return _port("write PxCI and PxSACT", random, table, pairs)


def addresses(random: Random, table: Table) -> Registers:
    """Where structures are, also while the port runs (§3.3.1 to §3.3.4)."""
    places = (PortReg.CLB, PortReg.CLBU, PortReg.FB, PortReg.FBU)
    pairs = [
        (random.choice(places), random.choice((any_value(random), LIST | random.getrandbits(10))))
        for _ in range(3)
    ]
    if random.random() < 0.5:
        pairs.insert(0, (PortReg.CMD, ST | FRE | UP))
    return _port("write addresses", random, table, pairs)


def narrow_port(random: Random, table: Table) -> Registers:
    """One or two bytes of registers (§3); nothing is issued by them."""
    size = random.choice((1, 1, 2))
    lane = random.choice(range(0, 4, size))
    some = random.choice(
        (
            (PortReg.CLB, PortReg.CLBU, PortReg.FB, PortReg.FBU),
            (PortReg.CMD, PortReg.SCTL),
            (PortReg.IE, PortReg.IS, PortReg.SERR, PortReg.CI, PortReg.SACT),
        )
    )
    pairs = [(random.choice(some), any_value(random)) for _ in range(2)]
    return _port(f"write {size} bytes", random, table, pairs, size, lane)


def narrow_reads(random: Random, _: Table) -> Registers:
    """One or two bytes of registers that are the same on both sides."""
    registers = [PORTS_OFFSET + one for one in PortReg if one not in (PortReg.CMD, PortReg.SSTS)]
    some = []
    for register in random.choices((*registers, Hba.GHC, Hba.IS, Hba.PI), k=4):
        size = random.choice((1, 2))
        some.append(narrow(register, size, random.choice(range(0, 4, size))))
    return Registers("read bytes", tuple(some))


def constants(random: Random, table: Table) -> Registers:
    """Registers that are only read, written (§3.1, §3.3)."""
    cd = table is not DISK
    do: list[Access] = []
    for register in random.sample((*CONSTANTS, *(PORTS_OFFSET + one for one in TELLING)), 4):
        do += [Write("hba", register, 4, any_value(random)), Rest(), Read("hba", register, 4)]
    return _all("write what is read-only", cd, random, do)


def general(random: Random, table: Table) -> Registers:
    """GHC, but for HR (§3.1.2); PxIE and IS."""
    do: list[Access] = []
    for _ in range(random.randint(1, 3)):
        do += [Write("hba", Hba.GHC, 4, any_value(random) & ~Ghc.HR), Read("hba", Hba.GHC, 4)]
        do += [put(PortReg.IE, any_value(random)), port(PortReg.IE)]
        do += [Write("hba", Hba.IS, 4, any_value(random)), Read("hba", Hba.IS, 4)]
    return _all("write GHC", table is not DISK, random, do)


ANY_REGISTERS: tuple[tuple[Callable[[Random, Table], Registers], float], ...] = (
    (command, 1),
    (control, 1),
    (override, 0.5),
    (errors, 0.5),
    (stopped, 0.5),
    (addresses, 0.5),
    (narrow_port, 0.5),
    (narrow_reads, 0.5),
    (constants, 0.5),
    (general, 0.5),
)
