"""What a driver owes a device, at registers and in time: to look before it goes on, and to leave alone what is not its.

For traces of machines, whose register accesses are seen.  What is found once is not said again in the same session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from devmodels.trace import EventKind
from devmodels.virtio.constants import SUSPEND, VERSION_1, Status
from guestsim.lint.sessions import Level, Say, bytes_of

if TYPE_CHECKING:
    from guestsim.show.decode import Field
    from guestsim.show.words import Seen

_STATUS = ("common.device_status", "mmio.status")
_PROBED = frozenset(("mmio.magic_value", "mmio.version", "mmio.device_id"))
_PLACES = frozenset(("desc", "driver", "device"))
_SHOULD_ACCEPT = {34: "VIRTIO_F_RING_PACKED", 36: "VIRTIO_F_ORDER_PLATFORM", 39: "VIRTIO_F_NOTIF_CONFIG_DATA"}
"""VIRTIO 1.4 §6.1."""
_NOTIF_CONFIG_DATA = 39
_RO = 5


class _Phase(Enum):
    """Of a suspension (VIRTIO 1.4 §3.4): nothing, asked for, seen, and taken back but not seen to be over."""

    RUNNING = 0
    ASKED = 1
    SUSPENDED = 2
    RESUMED = 3


@dataclass(slots=True)
class _Driver:
    """What is known of a device's driver since it reset the device; `mmio` and `probed` are from before that, too."""

    mmio: bool = False
    probed: set[str] = field(default_factory=set)
    midway: bool = False
    """The trace began when it was at work already."""
    writes: bool = False
    """Whether register writes of its own were seen."""
    offered: dict[int, int] = field(default_factory=dict)
    selected: int | None = None
    driver_selected: bool = False
    features: int = 0
    broken: bool = False
    """DEVICE_NEEDS_RESET was read."""
    phase: _Phase = _Phase.RUNNING
    generation: bool = False
    """config_generation was read."""
    unconfirmed: bool = False
    """The capacity was read, and config_generation not since."""
    places: dict[int, set[str]] = field(default_factory=dict)
    """What was written of where a queue lies, by queue."""
    again: set[int] = field(default_factory=set)
    """Queues that were reset."""
    queue: int = 0
    stopping: bool = False
    """Over MMIO, QueueReady was written 0, and not read since."""
    looked: bool = False
    """Over MMIO, InterruptStatus was read, and nothing acknowledged since."""
    said: set[str] = field(default_factory=set)

    def begun(self) -> _Driver:
        """It resets the device."""
        return _Driver(mmio=self.mmio, probed=self.probed, writes=self.writes)


class DutyChecks:
    """Of every device of a machine."""

    def __init__(self) -> None:
        self._drivers: dict[str, _Driver] = {}

    def see(self, seen: Seen, say: Say) -> None:
        """Take the next event."""
        kind = seen.event.kind
        act = _ACTS.get(kind)
        if seen.device is None or (act is None and kind is not EventKind.RESET):
            return
        driver = self._drivers.get(seen.device)
        if driver is None:
            driver = self._drivers[seen.device] = _Driver()
        if _is_reset(seen):
            driver = self._drivers[seen.device] = driver.begun()
        if act is not None:
            act(driver, seen, say)


def _is_reset(seen: Seen) -> bool:
    if seen.event.kind is EventKind.RESET:
        return seen.queue is None
    written = seen.event.kind is EventKind.ACCESS_WRITE
    return written and any(each.name in _STATUS and each.value == 0 for each in seen.fields)


def _written(driver: _Driver, seen: Seen, say: Say) -> None:
    driver.writes = True
    for each in seen.fields:
        if not isinstance(each.value, int):
            continue
        _before(driver, seen, each, say, reads=False)
        for act in (_feature_written, _queue_written, _status_written, _mmio_written):
            act(driver, seen, each, say)


def _value(driver: _Driver, seen: Seen, say: Say) -> None:
    """A read has ended."""
    for each in seen.fields:
        if not isinstance(each.value, int):
            continue
        name, value = each.name, each.value
        _before(driver, seen, each, say, reads=True)
        if name in _STATUS:
            _status_read(driver, value)
        elif name.endswith((".device_feature", ".device_features")):
            if driver.mmio and driver.selected is None:
                summary = f"{name} read before device_features_sel was written"
                _say(driver, seen, say, "VIRTIO 1.4 §4.2.2.2", summary)
            driver.offered[0 if name.startswith("legacy.") else driver.selected or 0] = value
        elif name.endswith(".config_generation"):
            driver.generation, driver.unconfirmed = True, False
        elif name == "mmio.interrupt_status":
            driver.looked = True
        elif name == "mmio.queue_ready":
            driver.stopping = False


def _before(driver: _Driver, seen: Seen, accessed: Field, say: Say, *, reads: bool) -> None:
    """What has to be done before this register is touched."""
    name = accessed.name
    if not name.startswith("mmio."):
        return
    driver.mmio = True
    if reads and name in _PROBED:
        driver.probed.add(name)
    elif driver.probed != _PROBED and not driver.midway:
        driver.probed.update(_PROBED)
        summary = f"{name} accessed before magic, version and device ID were read"
        _say(driver, seen, say, "VIRTIO 1.4 §4.2.3.1.1", summary)
    if ".shm_" in name:
        _say(
            driver,
            seen,
            say,
            "VIRTIO 1.4 §4.2.3.1.1",
            "registers of shared memory used, which nobody expects",
        )


def _feature_written(driver: _Driver, seen: Seen, written: Field, say: Say) -> None:
    name = written.name
    if name.endswith((".device_feature_select", ".device_features_sel")):
        driver.selected = int(written.value)
    elif name == "mmio.driver_features_sel":
        driver.driver_selected = True
    elif name == "mmio.driver_features" and not driver.driver_selected:
        summary = "driver_features written before driver_features_sel"
        _say(driver, seen, say, "VIRTIO 1.4 §4.2.2.2", summary)


def _queue_written(driver: _Driver, seen: Seen, written: Field, say: Say) -> None:
    place, _, name = written.name.rpartition(".")
    name = name.partition(":")[0]
    if name in ("queue_select", "queue_sel"):
        driver.queue = int(written.value)
        return
    if not name.startswith("queue_"):
        return
    part = name.removeprefix("queue_").removesuffix("_low").removesuffix("_high")
    queue = driver.queue
    if part in _PLACES:
        driver.places.setdefault(queue, set()).add(part)
    elif part == "reset" and written.value == 1:
        driver.places.pop(queue, None)
        driver.again.add(queue)
    elif part in ("enable", "ready") and written.value == 1 and not place.startswith("legacy"):
        if driver.places.get(queue, set()) != _PLACES:
            clause = "VIRTIO 1.4 §2.6.1.2.2" if queue in driver.again else "VIRTIO 1.4 §4.1.4.3.2"
            _say(driver, seen, say, clause, f"queue {queue} enabled without having been told where it lies")
    elif part == "ready" and written.value == 0:
        driver.places.pop(queue, None)
        driver.stopping = True


def _status_written(driver: _Driver, seen: Seen, written: Field, say: Say) -> None:
    if written.name not in _STATUS or not driver.features & SUSPEND:
        return
    value = int(written.value)
    if value & Status.DRIVER_OK and driver.phase in (_Phase.ASKED, _Phase.SUSPENDED):
        if driver.phase is _Phase.ASKED and not value & Status.SUSPEND:
            summary = "DRIVER_OK set again before the device was seen to be suspended"
            _say(driver, seen, say, "VIRTIO 1.4 §3.4.1", summary)
        driver.phase = _Phase.RESUMED
    elif value & Status.SUSPEND and driver.phase is _Phase.RUNNING:
        driver.phase = _Phase.ASKED


def _status_read(driver: _Driver, value: int) -> None:
    driver.broken = driver.broken or bool(value & Status.DEVICE_NEEDS_RESET)
    if driver.phase is _Phase.ASKED and value & Status.SUSPEND and not value & Status.DRIVER_OK:
        driver.phase = _Phase.SUSPENDED
    elif driver.phase is _Phase.RESUMED and value & Status.DRIVER_OK and not value & Status.SUSPEND:
        driver.phase = _Phase.RUNNING


def _mmio_written(driver: _Driver, seen: Seen, written: Field, say: Say) -> None:
    if not driver.mmio:
        return
    if written.name == "mmio.interrupt_ack":
        if not driver.looked:
            summary = "InterruptACK written, and InterruptStatus not read before"
            _say(driver, seen, say, "VIRTIO 1.4 §4.2.3.4.1", summary)
        driver.looked = False
    elif driver.stopping and written.value != 0 and written.name != "mmio.queue_sel":
        driver.stopping = False
        _say(driver, seen, say, "VIRTIO 1.4 §4.2.2.2", "QueueReady written 0, and not read back")


def _features(driver: _Driver, seen: Seen, say: Say) -> None:
    """The driver's features are final."""
    features = driver.features = int(seen.event.detail[0])
    if not driver.writes:
        driver.midway = True
        return
    if not driver.offered:
        _say(driver, seen, say, "VIRTIO 1.4 §2.2.1", "features accepted, and those that are offered not read")
    refused = sum(word << 32 * select for select, word in driver.offered.items()) & ~features
    for bit, name in _SHOULD_ACCEPT.items():
        # Over MMIO there is nothing that a notification could carry instead (VIRTIO 1.4 §4.2.3.3).
        if features & VERSION_1 and refused >> bit & 1 and not (bit == _NOTIF_CONFIG_DATA and driver.mmio):
            _say(driver, seen, say, "VIRTIO 1.4 §6.1", f"{name} is offered and not accepted", Level.SHOULD)
    if not seen.scsi and refused >> _RO & 1:
        summary = "VIRTIO_BLK_F_RO is offered and not accepted"
        _say(driver, seen, say, "VIRTIO 1.4 §5.2.6.1", summary, Level.SHOULD)


def _kicked(driver: _Driver, seen: Seen, say: Say) -> None:
    queue = int(seen.event.detail[0])
    if driver.broken:
        summary = f"notification of queue {queue} after DEVICE_NEEDS_RESET was seen"
        _say(driver, seen, say, "VIRTIO 1.4 §2.1.1", summary, Level.SHOULD)
    if driver.phase is _Phase.RESUMED:
        summary = f"notification of queue {queue} before the device was seen to run again"
        _say(driver, seen, say, "VIRTIO 1.4 §3.4.1", summary)
    _confirmed(driver, seen, say)


def _config_read(driver: _Driver, seen: Seen, say: Say) -> None:
    if not driver.features & VERSION_1 or not any(
        each.name == "config.capacity:high" for each in seen.fields
    ):
        return
    driver.unconfirmed = True
    if not driver.generation:
        driver.generation = True
        summary = "capacity read in two parts, and config_generation not before"
        _say(driver, seen, say, "VIRTIO 1.4 §2.5.1", summary, Level.SHOULD)


def _confirmed(driver: _Driver, seen: Seen, say: Say) -> None:
    """The driver goes on with what it has read."""
    if driver.unconfirmed:
        driver.unconfirmed = False
        summary = "capacity read in two parts, and config_generation not after it"
        _say(driver, seen, say, "VIRTIO 1.4 §2.5.1", summary, Level.SHOULD)


def _queue(driver: _Driver, _seen: Seen, _say: Say) -> None:
    driver.midway = driver.midway or not driver.writes


def _say(driver: _Driver, seen: Seen, say: Say, clause: str, summary: str, level: Level = Level.MUST) -> None:
    if summary not in driver.said:
        driver.said.add(summary)
        say(clause, summary, seen.device or seen.event.source, _bytes(seen), level)


def _bytes(seen: Seen) -> bytes:
    """What the driver has written or read just then."""
    kind, detail = seen.event.kind, seen.event.detail
    if kind is EventKind.FEATURES:
        return int(detail[0]).to_bytes(8, "little")
    if kind is EventKind.KICK:
        queue, data = int(detail[0]), int(detail[1])
        return (queue if data < 0 else data).to_bytes(4 if data >> 16 > 0 else 2, "little")
    return bytes_of(seen.fields)


_ACTS: dict[EventKind, Callable[[_Driver, Seen, Say], None]] = {
    EventKind.ACCESS_WRITE: _written,
    EventKind.ACCESS_VALUE: _value,
    EventKind.CONFIG_READ: _config_read,
    EventKind.FEATURES: _features,
    EventKind.QUEUE: _queue,
    EventKind.KICK: _kicked,
}
