"""An ATAPI device over a drive: its registers' side, sense data kept for REQUEST SENSE, tasks of the drive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import PACKET_SIGNATURE, Error, Reset
from devmodels.ata.device import AtaDevice
from devmodels.ata.packet.options import NAMES, NAMES_AS_QEMU, AtapiOptions
from devmodels.ata.table import Command, Protocol
from devmodels.names import number_of
from devmodels.scsi.constants import Outcome, SenseKey, Status
from devmodels.scsi.mmc import CdDrive
from devmodels.scsi.nexus import Nexus, TargetPort, sas_transport_id
from devmodels.scsi.target import ScsiTarget
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.ata.packet.asqemu import PacketFront
    from devmodels.blockbackend import BlockBackend
    from devmodels.conformance import ViolationLog
    from devmodels.trace import Tracer

PACKET_SIZE = 12
"""Bytes of a command packet (word 0 of IDENTIFY PACKET DEVICE)."""
COMPLETED = 0x03
"""Interrupt reason (the count field) of a command that is over: C/D and I/O (ATA/ATAPI-7 vol. 1 §6.24)."""
REASONS = 0x07

_ABORTING = (SenseKey.ILLEGAL_REQUEST, SenseKey.ABORTED_COMMAND)
_DESCRIPTOR_FORMATS = (0x72, 0x73)


class PacketTask(Task):
    """A task of the drive, for `command`; `then(task)` is called when it has ended well."""

    __slots__ = ("command", "then")

    command: AtaCommand
    then: Callable[[PacketTask], None]


class AtapiDevice(AtaDevice):
    """An ATAPI device over `backend`.  `unit` is its number on a parallel cable.

    `sense`: what the last packet command that failed has left for REQUEST SENSE.
    """

    signature = PACKET_SIGNATURE
    reset_status = 0
    packet_size = PACKET_SIZE

    def __init__(
        self,
        drive: CdDrive,
        options: AtapiOptions | None = None,
        *,
        name: str = "",
        violations: ViolationLog | None = None,
    ) -> None:
        self.options = AtapiOptions() if options is None else options
        self.drive = drive
        self.unit = 0
        self.sense = b""
        super().__init__(drive.context, name=name or drive.name, violations=violations)
        self.target = ScsiTarget(drive.context, name=self.name, violations=self.violations)
        self.nexus = Nexus(sas_transport_id(0), TargetPort())
        self.target.add(0, drive)
        self.target.nexus_gained(self.nexus)
        if self.violations.as_qemu:
            drive.front_for_tray = self._front

    @cached_property
    def commands(self) -> Sequence[Command[AtapiDevice]]:
        """The table, read when the first command comes."""
        from devmodels.ata.packet.commands import AS_QEMU, COMMANDS

        return AS_QEMU if self.violations.as_qemu else COMMANDS

    @cached_property
    def front(self) -> PacketFront:
        """What answers as QEMU's drive; not there before the first packet, or before a user moves the tray."""
        from devmodels.ata.packet.asqemu import PacketFront

        front = self.drive.front = PacketFront(self)
        return front

    def _front(self) -> PacketFront:
        return self.front

    @property
    def backend(self) -> BlockBackend:
        """What is in the tray."""
        return self.drive.backend

    @property
    def version(self) -> str:
        """The firmware revision."""
        return self.options.ver or self._names[0]

    @property
    def model(self) -> str:
        """The model number."""
        return self.options.model or self._names[1]

    @property
    def _names(self) -> tuple[str, str]:
        return NAMES_AS_QEMU if self.violations.as_qemu else NAMES

    @property
    def serial(self) -> str:
        """The serial number: as given, or made of what the drive is called."""
        return self.options.serial or f"{number_of(self.name):08x}"

    # --- commands

    def run(
        self,
        command: AtaCommand,
        cdb: bytes,
        then: Callable[[PacketTask], None],
        *,
        data_in: Sequence[memoryview] = (),
        data_out: Sequence[memoryview] = (),
    ) -> None:
        """Have the drive do `cdb`; `then(task)`, or the command fails with what the drive says."""
        task = PacketTask(
            self.nexus, 0, command.tag, cdb, self._task_over, data_in=data_in, data_out=data_out
        )
        task.command = command
        task.then = then
        command.running = True
        self.target.submit(task)

    def _task_over(self, task: Task) -> None:
        assert isinstance(task, PacketTask)
        command = task.command
        command.running = False
        if command.dropped:
            self.finish(command)
        elif task.outcome is not Outcome.COMPLETE or task.status not in (Status.GOOD, Status.CHECK_CONDITION):
            self.fail(command, AtaError(SenseKey.ABORTED_COMMAND << 4 | Error.ABRT))
        elif task.status is Status.CHECK_CONDITION:
            self.check(command, task.sense)
        else:
            task.then(task)

    def check(self, command: AtaCommand, sense: bytes) -> None:
        """CHECK CONDITION: the sense key is shown in the error field, the rest is asked for."""
        key, code = (sense[1], sense[2]) if sense[0] in _DESCRIPTOR_FORMATS else (sense[2], sense[12])
        key &= 0x0F
        if self.violations.as_qemu:
            self.front.failed(command, key, code)
            return
        self.sense = sense
        self.fail(command, AtaError(key << 4 | (Error.ABRT if key in _ABORTING else 0)))

    def finish(self, command: AtaCommand) -> None:
        """Packet commands end with the interrupt reason that says so."""
        if command.entry is not None and command.entry.protocol is Protocol.PACKET:
            command.taskfile.count = command.taskfile.count & ~REASONS | COMPLETED
        super().finish(command)

    def cancel_requests(self, wanted: Callable[[AtaCommand], bool]) -> None:
        """The drive gives up such tasks as soon as it can."""
        self.target.cancel(lambda task: isinstance(task, PacketTask) and wanted(task.command), _nothing)

    def was_reset(self, kind: Reset) -> None:
        """Only a hardware reset reaches the drive itself (MMC-6 Annex A), but on QEMU."""
        self.sense = b""
        anew = kind in (Reset.POWER_ON, Reset.HARDWARE)
        if anew or (kind is Reset.SOFTWARE and self.reverts):
            self.modes.reset()
        if anew:
            self.reverts = True
            self.target.hard_reset()
        if "front" in vars(self):
            self.front.reset()

    # --- snapshots

    def save(self) -> bytes:
        """What it knows beyond its medium, its commands left out."""
        from devmodels.ata.packet import state

        return msgspec.msgpack.encode(state.save(self))

    def judge(self, data: bytes) -> None:
        """ValueError where that is not what `save` of such a device gave."""
        from devmodels.ata.packet import state

        state.judge(self, state.read(self, data))

    def restore(self, data: bytes) -> None:
        """Be as `data` says, which `judge` has found to be possible; no command is in flight."""
        from devmodels.ata.packet import state

        state.restore(self, state.read(self, data))

    def observe(self, trace: Tracer | None) -> None:
        """Give `trace` everything that goes on in the device and its drive; None: no more."""
        super().observe(trace)
        self.drive.observe(trace)


def _nothing() -> None:
    pass
