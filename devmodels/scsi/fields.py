"""Structures with bit fields, by the names of their fields: CDBs, parameter lists, what commands return.

    READ_CAPACITY = Layout(
        Codec.of(lambda c: c.Struct("lba" / c.Int32ub, "flags" / c.BitStruct(c.Padding(7), "pmi" / c.Flag)))
    )
    READ_CAPACITY.unpack(data)["pmi"]
    READ_CAPACITY.pack(lba=7)

The declarations are construct's, and so is what they mean; this reads and writes them at the cost of a `struct` and of
a shift for each bit field.  Names are flat: those of bit fields do not repeat that of their byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from devmodels.wire import Codec, Readable, is_bit_struct

if TYPE_CHECKING:
    import construct

Fields = dict[str, int]
"""The values of a structure, by name; a flag is 0 or 1."""


class Place(msgspec.Struct, frozen=True):
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
    """A structure of fixed size; `names` are those of its fields, `places` where they are.

    As its codec's, all of it is made when something of it is first wanted.
    """

    __slots__ = ("_bits", "_nothing", "_plain", "_slots", "codec", "names", "places", "size")

    places: dict[str, Place]
    names: tuple[str, ...]
    size: int
    _nothing: list[int | bytes]
    _plain: list[tuple[str, int]]
    _bits: list[tuple[str, int, int, int]]
    _slots: dict[str, tuple[int, int, int]]
    """By name: which of the codec's values, its lowest bit there, its greatest value (0 for bytes)."""

    def __init__(self, codec: Codec[int | bytes]) -> None:
        self.codec = codec

    def __getattr__(self, name: str) -> object:
        """What is not there yet: everything is, once anything was asked for."""
        if name not in _DERIVED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._derive()
        return getattr(self, name)

    def _derive(self) -> None:
        import construct

        codec = self.codec
        places: dict[str, Place] = {}
        plain: list[tuple[str, int]] = []
        bits: list[tuple[str, int, int, int]] = []
        nothing: list[int | bytes] = [0] * len(codec.names)
        slots: dict[str, tuple[int, int, int]] = {}
        parts = {part.name: part.subcon for part in self.declaration.subcons if part.name}
        for index, name in enumerate(codec.names):
            offset, size = codec.offsets[name], codec.sizes[name]
            part = parts.get(name)
            if part is not None and is_bit_struct(part):
                for bit_name, shift, width in _bits(part):
                    places[bit_name] = Place(offset, size, shift, width)
                    bits.append((bit_name, index, shift, (1 << width) - 1))
                    slots[bit_name] = index, shift, (1 << width) - 1
                continue
            places[name] = Place(offset, size, 0, 8 * size)
            if isinstance(part, construct.Bytes):
                nothing[index] = b""
                slots[name] = index, 0, 0
            else:
                plain.append((name, index))
                slots[name] = index, 0, (1 << 8 * size) - 1
        # Other threads may look at the same time: each is whole when it can be seen.
        self.places, self.names, self.size = places, tuple(places), codec.size
        self._plain, self._bits, self._nothing, self._slots = plain, bits, nothing, slots

    @property
    def declaration(self) -> construct.Struct:
        """construct's."""
        return self.codec.declaration

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


_DERIVED = frozenset(Layout.__slots__) - {"codec"}
