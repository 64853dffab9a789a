"""Machines for power cuts: one that can be looked at between any two of its steps, and those that start again.

Between two steps of a machine on a virtual clock nothing is half done: every coroutine stands at an await.  So these
are the moments at which the power can go.  A cut changes nothing: what would be left is worked out from the disk and
its volatile cache, another machine starts with it, and the first one goes on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from devmodels.blockbackend import BlockBackend, BlockNode, Graph, Op, Request
from devmodels.blockbackend.drivers.volatile_cache import VolatileCacheNode
from devmodels.blockbackend.filters import FilterNode, FilterOptions
from devmodels.blockbackend.request import Read
from devmodels.iocontext import ClockKind, IoContext
from guestsim.drivers import virtio_blk, virtio_bus
from guestsim.drivers.pci import scan
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest
from guestsim.powercut.ledger import stamp
from guestsim.powercut.stacks import SECTORS, SIZE, Device, Options, Stack
from guestsim.targets.inprocess import InProcessTarget

if TYPE_CHECKING:
    from guestsim.drivers.transport import Transport

_RAM = (16 << 20) + 4096
_MEDIUM, _CACHE, TOP = "medium", "cache", "top"
_SLOW, _FAST = "slow", "fast"
_PASSING = "passing"
_JITTER = "jitter"
_CHANGE = 0.2
"""How often a filter comes or goes while everybody waits."""
_LONGEST_NS = 20_000


class SteppingContext(IoContext):
    """A virtual clock that calls `on_step` after each step: whatever was scheduled has run to its next await."""

    def __init__(self) -> None:
        super().__init__(ClockKind.VIRTUAL)
        self.on_step: Callable[[], None] = _nothing
        self.steps = 0

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the next turn, and then `on_step`."""

        def step() -> None:
            callback()
            self.steps += 1
            self.on_step()

        super().call_soon(step)


class Jitter(FilterNode):
    """Every request takes some time or none, at random, the same for the same seed."""

    def __init__(self, name: str, child: BlockNode, seed: str) -> None:
        options = FilterOptions(driver=_JITTER, node_name=name, file=child.node_name, discard="unmap")
        self._chance = random.Random(seed)
        self._patience = self._chance.choice((0.2, 0.5, 1.0))
        """How often there is no waiting at all."""
        super().__init__(options, child.context, child)

    async def _wait(self) -> None:
        if self._chance.random() >= self._patience:
            await self.context.sleep(max(0, self._chance.randrange(-_LONGEST_NS // 4, _LONGEST_NS)))

    def read_now(self, reads: Sequence[Read]) -> int:
        """As often as there is no waiting."""
        return self.file.read_now(reads) if self._chance.random() < self._patience else 0

    async def read(self, request: Request) -> None:
        """Wait, then read."""
        await self._wait()
        await self.file.read(request)

    async def write(self, request: Request) -> None:
        """Wait, write, wait."""
        await self._wait()
        await self.file.write(request)
        await self._wait()

    async def flush(self, request: Request) -> None:
        """Wait, flush, wait."""
        await self._wait()
        await self.file.flush(request)
        await self._wait()

    async def discard(self, request: Request) -> None:
        """Wait, then discard."""
        await self._wait()
        await self.file.discard(request)

    async def write_zeroes(self, request: Request) -> None:
        """Wait, write zeroes, wait."""
        await self._wait()
        await self.file.write_zeroes(request)
        await self._wait()

    async def secure_erase(self, request: Request) -> None:
        """Wait, then erase."""
        await self._wait()
        await self.file.secure_erase(request)


class _Machine(InProcessTarget):
    """One of `device` over `stack`, over the nodes `below`, the uppermost of which `stack` stands on."""

    def __init__(
        self,
        device: Device,
        stack: Stack,
        below: Sequence[Options],
        *,
        context: IoContext | None = None,
        **options: object,
    ) -> None:
        nodes = _over(below, stack.nodes, "stack")
        nodes[-1] = {**nodes[-1], "node-name": TOP}
        devices = [{**device.options, **stack.device, "drive": TOP, "id": "disk", **options}]
        if device.vhost_user:
            devices = []
        super().__init__(
            objects=stack.objects,
            blockdevs=nodes,
            devices=devices,
            ram=_RAM,
            context=context,
        )

    def boot(self, device: Device) -> tuple[Guest, virtio_blk.VirtioBlk]:
        """A guest, and its driver of the disk, which has not been probed."""
        guest = Guest(self)
        return guest, virtio_blk.VirtioBlk(guest, _transport(guest, device))


def _over(below: Sequence[Options], nodes: Sequence[Options], name: str) -> list[Options]:
    """`below` with `nodes` over it, each over the one before."""
    out = list(below)
    for number, node in enumerate(nodes):
        child = "image" if node["driver"] == "blkdebug" else "file"
        out.append({"discard": "unmap", **node, child: out[-1]["node-name"], "node-name": f"{name}{number}"})
    return out


def _transport(guest: Guest, device: Device) -> Transport:
    """The one device that there is."""
    slots = guest.target.layout.virtio_mmio
    if slots:
        return virtio_bus.open_slot(guest, slots[0], virtio_bus.BLOCK)
    (function,) = scan(guest)
    return virtio_bus.open_function(guest, function, legacy=bool(device.legacy))


class _Changes:
    """Filters of some drivers that are put into the graph above a node and taken out again, one after the other."""

    def __init__(self, graph: Graph, filters: Sequence[str], above: str, seed: str) -> None:
        self._graph = graph
        self._filters = filters
        self._above = above
        self._chance = random.Random(seed)
        self._there = False
        self._under_way = False

    def perhaps(self) -> None:
        """Begin a change, now and then, where none is under way."""
        if not self._filters or self._under_way or self._chance.random() > _CHANGE:
            return
        self._under_way = True
        self._graph.context.start(self._change())

    async def _change(self) -> None:
        if self._there:
            await self._graph.remove(_PASSING)
        else:
            options = {
                "driver": self._chance.choice(self._filters),
                "node-name": _PASSING,
                "discard": "unmap",
            }
            await self._graph.insert(options, above=self._above)
        self._there = not self._there
        self._under_way = False


class CutMachine(_Machine):
    """The machine whose power goes: a disk that holds write 0 in each sector, `cache` its volatile cache."""

    def __init__(
        self, device: Device, stack: Stack, *, seed: int, write_cache: bool, folder: Path | None
    ) -> None:
        self.stepping = SteppingContext()
        self.file = folder / "disk.img" if stack.file and folder is not None else None
        self._seed = seed
        disk: list[Options] = [
            _medium(SIZE + stack.room, self.file),
            {"driver": _JITTER, "node-name": _SLOW, "file": _MEDIUM},
        ]
        disk = _over(disk, stack.disk, "disk")
        cache = {
            "driver": "volatile-cache",
            "node-name": _CACHE,
            "file": disk[-1]["node-name"],
            **stack.cache,
        }
        below = [*disk, cache, {"driver": _JITTER, "node-name": _FAST, "file": _CACHE}]
        super().__init__(
            device,
            stack,
            below,
            context=self.stepping,
            **{"write-cache": "on" if write_cache else "off"},
        )
        self.medium = self.assembly.graph[_MEDIUM]
        node = self.assembly.graph[_CACHE]
        assert isinstance(node, VolatileCacheNode)
        self.cache = node
        self._changes = _Changes(self.assembly.graph, stack.filters, _FAST, f"{seed}/changes")

    def add_drive(self, options: Options) -> None:
        """Open a block node; the disk is filled before anything uses it."""
        name = str(options["node-name"])
        nodes = self.assembly.graph.nodes
        if options["driver"] == _JITTER:
            nodes[name] = jitter = Jitter(name, nodes[str(options["file"])], f"{self._seed}/{name}")
            jitter.names = nodes
        else:
            super().add_drive({"discard": "unmap", **options})
        if name == TOP:
            self._fill(nodes[name])

    def _fill(self, top: BlockNode) -> None:
        content = b"".join(stamp(0, sector) for sector in range(SECTORS))
        backend = BlockBackend(top, write_cache=False)
        backend.submit(Request(Op.WRITE, 0, SIZE, [memoryview(content)]))
        backend.submit(Request(Op.FLUSH, 0, 0))
        self.stepping.run_until_idle()
        self.stepping.run(backend.drain())
        backend.close()

    def advance(self) -> bool:
        """Go on, and everybody waits before that; a machine that an error has stopped is let go on."""
        self.pause()
        return super().advance() or self.go_on()

    def pause(self) -> None:
        """Everybody waits: the power may go, and filters come and go."""
        self.stepping.on_step()
        self._changes.perhaps()

    def go_on(self) -> bool:
        """Whether an error has stopped the machine: now it goes on."""
        run_state = self.assembly.run_state
        stopped = not run_state.running
        run_state.cont()
        return stopped

    def left(self, choice: str) -> bytes:
        """The disk below as it would be left by a cut of the power now; `choice` is of what is volatile."""
        if self.file is not None:
            image = bytearray(self.file.read_bytes())
        else:
            image = bytearray(self.medium.size)
            self.medium.read_now([(0, [memoryview(image)], len(image))])
        for change in self.cache.survivors(choice):
            image[change.start : change.end] = change.data or bytes(change.end - change.start)
        return bytes(image)


def _medium(size: int, file: Path | None) -> dict[str, object]:
    """The options of the disk itself; a file is made where there is none."""
    if file is None:
        return {"driver": "memory", "node-name": _MEDIUM, "size": size, "discard": "unmap"}
    if not file.exists():
        file.write_bytes(bytes(size))
    return {"driver": "file", "node-name": _MEDIUM, "filename": str(file), "discard": "unmap"}


class _Reopened(_Machine):
    """A machine that starts with `image`."""

    def __init__(self, device: Device, stack: Stack, image: bytes, file: Path | None) -> None:
        self._image = image
        if file is not None:
            file.write_bytes(image)
        super().__init__(device, stack, [_medium(len(image), file)])

    def add_drive(self, options: Options) -> None:
        """Open a block node; memory gets its content at once."""
        super().add_drive({"discard": "unmap", **options})
        if options["driver"] == "memory":
            node = self.assembly.graph[str(options["node-name"])]
            self.assembly.context.run(
                node.write(Request(Op.WRITE, 0, len(self._image), [memoryview(self._image)]))
            )


def reopen(device: Device, stack: Stack, image: bytes, folder: Path | None) -> bytes:
    """What a guest finds on its whole disk when a new machine starts with what was left below."""
    file = folder / "left.img" if stack.file and folder is not None else None
    with _Reopened(device, stack, image, file) as machine:
        guest, driver = machine.boot(device)
        return guest.run(_read_all(driver))


async def _read_all(driver: virtio_blk.VirtioBlk) -> bytes:
    await driver.probe(queues=1, interrupts=Interrupts.POLLING)
    return await driver.read(0, SIZE)


def _nothing() -> None:
    pass
