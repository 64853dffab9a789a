"""An asyncio program uses the block layer: the context runs inside its loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from devmodels.asynciocontext import AsyncioContext
from devmodels.blockbackend import BlockBackend, Op, Request, open_node
from devmodels.iocontext import Cancelled, IoContext


def test_a_program_writes_and_reads_a_file(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))

    async def main() -> bytes:
        context = IoContext.wall()
        async with AsyncioContext(context):
            node = open_node({"driver": "file", "filename": str(image)}, context)
            backend = BlockBackend(node)
            loop = asyncio.get_running_loop()

            async def submit(op: Op, data: bytearray) -> int:
                done: asyncio.Future[int] = loop.create_future()
                vectors = [memoryview(data)]
                request = Request(op, 4096, len(data), vectors, done=lambda r: done.set_result(r.error))
                backend.submit(request)
                return await asyncio.wait_for(done, 20)

            assert (
                await asyncio.gather(*(submit(Op.WRITE, bytearray(b"x" * 4096)) for _ in range(8))) == [0] * 8
            )
            data = bytearray(4096)
            assert await submit(Op.READ, data) == 0
            node.close()
        context.close()
        return bytes(data)

    assert asyncio.run(main()) == b"x" * 4096


def test_the_contexts_timers_run_beside_the_loops(tmp_path: Path) -> None:
    seen: list[str] = []

    async def main() -> None:
        context = IoContext.wall()
        async with AsyncioContext(context) as bridge:

            async def ours() -> str:
                await context.sleep(2_000_000)
                seen.append("context")
                return "result"

            async def theirs() -> None:
                await asyncio.sleep(0)
                seen.append("loop")

            results = await asyncio.wait_for(asyncio.gather(bridge.run(ours()), theirs()), 20)
            assert results[0] == "result"
        context.close()

    asyncio.run(main())
    assert seen == ["loop", "context"]


def test_a_virtual_clock_jumps_inside_the_loop() -> None:
    async def main() -> int:
        context = IoContext.virtual()
        async with AsyncioContext(context) as bridge:
            await asyncio.wait_for(bridge.run(context.sleep(3600 * 10**9)), 20)
        context.close()
        return context.now_ns()

    assert asyncio.run(main()) == 3600 * 10**9


def test_errors_and_cancellation_cross_the_border() -> None:
    seen: list[str] = []

    async def main() -> None:
        context = IoContext.wall()
        async with AsyncioContext(context) as bridge:

            async def fail() -> None:
                await context.sleep(1)
                raise OSError(5, "broken")

            with pytest.raises(OSError, match="broken"):
                await bridge.run(fail())

            async def long() -> None:
                try:
                    await context.sleep(3600 * 10**9)
                except Cancelled:
                    seen.append("cancelled")
                    raise

            task = asyncio.create_task(bridge.run(long()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await bridge.run(context.sleep(0))
        context.close()

    asyncio.run(main())
    assert seen == ["cancelled"]


def test_the_block_layer_does_not_import_asyncio() -> None:
    program = "import sys, devmodels.blockbackend; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
