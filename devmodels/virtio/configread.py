"""How QEMU's devices answer a read of their configuration space: what is not all within it reads all ones.

An access that is not aligned comes to them in pieces that are, of four bytes at most.
"""

from __future__ import annotations

from devmodels.virtio.devicetype import DeviceType

WIDEST = 4


def read_as_qemu(device: DeviceType, offset: int, size: int) -> int:
    """A little-endian value of `size` bytes."""
    end = device.CONFIG_SIZE if device.qemu_config_size is None else device.qemu_config_size
    value = done = 0
    while done < size:
        at = offset + done
        piece = min(WIDEST, at & -at or WIDEST, 1 << (size - done).bit_length() - 1)
        one = device.read_config(at, piece) if at + piece <= end else (1 << 8 * piece) - 1
        value |= one << 8 * done
        done += piece
    return value
