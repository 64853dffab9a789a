"""What must hold whatever initiators send: never an exception, never a byte outside the buffers, sense data always
legal, each task ended once, nothing left behind.  What does not hold is shown with the fewest steps that lead there."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from random import Random
from typing import Any

import pytest

from devmodels.scsi import Outcome, Response, Status
from devmodels.scsi.disk import Disk
from devmodels.scsi.fields import Fields
from devmodels.scsi.mmc import CdDrive
from devmodels.scsi.table import Command, Data
from tests.unit.scsi import legalsense
from tests.unit.scsi.hostility import Deed, Initiators, Manage, Send, Step, Wait
from tests.unit.scsi.initiator import Answer
from tests.unit.scsi.kinds import Bench, Kind
from tests.unit.scsi.legalsense import INVALID_OPCODE, NO_UNIT

ENDS = (
    Status.GOOD,
    Status.CHECK_CONDITION,
    Status.CONDITION_MET,
    Status.RESERVATION_CONFLICT,
    Status.TASK_SET_FULL,
    Status.BUSY,
    Status.TASK_ABORTED,
)


class Oracle:
    """What holds of each task of `bench` that has ended.

    `ends` counts their statuses and outcomes, `succeeded` commands by name.
    """

    def __init__(self, bench: Bench, ends: Counter[str], succeeded: Counter[str]) -> None:
        self.bench = bench
        self.ends = ends
        self.succeeded = succeeded
        commands = bench.units[0].commands
        self._commands: dict[tuple[int, int | None], Command[Any]] = {
            (each.opcode, each.action): each for each in commands
        }
        self._with_actions = {each.opcode for each in commands if each.action is not None}

    def find(self, cdb: bytes) -> Command[Any] | None:
        """The command of a CDB."""
        if not cdb or (cdb[0] in self._with_actions and len(cdb) < 2):
            return None
        return self._commands.get((cdb[0], cdb[1] & 0x1F if cdb[0] in self._with_actions else None))

    def check(self, send: Send, answer: Answer) -> None:
        """`send` has ended as `answer` says."""
        task, given_ = answer.task, len(send.out)
        command = None if send.elsewhere else self.find(send.cdb)
        assert answer.count == 1
        assert task.sent <= min(answer.room, task.wanted)
        assert task.received <= min(given_, task.wanted)
        if command is not None:
            self._check_lengths(send, answer, command)
        if task.outcome is not Outcome.COMPLETE:
            assert not task.sense
            self.ends[task.outcome.name] += 1
            return
        assert task.status in ENDS
        self.ends[task.status.name] += 1
        assert bool(task.sense) == (task.status is Status.CHECK_CONDITION)
        if task.sense and not send.elsewhere:
            drive = isinstance(self.bench.units[0], CdDrive)
            reason = legalsense.check(
                task.sense, send.cdb, given_, command, failing=self.bench.failing, drive=drive
            )
            assert reason != NO_UNIT or self.bench.lun != 0
            assert reason != INVALID_OPCODE or command is None
        elif task.sense:
            legalsense.parse(task.sense)
        if command is not None and task.status is Status.GOOD:
            self.succeeded[command.name] += 1

    def _check_lengths(self, send: Send, answer: Answer, command: Command[Any]) -> None:
        """Nothing goes in the direction that the command has not, nor more than its CDB asks for."""
        assert not answer.task.sent or command.data is Data.IN
        assert not answer.task.received or command.data is Data.OUT
        unit = answer.task.unit
        if isinstance(unit, CdDrive):
            way, most = unit.transfer(send.cdb)
            assert answer.task.sent <= most * (way is Data.IN)
        if len(send.cdb) >= command.layout.size:
            most = self._most(command.layout.unpack(send.cdb), command)
            assert answer.task.sent <= most or command.data is not Data.IN
            assert answer.task.received <= most or command.data is not Data.OUT

    def _most(self, fields: Fields, command: Command[Any]) -> int:
        """How many bytes the CDB asks for, at most."""
        for name in ("allocation_length", "parameter_list_length"):
            if name in fields:
                return fields[name]
        if "length_15_0" in fields:
            return fields["length_23_16"] << 16 | fields["length_15_0"]
        blocks = fields.get("transfer_length", fields.get("number_of_blocks"))
        unit = self.bench.units[0]
        if blocks is None or not isinstance(unit, Disk):
            return 1 << 32
        if command.opcode in (0x08, 0x0A):
            blocks = blocks or 256
        if command.opcode == 0x89:
            blocks *= 2
        if command.opcode in (0x41, 0x93, 0x2F, 0xAF, 0x8F):
            # One block for all of them.
            blocks = max(blocks, 1)
        return blocks * unit.block_size


def play(bench: Bench, oracle: Oracle, steps: Sequence[Step]) -> None:
    """Do everything without waiting, but where a step says so; then wait."""
    sent: list[tuple[Send, Answer]] = []
    managed: list[Response] = []
    functions = 0
    for step in steps:
        if isinstance(step, Wait):
            bench.context.run_until_idle()
            continue
        if isinstance(step, Deed):
            bench.deeds[step.what](step.number)
            continue
        initiator = bench.initiators[step.who]
        lun = step.lun if step.elsewhere else bench.lun
        if isinstance(step, Manage):
            functions += 1
            initiator.target.manage(initiator.nexus, step.function, lun, step.tag, managed.append)
            continue
        answer = initiator.send(
            step.cdb, out=step.out, room=step.room, lun=lun, attribute=step.attribute, pieces=step.pieces
        )
        sent.append((step, answer))
    if "cont" in bench.deeds:
        bench.deeds["cont"](0)
    bench.context.run_until_idle()
    for send, answer in sent:
        try:
            oracle.check(send, answer)
        except AssertionError as error:
            error.add_note(f"{send!r} → {answer.task.status.name} {answer.task.sense.hex(' ')}")
            raise
    assert len(managed) == functions
    assert not bench.busy
    if bench.promises is not None:
        bench.promises.begin_anew()
        _write_and_read(bench)
        bench.promises.check()


def _write_and_read(bench: Bench) -> None:
    """What a driver does that has work to do: it writes in each way, if the unit lets it, and reads that back."""
    initiator, disk = bench.initiators[0], bench.units[0]
    assert isinstance(disk, Disk)
    first, second = (bytes((n,)) * disk.block_size for n in b"\x5a\xa5")
    for cdb, out in (
        *[("00 00 00 00 00 00", b"")] * 3,
        ("2a 00 00 00 00 03 00 00 01 00", first),
        ("35 00 00 00 00 00 00 00 00 00", b""),
        ("2a 08 00 00 00 03 00 00 01 00", second),
        ("2e 00 00 00 00 03 00 00 01 00", first),
        ("9c 08 00 00 00 00 00 00 00 03 00 00 00 01 00 00", second),
        ("2a 00 00 00 00 03 00 00 01 00", first),
        ("15 10 00 00 18 00", bytes.fromhex("00 00 00 00 08 12 00" + " 00" * 17)),
        ("2a 00 00 00 00 03 00 00 01 00", second),
        ("28 00 00 00 00 03 00 00 01 00", b""),
    ):
        initiator.send(cdb, out=out, room=0 if out else disk.block_size)
        bench.context.run_until_idle()


class Runner:
    """Plays to units of one kind; what an exception would have become is in the log."""

    def __init__(self, kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
        self.kind = kind
        self.ends: Counter[str] = Counter()
        self.succeeded: Counter[str] = Counter()
        self.commands = 0
        self._caplog = caplog
        caplog.set_level(logging.ERROR, "devmodels")

    def run(self, configuration: str, seed: int, count: int) -> None:
        """New units, `count` steps of `seed`; AssertionError with the fewest steps that go wrong."""
        steps = list(Initiators(self.kind, Random(seed)).steps(count))
        error = self._go(configuration, steps)
        if error is None:
            self.commands += sum(isinstance(step, Send) for step in steps)
            return
        steps = self._fewest(configuration, steps)
        error = self._go(configuration, steps) or error
        error.add_note("\n".join([f"{configuration}, seed {seed}:", *map(repr, steps)]))
        raise error

    def _go(self, configuration: str, steps: Sequence[Step]) -> AssertionError | None:
        self._caplog.clear()
        with ExitStack() as stack:
            try:
                bench = self.kind.configurations[configuration](stack)
                play(bench, Oracle(bench, self.ends, self.succeeded), steps)
                assert not self._caplog.records, self._caplog.text
            except AssertionError as error:
                return error
        return None

    def _fewest(self, configuration: str, steps: list[Step]) -> list[Step]:
        """Leave out what is not needed to go wrong."""
        size = len(steps) // 2
        while size:
            at = 0
            while at < len(steps):
                fewer = steps[:at] + steps[at + size :]
                if self._go(configuration, fewer) is None:
                    at += size
                else:
                    steps = fewer
            size //= 2
        return steps
