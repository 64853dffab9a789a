"""Every access of a guest as a line of text, whichever target it goes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guestsim.targets import Target

_SHOWN = 16


def trace(target: Target, emit: Callable[[str], None]) -> None:
    """Have every register access, memory access and interrupt of `target` told to `emit`, from now on."""

    def reading(name: str, kind: str) -> None:
        inner: Callable[[int, int], int] = getattr(target, name)

        def read(address: int, size: int) -> int:
            value = inner(address, size)
            emit(f"{kind} read  {address:#x}/{size} = {value:#x}")
            return value

        setattr(target, name, read)

    def writing(name: str, kind: str) -> None:
        inner: Callable[[int, int, int], None] = getattr(target, name)

        def write(address: int, size: int, value: int) -> None:
            emit(f"{kind} write {address:#x}/{size} = {value:#x}")
            inner(address, size, value)

        setattr(target, name, write)

    reading("read", "mem ")
    reading("io_read", "port")
    writing("write", "mem ")
    writing("io_write", "port")
    _trace_ram(target, emit)
    _trace_messages(target, emit)
    if hasattr(target, "emit"):
        target.emit = emit


def _trace_ram(target: Target, emit: Callable[[str], None]) -> None:
    inner_read, inner_write = target.ram_read, target.ram_write

    def ram_read(address: int, length: int) -> bytes:
        data = inner_read(address, length)
        emit(f"ram  read  {address:#x}+{length} = {_show(data)}")
        return data

    def ram_write(address: int, data: bytes | bytearray | memoryview) -> None:
        emit(f"ram  write {address:#x}+{len(data)} = {_show(bytes(data[: _SHOWN + 1]))}")
        inner_write(address, data)

    setattr(target, "ram_read", ram_read)  # noqa: B010 - methods of a protocol cannot be assigned otherwise
    setattr(target, "ram_write", ram_write)  # noqa: B010


def _trace_messages(target: Target, emit: Callable[[str], None]) -> None:
    inner = target.take_messages

    def take_messages() -> dict[int, int]:
        found = inner()
        for vector, number in found.items():
            emit(f"interrupt vector {vector}" + (f", {number} times" if number > 1 else ""))
        return found

    setattr(target, "take_messages", take_messages)  # noqa: B010


def _show(data: bytes) -> str:
    return data[:_SHOWN].hex(" ") + (" …" if len(data) > _SHOWN else "")
