"""The ways in which one script can be run: over which transport, and with which ring.

A script that only says what a driver asks of a disk holds for each of them; one that writes rings or registers, or
expects a clause about them, holds for those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from guestsim.drivers.layouts import COMMON_CFG, LEGACY_CFG, MMIO_REGISTERS
from guestsim.script.machine import ATA_HOSTS, MMIO_DRIVERS, ON_BUSES
from guestsim.script.schema import RingName, Script, TransportName, all_steps
from guestsim.script.schema_virtio import FEATURES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from guestsim.script.schema import Step
    from guestsim.script.schema_expect import Expect

_LEGACY: tuple[TransportName, ...] = ("pci-legacy", "mmio-legacy")
_MMIO: tuple[TransportName, ...] = ("mmio", "mmio-legacy")

_READABLE: dict[TransportName, Collection[str]] = {
    "pci": COMMON_CFG.fields,
    "pci-legacy": LEGACY_CFG.fields.keys() - {"device_status"},
    "mmio": {"device_feature", "queue_enable", "device_status", "queue_reset", "config_generation"},
    "mmio-legacy": {"device_feature"},
}
"""Registers that have a meaning everywhere; the status of legacy devices has no FEATURES_OK."""

_WRITABLE: dict[TransportName, Collection[str]] = {
    "pci": COMMON_CFG.fields,
    "pci-legacy": {"driver_feature", "queue_select", "device_status"},
    "mmio": COMMON_CFG.fields.keys() & MMIO_REGISTERS.keys(),
    "mmio-legacy": {"driver_feature", "queue_select", "device_status"},
}

_CLAUSES: dict[str, str] = {"packed": "VIRTIO 1.4 §2.7", "split": "VIRTIO 1.4 §2.8"}
"""What no violation is about where rings are of this kind."""

_PCI_OPTIONS = frozenset({"addr", "vectors", "disable-modern", "disable-legacy"})


@dataclass(frozen=True, slots=True)
class Way:
    """A ring and a transport; None leaves it to the script's devices."""

    ring: RingName | None = None
    transport: TransportName | None = None

    def __str__(self) -> str:
        return " ".join(name for name in (self.ring, self.transport) if name is not None)


def vary(script: Script, way: Way) -> Script | str:
    """The script with its devices changed so that a driver finds them in this way; else why that cannot be."""
    reason = next(_reasons(script, way), None)
    if reason is not None:
        return reason
    devices = [_device(options, way) for options in script.devices]
    return msgspec.structs.replace(script, devices=devices)


def _device(options: dict[str, object], way: Way) -> dict[str, object]:
    """A device's options, changed."""
    changed = dict(options)
    if options.get("driver") in ON_BUSES:
        return changed
    if way.ring is not None:
        changed["packed"] = way.ring == "packed"
    if way.transport in _MMIO:
        changed = {name: value for name, value in changed.items() if name not in _PCI_OPTIONS}
        name = str(options["driver"]).removesuffix("-pci") + "-device"
        changed |= {"driver": name, "force-legacy": way.transport == "mmio-legacy"}
    elif way.transport == "pci-legacy":
        changed["disable-modern"] = True
    return changed


def _reasons(script: Script, way: Way) -> Iterator[str]:
    """What keeps a script from being run in this way."""
    if script.rings is not None and way.ring is not None and way.ring not in script.rings:
        yield f"the script is for rings that are {' or '.join(script.rings)}"
    if script.transports is not None and way.transport is not None and way.transport not in script.transports:
        yield f"the script is for {', '.join(script.transports)}"
    if way != Way() and any(options.get("driver") in ATA_HOSTS for options in script.devices):
        yield "its devices have neither rings nor virtio's transports"
    for options in script.devices:
        if options.get("driver") in ON_BUSES:
            continue
        ring = options.get("packed")
        packed = way.ring == "packed" if ring is None else ring in (True, "on", "true")
        if packed and way.transport in _LEGACY:
            yield "the legacy interface has no packed ring"
        if way.ring is not None and packed != (way.ring == "packed"):
            yield "the script says which ring its device has"
        if way.transport is not None and (
            options.get("driver") in MMIO_DRIVERS or options.keys() & {"disable-modern", "disable-legacy"}
        ):
            yield "the script says how its device is reached"
    for step in all_steps(script.steps):
        yield from _ring_reasons(step, way)
        if way.transport is not None and way.transport != "pci":
            yield from _transport_reasons(step, way.transport)


def _ring_reasons(step: Step, way: Way) -> Iterator[str]:
    if way.ring == "packed" and (step.chain is not None or step.table is not None):
        yield "writes a split ring"
    if way.ring == "split" and (step.packed_chain is not None or step.packed_table is not None):
        yield "writes a packed ring"
    if way.ring is not None and any(clause.startswith(_CLAUSES[way.ring]) for clause in _violations(step)):
        yield "is about another ring"


def _transport_reasons(step: Step, transport: TransportName) -> Iterator[str]:
    for place, known in ((step.get, _READABLE), (step.set, _WRITABLE)):
        if place is not None and place.config is None and place.register not in known[transport]:
            yield "touches registers of PCI"
    if any(clause.startswith("VIRTIO 1.4 §4.1") for clause in _violations(step)):
        yield "is about PCI"
    if step.notify is not None and step.notify.size is not None:
        yield "says how wide a notification register is"
    if step.probe is not None and step.probe.legacy is not None:
        yield "the script says how its device is reached"
    if transport not in _LEGACY:
        return
    if step.probe is not None and step.probe.queue_size is not None and transport == "pci-legacy":
        yield "chooses the size of its queues"
    if step.reset_queue is not None:
        yield "resets one queue"
    if step.wait_for == "needs-reset" or any(one.needs_reset for one in _expectations(step)):
        yield "is about NEEDS_RESET"
    named = [*(step.probe.force if step.probe else ()), *(step.probe.features or () if step.probe else ())]
    named += [name for one in _expectations(step) for name in one.features or ()]
    if any((FEATURES[name] if isinstance(name, str) else name) > 31 for name in named if name != "VERSION_1"):
        yield "is about a feature above bit 31"


def _expectations(step: Step) -> list[Expect]:
    return [one for one in (step.expect, *step.all_differences()) if one is not None]


def _violations(step: Step) -> list[str]:
    """The clauses that a step expects to be told of."""
    found: list[str] = []
    for one in _expectations(step):
        if one.violation is not None:
            found += [one.violation] if isinstance(one.violation, str) else one.violation
    return found
