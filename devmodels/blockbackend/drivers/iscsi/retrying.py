"""What is tried again, and when: unit attentions at once, a target that is busy after a while (SAM-5 §5.3.1, §5.14)."""

from __future__ import annotations

import errno
from enum import Enum
from typing import NamedTuple

from devmodels.blockbackend.drivers.iscsi import sense
from devmodels.blockbackend.drivers.iscsi.sense import Sense
from devmodels.blockbackend.drivers.iscsi.task import Task
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey, Status

MILLISECOND = 10**6
PAUSES_NS = tuple(each * MILLISECOND for each in (8, 32, 128, 512, 2048, 8192, 32768))
"""Pauses of who waits for a target that is busy: as many as there are tries, as long as QEMU's."""

MAX_ATTENTIONS = 16
"""Unit attentions in a row that one command bears."""

_UNKNOWN = (Asc.INVALID_COMMAND_OPERATION_CODE, Asc.INVALID_FIELD_IN_CDB)


class CheckConditionError(OSError):
    """A command has ended with CHECK CONDITION.  `unknown`: the unit does not know it, or not that way."""

    def __init__(self, found: Sense, number: int) -> None:
        super().__init__(number, str(found))
        self.sense = found

    @property
    def unknown(self) -> bool:
        """Whether the unit cannot do what was asked for."""
        return self.sense.key == SenseKey.ILLEGAL_REQUEST and self.sense.code in _UNKNOWN


class Act(Enum):
    """What is to be done about a command that has ended."""

    DONE = "nothing"
    AGAIN = "it is tried again"
    LATER = "it is tried again after a while"
    FAIL = "it has failed"


class Verdict(NamedTuple):
    """What is to be done, because of what, and the error where it cannot be done."""

    act: Act
    sense: Sense | None = None
    error: OSError | None = None


_DONE = Verdict(Act.DONE)


def judge(task: Task) -> Verdict:
    """What follows from a task's status and sense data."""
    status = task.status
    if status in (Status.GOOD, Status.CONDITION_MET):
        return _DONE
    if status != Status.CHECK_CONDITION:
        act = Act.LATER if status in (Status.BUSY, Status.TASK_SET_FULL) else Act.FAIL
        number = sense.errno_of_status(status)
        return Verdict(act, None, OSError(number, f"the target answers {name_of(status)}"))
    found = sense.parse(task.sense)
    if found is None:
        return Verdict(
            Act.FAIL, None, OSError(errno.EIO, "the target answers CHECK CONDITION, and does not say why")
        )
    number = sense.errno_of(found)
    if found.deferred:
        return Verdict(Act.FAIL, found, CheckConditionError(found, number))
    if found.key == SenseKey.RECOVERED_ERROR:
        # It was done (SPC-4 §4.5.6).
        return Verdict(Act.DONE, found)
    if found.key == SenseKey.NOT_READY and found.code == Asc.BECOMING_READY:
        return Verdict(Act.LATER, found, CheckConditionError(found, number))
    act = Act.AGAIN if number == errno.EAGAIN else Act.FAIL
    return Verdict(act, found, CheckConditionError(found, errno.EIO if act is Act.AGAIN else number))


def name_of(status: int) -> str:
    """A status in words."""
    try:
        return Status(status).name.replace("_", " ")
    except ValueError:
        return f"status {status:#04x}"
