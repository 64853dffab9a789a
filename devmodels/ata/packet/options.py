"""Options of an ATAPI drive, by the names of QEMU's `ide-cd`; what QEMU does not have says so."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from devmodels.scsi.mmc.options import MAX_LOAD_TIME, CdOptions

TEXTS = {"serial": 20, "ver": 8, "model": 40}
"""Options that are text, and how long it may be (ACS-3 §7.13.6)."""


NAMES, NAMES_AS_QEMU = ("1.0", "DEVMODEL BD-ROM"), ("2.5+", "QEMU DVD-ROM")
"""Firmware revision and model number."""


class AtapiOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a drive says of itself, and what it takes its media for.  `bootindex` is for firmware.

    Where `ver` and `model` are not given they are `NAMES`, and under profile `qemu` those of QEMU's drive.

    Ours: `profile` and `load_time`, as of `CdOptions`.
    """

    serial: str = ""
    ver: str = ""
    model: str = ""
    wwn: int = 0
    bootindex: int | None = None
    profile: Literal["auto", "cd", "dvd", "bd"] = "auto"
    load_time: Annotated[
        int, msgspec.Meta(ge=0, le=MAX_LOAD_TIME, description=f"milliseconds from 0 to {MAX_LOAD_TIME}")
    ] = 0

    def __post_init__(self) -> None:
        for name, length in TEXTS.items():
            text = getattr(self, name)
            if len(text) > length or not text.isascii() or not (text.isprintable() or not text):
                raise ValueError(f"{name} is {text!r}, expected at most {length} printable ASCII characters")
        if not 0 <= self.wwn < 1 << 64:
            raise ValueError(f"wwn is {self.wwn:#x}, expected 64 bits")

    @property
    def unit_options(self) -> CdOptions:
        """Those of its logical unit."""
        return CdOptions(
            ver=(self.ver or NAMES[0])[:4],
            serial=self.serial,
            wwn=self.wwn,
            profile=self.profile,
            load_time=self.load_time,
        )
