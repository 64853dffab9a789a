"""What firmware reads of a PC: the firmware configuration device (`fw_cfg`) and CMOS memory.

`fw_cfg` (QEMU: docs/specs/fw_cfg): port 510h selects an item, port 511h reads its bytes one after the other.
CMOS: port 70h selects a byte, port 71h has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

FW_CFG_PORT, FW_CFG_PORTS = 0x510, 2
SIGNATURE, ID, RAM_SIZE, CPUS, MAX_CPUS, DIRECTORY, FIRST_FILE = 0x00, 0x01, 0x03, 0x05, 0x0F, 0x19, 0x20
NAME_SIZE = 56
CMOS_PORT, CMOS_PORTS, CMOS_SIZE = 0x70, 2, 128


class FwCfg:
    """`ram` is in bytes; `files` gives the files by name, at the start and when the machine is reset."""

    def __init__(self, ram: int, files: Callable[[], Mapping[str, bytes]]) -> None:
        self._files = files
        self._items = {
            SIGNATURE: b"QEMU",
            ID: (1).to_bytes(4, "little"),
            RAM_SIZE: ram.to_bytes(8, "little"),
            CPUS: (1).to_bytes(2, "little"),
            MAX_CPUS: (1).to_bytes(2, "little"),
        }
        self.selected, self.at = SIGNATURE, 0
        """The item that is read, and how far it was."""
        self.reset()

    def reset(self) -> None:
        """The signature is selected; files are as they are now."""
        files = self._files()
        directory = len(files).to_bytes(4, "big")
        for key, name in enumerate(sorted(files), FIRST_FILE):
            self._items[key] = files[name]
            size = len(files[name]).to_bytes(4, "big")
            directory += size + key.to_bytes(2, "big") + bytes(2) + name.encode().ljust(NAME_SIZE, b"\0")
        self._items[DIRECTORY] = directory
        self.selected, self.at = SIGNATURE, 0

    def read(self, offset: int, size: int) -> int:  # noqa: ARG002
        """The next byte of the item, from either port, as QEMU has it; zeroes after its end."""
        if size != 1:
            return 0
        item = self._items.get(self.selected, b"")
        byte = item[self.at] if self.at < len(item) else 0
        self.at += 1
        return byte

    def write(self, offset: int, size: int, value: int) -> None:
        """Select an item."""
        if offset == 0 and size == 2:
            self.selected, self.at = value, 0


class Cmos:
    """128 bytes; those of the clock say nothing."""

    def __init__(self) -> None:
        self.bytes = bytearray(CMOS_SIZE)
        self.selected = 0

    def read(self, offset: int, size: int) -> int:
        """The byte that is selected."""
        return self.bytes[self.selected] if offset == 1 and size == 1 else (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Select a byte, or write it."""
        if size != 1:
            return
        if offset == 0:
            self.selected = value % CMOS_SIZE
        else:
            self.bytes[self.selected] = value

    def tell_memory(self, ram: int) -> None:
        """The size of memory, as a PC's firmware looks for it: 640 KiB, KiB above 1 MiB, 64 KiB above 16 MiB."""
        extended = min(max(ram - (1 << 20), 0) >> 10, 0xFFFF)
        above = min(max(ram - (16 << 20), 0) >> 16, 0xFFFF)
        for at, value in ((0x15, 640), (0x17, extended), (0x30, extended), (0x34, above)):
            self.bytes[at : at + 2] = value.to_bytes(2, "little")
