"""Fixed-layout wire formats: declared once with construct, packed and unpacked on the hot path with `struct`.

    EVENT = Codec.ints(lambda c: c.Struct("desc" / c.Int16ul, "flags" / c.Int16ul))
    desc, flags = EVENT.unpack_from(buffer, offset)

What has a `struct` equivalent: integers of 1, 2, 4 and 8 bytes, `Bytes(n)`, `Padding(n)`, `Const`, a `BitStruct` of
1, 2, 4 or 8 bytes (as one big-endian integer), and arrays of a fixed count and structures of those.  Everything else
(a length that depends on a field, a choice, an adapter) is refused when the codec is made, or first used.
construct 2.10: https://construct.readthedocs.io/
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, cast

import msgspec

if TYPE_CHECKING:
    from mmap import mmap
    from types import ModuleType

    import construct

Value = TypeVar("Value", int, int | bytes)
Declare: TypeAlias = "Callable[[ModuleType], construct.Construct]"
Readable: TypeAlias = "bytes | bytearray | memoryview | mmap"
Writable: TypeAlias = "bytearray | memoryview | mmap"

_INTEGERS = frozenset("bBhHlLqQ")
_UNSIGNED = {1: "B", 2: "H", 4: "L", 8: "Q"}


class LayoutError(TypeError):
    """A declaration has no fixed layout, or one that `struct` cannot express."""


class WireError(ValueError):
    """Bytes do not have the constant that their layout demands."""


class _Item(msgspec.Struct, frozen=True):
    """One entry of the flattened layout; `name` is "" for padding and unnamed constants."""

    name: str
    code: str
    order: str
    size: int
    constant: int | bytes | None

    @property
    def is_value(self) -> bool:
        return not self.code.endswith("x") and self.constant is None


class Codec(Generic[Value]):
    """The `struct` form of a construct declaration.

    `unpack_from(buffer, offset)` gives the values as a flat tuple in the order of `names` (`header.type`, `ring[3]`;
    constants are checked and left out: `WireError`); `pack_into(buffer, offset, *values)` and `pack(*values)` take the
    same.  A buffer that is too short or a value that does not fit is a `struct.error`: the caller's mistake.
    `parse` and `build` are construct's own, for slow paths.

    A declaration is construct's, or a function that makes one of its argument, the module construct: it is called when
    something of the codec is first wanted.  construct is slow to import, and a machine starts without it.
    """

    __slots__ = (
        "_declare",
        "_integers",
        "declaration",
        "layout",
        "names",
        "offsets",
        "pack",
        "pack_into",
        "size",
        "sizes",
        "unpack_from",
    )

    declaration: construct.Construct
    layout: struct.Struct
    """The `struct.Struct` itself (constants and all)."""
    names: tuple[str, ...]
    offsets: dict[str, int]
    size: int
    sizes: dict[str, int]
    unpack_from: Callable[[Readable, int], tuple[Value, ...]]
    pack_into: Callable[..., None]
    pack: Callable[..., bytes]

    def __init__(self, declaration: construct.Construct | Declare, *, integers: bool) -> None:
        self._integers = integers
        if callable(declaration):
            self._declare = declaration
        else:
            self._derive(declaration)

    def __getattr__(self, name: str) -> object:
        """What is not there yet: everything is, once anything was asked for."""
        if name not in _DERIVED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        import construct

        self._derive(self._declare(construct))
        return getattr(self, name)

    def _derive(self, declaration: construct.Construct) -> None:
        items = list(_flatten(declaration, ""))
        for item in items if self._integers else ():
            if item.is_value and item.code[-1] == "s":
                raise LayoutError(f"{item.name} is bytes: use Codec.of")
        orders = {item.order for item in items if item.order}
        if len(orders) > 1:
            raise LayoutError("little- and big-endian integers in one structure have no struct form")
        layout = struct.Struct((orders.pop() if orders else "<") + "".join(item.code for item in items))
        self.declaration = declaration
        self.size = layout.size
        self.names = tuple(item.name for item in items if item.is_value)
        self.offsets = _offsets(items)
        self.sizes = {item.name: item.size for item in items if item.name}
        self.layout = layout
        if any(item.constant is not None for item in items):
            self.unpack_from, self.pack_into, self.pack = _with_constants(layout, items)
        else:
            self.unpack_from = layout.unpack_from
            self.pack_into = layout.pack_into
            self.pack = layout.pack

    @classmethod
    def of(cls, declaration: construct.Construct | Declare) -> Codec[int | bytes]:
        """Derive the codec of a construct `Struct`; `LayoutError` names the part that has no fixed layout."""
        return Codec[int | bytes](declaration, integers=False)

    @classmethod
    def ints(cls, declaration: construct.Construct | Declare) -> Codec[int]:
        """As `of`, for a structure of integers alone, whose values are then typed as such."""
        return Codec[int](declaration, integers=True)

    def times(self, count: int) -> struct.Struct:
        """`count` of them, one after the other."""
        order, items = self.layout.format[0], self.layout.format[1:]
        return struct.Struct(order + count * items)

    def parse(self, data: bytes | bytearray | memoryview) -> construct.Container:
        """construct's parse of `data`."""
        return self.declaration.parse(bytes(data))

    def build(self, values: construct.Container | dict[str, object]) -> bytes:
        """construct's build of a mapping."""
        return cast("bytes", self.declaration.build(values))


_DERIVED = frozenset(Codec.__slots__) - {"_declare", "_integers"}


def _offsets(items: Iterable[_Item]) -> dict[str, int]:
    """Byte offset of every named entry."""
    offsets = {}
    at = 0
    for item in items:
        if item.name:
            offsets[item.name] = at
        at += item.size
    return offsets


def _flatten(part: construct.Construct, name: str) -> Iterable[_Item]:
    """Walk a declaration down to integers, bytes and padding."""
    import construct

    if isinstance(part, construct.Renamed):
        yield from _flatten(part.subcon, _join(name, part.name))
    elif isinstance(part, construct.Struct):
        for member in part.subcons:
            yield from _flatten(member, name)
    elif isinstance(part, construct.Array):
        for index in range(_fixed(part.count, name, "count")):
            yield from _flatten(part.subcon, f"{name}[{index}]")
    elif isinstance(part, construct.Const):
        (item,) = _flatten(part.subcon, name)
        yield msgspec.structs.replace(item, constant=part.value)
    elif isinstance(part, construct.FormatField) and part.fmtstr[-1] in _INTEGERS:
        order = part.fmtstr[0] if part.length > 1 else ""
        yield _Item(name, part.fmtstr[-1], order, part.length, None)
    elif isinstance(part, construct.Bytes):
        size = _fixed(part.length, name, "length")
        yield _Item(name, f"{size}s", "", size, None)
    elif isinstance(part, construct.Padded) and isinstance(part.subcon, type(construct.Pass)):
        size = _fixed(part.length, name, "length")
        yield _Item("", f"{size}x", "", size, None)
    elif is_bit_struct(part) and part.sizeof() in _UNSIGNED:
        size = part.sizeof()
        yield _Item(name, _UNSIGNED[size], ">" if size > 1 else "", size, None)
    else:
        raise LayoutError(f"{name or 'the structure'}: {type(part).__name__} has no fixed layout")


def is_bit_struct(part: construct.Construct) -> bool:
    """Whether `part` is a `BitStruct` of whole bytes (which construct makes of `Bitwise` and `Struct`)."""
    import construct

    return isinstance(part, construct.Transformed) and isinstance(part.subcon, construct.Struct)


def _fixed(size: object, name: str, what: str) -> int:
    if not isinstance(size, int):
        raise LayoutError(f"{name}: its {what} depends on other fields")
    return size


def _join(outer: str, inner: str) -> str:
    return f"{outer}.{inner}" if outer else inner


def _with_constants(
    layout: struct.Struct, items: Sequence[_Item]
) -> tuple[
    Callable[[Readable, int], tuple[Value, ...]],
    Callable[..., None],
    Callable[..., bytes],
]:
    """The three functions of a layout with constants in it: checked on the way in, added on the way out."""
    entries = [item for item in items if not item.code.endswith("x")]

    def unpack_from(buffer: Readable, offset: int = 0) -> tuple[Value, ...]:
        found = layout.unpack_from(buffer, offset)
        for item, value in zip(entries, found, strict=True):
            if item.constant is not None and value != item.constant:
                raise WireError(f"{item.name or 'constant'} is {value!r}, not {item.constant!r}")
        return tuple(value for item, value in zip(entries, found, strict=True) if item.constant is None)

    def complete(values: tuple[Value, ...]) -> list[int | bytes]:
        expected = sum(item.constant is None for item in entries)
        if len(values) != expected:
            raise struct.error(f"{expected} values expected, {len(values)} given")
        left = iter(values)
        return [next(left) if item.constant is None else item.constant for item in entries]

    def pack_into(buffer: Writable, offset: int, *values: Value) -> None:
        layout.pack_into(buffer, offset, *complete(values))

    def pack(*values: Value) -> bytes:
        return layout.pack(*complete(values))

    return unpack_from, pack_into, pack
