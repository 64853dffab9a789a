"""Where a command's header, response and data lie in its buffer, for one choice of `cdb_size` and `sense_size`."""

from __future__ import annotations

import struct
from functools import cached_property

from devmodels.virtio.ring import Chain
from devmodels.virtio_scsi.habits import STRICT, Habits
from devmodels.virtio_scsi.layout import COMMAND_FIXED, COMMAND_SIZE, RESPONSE_FIXED, RESPONSE_SIZE


class Framing:
    """`header` unpacks LUN, tag, attribute, priority, CRN and CDB; `response` makes a whole response."""

    def __init__(
        self, *, sense_size: int, cdb_size: int, habits: Habits = STRICT, any_layout: bool = True
    ) -> None:
        self.habits = habits
        self._by_piece = habits.by_piece and not any_layout
        self.header_size = COMMAND_SIZE + cdb_size
        self.cdb_size = cdb_size
        self.sense_size = sense_size
        self.response_size = RESPONSE_SIZE + sense_size
        self._shortest = RESPONSE_SIZE if habits.short_responses else self.response_size
        self.good = bytes(self._shortest)
        """The response of a command that has done all that was wanted."""

    @cached_property
    def header(self) -> struct.Struct:  # noqa: D102
        return struct.Struct(f"{COMMAND_FIXED.layout.format}{self.cdb_size}s")

    def response(self, response: int, status: int = 0, residual: int = 0, sense: bytes = b"") -> bytes:
        """A response; sense data is cut to the driver's room for it."""
        sense = sense[: self.sense_size]
        header = RESPONSE_FIXED.pack(len(sense), residual & 0xFFFF_FFFF, 0, status, response)
        return (header + sense).ljust(self._shortest, b"\0")

    def begins(self, chain: Chain) -> tuple[int, int]:
        """Where the data of a buffer begins, in its readable and its writable part; they are long enough."""
        if self._by_piece:
            return chain.readable[0][1], chain.writable[0][1]
        return self.header_size, self.response_size

    def used(self, chain: Chain, written: int, sent: int) -> int:
        """`used.len` of a buffer with so many bytes of a response, and of data; 0 where no response was written."""
        if not written:
            return 0
        if self.habits.counts_all:
            if chain.readable_bytes < self.header_size or chain.writable_bytes < self.response_size:
                return chain.writable_bytes
            head, answer = self.begins(chain)
            return chain.readable_bytes - head + chain.writable_bytes - answer + self.response_size
        return written + sent
