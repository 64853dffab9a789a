"""A command on its way through a device, and what a device wants of the adapter that brought it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from devmodels.ata.constants import Error, Status

if TYPE_CHECKING:
    from devmodels.ata.device import AtaDevice
    from devmodels.ata.table import Command
    from devmodels.ata.taskfile import TaskFile
    from devmodels.ata.transfer import Transfer


class AtaError(Exception):
    """A command ends with `error` in the error field, and `status` besides what a ready device shows.

    `lba` is the address of the first sector that could not be transferred; None leaves that field alone.
    """

    def __init__(self, error: int = Error.ABRT, *, lba: int | None = None, status: int = Status.ERR) -> None:
        super().__init__(f"error {error:#04x}, status {status:#04x}")
        self.error = error
        self.lba = lba
        self.status = status


class MediumError(AtaError):
    """It was the medium that failed: disks log that."""


class HostAdapter(Protocol):
    """What a device tells of a command to whoever brought it; perhaps before `issue` has returned."""

    def begin(self, command: AtaCommand) -> None:
        """`command.transfer` is to be done: call `device.move` for all of it, a part at a time."""
        ...

    def moved(self, command: AtaCommand) -> None:
        """What `device.move` was given has been moved: go on, or call `device.conclude`."""
        ...

    def finished(self, command: AtaCommand) -> None:
        """It is over, as `command.taskfile` says."""
        ...

    def dropped(self, command: AtaCommand) -> None:
        """It is over, and was dropped before: nobody hears of it."""
        ...


class AtaCommand:
    """One command: its task file, its tag (NCQ) or slot, the adapter that brought it.

    `device` is the one that it was given to.  `packet` is there for PACKET: the adapter has received it.
    `transfer`: what of it is data, `moved` bytes of which have gone.  `queued`: it is one of NCQ's; `accepted`: such a
    one is in the device's queue.  `running`: something of it runs, and has to be awaited when it is dropped.
    `dropped`: its end is told to nobody.  `again`: it was in flight in a machine that was saved.  `unheard`: it is over
    without an interrupt, or a FIS.
    """

    __slots__ = (
        "accepted",
        "again",
        "device",
        "dropped",
        "entry",
        "host",
        "moved",
        "packet",
        "queued",
        "running",
        "tag",
        "taskfile",
        "transfer",
        "unheard",
    )

    def __init__(
        self, host: HostAdapter, taskfile: TaskFile, tag: int = 0, packet: bytes | None = None
    ) -> None:
        self.host = host
        self.taskfile = taskfile
        self.tag = tag
        self.device: AtaDevice | None = None
        self.packet = packet
        self.entry: Command[Any] | None = None
        self.transfer: Transfer | None = None
        self.moved = 0
        self.queued = False
        self.accepted = False
        self.again = False
        self.running = False
        self.dropped = False
        self.unheard = False

    def __repr__(self) -> str:
        return f"<AtaCommand {self.tag} {self.taskfile!r}>"
