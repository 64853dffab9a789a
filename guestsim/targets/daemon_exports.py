"""What a daemon exports for a script's devices: options of `-device` as those of `--export`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.targets import LacksError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guestsim.targets.qmp import Json

_NOT_THE_EXPORTS = frozenset({"driver", "drive", "id", "addr", "queue-size", "packed"})
"""Options of a device that an export has no say in: its place, and what the front end chooses."""

_HOST_OPTIONS = frozenset({"driver", "id", "addr", "num-queues", "virtqueue-size", "packed"})
_UNIT_OPTIONS = frozenset(
    {
        *(
            "scsi-id",
            "lun",
            "vendor",
            "product",
            "ver",
            "serial",
            "device-id",
            "wwn",
            "removable",
            "rerror",
            "werror",
        ),
        *("logical-block-size", "physical-block-size", "profile"),
    }
)


UNITS = frozenset({"scsi-hd", "scsi-cd"})
ATA_UNITS = frozenset({"ide-hd", "ide-cd"})
"""Devices that are units of a SCSI host."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An export's options without its address, and the device at whose socket it is."""

    device: str
    options: dict[str, Json]


@dataclass(frozen=True, slots=True)
class BlkExports:
    """What a daemon's vhost-user-blk exports can be told; and whether it has vhost-user-scsi ones."""

    name: str
    options: frozenset[str]
    scsi: bool = False


def exports_of(
    daemon: BlkExports, devices: Sequence[Mapping[str, Json]], read_only: set[str]
) -> list[Exported]:
    """The exports for `devices`; LacksError names what the daemon doesn't have."""
    hosts = {str(each.get("id")): each for each in devices if each.get("driver") == "virtio-scsi-pci"}
    if hosts and not daemon.scsi:
        raise LacksError(f"vhost-user-scsi exports, which {daemon.name} doesn't have")
    found = []
    for device in devices:
        if device.get("driver") == "virtio-blk-pci":
            options = _blk(daemon, device, read_only)
            found.append(Exported(str(device.get("id")), options))
        elif device.get("driver") in UNITS:
            found.append(unit_of(hosts, device, read_only))
        elif str(device.get("id")) not in hosts:
            raise LacksError(f"a device {device.get('driver')!r}")
    for host in hosts:
        if all(each.device != host for each in found):
            raise LacksError(f"a SCSI host {host!r} without a unit")
    return found


def _blk(daemon: BlkExports, device: Mapping[str, Json], read_only: set[str]) -> dict[str, Json]:
    """From those of a virtio-blk-pci device."""
    export = _common("vhost-user-blk", device, read_only)
    for option, value in device.items():
        name = option.replace("_", "-")
        if name == "write-cache":
            name, value = "writethrough", value in (False, "off")
        if name in _NOT_THE_EXPORTS:
            continue
        if name not in daemon.options:
            raise LacksError(f"the device option {option}, which an export of {daemon.name} doesn't have")
        export[name] = value
    return export


def unit_of(
    hosts: Mapping[str, Mapping[str, Json]], device: Mapping[str, Json], read_only: set[str]
) -> Exported:
    """From those of a scsi-hd or scsi-cd device, on the bus of one of `hosts`, the first where it names none."""
    bus = str(device["bus"]).rpartition(".")[0] if "bus" in device else next(iter(hosts), "")
    if bus not in hosts:
        raise LacksError(f"a SCSI host {bus!r}")
    host = hosts[bus]
    for option in host:
        if option.replace("_", "-") not in _HOST_OPTIONS:
            raise LacksError(f"the device option {option}, which no export has")
    export = _common("vhost-user-scsi", device, read_only)
    if device.get("driver") == "scsi-cd":
        if "drive" not in device:
            raise LacksError("a drive without a medium, which no export is")
        export |= {"device-type": "cd", "writable": False}
    queues = host.get("num_queues", host.get("num-queues"))
    if queues is not None:
        export["num-queues"] = queues
    for option, value in device.items():
        name = option.replace("_", "-")
        if name == "write-cache":
            name, value = "writethrough", value in (False, "off")
        elif name in (*_NOT_THE_EXPORTS, "bus", "channel"):
            continue
        elif name not in _UNIT_OPTIONS:
            raise LacksError(f"the device option {option}, which no export has")
        export[name] = value
    return Exported(bus, export)


def _common(kind: str, device: Mapping[str, Json], read_only: set[str]) -> dict[str, Json]:
    drive = device.get("drive")
    return {"type": kind, "id": device.get("id"), "node-name": drive, "writable": drive not in read_only}
