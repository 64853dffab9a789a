"""A world whose disk's requests end when a test says so."""

from __future__ import annotations

from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import WatchedNode
from tests.unit.scsi.initiator import SIZE, World


class SlowWorld(World):
    """`node.held` is set once the initiators have heard their unit attentions."""

    def __init__(self, **options: object) -> None:
        self.watched = WatchedNode(IoContext.virtual(), SIZE)
        super().__init__(self.watched, **options)  # type: ignore[arg-type]
        self.watched.held = True

    def release(self, index: int | None = None) -> None:
        """Let one request that waits go on, or all."""
        self.watched.release(None if index is None else list(self.watched.waiting)[index])
        self.context.run_until_idle()

    def close(self) -> None:
        """Let everything end."""
        self.watched.held = False
        self.release()
        super().close()
