"""What lies at an address of guest memory: rings, indirect tables, and the parts of requests in flight."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from devmodels.virtio.layout import (
    DESC_SIZE,
    VIRTQ_AVAIL_F_NO_INTERRUPT,
    VIRTQ_DESC_F_INDIRECT,
    VIRTQ_DESC_F_WRITE,
    VIRTQ_USED_F_NO_NOTIFY,
    avail_size,
    used_size,
)
from guestsim.forms import BLK, Form
from guestsim.show import names
from guestsim.show.decode import LAYOUTS, Field, decode
from guestsim.story import MACHINE_MEMORY

_EVENT_SIZE = LAYOUTS["pvirtq_event_suppress"].size
_LEN_OFFSET = LAYOUTS["pvirtq_desc"].codec.offsets["len"]
_MAX_GIVING = 65536
_UNPACK_DESC = LAYOUTS["virtq_desc"].codec.layout.unpack_from


@dataclass(slots=True, eq=False)
class Taken:
    """A buffer that the device has taken: `number` counts those of the trace.

    `pieces` are (guest address, length, whether it is writable, where it begins in that part of the buffer).  `header`
    is what says what it is about, as far as it has been read; of a virtio-blk request `kind` is its type and `sector`
    its sector once that is all there.
    """

    number: int
    device: str
    queue: int
    head: int
    pieces: list[tuple[int, int, bool, int]]
    form: Form = BLK
    readable: int = 0
    writable: int = 0
    header: bytearray = field(default_factory=bytearray)
    kind: int | None = None
    sector: int = 0


class Ring(NamedTuple):
    """A part of a virtqueue in memory: `part` is `desc`, `avail` or `used`; of a packed one `desc`, `driver`, `device`.

    `start` and `end` are guest addresses.
    """

    start: int
    end: int
    device: str
    queue: int
    part: str
    packed: bool
    size: int


class Spot(NamedTuple):
    """What bytes at an address are: the queue's or the request's, a title, and the fields of the bytes.

    `head` is the buffer's where the bytes tell, for a ring; `role` is the part of a request that they are, or begin in.
    `words`, where there are any, say it all.
    """

    title: str
    device: str | None
    queue: int | None
    fields: list[Field]
    taken: Taken | None = None
    head: int | None = None
    role: str = ""
    words: str = ""


class Places:
    """Guest memory as a trace has shown it so far."""

    def __init__(self) -> None:
        self._rings: list[Ring] = []
        self._starts: list[int] = []
        self._reach: list[int] = []
        self._tables: dict[int, tuple[str, int, int, int, bool]] = {}
        """Indirect tables that are to be read: whose, how long in bytes, and whether of a packed ring."""
        self._pieces: dict[int, tuple[Taken, int]] = {}
        self._taken: dict[tuple[str, int, int], Taken] = {}
        self._giving: dict[tuple[str, int], deque[int]] = {}
        """The buffers that are given back, and whose used elements are still to be written."""
        self._taking: dict[tuple[str, int], int] = {}
        """The buffer whose descriptors are being read."""

    # --- what comes and goes

    def add_queue(
        self, device: str, queue: int, size: int, parts: tuple[int, int, int], *, packed: bool
    ) -> None:
        """A queue has its place in memory."""
        self.drop_queue(device, queue)
        lengths = (size * DESC_SIZE, avail_size(size), used_size(size))
        titles = ("desc", "avail", "used")
        if packed:
            lengths = (size * DESC_SIZE, _EVENT_SIZE, _EVENT_SIZE)
            titles = ("desc", "driver", "device")
        for start, length, title in zip(parts, lengths, titles, strict=True):
            self._rings.append(Ring(start, start + length, device, queue, title, packed, size))
        self._sort()

    def move_queue(self, device: str, queue: int, parts: tuple[int, int, int]) -> None:
        """A queue's parts lie elsewhere from now on; what it has taken stays taken."""
        moved = dict(zip(("desc", "avail", "used"), parts, strict=True))
        moved |= dict(zip(("desc", "driver", "device"), parts, strict=True))
        self._rings = [
            ring._replace(start=moved[ring.part], end=moved[ring.part] + ring.end - ring.start)
            if (ring.device, ring.queue) == (device, queue)
            else ring
            for ring in self._rings
        ]
        self._sort()

    def drop_queue(self, device: str, queue: int) -> None:
        """A queue is gone; -1: all of the device's, and what it had taken."""
        kept = [ring for ring in self._rings if ring.device != device or queue not in (-1, ring.queue)]
        if len(kept) < len(self._rings):
            self._rings = kept
            self._sort()
        self._drop_tables(device, queue)
        for pending in [key for key in self._giving if key[0] == device and queue in (-1, key[1])]:
            del self._giving[pending]
        for key in [key for key in self._taken if key[0] == device and queue in (-1, key[1])]:
            self.give_back(*key)

    def _sort(self) -> None:
        self._rings.sort()
        self._starts = [ring.start for ring in self._rings]
        self._reach = []
        for ring in self._rings:
            self._reach.append(max(ring.end, self._reach[-1] if self._reach else 0))

    def take(self, taken: Taken) -> None:
        """A buffer is the device's from now on."""
        key = taken.device, taken.queue, taken.head
        if key in self._taken:
            self.give_back(*key)
        self._taken[key] = taken
        for index, (address, length, _, _) in enumerate(taken.pieces):
            if length:
                self._pieces[address] = taken, index
        if self._tables:
            self._drop_tables(taken.device, taken.queue)

    def _drop_tables(self, device: str, queue: int) -> None:
        self._tables = {
            at: table
            for at, table in self._tables.items()
            if table[0] != device or queue not in (-1, table[1])
        }

    def find(self, device: str, queue: int, head: int) -> Taken | None:
        """The buffer in flight."""
        return self._taken.get((device, queue, head))

    def taken_by(self, device: str) -> list[Taken]:
        """The buffers that a device has."""
        return [taken for (name, _, _), taken in self._taken.items() if name == device]

    def give_back(self, device: str, queue: int, head: int) -> Taken | None:
        """A buffer is the driver's again."""
        taken = self._taken.pop((device, queue, head), None)
        if taken is not None:
            for address, _, _, _ in taken.pieces:
                found = self._pieces.get(address)
                if found is not None and found[0] is taken:
                    del self._pieces[address]
        return taken

    def giving(self, device: str, queue: int, head: int) -> None:
        """A buffer is given back: a used element will be written."""
        self._giving.setdefault((device, queue), deque(maxlen=_MAX_GIVING)).append(head)

    @property
    def in_flight(self) -> int:
        """How many buffers are the device's."""
        return len(self._taken)

    # --- what bytes are

    def at(self, address: int, data: bytes, *, writing: bool) -> Spot | None:
        """What the device has read, or written; None where nobody knows."""
        found = self._pieces.get(address)
        if found is not None:
            return self._in_request(*found, address, data)
        ring = self.ring_at(address)
        if ring is not None:
            return self._in_ring(ring, address - ring.start, data, writing=writing)
        found = self._piece_around(address)
        if found is not None:
            return self._in_request(*found, address, data)
        for start, (device, queue, head, length, packed) in self._tables.items():
            if start <= address < start + length:
                spot = Spot(f"table of head {head}", device, queue, [], head=head)
                layout = "pvirtq_desc" if packed else "virtq_desc"
                return spot._replace(fields=decode(layout, data, start=address - start))
        return None

    def ring_at(self, address: int) -> Ring | None:
        """The part of a virtqueue in which `address` lies."""
        at = bisect_right(self._starts, address) - 1
        while at >= 0 and self._reach[at] > address:
            if self._rings[at].end > address:
                return self._rings[at]
            at -= 1
        return None

    def _piece_around(self, address: int) -> tuple[Taken, int] | None:
        for taken in self._taken.values():
            for index, (start, length, _, _) in enumerate(taken.pieces):
                if start <= address < start + length:
                    return taken, index
        return None

    def _in_request(self, taken: Taken, index: int, address: int, data: bytes) -> Spot:
        start, _, writable, offset = taken.pieces[index]
        offset += address - start
        total = taken.writable if writable else taken.readable
        if not writable:
            self._note_header(taken, offset, data)
        title = role = ""
        fields: list[Field] = []
        for part in taken.form.parts(bytes(taken.header), total, writable=writable):
            first, last = max(part.start, offset), min(part.end, offset + len(data))
            if first >= last and not part.start <= offset < part.end:
                continue
            if part.layout:
                found = decode(part.layout, data[first - offset : last - offset], start=first - part.start)
                fields += [each._replace(offset=each.offset + first - offset) for each in found]
            if not role:
                role = part.title
                title = f"data {names.extent(first - part.start, len(data))}" if role == "data" else role
        return Spot(title, taken.device, taken.queue, fields, taken=taken, head=taken.head, role=role)

    def _note_header(self, taken: Taken, offset: int, data: bytes) -> None:
        size = taken.form.head_size
        if offset == len(taken.header) < size:
            taken.header += data[: size - offset]
            if taken.form is BLK and len(taken.header) == size:
                kind, _, sector = LAYOUTS["virtio_blk_req"].codec.unpack_from(bytes(taken.header), 0)
                assert isinstance(kind, int)
                assert isinstance(sector, int)
                taken.kind, taken.sector = kind, sector

    def _in_ring(self, ring: Ring, offset: int, data: bytes, *, writing: bool) -> Spot:
        spot = Spot(ring.part, ring.device, ring.queue, [])
        if ring.part == "desc":
            return self._descriptors(ring, offset, data, writing=writing)
        if ring.packed:
            fields = decode("pvirtq_event_suppress", data, start=offset)
            return spot._replace(title=f"{ring.part} event", fields=fields)
        words = _FLAGS[ring.part] if offset == 0 else None
        fields = []
        head = None
        key = ring.device, ring.queue
        for at, size, name in _ring_fields(ring, offset, len(data)):
            value = int.from_bytes(data[at : at + size], "little")
            fields.append(Field(name, at, size, value, words(value) if words and at == 0 else ""))
            if name.startswith("ring["):
                head = value
                if ring.part == "avail":
                    self._taking[key] = value
                elif name.endswith(".len") and writing:
                    head = self._given(key, last=True)
        return spot._replace(fields=fields, head=head)

    def _given(self, key: tuple[str, int], *, last: bool) -> int | None:
        """The buffer whose used element is being written; `last`: that was all of it."""
        giving = self._giving.get(key)
        if not giving:
            return None
        return giving.popleft() if last else giving[0]

    def _descriptors(self, ring: Ring, offset: int, data: bytes, *, writing: bool) -> Spot:
        """Descriptors of a ring; an indirect table is expected to be read next."""
        layout = "pvirtq_desc" if ring.packed else "virtq_desc"
        index, within = divmod(offset, DESC_SIZE)
        last = (offset + max(len(data), 1) - 1) // DESC_SIZE
        title = f"desc[{index}]" if last == index else f"desc[{index}] to desc[{last}]"
        key = ring.device, ring.queue
        head = None
        if writing:
            head = self._given(key, last=within > _LEN_OFFSET)
        elif not within:
            head = self._taking.get(key)
        if within == 0 and len(data) >= DESC_SIZE:
            address, length, third, fourth = _UNPACK_DESC(data, 0)
            flags = fourth if ring.packed else third
            if ring.packed:
                head = int(third)
            if int(flags) & VIRTQ_DESC_F_INDIRECT:
                table = (*key, index if head is None else head, int(length), ring.packed)
                self._tables[int(address)] = table
        return Spot(title, *key, decode(layout, data, start=within), head=head)


class Memories:
    """The memories of a trace: that of a machine, and those that devices have for themselves."""

    def __init__(self) -> None:
        self._shared = Places()
        self._own: dict[str, Places] = {}
        self._of: dict[str, Places] = {}

    def announce(self, device: str, memory: str) -> None:
        """The device reaches the memory whose events have the source `memory`."""
        places = self._shared if memory == MACHINE_MEMORY else self._own.setdefault(memory, Places())
        self._of[device] = places

    def of_device(self, device: str) -> Places:
        """The memory that the device reaches."""
        return self._of.get(device, self._shared)

    def of_source(self, source: str) -> Places:
        """The memory whose events have this source."""
        return self._own.get(source, self._shared)

    @property
    def in_flight(self) -> int:
        """How many buffers the devices have."""
        return sum(places.in_flight for places in (self._shared, *self._own.values()))


def _avail_flags(value: int) -> str:
    return names.flags(value, {VIRTQ_AVAIL_F_NO_INTERRUPT: "NO_INTERRUPT"})


def _used_flags(value: int) -> str:
    return names.flags(value, {VIRTQ_USED_F_NO_NOTIFY: "NO_NOTIFY"})


_FLAGS: dict[str, Callable[[int], str]] = {"avail": _avail_flags, "used": _used_flags}


def _ring_fields(ring: Ring, offset: int, length: int) -> list[tuple[int, int, str]]:
    """Where in the bytes, size and name of the fields of an available or used ring (VIRTIO 1.4 §2.7.6, §2.7.8)."""
    element = 2 if ring.part == "avail" else 8
    end = 4 + element * ring.size
    fields = []
    at = 0
    while at < length:
        where = offset + at
        index, within = divmod(where - 4, element)
        if where < 4:
            size, name = 2 - where % 2, "idx" if where >= 2 else "flags"
        elif where >= end:
            size, name = 2, "used_event" if ring.part == "avail" else "avail_event"
        elif ring.part == "avail":
            size, name = 2 - within, f"ring[{index}]"
        else:
            size, name = 4 - within % 4, f"ring[{index}]." + ("len" if within >= 4 else "id")
        size = min(size, length - at)
        fields.append((at, size, name))
        at += size
    return fields


def compact(data: bytes, *, packed: bool) -> str:
    """Descriptors as `address+length`, `<` before those that the device writes."""
    shown = []
    for at in range(0, len(data) - DESC_SIZE + 1, DESC_SIZE):
        address, length, third, fourth = _UNPACK_DESC(data, at)
        mark = "<" if int(fourth if packed else third) & VIRTQ_DESC_F_WRITE else ""
        shown.append(f"{mark}{address:#x}+{length}")
    return " ".join(shown)
