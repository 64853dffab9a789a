"""Where a command's header, response and data lie in its buffer, for one choice of `cdb_size` and `sense_size`."""

from __future__ import annotations

import struct

from devmodels.virtio_scsi.layout import COMMAND_FIXED, RESPONSE_FIXED
from devmodels.wire import Codec

_COMMAND = Codec.of(COMMAND_FIXED).layout
_RESPONSE = Codec.ints(RESPONSE_FIXED).layout
RESPONSE_HEADER_SIZE = _RESPONSE.size


class Framing:
    """`header` unpacks LUN, tag, attribute, priority, CRN and CDB; `response` makes a whole response."""

    __slots__ = ("cdb_size", "good", "header", "header_size", "response_size", "sense_size")

    def __init__(self, *, sense_size: int, cdb_size: int) -> None:
        self.header = struct.Struct(f"{_COMMAND.format}{cdb_size}s")
        self.header_size = self.header.size
        self.cdb_size = cdb_size
        self.sense_size = sense_size
        self.response_size = _RESPONSE.size + sense_size
        self.good = bytes(self.response_size)
        """The response of a command that has done all that was wanted."""

    def response(self, response: int, status: int = 0, residual: int = 0, sense: bytes = b"") -> bytes:
        """A response; sense data is cut to the driver's room for it."""
        sense = sense[: self.sense_size]
        header = _RESPONSE.pack(len(sense), residual & 0xFFFF_FFFF, 0, status, response)
        return (header + sense).ljust(self.response_size, b"\0")
