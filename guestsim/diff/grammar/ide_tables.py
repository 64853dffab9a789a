"""Tables of a bus master that are wrong, or odd (SFF-8038i §1.2): what comes of a read that goes by one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from guestsim.diff.access import Access, Loose, Rest, Step, Store, Wait, Write
from guestsim.diff.arena import ARENA
from guestsim.diff.grammar import Action, ide
from guestsim.diff.grammar.ata import SECTOR, Table, Task
from guestsim.diff.grammar.ata_disk import transfer
from guestsim.diff.grammar.ide import ALTERNATE, MASTER, TABLES, UNTOUCHED, Issue, quiet, reg
from guestsim.drivers.ide_layouts import EOT, START, TO_MEMORY, BmStatus, BusMaster, Control, Reg

BORDER = ARENA + 0x1_0000
"""A multiple of 64 KiB, over which no table lies; with 64 KiB of room for one behind it."""
OUTSIDE = (0xD000_0000, 0xE000_0000)
"""Where there is no memory."""
SHORTEST = 2
"""The least that a region has, in bytes."""
THEIR_ENTRIES, MOST_ENTRIES = 0x1000 // 8, 0x1_0000 // 8
"""So many entries QEMU looks at, and so many a table may have."""
THEIR_SECTORS, MOST_SECTORS = (SHORTEST * entries // SECTOR for entries in (THEIR_ENTRIES, MOST_ENTRIES))

NOWHERE, LONG, ENDLESS = "table-nowhere", "table-long", "table-endless"
"""Tags, and masks of what is not the same then."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Status and bus master status that a read ends with in ours and in QEMU's, and whether ours has data for it."""

    status: tuple[int, int]
    master: tuple[int, int]
    moves: bool = False


ENDS = {
    NOWHERE: Ends((0x58, 0x50), (0x2, 0x5)),
    LONG: Ends((0x50, 0x50), (0x4, 0x0), moves=True),
    ENDLESS: Ends((0x58, 0x50), (0x0, 0x0), moves=True),
}
"""Ours sets the error bit, goes on to 64 KiB, waits for more; QEMU takes zeroes, or is over without an interrupt."""
ODD = ("over a border", "without an end")
"""Tables with which both do the same."""


class TableLowering(ide.Lowering):
    """The driver of a channel with disks, which has such tables."""

    odd: str = ""
    """What the next table is."""

    def step(self, action: Action) -> Step:
        """The accesses of one action."""
        if not isinstance(action, Issue) or not action.table:
            return super().step(action)
        if action.table in ENDS:
            self.unit = action.unit
            tags = frozenset({action.task.name, action.table})
            return Step(f"{action.task.name}; {action.table}", tuple(self._wrong(action)), tags)
        self.odd = action.table
        step = super().step(action)
        self.odd = ""
        return replace(step, name=f"{step.name}; table {action.table}")

    def _table(self, one: Task, pieces: int, buffer: int) -> Iterator[Access]:
        """One over a border, or without an end, behind which there is a region of 64 KiB."""
        at = BORDER - 8 if self.odd == ODD[0] else TABLES
        for access in super()._table(one, pieces, buffer):
            match access:
                case Store(address, table) if self.odd and address == TABLES:
                    if self.odd == ODD[1]:
                        table = table[:-1] + bytes((table[-1] & ~(EOT >> 24),)) + bytes(8)
                    yield Store(at, table)
                case Write("master", BusMaster.TABLE) if self.odd:
                    yield replace(access, value=at)
                case _:
                    yield access

    def _wrong(self, issue: Issue) -> Iterator[Access]:
        """The command, what shows of it at its end, and a software reset."""
        one, kind = issue.task, issue.table
        ends, at = ENDS[kind], self._room(one.room)
        yield Store(at, UNTOUCHED * one.room)
        if kind != NOWHERE:
            table = b"".join(struct.pack("<II", at + done, SHORTEST) for done in range(0, one.room, SHORTEST))
            if kind == LONG:
                table = table[:-1] + bytes((EOT >> 24,))
            yield Store(BORDER, table[: 8 * MOST_ENTRIES])
        where = OUTSIDE[issue.pieces % len(OUTSIDE)] if kind == NOWHERE else BORDER
        yield Write("master", BusMaster.TABLE, 4, where)
        yield Write("master", BusMaster.COMMAND, 1, TO_MEMORY)
        yield from self._registers(one)
        yield Wait()
        yield Write("master", BusMaster.COMMAND, 1, TO_MEMORY | START)
        status = replace(ALTERNATE, but=(kind, *ends.status))
        yield Rest(status)
        mine, others = (
            value & ~BmStatus.INTERRUPT if self.control & Control.NIEN else value for value in ends.master
        )
        yield Rest(replace(MASTER, but=(kind, mine, others)))
        yield from (status, replace(reg(Reg.STATUS), but=status.but))
        yield from quiet()[1:-1]
        yield from [*self._reset()][:-1]
        if ends.moves:
            yield Loose(kind, at, one.room, values=(None, UNTOUCHED * one.room))
        yield Wait()


def wrong_table(random: Random, _: Table) -> Issue:
    """A read, or for a table that is merely odd any transfer, by DMA."""
    kind = random.choice((*ENDS, *ODD))
    while True:
        one = transfer(random)
        if one.way == "dma-in" if kind in ENDS else one.way.startswith("dma"):
            break
    least = {LONG: THEIR_SECTORS + 1, ENDLESS: MOST_SECTORS + 1}.get(kind, 0)
    if least:
        one = replace(one, lba=random.randrange(64), count=least, room=least * SECTOR)
    return Issue(one, random.choice((1, 2, 3)), table=kind)


MORE = ((wrong_table, 1),)
