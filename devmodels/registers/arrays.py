"""The elements of an array or a bank of register files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

import msgspec

from devmodels.registers.declare import Bank, Blocks, Element

if TYPE_CHECKING:
    from devmodels.registers.file import RegisterFile


class IllegalAccess(msgspec.Struct, frozen=True):
    """An access that the declarations do not allow; `value` is None for a read; `reason` says why.

    `wrong_way`: a read of what can only be written, or the other way round.
    """

    registers: str
    offset: int
    size: int
    value: int | None
    reason: str
    wrong_way: bool = False

    @property
    def data(self) -> bytes:
        """The bytes that were written; none of a read."""
        return b"" if self.value is None else self.value.to_bytes(self.size, "little")

    def __str__(self) -> str:
        kind = "read" if self.value is None else f"write of {self.value:#x}"
        return f"{self.registers}: {self.size}-byte {kind} at {self.offset:#x}: {self.reason}"


class BlockArray(Generic[Element]):
    """The elements of one `Blocks` of one register file, made when first touched."""

    __slots__ = ("_block", "_made", "_owner")

    def __init__(self, owner: RegisterFile, block: Blocks[Element]) -> None:
        self._owner = owner
        self._block = block
        self._made: dict[int, Element] = {}

    def get(self, index: int) -> Element | None:
        """Element `index`, or None where there is none."""
        element = self._made.get(index)
        if element is None and 0 <= index < self._block.count:
            element = self._make(index)
        return element

    def __getitem__(self, index: int) -> Element:
        element = self.get(index)
        if element is None:
            raise IndexError(f"{self._block.name} has no element {index}")
        return element

    def made(self) -> tuple[tuple[int, Element], ...]:
        """(index, element) of those that have been touched, in order."""
        return tuple(sorted(self._made.items()))

    def _make(self, index: int) -> Element | None:
        block, owner = self._block, self._owner
        element: Element | None
        if block.factory_name is None:
            element = block.element()
        else:
            element = getattr(owner, block.factory_name)(index)
            if element is None:
                return None
        element.lenient = element.lenient or owner.lenient
        if element.on_illegal is None:
            element.on_illegal = lambda access: self._report(index, access)
        self._made[index] = element
        return element

    def _report(self, index: int, access: IllegalAccess) -> None:
        if self._owner.on_illegal is not None:
            block = self._block
            at = block.offset + (0 if isinstance(block, Bank) else index * block.stride)
            name = f"{type(self._owner).__name__}.{block.name}[{index}]"
            offset = at + access.offset
            self._owner.on_illegal(msgspec.structs.replace(access, registers=name, offset=offset))
