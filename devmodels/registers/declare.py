"""The declarations of which a register file's class body consists: registers, fields, arrays and banks.

A declaration is a descriptor: on the class it is itself (`Hba.ghc`), on an instance it is the value that the device
holds (`hba.ghc = 1`); a device's own loads and stores see no access kinds and call no hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, overload

if TYPE_CHECKING:
    from devmodels.registers.arrays import BlockArray
    from devmodels.registers.file import RegisterFile

POWER_ON = "power-on"
"""The reset domain that every register file has."""

WIDTHS = (1, 2, 4, 8)

Reset: TypeAlias = int | Mapping[str, int]
"""A reset value: one for every domain, or by domain (a domain that isn't named leaves the bits as they stand)."""


class Access(Enum):
    """What a guest can do with a bit."""

    __hash__ = object.__hash__
    """Each is itself alone; Enum's own, in Python, costs ten times as much where they are keys."""

    RO = "read only"
    RW = "read and write"
    RW1C = "read; a written 1 clears"
    RW1S = "read; a written 1 sets, the device clears"
    WO = "write only; reads 0"
    RC = "read clears"
    SC = "a written 1 acts and reads back 0"
    HWINIT = "read only; set by the device's make, no reset changes it"
    RESERVED = "reads 0, writes are ignored"


RO = Access.RO
RW = Access.RW
RW1C = Access.RW1C
RW1S = Access.RW1S
WO = Access.WO
RC = Access.RC
SC = Access.SC
HWINIT = Access.HWINIT
RESERVED = Access.RESERVED

READABLE = frozenset({RO, RW, RW1C, RW1S, RC, SC, HWINIT})
WRITABLE = frozenset({RW, RW1C, RW1S, WO, SC})

ReadHook = TypeVar("ReadHook", bound=Callable[..., int])
WriteHook = TypeVar("WriteHook", bound=Callable[..., None])
Factory = TypeVar("Factory", bound=Callable[..., object])
Element = TypeVar("Element", bound="RegisterFile")


class Register:
    """A register of 1, 2, 4 or 8 bytes at `offset`.

    `access` is the kind of every bit that no field names.  `widths` are the access sizes that the specification
    allows (the file's where none are given, and the register's own where the file gives none): smaller ones reach
    an aligned part, larger ones cover the neighbours too.  Two registers may share an offset where one is read only
    and the other write only.
    """

    __slots__ = (
        "access",
        "change_hooks",
        "clause",
        "doc",
        "fields",
        "name",
        "offset",
        "read_hook",
        "reset",
        "slot",
        "width",
        "widths",
        "write_hook",
    )

    def __init__(
        self,
        offset: int,
        width: int,
        access: Access = RESERVED,
        *,
        reset: Reset = 0,
        widths: tuple[int, ...] | None = None,
        clause: str = "",
        doc: str = "",
    ) -> None:
        if width not in WIDTHS or offset < 0 or offset % min(width, 4):
            raise TypeError(f"a register of {width} bytes cannot lie at offset {offset:#x}")
        self.offset = offset
        self.width = width
        self.access = access
        self.reset = reset
        self.widths = widths
        self.clause = clause
        self.doc = doc
        self.name = ""
        self.slot = -1
        self.fields: list[Field] = []
        self.read_hook: str | None = None
        self.write_hook: str | None = None

    @property
    def end(self) -> int:
        """The offset after the register."""
        return self.offset + self.width

    def bits(
        self, high: int, low: int, access: Access, *, reset: Reset = 0, clause: str = "", doc: str = ""
    ) -> Field:
        """Declare the field of bits `high` down to `low`."""
        field = Field(self, high, low, access, reset, clause or self.clause, doc)
        self.fields.append(field)
        return field

    def bit(self, number: int, access: Access, *, reset: Reset = 0, clause: str = "", doc: str = "") -> Field:
        """Declare a field of one bit."""
        return self.bits(number, number, access, reset=reset, clause=clause, doc=doc)

    def on_write(self, hook: WriteHook) -> WriteHook:
        """Decorate `(self, old: int, new: int) -> None`: called after each guest write, with the values held.

        In `new`, self-clearing bits are seen as written; they are 0 again once the hook has returned.
        """
        self.write_hook = hook.__name__
        return hook

    def on_read(self, hook: ReadHook) -> ReadHook:
        """Decorate `(self, value: int) -> int`: called at each guest read, its result is what the guest sees.

        `value` is what was held; read-to-clear bits have already been cleared.
        """
        self.read_hook = hook.__name__
        return hook

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Register: ...

    @overload
    def __get__(self, instance: RegisterFile, owner: type) -> int: ...

    def __get__(self, instance: RegisterFile | None, owner: type) -> Register | int:
        if instance is None:
            return self
        return instance._values[self.slot]

    def __set__(self, instance: RegisterFile, value: int) -> None:
        instance._values[self.slot] = value & ((1 << 8 * self.width) - 1)

    def __repr__(self) -> str:
        return f"<Register {self.name} at {self.offset:#x}, {self.width} bytes>"


class Field:
    """Bits `high` down to `low` of a register; made by `Register.bits`."""

    __slots__ = ("access", "change_hook", "clause", "doc", "high", "low", "mask", "name", "register", "reset")

    def __init__(
        self, register: Register, high: int, low: int, access: Access, reset: Reset, clause: str, doc: str
    ) -> None:
        if not 0 <= low <= high < 8 * register.width:
            raise TypeError(f"a register of {register.width} bytes has no bits {high}:{low}")
        for other in register.fields:
            if low <= other.high and other.low <= high:
                raise TypeError(f"bits {high}:{low} overlap the field at bits {other.high}:{other.low}")
        self.register = register
        self.high: int = high
        self.low: int = low
        self.mask = (1 << high - low + 1) - 1
        self.access = access
        self.reset = reset
        self.clause = clause
        self.doc = doc
        self.name = ""
        self.change_hook: str | None = None

    def on_change(self, hook: WriteHook) -> WriteHook:
        """Decorate `(self, value: int) -> None`: called after a guest write that has changed the field."""
        self.change_hook = hook.__name__
        return hook

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Field: ...

    @overload
    def __get__(self, instance: RegisterFile, owner: type) -> int: ...

    def __get__(self, instance: RegisterFile | None, owner: type) -> Field | int:
        if instance is None:
            return self
        return instance._values[self.register.slot] >> self.low & self.mask

    def __set__(self, instance: RegisterFile, value: int) -> None:
        values = instance._values
        slot = self.register.slot
        values[slot] = values[slot] & ~(self.mask << self.low) | (value & self.mask) << self.low

    def __repr__(self) -> str:
        return f"<Field {self.name}, bits {self.high}:{self.low} of {self.register.name}>"


class Port:
    """A place where each access is a transfer of its own (a data port, a doorbell), not a register with bytes.

    It answers accesses of exactly its `widths` at its `offset`, also where registers of other widths lie, and holds
    no value.
    """

    __slots__ = ("clause", "doc", "name", "offset", "read_hook", "widths", "write_hook")

    def __init__(self, offset: int, *, widths: tuple[int, ...], clause: str = "", doc: str = "") -> None:
        self.offset = offset
        self.widths = widths
        self.clause = clause
        self.doc = doc
        self.name = ""
        self.read_hook: str | None = None
        self.write_hook: str | None = None

    @property
    def end(self) -> int:
        """The offset after the widest access."""
        return self.offset + max(self.widths)

    def on_read(self, hook: ReadHook) -> ReadHook:
        """Decorate `(self, size: int) -> int`, which answers a read; without it, reads see what lies below."""
        self.read_hook = hook.__name__
        return hook

    def on_write(self, hook: WriteHook) -> WriteHook:
        """Decorate `(self, size: int, value: int) -> None`, which takes a write."""
        self.write_hook = hook.__name__
        return hook

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


class Blocks(Generic[Element]):
    """`count` register files of one kind, `stride` bytes apart (default: their size) from `offset` on.

    An element is made when it is first touched: an array costs nothing until then.
    """

    def __init__(
        self,
        element: type[Element],
        offset: int,
        *,
        count: int,
        stride: int | None = None,
        clause: str = "",
    ) -> None:
        self.element = element
        self.offset = offset
        self.count = count
        self.stride = element.size if stride is None else stride
        self.clause = clause
        self.name = ""
        self.factory_name: str | None = None
        if self.stride < element.size or count < 1:
            raise TypeError(
                f"{count} elements of {element.size} bytes do not fit at a stride of {self.stride}"
            )

    @property
    def end(self) -> int:
        """The offset after the last element."""
        return self.offset + self.stride * self.count

    def factory(self, function: Factory) -> Factory:
        """Decorate `(self, index: int) -> Element | None`, which makes an element.

        None: there is none at that index; it reads 0 and ignores writes.
        """
        self.factory_name = function.__name__
        return function

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Blocks[Element]: ...

    @overload
    def __get__(self, instance: RegisterFile, owner: type) -> BlockArray[Element]: ...

    def __get__(self, instance: RegisterFile | None, owner: type) -> Blocks[Element] | BlockArray[Element]:
        if instance is None:
            return self
        return instance._array(self)


class Bank(Blocks[Element]):
    """`count` register files at one offset, of which the guest sees the one whose index `select` holds."""

    def __init__(
        self, element: type[Element], offset: int, *, select: Register, count: int, clause: str = ""
    ) -> None:
        super().__init__(element, offset, count=count, clause=clause)
        self.select = select

    @property
    def end(self) -> int:
        """The offset after the window."""
        return self.offset + self.stride
