"""Tables as columns of numbers, packed for a browser: little-endian typed arrays in one run of bytes, and an index."""

from __future__ import annotations

import sys
from array import array
from copy import copy

NONE = 0xFFFF_FFFF
"""No such event, no such row."""

_ALIGNMENT = 8
_LARGEST = {"B": 0xFF, "H": 0xFFFF, "I": NONE, "i": 0x7FFF_FFFF, "d": float(1 << 64)}
_JAVASCRIPT = {
    "B": "Uint8Array",
    "H": "Uint16Array",
    "I": "Uint32Array",
    "i": "Int32Array",
    "d": "Float64Array",
}


class Table:
    """Rows of numbers; `columns` has an array for each name."""

    def __init__(self, **types: str) -> None:
        self.columns: dict[str, array[float]] = {name: array(code) for name, code in types.items()}
        self._arrays = list(self.columns.values())

    def add(self, *row: float) -> int:
        """Append a row, in the order of the columns; its number.

        A number that is too large for its column, as nothing but a forged trace has, becomes the largest one.
        """
        number = len(self._arrays[0])
        for column, value in zip(self._arrays, row, strict=True):
            try:
                column.append(value)
            except OverflowError:
                column.append(_LARGEST[column.typecode])
        return number

    def __getitem__(self, name: str) -> array[float]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self._arrays[0])


class Texts:
    """Lines of text, one after the other; `ends` has where each ends, in bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ends = array("I")

    def add(self, text: str) -> None:
        """Append a line."""
        self.data += text.encode("utf-8", "replace")
        self.ends.append(len(self.data))


class Pack:
    """What is given to the page: bytes, and an index of what lies where."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.index: dict[str, dict[str, tuple[str, int, int]]] = {}
        """By table and column: the typed array of JavaScript, its first byte, how many elements."""

    def table(self, name: str, table: Table) -> None:
        """Add all columns of a table."""
        for column, values in table.columns.items():
            self._column(name, column, values)

    def texts(self, name: str, texts: Texts) -> None:
        """Add lines of text, as a table of `data` and `ends`."""
        self._column(name, "ends", texts.ends)
        self._place(name, "data", "Uint8Array", len(texts.data), texts.data)

    def _column(self, table: str, column: str, values: array[float] | array[int]) -> None:
        if sys.byteorder == "big":
            values = copy(values)
            values.byteswap()
        self._place(table, column, _JAVASCRIPT[values.typecode], len(values), values.tobytes())

    def _place(self, table: str, column: str, kind: str, count: int, data: bytes | bytearray) -> None:
        self.data += bytes(-len(self.data) % _ALIGNMENT)
        self.index.setdefault(table, {})[column] = kind, len(self.data), count
        self.data += data


class Names:
    """Names by number, in the order in which they came first; when there are `most`, others are the last of them."""

    def __init__(self, most: int = 0xFF) -> None:
        self.numbers: dict[str, int] = {}
        self._most = most

    def number(self, name: str) -> int:
        """The number of a name, which is new perhaps."""
        if name not in self.numbers and len(self.numbers) < self._most:
            self.numbers[name] = len(self.numbers)
        return self.numbers.get(name, self._most - 1)

    @property
    def names(self) -> list[str]:
        """All of them, by number."""
        return list(self.numbers)
