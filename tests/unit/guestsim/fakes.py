"""A target without a machine: memory, and registers that a test supplies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from guestsim.targets import MachineLayout, Window

RAM = Window(0x10_0000, 0x20_0000)


class FakeTarget:
    """Memory in one window, a clock that each `advance` moves on by `tick` ns, and interrupts raised by hand.

    `alive` is what `advance` says; `on_advance` is called each time.
    """

    def __init__(self, *windows: Window) -> None:
        self.windows = windows or (RAM,)
        self.bytes = {window.base: bytearray(window.size) for window in self.windows}
        self.messages: Counter[int] = Counter()
        self.lines: set[tuple[int, int]] = set()
        self.tick = 1_000_000
        self.now = 0
        self.alive = True
        self.on_advance: Callable[[], None] | None = None

    @property
    def name(self) -> str:
        return "fake"

    @property
    def layout(self) -> MachineLayout:
        return MachineLayout(self.windows, Window(0xE000_0000, 0x100_0000), Window(0xC000, 0x1000), None)

    def read(self, address: int, size: int) -> int:
        raise AssertionError(f"no register at {address:#x}")

    def write(self, address: int, size: int, value: int) -> None:
        raise AssertionError(f"no register at {address:#x}")

    def io_read(self, port: int, size: int) -> int:
        raise AssertionError(f"no port {port:#x}")

    def io_write(self, port: int, size: int, value: int) -> None:
        raise AssertionError(f"no port {port:#x}")

    def _find(self, address: int) -> tuple[bytearray, int]:
        window = next(window for window in self.windows if window.base <= address < window.end)
        return self.bytes[window.base], address - window.base

    def ram_read(self, address: int, length: int) -> bytes:
        memory, offset = self._find(address)
        return bytes(memory[offset : offset + length])

    def ram_write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        memory, offset = self._find(address)
        memory[offset : offset + len(data)] = data

    def message(self, vector: int) -> tuple[int, int]:
        return 0xFEE0_0000, vector

    def take_messages(self) -> dict[int, int]:
        taken = dict(self.messages)
        self.messages.clear()
        return taken

    def intx_level(self, slot: int, pin: int) -> bool:
        return (slot, pin) in self.lines

    def irq_level(self, irq: int) -> bool:
        return (irq, 0) in self.lines

    def advance(self) -> bool:
        self.now += self.tick
        if self.on_advance is not None:
            self.on_advance()
        return self.alive

    def now_ns(self) -> int:
        return self.now

    def close(self) -> None:
        pass
