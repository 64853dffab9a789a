"""What a script says of QEMU's ATA devices: whether a difference is that, and the end of what they do otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from guestsim.drivers.ahci_layouts import D2H, PIO_SETUP, PORTS_OFFSET, Hba, PortIs, PortReg
from guestsim.drivers.ide_layouts import AtaStatus, BmStatus, BusMaster, Reg

if TYPE_CHECKING:
    from guestsim.diff.access import Read
    from guestsim.script.schema_expect import Difference, Expect
    from guestsim.targets.qemu import QemuTarget

_LONGEST = 5.0
"""How long is waited for a data block, in seconds."""
_TASK_FILE = PORTS_OFFSET + PortReg.TFD
_IS = ("hba", PORTS_OFFSET + PortReg.IS)
_ENDS = PortIs.DHRS | PortIs.PSS
"""Bits of PxIS that commands end with."""
_INTERRUPT = BmStatus.INTERRUPT
_BYTE_COUNT = {
    D2H + 5: 0,
    D2H + 6: 1,
    PIO_SETUP + 5: 0,
    PIO_SETUP + 6: 1,
    PIO_SETUP + 16: 0,
    PIO_SETUP + 17: 1,
}
"""Where FISes say how much data a packet has, and which byte of that they hold there (Serial ATA 3.2 §10.5.11)."""


def is_data(read: Read | None) -> bool:
    """Whether a register is where data go by PIO, or says how much there are of a packet."""
    return read is not None and (
        read.window in ("identity", "sense")
        or (read.window == "ide" and read.offset in (Reg.DATA, Reg.LBA_MID, Reg.LBA_HIGH))
    )


def fails(registers: Mapping[str, int] | None) -> bool | None:
    """Whether a command fails whose registers are such; None where they do not tell."""
    told = registers or {}
    if "status" in told:
        return bool(told["status"] & AtaStatus.ERR)
    found = next((told[name] for name in ("error", "sense-key") if name in told), None)
    return None if found is None else bool(found)


def ends_otherwise(expect: Expect | None, said: Difference) -> bool:
    """Whether a script says of a command that it fails on QEMU alone, or that it does not there alone."""
    there = fails(said.registers)
    here = fails(expect.registers) if expect is not None else None
    return there is not None and there != bool(here)


def as_said(read: Read, ours: int, theirs: int, said: Difference, *, otherwise: bool) -> bool:
    """Whether a register of QEMU's holds what the script says of it, or what follows from that.

    Nothing else is explained.  `otherwise`: whether the script has the command end otherwise (`ends_otherwise`).
    """
    known = {**(said.registers or {})}
    if read.window == "ide" and said.length:
        low, high = said.length & 0xFF, said.length >> 8
        known |= {"byte count, low": low, "byte count, high": high}
    if read.offset == Reg.DATA and read.window in ("ide", "identity", "sense") and said.data is None:
        # A device that has nothing to say answers with zeroes.
        return said.length is not None or not theirs or not known.get("status", 0) & AtaStatus.ERR
    if any(known.get(name, value) != value for name, value in _held(read, theirs)):
        return False
    if said.registers is not None and (read.window, read.offset) == ("hba", _TASK_FILE):
        return _task_file_as_said(ours, theirs, said)
    if said.registers is None or is_data(read) or any(name in known for name in _names(read)):
        return True
    return _follows(read, ours, theirs, said, otherwise=otherwise)


def _follows(read: Read, ours: int, theirs: int, said: Difference, *, otherwise: bool) -> bool:
    """Whether a register that the script does not name is such by how the command ends there."""
    place, there = (read.window, read.offset), bool(fails(said.registers))
    if place in (("ide", Reg.STATUS), ("control", 0)):
        return "sense-key" in (said.registers or {}) and _status_by_key(ours, theirs, there=there)
    if place == _IS:
        if (ours ^ theirs) & ~(_ENDS | PortIs.TFES):
            return False
        if not otherwise:
            return said.interrupts is not None and not (ours ^ theirs) & PortIs.TFES
        return not (ours ^ theirs) & PortIs.TFES or bool(theirs & PortIs.TFES) == there
    if not otherwise:
        return False
    more, less = (theirs, ours) if there else (ours, theirs)
    if place == ("hba", PORTS_OFFSET + PortReg.CI):
        # A list stops at the command that fails (AHCI 1.3.1 §6.2.2).
        return not less & ~more
    # A bus master that moves nothing stays active (SFF-8038i §2.2).
    return place == ("master", BusMaster.STATUS) and (more | _INTERRUPT) in (
        less | _INTERRUPT,
        less | _INTERRUPT | BmStatus.ACTIVE,
    )


def _status_by_key(ours: int, theirs: int, *, there: bool) -> bool:
    return ours ^ theirs == AtaStatus.ERR and bool(theirs & AtaStatus.ERR) == there


def _held(read: Read, theirs: int) -> Iterator[tuple[str, int]]:
    """What a register has of what scripts speak of."""
    names = {
        ("ide", Reg.STATUS): ("status",),
        ("ide", Reg.ERROR): ("error",),
        ("ide", Reg.LBA_MID): ("byte count, low",),
        ("ide", Reg.LBA_HIGH): ("byte count, high",),
        ("control", 0): ("status",),
        ("hba", _TASK_FILE): ("status", "error"),
    }
    for at, name in enumerate(names.get((read.window, read.offset), ())):
        yield name, theirs >> 8 * at & 0xFF
        if name == "error":
            yield "sense-key", theirs >> 8 * at + 4 & 0xF


_REGISTERS: dict[tuple[str, int], tuple[str, ...]] = {
    ("ide", Reg.ERROR): ("error", "sense-key"),
    ("ide", Reg.COUNT): ("count",),
    ("ide", Reg.LBA_LOW): ("lba", "lba-low"),
    ("ide", Reg.LBA_MID): ("lba", "lba-mid"),
    ("ide", Reg.LBA_HIGH): ("lba", "lba-high"),
    ("ide", Reg.DEVICE): ("device", "lba"),
    ("ide", Reg.STATUS): ("status",),
    ("control", 0): ("status",),
    ("master", BusMaster.STATUS): ("bus-master",),
    ("hba", Hba.GHC): ("ghc",),
    ("hba", Hba.PI): ("ports",),
    ("hba", PORTS_OFFSET + PortReg.CMD): ("cmd", "ccs"),
    **{
        ("hba", PORTS_OFFSET + PortReg[name.upper()]): (name,)
        for name in ("is", "ie", "sig", "ssts", "sctl", "serr", "sact", "ci")
    },
}
"""What scripts call a register, by its window and offset."""
_FIELDS: tuple[tuple[tuple[str, int], ...], ...] = (
    (("status", 0),),
    (("error", 0), ("sense-key", 0)),
    (("lba", 0), ("lba-low", 0)),
    (("lba", 8), ("lba-mid", 0)),
    (("lba", 16), ("lba-high", 0)),
    (("device", 0),),
    (("lba", 24), ("lba-low", 8)),
    (("lba", 32), ("lba-mid", 8)),
    (("lba", 40), ("lba-high", 8)),
    (),
    (("count", 0),),
    (("count", 8),),
)
"""The same of a register FIS from its byte 2 on, and from which bit on (Serial ATA 3.2 §10.5.6)."""


def _names(read: Read) -> tuple[str, ...]:
    return _REGISTERS.get((read.window, read.offset), ())


def fis_as_said(at: int, ours: int, theirs: int, said: Difference, *, otherwise: bool) -> bool:
    """Whether a byte of the received FISes, at `at`, holds what the script says of a register, or follows from that."""
    told = said.registers or {}
    if not D2H + 2 <= at < D2H + 2 + len(_FIELDS):
        # A command that ends otherwise is told of by other FISes.
        return otherwise
    named = [(name, shift) for name, shift in _FIELDS[at - D2H - 2] if name in told]
    if not named:
        by_key = at == D2H + 2 and "sense-key" in told
        return by_key and _status_by_key(ours, theirs, there=bool(told["sense-key"]))
    return all(
        theirs >> 4 == told[name] if name == "sense-key" else theirs == told[name] >> shift & 0xFF
        for name, shift in named
    )


def _task_file_as_said(ours: int, theirs: int, said: Difference) -> bool:
    """The same of PxTFD: status and error each by itself, and nothing else (AHCI 1.3.1 §3.3.8)."""
    pairs = enumerate(zip(ours.to_bytes(4, "little"), theirs.to_bytes(4, "little"), strict=True))
    return all(
        mine == other or (at < 2 and fis_as_said(D2H + 2 + at, mine, other, said, otherwise=False))
        for at, (mine, other) in pairs
    )


def is_byte_count(offset: int, theirs: bytes, length: int) -> bool:
    """Whether bytes of the received FISes, from `offset` on, are those of a packet's length alone."""
    return all(
        at in _BYTE_COUNT and value == length >> 8 * _BYTE_COUNT[at] & 0xFF
        for at, value in enumerate(theirs, offset)
    )


def take_the_rest(theirs: QemuTarget, command: int, control: int, given: bytes) -> None:
    """Take the data blocks that a device of QEMU's has still, or give it those it asks for, as a driver does.

    `command` and `control` are ports, `given` the data of a command that writes (ATA/ATAPI-7 vol. 2 §11.5, §11.6).
    """
    done = 0
    end = time.monotonic() + _LONGEST
    while time.monotonic() < end:
        status = theirs.io_read(control, 1)
        if status & AtaStatus.BSY:
            theirs.advance()
        elif not status & AtaStatus.DRQ:
            return
        elif given:
            theirs.io_write(command, 2, int.from_bytes(given[done : done + 2], "little"))
            done += 2
        else:
            theirs.io_read(command, 2)
