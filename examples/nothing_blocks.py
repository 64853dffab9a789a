"""One slow request never delays another, on the wall clock.

    python examples/nothing_blocks.py

Twice: a disk that holds the requests for one block for a second, and an image whose pages are not in the host's cache.
Meanwhile other requests go on; what each of them took is printed.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from statistics import median

from devmodels.blockbackend import BlockBackend, BlockNode, Op, Request, open_node
from devmodels.blockbackend.options import NodeOptions
from devmodels.iocontext import IoContext

SECOND = 10**9
BLOCK = 4096
IMAGE_SIZE = 128 << 20
DEPTH = 32


class OneSlowBlock(BlockNode):
    """A disk of zeroes whose first block takes a second."""

    def __init__(self, context: IoContext) -> None:
        super().__init__(NodeOptions(driver="one-slow-block"), context, IMAGE_SIZE)

    async def read(self, request: Request) -> None:
        """Hold the first block; leave the buffer as it is."""
        if request.offset == 0:
            await self.context.sleep(SECOND)


def load(backend: BlockBackend, slow: range, quick: range) -> None:
    """Read each block of `slow` once, 32 at a time, and those of `quick` again and again meanwhile; print latencies."""
    context = backend.context
    took: dict[str, list[float]] = {"slow": [], "quick": []}
    waiting = deque(slow)

    def read(offset: int, kind: str) -> None:
        started = context.now_ns()

        def done(request: Request) -> None:
            assert request.error == 0
            took[kind].append((context.now_ns() - started) / 1e3)
            if kind == "slow" and waiting:
                read(waiting.popleft(), kind)

        buffer = memoryview(bytearray(BLOCK))
        backend.submit(Request(Op.READ, offset, BLOCK, [buffer], done=done))

    for _ in range(min(DEPTH, len(slow))):
        read(waiting.popleft(), "slow")
    while len(took["slow"]) < len(slow):
        for offset in quick:
            read(offset, "quick")
        context.turn()
    for kind, times in took.items():
        print(
            f"  {kind:5} {len(times):7} reads, median {median(times):11.1f} µs, longest {max(times):11.1f} µs"
        )


def held_for_a_second() -> None:
    """The others go on while one request is held for a second."""
    context = IoContext.wall()
    print("One request is held for a second:")
    load(BlockBackend(OneSlowBlock(context)), range(1), range(BLOCK, 32 * BLOCK, BLOCK))
    context.close()


def cold_cache() -> None:
    """Reads of cached pages go on while workers wait for the disk."""
    context = IoContext.wall()
    with tempfile.NamedTemporaryFile(dir=os.environ.get("TMPDIR", "/var/tmp")) as image:
        for _ in range(IMAGE_SIZE >> 20):
            image.write(os.urandom(1 << 20))
        image.flush()
        os.fsync(image.fileno())
        os.posix_fadvise(image.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        node = open_node({"driver": "file", "filename": image.name}, context)
        warm = range(0, 32 * BLOCK, BLOCK)
        for offset in warm:
            os.pread(image.fileno(), BLOCK, offset)
        print("Pages that are not in the host's cache, beside pages that are:")
        load(BlockBackend(node), range(1 << 20, IMAGE_SIZE, 1 << 18), warm)
        node.close()
    context.close()


if __name__ == "__main__":
    held_for_a_second()
    cold_cache()
