"""One virtqueue of either layout: from where it is to what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.inspect.packed import inspect_packed
from guestsim.inspect.split import inspect_split

if TYPE_CHECKING:
    from guestsim.inspect.image import MemoryImage
    from guestsim.inspect.state import QueueState, Virtqueue


def inspect_queue(image: MemoryImage, queue: Virtqueue) -> QueueState:
    """The state of one virtqueue; whatever memory holds, this returns."""
    return inspect_packed(image, queue) if queue.packed else inspect_split(image, queue)
