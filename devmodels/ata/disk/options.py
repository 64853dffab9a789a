"""Options of an ATA disk, by the names of QEMU's `ide-hd`; what QEMU does not have says so."""

from __future__ import annotations

from typing import Literal

import msgspec

BLOCK_SIZES = (512, 1024, 2048, 4096)
MAX_PHYSICAL = 1 << 20
"""The largest physical sector, in bytes: 8 logical ones of the largest size would be less."""
TEXTS = {"serial": 20, "ver": 8, "model": 40}
"""Options that are text, and how long it may be (ACS-3 §7.12.7.10, .13, .14)."""
NAMES, NAMES_AS_QEMU = ("1.0", "DEVMODEL ATA DISK"), ("2.5+", "QEMU HARDDISK")
"""Firmware revision and model number."""
MAX_QUEUE_DEPTH = 32
MAX_CYLS, MAX_HEADS, MAX_SECS = 65535, 16, 255
AUTO = 0xFFFF_FFFF


class AtaDiskOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    """What a disk says of itself.

    Where `ver` and `model` are not given they are `NAMES`, and under profile `qemu` those of QEMU's disk.
    Sizes are in bytes.  `cyls`, `heads`, `secs`: its default geometry, all of them or none (made of its size then).
    `rotation_rate` is 0 where nothing is said, 1 for a disk that does not rotate, else in revolutions a minute.
    `discard_granularity` of 0: no TRIM.  `bios_chs_trans` and `bootindex` are for firmware and change nothing here.
    Ours: `queue_depth` of NCQ, 0 for none; `puis` (power-up in standby is enabled: hosts have to spin it up first),
    `state` (a file that keeps passwords and other settings over a restart: `kept`).
    """

    serial: str = ""
    ver: str = ""
    model: str = ""
    wwn: int = 0
    logical_block_size: int = msgspec.field(default=512, name="logical_block_size")
    physical_block_size: int = msgspec.field(default=512, name="physical_block_size")
    discard_granularity: int = msgspec.field(default=AUTO, name="discard_granularity")
    rotation_rate: int = msgspec.field(default=0, name="rotation_rate")
    write_cache: Literal["on", "off", "auto"] = "auto"
    cyls: int = 0
    heads: int = 0
    secs: int = 0
    bios_chs_trans: Literal["auto", "none", "lba", "large", "rechs"] = "auto"
    bootindex: int | None = None
    queue_depth: int = 32
    puis: bool = False
    state: str = ""

    def __post_init__(self) -> None:
        block, physical = self.logical_block_size, self.physical_block_size
        if block not in BLOCK_SIZES:
            raise ValueError(
                f"logical_block_size is {block}, expected one of {', '.join(map(str, BLOCK_SIZES))}"
            )
        if physical & (physical - 1) or not block <= physical <= MAX_PHYSICAL:
            raise ValueError(
                f"physical_block_size is {physical}, expected a power of two from logical_block_size, {block},"
                f" to {MAX_PHYSICAL}"
            )
        for name, length in TEXTS.items():
            text = getattr(self, name)
            if len(text) > length or not text.isascii() or not (text.isprintable() or not text):
                raise ValueError(f"{name} is {text!r}, expected at most {length} printable ASCII characters")
        if not 0 <= self.wwn < 1 << 64:
            raise ValueError(f"wwn is {self.wwn:#x}, expected 64 bits")
        if not 0 <= self.rotation_rate <= 0xFFFE:
            raise ValueError(f"rotation_rate is {self.rotation_rate}, expected 0 to 65534")
        if not 0 <= self.queue_depth <= MAX_QUEUE_DEPTH:
            raise ValueError(f"queue-depth is {self.queue_depth}, expected 0 to {MAX_QUEUE_DEPTH}")
        self._check_geometry()

    def _check_geometry(self) -> None:
        given = (self.cyls, self.heads, self.secs)
        if not any(given):
            return
        for name, value, most in zip(
            ("cyls", "heads", "secs"), given, (MAX_CYLS, MAX_HEADS, MAX_SECS), strict=True
        ):
            if not 1 <= value <= most:
                raise ValueError(
                    f"{name} is {value}, expected 1 to {most}, as cyls, heads and secs are given"
                )
