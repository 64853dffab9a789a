"""Where the data that a device gives its disk to write is other data than the trace has: it has a CRC-32 of that, and
the buffer's DMA_READs.
"""

from __future__ import annotations

from collections.abc import Container

from devmodels.blockbackend import BlockBackend
from devmodels.blockbackend.resume import in_flight
from devmodels.virtio.ring import Chain
from devmodels.virtio_blk.request import HEADER_SIZE, BlkRequest
from guestsim.replay.memory import ReplayMap


def wrong_payload(backend: BlockBackend, numbers: Container[int]) -> str:
    """How the data of those of a backend's writes that have these numbers is wrong."""
    for request, number, _ in in_flight(backend):
        wrong = _wrong(request) if number in numbers and isinstance(request, BlkRequest) else ""
        if wrong:
            return wrong
    return "other data than the recorded device gave its disk"


def _wrong(request: BlkRequest) -> str:
    if not isinstance(request.dma, ReplayMap) or list(request.dma.scatter) != _payload(request.chain):
        return f"data of other memory than that of head {request.chain.head}"
    got = b"".join(request.vectors)
    expected = b"".join(request.dma.taken)
    if got == expected:
        return ""
    at = next((n for n, pair in enumerate(zip(got, expected, strict=False)) if pair[0] != pair[1]), len(got))
    return (
        f"other data than head {request.chain.head} has, from byte {at} of {len(expected)} on: "
        f"{got[at : at + 8].hex(' ')}, not {expected[at : at + 8].hex(' ')}"
    )


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
