"""Which of a machine's devices a qtest request goes to: by the ranges that they decode when it is about to be done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from devmodels.pci.bus import CONFIG_ADDRESS, Ecam, RootBus
from devmodels.qtest.numbers import NumberError, number

if TYPE_CHECKING:
    from devmodels.pci.decode import Window
    from devmodels.qtest.board import Board

_SIZES = {"b": 1, "w": 2, "l": 4, "q": 8}
_LONG = ("read", "write", "b64read", "b64write", "memset")


class Reached:
    """Who is reached on a board: its storage devices, by registers, ports or configuration space.

    What the chipset answers, and RAM, is nobody's.
    """

    def __init__(self, board: Board) -> None:
        assembly = board.assembly
        self._machine = board.machine
        self._names: dict[int, str] = {}
        """What is said of a function, by its identity."""
        functions = {**assembly.devices, **assembly.ata_hosts}
        for bus, function in board.machine.bus.walk():
            name = next((name for name, each in functions.items() if each is function), None)
            if name is not None:
                place = next((slot, number) for slot, number, each in bus.functions() if each is function)
                driver = assembly.options[name]["driver"]
                self._names[id(function)] = f"{driver} at {place[0]:02x}.{place[1]}"

    def names(self, request: str) -> set[str]:
        """The devices that `request` goes to."""
        words = request.split()
        try:
            found = _range(words)
        except (NumberError, IndexError):
            return set()
        if found is None:
            return set()
        base, size, io = found
        functions = self._functions(base, base + size, io=io)
        return {self._names[key] for function in functions if (key := id(function)) in self._names}

    def _functions(self, address: int, end: int, *, io: bool) -> Iterator[object]:
        """Whoever owns what lies from `address` to `end`."""
        if io and CONFIG_ADDRESS <= address < CONFIG_ADDRESS + 8:
            yield self._machine.config_ports.function(address - CONFIG_ADDRESS, end - address)
            return
        while address < end:
            window = self._machine.find(address, 1, io=io)
            if window is None:
                address += 1 if io else self._machine.unclaimed(address, end) or 1
                continue
            yield window.owner
            if isinstance(window.handler, Ecam):
                yield from self._configured(window, address, end)
            address = window.end

    def _configured(self, window: Window, address: int, end: int) -> Iterator[object]:
        """Functions on bus 0, by their configuration space in memory."""
        bus: RootBus = self._machine.bus
        first, last = (each - window.base >> 12 for each in (address, min(end, window.end) - 1))
        for place in range(first, last + 1):
            yield bus.at(place >> 3, place & 7)


def _range(words: list[str]) -> tuple[int, int, bool] | None:
    """Address, bytes, and whether they are ports; None where a request is of something else."""
    name = words[0]
    io = name[:-1] in ("in", "out")
    if name in _LONG:
        size = number(words[2].encode())
    elif io or name[:-1] in ("read", "write"):
        size = _SIZES[name[-1]]
    else:
        return None
    return number(words[1].encode()), size, io
