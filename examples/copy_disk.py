"""One disk copied to another, by nodes of any kind, and compared.

    python examples/copy_disk.py SOURCE TARGET [--compare]

SOURCE and TARGET are options as `--blockdev` takes them: `driver=file,filename=disk.img`, or
`driver=iscsi,transport=tcp,portal=127.0.0.1,target=iqn.2026-11.org.example:d0`.  Parts that are known to be zero are
written as zeroes.  Eight requests of 1 MiB are under way at a time; what it took is printed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator

from devmodels.blockbackend import BlockBackend, Graph, Op, Request
from devmodels.blockbackend.registry import coerce
from devmodels.blockbackend.status import Status
from devmodels.iocontext import Coro, Future, IoContext
from devmodels.options import OptionError, parse_keyval

PIECE = 1 << 20
DEPTH = 8


async def perform(
    backend: BlockBackend, op: Op, offset: int, length: int, data: bytearray | None = None
) -> Request:
    """One request; OSError where it fails."""
    over: Future[None] = Future(backend.context)
    vectors = [] if data is None else [memoryview(data)[:length]]
    request = Request(op, offset, length, vectors, done=lambda _: over.set_result(None))
    backend.submit(request)
    await over
    if request.error:
        raise OSError(request.error, f"{op.name} at {offset}: {os.strerror(request.error)}")
    return request


async def copy_piece(source: BlockBackend, target: BlockBackend, offset: int, length: int) -> None:
    """Copy one piece, or only note that it is zero."""
    status = (await perform(source, Op.BLOCK_STATUS, offset, length)).status
    if Status.ZERO in status.flags and status.pnum >= length:
        await perform(target, Op.WRITE_ZEROES, offset, length)
        return
    data = bytearray(length)
    await perform(source, Op.READ, offset, length, data)
    await perform(target, Op.WRITE, offset, length, data)


async def compare_piece(source: BlockBackend, target: BlockBackend, offset: int, length: int) -> None:
    """OSError where a piece differs."""
    one, other = bytearray(length), bytearray(length)
    await perform(source, Op.READ, offset, length, one)
    await perform(target, Op.READ, offset, length, other)
    if one != other:
        raise OSError(0, f"what lies at {offset} differs")


Piece = Callable[[BlockBackend, BlockBackend, int, int], Coro[None]]


async def in_pieces(piece: Piece, source: BlockBackend, target: BlockBackend) -> None:
    """Do `piece` for every piece of the source, several at a time."""
    pieces = iter(range(0, source.size, PIECE))
    ends: list[Future[None]] = [Future(source.context) for _ in range(DEPTH)]

    async def work(pieces: Iterator[int]) -> None:
        for offset in pieces:
            await piece(source, target, offset, min(PIECE, source.size - offset))

    def ended(over: Future[None]) -> Callable[[None, BaseException | None], None]:
        return lambda _, error: over.set_result(None) if error is None else over.set_error(error)

    for over in ends:
        source.context.start(work(pieces), ended(over))
    for over in ends:
        await over


def open_disk(graph: Graph, name: str, options: str, *, read_only: bool) -> BlockBackend:
    """A backend over the node that `options` describe."""
    given = {"node-name": name, "read-only": read_only, **coerce(parse_keyval(options))}
    return BlockBackend(graph.add(given), name=name, read_only=read_only)


def main(arguments: list[str]) -> None:
    """Copy, and compare where that is wanted."""
    compare = "--compare" in arguments
    names = [each for each in arguments if each != "--compare"]
    if len(names) != 2:
        raise SystemExit("expected SOURCE TARGET [--compare]")
    context = IoContext.wall()
    graph = Graph(context)
    try:
        source = open_disk(graph, "source", names[0], read_only=True)
        target = open_disk(graph, "target", names[1], read_only=False)
        if target.size < source.size:
            raise SystemExit(f"the target has {target.size} bytes, the source {source.size}")
        steps: list[tuple[str, Piece]] = [("copied", copy_piece)]
        for what, piece in [*steps, ("compared", compare_piece)] if compare else steps:
            begun = time.monotonic()
            context.run(in_pieces(piece, source, target))
            if piece is copy_piece:
                context.run(perform(target, Op.FLUSH, 0, 0))
            took = time.monotonic() - begun
            print(f"{what} {source.size >> 20} MiB in {took:.2f} s: {source.size / took / 1e6:.0f} MB/s")
        source.close()
        target.close()
    except (OptionError, OSError) as error:
        raise SystemExit(str(error)) from None
    finally:
        graph.close()
        context.close()


if __name__ == "__main__":
    main(sys.argv[1:])
