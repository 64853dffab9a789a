"""A guest at a recorded CD drive, and its user."""

from __future__ import annotations

from devmodels.blockbackend import open_node
from devmodels.scsi.mmc import CdDrive
from tests.unit.recording.scsistory import ScsiStory

SECOND = 1_000_000_000


class CdStory(ScsiStory):
    """One drive; what its user does."""

    @property
    def cd(self) -> CdDrive:
        """The drive."""
        unit = self.assembly.units["u0"].unit
        assert isinstance(unit, CdDrive)
        return unit

    def put(self, options: dict[str, object] | None) -> None:
        """Put something else into the open tray, or nothing."""
        node = None if options is None else open_node(options, self.assembly.context)
        self.assembly.context.run(self.assembly.set_medium("u0", node))

    def wait(self, seconds: float) -> None:
        """The clock goes on."""
        context = self.assembly.context
        context.call_at(context.now_ns() + int(seconds * SECOND), lambda: None)
        context.run_until_idle()

    def sense(self) -> tuple[int, int]:
        """Key and code of TEST UNIT READY."""
        sense = self.do(bytes(6)).sense
        return (0, 0) if sense is None else (sense.key, sense.asc)
