"""What a kind of logical units says and does: `LogicalUnit` asks, and kinds that have other answers override these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from devmodels.blockbackend.request import Read
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey, Status
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import FieldPointer, Sense
from devmodels.scsi.table import Access, Command, Reply
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.qemu.attention import BusAttention

OPCODE_NOT_SUPPORTED = Sense(SenseKey.ILLEGAL_REQUEST, Asc.INVALID_COMMAND_OPERATION_CODE, FieldPointer(0))
ALL_TASKS, OWN_TASKS = 0b01, 0b11
"""QERR, SPC-4 §7.5.8: a task that ends with CHECK CONDITION ends those of all nexuses, or those of its own."""
INTERLOCK, INTERLOCK_STATUS = 0b10, 0b11
"""UA_INTLCK_CTRL, SPC-4 §7.5.8."""


class UnitFront:
    """What a carrier puts before a unit (`LogicalUnit.front`), to answer commands in its place."""

    KEPT: ClassVar[Sequence[str]] = ()
    """What a snapshot has of it, attribute by attribute."""
    moving: ClassVar[frozenset[int]] = frozenset()
    """Operation codes of the commands that move what is on the medium."""

    def prepare(self, task: Task) -> bool:
        """`task` has come, with others perhaps, of which none has begun; False where that is its end already."""
        raise NotImplementedError

    def process(self, task: Task) -> Reply:
        """What a handler of the unit's would return, for a task that `prepare` has let go on."""
        raise NotImplementedError

    def ended(self, task: Task) -> None:
        """`task` is about to be told its end."""

    def was_reset(self) -> None:
        """The unit has been reset."""

    def tray_moved(self, *, opened: bool) -> None:
        """A user has moved the tray."""

    def asked_to_eject(self) -> None:
        """A user wishes it to open."""


class UnitKind:
    """`commands`, given by each kind, is what it can do; `absent_fields` are those of CDBs that this unit refuses."""

    absent_fields: Sequence[str] = ()
    notification_classes = 0
    """Classes of events that hosts of drives poll for (MMC-6 GET EVENT STATUS NOTIFICATION), a bit for each."""

    @property
    def commands(self) -> Sequence[Command[Any]]:
        """What it can do."""
        return ()

    def front_as_qemu(self, bus: BusAttention) -> UnitFront | None:  # noqa: ARG002
        """What answers as the unit of QEMU's on such a `bus`; None where that has none of the kind."""
        return None

    @property
    def queue_error(self) -> int:
        """QERR of the control mode page: `ALL_TASKS`, `OWN_TASKS`, or 0."""
        return 0

    @property
    def interlock(self) -> int:
        """UA_INTLCK_CTRL of the control mode page: whether unit attention conditions stay until REQUEST SENSE clears
        them (`INTERLOCK`), and are also made of statuses (`INTERLOCK_STATUS`)."""
        return 0

    @property
    def descriptor_sense(self) -> bool:
        """Whether sense data comes in the descriptor format (D_SENSE of the control mode page)."""
        return False

    def inquiry_data(self) -> bytes:
        """Standard INQUIRY data."""
        raise NotImplementedError

    def vital_product_data(self, page: int, task: Task) -> bytes | None:  # noqa: ARG002
        """A page of vital product data; None where there is none of that number."""
        return None

    def progress_sense(self) -> Sense | None:
        """What goes on in the unit, for REQUEST SENSE (SPC-4 §6.39); None where nothing does."""
        return None

    def check_ready(self) -> None:
        """Raise `CheckCondition` where the unit is not ready for TEST UNIT READY."""

    def aborted_status(self) -> Status:
        """What the initiator of a task hears that another one has ended: TASK ABORTED with TAS, else nothing."""
        return Status.GOOD

    def opcode_unknown(self, cdb: bytes) -> Sense:  # noqa: ARG002
        """What is wrong with a CDB whose operation code is not in the table."""
        return OPCODE_NOT_SUPPORTED

    def check_access(self, task: Task, command: Command[Any]) -> None:
        """Raise `Conflict` where a reservation of another nexus forbids `command`, `CheckCondition` where the unit is
        not ready for it.  Called while the unit is `guarded`."""

    def check_reservation(self, nexus: Nexus, access: Access) -> None:
        """Raise `Conflict` where a reservation of another nexus than `nexus` forbids `access`."""

    def cancel_requests(self, wanted: Callable[[Task], bool]) -> None:
        """End what has been begun for `wanted` tasks and can still be taken back."""

    def batch(self) -> AbstractContextManager[None]:
        """`with unit.batch():` what tasks that are submitted have to do begins at its end, neighbours together."""
        return nullcontext()

    def activate(self) -> None:
        """A carrier begins to work; OSError where somebody else's use of what the unit needs rules that out."""

    async def inactivate(self) -> None:
        """The carrier rests, all tasks are done: leave what others may want."""

    def was_reset(self) -> None:
        """All tasks have been told to end; put everything back that a logical unit reset puts back (SAM-5 §6.3.3)."""

    def reads_at_once(self, cdb: bytes) -> tuple[int, int] | None:  # noqa: ARG002
        """Where a SIMPLE command whose CDB this is, of 16 bytes or more, reads of the disk, and how much, in bytes, if
        that is all that it does and nothing stands in its way (`read_now`); None where it has to become a task."""
        return None

    def read_now(self, reads: Sequence[Read]) -> int:  # noqa: ARG002
        """Do the first of `reads` that need no waiting; returns how many."""
        return 0

    def nexus_lost(self, nexus: Nexus) -> None:
        """`nexus` is gone, or was reset: what it held goes with it (SAM-5 §6.3.4)."""
