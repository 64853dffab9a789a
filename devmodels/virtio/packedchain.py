"""One buffer of a packed virtqueue, from its descriptors: VIRTIO 1.4 §2.8.5 to §2.8.7.

Friends of `PackedRing`'s, which has found its first descriptor available.  What breaks the ring raises `RingError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.memoryregions import GuestMemoryError
from devmodels.virtio.layout import (
    DESC_SIZE,
    PVIRTQ_DESC,
    VIRTQ_DESC_F_INDIRECT,
    VIRTQ_DESC_F_NEXT,
    VIRTQ_DESC_F_WRITE,
)
from devmodels.virtio.ring import Chain, RingError

if TYPE_CHECKING:
    from devmodels.virtio.packed import PackedRing

MAX_WRITABLE = 0xFFFF_FFFF
"""Most bytes of a buffer that a used descriptor can say were written."""


def usual(ring: PackedRing, chain: Chain, turn: int, three: tuple[int, ...]) -> bool:
    """Whether the chain is three elements without going round: something to read, something, something to write.

    That is how most requests come, as a list or in a table, and one access gets them; whatever else there is, is
    for `walk` to judge.  `turn` is what makes a descriptor available now.
    """
    address, length, ident, flags, data, size, _, data_flags, status, room, last, end_flags = three
    if flags == turn | VIRTQ_DESC_F_INDIRECT:
        if length != 3 * DESC_SIZE or not ring._indirect:
            return False
        chain.count = 1
        try:
            entries = ring._memory.unpack(address, ring._three)
        except GuestMemoryError:
            return False
        address, length, _, flags, data, size, _, data_flags, status, room, _, end_flags = entries
    else:
        chain.count = 3
        if not ring.LOOSE:
            ident = last
        turn |= VIRTQ_DESC_F_NEXT
        flags ^= turn
        data_flags ^= turn
        end_flags ^= turn ^ VIRTQ_DESC_F_NEXT
    if flags or end_flags != VIRTQ_DESC_F_WRITE or size + room > MAX_WRITABLE:
        return False
    chain.head = ident
    if data_flags == VIRTQ_DESC_F_WRITE:
        chain.readable = [(address, length)]
        chain.writable = [(data, size), (status, room)]
        chain.readable_bytes = length
        chain.writable_bytes = size + room
    elif not data_flags:
        chain.readable = [(address, length), (data, size)]
        chain.writable = [(status, room)]
        chain.readable_bytes = length + size
        chain.writable_bytes = room
    else:
        return False
    return True


def walk(ring: PackedRing, chain: Chain, place: int, room: int) -> int:
    """Follow `chain` from `place`, where there is `room`; returns how many elements it has."""
    address, length, ident, flags = ring._fetch(place % ring.size * DESC_SIZE)
    chain.head = ident
    chain.count = 1
    readable: list[tuple[int, int]] = []
    writable: list[tuple[int, int]] = []
    chain.readable = readable
    chain.writable = writable
    if flags & VIRTQ_DESC_F_INDIRECT:
        chain.readable_bytes = chain.writable_bytes = 0
        return walk_table(ring, chain, address, length, flags)
    readable_bytes = writable_bytes = held = 0
    while True:
        held += 1
        if flags & VIRTQ_DESC_F_INDIRECT and not ring.LOOSE:
            raise RingError(
                "VIRTIO 1.4 §2.8.19",
                f"indirect descriptor at {place % ring.size} in a list linked by NEXT",
                PVIRTQ_DESC.pack(address, length, ident, flags),
            )
        if flags & VIRTQ_DESC_F_WRITE:
            writable.append((address, length))
            writable_bytes += length
        elif writable:
            raise _read_after_write(place % ring.size, PVIRTQ_DESC.pack(address, length, ident, flags))
        else:
            readable.append((address, length))
            readable_bytes += length
        if not flags & VIRTQ_DESC_F_NEXT:
            break
        if held == room:
            raise RingError(
                "VIRTIO 1.4 §2.8.17",
                f"a list goes on after the descriptor at {place % ring.size}, and the ring has room for {room}",
                PVIRTQ_DESC.pack(address, length, ident, flags),
            )
        place += 1
        if place == ring._twice:
            place = 0
        if not ring.is_available(place):
            raise RingError(
                "VIRTIO 1.4 §2.8.17",
                f"a list goes on at {place % ring.size}, which is not available",
                ring.bytes_at(place),
            )
        address, length, ident, flags = ring._fetch(place % ring.size * DESC_SIZE)
    if not ring.LOOSE:
        chain.head = ident
    chain.count = held
    chain.readable_bytes = readable_bytes
    chain.writable_bytes = writable_bytes
    if writable_bytes > MAX_WRITABLE:
        raise _too_long(ident)
    return held


def walk_table(ring: PackedRing, chain: Chain, address: int, length: int, flags: int) -> int:
    """Take `chain` from the whole indirect table that its descriptor refers to; returns how many entries it has.

    Of an entry's flags only WRITE counts, of the descriptor's WRITE does not (VIRTIO 1.4 §2.8.7).
    """
    data = PVIRTQ_DESC.pack(address, length, chain.head, flags)
    if not ring._indirect:
        raise RingError("VIRTIO 1.4 §2.8.19", "indirect descriptor without VIRTIO_F_INDIRECT_DESC", data)
    if flags & VIRTQ_DESC_F_NEXT and not ring.LOOSE:
        raise RingError("VIRTIO 1.4 §2.8.19", "descriptor with both INDIRECT and NEXT", data)
    if not length or length % DESC_SIZE:
        raise RingError("VIRTIO 1.4 §2.8.7", f"indirect table of {length} bytes", data)
    entries = length // DESC_SIZE
    if entries > ring._max_chain:
        raise RingError(
            "VIRTIO 1.4 §2.8.19",
            f"indirect table of {entries} entries, {ring._max_chain} are allowed",
            data,
        )
    try:
        table = ring._memory.read(address, length)
    except GuestMemoryError as error:
        raise RingError("VIRTIO 1.4 §2.8.7", f"indirect table outside memory: {error}", data) from error
    readable = chain.readable
    writable = chain.writable
    odd = 0
    for number, (at, size, _, flag) in enumerate(PVIRTQ_DESC.layout.iter_unpack(table)):
        odd |= flag
        if flag & VIRTQ_DESC_F_WRITE:
            writable.append((at, size))
            chain.writable_bytes += size
        elif writable:
            raise _read_after_write(number, PVIRTQ_DESC.pack(at, size, 0, flag))
        else:
            readable.append((at, size))
            chain.readable_bytes += size
    if odd & ~VIRTQ_DESC_F_WRITE:
        ring._report("VIRTIO 1.4 §2.8.19", f"flags {odd:#x} in an indirect table", data)
    if chain.writable_bytes > MAX_WRITABLE:
        raise _too_long(chain.head)
    return entries


def _read_after_write(at: int, data: bytes) -> RingError:
    return RingError(
        "VIRTIO 1.4 §2.8.17", f"device-readable descriptor {at} after a device-writable one", data
    )


def _too_long(ident: int) -> RingError:
    return RingError(
        "VIRTIO 1.4 §2.8.4", f"buffer {ident} has more writable bytes than a used descriptor can count"
    )
