"""Actions of a driver of any virtio function: status, features, queues, requests (VIRTIO 1.4 §2, §3.1, §4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from guestsim.diff.access import Access, Read, Write
from guestsim.diff.arena import MESSAGES
from guestsim.diff.grammar import Action
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.grammar.virtio_chains import Chain, joined
from guestsim.drivers.layouts import COMMON_CFG, NO_VECTOR, Feature


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
                yield self._with(number, replace(chain, pieces=joined(chain.pieces, at)))

    def _with(self, number: int, chain: Chain) -> Submit:
        return replace(self, chains=(*self.chains[:number], chain, *self.chains[number + 1 :]))


MOST_MEANWHILE = 4
"""How many things are done at most while a request is held."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request is held at its drive by a break point, where `event` comes, and other things are done meanwhile."""

    event: str
    submit: Submit
    meanwhile: tuple[Action, ...]

    def simpler(self) -> Iterator[Action]:
        """It is not held, less is done, a plainer request."""
        yield self.submit
        for at, action in enumerate(self.meanwhile):
            before, after = self.meanwhile[:at], self.meanwhile[at + 1 :]
            yield replace(self, meanwhile=before + after)
            yield from (replace(self, meanwhile=(*before, one, *after)) for one in action.simpler())
        for one in self.submit.simpler():
            assert isinstance(one, Submit)
            yield replace(self, submit=one)


@dataclass(frozen=True, slots=True)
class Ended:
    """A request is held at its drive, where `event` comes, and `by` ends it; then those of `again` are made.

    `by` is task management, a reset of the device, or one of the queue.  `drains`: QEMU, whose logical unit is reset
    by it, waits there until what is held is over.
    """

    event: str
    submit: Submit
    by: Submit | BringUp | ResetQueue
    again: tuple[Submit, ...] = ()
    drains: bool = False

    def simpler(self) -> Iterator[Action]:
        """Only the request, nothing again, a plainer one."""
        if self.again:
            yield replace(self, again=())
        yield self.submit
        for one in self.submit.simpler():
            assert isinstance(one, Submit)
            yield replace(self, submit=one)


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
    """The available index goes on by `by`, more than there is room for, without new buffers (§2.7.13.3).

    The table of descriptors is zeroes then: QEMU, which does not look at how far the index went, takes what was there.
    """

    queue: int
    by: int

    def simpler(self) -> Iterator[Action]:
        """Nothing is."""
        yield from ()


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule of rings is broken, ISR status is read, and the driver begins anew (§2.1.2)."""

    wrong: Submit | Jump
    up: BringUp

    def simpler(self) -> Iterator[Action]:
        """Only the initialisation, a plainer request."""
        yield self.up
        for one in self.wrong.simpler():
            assert isinstance(one, Submit)
            yield replace(self, wrong=one)
        for two in self.up.simpler():
            assert isinstance(two, BringUp)
            yield replace(self, up=two)


@dataclass(frozen=True, slots=True)
class Pending:
    """After an initialisation with vectors a request is over while its message is held `by` something.

    Then nothing holds the message back any more (PCI 3.0 §6.8.3.4).  `by` is `entry`, `function` (the two masks),
    `both`, or `bus master`: the entry is masked first, and not any more while the function may not reach memory.
    """

    submit: Submit
    up: BringUp
    by: str

    def simpler(self) -> Iterator[Action]:
        """Only the initialisation, a plainer request."""
        yield self.up
        for one in self.submit.simpler():
            assert isinstance(one, Submit)
            yield replace(self, submit=one)


@dataclass(frozen=True, slots=True)
class Anew:
    """Registers are accessed before an initialisation and after it: what a reset does to them is seen."""

    before: Registers
    up: BringUp
    after: Registers

    def simpler(self) -> Iterator[Action]:
        """Only the initialisation."""
        yield self.up


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
