"""Which devices and which stacks of nodes are there to have their power cut.

A stack is what stands between the device and the disk's own volatile cache, from below.  A new filter gets a line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    Options = Mapping[str, object]


class WriteCache(StrEnum):
    """`on`, `off`: as the device is configured.  `toggled`: the guest switches it.  `unknown`: a guest that knows
    neither flushes nor how to switch, so that every write is stable (VIRTIO 1.4 §5.2.6.2, first condition)."""

    ON = "on"
    OFF = "off"
    TOGGLED = "toggled"
    UNKNOWN = "unknown"


SECTORS = 96
SIZE = SECTORS * 512
"""What the guest sees of the disk."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device by its options; `legacy` is how the driver reaches it."""

    options: Options
    legacy: bool | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """`nodes`, from below, without `file` and `node-name`; `objects` that they name.

    The disk below has `room` bytes more than the guest sees; with `file` it is a file, else memory.  `unit` is the
    disk's atomic unit.
    """

    nodes: tuple[Options, ...] = ()
    objects: tuple[Options, ...] = ()
    room: int = 0
    file: bool = False
    unit: int = 512
    cache: Options = field(default_factory=dict)


_QUEUES: Options = {"num-queues": 4, "secure-erase": True}

DEVICES: dict[str, Device] = {
    "pci": Device({"driver": "virtio-blk-pci", "disable-legacy": "on", **_QUEUES}),
    "pci-packed": Device({"driver": "virtio-blk-pci", "disable-legacy": "on", "packed": True, **_QUEUES}),
    "pci-legacy": Device({"driver": "virtio-blk-pci", **_QUEUES}, legacy=True),
    "mmio": Device({"driver": "virtio-blk-device", "force-legacy": False, **_QUEUES}),
    "mmio-legacy": Device({"driver": "virtio-blk-device", "force-legacy": True, **_QUEUES}),
}

_WINDOW = 16 << 10

STACKS: dict[str, Stack] = {
    "memory": Stack(),
    "small-cache": Stack(cache={"capacity": 16 << 10}),
    "file": Stack(file=True),
    "raw": Stack(({"driver": "raw"},)),
    "raw-window": Stack(({"driver": "raw", "offset": _WINDOW, "size": SIZE},), room=2 * _WINDOW),
    "raw-file": Stack(({"driver": "raw"},), file=True),
    "detect-zeroes": Stack(({"driver": "raw", "detect-zeroes": "unmap"},)),
    "delay": Stack(({"driver": "delay", "write-ns": 7_000, "flush-ns": 1_000, "read-ns": 3_000},)),
    "throttle": Stack(
        ({"driver": "throttle", "throttle-group": "g0"},),
        objects=({"qom-type": "throttle-group", "id": "g0", "limits": {"iops-total": 20_000}},),
    ),
    "two-caches": Stack(({"driver": "volatile-cache"},)),
    "deep": Stack(
        (
            {"driver": "raw", "offset": 4096},
            {"driver": "delay", "latency-ns": 2_000, "flush-ns": 500},
            {"driver": "throttle", "throttle-group": "g0"},
            {"driver": "raw", "detect-zeroes": "on"},
        ),
        objects=({"qom-type": "throttle-group", "id": "g0", "limits": {"iops-total": 50_000}},),
        room=4096,
    ),
}
