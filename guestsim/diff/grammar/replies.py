"""What both answer to a command where that is not the same, or an error: tables of `answers`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources

Codes = tuple[int, int, int]
"""Sense key, additional sense code and its qualifier (SPC-4 §4.5)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How one side answers: so many bytes of `data` (None: not said which), or sense data with these `codes`."""

    length: int = 0
    data: bytes | None = None
    codes: Codes | None = None

    @property
    def fails(self) -> bool:
        """Whether the command is refused."""
        return self.codes is not None

    def cut(self, allocation: int) -> Reply:
        """The same with so many bytes at most."""
        if allocation >= self.length:
            return self
        return replace(self, length=allocation, data=None if self.data is None else self.data[:allocation])


@dataclass(frozen=True, slots=True)
class Row:
    """A command with what it is given, and what ours and theirs answer."""

    name: str
    cdb: bytes
    out: bytes
    ours: Reply
    theirs: Reply


def table(name: str) -> Iterator[Row]:
    """The rows of `answers/NAME.txt`."""
    text = resources.files("guestsim.diff.grammar.answers").joinpath(f"{name}.txt").read_text()
    for line in text.splitlines():
        if line and not line.startswith("#"):
            command, cdb, out, ours, theirs = line.split()
            mine = _reply(ours)
            other = mine if theirs == "=" else _reply(theirs)
            yield Row(command, bytes.fromhex(cdb), b"" if out == "-" else bytes.fromhex(out), mine, other)


def _reply(text: str) -> Reply:
    if "/" in text:
        key, code, qualifier = (int(part, 16) for part in text.split("/"))
        return Reply(codes=(key, code, qualifier))
    if text.startswith("*"):
        return Reply(int(text[1:]))
    data = b"" if text == "-" else bytes.fromhex(text)
    return Reply(len(data), data)
