"""Options of a SCSI disk, by the names of QEMU's `scsi-hd`; what QEMU does not have says so."""

from __future__ import annotations

from typing import Literal

import msgspec

from devmodels.scsi.identity import check_identity

BLOCK_SIZES = (512, 1024, 2048, 4096)
MAX_PHYSICAL = 1 << 20
"""The largest physical block, in bytes."""

SIZES = {
    "min_io_size": (0, 0xFFFF),
    "opt_io_size": (0, 0xFFFF_FFFF),
    "discard_granularity": (0, 0xFFFF_FFFF),
    "max_io_size": (1, 0xFFFF_FFFF),
    "max_unmap_size": (1, 0xFFFF_FFFF),
}
"""Sizes that the block limits page tells, and how many blocks they may be."""


class DiskOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    """What a disk says of itself, and what it allows.

    Sizes are in bytes.  `serial`, `device_id`, `wwn`: its unit serial number, its T10 vendor identification, its NAA
    name.  `max_io_size`, `max_unmap_size`: the longest transfer and the longest range of UNMAP.  Ours: `queue_depth`
    (tasks at a time), `state` (a file that keeps registrations and saved mode pages over a restart), `thin` (logical
    block provisioning management, LBPME), `reservations` (`passthrough`: they are those of the logical unit below).
    """

    vendor: str = "DEVMODEL"
    product: str = "DISK"
    ver: str = "1.0"
    serial: str = ""
    device_id: str = msgspec.field(default="", name="device_id")
    wwn: int = 0
    removable: bool = False
    dpofua: bool = True
    logical_block_size: int = msgspec.field(default=512, name="logical_block_size")
    physical_block_size: int = msgspec.field(default=512, name="physical_block_size")
    min_io_size: int = msgspec.field(default=0, name="min_io_size")
    opt_io_size: int = msgspec.field(default=0, name="opt_io_size")
    discard_granularity: int = msgspec.field(default=0, name="discard_granularity")
    max_io_size: int = msgspec.field(default=32 << 20, name="max_io_size")
    max_unmap_size: int = msgspec.field(default=512 << 20, name="max_unmap_size")
    rotation_rate: int = msgspec.field(default=1, name="rotation_rate")
    write_cache: Literal["on", "off", "auto"] = "auto"
    thin: bool = True
    queue_depth: int = 256
    state: str = ""
    reservations: Literal["own", "passthrough"] = "own"

    def __post_init__(self) -> None:
        _check("logical_block_size", self.logical_block_size, BLOCK_SIZES)
        physical, block = self.physical_block_size, self.logical_block_size
        if physical & (physical - 1) or not block <= physical <= MAX_PHYSICAL:
            raise ValueError(
                f"physical_block_size is {physical}, expected a power of two from logical_block_size, {block},"
                f" to {MAX_PHYSICAL}"
            )
        for name, (least, most) in SIZES.items():
            value = getattr(self, name)
            if value % block or not least <= value // block <= most:
                expected = f"a multiple of {block} from {least * block} to {most * block}"
                raise ValueError(f"{name} is {value}, expected {expected}")
        if not 1 <= self.queue_depth <= 1 << 16:
            raise ValueError(f"queue-depth is {self.queue_depth}, expected 1 to 65536")
        check_identity(self)
        if not 0 <= self.rotation_rate <= 0xFFFF:
            raise ValueError(f"rotation_rate is {self.rotation_rate}, expected 0 to 65535")

    @property
    def absent_fields(self) -> tuple[str, ...]:
        """Fields of CDBs that such a disk refuses."""
        absent: list[str] = []
        if not self.dpofua:
            absent += ("dpo", "fua")
        if not self.thin:
            absent += ("unmap", "anchor")
        return tuple(absent)


def _check(name: str, value: int, allowed: tuple[int, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value}, expected one of {', '.join(map(str, allowed))}")
