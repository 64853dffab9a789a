"""Structures with bit fields, by the names of their fields: CDBs, parameter lists, what commands return.

    READ_CAPACITY = Layout(Struct("lba" / Int32ub, "flags" / BitStruct(Padding(7), "pmi" / Flag)))
    READ_CAPACITY.unpack(data)["pmi"]
    READ_CAPACITY.pack(lba=7)

The declarations are construct's, and so is what they mean; this reads and writes them at the cost of a `struct` and of
a shift for each bit field.  Names are flat: those of bit fields do not repeat that of their byte.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import construct

from devmodels.wire import Codec, Readable, is_bit_struct

Fields = dict[str, int]
"""The values of a structure, by name; a flag is 0 or 1."""


class Place(NamedTuple):
    """Where a field is: its first byte, its lowest bit in the big-endian number of `size` bytes there, its width."""

    offset: int
    size: int
    shift: int
    width: int

    @property
    def mask(self) -> int:
        """Its bits in that number."""
        return ((1 << self.width) - 1) << self.shift


def _bits(part: construct.Construct) -> list[tuple[str, int, int]]:
    """The named fields of a `BitStruct`: name, lowest bit, width."""
    found = []
    at = 8 * part.sizeof()
    for member in part.subcon.subcons:
        width = member.sizeof()
        at -= width
        if member.name:
            found.append((member.name, at, width))
    return found


class Layout:
    """A structure of fixed size; `names` are those of its fields, `places` where they are."""

    __slots__ = ("_bits", "_nothing", "_plain", "_slots", "codec", "declaration", "names", "places", "size")

    def __init__(self, declaration: construct.Struct) -> None:
        self.declaration = declaration
        self.codec = codec = Codec.of(declaration)
        self.size = codec.size
        self.places: dict[str, Place] = {}
        self._plain: list[tuple[str, int]] = []
        self._bits: list[tuple[str, int, int, int]] = []
        self._nothing: list[int | bytes] = [0] * len(codec.names)
        self._slots: dict[str, tuple[int, int, int]] = {}
        """By name: which of the codec's values, its lowest bit there, its greatest value (0 for bytes)."""
        parts = {part.name: part.subcon for part in declaration.subcons if part.name}
        for index, name in enumerate(codec.names):
            offset, size = codec.offsets[name], codec.sizes[name]
            part = parts.get(name)
            if part is not None and is_bit_struct(part):
                for bit_name, shift, width in _bits(part):
                    self.places[bit_name] = Place(offset, size, shift, width)
                    self._bits.append((bit_name, index, shift, (1 << width) - 1))
                    self._slots[bit_name] = index, shift, (1 << width) - 1
                continue
            self.places[name] = Place(offset, size, 0, 8 * size)
            if isinstance(part, construct.Bytes):
                self._nothing[index] = b""
                self._slots[name] = index, 0, 0
            else:
                self._plain.append((name, index))
                self._slots[name] = index, 0, (1 << 8 * size) - 1
        self.names = tuple(self.places)

    def unpack(self, buffer: Readable, offset: int = 0) -> Fields:
        """The values at `offset`, those of `Bytes` left out; struct.error where the buffer is too short."""
        values = cast("tuple[int, ...]", self.codec.unpack_from(buffer, offset))
        fields = {name: values[index] for name, index in self._plain}
        for name, index, shift, mask in self._bits:
            fields[name] = values[index] >> shift & mask
        return fields

    def pack(self, **values: int | bytes) -> bytes:
        """The structure with these values; what is not given is 0, and -1 is all ones.

        KeyError for a name that is not there, ValueError for a value that does not fit.
        """
        out = list(self._nothing)
        for name, value in values.items():
            index, shift, mask = self._slots[name]
            if isinstance(value, bytes):
                if mask:
                    raise ValueError(f"{name} is bytes, expected 0 to {mask}")
                if len(value) > self.places[name].size:
                    raise ValueError(f"{name} is {len(value)} bytes, expected {self.places[name].size}")
                out[index] = value
            elif not -1 <= value <= mask:
                raise ValueError(f"{name} is {value}, expected 0 to {mask}")
            else:
                out[index] |= (value & mask) << shift  # type: ignore[operator]
        return self.codec.pack(*out)
