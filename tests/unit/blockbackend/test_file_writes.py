"""Writes into one file by one worker after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest

from devmodels.blockbackend.drivers.file_writes import WriteQueue
from devmodels.iocontext import ClockKind, IoContext


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext(ClockKind.WALL)
    yield context
    context.close()


def test_vectors_are_not_looked_at_once_their_write_is_over(context: IoContext) -> None:
    """The loop may hand a result back, and release the vectors, before the worker goes on."""
    vectors = [memoryview(bytearray(512))]

    class TakenAtOnce(deque[object]):
        def append(self, item: object, /) -> None:
            vectors[0].release()
            super().append(item)

    queue = WriteQueue(context, lambda job: job, lambda *_: None)
    queue._done = TakenAtOnce()  # type: ignore[assignment]

    async def write() -> None:
        await queue.put(vectors, 0)

    context.run(write())
    assert not queue._done
