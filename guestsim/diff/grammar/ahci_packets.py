"""How packets for a drive at a port of an AHCI HBA become accesses, where one side does less (AHCI 1.3.1 §5.3).

Data move by DMA in any case: PIO shows in the FISes that come with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from guestsim.diff.access import Access, Loose, Read, Rest, Step, Store, Wait, Write
from guestsim.diff.grammar import ahci_driver
from guestsim.diff.grammar.ahci_port import DONE, LIST, RECEIVED, alone, issued, port, put, table_of
from guestsim.diff.grammar.ata import Task
from guestsim.diff.grammar.packets import SENSE, apart, even, loose, mask_of, request_sense, sides
from guestsim.diff.grammar.replies import Reply
from guestsim.drivers.ahci_layouts import HEADER_SIZE, Hba, PortReg


def _taskfile(reply: Reply, *, ours: bool, as_qemu: bool = False) -> int:
    """PxTFD of a command that is over (§3.3.8)."""
    if reply.codes is None:
        return 0x50
    return (reply.codes[0] << 4 | (4 if ours and not as_qemu else 0)) << 8 | (
        0x51 if ours and not as_qemu else 0x41
    )


class PacketLowering(ahci_driver.Lowering):
    """The driver of a port with a CD drive."""

    def _issue(self, tasks: Sequence[Task], pieces: int, at: str) -> Step:
        one = tasks[0]
        if not one.packet or not apart(one):
            return super()._issue(tasks, pieces, at)
        failing = ("fails",) if one.fails else ()
        return Step(one.name, tuple(self._apart(one, pieces)), frozenset({one.name, one.way, *failing}))

    def _apart(self, one: Task, pieces: int) -> Iterator[Access]:
        slot, buffer = self._slot(), self._room(one.room or len(one.data))
        yield from table_of(slot, even(one), pieces, buffer)
        yield from issued(1 << slot, 0)
        ours, theirs = sides(one)
        values = _taskfile(ours, ours=True), _taskfile(theirs, ours=False)
        yield Rest(_either(port(PortReg.TFD), mask_of(one), values, _taskfile(ours, ours=True, as_qemu=True)))
        self.sense.done(one)
        left = list(loose(one, self.sense, buffer))
        # The next command has its own FISes.
        yield Store(RECEIVED, bytes(0x100))
        fetch = request_sense()
        into = self._room(SENSE)
        yield from alone(fetch, into, DONE)
        yield put(PortReg.IS, -1)
        yield Write("hba", Hba.IS, 4, 0xFFFF_FFFF)
        yield from (*ahci_driver.received((fetch,)), *left, *loose(fetch, self.sense, into))
        moved = tuple(side.length.to_bytes(4, "little") for side in (ours, theirs))
        if one.data:
            moved = len(one.data).to_bytes(4, "little"), bytes(4)
        if moved[0] != moved[1]:
            yield Loose(mask_of(one), LIST + HEADER_SIZE * slot + 4, 4, values=(moved[0], moved[1]))
        self.sense.done(fetch)
        yield Wait()


class AsQemuLowering(ahci_driver.Lowering):
    """The same with a drive of ours that does as QEMU's: all that there is to be seen is compared."""


def _either(read: Read, mask: str, values: tuple[int, int], as_qemu: int) -> Read:
    if values[0] == values[1]:
        return read
    return replace(read, but=(mask, *values), as_qemu=as_qemu)
