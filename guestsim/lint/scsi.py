"""What a driver of a SCSI host shows that the device does not judge (VIRTIO 1.4 §5.6)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from devmodels.trace import EventKind
from devmodels.virtio_scsi.config import VirtioScsiOptions
from devmodels.virtio_scsi.layout import COMMAND_FIXED, EVENTS_MISSED
from guestsim.forms import EVENTS, CommandForm
from guestsim.lint.sessions import Level, Say, bytes_of
from guestsim.show import scsi

if TYPE_CHECKING:
    from guestsim.show.places import Taken
    from guestsim.show.words import Seen

_LUN = slice(COMMAND_FIXED.offsets["lun"], COMMAND_FIXED.offsets["lun"] + COMMAND_FIXED.sizes["lun"])
_TO_BE_ZERO = slice(COMMAND_FIXED.offsets["task_attr"], COMMAND_FIXED.size)
_PER_LUN = VirtioScsiOptions().cmd_per_lun

Key = tuple[str, int, int]


class ScsiChecks:
    """Of every command and every event: by device, queue and head."""

    def __init__(self) -> None:
        self._luns: dict[Key, bytes] = {}
        """Where the commands in flight are."""
        self._depths: Counter[tuple[str, bytes]] = Counter()

    def see(self, seen: Seen, say: Say) -> None:
        """Take the next event."""
        taken = seen.taken
        if taken is None:
            return
        kind = seen.event.kind
        if isinstance(taken.form, CommandForm):
            if kind is EventKind.DMA_READ:
                self._command(taken, say)
            elif kind is EventKind.USED:
                self._over((taken.device, taken.queue, taken.head))
        elif taken.form is EVENTS:
            if kind is EventKind.CHAIN and taken.readable:
                summary = f"an event buffer with {taken.readable} bytes that the device cannot write"
                length = taken.readable.to_bytes(4, "little")
                say("VIRTIO 1.4 §5.6.6.3", summary, _place(taken), length, Level.MUST)
            elif kind is EventKind.DMA_WRITE and _is_missed(seen):
                summary = "events were lost: the event queue had no buffers"
                say("VIRTIO 1.4 §5.6.6.3", summary, _place(taken), bytes_of(seen.fields), Level.SHOULD)

    def _command(self, taken: Taken, say: Say) -> None:
        """The header of a command has been read."""
        key = taken.device, taken.queue, taken.head
        header = bytes(taken.header[: COMMAND_FIXED.size])
        if len(header) < COMMAND_FIXED.size or key in self._luns:
            return
        lun = self._luns[key] = header[_LUN]
        fields = header[_TO_BE_ZERO]
        if any(fields):
            attribute, priority, number = fields
            words = f"task_attr {attribute} {scsi.attribute_words(attribute)}".rstrip()
            summary = f"{words}, prio {priority}, crn {number}, which are to be 0"
            say("VIRTIO 1.4 §5.6.6.1", summary, _place(taken), fields, Level.SHOULD)
        self._depths[taken.device, lun] += 1
        if self._depths[taken.device, lun] > _PER_LUN:
            # The clause speaks of linked commands, of which there are none any more.
            summary = f"more than cmd_per_lun ({_PER_LUN}) commands with {scsi.lun_words(lun)}"
            say("VIRTIO 1.4 §5.6.4.1", summary, _place(taken), lun, Level.REMARK)

    def _over(self, key: Key) -> None:
        lun = self._luns.pop(key, None)
        if lun is not None:
            self._depths[key[0], lun] -= 1

    def forget(self, device: str) -> None:
        """The device is reset."""
        for key in [key for key in self._luns if key[0] == device]:
            self._over(key)


def _place(taken: Taken) -> str:
    return f"{taken.device} queue {taken.queue} head {taken.head}"


def _is_missed(seen: Seen) -> bool:
    """Whether an event says that others were lost."""
    return any(
        field.name == "event" and isinstance(field.value, int) and field.value & EVENTS_MISSED
        for field in seen.fields
    )


def asked(taken: Taken) -> str:
    """What a buffer of a SCSI host was for, in a word."""
    if isinstance(taken.form, CommandForm):
        return scsi.operation(taken.form, bytes(taken.header))
    return "event" if taken.form is EVENTS else scsi.control_words(bytes(taken.header)).partition(" of ")[0]
