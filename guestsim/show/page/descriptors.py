"""Which descriptors a buffer consists of: what the device has read of the rings (VIRTIO 1.4 §2.7.5, §2.8)."""

from __future__ import annotations

from devmodels.trace import EventKind, TraceEvent
from devmodels.virtio.constants import Feature
from devmodels.virtio.layout import DESC_SIZE, PVIRTQ_DESC, VIRTQ_DESC, VIRTQ_DESC_F_INDIRECT

_SPLIT = VIRTQ_DESC
_PACKED = PVIRTQ_DESC


class _Ring:
    """A queue's descriptors as the device has read them: in a split ring by place, in a packed one by buffer ID."""

    def __init__(self, address: int, size: int, *, packed: bool) -> None:
        self.packed = packed
        self.seen: dict[int, tuple[int, int, int]] = {}
        self._nbytes = size * DESC_SIZE
        self.move(address)

    def move(self, address: int) -> None:
        self.start = address
        self.end = address + self._nbytes

    def note(self, at: int, data: bytes) -> None:
        place = at // DESC_SIZE
        for offset in range(0, len(data) - DESC_SIZE + 1, DESC_SIZE):
            if self.packed:
                address, length, key, flags = _PACKED.unpack_from(data, offset)
            else:
                address, length, flags, _ = _SPLIT.unpack_from(data, offset)
                key = place
                place += 1
            self.seen[key] = address, length, flags


class Descriptors:
    """Follows a trace; says of a buffer that is taken whether its descriptors are in an indirect table."""

    def __init__(self) -> None:
        self._rings: dict[tuple[str, int], _Ring] = {}
        self._packed: dict[str, bool] = {}

    def see(self, event: TraceEvent) -> None:
        """Take the next event."""
        kind = event.kind
        if kind is EventKind.DMA_READ:
            address, data = event.detail
            assert isinstance(address, int)
            assert isinstance(data, bytes)
            for ring in self._rings.values():
                if ring.start <= address < ring.end and not (address - ring.start) % DESC_SIZE:
                    ring.note(address - ring.start, data)
        elif kind is EventKind.FEATURES:
            bits = int(event.detail[0])
            self._packed[event.source] = bool(bits >> Feature.VIRTIO_F_RING_PACKED & 1)
        elif kind is EventKind.QUEUE:
            queue, size, address = map(int, event.detail[:3])
            packed = self._packed.get(event.source, False)
            self._rings[event.source, queue] = _Ring(address, size, packed=packed)
        elif kind is EventKind.MOVED:
            queue, address = map(int, event.detail[:2])
            moved = self._rings.get((event.source, queue))
            if moved is not None:
                moved.move(address)

    def indirect(self, device: str, queue: int, head: int) -> tuple[int, int] | None:
        """Address and number of descriptors of the table of a buffer that has just been taken; None without one."""
        ring = self._rings.get((device, queue))
        address, length, flags = (ring and ring.seen.get(head)) or (0, 0, 0)
        return (address, length // DESC_SIZE) if flags & VIRTQ_DESC_F_INDIRECT else None
