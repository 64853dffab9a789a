"""Embed a virtio-blk disk in an emulator: memory of one's own, accesses, interrupts, and nothing else.

The "emulator" here is a few lines: its memory is a dict of pages, reached through two functions, as in an emulator
that keeps guest memory to itself.  Its "program" finds the disk on the PCI bus and asks it for its size.

Run it: `python examples/embed.py`.
"""

from __future__ import annotations

from collections import defaultdict

from devmodels.assembly import Assembly, assemble
from devmodels.memory import GuestMemory
from devmodels.memoryregions import BouncedRegion

PAGE = 4096
RAM_SIZE = 16 << 20
CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
BAR4_ADDRESS = 0xE000_0000


class Emulator:
    """A guest's memory, page by page, and the interrupts that reached it."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = defaultdict(lambda: bytearray(PAGE))
        self.messages: list[tuple[int, int]] = []

    def read_memory(self, address: int, length: int) -> bytes:
        """What a device reads by DMA."""
        out = bytearray()
        while length:
            start = address % PAGE
            piece = self.pages[address // PAGE][start : start + length]
            out += piece
            address += len(piece)
            length -= len(piece)
        return bytes(out)

    def write_memory(self, address: int, data: bytes) -> None:
        """What a device writes by DMA."""
        while data:
            start = address % PAGE
            room = PAGE - start
            page = self.pages[address // PAGE]
            page[start : start + len(data[:room])] = data[:room]
            address += room
            data = data[room:]


def find_disk(assembly: Assembly) -> int:
    """Scan bus 0 for a virtio block device; returns its slot."""
    machine = assembly.machine
    for slot in range(32):
        machine.io_write(CONFIG_ADDRESS, 4, 0x8000_0000 | slot << 11)
        if machine.io_read(CONFIG_DATA, 4) == 0x1001_1AF4:
            return slot
    raise SystemExit("no disk")


def main() -> None:
    """Build the machine, and do what a guest's first instructions would do."""
    emulator = Emulator()
    memory = GuestMemory(BouncedRegion(0, RAM_SIZE, emulator.read_memory, emulator.write_memory))
    with assemble(
        blockdevs=[{"driver": "memory", "size": 8 << 20, "node-name": "d0"}],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "addr": "4", "serial": "embedded"}],
        memory=memory,
        on_message=lambda address, data: emulator.messages.append((address, data)),
    ) as assembly:
        machine = assembly.machine
        slot = find_disk(assembly)
        print(f"virtio-blk in slot {slot}")

        def config_write(offset: int, value: int) -> None:
            machine.io_write(CONFIG_ADDRESS, 4, 0x8000_0000 | slot << 11 | offset)
            machine.io_write(CONFIG_DATA, 4, value)

        config_write(0x20, BAR4_ADDRESS)  # BAR 4, low half
        config_write(0x24, 0)  # BAR 4, high half
        config_write(0x04, 0x6)  # memory space, bus master
        device_config = BAR4_ADDRESS + 0x2000
        capacity = machine.read(device_config, 4) | machine.read(device_config + 4, 4) << 32
        print(f"capacity {capacity} sectors of 512 bytes")
        machine.write(BAR4_ADDRESS + 0x14, 1, 1)  # device_status: ACKNOWLEDGE
        print(f"device_status {machine.read(BAR4_ADDRESS + 0x14, 1)}")
        machine.run_until_idle()  # between bursts of guest instructions: timers, workers, interrupts


if __name__ == "__main__":
    main()
