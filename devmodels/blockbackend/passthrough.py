"""Commands that the block layer passes on as they are (`Op.PASSTHROUGH`): SCSI commands for a real device.

The block layer neither reads nor changes them, makes no two of them one, and starts none a second time.  A node that is
no device refuses them, and so does a filter that would let something pass it unseen.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import Enum

import msgspec

from devmodels.blockbackend.request import Op, Request
from devmodels.blockbackend.vectors import scatter


class Direction(Enum):
    """Where a command's data goes."""

    NONE = "none"
    TO_DEVICE = "to-device"
    FROM_DEVICE = "from-device"


class ScsiCommand(msgspec.Struct, eq=False):
    """A SCSI command and what came of it.

    `cdb`: the command, at most 255 bytes.  `vectors`: its data, memoryviews of bytes, read or filled according to
    `direction`.  `timeout_ms`: when the host gives it up.  `max_sense`: how many bytes of sense data are wanted.

    Afterwards: `status`, the SCSI status (SAM-5 5.3); `sense`, the sense data; `host_status` and `driver_status`, what
    the host's own layers say (0: nothing went wrong there); `residual`, how many bytes of data were not transferred.  A
    command that the device has ended with CHECK CONDITION is a request that has succeeded.
    """

    cdb: bytes
    direction: Direction = Direction.NONE
    vectors: Sequence[memoryview] = ()
    timeout_ms: int = 30_000
    max_sense: int = 252
    status: int = 0
    sense: bytes = b""
    host_status: int = 0
    driver_status: int = 0
    residual: int = 0

    @property
    def length(self) -> int:
        """The data's length in bytes."""
        return sum(map(len, self.vectors))


class PassthroughRequest(Request):
    """A request of the operation PASSTHROUGH: `command`, for the node at the bottom.  It has no place on the disk."""

    __slots__ = ("command",)

    def __init__(
        self, command: ScsiCommand, done: Callable[[Request], None] | None = None, label: str = ""
    ) -> None:
        super().__init__(Op.PASSTHROUGH, 0, 0, done=done, label=label)
        self.command = command


_OUTCOME = struct.Struct("<BHHIH")


def outcome_bytes(command: ScsiCommand) -> bytes:
    """What came of a command, as a trace keeps it: the numbers, sense data, and what was read."""
    read = command.vectors if command.direction is Direction.FROM_DEVICE else ()
    numbers = command.status, command.host_status, command.driver_status, command.residual
    return b"".join((_OUTCOME.pack(*numbers, len(command.sense)), command.sense, *read))


def take_outcome(command: ScsiCommand, data: bytes) -> None:
    """Let that have come of it; ValueError where `data` is not what `outcome_bytes` gives for such a command."""
    read = command.vectors if command.direction is Direction.FROM_DEVICE else ()
    if len(data) < _OUTCOME.size:
        raise ValueError(f"{len(data)} bytes of outcome, expected at least {_OUTCOME.size}")
    *numbers, length = _OUTCOME.unpack_from(data)
    rest = memoryview(data)[_OUTCOME.size :]
    if len(rest) != length + sum(map(len, read)):
        raise ValueError(f"{len(data)} bytes of outcome")
    command.status, command.host_status, command.driver_status, command.residual = numbers
    command.sense = bytes(rest[:length])
    scatter(read, rest[length:])
