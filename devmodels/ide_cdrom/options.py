"""Options of `piix3-ide` and `piix4-ide`, and of what is on their channels, by QEMU's names."""

from __future__ import annotations

from typing import Literal

import msgspec


class IdePciOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Options of the controllers.

    `addr` as of other PCI devices.  Ours: `native` makes both channels' registers BARs and their interrupt INTA#, for
    machines without the fixed ports and lines of a PC.
    """

    driver: Literal["piix3-ide", "piix4-ide"] = "piix3-ide"
    id: str | None = None
    addr: str | None = None
    native: bool = False
