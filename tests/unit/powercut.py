"""A disk with a volatile write cache, and what is left of it when its power is cut."""

from __future__ import annotations

from devmodels.blockbackend import BlockNode
from devmodels.blockbackend.drivers.volatile_cache import VolatileCacheNode


def volatile(size: int) -> dict[str, object]:
    """A block device of `size` bytes that keeps nothing of a write before a flush, or FUA, asks for it."""
    return {
        "driver": "volatile-cache",
        "node-name": "d0",
        "file": {"driver": "memory", "size": size, "discard": "unmap"},
    }


def cut(node: BlockNode) -> bytes:
    """Cut the power of a `volatile` device; all that is left."""
    assert isinstance(node, VolatileCacheNode)
    node.context.run(node.cut("none"))
    left = bytearray(node.size)
    assert node.file.read_now(((0, (memoryview(left),), len(left)),))
    return bytes(left)
