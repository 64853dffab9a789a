"""Actions of a driver of any virtio function: status, features, queues, rings, vectors (VIRTIO 1.4 §2, §3.1, §4.1).

Queue q has its structures at `RINGS + q * RING_ROOM`; what requests consist of lies from `BUFFERS` on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from guestsim.diff.access import Access, Loose, Read, Step, Store, Unordered, Wait, Write
from guestsim.diff.arena import ARENA, ARENA_SIZE, MESSAGES
from guestsim.diff.grammar import Action
from guestsim.drivers.layouts import (
    AVAIL_NO_INTERRUPT,
    COMMON_CFG,
    DESC,
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_WRITE,
    NO_VECTOR,
    Feature,
    Status,
)

RINGS = ARENA + 0x1000
RING_ROOM = 0x5000
DESC_AT, AVAIL_AT, USED_AT, TABLE_AT = 0, 0x1000, 0x2000, 0x3000
"""Where the parts of a queue lie; room for indirect tables is last."""
BUFFERS = ARENA + 0x2_0000
BUFFERS_END = ARENA + ARENA_SIZE
MAX_SIZE = 256

UNTOUCHED = 0xEE
"""What a buffer holds before the device writes it."""

QUEUE_FIELDS = range(0x18, 0x3C)
"""Offsets of what belongs to the selected queue (§4.1.4.3)."""
QUEUE_SIZE = COMMON_CFG["queue_size"].offset

MOST_QUEUES = 1024
"""QEMU's: it does not take a higher number into queue_select."""

OPERATING = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK


@dataclass(frozen=True, slots=True)
class Piece:
    """One buffer of a chain: what the driver puts there, or `length` bytes that the device may write."""

    length: int
    data: bytes | None = None

    @property
    def writable(self) -> bool:
        """Whether the device may write it."""
        return self.data is None


@dataclass(frozen=True, slots=True)
class Unequal:
    """What is not compared (`Loose`) of what the device writes into a chain, in bytes of that."""

    reason: str
    start: int
    length: int
    status: int | None = None
    good: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """One buffer of the driver's, for which it needs all features in `needs`.

    `quirk` is what is wrong with it (see `Lowering._chain`).  `counts_all`: QEMU's used.len counts
    what the device has read, too.
    """

    name: str
    pieces: tuple[Piece, ...]
    indirect: bool = False
    quirk: str = ""
    needs: int = 0
    loose: tuple[Unequal, ...] = ()
    counts_all: bool = False


@dataclass(frozen=True, slots=True)
class BringUp:
    """Reset and initialisation (§3.1.1).  `vectors` are those of configuration changes and queues; None: INTx.

    `skip` names parts that are left out.
    """

    features: int
    sizes: tuple[int, ...]
    vectors: tuple[int, ...] | None
    skip: frozenset[str] = frozenset()

    def simpler(self) -> Iterator[Action]:
        """Nothing left out, one queue, no vectors, fewer features."""
        if self.skip:
            yield replace(self, skip=frozenset())
        if self.vectors is not None:
            yield replace(self, vectors=None)
        if len(self.sizes) > 1:
            yield replace(self, sizes=self.sizes[:1])
        rest = self.features & ~(1 << Feature.VERSION_1)
        while rest:
            bit = rest & -rest
            rest &= ~bit
            yield replace(self, features=self.features & ~bit)


@dataclass(frozen=True, slots=True)
class Submit:
    """Chains are made available, and the device is told (§2.7.13); `notify` is the queue that is named, or None."""

    queue: int
    chains: tuple[Chain, ...]
    notify: int | None

    def simpler(self) -> Iterator[Action]:
        """One chain, plainer chains."""
        if len(self.chains) > 1:
            yield from (replace(self, chains=(chain,)) for chain in self.chains)
        if self.notify != self.queue:
            yield replace(self, notify=self.queue)
        for number, chain in enumerate(self.chains):
            if chain.indirect:
                yield self._with(number, replace(chain, indirect=False))
            for at in range(1, len(chain.pieces) - 2):
                yield self._with(number, replace(chain, pieces=_joined(chain.pieces, at)))

    def _with(self, number: int, chain: Chain) -> Submit:
        return replace(self, chains=(*self.chains[:number], chain, *self.chains[number + 1 :]))


def _joined(pieces: tuple[Piece, ...], at: int) -> tuple[Piece, ...]:
    """The same buffer with the pieces `at` and after it in one, where they are of one kind."""
    one, two = pieces[at : at + 2]
    if one.writable != two.writable:
        return pieces
    data = None if one.data is None or two.data is None else one.data + two.data
    return (*pieces[:at], Piece(one.length + two.length, data), *pieces[at + 2 :])


@dataclass(frozen=True, slots=True)
class Touch:
    """Registers are read and written, as they are, where the features in `needs` are there."""

    name: str
    accesses: tuple[Access, ...]
    needs: int = 0
    tags: frozenset[str] = frozenset()

    def simpler(self) -> Iterator[Action]:
        """Fewer of them."""
        if len(self.accesses) > 1:
            for at in range(len(self.accesses)):
                yield replace(self, accesses=self.accesses[:at] + self.accesses[at + 1 :])


@dataclass(frozen=True, slots=True)
class ResetQueue:
    """A queue is reset and, if `again`, set up anew (§2.6.1)."""

    queue: int
    again: bool

    def simpler(self) -> Iterator[Action]:
        """Nothing is."""
        yield from ()


@dataclass(frozen=True, slots=True)
class Suppress:
    """When the driver wants to be interrupted (§2.7.7, §2.7.10): the flag, or an index that is `ahead`."""

    queue: int
    flag: bool
    ahead: int

    def simpler(self) -> Iterator[Action]:
        """Nothing is."""
        yield from ()


@dataclass(frozen=True, slots=True)
class Jump:
    """The available index goes on by `by` without new buffers (§2.7.13.3)."""

    queue: int
    by: int

    def simpler(self) -> Iterator[Action]:
        """Nothing is."""
        yield from ()


def common(name: str) -> tuple[int, int]:
    """Offset and size of a common configuration field."""
    found = COMMON_CFG[name]
    return found.offset, found.size


def get(name: str) -> Read:
    """Read a common configuration field."""
    return Read("common", *common(name))


def put(name: str, value: int) -> Write:
    """Write a common configuration field."""
    return Write("common", *common(name), value)


def put_wide(name: str, value: int) -> tuple[Write, Write]:
    """Write a field of 64 bits (§4.1.3.1: in two halves)."""
    offset, _ = common(name)
    return Write("common", offset, 4, value & 0xFFFF_FFFF), Write("common", offset + 4, 4, value >> 32)


@dataclass(slots=True)
class Queue:
    """What the driver knows of a queue."""

    number: int
    size: int = 0
    avail: int = 0
    told: int = 0
    """The available index when the device was last told of it."""
    taken: int = 0
    """Descriptors of what it has not been told of."""
    descriptor: int = 0
    table: int = 0

    def start(self, size: int) -> None:
        """It is empty, and of this size."""
        self.size, self.avail, self.told, self.taken, self.descriptor, self.table = size, 0, 0, 0, 0, 0

    @property
    def base(self) -> int:
        """Where its structures are."""
        return RINGS + self.number * RING_ROOM


def emptied(queue: Queue, size: int) -> list[Access]:
    """A queue begins anew with rings of so many entries, all zeroes."""
    queue.start(size)
    return [
        Store(queue.base + AVAIL_AT, bytes(6 + 2 * size)),
        Store(queue.base + USED_AT, bytes(6 + 8 * size)),
    ]


@dataclass(slots=True)
class Lowering:
    """The driver while its actions become accesses."""

    queues: list[Queue]
    features: int = 0
    vectors_on: bool = False
    selected: int = 0
    queue_feature: int = 0
    """The feature without which there is only queue 0."""
    feature_tags: Callable[[int], Iterator[str]] = field(default=lambda _: iter(()))
    """What is special about a set of features."""
    buffer: int = BUFFERS

    def step(self, action: Action) -> Step:
        """The accesses of one action."""
        step = self._step(action)
        return replace(step, accesses=tuple(map(self._place, self._ordered(step.accesses))))

    def _place(self, access: Access) -> Access:
        """Where an access goes over another interface than the modern one."""
        return access

    def _ordered(self, accesses: Sequence[Access]) -> Iterator[Access]:
        """The order of used elements is the device's choice (§2.7.14): those that it is told of at one time."""
        several: Unordered | None = None
        for access in accesses:
            match access:
                case Write("notify", offset) if offset // 4 < len(self.queues):
                    queue = self.queues[offset // 4]
                    count = queue.avail - queue.told & 0xFFFF
                    if 1 < count <= queue.size:
                        at = queue.base + USED_AT + 4
                        several = Unordered(at, 8, queue.told % queue.size, count, queue.size)
                    queue.told = queue.avail
                    yield access
                case Wait():
                    yield Wait(several)
                    several = None
                case _:
                    yield access

    def _step(self, action: Action) -> Step:
        match action:
            case BringUp():
                return self._bring_up(action)
            case Submit():
                return self._submit(action)
            case Touch(name, accesses, needs, tags):
                if needs & ~self.features:
                    return Step(f"nothing: {name}, without the feature", ())
                return Step(name, (*map(self._alias, accesses), Wait()), tags)
            case ResetQueue(number, again):
                return self._reset_queue(self.queues[number], again)
            case Suppress(number, flag, ahead):
                return self._suppress(self.queues[number], flag, ahead)
            case Jump(number, by):
                queue = self.queues[number]
                queue.avail = (queue.avail + by) & 0xFFFF
                accesses = (self._index(queue), Write("notify", 4 * number, 2, number), Wait())
                return Step(
                    f"available index of queue {number} goes on by {by}", accesses, frozenset({"jump"})
                )
        raise TypeError(action)

    def _alias(self, access: Access) -> Access:
        """With vectors ISR status is another thing, `isr-msix`; so are fields of a queue that is not there."""
        match access:
            case Write("common", offset, _, value) if offset == common("queue_select")[0]:
                self.selected = value
            case Write("common", offset, _, 0) if offset == common("device_status")[0]:
                self._forget()
            case Write("msixcap") if not self.vectors_on:
                return Read("msixcap", 2, 2)
            case Read("isr") if self.vectors_on:
                return replace(access, window="isr-msix")
            case Read("common", offset) if offset in QUEUE_FIELDS and self.selected >= MOST_QUEUES:
                return replace(access, window="common-beyond")
            case Read("common", offset) if offset in QUEUE_FIELDS and self._no_queue(offset == QUEUE_SIZE):
                return replace(access, window="common-none")
        return access

    def _no_queue(self, size: bool) -> bool:
        """Whether what is read is of a queue that is not there; its size is 0 then, unless features are to blame."""
        return self._available <= self.selected and not (size and self.selected >= len(self.queues))

    @property
    def _available(self) -> int:
        """Queues that there are, by what was negotiated."""
        return 1 if self.queue_feature & ~self.features else len(self.queues)

    def _forget(self) -> None:
        """The device was reset."""
        self.features = 0
        for queue in self.queues:
            queue.size = 0

    # --- initialisation

    def _bring_up(self, action: BringUp) -> Step:
        do: list[Access] = [put("device_status", 0), Wait(), get("device_status")]
        self._forget()
        self.features = 0 if "features" in action.skip else action.features
        self.vectors_on = action.vectors is not None
        if "acknowledge" not in action.skip:
            do.append(put("device_status", Status.ACKNOWLEDGE))
        do.append(put("device_status", Status.ACKNOWLEDGE | Status.DRIVER))
        if "features" not in action.skip:
            for word in range(2):
                do += [put("device_feature_select", word), get("device_feature")]
                do += [put("driver_feature_select", word)]
                do += [put("driver_feature", action.features >> 32 * word & 0xFFFF_FFFF)]
        if "features-ok" not in action.skip:
            do += [put("device_status", OPERATING), get("device_status")]
        on = action.vectors is not None
        do.append(Write("msixcap", 2, 2, 0x8000 if on else 0))
        if action.vectors is not None:
            do += [put("config_msix_vector", action.vectors[0]), get("config_msix_vector")]
        for number, size in enumerate(action.sizes[: self._available]):
            do += self._start_queue(self.queues[number], size, action)
        if "driver-ok" not in action.skip:
            do += [put("device_status", OPERATING | Status.DRIVER_OK), get("device_status")]
        return self._brought_up(action, do)

    def _brought_up(self, action: BringUp, do: Sequence[Access]) -> Step:
        tags = frozenset((*(f"skip:{part}" for part in action.skip), *self.feature_tags(self.features)))
        return Step(f"bring up with features {action.features:#x}", (*do, Wait()), tags)

    def _start_queue(self, queue: Queue, size: int, action: BringUp | None = None) -> list[Access]:
        """Rings for a queue, and it is enabled (§4.1.5.1.3)."""
        do = emptied(queue, size)
        do += [put("queue_select", queue.number), get("queue_size"), put("queue_size", size)]
        if action is not None and action.vectors is not None:
            do.append(put("queue_msix_vector", action.vectors[queue.number + 1]))
            do.append(get("queue_msix_vector"))
        for name, at in (("queue_desc", DESC_AT), ("queue_driver", AVAIL_AT), ("queue_device", USED_AT)):
            do += put_wide(name, queue.base + at)
        if action is None or "enable" not in action.skip:
            do += [put("queue_enable", 1), get("queue_enable"), get("queue_size")]
        return do

    def _reset_queue(self, queue: Queue, again: bool) -> Step:
        if not self.features >> Feature.RING_RESET & 1 or not queue.size:
            return Step("nothing: no queue that can be reset", ())
        do: list[Access] = [put("queue_select", queue.number), put("queue_reset", 1), Wait()]
        do += [get("queue_reset"), get("queue_enable"), get("queue_size")]
        if again:
            do += self._start_queue(queue, queue.size)
        else:
            queue.size = 0
        tags = frozenset({"queue-reset"})
        return Step(f"queue {queue.number} is reset" + ", and set up anew" * again, (*do, Wait()), tags)

    # --- requests

    def _suppress(self, queue: Queue, flag: bool, ahead: int) -> Step:
        flags = (AVAIL_NO_INTERRUPT if flag else 0).to_bytes(2, "little")
        # QEMU's first notification comes whatever was asked for.
        event = (queue.told + (ahead if queue.told else 0) & 0xFFFF).to_bytes(2, "little")
        at = queue.base + AVAIL_AT
        accesses = Store(at, flags), Store(at + 4 + 2 * queue.size, event)
        return Step(f"queue {queue.number}: interrupts {'off' if flag else f'from {ahead} ahead'}", accesses)

    def _submit(self, action: Submit) -> Step:
        queue = self.queues[action.queue]
        if not queue.size:
            return Step("nothing: there is no queue", ())
        do: list[Access] = []
        tags: set[str] = set()
        if queue.told == queue.avail:
            queue.taken = 0
        chains = []
        for chain in action.chains:
            needed = 1 if self._indirect(chain) else len(chain.pieces)
            fits = queue.taken + needed <= queue.size and len(chain.pieces) <= queue.size
            if not fits or chain.needs & ~self.features:
                continue
            queue.taken += needed
            chains.append(chain)
            tags.add(chain.name)
            if chain.quirk:
                tags.add(f"chain:{chain.quirk}")
            head = self._chain(queue, chain, do)
            slot = queue.base + AVAIL_AT + 4 + 2 * (queue.avail % queue.size)
            do.append(Store(slot, head.to_bytes(2, "little")))
            queue.avail = (queue.avail + 1) & 0xFFFF
        if any(chain.counts_all for chain in chains):
            for number in range(len(chains)):
                place = (queue.avail - number - 1) % queue.size
                do.append(Loose("used-len", queue.base + USED_AT + 4 + 8 * place + 4, 4))
        do.append(self._index(queue))
        if action.notify is not None:
            do.append(Write("notify", 4 * action.notify, 2, action.notify))
        do.append(Wait())
        what = ", ".join(chain.name for chain in chains) or "nothing that fits"
        return Step(f"queue {queue.number}: {what}", tuple(do), frozenset(tags))

    def _indirect(self, chain: Chain) -> bool:
        """Whether a chain is in a table of its own: where that was negotiated."""
        return chain.indirect and bool(self.features >> Feature.INDIRECT_DESC & 1)

    def _index(self, queue: Queue) -> Store:
        return Store(queue.base + AVAIL_AT + 2, queue.avail.to_bytes(2, "little"))

    def _chain(self, queue: Queue, chain: Chain, do: list[Access]) -> int:
        """Write a chain's buffers and descriptors; its head.

        Quirks: `loop`, the last descriptor goes on to the first; `beyond`, to one that the table does not have;
        `indirect-next`, `indirect-odd`, what §2.7.5.3.1 and §2.7.5.3.2 forbid; `far`, a buffer outside memory.
        """
        parts = [self._buffer(piece, do) for piece in chain.pieces]
        do += _loose(chain, parts)
        if chain.quirk == "far" and parts:
            address, length, flags = parts[-1]
            parts[-1] = address + (1 << 45), length, flags
        if self._indirect(chain):
            room = DESC.size * len(parts)
            if TABLE_AT + queue.table + room > RING_ROOM:
                queue.table = 0
            at = queue.base + TABLE_AT + queue.table
            queue.table += room
            last = {"loop": 0, "beyond": len(parts) + 3}.get(chain.quirk)
            do.append(Store(at, _descriptors(parts, list(range(len(parts))), last)))
            flags = DESC_INDIRECT | (DESC_NEXT if chain.quirk == "indirect-next" else 0)
            parts = [(at, room + (5 if chain.quirk == "indirect-odd" else 0), flags)]
        places = [(queue.descriptor + number) % queue.size for number in range(len(parts))]
        queue.descriptor = (queue.descriptor + len(parts)) % queue.size
        last = None if self._indirect(chain) else {"loop": places[0], "beyond": queue.size}.get(chain.quirk)
        table = _descriptors(parts, places, last)
        for number, place in enumerate(places):
            one = table[number * DESC.size : (number + 1) * DESC.size]
            do.append(Store(queue.base + DESC_AT + DESC.size * place, one))
        return places[0]

    def _buffer(self, piece: Piece, do: list[Access]) -> tuple[int, int, int]:
        """Room for a piece, filled: address, length, flags."""
        if self.buffer + piece.length > BUFFERS_END:
            self.buffer = BUFFERS
        at = self.buffer
        self.buffer += piece.length
        if piece.length:
            do.append(Store(at, bytes([UNTOUCHED]) * piece.length if piece.data is None else piece.data))
        return at, piece.length, DESC_WRITE if piece.writable else 0


def _loose(chain: Chain, parts: Sequence[tuple[int, int, int]]) -> Iterator[Loose]:
    """What of a chain's buffers is not compared."""
    addresses: list[int] = []
    for address, length, flags in parts if chain.loose else ():
        if flags:
            addresses += range(address, address + length)
    for one in chain.loose:
        where = None if one.status is None else addresses[one.status]
        part = addresses[one.start : one.start + one.length]
        begin = 0
        for at in range(1, len(part) + 1):
            if at == len(part) or part[at] != part[at - 1] + 1:
                yield Loose(one.reason, part[begin], at - begin, where, one.good)
                begin = at


def _descriptors(parts: Sequence[tuple[int, int, int]], places: Sequence[int], last: int | None) -> bytes:
    """A chain's descriptors; `last` is where the last one goes on to, if it does."""
    table = b""
    for number, (address, length, flags) in enumerate(parts):
        then = places[number + 1] if number + 1 < len(parts) else last
        flags |= 0 if then is None else DESC_NEXT
        table += DESC.pack(address, length, flags, then or 0)
    return table


def message_table(vectors: int) -> list[Access]:
    """The MSI-X table: vector v writes v + 1 to its word."""
    do: list[Access] = []
    for vector in range(vectors):
        for at, value in enumerate((MESSAGES + 4 * vector, 0, vector + 1, 0)):
            do.append(Write("msix", 16 * vector + 4 * at, 4, value))
    return do


def random_vectors(random: Random, queues: int) -> tuple[int, ...] | None:
    """Vectors for configuration changes and queues, or INTx."""
    if random.random() < 0.3:
        return None
    vectors = queues + 1
    if random.random() < 0.7:
        return tuple(range(vectors))
    return tuple(random.choice((*range(vectors), NO_VECTOR)) for _ in range(vectors))
