"""The log pages of a disk (SPC-4 §7.3, SBC-4 §6.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from devmodels.scsi.disk.provisioning import AVAILABLE, USED
from devmodels.scsi.logs import LogPage, Parameter, counter
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

_BYTES_PROCESSED, _UNCORRECTED = 0x0005, 0x0006
_DEDICATED = 0x01
"""SCOPE: the resource is this unit's own."""
_MOST = 0xFFFF_FFFF
"""The greatest resource count."""
_MICROSECONDS = -6


def disk_logs(disk: Disk) -> Mapping[tuple[int, int], LogPage]:
    """The pages by page code and subpage code."""

    async def written(_task: Task) -> list[Parameter]:
        """Write error counters, SPC-4 §7.3.5."""
        stats = disk.backend.stats
        return [
            counter(_BYTES_PROCESSED, stats.wr_bytes),
            counter(_UNCORRECTED, stats.failed_wr_operations),
        ]

    async def read(_task: Task) -> list[Parameter]:
        """Read error counters, SPC-4 §7.3.5."""
        stats = disk.backend.stats
        return [
            counter(_BYTES_PROCESSED, stats.rd_bytes),
            counter(_UNCORRECTED, stats.failed_rd_operations),
        ]

    async def provisioning(task: Task) -> list[Parameter]:
        """Logical block provisioning, SBC-4 §6.4.5."""
        available, used = await disk.provisioning.counts(task)
        scope = bytes((_DEDICATED, 0, 0, 0))
        counts = ((AVAILABLE, available), (USED, used))
        return [Parameter(code, min(count, _MOST).to_bytes(4, "big") + scope) for code, count in counts]

    async def performance(_task: Task) -> list[Parameter]:
        """General statistics and performance, SPC-4 §7.3.9, with the time interval in microseconds."""
        stats = disk.backend.stats
        size = disk.block_size
        reading, writing = stats.rd_total_time_ns // 1000, stats.wr_total_time_ns // 1000
        values = (
            stats.rd_operations,
            stats.wr_operations,
            stats.wr_bytes // size,
            stats.rd_bytes // size,
            reading,
            writing,
            reading + writing,
            reading + writing,
        )
        interval = _MICROSECONDS.to_bytes(4, "big", signed=True) + (1).to_bytes(4, "big")
        return [
            Parameter(0x0001, b"".join(value.to_bytes(8, "big") for value in values)),
            Parameter(0x0003, interval),
        ]

    async def exceptions(_task: Task) -> list[Parameter]:
        """Informational exceptions, SPC-4 §7.3.11: what would be told now, and no temperature."""
        code = disk.exception_code()
        return [Parameter(0x0000, code.to_bytes(2, "big") + b"\0\0")]

    pages: dict[tuple[int, int], LogPage] = {
        (0x02, 0): written,
        (0x03, 0): read,
        (0x19, 0): performance,
        (0x2F, 0): exceptions,
    }
    if disk.options.thin:
        pages[0x0C, 0] = provisioning
    return pages
