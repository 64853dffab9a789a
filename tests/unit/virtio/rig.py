"""One queue of a device under test with its driver, ready to run: the set-up of tests that tell one story."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from devmodels.conformance import ViolationLog
from devmodels.memory import GuestMemory
from devmodels.virtio.device import CORE_FEATURES
from devmodels.virtio.queue import VirtQueue
from tests.unit.virtio.dut import IN_ORDER, TestDevice
from tests.unit.virtio.model import EVENT_IDX, VERSION_1, Buffer, Driver, DriverRing, Form, Vector, area_sizes
from tests.unit.virtio.packed_model import RING_PACKED, PackedDriverRing
from tests.unit.virtio.plain import Block, Kind, PlainMemory, guest_memory, shared

RING = 0x10_0000
DATA = 0x1000
TABLE = 0x8000
LAST = (1 << 64) - 16
FEATURES = [0, EVENT_IDX, IN_ORDER, EVENT_IDX | IN_ORDER]


D = TypeVar("D", bound=Driver)


@dataclass
class Rig(Generic[D]):
    plain: PlainMemory
    memory: GuestMemory
    device: TestDevice
    queue: VirtQueue
    driver: D
    parts: tuple[int, int, int]

    @property
    def notified(self) -> int:
        return len(self.device.notifications.used)

    @property
    def clauses(self) -> list[str]:
        return [each.clause for each in self.device.violations.recent]

    def place(
        self, writable: list[Vector], readable: list[Vector] | None = None, form: Form = Form.DIRECT
    ) -> Buffer:
        buffer = Buffer(readable or [], writable)
        self.driver.place(buffer, form, TABLE)
        return buffer

    def expose(self) -> bool:
        """Expose what was placed, notify where that is demanded, and let the device work."""
        must = self.driver.expose()
        if must:
            self.device.kick(0)
        self.device.idle()
        return must

    def send(self, writable: list[Vector], readable: list[Vector] | None = None) -> Buffer:
        buffer = self.place(writable, readable)
        self.expose()
        return buffer


def ring_parts(size: int) -> tuple[tuple[int, int, int], int]:
    """Addresses of a split ring's parts from RING on, and the end."""
    return _parts(area_sizes(size))


def _parts(sizes: tuple[int, int, int]) -> tuple[tuple[int, int, int], int]:
    desc, driver, device = sizes
    parts = (RING, RING + desc, RING + desc + driver + 3 & ~3)
    return parts, parts[2] + device + 7 & ~7


def rig(
    size: int = 16,
    features: int = 0,
    *,
    kind: Kind = Kind.SHARED,
    start: int = 0,
    violations: ViolationLog | None = None,
    offered: int = CORE_FEATURES | IN_ORDER,
) -> Rig[DriverRing]:
    """A device that runs, with `features` besides VERSION_1; its split ring goes on at index `start`."""
    return _run(DriverRing, size, features, kind, start, violations, offered)


def packed_rig(
    size: int = 16,
    features: int = 0,
    *,
    kind: Kind = Kind.SHARED,
    start: int = 0,
    violations: ViolationLog | None = None,
) -> Rig[PackedDriverRing]:
    """A device that runs, with `features` besides VERSION_1; its packed ring goes on at place `start`."""
    offered = CORE_FEATURES | IN_ORDER | RING_PACKED
    return _run(PackedDriverRing, size, features | RING_PACKED, kind, start, violations, offered)


def _run(
    model: type[D],
    size: int,
    features: int,
    kind: Kind,
    start: int,
    violations: ViolationLog | None,
    offered: int,
) -> Rig[D]:
    parts, end = _parts(model.sizes(size))
    plain = PlainMemory([Block(RING, bytearray(end - RING)), Block(0, bytearray(0x1_0000))])
    memory = guest_memory(plain, kind)
    device = TestDevice(memory, queue_size=max(size, 2), features=offered, violations=violations)
    device.negotiate(features | VERSION_1)
    driver = model(plain, size, parts, features | VERSION_1, start=start)
    queue = device.set_queue(0, size, parts)
    device.go()
    queue.enabled = True
    position = driver.position(size, start)
    assert queue.start(last_avail=position, used_idx=position)
    device.process(queue)
    device.idle()
    return Rig(plain, memory, device, queue, driver, parts)


def move_ring(r: Rig[D]) -> None:
    """The guest's memory that holds the ring lies somewhere else in the host from now on."""
    old = next(region for region in r.memory.regions if region.base == r.parts[0])
    r.plain.blocks[0].data = bytearray(r.plain.blocks[0].data)
    r.memory.remove(old)
    r.memory.add(shared(r.plain.blocks[0]))
