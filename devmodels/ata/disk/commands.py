"""All commands of a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.ata.disk import cache, features, identify, rw
from devmodels.ata.disk.options import AtaDiskOptions
from devmodels.ata.table import Command

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

COMMANDS: tuple[Command[AtaDisk], ...] = (
    *rw.COMMANDS,
    *identify.COMMANDS,
    *features.COMMANDS,
    *cache.COMMANDS,
)


def of(options: AtaDiskOptions) -> tuple[Command[AtaDisk], ...]:
    """Those of a disk with such options."""
    absent = set() if options.queue_depth else {"NCQ"}
    return tuple(each for each in COMMANDS if each.feature not in absent)
