"""The file in which a unit keeps something, in a replay: there is none; the trace says what was in it, and when it was
saved."""

from __future__ import annotations

import os
from typing import TypeVar

from devmodels.ata.disk.kept import KeptFile, KeptState
from devmodels.iocontext import Future, IoContext
from devmodels.scsi.statefile import SavedState, StateFile
from devmodels.statefile import Saved, SavedFile
from guestsim.replay.context import ReplayContext
from guestsim.replay.follow import Follower

S = TypeVar("S", bound=Saved)


class ReplayFile(SavedFile[S]):
    """What was `saved` before, and saving that ends where the trace says."""

    def __init__(self, follower: Follower, saved: bytes, context: IoContext, path: str) -> None:
        self._follower = follower
        self._before = saved
        assert isinstance(context, ReplayContext)
        self._replay_context = context
        self._writing: Future[int] | None = None
        super().__init__(context, path)

    def read_file(self) -> bytes | None:
        """What was there, if anything was."""
        return self._before or None

    async def write_file(self, data: bytes) -> None:  # noqa: ARG002
        """Wait until it was saved."""
        error = self._follower.saved(self._source)
        if error is None:
            self._writing = Future(self._replay_context)
            error = await self._writing
        if error:
            raise OSError(error, os.strerror(error))

    def saved(self, error: int) -> bool:
        """The trace says that it has been saved; False where nothing was to be."""
        writing, self._writing = self._writing, None
        if writing is None:
            return False
        writing.set_result(error)
        self._replay_context.run_newest()
        return True


class ReplayStateFile(ReplayFile[SavedState], StateFile):
    """That of a logical unit."""


class ReplayKeptFile(ReplayFile[KeptState], KeptFile):
    """That of an ATA disk."""
