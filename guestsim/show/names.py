"""Numbers in the specification's words: feature bits, device status, flags, request types, status bytes, sizes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from enum import IntFlag

from devmodels.blockbackend.request import Flags
from devmodels.virtio.constants import Feature, Status
from devmodels.virtio.layout import (
    RING_EVENT_FLAGS_DESC,
    RING_EVENT_FLAGS_DISABLE,
    RING_EVENT_FLAGS_ENABLE,
    VIRTQ_DESC_F_AVAIL,
    VIRTQ_DESC_F_INDIRECT,
    VIRTQ_DESC_F_NEXT,
    VIRTQ_DESC_F_USED,
    VIRTQ_DESC_F_WRITE,
    WRAP_COUNTER,
)
from devmodels.virtio_blk.layout import RANGE_FLAG_UNMAP, SECTOR, BlkFeature, BlkStatus, BlkType
from devmodels.virtio_scsi.layout import ScsiFeature
from guestsim.forms import KIND, SCSI_SENSE
from guestsim.show import scsi as scsi_words

Words = Callable[[int], str]

_FEATURES = {int(bit): bit.name for bit in (*BlkFeature, *Feature)}
_SCSI_FEATURES = {int(bit): bit.name for bit in (*ScsiFeature, *Feature)}
_DESC_FLAGS = {
    VIRTQ_DESC_F_NEXT: "NEXT",
    VIRTQ_DESC_F_WRITE: "WRITE",
    VIRTQ_DESC_F_INDIRECT: "INDIRECT",
}
_PACKED_FLAGS = _DESC_FLAGS | {VIRTQ_DESC_F_AVAIL: "AVAIL", VIRTQ_DESC_F_USED: "USED"}
_EVENT_FLAGS = {
    RING_EVENT_FLAGS_ENABLE: "ENABLE",
    RING_EVENT_FLAGS_DISABLE: "DISABLE",
    RING_EVENT_FLAGS_DESC: "DESC",
}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def features(bits: int, *, scsi: bool = False) -> str:
    """Names of feature bits, those of the block device or of the SCSI host included; one without a name is `bit N`."""
    known = _SCSI_FEATURES if scsi else _FEATURES
    names = [known.get(bit) or f"bit {bit}" for bit in range(bits.bit_length()) if bits >> bit & 1]
    return "|".join(name.removeprefix("VIRTIO_") for name in names) or "none"


def flags(bits: int, names: Mapping[int, str]) -> str:
    """Names of the bits that are set, by mask; what has no name is a number; 0 is empty."""
    found = [name for mask, name in names.items() if bits & mask]
    if rest := bits & ~sum(names):
        found.append(hex(rest))
    return "|".join(found)


def desc_flags(bits: int) -> str:
    """Flags of a split ring's descriptor, VIRTIO 1.4 §2.7.5."""
    return flags(bits, _DESC_FLAGS)


def packed_flags(bits: int) -> str:
    """Flags of a packed ring's descriptor, VIRTIO 1.4 §2.8.13."""
    return flags(bits, _PACKED_FLAGS)


def event_flags(value: int) -> str:
    """What a packed ring's event suppression structure asks for, VIRTIO 1.4 §2.8.14."""
    return _EVENT_FLAGS.get(value, "")


def position(value: int) -> str:
    """15 bits of a position in a packed ring, and its wrap counter."""
    return f"offset {value & ~WRAP_COUNTER} wrap {value >> 15}"


def device_status(value: int) -> str:
    """Device status, VIRTIO 1.4 §2.1."""
    return _flag_names(Status(value & 0xFF)) or "reset"


def _flag_names(value: IntFlag) -> str:
    return "|".join(str(member.name) for member in type(value) if member in value)


def blk_type(value: int) -> str:
    """A virtio-blk request type, VIRTIO 1.4 §5.2.6, without its prefix."""
    try:
        return BlkType(value).name.removeprefix("VIRTIO_BLK_T_")
    except ValueError:
        return f"type {value}"


def blk_status(value: int) -> str:
    """A virtio-blk status byte, VIRTIO 1.4 §5.2.6, without its prefix."""
    try:
        return BlkStatus(value).name.removeprefix("VIRTIO_BLK_S_")
    except ValueError:
        return f"status {value}"


def status(code: int) -> str:
    """A request's status as of `guestsim.forms`: a virtio-blk status byte, or a SCSI host's."""
    return scsi_words.status_words(code) if code & KIND else blk_status(code)


def sense_triple(code: int) -> str | None:
    """Sense key, additional code and qualifier in short, `5/24/00`; None where the status has no sense data."""
    if code & KIND != SCSI_SENSE:
        return None
    return f"{code >> 16 & 0xF:x}/{code >> 8 & 0xFF:02x}/{code & 0xFF:02x}"


def is_failure(code: int) -> bool:
    """Whether such a status says that something was not done."""
    return scsi_words.is_failure(code) if code & KIND else code != BlkStatus.VIRTIO_BLK_S_OK


def range_flags(bits: int) -> str:
    """Flags of a discard or write-zeroes segment, VIRTIO 1.4 §5.2.6."""
    return flags(bits, {RANGE_FLAG_UNMAP: "UNMAP"})


def request_flags(bits: int) -> str:
    """Flags of a block request."""
    known = {int(member): str(member.name).lower().replace("_", "-") for member in Flags}
    return flags(bits, known)


def error(number: int) -> str:
    """An errno by name; 0 is `ok`."""
    return errno.errorcode.get(number, f"errno {number}") if number else "ok"


def size(nbytes: int) -> str:
    """A size in bytes, in the largest unit of which it is a multiple (`16 MiB`)."""
    unit = 0
    while nbytes and not nbytes % 1024 and unit < len(_UNITS) - 1:
        nbytes //= 1024
        unit += 1
    return "1 byte" if nbytes == 1 and not unit else f"{nbytes} {_UNITS[unit]}"


def sectors(count: int) -> str:
    """A number of sectors as a size, and `none` where it is 0."""
    return size(count * SECTOR) if count else ""


def on_off(value: int) -> str:
    """A switch."""
    return {0: "off", 1: "on"}.get(value, "")


def extent(start: int, length: int) -> str:
    """A range of bytes."""
    return f"{start} to {start + length}"
