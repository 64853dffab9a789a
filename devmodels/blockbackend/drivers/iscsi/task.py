"""One SCSI command on its way to a target and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from devmodels.blockbackend.vectors import scatter, window
from devmodels.iocontext import Future, Timer
from devmodels.scsi.constants import Status

if TYPE_CHECKING:
    from devmodels.blockbackend.request import Request

CDB_SIZE = 16
GOOD = int(Status.GOOD)


class Task:
    """A command with its data.

    `cdb` has at most 16 bytes, in `long_cdb` the whole of a longer one.  `vectors`: memoryviews, filled with up to
    `reads` bytes, or `writes` bytes long.  `once`: it must not be issued a second time.  `request`: on whose behalf.
    Afterwards: `status`, `sense`, and `received`, how many bytes have come; `residual`, how many the target did not
    want or have.
    """

    __slots__ = (
        "abort_error",
        "aborting",
        "cdb",
        "cmd_sn",
        "data_sn",
        "future",
        "held",
        "issued",
        "itt",
        "long_cdb",
        "once",
        "over",
        "payload",
        "reads",
        "received",
        "request",
        "residual",
        "sense",
        "sent",
        "status",
        "timer",
        "vectors",
        "writes",
    )

    def __init__(
        self,
        cdb: bytes,
        *,
        vectors: Sequence[memoryview] = (),
        reads: int = 0,
        writes: int = 0,
        once: bool = False,
        request: Request | None = None,
    ) -> None:
        self.cdb = cdb[:CDB_SIZE].ljust(CDB_SIZE, b"\0")
        self.long_cdb = cdb if len(cdb) > CDB_SIZE else b""
        self.vectors = vectors
        self.payload: Sequence[memoryview] = vectors
        """What is sent: the vectors, or a copy of them that does not change."""
        self.reads = reads
        self.writes = writes
        self.once = once
        self.request = request
        self.future: Future[None] | None = None
        self.timer: Timer | None = None
        self.issued = 0
        """How often it has been sent."""
        self.held = 0
        """How many PDUs with its data wait to be sent."""
        self.over: OSError | bool = False
        """Whether an answer is there (True), or why there is none."""
        self.aborting = False
        self.abort_error: OSError | None = None
        self.begin()

    def begin(self) -> None:
        """Nothing has come of it yet."""
        self.itt = 0
        self.cmd_sn = 0
        self.received = 0
        self.residual = 0
        self.data_sn = 0
        self.sent = 0
        self.status = GOOD
        self.sense = b""

    def room(self, offset: int, length: int) -> memoryview | None:
        """Where `length` bytes that are read at `offset` go, if that is one place."""
        found = window(self.vectors, offset, length)
        return found[0] if len(found) == 1 else None

    def store(self, offset: int, data: memoryview) -> None:
        """Put data that was read where it belongs."""
        scatter(window(self.vectors, offset, len(data)), data)

    def release(self) -> None:
        """A PDU with its data is out, or never will be (`iscsistream.Held`)."""
        self.held -= 1
        if self.over and not self.held:
            self._tell()

    def finish(self, error: OSError | None = None) -> None:
        """It is over, with a status or with `error`; told when nobody looks at its data any more.  Once."""
        if self.over:
            return
        self.over = True if error is None else error
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.held:
            self._tell()

    def _tell(self) -> None:
        future = self.future
        assert future is not None
        if not future.done:
            if isinstance(self.over, OSError):
                future.set_error(self.over)
            else:
                future.set_result(None)
