"""What all structures of a script have in common, and numbers as scripts have them, with their bounds."""

from __future__ import annotations

from typing import Annotated

import msgspec

from guestsim.drivers.layouts import MAX_QUEUE_SIZE

Bit = Annotated[int, msgspec.Meta(ge=0, le=127)]
Whole = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=1000)]
U8 = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class Part(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    """What all structures of a script have in common."""


def check_bits(name: str, value: int, size: int) -> None:
    """ValueError unless `value` fits into `size` bytes."""
    if value >> 8 * size:
        raise ValueError(f"{name} {value:#x}, expected at most {8 * size} bits")


def check_queue_size(name: str, size: int | None) -> None:
    """ValueError unless `size` may be a queue's (VIRTIO 1.4 §2.7, §2.8; a split one's must be a power of two)."""
    if size is not None and size > MAX_QUEUE_SIZE:
        raise ValueError(f"{name} {size}, expected 1 to {MAX_QUEUE_SIZE}")
