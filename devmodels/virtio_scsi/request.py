"""A command on its way: its buffer, its data, and the response that its end makes (VIRTIO 1.4 §5.6.6.1.1)."""

from __future__ import annotations

from devmodels.dma import DmaMap
from devmodels.scsi import Failure, Outcome, Status, Task
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from devmodels.virtio_scsi.bus import Place
from devmodels.virtio_scsi.framing import Framing
from devmodels.virtio_scsi.layout import ScsiResponse

_GOOD = Status.GOOD
_COMPLETE = Outcome.COMPLETE
_OK = ScsiResponse.VIRTIO_SCSI_S_OK
_RESPONSES = {
    Outcome.ABORTED: ScsiResponse.VIRTIO_SCSI_S_ABORTED,
    Outcome.RESET: ScsiResponse.VIRTIO_SCSI_S_RESET,
}
_FAILURES = {
    Failure.TRANSPORT: ScsiResponse.VIRTIO_SCSI_S_TRANSPORT_FAILURE,
    Failure.TARGET: ScsiResponse.VIRTIO_SCSI_S_TARGET_FAILURE,
    Failure.NEXUS: ScsiResponse.VIRTIO_SCSI_S_NEXUS_FAILURE,
    Failure.BUSY: ScsiResponse.VIRTIO_SCSI_S_BUSY,
}


class ScsiRequest(Task):
    """A command in flight: its buffer, the maps of its data, and how much of that the driver expects to move."""

    whole = True
    __slots__ = ("address", "answer", "chain", "dma_in", "dma_out", "expected", "framing", "place", "queue")

    address: bytes
    """The `lun` field."""
    answer: ScsiResponse | None
    """What the device itself has to say, where no unit has seen it."""
    chain: Chain
    dma_in: DmaMap | None
    dma_out: DmaMap | None
    expected: int
    framing: Framing
    place: Place
    queue: VirtQueue

    @property
    def buffer(self) -> tuple[int, int]:
        """Queue and head of its buffer."""
        return self.queue.index, self.chain.head

    @property
    def refused(self) -> bool:
        """Whether the device itself has something to say."""
        return self.answer is not None

    def overrun(self) -> None:
        """Its data is not that of its CDB (VIRTIO 1.4 §5.6.6.1.1)."""
        self.answer = ScsiResponse.VIRTIO_SCSI_S_OVERRUN

    def response(self) -> bytes:
        """The response, once it has ended."""
        framing, expected, moved = self.framing, self.expected, self.sent + self.received
        if self.answer is not None:
            return framing.response(self.answer)
        if self.status is _GOOD and moved == expected == self.wanted and self.outcome is _COMPLETE:
            return framing.good
        if framing.habits.as_qemu:
            return self._as_qemu(expected, moved)
        if self.outcome is not _COMPLETE:
            return framing.response(_RESPONSES[self.outcome], residual=expected - moved)
        if self.failure is not None:
            return framing.response(_FAILURES[self.failure], residual=expected - moved)
        if self.wanted > moved and (self.status is _GOOD or self.wanted > expected):
            # What the CDB asks for is more than there is room for, or was given.
            return framing.response(ScsiResponse.VIRTIO_SCSI_S_OVERRUN)
        return framing.response(_OK, self.status, expected - moved, self.sense)

    def _as_qemu(self, expected: int, moved: int) -> bytes:
        """QEMU tells of a residual only where something was moved and all went well.

        That of READ and WRITE is what the CDB says less what was given, or there was room for, below 0 modulo 2³².
        """
        framing = self.framing
        if self.outcome is not _COMPLETE:
            return framing.response(_RESPONSES[self.outcome])
        if self.status is not _GOOD or not moved:
            return framing.response(_OK, self.status, 0, self.sense)
        front = self.place.unit.front
        by_cdb = front is not None and self.cdb[0] in front.moving
        residual = self.wanted - expected if by_cdb else expected - moved
        return framing.response(_OK, residual=residual)
