"""A board of a command line's, and its client's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from devmodels.qtest.assembling import Assembling
from devmodels.qtest.board import Board
from devmodels.qtest.commandline import parse


class Client:
    """Speaks to a board in this process; devices work after each request, as when its loop goes round."""

    def __init__(self, assembling: Assembling, board: Board) -> None:
        self.assembling = assembling
        self.board = board

    def ask(self, line: str) -> str:
        """The answer, with what was told before it."""
        qtest = self.board.qtest
        qtest.feed(line.encode() + b"\n")
        answer = bytes(qtest.out).decode()
        qtest.out.clear()
        self.board.context.run_until_idle()
        return answer.rstrip("\n")

    def told(self) -> str:
        """What came since the last answer."""
        text = bytes(self.board.qtest.out).decode()
        self.board.qtest.out.clear()
        return text

    def number(self, line: str) -> int:
        """The number that it is answered with."""
        return int(self.ask(line).removeprefix("OK "), 16)

    def config(self, slot: int, function: int, offset: int) -> int:
        """A dword of configuration space, by its ports."""
        self.ask(f"outl 0xcf8 {0x80000000 | slot << 11 | function << 8 | offset:#x}")
        return self.number("inl 0xcfc")

    def set_config(self, slot: int, function: int, offset: int, value: int) -> None:
        """Write a dword of configuration space."""
        self.ask(f"outl 0xcf8 {0x80000000 | slot << 11 | function << 8 | offset:#x}")
        self.ask(f"outl 0xcfc {value:#x}")


@contextmanager
def machine(*arguments: str) -> Iterator[Client]:
    """A machine as the command line has it."""
    assembling = Assembling(parse(list(arguments)))
    try:
        yield Client(assembling, assembling.build())
    finally:
        assembling.board.close()
