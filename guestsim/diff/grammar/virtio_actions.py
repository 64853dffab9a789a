"""Random actions on the registers of any virtio function over PCI (VIRTIO 1.4 §4.1.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

from guestsim.diff.access import Read, Write
from guestsim.diff.grammar import Action, virtio_config
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.grammar.virtio import (
    MOST_MEANWHILE,
    BringUp,
    Broken,
    Ended,
    InFlight,
    Jump,
    Pending,
    ResetQueue,
    Submit,
    Suppress,
    get,
    put,
    random_vectors,
)
from guestsim.diff.grammar.virtio_chains import Piece
from guestsim.drivers.layouts import NO_VECTOR, Feature

SIZES = (1, 2, 4, 8, 16, 64, 256)

ODD_SIZES = (10, 100)
"""Those that split rings cannot have."""
ENOUGH = 16
"""A queue of so many has room for any request."""
PACKED = 0.4
"""How often rings are packed."""

QUIRKS = ("loop", "beyond", "head", "indirect-next", "indirect-odd")
"""What is wrong with chains: see `Queue.add`."""

MAPPED = frozenset({"map-vector"})
UNMASKED = frozenset({"unmask"})
"""What was held back of interrupts may come, or be seen."""

ActionMaker = Callable[[Random], Action]
ActionTable = tuple[tuple[ActionMaker, float], ...]
"""Makers of actions, with their weights."""
Held = tuple[str, Callable[[Random], Submit]]
"""An event, and a request that it is about."""


def split(random: Random, length: int, data: bytes | None = None) -> tuple[Piece, ...]:
    """A buffer in one to four pieces."""
    cuts = sorted(random.randint(0, length) for _ in range(random.choice((0, 0, 1, 3))))
    edges = [0, *(cut for cut in cuts if 0 < cut < length), length]
    return tuple(Piece(b - a, None if data is None else data[a:b]) for a, b in pairwise(edges) if b > a)


def _one(action: Action) -> Action:
    """Not several requests with one notification: which of them are over is not known while another one is held."""
    return replace(action, chains=action.chains[:1]) if isinstance(action, Submit) else action


class Actions:
    """Those of a function with so many queues, which offers these features; the driver accepts some of `always`."""

    def __init__(
        self, queues: int, features: Sequence[int], always: int, sizes: Sequence[int] = SIZES
    ) -> None:
        self._queues = queues
        self._features = features
        self._always = always
        self._sizes = sizes

    def table(self) -> ActionTable:
        """All of them."""
        return (
            (self.bring_up, 4),
            (self.read_registers, 5),
            (self.isr, 6),
            (self.vectors, 2),
            (self.mask_vector, 3),
            (self.notify, 2),
            (self.command, 2),
            (self.reset_queue, 2),
            (self.suppress, 5),
            (self.reset, 0.5),
            *virtio_config.TABLE,
        )

    def bring_up(self, random: Random) -> BringUp:
        """Initialisation, mostly a right one."""
        features = self._always
        if random.random() < 0.6:
            for bit in self._features:
                features &= ~(bit if random.random() < 0.3 else 0)
        skip: frozenset[str] = frozenset()
        if random.random() < 0.04:
            skip = frozenset(
                {random.choice(("acknowledge", "features", "features-ok", "enable", "driver-ok"))}
            )
        # Features hold from FEATURES_OK on, in QEMU's from where they are written.
        packed = "features-ok" not in skip and random.random() < PACKED
        if packed:
            features |= 1 << Feature.RING_PACKED
        queues = random.choice((max(1, self._queues - 1), self._queues, self._queues))
        some = (*self._sizes, *ODD_SIZES) if packed else self._sizes
        sizes = tuple(random.choice(some) for _ in range(queues))
        return BringUp(features, sizes, random_vectors(random, self._queues), skip)

    def _queue(self, random: Random) -> int:
        return random.randrange(self._queues)

    def read_registers(self, random: Random) -> Registers:
        """Fields of the common configuration, of a queue that there is or not."""
        names = ("device_feature", "driver_feature", "config_msix_vector", "num_queues", "device_status")
        queue = ("queue_msix_vector", "queue_enable", "queue_notify_off", "queue_reset")
        some = random.sample((*names, *queue), 4)
        number = self._queue(random) if random.random() < 0.7 else random.choice((self._queues, 1023, 0xFFFF))
        words = (
            put("device_feature_select", random.randrange(2)),
            put("driver_feature_select", random.randrange(2)),
        )
        reads = (get("queue_size"), *map(get, some))
        return Registers("read the common configuration", (put("queue_select", number), *words, *reads))

    def isr(self, _: Random) -> Registers:
        """ISR status is read and cleared (§4.1.4.5); lowering has another window for it with vectors."""
        return Registers("read ISR status", (Read("isr", 0, 1),), tags=UNMASKED)

    def vectors(self, random: Random) -> Registers:
        """A vector is mapped (§4.1.5.1.2)."""
        vector = random.choice((*range(self._queues + 2), 0x7FF, NO_VECTOR))
        if random.random() < 0.3:
            return Registers(
                "map a vector", (put("config_msix_vector", vector), get("config_msix_vector")), tags=MAPPED
            )
        select = put("queue_select", self._queue(random))
        return Registers(
            "map a vector", (select, put("queue_msix_vector", vector), get("queue_msix_vector")), tags=MAPPED
        )

    def mask_vector(self, random: Random) -> Registers:
        """An entry of the MSI-X table, or all of them, is masked or not (PCI 3.0 §6.8.2)."""
        if random.random() < 0.3:
            return Registers(
                "mask all vectors",
                (Write("msixcap", 2, 2, random.choice((0x8000, 0x8000, 0xC000))),),
                tags=UNMASKED,
            )
        entry = random.randrange(self._queues + 1)
        write = Write("msix", 16 * entry + 12, 4, random.choice((0, 0, 1)))
        reads = Read("msix", 16 * entry + 12, 4), Read("pba", 0, 8)
        return Registers("mask a vector", (write, *reads), tags=UNMASKED)

    def notify(self, random: Random) -> Registers:
        """A notification although there is nothing new."""
        queue = self._queue(random)
        return Registers("notify", (Write("notify", 4 * queue, 2, queue),))

    def command(self, random: Random) -> Registers:
        """Interrupt Disable goes on and off (PCI 3.0 §6.2.2)."""
        value = random.choice((0x0007, 0x0407))
        return Registers(
            "write the command register",
            (Write("pci", 4, 2, value), Read("pci", 4, 2), Read("pci", 6, 2)),
            tags=UNMASKED,
        )

    def reset_queue(self, random: Random) -> ResetQueue:
        """A queue is reset."""
        return ResetQueue(self._queue(random), random.random() < 0.9)

    def suppress(self, random: Random) -> Suppress:
        """Interrupts are suppressed."""
        return Suppress(self._queue(random), random.random() < 0.5, random.choice((0, 0, 1, 2, 0x8000)))

    def in_flight(self, held: Sequence[Held], others: ActionTable) -> ActionMaker:
        """Maker of requests that are held while others are made, and other things done.

        No reset is among those: QEMU waits in it for what is held, and does nothing else then.
        """
        besides: ActionTable = (
            *others,
            (self.isr, 2),
            (self.mask_vector, 2),
            (self.notify, 1),
            (self.command, 2),
            (self.suppress, 3),
        )
        makers, weights = zip(*besides, strict=True)

        def made(random: Random) -> InFlight:
            event, submit = random.choice(held)
            chosen = random.choices(makers, weights, k=random.randint(0, MOST_MEANWHILE))
            meanwhile = tuple(_one(maker(random)) for maker in chosen)
            return InFlight(event, submit(random), meanwhile)

        return made

    def dropped(
        self,
        held: Sequence[Held],
        bring_up: Callable[[Random], BringUp],
        wanted: int = 0,
        before: Callable[[Random, int], tuple[Submit, ...]] = lambda _, __: (),
    ) -> ActionMaker:
        """Maker of requests that are held when the device or their queue is reset; they are made again.

        The driver accepts the features `wanted` then, and submits what `before` says for the queue.
        """

        def made(random: Random) -> Ended:
            event, make = random.choice(held)
            submit = make(random)
            by: BringUp | ResetQueue = ResetQueue(submit.queue, again=True)
            if random.random() < 0.5:
                up = bring_up(random)
                sizes = tuple(max(size, ENOUGH) for size in (*up.sizes, ENOUGH)[: self._queues])
                by = replace(up, features=up.features | wanted, sizes=sizes, skip=frozenset())
            return Ended(event, submit, by, (*before(random, submit.queue), submit))

        return made

    def broken(
        self,
        submit: Callable[[Random], Submit],
        bring_up: Callable[[Random], BringUp],
        quirks: Sequence[str] = QUIRKS,
    ) -> ActionMaker:
        """Maker of requests that break a ring's rules, or of an available index that does."""

        def made(random: Random) -> Broken:
            up = replace(bring_up(random), skip=frozenset())
            one = submit(random)
            if random.random() < 0.2:
                return Broken(Jump(one.queue, random.choice((257, 1000, 0xFFFF))), up)
            quirk = random.choice(quirks)
            (chain,) = one.chains
            indirect = chain.indirect or quirk.startswith("indirect")
            chain = replace(chain, quirk=quirk, indirect=indirect)
            return Broken(replace(one, chains=(chain,)), up)

        return made

    def pending(
        self, submit: Callable[[Random], Submit], bring_up: Callable[[Random], BringUp]
    ) -> ActionMaker:
        """Maker of requests whose messages are held back."""

        def made(random: Random) -> Pending:
            up = bring_up(random)
            sizes = tuple(max(size, ENOUGH) for size in (*up.sizes, ENOUGH)[: self._queues])
            vectors = tuple(range(self._queues + 1))
            up = replace(up, sizes=sizes, vectors=vectors, skip=frozenset())
            return Pending(submit(random), up, random.choice(("entry", "function", "both", "bus master")))

        return made

    def reset(self, _: Random) -> Registers:
        """The device is reset, and left so."""
        return Registers("reset", (put("device_status", 0), get("device_status")))
