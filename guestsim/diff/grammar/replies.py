"""What both answer to a command where that is not the same, or is known: tables of `answers`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources

Codes = tuple[int, int, int]
"""Sense key, additional sense code and its qualifier (SPC-4 §4.5)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How one side answers: so many bytes of `data` (None: not said which), or sense data with these `codes`.

    `pads`: zeroes follow the data, up to the allocation length.
    """

    length: int = 0
    data: bytes | None = None
    codes: Codes | None = None
    pads: bool = False

    @property
    def fails(self) -> bool:
        """Whether the command is refused."""
        return self.codes is not None

    def cut(self, allocation: int) -> Reply:
        """The same with so many bytes at most."""
        if allocation >= self.length:
            return self
        return replace(self, length=allocation, data=None if self.data is None else self.data[:allocation])

    def filled(self, room: int) -> bytes:
        """What comes where there is so much room."""
        data = (self.data or b"")[:room]
        return data.ljust(room, b"\0") if self.pads else data


@dataclass(frozen=True, slots=True)
class Row:
    """A command with what it is given and the room for what it returns, and what ours and theirs answer."""

    name: str
    cdb: bytes
    out: bytes
    ours: Reply
    theirs: Reply
    room: int = 0


def table(name: str) -> Iterator[Row]:
    """The rows of `answers/NAME.txt`."""
    text = resources.files("guestsim.diff.grammar.answers").joinpath(f"{name}.txt").read_text()
    for line in text.splitlines():
        if line and not line.startswith("#"):
            command, cdb, given, ours, theirs = line.split()
            mine = _reply(ours)
            other = mine if theirs == "=" else _reply(theirs)
            room = int(given[1:]) if given.startswith(">") else 0
            out = b"" if room else _given(given)
            yield Row(command, bytes.fromhex(cdb), out, mine, other, room)


def _given(text: str) -> bytes:
    """`N*HEX` is as often as goes into N bytes."""
    if text == "-":
        return b""
    count, times, pattern = text.rpartition("*")
    data = bytes.fromhex(pattern)
    return (data * (int(count) // len(data) + 1))[: int(count)] if times else data


def _reply(text: str) -> Reply:
    if "/" in text:
        key, code, qualifier = (int(part, 16) for part in text.split("/"))
        return Reply(codes=(key, code, qualifier))
    if text.startswith("*"):
        return Reply(int(text[1:]))
    data = b"" if text == "-" else bytes.fromhex(text.removesuffix("+"))
    return Reply(len(data), data, pads=text.endswith("+"))
