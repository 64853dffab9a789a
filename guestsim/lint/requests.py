"""What virtio-blk requests show that a device does not judge: it can do without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.trace import EventKind
from devmodels.virtio.constants import ANY_LAYOUT, VERSION_1
from devmodels.virtio_blk.layout import BlkType
from guestsim.lint.sessions import Level, Say
from guestsim.show.decode import LAYOUTS
from guestsim.show.names import blk_type

if TYPE_CHECKING:
    from guestsim.show.places import Taken
    from guestsim.show.words import Seen

_HEADER = LAYOUTS["virtio_blk_req"].codec
_RESERVED = slice(_HEADER.offsets["reserved"], _HEADER.offsets["reserved"] + _HEADER.sizes["reserved"])
_SECTOR = slice(_HEADER.offsets["sector"], _HEADER.offsets["sector"] + _HEADER.sizes["sector"])
_WITH_SECTOR = (BlkType.VIRTIO_BLK_T_IN, BlkType.VIRTIO_BLK_T_OUT, BlkType.VIRTIO_BLK_T_FLUSH)
"""Of a flush's sector the device speaks."""


class RequestChecks:
    """Of every request, once its header has been read; `features` are those of its device's driver."""

    def __init__(self) -> None:
        self._judged: dict[tuple[str, int, int], int] = {}
        """The number of the buffer that was judged last, by device, queue and head."""

    def see(self, seen: Seen, features: int, say: Say) -> None:
        """Take the next event."""
        taken = seen.taken
        if taken is None or taken.kind is None or seen.event.kind is not EventKind.DMA_READ:
            return
        key = taken.device, taken.queue, taken.head
        if self._judged.get(key) != taken.number:
            self._judged[key] = taken.number
            _judge(taken, features, say)

    def forget(self, device: str) -> None:
        """The device is reset."""
        for key in [key for key in self._judged if key[0] == device]:
            del self._judged[key]


def _judge(taken: Taken, features: int, say: Say) -> None:
    place = f"{taken.device} queue {taken.queue} head {taken.head}"
    header = bytes(taken.header)
    kind = taken.kind
    assert kind is not None
    if kind == BlkType.VIRTIO_BLK_T_FLUSH and (taken.readable > _HEADER.size or taken.writable > 1):
        length = taken.readable - _HEADER.size + taken.writable - 1
        say("VIRTIO 1.4 §5.2.6.1", f"FLUSH with {length} bytes of data", place, header, Level.SHOULD)
    if taken.sector and kind not in _WITH_SECTOR:
        say(
            "VIRTIO 1.4 §5.2.6",
            f"{blk_type(kind)} with sector {taken.sector}, which is to be 0",
            place,
            header[_SECTOR],
            Level.REMARK,
        )
    if any(header[_RESERVED]) and features & VERSION_1:
        # Through the legacy interface it is a priority (VIRTIO 1.4 §5.2.6.3).
        value = int.from_bytes(header[_RESERVED], "little")
        say(
            "VIRTIO 1.4 §5.2.6",
            f"{value:#x} in the reserved field of the header",
            place,
            header[_RESERVED],
            Level.REMARK,
        )
    if not features & (VERSION_1 | ANY_LAYOUT):
        _judge_framing(taken, place, say)


def _judge_framing(taken: Taken, place: str, say: Say) -> None:
    """A legacy driver has header and status byte in descriptors of their own."""
    pieces = [length for _, length, writable, _ in taken.pieces if not writable]
    ends = [length for _, length, writable, _ in taken.pieces if writable]
    if pieces and pieces[0] != _HEADER.size:
        summary = f"a header in a descriptor of {pieces[0]} bytes, without VIRTIO_F_ANY_LAYOUT"
        say("VIRTIO 1.4 §5.2.6.4", summary, place, bytes(taken.header), Level.MUST)
    if ends and ends[-1] != 1:
        summary = f"a status byte in a descriptor of {ends[-1]} bytes, without VIRTIO_F_ANY_LAYOUT"
        say("VIRTIO 1.4 §5.2.6.4", summary, place, bytes(taken.header), Level.MUST)
