"""Which devices and which stacks of nodes are there to have their power cut.

A stack is what stands between the device and the disk's own volatile cache, from below.  A new filter gets a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

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
    """A device by its options, those of an export with `vhost_user`; `legacy` is how the driver reaches it.

    `reopened` is the device through which what was left is read, if another one.
    """

    options: Options
    legacy: bool | None = None
    vhost_user: bool = False
    reopened: str | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """`nodes`, from below, without their child and `node-name`; `objects` that they name; options of the `device`.

    The disk below has `room` bytes more than the guest sees; with `file` it is a file, else memory.  `cache` are
    options of its volatile cache, `disk` nodes below that.  `filters`, by driver, come and go above the disk meanwhile.
    `may_fail`: requests may.  `unit`: the disk's atomic unit in sectors.
    """

    nodes: tuple[Options, ...] = ()
    objects: tuple[Options, ...] = ()
    device: Options = field(default_factory=dict)
    room: int = 0
    file: bool = False
    cache: Options = field(default_factory=dict)
    disk: tuple[Options, ...] = ()
    filters: tuple[str, ...] = ()
    may_fail: bool = False
    unit: int = 1


_QUEUES: Options = {"num-queues": 4, "secure-erase": True}

DEVICES: dict[str, Device] = {
    "pci": Device({"driver": "virtio-blk-pci", "disable-legacy": "on", **_QUEUES}),
    "pci-packed": Device({"driver": "virtio-blk-pci", "disable-legacy": "on", "packed": True, **_QUEUES}),
    "pci-legacy": Device({"driver": "virtio-blk-pci", **_QUEUES}, legacy=True),
    "mmio": Device({"driver": "virtio-blk-device", "force-legacy": False, **_QUEUES}),
    "mmio-legacy": Device({"driver": "virtio-blk-device", "force-legacy": True, **_QUEUES}),
    "vhost-user": Device({"type": "vhost-user-blk", **_QUEUES}, vhost_user=True, reopened="mmio"),
}

_WINDOW = 16 << 10


def _failing(kind: str, every: int) -> Options:
    """A blkdebug node that fails each so many-th write, or flush, which it hears of from a `raw` over it."""
    event = {"write": "pwritev", "flush": "flush_to_disk"}[kind]
    return {
        "driver": "blkdebug",
        "inject-error": [
            {"event": event, "state": every, "iotype": kind, "errno": 5},
            {"event": event, "state": 1, "iotype": kind, "errno": 0},
        ],
        "set-state": [
            {"event": event, "state": state, "new_state": state % every + 1} for state in range(1, every + 1)
        ],
    }


_STOP: Options = {"werror": "stop", "rerror": "stop"}

STACKS: dict[str, Stack] = {
    "memory": Stack(),
    "small-cache": Stack(cache={"capacity": 16 << 10}),
    "atomic-4k": Stack(cache={"atomic-unit": 4096}, unit=8),
    "file": Stack(file=True),
    "raw": Stack(({"driver": "raw"},)),
    "raw-window": Stack(({"driver": "raw", "offset": _WINDOW, "size": SIZE},), room=2 * _WINDOW),
    "raw-file": Stack(({"driver": "raw"},), file=True),
    "detect-zeroes": Stack(({"driver": "raw", "detect-zeroes": "unmap"},)),
    "keeps-space": Stack(({"driver": "raw", "discard": "ignore"},)),
    "delay": Stack(({"driver": "delay", "write-ns": 7_000, "flush-ns": 1_000, "read-ns": 3_000},)),
    "throttle": Stack(
        ({"driver": "throttle", "throttle-group": "g0"},),
        objects=({"qom-type": "throttle-group", "id": "g0", "limits": {"iops-total": 20_000}},),
    ),
    "copy-on-read": Stack(({"driver": "copy-on-read"},)),
    "preallocate": Stack(({"driver": "preallocate", "prealloc-size": 8192, "prealloc-align": 4096},)),
    "blklogwrites": Stack(
        ({"driver": "blklogwrites", "log": {"driver": "memory", "size": 16 << 20}},),
    ),
    "blkdebug": Stack(({"driver": "blkdebug"}, {"driver": "raw"})),
    "unaligned": Stack(({"driver": "blkdebug", "align": 2048}, {"driver": "raw"})),
    "short-requests": Stack(
        (
            {"driver": "blkdebug", "max-transfer": 1024, "max-write-zero": 1536, "max-discard": 1024},
            {"driver": "raw"},
        ),
    ),
    "failing-writes": Stack((_failing("write", 7), {"driver": "raw"}), may_fail=True),
    "failing-flushes": Stack((_failing("flush", 3), {"driver": "raw"}), may_fail=True),
    "failing-disk": Stack(disk=(_failing("write", 5), {"driver": "raw"}), may_fail=True),
    "stopping": Stack((_failing("write", 7), {"driver": "raw"}), device=_STOP),
    "stopping-flushes": Stack((_failing("flush", 3), {"driver": "raw"}), device=_STOP),
    "filters-come-and-go": Stack(({"driver": "raw"},), filters=("volatile-cache", "delay", "raw")),
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
