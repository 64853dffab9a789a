"""What is known of a virtqueue from memory alone, as plain data: the shape of `guestsim inspect --json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from guestsim.drivers.layouts import Feature

Placement = Literal["in flight", "available"]
"""`in flight`: not used yet, and the device is known to have taken it or not known to have left it; `available`: the
device has said that it will look at this entry only later."""


@dataclass(frozen=True, slots=True)
class Virtqueue:
    """Where a virtqueue lies: `desc`, `driver`, `device` as in the transport's registers (VIRTIO 1.4 §2.6).

    `driver` and `device` of a packed ring may be None: unknown.  `features` are those negotiated, None where nobody
    says.  `kind` is what its buffers are: requests of a block device, something else, or to be guessed.
    """

    desc: int
    driver: int | None
    device: int | None
    size: int
    packed: bool = False
    features: frozenset[Feature] | None = None
    kind: Literal["blk", "other", "guess"] = "guess"

    def has(self, feature: Feature) -> bool:
        """Whether `feature` is known to be negotiated."""
        return self.features is not None and feature in self.features

    def lacks(self, feature: Feature) -> bool:
        """Whether `feature` is known not to be negotiated."""
        return self.features is not None and feature not in self.features


class Problem(msgspec.Struct, frozen=True):
    """Something that the specification forbids: `clause` as in "VIRTIO 1.4 §2.7.5"."""

    clause: str
    text: str


class Part(msgspec.Struct, frozen=True):
    """One element of a buffer: `length` bytes at guest-physical `address`."""

    address: int
    length: int
    writable: bool


class BlkRequest(msgspec.Struct, frozen=True):
    """A buffer read as a request of a block device (VIRTIO 1.4 §5.2.6).

    `length` is the data's in bytes, in `segments` pieces; `status_at` the address of the status byte, `status` what it
    holds; both None where there is none.  `type_name` is None for a type that the specification doesn't have.
    """

    type: int
    type_name: str | None
    sector: int
    length: int
    segments: int
    status_at: int | None
    status: int | None


class Buffer(msgspec.Struct, frozen=True):
    """A buffer that the driver has made available and not got back.

    `id` is the head in a split ring, the buffer id in a packed one; `slot` the entry of the available ring, or the
    first descriptor in the packed ring.
    """

    id: int
    slot: int
    placement: Placement
    indirect: bool
    parts: list[Part]
    request: BlkRequest | None


class QueueState(msgspec.Struct):
    """A virtqueue at one moment.

    `indices` are numbers read from the rings or derived from them, by name; `outstanding` is how many buffers the
    device has or may take, of which `buffers` are those that can be named, oldest first.  `slots` has one letter for
    each entry of the available ring (split) or each descriptor (packed): F in flight, A available, `.` neither.
    `score` (to 100) and `why` say of a queue that was found how likely it is one.
    """

    desc: int
    driver: int | None
    device: int | None
    size: int
    packed: bool
    indices: dict[str, int] = {}
    outstanding: int = 0
    buffers: list[Buffer] = []
    problems: list[Problem] = []
    notes: list[str] = []
    slots: str = ""
    score: int | None = None
    why: list[str] = []
