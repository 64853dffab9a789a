"""The mode pages of a disk (SBC-4 §6.5)."""

from __future__ import annotations

from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import modes
from devmodels.scsi.modes import ModePage

ERROR_RECOVERY = Layout(modes.READ_WRITE_ERROR_RECOVERY)
CACHING = Layout(modes.CACHING)
CONTROL = Layout(modes.CONTROL)
EXCEPTIONS = Layout(modes.INFORMATIONAL_EXCEPTIONS)

UNRESTRICTED = 1
"""QUEUE ALGORITHM MODIFIER: SIMPLE tasks in any order (SPC-4 Table 364)."""


def disk_pages(write_cache: bool) -> list[ModePage]:
    """The pages, with `write_cache` as the default of WCE."""
    return [
        ModePage(0x01, ERROR_RECOVERY, awre=1, arre=1),
        ModePage(0x08, CACHING, wce=write_cache),
        ModePage(0x0A, CONTROL, queue_algorithm_modifier=UNRESTRICTED),
        ModePage(0x1C, EXCEPTIONS),
    ]
