"""State that comes to a machine that waits for it: a good one with other values, cut, with other bits, foreign."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from devmodels.qtest.assembling import Assembling
from devmodels.qtest.control import Control
from devmodels.qtest.migration import HEADER, MAGIC
from fuzz.choices import Choices
from fuzz.standin import machines
from tests.unit.qtest.moving import sent

NUMBERS = (0, 1, 2, 7, 0x1F, 0x80, 0xFFFF, -1, 1 << 32, (1 << 63) - 1, (1 << 64) - 1, -(1 << 63))
WORDS = (
    "",
    "running",
    "paused",
    "inmigrate",
    "BUSY",
    "IDLE",
    "PACKET",
    "DATA_IN",
    "DATA_OUT",
    "DMA",
    "RUNNING",
    "OFF",
)
OTHERS: tuple[Any, ...] = (None, True, 0, 1.5, b"", b"\x80", b"x" * 300, "", [], {}, [[]], {"a": 1})


def opened(value: Any) -> Any:
    """Bytes that are a structure themselves as `{"opened": …}`, at any depth."""
    if isinstance(value, bytes) and value[:1] >= b"\x80":
        try:
            return {"opened": opened(msgspec.msgpack.decode(value))}
        except (msgspec.DecodeError, UnicodeError):
            return value
    if isinstance(value, dict):
        return {name: opened(each) for name, each in value.items()}
    return [opened(each) for each in value] if isinstance(value, list) else value


def closed(value: Any) -> Any:
    """The bytes again."""
    if isinstance(value, dict):
        if set(value) == {"opened"}:
            return msgspec.msgpack.encode(closed(value["opened"]))
        return {name: closed(each) for name, each in value.items()}
    return [closed(each) for each in value] if isinstance(value, list) else value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield value, key
        yield from _places(each)


def _other_values(data: bytes, choices: Choices) -> bytes:
    """One to three values of the state are others."""
    state = opened(msgspec.msgpack.decode(data[HEADER.size :]))
    for _ in range(1 + choices.randrange(3)):
        found = list(_places(state))
        container, key = found[choices.randrange(len(found))]
        container[key] = _other(container[key], choices)
    body = msgspec.msgpack.encode(closed(state))
    return HEADER.pack(MAGIC, len(body)) + body


def _other(value: Any, choices: Choices) -> Any:
    """Another value, most often of the same kind."""
    if not choices.randrange(8):
        return deepcopy(choices.choice(OTHERS))
    match value:
        case bool():
            return not value
        case int():
            return choices.choice(NUMBERS) if choices.randrange(2) else choices.getrandbits(16)
        case str():
            return choices.choice(WORDS)
        case bytes() if value:
            return (
                _other_bits(value, choices)
                if choices.randrange(2)
                else value[: choices.randrange(len(value))]
            )
        case list() if value:
            return choices.choice((value[1:], [*value, value[0]], []))
        case dict() if value and "opened" not in value:
            return {name: each for name, each in value.items() if name != next(iter(value))}
    return deepcopy(choices.choice(OTHERS))


def _other_bits(data: bytes, choices: Choices) -> bytes:
    spoilt = bytearray(data)
    for _ in range(1 + choices.randrange(4)):
        spoilt[choices.randrange(len(spoilt))] ^= 1 << choices.randrange(8)
    return bytes(spoilt)


def _cut(data: bytes, choices: Choices) -> bytes:
    return data[: choices.randrange(len(data))]


def _spliced(data: bytes, choices: Choices) -> bytes:
    at = choices.randrange(len(data))
    return data[:at] + choices.take(choices.randrange(8)) + data[at + choices.randrange(8) :]


def _any_body(_data: bytes, choices: Choices) -> bytes:
    body = choices.take(choices.left)
    return HEADER.pack(MAGIC, len(body)) + body


def _foreign(_data: bytes, choices: Choices) -> bytes:
    return choices.choice((b"QEVM\0\0\0\x03", b"", MAGIC, b"{}")) + choices.take(choices.left)


CHANGES: tuple[Callable[[bytes, Choices], bytes], ...] = (
    *(_other_values, _other_values, _other_values, _other_bits, _cut, _spliced, _any_body, _foreign),
)


class Waiting:
    """A machine that waits for `data`, which comes in pieces; `problems` are what is said of it."""

    def __init__(self, assembling: Assembling, folder: Path) -> None:
        self.board = assembling.board
        self.problems: list[str] = []
        self._control = Control(assembling, lambda: None)
        self._path = folder / "here"
        self._control.wait_for(f"unix:{self._path}", self.problems.append)

    def take(self, data: bytes, piece: int) -> None:
        """All of it, and the end."""
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(self._path))
            for at in range(0, len(data), piece):
                try:
                    other.sendall(data[at : at + piece])
                except BrokenPipeError:
                    break
                self.board.context.run_ready()
        self.board.context.run_ready()

    @property
    def status(self) -> str | None:
        """What `query-migrate` says."""
        migration = self._control.migration
        return self.board.context.run(migration.query_migrate(self._control.world)).status

    def close(self) -> None:
        """Wait no longer."""
        self._control.close()


def busy(name: str) -> bytes:
    """What a machine sends that has begun something, and is stopped in it."""
    with machines.machine(machines.MACHINES[name]) as assembling:
        board = assembling.board
        for line in (
            b"outb 0x70 0x40",
            b"outb 0x71 0xab",
            b"outw 0x510 0",
            b"inb 0x511",
            b"writel 0x1000 0x1234",
        ):
            machines.ask(board, line)
        if name == "pc":
            for line in (b"outb 0x176 0xa0", b"outb 0x177 0xa0", b"outb 0x1f2 2", b"outb 0x1f7 0x20"):
                machines.ask(board, line)
            board.context.run_until_idle()
        control = Control(assembling, lambda: None)
        with TemporaryDirectory() as folder:
            said = sent(board, control, Path(folder, "there"))
        control.close()
        return said
