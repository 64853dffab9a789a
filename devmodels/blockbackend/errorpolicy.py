"""What follows from a request that failed: `rerror` and `werror`, with the meaning that they have for QEMU's devices.

`report`: the device hears of it.  `ignore`: it hears that all is well; what could not be read is zeroes.  `stop`: it
hears nothing, the machine is stopped and the request is tried again when that runs on.  `enospc`: `stop` where there is
no space left, `report` else.  Words and members are those of QEMU's qapi/block-core.json (BlockdevOnError,
BLOCK_IO_ERROR, BlockDeviceIoStatus).
"""

from __future__ import annotations

import errno
import os
from typing import Literal

from devmodels import logs
from devmodels.blockbackend.request import Op, Request
from devmodels.iocontext import Cancelled

logger = logs.logger(__name__)

OnReadError = Literal["report", "ignore", "stop", "auto"]
OnWriteError = Literal["report", "ignore", "stop", "enospc", "auto"]
Action = Literal["report", "ignore", "stop"]
IoStatus = Literal["ok", "failed", "nospace"]


class ErrorPolicy:
    """`rerror` is for reads, `werror` for all else: writes, flushes, discards, zeroes, erasures.

    `auto` is `report` and `enospc`.  `stops`: whether any error can stop the machine, so that there is an `io-status`.
    """

    __slots__ = ("rerror", "stops", "werror")

    def __init__(self, rerror: OnReadError = "report", werror: OnWriteError = "report") -> None:
        self.rerror: Action = "report" if rerror == "auto" else rerror
        self.werror: Action | Literal["enospc"] = "enospc" if werror == "auto" else werror
        self.stops = self.rerror == "stop" or self.werror in ("stop", "enospc")

    def action(self, op: Op, error: int) -> Action:
        """What to do about an `op` that failed with `error`."""
        policy = self.rerror if op is Op.READ else self.werror
        if policy == "enospc":
            return "stop" if error == errno.ENOSPC else "report"
        return policy


def errno_of(error: BaseException, request: Request, backend: str) -> int:
    """The errno for what a node raised at `request` of `backend`; the log is told of what no node should raise."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    if isinstance(error, Cancelled):
        return errno.ECANCELED
    logger.error("%s: %r ended with %s: %s", backend, request, type(error).__name__, error)
    return errno.EIO


def status_of(error: int) -> IoStatus:
    """The io-status of a device that `error` has stopped."""
    return "nospace" if error == errno.ENOSPC else "failed"


def error_event(
    op: Op, error: int, action: Action, *, device: str, qom_path: str, node_name: str, stops: bool
) -> dict[str, object]:
    """Members of BLOCK_IO_ERROR; `nospace` is there where the device has an io-status."""
    members: dict[str, object] = {
        "device": device,
        "qom-path": qom_path,
        "node-name": node_name,
        "operation": "read" if op is Op.READ else "write",
        "action": action,
        "reason": os.strerror(error),
    }
    if stops:
        members["nospace"] = error == errno.ENOSPC
    return members
