"""What a target takes: what it offers, how long its requests may be, and why others are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import (
    BLK_RANGE,
    SECTOR,
    BlkFeature,
    BlkStatus,
    BlkType,
    Feature,
)
from guestsim.portable.requests import RANGE_TYPES, Header, Request, ranges_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guestsim.portable.lower import SessionFacts

NEEDS: dict[int, BlkFeature] = {
    BlkType.FLUSH: BlkFeature.FLUSH,
    BlkType.DISCARD: BlkFeature.DISCARD,
    BlkType.WRITE_ZEROES: BlkFeature.WRITE_ZEROES,
    BlkType.SECURE_ERASE: BlkFeature.SECURE_ERASE,
    BlkType.GET_LIFETIME: BlkFeature.LIFETIME,
}
_LIMITS = {
    BlkType.DISCARD: "discard",
    BlkType.WRITE_ZEROES: "write_zeroes",
    BlkType.SECURE_ERASE: "secure_erase",
}
_LEGACY_FLUSH = 5
OTHER_LIMIT = "refused for a limit that the target does not have"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a target offers, and the sessions in which its requests are fed.

    `config` are the fields of its configuration space by name; `capacity`, in bytes, is None where its disk is ours.
    `size` and `read_only` are those of the recorded disk.
    """

    offered: frozenset[int]
    config: Mapping[str, int]
    sessions: Mapping[int, SessionFacts]
    size: int
    read_only: bool = False
    capacity: int | None = None

    def lacks(self, request: Request) -> str:
        """Why a request cannot be fed; empty where it can."""
        header = request.header
        assert header is not None
        need = NEEDS.get(header.type)
        if need is not None and need not in self.offered and self._negotiated(request, need):
            return f"needs {need.name}, which the target does not offer"
        if header.type == _LEGACY_FLUSH:
            return "of the legacy interface, which has another FLUSH"
        pieces = len(request.readable) + len(request.writable)
        facts = self.sessions.get(request.session)
        if facts is not None and facts.queue_size and pieces > facts.queue_size:
            return f"more pieces than its queue has entries, {facts.queue_size}"
        beyond = self._beyond(request, header)
        if request.status == BlkStatus.OK:
            return beyond
        return OTHER_LIMIT if not beyond and self._refused_for_a_limit(request, header) else ""

    def _beyond(self, request: Request, header: Header) -> str:
        """Which limit of the target it does not keep to; empty where it keeps to all."""
        if header.type in RANGE_TYPES:
            return self._ranges(request, _LIMITS[BlkType(header.type)])
        if header.type in (BlkType.IN, BlkType.OUT):
            return self._data(request, len(request.readable) + len(request.writable) - 2, header.sector)
        return ""

    def _refused_for_a_limit(self, request: Request, header: Header) -> bool:
        """Whether nothing else can be why the recorded device failed it, and did not give it to its disk."""
        if request.status != BlkStatus.IOERR or not request.violations:
            return False
        if header.type in RANGE_TYPES:
            whole = request.payload_length and not request.payload_length % BLK_RANGE.size
            return bool(whole) and all(end <= self.size for _, end in ranges_of(request))
        if header.type not in (BlkType.IN, BlkType.OUT):
            return False
        length = request.data_length if header.type == BlkType.IN else request.payload_length
        within = not length % SECTOR and header.sector * SECTOR + length <= self.size
        return within and not (self.read_only and header.type == BlkType.OUT)

    def _negotiated(self, request: Request, feature: int) -> bool:
        facts = self.sessions.get(request.session)
        return facts is not None and bool(facts.features >> feature & 1)

    def _ranges(self, request: Request, name: str) -> str:
        sectors = self.config.get(f"max_{name}_sectors", 0)
        segments = self.config.get(f"max_{name}_seg", 0)
        if request.payload_length // BLK_RANGE.size > segments:
            return f"more than the target's max_{name}_seg of {segments}"
        for start, end in ranges_of(request):
            if (end - start) // SECTOR > sectors:
                return f"longer than the target's max_{name}_sectors of {sectors}"
            if self.capacity is not None and end > self.capacity:
                return "beyond the end of the target's disk"
        return ""

    def _data(self, request: Request, pieces: int, sector: int) -> str:
        segments, size = self.config.get("seg_max", 0), self.config.get("size_max", 0)
        if segments and pieces > segments:
            return f"more pieces than the target's seg_max of {segments}"
        if size and max((*map(len, request.readable), *request.writable)) > size:
            return f"a piece is longer than the target's size_max of {size}"
        length = request.data_length or request.payload_length
        if self.capacity is not None and sector * SECTOR + length > self.capacity:
            return "beyond the end of the target's disk"
        return ""


def features_of(session_features: int, offered: frozenset[int], *, packed: bool | None) -> frozenset[int]:
    """What is negotiated with the target for a recorded session; `packed` is the ring where it is chosen."""
    wanted = {bit for bit in range(64) if session_features >> bit & 1}
    if packed is not None:
        wanted.discard(Feature.RING_PACKED)
        if packed:
            wanted.add(Feature.RING_PACKED)
    return frozenset(wanted) & offered


def power_of_two(number: int) -> int:
    """The next power of two, or `number` where it is one."""
    return 1 << max(0, number - 1).bit_length()


def feature_name(bit: int) -> str:
    """A feature bit by name."""
    for names in (BlkFeature, Feature):
        if bit in set(names):
            return names(bit).name
    return f"bit {bit}"
