"""The machine that a trace is replayed on: the recorded device again, as near as the target has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import MAX_QUEUE_SIZE, Feature
from guestsim.portable.limits import power_of_two
from guestsim.script.load import Source
from guestsim.script.schema import MachinePart, Script
from guestsim.script.values import Size
from guestsim.script.world import World
from guestsim.targets import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devmodels.tracefile import DeviceFacts
    from guestsim.portable.lower import SessionFacts
    from guestsim.portable.survey import Survey
    from guestsim.script.needs import TargetSpec
    from guestsim.script.schema import RingName, TransportName

DRIVE = "disk0"
DEVICE = "vd0"
RAM = 256 << 20
_QEMU_QUEUE_SIZE = 1024
_USUAL_SEG_MAX = 126

_ANYWHERE = ("num-queues", "logical_block_size", "serial", "write-cache")
_OF_QEMU = (
    *_ANYWHERE,
    "physical_block_size",
    "min_io_size",
    "opt_io_size",
    "discard_granularity",
    "config-wce",
    "discard",
    "write-zeroes",
    "max-discard-sectors",
    "max-write-zeroes-sectors",
    "indirect_desc",
    "event_idx",
    "request-merging",
)
_OURS = (
    *_OF_QEMU,
    *(
        "alignment_offset",
        "cyls",
        "heads",
        "secs",
        "size-max",
        "seg_max",
        "secure-erase",
        "lifetime",
        "flush",
    ),
    *("max-discard-seg", "max-write-zeroes-seg", "max-secure-erase-sectors", "max-secure-erase-seg"),
    *("in_order", "queue_reset"),
)
_OPTIONS: dict[str, tuple[str, ...]] = {
    "devmodels": _OURS,
    "qemu": _OF_QEMU,
    "vhost-user": _ANYWHERE,
    "qemu-storage-daemon": ("num-queues", "logical_block_size", "write-cache"),
}
"""Which of a recorded device's options a target is given."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trace is replayed: a target, and how its device is reached; None is as recorded.

    `memory` is `shared` or `bounced`.
    """

    target: TargetSpec
    ring: RingName | None = None
    transport: TransportName | None = None
    memory: str = "shared"

    def __post_init__(self) -> None:
        if self.target.vhost_user and self.transport is not None:
            raise TargetError(f"--transport: {self.transport} is given, expected none with {self.target}")
        if self.memory == "bounced" and self.target.name != "devmodels":
            raise TargetError(
                f"--memory: bounced is given, expected shared with {self.target}: that of our own devices alone can be "
                "bounced"
            )
        if self.ring == "packed" and self.transport in ("pci-legacy", "mmio-legacy"):
            raise TargetError("--ring: the legacy interface has no packed ring")


def open_world(survey: Survey, image: Path, place: Place) -> World:
    """Start the machine; TargetError where it cannot be."""
    script = script_of(survey, place)
    drive = {**script.drives[0], "filename": str(image)}
    script.drives = [drive]
    return World(script, Source(survey.facts.name), place.target, place.memory)


def script_of(survey: Survey, place: Place) -> Script:
    """The machine as a script has it, without steps; its drive is still without a file."""
    facts = survey.facts
    drive: dict[str, object] = {"driver": "file", "node-name": DRIVE}
    if survey.disk.can_unmap:
        drive["discard"] = "unmap"
    if survey.disk.read_only:
        drive["read-only"] = True
    return Script(
        name="replay",
        machine=MachinePart(ram=Size(RAM)),
        drives=[drive],
        devices=[device_options(facts, survey.sessions, place)],
        steps=[],
    )


def device_options(
    facts: DeviceFacts, sessions: Mapping[int, SessionFacts], place: Place
) -> dict[str, object]:
    """The device's options, as far as the target has them, at its place."""
    recorded = recorded_options(facts)
    kept = {name: recorded[name] for name in _OPTIONS[place.target.name] if name in recorded}
    packed = place.ring == "packed" if place.ring is not None else is_packed(sessions)
    size = max((one.queue_size for one in sessions.values()), default=0) or 128
    if not packed or place.target.name == "qemu":
        size = power_of_two(size)
    most = _QEMU_QUEUE_SIZE if place.target.name == "qemu" else MAX_QUEUE_SIZE
    kept |= {"drive": DRIVE, "id": DEVICE, "queue-size": max(4, min(size, most)), "packed": packed}
    transport = place.transport or recorded_transport(facts)
    if place.target.vhost_user:
        return {"driver": "virtio-blk-pci", **kept}
    if transport in ("mmio", "mmio-legacy"):
        return {"driver": "virtio-blk-device", "force-legacy": transport == "mmio-legacy", **kept}
    if transport == "pci-legacy":
        kept["disable-modern"] = True
    return {"driver": "virtio-blk-pci", **kept}


def is_packed(sessions: Mapping[int, SessionFacts]) -> bool:
    """Whether any driver of the trace has used packed rings."""
    return any(one.features >> Feature.RING_PACKED & 1 for one in sessions.values())


def recorded_transport(facts: DeviceFacts) -> TransportName:
    """How the recorded device was reached; an export's is taken for modern PCI."""
    options = facts.options
    if options.get("driver") == "virtio-blk-device":
        return "mmio-legacy" if options.get("force-legacy", True) in (True, "on") else "mmio"
    return "pci-legacy" if options.get("disable-modern") in (True, "on") else "pci"


def recorded_options(facts: DeviceFacts) -> dict[str, object]:
    """A recorded device's options as `-device` has them, those of an export translated."""
    options = dict(facts.options)
    if facts.kind != "export":
        options.setdefault(
            "write-cache", "off" if facts.disk is not None and not facts.disk.write_cache else "on"
        )
        return options
    block = options.pop("logical-block-size", 512)
    options |= {"logical_block_size": block, "physical_block_size": block, "seg_max": _USUAL_SEG_MAX}
    options["write-cache"] = "off" if options.get("writethrough") else "on"
    if options.get("lifetime") is None:
        options.pop("lifetime", None)
    return options
