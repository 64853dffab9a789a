"""Our SCSI units answer as the tables say that random sequences go by: this needs no QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from guestsim.diff.access import Read, Step, Store, Write
from guestsim.diff.arena import ARENA
from guestsim.diff.devices import DEVICES
from guestsim.diff.grammar.replies import Row
from guestsim.diff.grammar.virtio import BringUp, Submit
from guestsim.diff.grammar.virtio_chains import Chain, Piece
from guestsim.diff.grammar.virtio_driver import Lowering
from guestsim.diff.grammar.virtio_rings import Queue
from guestsim.diff.grammar.virtio_scsi import ALL, QUEUES
from guestsim.diff.grammar.virtio_scsi_table import CD, DISK, FIXED, HEAD, SENSE_AT, Answers, written
from guestsim.diff.sides import OurSide
from guestsim.drivers.scsi_layouts import CDB_SIZE, COMMAND, FIRST_REQUEST_QUEUE, lun_bytes

TEST_UNIT_READY = bytes(6)


class Driver:
    """Brings one up and gives it one command at a time."""

    def __init__(self, side: OurSide, prologue: tuple[Step, ...]) -> None:
        self.side = side
        self.lowering = Lowering([Queue(number) for number in range(QUEUES)], control=0)
        for step in (*prologue, self.lowering.step(BringUp(ALL, (16,) * QUEUES, None, frozenset()))):
            self.do(step)
        self.command(TEST_UNIT_READY, b"", 0)

    def do(self, step: Step) -> None:
        for access in step.accesses:
            if isinstance(access, Read | Write | Store):
                self.side.do([access])
        self.side.settle()

    def command(self, cdb: bytes, out: bytes, room: int) -> bytes:
        """Response and data."""
        head = COMMAND.pack(lun_bytes(0, 0), 1, 0, 0, 0) + cdb.ljust(CDB_SIZE, b"\0")
        sizes = (Piece(len(out), out), Piece(HEAD), Piece(room))
        chain = Chain("a command", (Piece(len(head), head), *(piece for piece in sizes if piece.length)))
        at = self.lowering.buffers.free + len(head) + len(out) - ARENA
        self.do(self.lowering.step(Submit(FIRST_REQUEST_QUEUE, (chain,), FIRST_REQUEST_QUEUE)))
        return bytes(self.side.memory[at : at + HEAD + room])


def differing(driver: Driver, rows: tuple[Row, ...], *, ours: bool = True) -> Iterator[str]:
    for row in rows:
        driver.lowering.buffers.free = ARENA + 0x2_0000
        found = driver.command(row.cdb, row.out, row.room)
        told = written(row.ours if ours else row.theirs, row, ours=ours)
        for at, (value, wanted) in enumerate(zip(found, told, strict=True)):
            beyond = SENSE_AT + FIXED <= at < HEAD
            if wanted not in (None, value) and not beyond:
                yield f"{row.name} {row.cdb.hex()}: byte {at} is {value:#x}, {wanted:#x} in the table"
                break


@pytest.mark.parametrize(("name", "answers"), [("virtio-scsi", DISK), ("virtio-scsi-cd", CD)])
def test_ours_answer_as_the_tables_say(tmp_path: Path, name: str, answers: Answers) -> None:
    side = DEVICES[name].our_side(tmp_path)
    try:
        driver = Driver(side, tuple(DEVICES[name].prologue))
        assert list(differing(driver, answers.rows)) == []
    finally:
        side.close()


@pytest.mark.parametrize(("name", "answers"), [("virtio-scsi", DISK), ("virtio-scsi-cd", CD)])
def test_under_the_profile_of_qemu_ours_answer_as_qemus(tmp_path: Path, name: str, answers: Answers) -> None:
    device = DEVICES[name].under("qemu")
    side = device.our_side(tmp_path)
    try:
        driver = Driver(side, tuple(device.prologue))
        assert list(differing(driver, answers.rows, ours=False)) == []
    finally:
        side.close()
