"""Options that devices of several types have: judged, and what follows from them."""

from __future__ import annotations

from devmodels.virtio.constants import MAX_QUEUE_SIZE


def require(name: str, value: int, good: bool, expected: str) -> None:
    """ValueError where `value` is not `good`."""
    if not good:
        raise ValueError(f"{name} is {value}, expected {expected}")


def check_queue_size(name: str, size: int, *, packed: bool) -> None:
    """ValueError where a ring cannot have that size.

    A request is mostly a chain of three: its header, its status, and data.
    """
    if packed:
        require(name, size, 3 <= size <= MAX_QUEUE_SIZE, f"3 to {MAX_QUEUE_SIZE}")
    else:
        good = not size & (size - 1) and 4 <= size <= MAX_QUEUE_SIZE
        require(name, size, good, f"a power of two from 4 to {MAX_QUEUE_SIZE}")


def segments(seg_max: int, size: int) -> int:
    """The number of data segments that a request may have: `seg_max`, or what fits a split ring of `size` too."""
    return seg_max or max(1, (1 << size.bit_length() - 1) - 2)
