"""What a guest and its host do, in any order, to a device whose queues are at work on threads of their own."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Generic, TypeVar

import pytest

from devmodels.snapshot import restore_snapshot, save_snapshot
from devmodels.trace import Tracer
from devmodels.virtio.device import VirtioDevice
from guestsim.drivers.layouts import Status
from guestsim.drivers.transport import Interrupts, Transport
from guestsim.drivers.virtio_driver import VirtioDriver
from guestsim.drivers.virtio_pci_modern import ModernPci
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

QUEUES = 3
BLOCKS = 32
"""Of each queue."""
SUSPEND_BIT = 1 << 4
RUNNING = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK

Deed = Callable[[], Coroutine[Any, Any, None]]
D = TypeVar("D", bound=VirtioDriver[Any])
P = TypeVar("P")


@pytest.fixture(autouse=True)
def meeting_everywhere() -> Iterator[None]:
    """Threads take turns as often as they can; for the tests of whoever imports it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class StormWorld(Generic[D, P]):
    """A guest, and requests that nobody has waited for yet: the queue, the block, and what the driver has of each."""

    driver_type: type[D]
    name: str
    """The device's id."""

    def __init__(
        self,
        target: InProcessTarget,
        find: Callable[[Guest], Sequence[Transport]],
        seed: int,
        interrupts: Interrupts,
    ) -> None:
        self.target = target
        self.assembly = target.assembly
        self.random = random.Random(seed)
        self.interrupts = interrupts
        self.guest = Guest(target)
        (transport,) = find(self.guest)
        assert isinstance(transport, ModernPci)
        self.transport = transport
        self.driver = self.driver_type(self.guest, transport)
        self.pending: list[tuple[int, int, P]] = []
        self.content = [[0] * BLOCKS for _ in range(QUEUES)]
        """The fill of each block; -1 where it is not known whether a request for it was done."""
        self.dropped = self.done = 0

    @property
    def virtio(self) -> VirtioDevice:
        return self.assembly.virtio_device(self.name)

    # --- of each device

    async def probe(self) -> None:
        raise NotImplementedError

    async def burst(self) -> None:
        """Writes of different blocks by every queue, which are waited for later."""
        raise NotImplementedError

    async def finish(self) -> None:
        """Wait for everything."""
        raise NotImplementedError

    async def verify(self) -> None:
        """Every block is as it must be."""
        raise NotImplementedError

    def deeds(self) -> list[Deed]:
        """What is done to the device meanwhile."""
        raise NotImplementedError

    def check_block(self, queue: int, block: int, data: bytes) -> None:
        """The block has its fill, or, where that is not known, one fill; it is known now."""
        fills, found = self.content[queue], set(data)
        assert found == {fills[block]} or (fills[block] < 0 and len(found) == 1)
        fills[block] = data[0]

    # --- what is done to any

    async def reset_it(self) -> None:
        await self.driver.reset()
        await self.probe()

    async def save_and_restore(self) -> None:
        self.assembly.run_state.stop()
        await self.burst()
        restore_snapshot(self.assembly, save_snapshot(self.assembly))
        self.assembly.run_state.cont()

    async def suspend(self) -> None:
        transport = self.transport
        transport.write_status(RUNNING | SUSPEND_BIT)
        await self.guest.wait_until(lambda: bool(transport.read_status() & SUSPEND_BIT), "the suspension")
        self.check_suspended()
        transport.write_status(RUNNING)

    def check_suspended(self) -> None:
        """Nothing is at work."""
        raise NotImplementedError

    async def trace(self) -> None:
        tracer = Tracer(self.assembly.context.now_ns)
        numbers: list[int] = []
        tracer.sinks.append(lambda event: numbers.append(event.number))
        self.assembly.set_trace(tracer)
        await self.burst()
        await self.finish()
        self.assembly.set_trace(None)
        assert numbers == list(range(len(numbers)))
        assert numbers

    async def storm(self, steps: int) -> None:
        """`steps` of all that, each while requests are on their way."""
        deeds = self.deeds()
        await self.probe()
        order = self.random.sample(deeds, len(deeds))
        for step in range(steps):
            await self.burst()
            await order[step % len(order)]()
            await self.finish()
            if step % 8 == 7:
                await self.verify()
        await self.verify()

    def close(self) -> None:
        """Nothing may have gone wrong, and nothing be left."""
        assert self.target.violations() == []
        assert not any(thread.errors for thread in self.assembly.graph.iothreads.by_id.values())
        self.assembly.context.run_until_idle()
        assert all(not queue.in_flight for queue in self.virtio.queues)
        assert all(region.pins == 0 for region in self.assembly.memory.regions)
        self.guest.close()
        self.target.close()
