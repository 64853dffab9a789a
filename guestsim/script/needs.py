"""Where scripts run, and what of them a target cannot do.

Steps that only look (`get`, `statistics`, `image`) are left out where there is nothing to look at; a script that has
anything to do there that the target cannot is not run at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.script.machine import ON_BUSES
from guestsim.script.schema import TARGETS, all_steps

if TYPE_CHECKING:
    from guestsim.script.schema import Script, Step, TargetName

_LOOKING = frozenset({"get", "statistics", "image"})
_FRONT_END = frozenset({"driver", "drive", "id", "addr", "queue-size", "packed", "num-queues"})
_OURS_ALONE = frozenset({"cue", "delay", "memory", "overlay", "volatile-cache"})
"""Drivers of drives that QEMU has not."""
_VHOST_USER: tuple[TargetName, ...] = ("vhost-user", "qemu-storage-daemon")
_AT_SOCKETS: tuple[TargetName, ...] = (*_VHOST_USER, "vfio-user")


class TargetSpecError(Exception):
    """What was given for a target is none; one line."""


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A target: its name, and the socket of a back end or server that is there already."""

    name: TargetName
    socket: str | None = None

    def __str__(self) -> str:
        return self.name if self.socket is None else f"{self.name}:{self.socket}"

    @property
    def vhost_user(self) -> bool:
        """Whether it is a vhost-user back end."""
        return self.name in _VHOST_USER


def parse_target(text: str) -> TargetSpec:
    """The target that `text` names: `devmodels`, `vhost-user`, `vhost-user:/path.sock`, …"""
    kind, colon, path = text.partition(":")
    name = next((one for one in TARGETS if one == kind), None)
    if name is None:
        expected = ", ".join(one + "[:SOCKET]" * (one in _AT_SOCKETS) for one in TARGETS)
        raise TargetSpecError(f"{text!r}, expected one of {expected}")
    if not colon:
        return TargetSpec(name)
    if name not in _AT_SOCKETS or not path:
        expected = " or ".join(f"{one}:/path/to/socket" for one in _AT_SOCKETS)
        raise TargetSpecError(f"{text!r}, expected a socket with {expected} only")
    return TargetSpec(name, path)


def why_not(spec: TargetSpec, script: Script) -> str | None:
    """Why `script` is not run on a target; None where it is."""
    if not _is_for(spec, script):
        return f"the script is for {', '.join(script.targets)}"
    if spec.socket is not None and (need := _not_at_a_socket(script)) is not None:
        return f"needs {need}"
    if spec.name in ("qemu", "qemu-storage-daemon"):
        lacks = next((name for name in _drivers(script.drives) if name in _OURS_ALONE), None)
        if lacks is not None:
            return f"needs a drive of the driver {lacks}, which QEMU has not"
    if script.machine.clock == "stepped" and spec.name != "devmodels":
        return "needs a clock that can be stepped"
    for step in all_steps(script.steps):
        need = lacking(spec, step)
        if need is not None and step.action not in _LOOKING:
            return f"needs {need}"
    return None


def _drivers(options: object) -> Iterator[str]:
    """The drivers of drives, and of the nodes that they stand over."""
    if isinstance(options, list):
        for each in options:
            yield from _drivers(each)
    elif isinstance(options, dict):
        if isinstance(driver := options.get("driver"), str):
            yield driver
        yield from _drivers([*options.values()])


def _is_for(spec: TargetSpec, script: Script) -> bool:
    """Over vfio-user our devices are what they are in process."""
    wanted = ("vfio-user", "devmodels") if spec.name == "vfio-user" else (spec.name,)
    return any(name in script.targets for name in wanted)


def _not_at_a_socket(script: Script) -> str | None:
    """What a script needs of its drives and devices that somebody else's export cannot be told."""
    if any(device.get("driver") in ON_BUSES for device in script.devices):
        return "SCSI disks, and what is at a socket is not known"
    if len(script.devices) != 1:
        return f"{len(script.devices)} devices, and a socket is one"
    for drive in script.drives:
        if drive.get("driver") != "file":
            return f"a drive of its own, with the driver {drive.get('driver')}"
        if "content" in drive:
            return "a drive with content of the script's own"
    for option in script.devices[0]:
        if option.replace("_", "-") not in _FRONT_END:
            return f"the device option {option}, which is the export's matter"
    return None


def lacking(spec: TargetSpec, step: Step) -> str | None:
    """What a step needs that a target hasn't got; None where it has everything."""
    if spec.name == "vfio-user":
        return _lacking_over_vfio(spec, step)
    if not spec.vhost_user:
        return None
    if step.get is not None and step.get.config is None and step.get.register != "device_status":
        return "registers"
    if step.set is not None and step.set.config is None:
        return "registers"
    if step.probe is not None and step.probe.legacy is not None:
        return "a legacy interface beside the modern one"
    if step.notify is not None:
        return "notification registers"
    if step.statistics is not None:
        return "the host's statistics"
    if step.image is not None and spec.socket is not None:
        return "the drive's file"
    if not (step.plug is None and step.unplug is None) and spec.socket is not None:
        return "a host that plugs devices"
    if step.resize is not None and spec.socket is not None:
        return "a host that resizes drives"
    if not (step.stop is None and step.cont is None and step.event is None and step.qmp is None) and (
        spec.socket is not None or spec.name == "qemu-storage-daemon"
    ):
        return "a host that stops the machine and is told events"
    return None


def _lacking_over_vfio(spec: TargetSpec, step: Step) -> str | None:
    """What a step needs that functions of a server have not."""
    if spec.socket is None:
        return None
    if not (step.plug is None and step.unplug is None):
        return "a host that plugs devices"
    if step.statistics is not None:
        return "the host's statistics"
    if step.image is not None:
        return "the drive's file"
    if step.resize is not None:
        return "a host that resizes drives"
    if not (step.stop is None and step.cont is None and step.event is None and step.qmp is None):
        return "a host that stops the machine and is told events"
    return None


def features_needed(script: Script, spec: TargetSpec, devices: list[str]) -> dict[str, set[str]]:
    """The features that a script is about, by device: packed rings by option, others by what a probe must agree on."""
    found: dict[str, set[str]] = {name: set() for name in devices}
    of_drivers = [each for each in script.devices if each.get("driver") not in ON_BUSES]
    for name, options in zip(devices, of_drivers, strict=True):
        if options.get("packed") in (True, "on"):
            found[name].add("RING_PACKED")
    for step in all_steps(script.steps):
        name = step.device or (devices[0] if len(devices) == 1 else "")
        if step.reset_queue is not None and name in found:
            found[name].add("RING_RESET")
        if step.probe is not None and name in found:
            wanted = step.expected_on(spec.name).features or ()
            found[name] |= {feature for feature in wanted if isinstance(feature, str)}
    return found
