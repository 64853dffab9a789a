"""How QEMU's devices answer a read of their configuration space: what is not all within it reads all ones.

An access that is not aligned comes to them in pieces that are, of four bytes at most.
"""

from __future__ import annotations

from devmodels.registers.pieces import aligned_pieces
from devmodels.virtio.devicetype import DeviceType


def shown_size(device: DeviceType) -> int:
    """Bytes of the device configuration space that a guest is shown."""
    return device.CONFIG_SIZE if device.qemu_config_size is None else device.qemu_config_size


def read_as_qemu(device: DeviceType, offset: int, size: int) -> int:
    """A little-endian value of `size` bytes."""
    end = shown_size(device)
    value = 0
    for at, piece in aligned_pieces(offset, size):
        one = device.read_config(at, piece) if at + piece <= end else (1 << 8 * piece) - 1
        value |= one << 8 * (at - offset)
    return value
