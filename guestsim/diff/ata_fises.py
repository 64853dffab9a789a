"""What differs in received FISes while a script runs, and is not compared: which mask that is, by both sides' values.

Count and address of a FIS are its bytes 4 to 13 (Serial ATA 3.2 §10.5.6, §10.5.11): those of the command in ours, in
QEMU's those to which the sectors have gone on.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from guestsim.diff.ata_watch import DIRECTED, MOVING, NATIVE, NCQ, PIO_IN, SMART_DATA, AtaWatch, Issued
from guestsim.diff.grammar.ahci_driver import ENDED
from guestsim.diff.grammar.ata_disk import SMART
from guestsim.drivers.ahci_layouts import D2H, DMA_SETUP, PIO_SETUP, SDB
from guestsim.drivers.ide_layouts import LBA_MODE, AtaStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

_IDNF, _ABRT = 0x10, 0x04
_SECTOR, _BLOCKS = 512, (2048, 2352)
"""A disk's sector, and those of a CD."""
_SIZE, _SETUP_SIZE = 20, 28
_FIELDS = slice(4, 14)
_COUNT = slice(8, 10)
"""Of these fields."""
_DMA_SETUP = struct.Struct("<BB2xIIIII4x")
_PIO_MARKS = {1: ((0x60, 0x40),), 15: ((0x50, 0x58), (0xD0, 0x58))}


class Fises:
    """The masks of bytes of received FISes."""

    def __init__(self, watch: AtaWatch) -> None:
        self._watch = watch

    def name(self, start: int, at: int, ours: bytes, theirs: bytes) -> str | None:
        """The mask of one byte, `at` in what both sides have received from `start` on; None where it is unexplained."""
        if DMA_SETUP <= at < DMA_SETUP + _SETUP_SIZE:
            before = self._watch.before(start)
            setups = (side[DMA_SETUP : DMA_SETUP + _SETUP_SIZE] for side in (ours, theirs, before))
            return self._of_dma_setup(*setups)
        if PIO_SETUP <= at < PIO_SETUP + _SIZE:
            return self._of_pio_setup(
                at - PIO_SETUP, *(side[PIO_SETUP : PIO_SETUP + _SIZE] for side in (ours, theirs))
            )
        if D2H <= at < D2H + _SIZE:
            mine, others = (side[D2H : D2H + _SIZE] for side in (ours, theirs))
            return self._of_register(at - D2H, mine, others, self._watch.before(start)[D2H : D2H + _SIZE])
        if SDB + 4 <= at < SDB + 8:
            told = {int.from_bytes(side[SDB + 4 : SDB + 8], "little") for side in (ours, theirs)}
            queued = sum(1 << one.tag for one in self._queued())
            return "order" if len(self._queued()) > 1 and not any(bits & ~queued for bits in told) else None
        return None

    def tells_of_a_command(self, theirs: bytes) -> bool:
        """Whether a register FIS of QEMU's has a command's count and address, or those that its sectors went to."""
        fields = theirs[_FIELDS]
        return any(
            fields == one.fields or (one.code in MOVING and _went(one, fields) is not None)
            for one in self._watch.recent
        )

    def _queued(self) -> list[Issued]:
        return [one for one in self._watch.issued if one.code in NCQ]

    def _of_dma_setup(self, ours: bytes, theirs: bytes, before: bytes) -> str | None:
        """Ours is that of one of the queued commands, QEMU has none: it is as it was."""
        told = (
            _DMA_SETUP.pack(0x41, DIRECTED[one.code], one.tag, 0, 0, 0, one.queued_sectors * _SECTOR)
            for one in self._queued()
            if one.code in DIRECTED
        )
        return "dma-setup" if theirs == before and ours in told else None

    def _of_pio_setup(self, at: int, ours: bytes, theirs: bytes) -> str | None:
        if (ours[at], theirs[at]) in _PIO_MARKS.get(at, ()):
            return "pio-direction" if at == 1 else "pio-status"
        if at in (16, 17) and any(one.packet for one in self._watch.issued):
            mine, others = (int.from_bytes(side[16:18], "little") for side in (ours, theirs))
            return "pio-count" if others in (min(mine, block) for block in _BLOCKS) else None
        if 4 <= at < 14 and _gone_on(self._sectors(), ours[_FIELDS], theirs[_FIELDS]):
            return "outputs"
        return None

    def _of_register(self, at: int, ours: bytes, theirs: bytes, before: bytes) -> str | None:
        if theirs[:4] == ENDED and self._ends_pio(ours, theirs, before):
            return "pio-end"
        failed = ours[2] & AtaStatus.ERR
        if at == 2 and ours[2] ^ theirs[2] == AtaStatus.DSC == ours[2] & AtaStatus.DSC:
            return "DSC"
        if at == 3 and ours[3] ^ theirs[3] == _ABRT == ours[3] & _ABRT and self._packets():
            return "packet-abort"
        if at == 3 and (ours[3], theirs[3]) == (_IDNF, _ABRT):
            return "beyond"
        if not 4 <= at < 14:
            return None
        if any(ours[_FIELDS] == one.fields for one in self._queued()):
            return "accepted"
        if not failed:
            return "outputs" if _gone_on(self._sectors(), ours[_FIELDS], theirs[_FIELDS]) else None
        beyond = ours[3] & _IDNF and _went_beyond(self._sectors(), ours[_FIELDS], theirs[_FIELDS])
        return "beyond" if beyond else None

    def _ends_pio(self, ours: bytes, theirs: bytes, before: bytes) -> bool:
        """Whether QEMU's FIS is that of a command by PIO: ours has none, it is as it was, or a signature."""
        if ours != before and not (ours[0] == ENDED[0] and not ours[1] and ours[3] == 1):
            return False
        return any(
            _gone_on([one], one.fields, theirs[_FIELDS])
            if one.code in MOVING
            else theirs[_FIELDS] == one.fields
            for one in self._watch.recent
            if one.code in PIO_IN or (one.code == SMART and one.features in SMART_DATA)
        )

    def _packets(self) -> bool:
        return any(one.packet for one in self._watch.issued)

    def _sectors(self) -> list[Issued]:
        return [one for one in self._watch.recent if one.code in MOVING]


def _gone_on(commands: Iterable[Issued], ours: bytes, theirs: bytes) -> bool:
    """Whether ours has the count and address of one of the commands, and QEMU's has gone on with its sectors."""
    for one in commands:
        if one.code in NATIVE:
            left = one.sectors & 0xFFFF
            same = ours[: _COUNT.start] == theirs[: _COUNT.start] and ours[_COUNT] == one.fields[_COUNT]
            if same and theirs[_COUNT] == left.to_bytes(2, "little"):
                return True
        elif ours == one.fields and _went(one, theirs) is not None:
            return True
    return False


def _went_beyond(commands: Iterable[Issued], ours: bytes, theirs: bytes) -> bool:
    """Whether ours has the first address that is not there, of one of the commands, and QEMU's has gone on."""
    for one in commands:
        if _went(one, theirs) is None or ours[_COUNT] != one.fields[_COUNT]:
            continue
        if not one.fields[3] & LBA_MODE or any(
            ours == _at(one, done)[: _COUNT.start] + one.fields[_COUNT] for done in range(one.sectors + 1)
        ):
            return True
    return False


def _went(one: Issued, theirs: bytes) -> int | None:
    """How many of a command's sectors have gone by what QEMU's FIS says; None where it says something else."""
    done = one.sectors - int.from_bytes(theirs[_COUNT], "little")
    if done < 0:
        done += 0x1_0000
    if not 0 <= done <= one.sectors:
        return None
    if not one.fields[3] & LBA_MODE:
        # By cylinder, head and sector: where that is depends on the geometry.
        return done
    return done if theirs == _at(one, done) else None


def _at(one: Issued, done: int) -> bytes:
    """The fields when so many sectors have gone."""
    low, device, high = struct.unpack_from("<3sB3s", one.fields)
    address = int.from_bytes(low + high, "little")
    if one.wide:
        address += done
    else:
        address = (address & 0xFF_FFFF | (device & 0x0F) << 24) + done
        device = device & 0xF0 | address >> 24 & 0x0F
        address = address & 0xFF_FFFF | int.from_bytes(high, "little") << 24
    out = (address & 0xFFFF_FFFF_FFFF).to_bytes(6, "little")
    left = one.sectors - done & 0xFFFF
    return out[:3] + bytes([device]) + out[3:] + b"\0" + left.to_bytes(2, "little")
