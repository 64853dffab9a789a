"""Random sequences for a virtio block function (VIRTIO 1.4 §5.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

from guestsim.diff.access import Access, Read, Step, Write
from guestsim.diff.grammar import Action, virtio_config, virtio_legacy
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.grammar.virtio import BringUp, Submit
from guestsim.diff.grammar.virtio_actions import QUIRKS, Actions, ActionTable, Held, split
from guestsim.diff.grammar.virtio_chains import Chain, Piece, Unequal
from guestsim.diff.grammar.virtio_driver import Lowering
from guestsim.diff.grammar.virtio_legacy import LegacyLowering
from guestsim.diff.grammar.virtio_rings import Queue
from guestsim.drivers.layouts import (
    BLK_HEADER,
    BLK_RANGE,
    SECTOR,
    BlkFeature,
    BlkType,
    Feature,
)

QUEUES = 2
SECTORS = 2048
CONFIG_SIZE = 0x39
ZONES = 8
"""Requests of one notification each keep to a part of the disk of their own: their order is nobody's."""

FEATURES = (
    *(1 << bit for bit in (BlkFeature.SEG_MAX, BlkFeature.GEOMETRY, BlkFeature.BLK_SIZE, BlkFeature.FLUSH)),
    *(1 << bit for bit in (BlkFeature.TOPOLOGY, BlkFeature.CONFIG_WCE, BlkFeature.MQ, BlkFeature.DISCARD)),
    *(1 << bit for bit in (BlkFeature.WRITE_ZEROES, Feature.INDIRECT_DESC, Feature.EVENT_IDX)),
    1 << Feature.RING_RESET,
)
ALL = sum(FEATURES) | 1 << Feature.VERSION_1
MOST_DISCARDED, MOST_ZEROED = 64, 48
"""Sectors of a segment, as the device's options say."""
MODERN = Actions(QUEUES, FEATURES, ALL)
WRITEBACK = 32


class VirtioBlkGrammar:
    """Actions for a virtio block function, in random order; over its legacy interface where `legacy`."""

    def __init__(self, *, legacy: bool = False) -> None:
        self._legacy = legacy

    def sequence(self, random: Random, length: int) -> list[Action]:
        """Bring it up, then `length` - 1 actions of any kind."""
        table = LEGACY_ACTIONS if self._legacy else ACTIONS
        makers, weights = zip(*table, strict=True)
        chosen = random.choices(makers, weights, k=length - 1)
        up = legacy_bring_up if self._legacy else MODERN.bring_up
        return [up(random), *(maker(random) for maker in chosen)]

    def lower(self, actions: Sequence[Action]) -> list[Step]:
        """Their steps."""
        queues = [Queue(number) for number in range(QUEUES)]
        kind = LegacyLowering if self._legacy else Lowering
        driver = kind(queues, queue_feature=1 << BlkFeature.MQ, feature_tags=feature_tags)
        return [driver.step(action) for action in actions]


def feature_tags(features: int) -> Iterator[str]:
    """What is special about a set of features."""
    if features >> BlkFeature.CONFIG_WCE & 1 and not features >> BlkFeature.FLUSH & 1:
        yield "config-wce-without-flush"


def legacy_bring_up(random: Random) -> BringUp:
    """The same over the legacy interface."""
    up = MODERN.bring_up(random)
    features = up.features & 0xFFFF_FFFF | (virtio_legacy.OPTIONAL if random.random() < 0.5 else 0)
    skip = up.skip & {"features", "driver-ok"}
    return replace(up, features=features, skip=skip)


# --- requests


def submit(random: Random) -> Submit:
    """One to three requests and a notification."""
    count = random.choice((1, 1, 1, 1, 2, 3))
    zones = random.sample(range(ZONES), count)
    queue = random.randrange(QUEUES)
    # A queue of one has one place; lowering has no more chains than there is room for.
    chains = tuple(request(random, zone) for zone in zones)
    notify: int | None = queue
    if random.random() < 0.02:
        # What waits for its notification is done together with what follows: nothing that has to do with the disk.
        chains = (made(random, "get-id", header(BlkType.GET_ID), Piece(20), STATUS),)
        notify = None
    return Submit(queue, chains, notify)


def request(random: Random, zone: int) -> Chain:
    """A request of any type."""
    kinds, weights = zip(*REQUESTS, strict=True)
    chain: Chain = random.choices(kinds, weights)[0](random, zone)
    return chain


def place(random: Random, zone: int, most: int) -> tuple[int, int]:
    """First sector and number of sectors in a zone; rarely beyond the disk's end."""
    if random.random() < 0.05:
        count = random.randint(1, most)
        return random.choice((SECTORS - count + 1, SECTORS, SECTORS + 1, 1 << 33, (1 << 64) - count)), count
    room = SECTORS // ZONES
    count = random.randint(1, most)
    return zone * room + random.randint(0, room - count), count


def header(kind: int, sector: int = 0, ioprio: int = 0) -> Piece:
    """A request's head."""
    data = BLK_HEADER.pack(kind, ioprio, sector)
    return Piece(len(data), data)


STATUS = Piece(1)


def made(random: Random, name: str, *pieces: Piece, needs: int = 0, loose: tuple[Unequal, ...] = ()) -> Chain:
    """A chain of them, some indirect."""
    length = sum(piece.length for piece in pieces if piece.writable) - 1
    loose += (Unequal("failed-data", 0, length, length),) if length else ()
    return Chain(name, pieces, indirect=random.random() < 0.3, needs=needs, loose=loose)


def read(random: Random, zone: int) -> Chain:
    """VIRTIO_BLK_T_IN."""
    sector, count = place(random, zone, 16)
    return made(random, "in", header(BlkType.IN, sector), *split(random, count * SECTOR), STATUS)


def write(random: Random, zone: int) -> Chain:
    """VIRTIO_BLK_T_OUT."""
    sector, count = place(random, zone, 16)
    data = bytes([random.randrange(256), random.randrange(256)]) * (count * SECTOR // 2)
    return made(random, "out", header(BlkType.OUT, sector), *split(random, len(data), data), STATUS)


def flush(random: Random, _: int) -> Chain:
    """VIRTIO_BLK_T_FLUSH."""
    return made(random, "flush", header(BlkType.FLUSH), STATUS, needs=1 << BlkFeature.FLUSH)


def get_id(random: Random, _: int) -> Chain:
    """VIRTIO_BLK_T_GET_ID, with room for the identifier or another length."""
    length = 20 if random.random() < 0.95 else random.choice((21, 64, 512))
    name = "get-id" if length == 20 else "get-id-long"
    return made(random, name, header(BlkType.GET_ID), *split(random, length), STATUS)


def ranges(random: Random, zone: int) -> Chain:
    """VIRTIO_BLK_T_DISCARD or WRITE_ZEROES (§5.2.6.2), mostly of one segment, which is what both sides have at most.

    Flags may be any, and sizes at the limit and over it.
    """
    kind = random.choice((BlkType.DISCARD, BlkType.WRITE_ZEROES))
    discard = kind == BlkType.DISCARD
    name, feature = ("discard", BlkFeature.DISCARD) if discard else ("write-zeroes", BlkFeature.WRITE_ZEROES)
    most, allowed = (MOST_DISCARDED, 0) if discard else (MOST_ZEROED, 1)
    sector, count = place(random, zone, most)
    if random.random() < 0.2:
        sector = min(sector, zone * SECTORS // ZONES)
        count = random.choice((0, most, most + 1, most + 2, 1 << 16, 0xFFFF_FFFF))
    flags = random.choice((0, allowed))
    if random.random() < 0.15:
        flags = random.choice((1, 2, 3, 1 << 16, 1 << 31, random.getrandbits(32)))
    data = BLK_RANGE.pack(sector, count, flags)
    loose: tuple[Unequal, ...] = ()
    if random.random() < 0.08:
        data += random.choice((data, BLK_RANGE.pack(sector, 1, flags), data[:8], data * 3))
        loose = (Unequal("segments", 0, 1, values=(b"\1", b"\2")),)
    elif flags & ~allowed and (count > most or sector + count > SECTORS):
        loose = (Unequal("flags-first", 0, 1, values=(b"\2", b"\1")),)
    pieces = header(kind), *split(random, len(data), data), STATUS
    return made(random, name, *pieces, needs=1 << feature, loose=loose)


ALIASES = {
    BlkType.FLUSH | 1: "alias:flush",
    BlkType.GET_ID | 1: "alias:get-id",
    1 << 31 | BlkType.IN: "alias:in",
}
"""Types that there are not, with what others may take them for."""


def unknown(random: Random, _: int) -> Chain:
    """A type that there is not: `type-alias` are `ALIASES`, `scsi-command` two that there were once."""
    if random.random() < 0.1:
        alias = random.choice((2, 3, *ALIASES))
        chain = made(random, "scsi-command", header(alias), *split(random, 512), STATUS)
        return replace(chain, name="type-alias", traits=(ALIASES[alias],)) if alias in ALIASES else chain
    kind = random.choice((6, 7, 15, 16, 18, 26, 0x100, 0x7FFFFFFE))
    return made(random, "unknown-type", header(kind), *split(random, 512), STATUS)


Kind = Callable[[Random, int], Chain]
"""Makes a request in a zone of the disk."""

REQUESTS: tuple[tuple[Kind, float], ...] = (
    (read, 10),
    (write, 10),
    (flush, 3),
    (get_id, 2),
    (ranges, 4),
    (unknown, 0.6),
)

# --- registers


def read_config(random: Random) -> Registers:
    """The device's own configuration, in any width."""
    reads: list[Access] = []
    for _ in range(3):
        size = random.choice((1, 2, 4))
        reads.append(Read("device", random.randrange(0, CONFIG_SIZE - size + 1, size), size))
    return Registers("read the configuration", tuple(reads))


def write_cache(random: Random) -> Registers:
    """The write cache is switched (§5.2.5)."""
    write = Write("device", WRITEBACK, 1, random.choice((0, 1)))
    return Registers(
        "switch the write cache", (write, Read("device", WRITEBACK, 1)), 1 << BlkFeature.CONFIG_WCE
    )


def alone(kind: Kind) -> Callable[[Random], Submit]:
    """Maker of one request and its notification."""

    def made(random: Random) -> Submit:
        queue = random.randrange(QUEUES)
        return Submit(queue, (kind(random, random.randrange(ZONES)),), queue)

    return made


HELD: tuple[Held, ...] = (
    ("read_aio", alone(read)),
    ("write_aio", alone(write)),
    ("pwritev", alone(write)),
    ("pwritev_done", alone(write)),
    ("pwritev_zero", alone(ranges)),
    ("flush_to_os", alone(flush)),
)

IN_FLIGHT = MODERN.in_flight(HELD, ((submit, 10), (read_config, 1), (MODERN.read_registers, 2)))

WANTED = 1 << BlkFeature.MQ | 1 << BlkFeature.FLUSH | 1 << BlkFeature.DISCARD | 1 << BlkFeature.WRITE_ZEROES
"""What requests need that are made again after a reset."""

ACTIONS: ActionTable = (
    (submit, 60),
    (IN_FLIGHT, 5),
    (MODERN.dropped(HELD, MODERN.bring_up, WANTED), 2),
    (MODERN.broken(alone(request), MODERN.bring_up, (*QUIRKS, "far")), 2),
    (MODERN.pending(alone(read), MODERN.bring_up), 1),
    *MODERN.table(),
    (read_config, 4),
    (write_cache, 2),
)

LEGACY_IN_FLIGHT = MODERN.in_flight(HELD, ((submit, 10), (read_config, 1), (virtio_legacy.read_registers, 2)))

LEGACY_ACTIONS: ActionTable = (
    (submit, 60),
    (LEGACY_IN_FLIGHT, 5),
    (MODERN.dropped(HELD, legacy_bring_up, WANTED), 2),
    (MODERN.broken(alone(request), legacy_bring_up, (*virtio_legacy.QUIRKS, "far")), 1),
    (MODERN.pending(alone(read), legacy_bring_up), 1),
    (legacy_bring_up, 4),
    (virtio_legacy.read_registers, 5),
    (read_config, 4),
    (write_cache, 2),
    (MODERN.isr, 6),
    (virtio_legacy.vectors, 2),
    (MODERN.mask_vector, 3),
    (MODERN.notify, 2),
    (MODERN.command, 2),
    (MODERN.suppress, 5),
    (virtio_legacy.reset, 0.5),
    *virtio_config.LEGACY_TABLE,
)
