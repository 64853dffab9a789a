"""A virtio device under test as a PCI function in a machine, and a driver that finds its way by capabilities alone.

Offsets and numbers are those of VIRTIO 1.4 §4.1.4, written down again here.
"""

from __future__ import annotations

from dataclasses import dataclass

from devmodels.conformance import Profile, ViolationLog
from devmodels.machine import Machine
from devmodels.virtio.device import CORE_FEATURES
from devmodels.virtio.pci import VirtioPci
from tests.unit.virtio.dut import ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, IN_ORDER, TestDevice
from tests.unit.virtio.model import VERSION_1, Buffer, DriverRing, Form, Vector
from tests.unit.virtio.plain import Block, Kind, PlainMemory, guest_memory
from tests.unit.virtio.rig import DATA, RING, ring_parts

SLOT = 5
BAR_BASE = 0xC000_0000
MSIX_ADDRESS = 0xFEE0_0000

COMMON, NOTIFY, ISR, DEVICE, PCI_CFG = 1, 2, 3, 4, 5
NO_VECTOR = 0xFFFF
DRIVER_RULES = "VIRTIO 1.4 §4.1.4.3.2"

FIELDS = {
    "device_feature_select": (0x00, 4),
    "device_feature": (0x04, 4),
    "driver_feature_select": (0x08, 4),
    "driver_feature": (0x0C, 4),
    "config_msix_vector": (0x10, 2),
    "num_queues": (0x12, 2),
    "device_status": (0x14, 1),
    "config_generation": (0x15, 1),
    "queue_select": (0x16, 2),
    "queue_size": (0x18, 2),
    "queue_msix_vector": (0x1A, 2),
    "queue_enable": (0x1C, 2),
    "queue_notify_off": (0x1E, 2),
    "queue_desc": (0x20, 8),
    "queue_driver": (0x28, 8),
    "queue_device": (0x30, 8),
    "queue_notif_config_data": (0x38, 2),
    "queue_reset": (0x3A, 2),
    "admin_queue_index": (0x3C, 2),
    "admin_queue_num": (0x3E, 2),
}
"""struct virtio_pci_common_cfg: offset and size of each field."""


@dataclass(frozen=True)
class Found:
    """One virtio capability, as read from configuration space."""

    at: int
    length: int
    kind: int
    bar: int
    offset: int
    size: int


class PciRig:
    """`driver` is set by `start`."""

    def __init__(
        self,
        *,
        kind: Kind = Kind.SHARED,
        num_queues: int = 2,
        queue_size: int = 8,
        vectors: int | None = None,
        config: bytes = b"",
        offered: int = CORE_FEATURES | IN_ORDER,
        profile: Profile = Profile.STRICT,
    ) -> None:
        self.parts, end = ring_parts(queue_size)
        self.plain = PlainMemory([Block(RING, bytearray(end - RING)), Block(0, bytearray(0x1_0000))])
        memory = guest_memory(self.plain, kind)
        self.messages: list[int] = []
        self.line = False
        self.device = TestDevice(
            memory,
            num_queues=num_queues,
            queue_size=queue_size,
            features=offered,
            config=config,
            violations=ViolationLog(profile),
        )
        self.machine = Machine(
            memory,
            self.device.context,
            ecam=None,
            on_message=lambda _address, data: self.messages.append(data),
            on_intx=self._level,
        )
        self.function = VirtioPci(self.device, class_code=0x00FF00, name="dut", vectors=vectors)
        self.machine.plug(self.function, SLOT)
        self.size = queue_size
        self.driver: DriverRing

    def _level(self, _line: int, level: bool) -> None:
        self.line = level

    # --- configuration space

    def config_read(self, offset: int, size: int) -> int:
        self.machine.io_write(0xCF8, 4, 0x8000_0000 | SLOT << 11 | offset & 0xFC)
        return self.machine.io_read(0xCFC + offset % 4, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        self.machine.io_write(0xCF8, 4, 0x8000_0000 | SLOT << 11 | offset & 0xFC)
        self.machine.io_write(0xCFC + offset % 4, size, value)

    def capabilities(self) -> list[tuple[int, int]]:
        """(id, offset) along the list; AssertionError where it does not end."""
        found: list[tuple[int, int]] = []
        at = self.config_read(0x34, 1)
        while at:
            assert len(found) < 48
            found.append((self.config_read(at, 1), at))
            at = self.config_read(at + 1, 1)
        return found

    def virtio_capabilities(self) -> list[Found]:
        out = []
        for number, at in self.capabilities():
            if number == 9:
                length, kind = self.config_read(at + 2, 1), self.config_read(at + 3, 1)
                bar, offset = self.config_read(at + 4, 1), self.config_read(at + 8, 4)
                out.append(Found(at, length, kind, bar, offset, self.config_read(at + 12, 4)))
        return out

    def capability(self, kind: int) -> Found:
        return next(each for each in self.virtio_capabilities() if each.kind == kind)

    def bar_size(self, index: int) -> tuple[int, bool]:
        """(size, whether 64 bits wide) of a memory BAR."""
        at = 0x10 + 4 * index
        low = self.config_read(at, 4)
        wide = low & 6 == 4
        mask = 0xFFFF_FFFF_FFFF_FFFF if wide else 0xFFFF_FFFF
        self.config_write(at, 4, 0xFFFF_FFFF)
        value = self.config_read(at, 4) & ~0xF
        if not value:
            return 0, False
        if wide:
            self.config_write(at + 4, 4, 0xFFFF_FFFF)
            value |= self.config_read(at + 4, 4) << 32
        return -value & mask, wide

    def map_bars(self, *, master: bool = True) -> None:
        """Give every BAR an address, switch memory decoding (and bus mastering) on."""
        self.bases: dict[int, int] = {}
        address = BAR_BASE
        index = 0
        while index < 6:
            size, wide = self.bar_size(index)
            if size:
                address = -(-address // size) * size
                self.config_write(0x10 + 4 * index, 4, address)
                if wide:
                    self.config_write(0x14 + 4 * index, 4, 0)
                self.bases[index] = address
                address += size
            index += 2 if wide else 1
        self.config_write(0x04, 2, 6 if master else 2)
        found = [each for each in self.virtio_capabilities() if each.kind != PCI_CFG]
        self.where = {each.kind: self.bases[each.bar] + each.offset for each in found}

    def bus_master(self, on: bool) -> None:
        self.config_write(0x04, 2, 6 if on else 2)

    # --- registers

    def get(self, name: str) -> int:
        offset, size = FIELDS[name]
        address = self.where[COMMON] + offset
        if size == 8:
            return self.machine.read(address, 4) | self.machine.read(address + 4, 4) << 32
        return self.machine.read(address, size)

    def set(self, name: str, value: int) -> None:
        offset, size = FIELDS[name]
        address = self.where[COMMON] + offset
        if size == 8:
            self.machine.write(address, 4, value & 0xFFFF_FFFF)
            self.machine.write(address + 4, 4, value >> 32)
        else:
            self.machine.write(address, size, value)

    def isr(self) -> int:
        return self.machine.read(self.where[ISR], 1)

    def notify(self, queue: int, value: int | None = None, size: int = 2) -> None:
        at = self.config_read(self.capability(NOTIFY).at + 16, 4) * queue
        self.machine.write(self.where[NOTIFY] + at, size, queue if value is None else value)

    def clauses(self) -> list[str]:
        return [each.clause for each in self.device.violations.recent]

    # --- driving

    def negotiate(self, features: int = 0) -> None:
        features |= VERSION_1
        self.set("device_status", 0)
        self.set("device_status", ACKNOWLEDGE)
        self.set("device_status", ACKNOWLEDGE | DRIVER)
        for select in (0, 1):
            self.set("driver_feature_select", select)
            self.set("driver_feature", features >> 32 * select & 0xFFFF_FFFF)
        self.set("device_status", ACKNOWLEDGE | DRIVER | FEATURES_OK)
        self.features = features

    def set_queue(self, queue: int = 0) -> None:
        self.driver = DriverRing(self.plain, self.size, self.parts, self.features)
        self.enable_queue(queue)

    def enable_queue(self, queue: int = 0) -> None:
        self.set("queue_select", queue)
        self.set("queue_size", self.size)
        for name, address in zip(("queue_desc", "queue_driver", "queue_device"), self.parts, strict=True):
            self.set(name, address)
        self.set("queue_enable", 1)

    def go(self) -> None:
        self.set("device_status", ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
        self.device.idle()

    def start(self, features: int = 0, *, queue: int = 0) -> None:
        self.map_bars()
        self.negotiate(features)
        self.set_queue(queue)
        self.go()

    def expose(self, *vectors: Vector) -> None:
        """Make one buffer available without notifying."""
        self.driver.place(Buffer([], list(vectors or [(DATA, 16)])), Form.DIRECT, 0)
        self.driver.expose()

    def used(self) -> int:
        """How many buffers have come back."""
        self.device.idle()
        return len(self.driver.collect())

    # --- MSI-X

    def msix(self) -> tuple[int, int, int]:
        """Offset of the capability, number of vectors, address of the table."""
        at = next(at for number, at in self.capabilities() if number == 0x11)
        where = self.config_read(at + 4, 4)
        count = (self.config_read(at + 2, 2) & 0x7FF) + 1
        return at, count, self.bases[where & 7] + (where & ~7)

    def enable_msix(self, *, masked: bool = False) -> int:
        """Switch MSI-X on, vector n sending data n; returns the number of vectors."""
        at, count, table = self.msix()
        for vector in range(count):
            entry = table + 16 * vector
            for word, value in enumerate((MSIX_ADDRESS, 0, vector, int(masked))):
                self.machine.write(entry + 4 * word, 4, value)
        self.config_write(at + 2, 2, 0x8000)
        return count


def mapped(
    *, num_queues: int = 2, queue_size: int = 8, vectors: int | None = None, config: bytes = b""
) -> PciRig:
    r = PciRig(num_queues=num_queues, queue_size=queue_size, vectors=vectors, config=config)
    r.map_bars()
    return r


def started(
    features: int = 0, *, num_queues: int = 2, vectors: int | None = None, config: bytes = b""
) -> PciRig:
    r = PciRig(num_queues=num_queues, vectors=vectors, config=config)
    r.start(features)
    return r
