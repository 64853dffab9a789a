"""A disk in one line, and nodes whose requests end when a test says so."""

from __future__ import annotations

from collections.abc import Callable

from devmodels.blockbackend import BlockBackend, BlockLimits, BlockNode, Flags, Op, Request, open_node
from devmodels.blockbackend.drivers.memory import MemoryNode, MemoryOptions
from devmodels.iocontext import Future, IoContext
from devmodels.runstate import RunState

SIZE = 64 << 10
DIRT = b"\x55"
"""What a read's buffer holds before."""


class Disk:
    """A backend over a node, with calls that wait for their result.

    `ends` counts how often each request's `done` was called.
    """

    def __init__(
        self,
        node: BlockNode | dict[str, object] | None = None,
        *,
        context: IoContext | None = None,
        run_state: RunState | None = None,
        write_cache: bool = True,
        read_only: bool = False,
    ) -> None:
        self.context = context or (node.context if isinstance(node, BlockNode) else IoContext.virtual())
        if not isinstance(node, BlockNode):
            node = open_node(node or {"driver": "memory", "size": SIZE}, self.context)
        self.node = node
        self.backend = BlockBackend(node, run_state=run_state, write_cache=write_cache, read_only=read_only)
        self.ends: dict[Request, int] = {}

    def submit(
        self,
        op: Op,
        offset: int = 0,
        length: int = 0,
        data: bytes | None = None,
        flags: Flags = Flags.NONE,
        cut: int = 0,
        done: Callable[[Request], None] | None = None,
    ) -> Request:
        """Submit and do not wait; the payload lies in vectors of `cut` bytes (0: in one)."""
        vectors = []
        if op is Op.READ or data is not None:
            payload = memoryview(bytearray(DIRT * length if data is None else data))
            length = len(payload)
            step = cut or max(length, 1)
            vectors = [payload[at : at + step] for at in range(0, length, step)]

        def ended(request: Request) -> None:
            self.ends[request] += 1
            if done is not None:
                done(request)

        request = Request(op, offset, length, vectors, flags, ended)
        self.ends[request] = 0
        self.backend.submit(request)
        return request

    def wait(self, request: Request) -> int:
        """Run until `request` is over; its errno."""
        while not self.ends[request]:
            self.context.run_once()
        return request.error

    def do(
        self, op: Op, offset: int = 0, length: int = 0, data: bytes | None = None, flags: Flags = Flags.NONE
    ) -> int:
        """One request; its errno."""
        return self.wait(self.submit(op, offset, length, data, flags))

    def write(self, offset: int, data: bytes, flags: Flags = Flags.NONE) -> int:
        """Write; the errno."""
        return self.do(Op.WRITE, offset, data=data, flags=flags)

    def read(self, offset: int, length: int) -> bytes:
        """Read what must be readable."""
        request = self.submit(Op.READ, offset, length)
        assert self.wait(request) == 0
        return payload(request)

    def close(self) -> None:
        """Close everything."""
        self.backend.close()
        self.node.close()
        self.context.close()


def payload(request: Request) -> bytes:
    """The bytes in a request's vectors."""
    return b"".join(request.vectors)


class WatchedNode(MemoryNode):
    """A memory disk that notes each request and does with it what the test wants.

    `held`: requests wait in `waiting` until `release`; `errors`: the errno for requests of an (operation, offset).
    """

    def __init__(self, context: IoContext, size: int = SIZE, limits: BlockLimits | None = None) -> None:
        super().__init__(MemoryOptions(driver="memory", size=size, discard="unmap"), context)
        self.limits = limits or BlockLimits()
        self.seen: list[Request] = []
        self.held = False
        self.waiting: dict[Request, Future[None]] = {}
        self.errors: dict[tuple[Op, int], Exception] = {}

    def log(self) -> list[tuple[Op, int, int]]:
        """What came, as (operation, offset, length)."""
        return [(request.op, request.offset, request.length) for request in self.seen]

    def release(self, request: Request | None = None) -> None:
        """Let `request` (None: all) go on."""
        for each in [request] if request is not None else list(self.waiting):
            self.waiting.pop(each).set_result(None)

    async def _watched(self, request: Request) -> None:
        self.seen.append(request)
        if self.held:
            future: Future[None] = Future(self.context)
            self.waiting[request] = future
            await future
        for (op, offset), error in self.errors.items():
            if op is request.op and request.offset <= offset < request.offset + max(request.length, 1):
                raise error

    async def read(self, request: Request) -> None:
        await self._watched(request)
        await super().read(request)

    async def write(self, request: Request) -> None:
        await self._watched(request)
        await super().write(request)

    async def flush(self, request: Request) -> None:
        await self._watched(request)

    async def discard(self, request: Request) -> None:
        await self._watched(request)
        await super().discard(request)

    async def write_zeroes(self, request: Request) -> None:
        await self._watched(request)
        await super().write_zeroes(request)

    async def secure_erase(self, request: Request) -> None:
        await self._watched(request)
        await super().secure_erase(request)
