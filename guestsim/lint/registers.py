"""What a driver does at the registers, in an order that a device does not judge: for traces of machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devmodels.trace import EventKind
from devmodels.virtio.constants import Status
from devmodels.virtio_blk.layout import BlkFeature
from guestsim.lint.sessions import Level, Say, bytes_of

if TYPE_CHECKING:
    from guestsim.forms import Forms
    from guestsim.show.decode import Field
    from guestsim.show.words import Seen

_NO_VECTOR = 0xFFFF
_MODERN_MMIO = 2
_STATUS = ("common.device_status", "mmio.status")
_F = BlkFeature
_FIELDS: dict[str, BlkFeature] = {
    "size_max": _F.VIRTIO_BLK_F_SIZE_MAX,
    "seg_max": _F.VIRTIO_BLK_F_SEG_MAX,
    **dict.fromkeys(("cylinders", "heads", "sectors"), _F.VIRTIO_BLK_F_GEOMETRY),
    "blk_size": _F.VIRTIO_BLK_F_BLK_SIZE,
    **dict.fromkeys(
        ("physical_block_exp", "alignment_offset", "min_io_size", "opt_io_size"), _F.VIRTIO_BLK_F_TOPOLOGY
    ),
    "writeback": _F.VIRTIO_BLK_F_CONFIG_WCE,
    "num_queues": _F.VIRTIO_BLK_F_MQ,
    **dict.fromkeys(
        ("max_discard_sectors", "max_discard_seg", "discard_sector_alignment"), _F.VIRTIO_BLK_F_DISCARD
    ),
    **dict.fromkeys(
        ("max_write_zeroes_sectors", "max_write_zeroes_seg", "write_zeroes_may_unmap"),
        _F.VIRTIO_BLK_F_WRITE_ZEROES,
    ),
    **dict.fromkeys(
        ("max_secure_erase_sectors", "max_secure_erase_seg", "secure_erase_sector_alignment"),
        _F.VIRTIO_BLK_F_SECURE_ERASE,
    ),
}
"""The features that a field of the configuration space needs, VIRTIO 1.4 §5.2.4."""


@dataclass(slots=True)
class _Driver:
    """What the driver of one device has still to do, by the register that it has to read."""

    resetting: bool = False
    unchecked: bool = False
    """FEATURES_OK was written, and the status not read since."""
    vectors: dict[str, int] = field(default_factory=dict)
    queue_resets: set[str] = field(default_factory=set)
    selected: int = 0
    offered: dict[int, int] = field(default_factory=dict)
    """Feature bits that the driver has read, by word."""
    accepted: bool = False
    scsi: bool = False
    """Whether it is one of a SCSI host, all of whose configuration is always there."""
    version: int = 0
    """Of a device over MMIO, where it was read."""
    messages: bool = False
    """Whether MSI-X is enabled, which no reset of the device changes."""

    def begin(self) -> None:
        """It resets the device: what it had to do is done with."""
        self.unchecked = self.accepted = False
        self.selected = 0
        self.vectors.clear()
        self.queue_resets.clear()
        self.offered.clear()


class RegisterChecks:
    """Of every device of a machine: what has to be read back is read back, and what is not there is not read."""

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._drivers: dict[str, _Driver] = {}

    def see(self, seen: Seen, say: Say) -> None:
        """Take the next event."""
        act = _ACTS.get(seen.event.kind)
        if act is not None and seen.device is not None:
            driver = self._drivers.get(seen.device)
            if driver is None:
                driver = self._drivers[seen.device] = _Driver()
                driver.scsi = self._forms.is_scsi(seen.device)
            act(driver, seen, say)


def _written(driver: _Driver, seen: Seen, say: Say) -> None:
    for each in seen.fields:
        if not isinstance(each.value, int):
            continue
        name, value = each.name, each.value
        if name in _STATUS:
            _status_written(driver, seen, value, say)
        elif name.endswith("_msix_vector") and value != _NO_VECTOR:
            driver.vectors[name] = value
        elif name.endswith(("device_feature_select", "device_features_sel")):
            driver.selected = value
        elif name == "msix.message_control":
            driver.messages = bool(value & 0x8000)
        elif name.startswith("cap.") and not name.startswith("cap.pci-cfg."):
            _say(say, seen, "VIRTIO 1.4 §4.1.4.1", f"{name} written", each)
        else:
            _queue_written(driver, seen, each, say)


def _status_written(driver: _Driver, seen: Seen, value: int, say: Say) -> None:
    if value == 0:
        driver.begin()
        # What is the legacy interface's over MMIO waits for nothing.
        driver.resetting = seen.fields[0].name == _STATUS[0] or driver.version == _MODERN_MMIO
        return
    status = seen.fields[0]
    if driver.resetting:
        driver.resetting = False
        summary = "device status written after a reset, before it was read as 0"
        if status.name == _STATUS[0]:
            _say(say, seen, "VIRTIO 1.4 §4.1.4.3.2", summary, status)
        else:
            data = value.to_bytes(status.size, "little")
            say("VIRTIO 1.4 §2.4.2", summary, seen.device or "", data, Level.SHOULD)
    if value & Status.DRIVER_OK:
        if driver.unchecked:
            _say(say, seen, "VIRTIO 1.4 §3.1.1", "DRIVER_OK set, and FEATURES_OK not read back", status)
        for name in driver.vectors:
            _say(say, seen, "VIRTIO 1.4 §4.1.5.1.2.2", f"{name} was not read back", status)
        driver.vectors.clear()
    driver.unchecked = bool(value & Status.FEATURES_OK and not value & Status.DRIVER_OK)
    driver.accepted = driver.accepted or bool(value & Status.FEATURES_OK)


def _queue_written(driver: _Driver, seen: Seen, written: Field, say: Say) -> None:
    queue, _, name = written.name.rpartition(".")
    if name == "queue_reset" and written.value == 1:
        driver.queue_resets.add(queue)
    elif name in ("queue_enable", "queue_ready") and queue in driver.queue_resets:
        driver.queue_resets.discard(queue)
        summary = f"{written.name} written before queue_reset was read as 0"
        _say(say, seen, "VIRTIO 1.4 §2.6.1.1.2", summary, written)


def _value(driver: _Driver, seen: Seen, say: Say) -> None:
    """A read has ended."""
    for each in seen.fields:
        name = each.name
        if name in _STATUS:
            driver.unchecked = False
            driver.resetting = driver.resetting and each.value != 0
        elif name == "mmio.version" and isinstance(each.value, int):
            driver.version = each.value
        elif name.endswith("_msix_vector"):
            driver.vectors.pop(name, None)
        elif name.endswith((".device_feature", ".device_features")) and isinstance(each.value, int):
            driver.offered[0 if name.startswith("legacy.") else driver.selected] = each.value
        elif name.endswith(".queue_reset") and each.value == 0:
            driver.queue_resets.discard(name.rpartition(".")[0])
        elif name == "isr" and driver.messages:
            say(
                "VIRTIO 1.4 §4.1.4.5.2",
                "ISR status read while MSI-X is enabled",
                seen.device or "",
                bytes_of([each]),
                Level.SHOULD,
            )


def _config_read(driver: _Driver, seen: Seen, say: Say) -> None:
    if driver.scsi or not driver.offered:
        # A front end's reads, or a driver that came before the trace.
        return
    for each in seen.fields:
        name = each.name.removeprefix("config.").partition(":")[0]
        bit = _FIELDS.get(name)
        if bit is not None and not driver.offered.get(0, 0) >> bit & 1:
            summary = f"{name} read, and {bit.name} is not offered"
            _say(say, seen, "VIRTIO 1.4 §2.5.1", summary, each)


def _config_written(driver: _Driver, seen: Seen, say: Say) -> None:
    if driver.offered and not driver.accepted:
        for each in seen.fields:
            _say(say, seen, "VIRTIO 1.4 §3.1.1", f"{each.name} written before FEATURES_OK", each)


def _say(say: Say, seen: Seen, clause: str, summary: str, written: Field) -> None:
    say(clause, summary, seen.device or seen.event.source, bytes_of([written]), Level.MUST)


_ACTS: dict[EventKind, Callable[[_Driver, Seen, Say], None]] = {
    EventKind.ACCESS_WRITE: _written,
    EventKind.ACCESS_VALUE: _value,
    EventKind.CONFIG_READ: _config_read,
    EventKind.CONFIG_WRITE: _config_written,
}
