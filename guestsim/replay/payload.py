"""What a device gives its disk to write: what it has read of the buffer for that, and nothing else.

A trace has the data of a write only as the DMA_READs of its buffer: it is held against those.
"""

from __future__ import annotations

from devmodels.blockbackend.request import Request
from devmodels.virtio.ring import Chain
from devmodels.virtio_blk.device import HEADER_SIZE, BlkRequest
from guestsim.replay.memory import ReplayMap


def wrong_payload(request: Request) -> str:
    """What is wrong with the data that `request`, a write, brings to the disk; empty where nothing is."""
    data = b"".join(request.vectors)
    if len(data) != request.length:
        return f"{len(data)} bytes of data, expected {request.length}"
    for root in request.roots():
        if not isinstance(root, BlkRequest):
            continue
        if not isinstance(root.dma, ReplayMap) or list(root.dma.scatter) != _payload(root.chain):
            return f"data of other memory than that of head {root.chain.head}"
        start = root.offset - request.offset
        expected = b"".join(root.dma.taken)
        got = data[start : start + root.length]
        if got != expected:
            at = next(
                (n for n, pair in enumerate(zip(got, expected, strict=False)) if pair[0] != pair[1]), len(got)
            )
            return (
                f"other data than head {root.chain.head} has, from byte {at} of {len(expected)} on: "
                f"{got[at : at + 8].hex(' ')}, not {expected[at : at + 8].hex(' ')}"
            )
    return ""


def _payload(chain: Chain) -> list[tuple[int, int]]:
    """Where the data of a write is: behind the header (VIRTIO 1.4 §5.2.6)."""
    left = HEADER_SIZE
    places: list[tuple[int, int]] = []
    for address, length in chain.readable:
        cut = min(left, length)
        left -= cut
        if length > cut:
            places.append((address + cut, length - cut))
    return places
