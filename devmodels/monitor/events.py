"""The events that there are, with the members that QEMU gives them (qapi/run-state, block-core, block-export, qdev)."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType, field

from devmodels.blockbackend.errorpolicy import Action
from devmodels.monitor.command import Empty


class Reset(msgspec.Struct):
    """RESET and SHUTDOWN: whether the guest wanted it, and what did."""

    guest: bool
    reason: Literal["host-qmp-quit", "host-qmp-system-reset"]


class BlockIoError(msgspec.Struct, rename="kebab"):
    """A request failed: what is done about it, and why it failed, for people."""

    device: str
    qom_path: str
    node_name: str
    operation: Literal["read", "write"]
    action: Action
    reason: str
    nospace: bool | UnsetType = UNSET


class BlockExportDeleted(msgspec.Struct):
    """An export has ended."""

    id: str


class DeviceDeleted(msgspec.Struct):
    """A device has gone; `device` is the id that its user gave it."""

    path: str
    device: str | UnsetType = field(default=UNSET)


class DeviceTrayMoved(msgspec.Struct, rename="kebab"):
    """A drive's tray has been opened or closed, by the guest or by the user; `id` is the device's."""

    device: str
    id: str
    tray_open: bool


EVENTS: dict[str, type[msgspec.Struct]] = {
    "BLOCK_EXPORT_DELETED": BlockExportDeleted,
    "BLOCK_IO_ERROR": BlockIoError,
    "DEVICE_DELETED": DeviceDeleted,
    "DEVICE_TRAY_MOVED": DeviceTrayMoved,
    "POWERDOWN": Empty,
    "RESET": Reset,
    "RESUME": Empty,
    "SHUTDOWN": Reset,
    "STOP": Empty,
}
"""By name."""
