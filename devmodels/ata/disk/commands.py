"""All commands of a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.ata.disk import (
    basic,
    cache,
    capacity,
    features,
    identify,
    logs,
    power,
    queue,
    rw,
    security,
    selftest,
    smart,
    trim,
)
from devmodels.ata.disk.options import AtaDiskOptions
from devmodels.ata.table import Command

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

COMMANDS: tuple[Command[AtaDisk], ...] = (
    *rw.COMMANDS,
    *identify.COMMANDS,
    *features.COMMANDS,
    *cache.COMMANDS,
    *trim.COMMANDS,
    *queue.COMMANDS,
    *logs.COMMANDS,
    *power.COMMANDS,
    *smart.COMMANDS,
    *selftest.COMMANDS,
    *security.COMMANDS,
    *capacity.COMMANDS,
    *basic.COMMANDS,
)


def of(options: AtaDiskOptions) -> tuple[Command[AtaDisk], ...]:
    """Those of a disk with such options."""
    absent = set()
    if not options.queue_depth:
        absent |= {"NCQ", "queued TRIM"}
    if not options.discard_granularity:
        absent |= {"TRIM", "queued TRIM"}
    return tuple(each for each in COMMANDS if each.feature not in absent)
