"""What the details of trace events are, by kind; for those who read and write them in files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from devmodels.trace import EventKind


class Shape(NamedTuple):
    """What the details of a kind of event are: names with their types, and those that may come any number of times.

    `text` is for people.  Only the last of `fields` is ever bytes.
    """

    fields: tuple[tuple[str, type], ...]
    repeated: tuple[tuple[str, type], ...]
    text: str

    def fits(self, types: Sequence[type]) -> bool:
        """Whether details of these types can be one's."""
        fixed = len(self.fields)
        if tuple(types[:fixed]) != tuple(kind for _, kind in self.fields):
            return False
        rest, round_ = types[fixed:], len(self.repeated)
        if not rest:
            return True
        return (
            round_ > 0
            and len(rest) % round_ == 0
            and tuple(rest) == tuple(kind for _, kind in self.repeated) * (len(rest) // round_)
        )

    def __str__(self) -> str:
        parts = [_named(*field) for field in self.fields]
        if self.repeated:
            parts.append(f"({', '.join(_named(*field) for field in self.repeated)})…")
        return ", ".join(parts)


def _named(name: str, kind: type) -> str:
    return name if kind is int else f"{name}: {kind.__name__}"


def _shape(names: str, text: str) -> Shape:
    """The shape that `names` say: `queue head op:str | address length data:bytes`, numbers where nothing is said."""
    types = {"int": int, "str": str, "bytes": bytes}
    parts = [
        tuple(
            (name, types[kind or "int"])
            for name, _, kind in (each.replace("_", " ").partition(":") for each in part.split())
        )
        for part in f"{names}|".split("|")
    ]
    return Shape(parts[0], parts[1], text)


SHAPES: dict[EventKind, Shape] = {
    EventKind.DEVICE: _shape(
        "facts:str", "what it is, as JSON (`tracefile.DeviceFacts`): it is recorded from now on"
    ),
    EventKind.ACCESS_READ: _shape("address size", "a read begins"),
    EventKind.ACCESS_VALUE: _shape("address size value", "a read has ended"),
    EventKind.ACCESS_WRITE: _shape("address size value", "a write begins"),
    EventKind.MACHINE_RESET: _shape("", "the machine is reset"),
    EventKind.MEMORY: _shape("| base size readonly", "the regions of memory that there are from now on"),
    EventKind.FEATURES: _shape("features", "the feature bits that driver and device go on with"),
    EventKind.CONFIG_READ: _shape("offset data:bytes", "the device configuration space is read"),
    EventKind.CONFIG_WRITE: _shape("offset data:bytes", "the device configuration space is written"),
    EventKind.AGAIN: _shape(
        "queue | number",
        "what an earlier back end left in flight will be taken again: heads, or for each buffer of a packed ring how "
        "many descriptors, then address, length, id, flags of each",
    ),
    EventKind.QUEUE: _shape(
        "queue size desc driver device last_avail used_idx",
        "a ring starts: the addresses of its areas, the available and the used position",
    ),
    EventKind.ENABLE: _shape("queue enabled", "whether buffers are taken from it"),
    EventKind.MOVED: _shape("queue desc driver device", "the ring's areas have got other addresses"),
    EventKind.KICK: _shape(
        "queue value", "an available buffer notification; -1 where it carries nothing more"
    ),
    EventKind.LOOK: _shape("queue", "it is looked at without a notification"),
    EventKind.STOP: _shape("queue", "it takes no more buffers, and rests when all have been given back"),
    EventKind.RESET: _shape("queue", "a reset begins, of the whole device where it is -1"),
    EventKind.DRIVER_RESET: _shape("", "it was the driver that has reset the device, not its front end"),
    EventKind.DRIVER_LEFT: _shape("", "the front end has gone"),
    EventKind.CHAIN: _shape(
        "queue head readable | address length",
        "a buffer is taken; so many of its pieces, the first ones, are device-readable",
    ),
    EventKind.USED: _shape("queue head written", "a buffer is given back, so many bytes of it written"),
    EventKind.NOTIFY: _shape("queue", "the driver is notified, of a configuration change where it is -1"),
    EventKind.DMA_READ: _shape("address data:bytes", "the device has read guest memory"),
    EventKind.DMA_WRITE: _shape("address data:bytes", "the device has written guest memory"),
    EventKind.REQUEST: _shape(
        "number op:str offset length queue head",
        "a device submits a request, for the buffer of that queue and head (-1: of its own accord); each backend "
        "counts its own from 0",
    ),
    EventKind.DISPATCH: _shape(
        "number op:str offset length flags digest | request",
        "what goes to the node, the CRC-32 of what it is to write, and which requests it serves; each backend counts "
        "its own from 0",
    ),
    EventKind.UPDATE: _shape(
        "dispatch at digest data:bytes",
        "what the node has found `at` bytes after the dispatch's offset, and the CRC-32 of what the device wants there "
        "instead (-1: nothing more)",
    ),
    EventKind.DONE: _shape(
        "dispatch errno later data:bytes",
        "the node has done it, at once (0) or later (1); what a read has got, or what a BLOCK_STATUS has found (flags "
        "and length, 8 bytes each)",
    ),
    EventKind.COMPLETION: _shape("request errno", "the device is told"),
    EventKind.SIZE: _shape(
        "size can_unmap max_transfer max_iov discard_alignment",
        "what the disk is from now on, as `tracefile.DiskFacts` has it",
    ),
    EventKind.SAVED: _shape("errno", "what a unit keeps over a loss of power has been saved"),
    EventKind.MEDIUM: _shape("loaded", "the host has put a medium into a unit, or taken it out"),
    EventKind.ATTENTION: _shape(
        "code",
        "the unit below has told its initiator something, which a disk that hands on reservations passes on",
    ),
    EventKind.DISC: _shape(
        "disc:str", "what a drive has for a disc from now on, as `tracefile.DiskFacts` has it"
    ),
    EventKind.TRAY: _shape(
        "what", "the user closes a drive's tray (0), opens it (1), asks for it (2), insists (3)"
    ),
    EventKind.CLOCK: _shape("", "a device looks at its clock: it is the event's time"),
    EventKind.TIMER: _shape("", "a device's timer goes off, of those that wait the one that is due first"),
    EventKind.QUIESCE: _shape("quiet", "1: requests wait from now on; 0: they go on (calls nest)"),
    EventKind.RUN_STATE: _shape("running", "whether the machine runs"),
    EventKind.INTERRUPT: _shape("target value", "a message's address and data, or a line and its level"),
    EventKind.VIOLATION: _shape(
        "clause:str place:str summary:str data:bytes", "what the guest did wrong, and the bytes concerned"
    ),
    EventKind.TURN: _shape(
        "", "what a device had put off to the context's next turn was done, and nothing came of it"
    ),
    EventKind.DELIVER: _shape(
        "", "an access to memory is over, and what was raised outside accesses is delivered"
    ),
    EventKind.SERVING: _shape(
        "", "whoever is being told of the interrupt accesses devices, before it returns"
    ),
    EventKind.SERVED: _shape("", "it has returned"),
    EventKind.FAULT: _shape(
        "address length write at missing reason:str",
        "memory behind an IOMMU cannot be read, or written: the translation fails for so many bytes there",
    ),
    EventKind.MIGRATED: _shape(
        "state:str", "what the driver chose elsewhere comes from the front end, as JSON"
    ),
    EventKind.REMOVED: _shape("", "the device is taken out of its machine; or the export has ended"),
    EventKind.NODE_BEGIN: _shape(
        "step dispatch above node:str driver:str op:str offset length flags",
        "a request comes to a node: a number of its own, the dispatch that it serves, the step above or -1",
    ),
    EventKind.NODE_END: _shape("step errno", "the node has done it"),
}
"""The details of each kind of event.  `tracefile` holds what it reads to it; docs/traces.md is made from it."""
