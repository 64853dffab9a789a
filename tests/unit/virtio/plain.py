"""A guest's memory as plain bytearrays, and a `GuestMemory` over it: shared, bounced, or both in turn."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import cycle, product

import pytest

from devmodels.memory import GuestMemory
from devmodels.memoryregions import BouncedRegion, Region, SharedRegion

CHUNK = 4096


class Kind(Enum):
    SHARED = "shared"
    BOUNCED = "bounced"
    MIXED = "mixed"


kinds = pytest.mark.parametrize("kind", Kind)


def each_in_turn(sizes: Sequence[int], features: Sequence[int]) -> list[tuple[int, int, Kind]]:
    """Every size with all the features, over the kinds of memory in turn."""
    return [(*both, kind) for both, kind in zip(product(sizes, features), cycle(Kind), strict=False)]


@dataclass
class Block:
    """A range of guest memory: `data` begins at guest address `base`."""

    base: int
    data: bytearray
    readonly: bool = False

    @property
    def end(self) -> int:
        return self.base + len(self.data)


class PlainMemory:
    """What the guest itself sees; neighbouring blocks are one range to it."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks

    def block_at(self, address: int) -> Block | None:
        for block in self.blocks:
            if block.base <= address < block.end:
                return block
        return None

    def present(self, address: int, length: int, *, write: bool = False) -> bool:
        """Whether a device can reach the whole range."""
        if address + length > 1 << 64:
            return False
        while length:
            block = self.block_at(address)
            if block is None or (write and block.readonly):
                return False
            step = min(length, block.end - address)
            address += step
            length -= step
        return True

    def load(self, address: int, length: int) -> bytes:
        out = bytearray()
        while length:
            block = self.block_at(address)
            assert block is not None, f"no memory at {address:#x}"
            at = address - block.base
            piece = block.data[at : at + length]
            out += piece
            address += len(piece)
            length -= len(piece)
        return bytes(out)

    def store(self, address: int, data: bytes) -> None:
        while data:
            block = self.block_at(address)
            assert block is not None, f"no memory at {address:#x}"
            at = address - block.base
            piece = data[: block.end - address]
            block.data[at : at + len(piece)] = piece
            address += len(piece)
            data = data[len(piece) :]

    def unpack(self, layout: str, address: int) -> tuple[int, ...]:
        return struct.unpack(layout, self.load(address, struct.calcsize(layout)))

    def pack(self, layout: str, address: int, *values: int) -> None:
        self.store(address, struct.pack(layout, *values))

    def copy(self) -> PlainMemory:
        return PlainMemory([Block(b.base, bytearray(b.data), b.readonly) for b in self.blocks])

    def differences(self, other: PlainMemory) -> list[int]:
        """Addresses where the two differ."""
        out = []
        for mine, theirs in zip(self.blocks, other.blocks, strict=True):
            for start in range(0, len(mine.data), CHUNK):
                ours, others = mine.data[start : start + CHUNK], theirs.data[start : start + CHUNK]
                if ours != others:
                    pairs = enumerate(zip(ours, others, strict=True), mine.base + start)
                    out += [address for address, (a, b) in pairs if a != b]
        return out


def shared(block: Block, on_release: Callable[[], None] | None = None) -> SharedRegion:
    return SharedRegion(block.base, block.data, readonly=block.readonly, on_release=on_release)


def bounced(block: Block, on_release: Callable[[], None] | None = None) -> BouncedRegion:
    def read(address: int, length: int) -> bytes:
        at = address - block.base
        assert block.base <= address <= block.end - length
        return bytes(block.data[at : at + length])

    def write(address: int, data: bytes) -> None:
        at = address - block.base
        assert not block.readonly
        assert block.base <= address <= block.end - len(data)
        block.data[at : at + len(data)] = data

    return BouncedRegion(
        block.base, len(block.data), read, write, readonly=block.readonly, on_release=on_release
    )


def regions(plain: PlainMemory, kind: Kind) -> list[Region]:
    """One region for each block; a mixed memory begins with a shared one."""
    made: list[Region] = []
    for number, block in enumerate(plain.blocks):
        share = kind is Kind.SHARED or (kind is Kind.MIXED and number % 2 == 0)
        made.append(shared(block) if share else bounced(block))
    return made


def guest_memory(plain: PlainMemory, kind: Kind) -> GuestMemory:
    return GuestMemory(*regions(plain, kind))
