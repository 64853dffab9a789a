"""How packets for a drive of an IDE channel become accesses: by PIO in DRQ blocks, or with the bus master.

ATA/ATAPI-7 vol. 1 §6.24, vol. 2 §11.8.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import NamedTuple

from guestsim.diff.access import Access, Loose, Read, Rest, Wait, Write
from guestsim.diff.grammar import ide
from guestsim.diff.grammar.ata import Task
from guestsim.diff.grammar.ata_held import held
from guestsim.diff.grammar.ide import ALTERNATE, MASTER, put, quiet, reg, words
from guestsim.diff.grammar.packets import (
    SENSE,
    Sense,
    aborted,
    apart,
    blocks_of,
    by_dma,
    even,
    limit_of,
    loose,
    mask_of,
    request_sense,
    sides,
    stuck,
)
from guestsim.diff.grammar.replies import Reply
from guestsim.drivers.ide_layouts import OBSOLETE, START, TO_MEMORY, Reg

READY, ERROR, DRQ = 0x50, 0x51, 0x58
"""What the status is: all is well, an error, data are waited for."""
AS_QEMU = {0x51: 0x41, 0x54: 0x50}
"""What ours shows instead under the profile `qemu`."""
TO_HOST, FROM_HOST, OVER = 2, 0, 3
"""Interrupt reason: data come, data are wanted, the command is over (§6.24.6)."""
ABORTED = 0x04


class Shown(NamedTuple):
    """Registers of one side: status, interrupt reason, byte count, error."""

    status: int
    reason: int
    moved: int
    error: int = 0


def _over(reply: Reply, count: int, *, ours: bool) -> Shown:
    """A command that is over without data, or that is refused."""
    if reply.codes is None:
        return Shown(READY, OVER, count)
    return Shown(ERROR if ours else 0x41, OVER, count, reply.codes[0] << 4 | (ABORTED if ours else 0))


def _begins(one: Task, reply: Reply, *, ours: bool) -> Shown:
    """What one side shows when it has got a packet."""
    limit = limit_of(one)
    if aborted(one, ours=ours):
        return Shown(ERROR, OVER, limit, ABORTED) if ours else Shown(0x41, 1, limit, ABORTED)
    if one.data and ours and not by_dma(one):
        return Shown(DRQ, FROM_HOST, len(one.data))
    if reply.length and not by_dma(one):
        return Shown(DRQ, TO_HOST, 0 if limit == 1 else reply.length)
    return _over(reply, limit, ours=ours)


def _ends(one: Task, reply: Reply, begun: Shown, *, ours: bool) -> Shown:
    """What it shows when all data were moved."""
    if begun.status != DRQ or (not ours and stuck(one)):
        return begun
    return _over(reply, begun.moved, ours=ours)


class PacketLowering(ide.Lowering):
    """The driver of a channel with a CD drive."""

    def _issue(self, one: Task, pieces: int, stop: str) -> Iterator[Access]:
        if one.way != "packet":
            yield from super()._issue(one, pieces, stop)
            return
        at = yield from self._begun(one, pieces, stop)
        if apart(one):
            yield from self._apart(one, at)
        else:
            yield from self._alike(one, at, stop)

    def _begun(self, one: Task, pieces: int, stop: str) -> Generator[Access, None, int]:
        """The device has its packet; where the data's buffer is."""
        at = self._room(one.room or len(one.data)) if by_dma(one) else 0
        if by_dma(one):
            yield from self._table(even(one), pieces, at)
        yield from held("" if by_dma(one) else stop, _registers(one), (ALTERNATE, MASTER))
        yield Wait()
        yield from (reg(Reg.STATUS), reg(Reg.COUNT))
        yield from words(one.packet)
        return at

    def _alike(self, one: Task, at: int, stop: str) -> Iterator[Access]:
        """Both do the same, as far as registers go."""
        if by_dma(one):
            yield from held(
                stop, (Write("master", 0, 1, (0 if one.data else TO_MEMORY) | START),), (ALTERNATE, MASTER)
            )
            yield from loose(one, self.sense, at)
            yield Wait()
            yield MASTER
        elif not one.fails:
            yield from self._drq_blocks(one)
        yield Wait()
        yield from (reg(Reg.COUNT), reg(Reg.LBA_MID), reg(Reg.LBA_HIGH), ALTERNATE, reg(Reg.ERROR))
        yield from quiet()
        self.sense.done(one)
        if one.fails:
            yield from self._fetch(())

    def _drq_blocks(self, one: Task) -> Iterator[Access]:
        """Data that come by PIO, block by block."""
        contents = list(_words(one, self.sense))
        done = 0
        for length in blocks_of(one.room, limit_of(one)):
            yield Wait()
            yield from (reg(Reg.STATUS), reg(Reg.COUNT), reg(Reg.LBA_MID), reg(Reg.LBA_HIGH))
            yield from contents[done : done + length // 2]
            done += length // 2

    def _apart(self, one: Task, at: int) -> Iterator[Access]:
        """One side is refused what the other one does, or gives less."""
        mask = mask_of(one)
        mine, others = sides(one)
        first, second = _begins(one, mine, ours=True), _begins(one, others, ours=False)
        if by_dma(one):
            yield Write("master", 0, 1, (0 if one.data else TO_MEMORY) | START)
        yield from _look(mask, first, second)
        if DRQ in (first.status, second.status):
            if one.data:
                yield from (Write("ide", Reg.DATA, 2, word) for word in _pairs(one.data))
            else:
                yield from _words(one, self.sense)
            first = _ends(one, mine, first, ours=True)
            second = _ends(one, others, second, ours=False)
            yield from _look(mask, first, second)
        if by_dma(one):
            yield from (Write("master", 0, 1, 0),)
        self.sense.done(one)
        if stuck(one):
            yield from self._reset()
        else:
            yield from self._fetch(loose(one, self.sense, at) if by_dma(one) else ())

    def _fetch(self, loose: Iterator[Loose] | tuple[()]) -> Iterator[Access]:
        """REQUEST SENSE, by PIO, whatever registers hold."""
        one = request_sense(limit=SENSE)
        yield from _registers(one)
        yield Rest(ALTERNATE)
        yield from (reg(Reg.STATUS), reg(Reg.COUNT))
        yield from words(one.packet)
        yield Rest(ALTERNATE)
        yield from (reg(Reg.STATUS), reg(Reg.COUNT), reg(Reg.LBA_MID), reg(Reg.LBA_HIGH))
        yield from _words(one, self.sense)
        yield Rest(ALTERNATE)
        yield from (reg(Reg.COUNT), reg(Reg.ERROR))
        *do, wait = quiet()
        yield from (*do, *loose, wait)
        self.sense.done(one)


class AsQemuLowering(PacketLowering):
    """The same with a drive of ours that does as QEMU's: all that there is to be seen is compared."""

    def _issue(self, one: Task, pieces: int, stop: str) -> Iterator[Access]:
        if one.way != "packet":
            yield from super()._issue(one, pieces, stop)
            return
        yield from self._begun(one, pieces, stop)
        if by_dma(one):
            start = Write("master", 0, 1, (0 if one.data else TO_MEMORY) | START)
            yield from held(stop, (start,), (ALTERNATE, MASTER))
            yield Wait()
            yield MASTER
        elif not one.fails and not aborted(one, ours=False):
            yield from _all_blocks(one)
        yield Wait()
        yield from (reg(Reg.COUNT), reg(Reg.LBA_MID), reg(Reg.LBA_HIGH), ALTERNATE, reg(Reg.ERROR))
        yield from quiet()
        if stuck(one):
            yield from self._reset()
        elif one.fails and one.name != "request-sense":
            yield from self._issue(request_sense(limit=SENSE), 1, "")


def _all_blocks(one: Task) -> Iterator[Access]:
    """Data that come by PIO, and of those that never come to an end a word more than there is."""
    length, limit = sides(one)[1].length, limit_of(one)
    for block in blocks_of(length, limit) if limit > 1 else (1,) * bool(length):
        yield Wait()
        yield from (reg(Reg.STATUS), reg(Reg.COUNT), reg(Reg.LBA_MID), reg(Reg.LBA_HIGH))
        yield from [Read("data", 0, 2)] * ((block + 1) // 2)


def _registers(one: Task) -> Iterator[Access]:
    """The command block (§6.24.4)."""
    for register, value in (
        (Reg.DEVICE, OBSOLETE),
        (ide.FEATURES, one.features),
        (Reg.COUNT, 0),
        (Reg.LBA_LOW, 0),
        (Reg.LBA_MID, limit_of(one)),
        (Reg.LBA_HIGH, limit_of(one) >> 8),
        (ide.COMMAND, one.command),
    ):
        yield put(register, value)


def _either(read: Read, mask: str, ours: int, theirs: int) -> Read:
    """A register that holds this here and that there."""
    if ours == theirs:
        return read
    return replace(read, but=(mask, ours, theirs), as_qemu=AS_QEMU.get(ours))


def _look(mask: str, ours: Shown, theirs: Shown) -> Iterator[Access]:
    """Wait until both show this, and read all of it."""
    yield Rest(_either(ALTERNATE, mask, ours.status, theirs.status))
    yield _either(reg(Reg.COUNT), mask, ours.reason, theirs.reason)
    yield _either(reg(Reg.LBA_MID), mask, ours.moved & 0xFF, theirs.moved & 0xFF)
    yield _either(reg(Reg.LBA_HIGH), mask, ours.moved >> 8, theirs.moved >> 8)
    yield _either(reg(Reg.ERROR), mask, ours.error, theirs.error)
    yield _either(reg(Reg.STATUS), mask, ours.status, theirs.status)


def _pairs(data: bytes) -> Iterator[int]:
    """Data as words, the last one filled up with a zero."""
    for at in range(0, len(data), 2):
        yield int.from_bytes(data[at : at + 2], "little")


def _words(one: Task, sense: Sense) -> Iterator[Access]:
    """The data register, read for all that either side gives."""
    read = Read("data", 0, 2)
    if one.name == "request-sense" and not one.room & 1:
        for mask, ours, theirs in sense.words(one.room):
            yield read if ours == theirs else replace(read, but=(mask, ours, theirs))
        return
    elsewhere = {
        place + at: (mask, first, second, at)
        for mask, place, first, second in one.differs
        for at in range(0, len(second), 2)
    }
    length = sides(one)[1].length
    for number in range((one.room + 1) // 2):
        mine, others = (_word(side, number) for side in sides(one))
        if 2 * number == length - 1:
            # Half a word does not come from QEMU's.
            yield replace(read, but=("odd-block", None if 2 * number in elsewhere else mine, 0))
            continue
        if 2 * number in elsewhere:
            mask, first, second, at = elsewhere[2 * number]
            ours = None if first is None else int.from_bytes(first[at : at + 2], "little")
            yield replace(read, but=(mask, ours, int.from_bytes(second[at : at + 2], "little")))
        else:
            yield read if mine == others else replace(read, but=(mask_of(one), mine, others))


def _word(side: Reply, number: int) -> int | None:
    """A word of its data, None where that is not said; 0 behind them."""
    if 2 * number >= side.length:
        return 0
    return None if side.data is None else int.from_bytes(side.data[2 * number : 2 * number + 2], "little")
