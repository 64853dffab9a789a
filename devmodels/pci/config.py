"""Configuration space: register files at the offsets where a function has put them.

Every access that stays in the space is taken, at any alignment, dword by dword.  What nobody has put there reads 0,
or is kept as it was written in a space that `keeps`, as QEMU's do.
Beyond the space (256 bytes; 4096 of a PCI Express function) everything reads ones.  Reference: PCI Local Bus 3.0
§6.1; PCI Express 6.0 §7.2.
"""

from __future__ import annotations

from collections.abc import Mapping

from devmodels.registers import RegisterFile

CONVENTIONAL_SIZE = 256
EXTENDED_SIZE = 4096
OWN = 0x40
"""Where a device's own registers begin, behind the header."""


class ConfigSpace:
    """The space of one function, `size` bytes; `keeps`: what nobody has put registers at is memory."""

    __slots__ = ("_at", "_files", "_kept", "_writable", "size")

    def __init__(self, size: int, *, keeps: bool = False) -> None:
        self.size = size
        self._kept = bytearray(size)
        self._writable = bytearray(OWN) + b"\xff" * (size - OWN) if keeps else bytearray(size)
        self._files: list[tuple[int, RegisterFile]] = []
        self._at: dict[int, tuple[int, RegisterFile]] = {}

    @property
    def files(self) -> tuple[tuple[int, RegisterFile], ...]:
        """(offset, register file) in the order of placing."""
        return tuple(self._files)

    def place(self, offset: int, file: RegisterFile) -> None:
        """Put `file` at `offset`, a multiple of 4; ValueError where something is there."""
        dwords = range(offset // 4, (offset + file.size + 3) // 4)
        if offset % 4 or offset < 0 or dwords.stop * 4 > self.size:
            raise ValueError(f"{file.size} bytes of configuration registers cannot be put at {offset:#x}")
        if any(dword in self._at for dword in dwords):
            raise ValueError(f"configuration registers at {offset:#x}: something else is there")
        self._files.append((offset, file))
        for dword in dwords:
            self._at[dword] = (offset, file)
        self.hold(offset, bytes(file.size), bytes(file.size))

    def hold(self, offset: int, data: bytes, writable: bytes) -> None:
        """Have `data` at `offset`, of which a guest can change the bits of `writable`, where there are no registers."""
        self._kept[offset : offset + len(data)] = data
        self._writable[offset : offset + len(data)] = writable

    def room(self, size: int) -> int:
        """The lowest free offset in the conventional space for `size` bytes, or ValueError."""
        need = (size + 3) // 4
        for start in range(OWN // 4, CONVENTIONAL_SIZE // 4 - need + 1):
            if all(dword not in self._at for dword in range(start, start + need)):
                return start * 4
        raise ValueError(f"configuration space has no room for a capability of {size} bytes")

    def read(self, offset: int, size: int) -> int:
        """Read `size` bytes."""
        value = 0
        for at, length in _by_dword(offset, size):
            value |= self._read_dword(at, length) << 8 * (at - offset)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `size` bytes."""
        for at, length in _by_dword(offset, size):
            place = self._at.get(at >> 2)
            if place is not None:
                base, file = place
                file.write(at - base, length, value >> 8 * (at - offset) & (1 << 8 * length) - 1)
        for at, byte in enumerate(value.to_bytes(size, "little"), start=offset):
            if at < self.size:
                mask = self._writable[at]
                self._kept[at] = self._kept[at] & ~mask | byte & mask

    def _read_dword(self, offset: int, length: int) -> int:
        place = self._at.get(offset >> 2)
        if place is not None:
            base, file = place
            return file.read(offset - base, length) | self._kept_at(offset, length)
        return self._kept_at(offset, length) if 0 <= offset < self.size else (1 << 8 * length) - 1

    def _kept_at(self, offset: int, length: int) -> int:
        return int.from_bytes(self._kept[offset : offset + length], "little")

    # --- what is kept, in snapshots

    def save_kept(self) -> dict[str, int]:
        """The bytes that are kept and not 0, by their offsets."""
        return {str(at): byte for at, byte in enumerate(self._kept) if byte}

    def judge_kept(self, state: Mapping[str, int]) -> None:
        """ValueError where `restore_kept` cannot take `state`."""
        for name, byte in state.items():
            if not name.isdecimal() or int(name) >= self.size or not 0 <= byte <= 0xFF:
                raise ValueError(f"configuration space of {self.size} bytes cannot hold {byte} at {name}")

    def restore_kept(self, state: Mapping[str, int]) -> None:
        """Take what `save_kept` gave."""
        for at, mask in enumerate(self._writable):
            if mask:
                self._kept[at] = self._kept[at] & ~mask | state.get(str(at), 0) & mask


def _by_dword(offset: int, size: int) -> list[tuple[int, int]]:
    """Cut a range at multiples of 4."""
    if (offset & 3) + size <= 4:
        return [(offset, size)]
    cuts = []
    end = offset + size
    while offset < end:
        stop = min(end, (offset | 3) + 1)
        cuts.append((offset, stop - offset))
        offset = stop
    return cuts
