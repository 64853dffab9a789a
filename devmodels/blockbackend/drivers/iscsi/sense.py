"""Sense data as it comes from a target (SPC-4 §4.5), and what it is to the block layer."""

from __future__ import annotations

import errno
from typing import NamedTuple

from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey, Status
from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import sense as layout

_FIXED = Layout(layout.FIXED)
_HEADER = Layout(layout.DESCRIPTOR_HEADER)
_RESPONSE_MASK = 0x7F
_KEY_OFFSET, _KEY_MASK = 2, 0x0F
_CODE_OFFSET = _FIXED.places["code"].offset

FIXED, FIXED_DEFERRED, DESCRIPTORS, DESCRIPTORS_DEFERRED = 0x70, 0x71, 0x72, 0x73


class Sense(NamedTuple):
    """What sense data says.  `code`: ASC and ASCQ.  `deferred`: it is about an earlier command."""

    key: int
    code: int
    deferred: bool = False

    def __str__(self) -> str:
        try:
            key = SenseKey(self.key).name.replace("_", " ")
        except ValueError:
            key = f"sense key {self.key:#x}"
        try:
            code = Asc(self.code).name.replace("_", " ").lower()
        except ValueError:
            code = f"{self.code >> 8:02x}h/{self.code & 0xFF:02x}h"
        return f"{key}, {code}" + (" (deferred)" if self.deferred else "")


NOTHING = Sense(SenseKey.NO_SENSE, 0)


def parse(data: bytes | memoryview) -> Sense | None:
    """What `data` says; None where it is no sense data.  What is cut off reads as 0."""
    response = data[0] & _RESPONSE_MASK if data else 0
    if response in (FIXED, FIXED_DEFERRED):
        whole = bytes(data[: _FIXED.size]).ljust(_FIXED.size, b"\0")
        key = whole[_KEY_OFFSET] & _KEY_MASK
        code = int.from_bytes(whole[_CODE_OFFSET : _CODE_OFFSET + 2], "big")
        return Sense(key, code, response == FIXED_DEFERRED)
    if response in (DESCRIPTORS, DESCRIPTORS_DEFERRED):
        fields = _HEADER.unpack(bytes(data[: _HEADER.size]).ljust(_HEADER.size, b"\0"))
        return Sense(fields["sense_key"], fields["code"], response == DESCRIPTORS_DEFERRED)
    return None


_SPOKEN = (SenseKey.NOT_READY, SenseKey.ILLEGAL_REQUEST, SenseKey.DATA_PROTECT)
"""Sense keys that say little: the code says more."""

_ERRNO_OF_CODE = {
    Asc.PARAMETER_LIST_LENGTH_ERROR: errno.EINVAL,
    Asc.INVALID_COMMAND_OPERATION_CODE: errno.EINVAL,
    Asc.INVALID_FIELD_IN_CDB: errno.EINVAL,
    Asc.INVALID_FIELD_IN_PARAMETER_LIST: errno.EINVAL,
    Asc.LBA_OUT_OF_RANGE: errno.ENOSPC,
    Asc.SPACE_ALLOCATION_FAILED: errno.ENOSPC,
    Asc.LOGICAL_UNIT_NOT_SUPPORTED: errno.ENOTSUP,
    Asc.MEDIUM_NOT_PRESENT: errno.ENOMEDIUM,
    Asc.MEDIUM_NOT_PRESENT_TRAY_CLOSED: errno.ENOMEDIUM,
    Asc.MEDIUM_NOT_PRESENT_TRAY_OPEN: errno.ENOMEDIUM,
    Asc.WRITE_PROTECTED: errno.EACCES,
    Asc.BECOMING_READY: errno.EINPROGRESS,
    Asc.INITIALIZING_COMMAND_REQUIRED: errno.ENOTCONN,
}
"""As QEMU's `scsi_sense_to_errno`."""

_ERRNO_OF_STATUS = {
    Status.BUSY: errno.EBUSY,
    Status.TASK_SET_FULL: errno.EBUSY,
    Status.RESERVATION_CONFLICT: errno.EBADE,
    Status.TASK_ABORTED: errno.ECANCELED,
}
"""What Linux makes of a reservation conflict is EBADE."""


def errno_of(sense: Sense) -> int:
    """The errno that a command fails with; EAGAIN: it is to be tried again."""
    if sense.deferred:
        return errno.EIO
    if sense.key in (SenseKey.NO_SENSE, SenseKey.RECOVERED_ERROR, SenseKey.UNIT_ATTENTION):
        return errno.EAGAIN
    if sense.key == SenseKey.ABORTED_COMMAND:
        return errno.ECANCELED
    if sense.key in _SPOKEN:
        return _ERRNO_OF_CODE.get(sense.code, errno.EIO)  # type: ignore[call-overload,no-any-return]
    return errno.EIO


def errno_of_status(status: int) -> int:
    """The errno of a status without sense data."""
    return _ERRNO_OF_STATUS.get(status, errno.EIO)  # type: ignore[call-overload,no-any-return]
