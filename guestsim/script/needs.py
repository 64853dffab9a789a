"""Where scripts run, and what of them a target cannot do.

Steps that only look (`get`, `statistics`, `image`) are left out where there is nothing to look at; a script that has
anything to do there that the target cannot is not run at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.script.schema import TARGETS, all_steps

if TYPE_CHECKING:
    from guestsim.script.schema import Script, Step, TargetName

_LOOKING = frozenset({"get", "statistics", "image"})
_VHOST_USER: tuple[TargetName, ...] = ("vhost-user", "qemu-storage-daemon")


class TargetSpecError(Exception):
    """What was given for a target is none; one line."""


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A target: its name, and the socket of a vhost-user back end that is there already."""

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
        expected = ", ".join(one + "[:SOCKET]" * (one in _VHOST_USER) for one in TARGETS)
        raise TargetSpecError(f"{text!r}, expected one of {expected}")
    if not colon:
        return TargetSpec(name)
    if name not in _VHOST_USER or not path:
        expected = " or ".join(f"{one}:/path/to/socket" for one in _VHOST_USER)
        raise TargetSpecError(f"{text!r}, expected a socket with {expected} only")
    return TargetSpec(name, path)


def why_not(spec: TargetSpec, script: Script) -> str | None:
    """Why `script` is not run on a target; None where it is."""
    if spec.name not in script.targets:
        return f"the script is for {', '.join(script.targets)}"
    if spec.socket is not None:
        if len(script.devices) != 1:
            return f"needs {len(script.devices)} devices, and a socket is one"
        if any("content" in drive for drive in script.drives):
            return "needs a drive with content of the script's own"
    if script.machine.clock == "stepped" and spec.name != "devmodels":
        return "needs a clock that can be stepped"
    for step in all_steps(script.steps):
        need = lacking(spec, step)
        if need is not None and step.action not in _LOOKING:
            return f"needs {need}"
    return None


def lacking(spec: TargetSpec, step: Step) -> str | None:
    """What a step needs that a target hasn't got; None where it has everything."""
    if not spec.vhost_user:
        return None
    if step.get is not None and step.get.config is None and step.get.register != "device_status":
        return "registers"
    if step.set is not None and step.set.config is None:
        return "registers"
    if step.notify is not None:
        return "notification registers"
    if step.statistics is not None:
        return "the host's statistics"
    if step.image is not None and spec.socket is not None:
        return "the drive's file"
    if step.resize is not None and (spec.socket is not None or spec.name != "qemu-storage-daemon"):
        return "a host that resizes drives"
    return None
