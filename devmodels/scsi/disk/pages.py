"""The mode pages of a disk (SBC-4 §6.5)."""

from __future__ import annotations

from devmodels.scsi.disk import provisioning
from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import modes
from devmodels.scsi.modes import ModePage

ERROR_RECOVERY = Layout(modes.READ_WRITE_ERROR_RECOVERY)
CACHING = Layout(modes.CACHING)
CONTROL = Layout(modes.CONTROL)
CONTROL_EXTENSION = Layout(modes.CONTROL_EXTENSION)
EXCEPTIONS = Layout(modes.INFORMATIONAL_EXCEPTIONS)

UNRESTRICTED = 1
"""QUEUE ALGORITHM MODIFIER: SIMPLE tasks in any order (SPC-4 Table 364)."""


def disk_pages(write_cache: bool, *, thin: bool) -> list[ModePage]:
    """The pages, with `write_cache` as the default of WCE."""
    pages = [
        ModePage(0x01, ERROR_RECOVERY, ("awre", "arre"), awre=1, arre=1),
        ModePage(0x08, CACHING, ("wce",), wce=write_cache),
        ModePage(
            0x0A,
            CONTROL,
            ("d_sense", "qerr", "ua_intlck_ctrl", "swp", "tas"),
            queue_algorithm_modifier=UNRESTRICTED,
        ),
        ModePage(0x0A, CONTROL_EXTENSION, subpage=1),
        ModePage(0x1C, EXCEPTIONS, ("dexcpt", "test", "mrie")),
    ]
    if thin:
        pages.append(provisioning.mode_page())
    return pages
