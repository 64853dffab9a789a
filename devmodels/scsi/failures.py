"""What a failure of the disk is to an initiator: from errno to sense data."""

from __future__ import annotations

import errno

from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import Failure, SenseKey
from devmodels.scsi.sense import Sense

_CONNECTION = (
    errno.ENOLINK,
    errno.ENOTCONN,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ESHUTDOWN,
    errno.ETIMEDOUT,
)
_CUT = Sense(SenseKey.ABORTED_COMMAND, Asc.LOGICAL_UNIT_COMMUNICATION_FAILURE, failure=Failure.TRANSPORT)
_SENSE_OF_ERRNO = {
    errno.ENOSPC: Sense(SenseKey.DATA_PROTECT, Asc.SPACE_ALLOCATION_FAILED),
    errno.EDQUOT: Sense(SenseKey.DATA_PROTECT, Asc.SPACE_ALLOCATION_FAILED),
    errno.EPERM: Sense(SenseKey.DATA_PROTECT, Asc.WRITE_PROTECTED),
    errno.EACCES: Sense(SenseKey.DATA_PROTECT, Asc.WRITE_PROTECTED),
    errno.EROFS: Sense(SenseKey.DATA_PROTECT, Asc.WRITE_PROTECTED),
    errno.ENOMEDIUM: Sense(SenseKey.NOT_READY, Asc.MEDIUM_NOT_PRESENT),
    errno.ENOMEM: Sense(SenseKey.ILLEGAL_REQUEST, Asc.INSUFFICIENT_RESOURCES),
    errno.ECANCELED: Sense(SenseKey.ABORTED_COMMAND),
    errno.EILSEQ: Sense(SenseKey.MISCOMPARE, Asc.MISCOMPARE_DURING_VERIFY),
    errno.EREMOTEIO: Sense(SenseKey.HARDWARE_ERROR, Asc.INTERNAL_TARGET_FAILURE, failure=Failure.TARGET),
    errno.EBADE: Sense(
        SenseKey.ABORTED_COMMAND, Asc.LOGICAL_UNIT_COMMUNICATION_FAILURE, failure=Failure.NEXUS
    ),
    **dict.fromkeys((errno.EAGAIN, errno.EBUSY), Sense(SenseKey.ABORTED_COMMAND, failure=Failure.BUSY)),
    **dict.fromkeys(_CONNECTION, _CUT),
}


def sense_of_errno(number: int, *, write: bool = False) -> Sense:
    """What a failure of the disk is to an initiator."""
    known = _SENSE_OF_ERRNO.get(number)
    if known is not None:
        return known
    return Sense(SenseKey.MEDIUM_ERROR, Asc.WRITE_ERROR if write else Asc.UNRECOVERED_READ_ERROR)
