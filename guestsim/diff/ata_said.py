"""What a script says of QEMU's ATA devices: whether a difference is that, and the end of what they do otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from guestsim.drivers.ahci_layouts import D2H, PIO_SETUP, PORTS_OFFSET, PortReg
from guestsim.drivers.ide_layouts import AtaStatus, Reg

if TYPE_CHECKING:
    from guestsim.diff.access import Read
    from guestsim.script.schema_expect import Difference
    from guestsim.targets.qemu import QemuTarget

_LONGEST = 5.0
"""How long is waited for a data block, in seconds."""
_TASK_FILE = PORTS_OFFSET + PortReg.TFD
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


def as_said(read: Read, theirs: int, said: Difference) -> bool:
    """Whether a register of QEMU's holds what the script says of it, where it does: nothing else is explained."""
    known = {**(said.registers or {})}
    if read.window == "ide" and said.length:
        low, high = said.length & 0xFF, said.length >> 8
        known |= {"byte count, low": low, "byte count, high": high}
    if read.offset == Reg.DATA and read.window in ("ide", "identity", "sense") and said.data is None:
        # A device that has nothing to say answers with zeroes.
        return said.length is not None or not theirs or not known.get("status", 0) & AtaStatus.ERR
    return all(known.get(name, value) == value for name, value in _held(read, theirs))


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
