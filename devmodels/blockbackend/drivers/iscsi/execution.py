"""Commands for a logical unit, executed again where that is what follows from how they ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from devmodels.blockbackend.drivers.iscsi.retrying import (
    MAX_ATTENTIONS,
    PAUSES_NS,
    Act,
    CheckConditionError,
    judge,
)
from devmodels.blockbackend.drivers.iscsi.sense import Sense
from devmodels.blockbackend.drivers.iscsi.session import Session
from devmodels.blockbackend.drivers.iscsi.task import Task
from devmodels.blockbackend.request import Request
from devmodels.iocontext import Coro
from devmodels.scsi.asc import Asc


class Commands:
    """Commands over `session`; `hear(sense)` is awaited for each unit attention before its command is tried again.

    `unknown`: what the unit was found not to know.
    """

    def __init__(self, session: Session, hear: Callable[[Sense], Coro[None]]) -> None:
        self._session = session
        self._hear = hear
        self.unknown: set[int] = set()

    async def execute(self, make: Callable[[], Task]) -> Task:
        """Have the command that `make` makes executed, until it has succeeded; OSError where it fails."""
        session = self._session
        attentions = pauses = 0
        while True:
            task = make()
            await session.execute(task)
            verdict = judge(task)
            if verdict.act is Act.DONE:
                session.worked()
                return task
            assert verdict.error is not None
            if verdict.act is Act.LATER and pauses < len(PAUSES_NS):
                pauses += 1
                await session.context.sleep(PAUSES_NS[pauses - 1])
            elif verdict.act is Act.AGAIN and attentions < MAX_ATTENTIONS:
                attentions += 1
                if verdict.sense is not None:
                    await self._hear(verdict.sense)
            else:
                raise verdict.error

    async def ask(self, cdb: bytes, length: int) -> bytes:
        """A command that returns up to `length` bytes."""
        room = bytearray(length)
        vectors = [memoryview(room)]
        task = await self.execute(lambda: Task(cdb, vectors=vectors, reads=length))
        return bytes(room[: task.received])

    async def do(
        self, request: Request, cdb: bytes, vectors: Sequence[memoryview] = (), length: int = 0
    ) -> Task:
        """A command that takes `length` bytes of data, or none."""
        return await self.execute(lambda: Task(cdb, vectors=vectors, writes=length, request=request))

    async def attempt(
        self, request: Request, cdb: bytes, vectors: Sequence[memoryview] = (), length: int = 0
    ) -> bool:
        """The same for one that the unit may not know, or not that way: then the answer is no.

        One that it does not know at all is not sent again.
        """
        if cdb[0] in self.unknown:
            return False
        try:
            await self.do(request, cdb, vectors, length)
        except CheckConditionError as refused:
            if not refused.unknown:
                raise
            if refused.sense.code == Asc.INVALID_COMMAND_OPERATION_CODE:
                self.unknown.add(cdb[0])
            return False
        return True
