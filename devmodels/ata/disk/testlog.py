"""The logs of self-tests: that of SMART, and the extended one (ATA8-ACS annex A; the latter: §A.8)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from devmodels.ata.words import checksummed

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

SELF_TESTS, EXTENDED_SELF_TESTS = 0x06, 0x07
"""Log addresses."""
MAX_RESULTS = 21
"""Places in a page of SMART's log."""
MAX_EXTENDED = 19
VERSION = 1


def pages(disk: AtaDisk) -> bytes:
    """Revision, 21 places of 24 bytes, which of them is the newest."""
    rows = b"".join(
        struct.pack("<BBHBI15x", which, outcome, hours, 0, lba & 0xFFFF_FFFF)
        for which, outcome, hours, lba in disk.smart.results
    )
    page = (struct.pack("<H", VERSION) + rows).ljust(508, b"\0")
    return checksummed(page + bytes((len(disk.smart.results),)))


def extended(disk: AtaDisk) -> bytes:
    """The same with 19 places of 26 bytes, and addresses of 48 bits."""
    results = disk.smart.results[-MAX_EXTENDED:]
    rows = b"".join(
        struct.pack("<BBHB6s15x", which, outcome, hours, 0, lba.to_bytes(6, "little"))
        for which, outcome, hours, lba in results
    )
    return checksummed(struct.pack("<BxH", VERSION, len(results)) + rows)
