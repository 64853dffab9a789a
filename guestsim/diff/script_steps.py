"""What there is to know of a script's steps for a comparison: whether it can be made, and what they are about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from guestsim.diff.ata_said import ends_otherwise
from guestsim.diff.script_memory import BEFORE_RESET
from guestsim.script.machine import MMIO_DRIVERS
from guestsim.script.needs import TargetSpec, why_not
from guestsim.script.schema import Step, all_steps
from guestsim.script.schema_expect import Expect

if TYPE_CHECKING:
    from guestsim.script.schema import Script
    from guestsim.script.schema_expect import Difference

_SCSI_COMMANDS = (2, 3)
"""Types of virtio-blk's requests that there were once."""


def why_not_both(script: Script) -> str | None:
    """Why a script cannot be run on both at once; None where it can."""
    for spec in (TargetSpec("devmodels"), TargetSpec("qemu")):
        reason = why_not(spec, script)
        if reason is not None:
            return reason
    if any(device.get("driver") in MMIO_DRIVERS for device in script.devices):
        return "its devices are not on PCI"
    if not script.devices:
        return "it has no devices"
    packed = any(device.get("packed") in (True, "on") for device in script.devices)
    if packed and any(_at_once(step) for step in all_steps(script.steps)):
        return "several requests at once take a course of their own in each side's packed ring"
    return None


def _at_once(step: Step) -> bool:
    return any(part is not None for part in (step.together, step.submit, step.parallel, step.random))


def step_at(script: Script, path: str) -> Step:
    """The step at a path such as `steps[3].repeat.steps[0]`; the first one where there is none."""
    found: Any = script
    with suppress(AttributeError, IndexError, ValueError):
        for part in path.split("."):
            name, *indices = part.replace("]", "").split("[")
            found = getattr(found, name.replace("-", "_"))
            for index in indices:
                found = found[int(index)]
        if isinstance(found, Step):
            return found
    return script.steps[0]


_ANSWERS = frozenset(
    {
        "status",
        "response",
        "sense",
        "residual",
        "units",
        "blocks",
        "data",
        "prefix",
        "length",
        "id",
        "lifetime",
    }
    | {"used", "used_length"}
)
_DATA = frozenset({"data", "prefix", "length"})
_REGISTERS = frozenset({"value", "registers", "config", "features", "config_changes"})
_SIGNALS = frozenset({"interrupts", "config_changes"})
_ALL = frozenset({"needs_reset", "dropped", "error"})


def excused(step: Step, where: str) -> Iterator[Difference]:
    """What a step says of QEMU that shows in such a place: register, data register, line, messages, ring or buffers.

    The place `end` is where an ATA command ends otherwise altogether.

    Nothing excuses a difference elsewhere: in memory that no device may write.  That of before a reset is explained
    where a request is said to have another end altogether.
    """
    for one in (step, *(step.together or ()), *(step.submit or ())):
        for said in one.differences("qemu"):
            given = {name for name in Expect.__struct_fields__ if getattr(said, name) is not None}
            places = set()
            if given & _ANSWERS or "value" in given:
                places |= {"ring", "buffers"}
            if given & _DATA:
                # Where there are other data, there may be more of them.
                places |= {"data register", "byte count", "command list"}
            if given & _REGISTERS:
                places |= {"register", "data register", "received FISes", "byte count", "command list"}
            if "registers" in given and ends_otherwise(one.expect, said):
                # An ATA command that ends otherwise interrupts otherwise.
                places |= {"end", "line", "messages"}
            if given & _SIGNALS:
                places |= {"register", "line", "messages"}
            if given & _ALL:
                places |= {"ring", "buffers", BEFORE_RESET, "register", "line", "messages"}
            if where in places:
                yield said


def another_course(script: Script) -> bool:
    """Whether a request of a script ends otherwise on QEMU, as it says itself."""
    return any(
        getattr(said, name) is not None
        for step in all_steps(script.steps)
        for said in step.differences("qemu")
        for name in ("status", "response", "sense", "data", "prefix", "error")
    )


def tags_of(step: Step) -> Iterator[str]:
    """What the table of known differences calls a step."""
    yield step.action.replace("_", "-")
    for inner in (*(step.together or ()), *(step.submit or ())):
        yield from tags_of(inner)
    if step.request is not None and step.request.type in _SCSI_COMMANDS:
        yield "scsi-command"
    if step.scsi is not None:
        yield step.scsi.cdb.split()[0]
    if step.task_management is not None:
        yield f"tmf:{str(step.task_management.function).replace('-', '_')}"
    if step.probe is not None and step.probe.interrupts == "polling":
        yield "polling"
