"""What a port's registers hold on both sides after any writes, where that need not be the same (AHCI 1.3.1 §3.3).

Ours is as the specification has it, theirs QEMU's; a read where both are not the same names the mask, and both values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from guestsim.diff.access import Access, Read, Write
from guestsim.diff.grammar.ahci_port import LIST, RECEIVED, port
from guestsim.drivers.ahci_layouts import (
    PORTS_OFFSET,
    SIGNATURE_ATAPI,
    SIGNATURE_DISK,
    Cmd,
    PortIs,
    PortReg,
)

ST, FRE, CLO, UP = int(Cmd.ST), int(Cmd.FRE), int(Cmd.CLO), int(Cmd.SUD | Cmd.POD)
FR, CR = int(Cmd.FR), int(Cmd.CR)
BUSY = 0x88
"""BSY and DRQ."""
NO_DEVICE, NO_SIGNATURE = 0x7F, 0xFFFF_FFFF
GOOD = 0x50
CHANGED, EXCHANGED = 1 << 16, 1 << 26
"""PxSERR.DIAG.N and DIAG.X."""
RESETS, OFF = 1, 4
"""PxSCTL.DET."""
SLEEPS = {1: 0, 2: 1, 6: 2}
"""PxCMD.ICC, and the bit of PxSCTL.IPM that forbids it."""
ENABLES = 0xFDC0_00FF
"""Bits of PxIE."""

KEPT_BY_OURS = FRE | ST | 3 << 24
KEPT_BY_THEIRS = 0x0F82_001F
"""Bits of PxCMD that hold what is written."""

MASK_OF = {
    PortReg.CLB: "address-bits",
    PortReg.FB: "address-bits",
    PortReg.CMD: "command-bits",
    PortReg.SCTL: "control-bits",
    PortReg.CI: "not-started",
    PortReg.SACT: "not-started",
    PortReg.SSTS: "link",
    PortReg.TFD: "link",
    PortReg.SIG: "link",
    PortReg.SERR: "link",
    PortReg.IS: "link",
}
LANES = "lanes"
NARROW_IN = frozenset({PortReg.IE, PortReg.CLBU, PortReg.FBU})
"""Registers that differ for narrow writes alone."""


@dataclass(slots=True)
class Expected:
    """The registers of a port whose device has ended a command well, stopped and with nothing pending."""

    cd: bool
    ours: dict[PortReg, int] = field(default_factory=dict)
    theirs: dict[PortReg, int] = field(default_factory=dict)
    _forgotten: bool = False
    """Whether theirs has a first FIS for when PxCMD.FRE is 1."""

    def __post_init__(self) -> None:
        held = dict.fromkeys(PortReg, 0)
        held |= {PortReg.CLB: LIST, PortReg.FB: RECEIVED, PortReg.TFD: GOOD, PortReg.SSTS: 0x133}
        held |= {PortReg.SIG: self._signature, PortReg.CMD: FRE | UP | FR}
        # Neither is looked at in what follows a reset, before a port has been at work.
        held[PortReg.SCTL] = 0x300
        self.ours = held
        self.theirs = held | {PortReg.SSTS: 0x113}

    @property
    def _signature(self) -> int:
        return SIGNATURE_ATAPI if self.cd else SIGNATURE_DISK

    def reads(self) -> Iterator[Access]:
        """All registers of the port."""
        for register in PortReg:
            mine, others = self.ours[register], self.theirs[register]
            same = mine == others or (register is PortReg.SSTS and (mine, others) == (0x133, 0x113))
            mask = MASK_OF.get(register, LANES)
            yield port(register) if same else replace(port(register), but=(mask, mine, others))

    def write(self, register: PortReg, value: int, size: int = 4, lane: int = 0) -> Write:
        """The access, `size` bytes from byte `lane` of a register on; both are what they are after it."""
        merged = self._held(register) & ~((1 << 8 * size) - 1 << 8 * lane) | value << 8 * lane
        self._ours(register, merged & 0xFFFF_FFFF)
        # QEMU's has it as a write of the whole register, or not at all.
        if not lane:
            self._theirs(register, value)
        return Write("hba", PORTS_OFFSET + register + lane, size, value)

    def _held(self, register: PortReg) -> int:
        """What a write leaves of other bytes: of bits that are cleared by ones, or set, nothing."""
        if register in (PortReg.IS, PortReg.SERR, PortReg.CI, PortReg.SACT):
            return 0
        return self.ours[register]

    # --- ours

    def _ours(self, register: PortReg, value: int) -> None:
        held = self.ours
        match register:
            case PortReg.CLB | PortReg.FB:
                held[register] = value & (~0x3FF if register is PortReg.CLB else ~0xFF)
            case PortReg.CLBU | PortReg.FBU:
                held[register] = value
            case PortReg.IE:
                held[register] = value & ENABLES
            case PortReg.IS:
                held[register] &= ~value
                self._follow()
            case PortReg.SERR:
                held[register] &= ~value
                self._follow()
            case PortReg.SACT if held[PortReg.CMD] & ST:
                held[register] |= value
            case PortReg.CMD:
                self._our_command(value)
            case PortReg.SCTL:
                self._our_link(value & 0xFFF)

    def _follow(self) -> None:
        """PCS and PRCS follow PxSERR (§3.3.5)."""
        errors = self.ours[PortReg.SERR]
        follow = (PortIs.PCS if errors & EXCHANGED else 0) | (PortIs.PRCS if errors & CHANGED else 0)
        self.ours[PortReg.IS] = self.ours[PortReg.IS] & ~int(PortIs.PCS | PortIs.PRCS) | follow

    def _our_command(self, value: int) -> None:
        held = self.ours
        before = held[PortReg.CMD]
        running = CR if value & ST else 0
        received = FR if value & FRE or (before & FR and running) else 0
        held[PortReg.CMD] = value & KEPT_BY_OURS | UP | running | received
        if value & CLO:
            held[PortReg.TFD] &= ~BUSY
        if not value & ST:
            held[PortReg.CI] = held[PortReg.SACT] = 0
        state = value >> 28
        forbids = held[PortReg.SCTL] >> 8 & SLEEPS.get(state, -1)
        if state in SLEEPS and not forbids and held[PortReg.SSTS] & 0xF == 3:
            held[PortReg.SSTS] = held[PortReg.SSTS] & 0xFF | state << 8

    def _our_link(self, value: int) -> None:
        held = self.ours
        before, now = held[PortReg.SCTL] & 0xF, value & 0xF
        held[PortReg.SCTL] = value
        if before == now:
            return
        if now in (RESETS, OFF):
            held[PortReg.SERR] |= CHANGED if held[PortReg.SSTS] & 0xF == 3 else 0
            held[PortReg.SSTS] = OFF if now == OFF else 0
            held[PortReg.TFD], held[PortReg.SIG] = NO_DEVICE, NO_SIGNATURE
        elif before in (RESETS, OFF):
            held[PortReg.SERR] |= CHANGED | EXCHANGED
            held[PortReg.SSTS] = 0x103 | min(value >> 4 & 0xF or 3, 3) << 4
            held[PortReg.TFD], held[PortReg.SIG] = 0x100 if self.cd else 0x150, self._signature
        self._follow()

    # --- theirs

    def _theirs(self, register: PortReg, value: int) -> None:
        held = self.theirs
        match register:
            case PortReg.CLB | PortReg.FB | PortReg.CLBU | PortReg.FBU:
                held[register] = value
            case PortReg.IE:
                held[register] = value & ENABLES
            case PortReg.IS | PortReg.SERR:
                held[register] &= ~value
            case PortReg.SACT | PortReg.CI:
                held[register] |= value
            case PortReg.CMD:
                if held[register] & ST and not value & ST:
                    held[PortReg.CI] = held[PortReg.SACT] = 0
                engines = (CR if value & ST else 0) | (FR if value & FRE else 0)
                held[register] = value & KEPT_BY_THEIRS | engines
                if self._forgotten:
                    self._first()
            case PortReg.SCTL:
                over = held[register] & 0xF == RESETS and not value & 0xF
                held[register] = value
                if over:
                    held[PortReg.CI] = held[PortReg.SACT] = held[PortReg.SERR] = 0
                    held[PortReg.TFD], held[PortReg.SIG] = NO_DEVICE, NO_SIGNATURE
                    self._first()

    def _first(self) -> None:
        """The first FIS of the device, where it is received."""
        held = self.theirs
        self._forgotten = not held[PortReg.CMD] & FR
        if not self._forgotten:
            held[PortReg.TFD], held[PortReg.SIG] = 0x170 if self.cd else 0x130, self._signature
            held[PortReg.IS] |= PortIs.DHRS


def narrow(register: int, size: int, lane: int) -> Read:
    """A part of a register is read."""
    return Read("hba", register + lane, size)
