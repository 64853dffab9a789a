"""SET FEATURES (ACS-3 §7.45): what of the disk is switched on and off while it runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from devmodels.ata import features
from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import Error, Transport
from devmodels.ata.disk import power
from devmodels.ata.table import Command, Protocol, Reply
from devmodels.iocontext import Coro

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk


async def write_cache(disk: AtaDisk, command: AtaCommand, *, on: bool) -> None:
    """What is in the cache is made stable before it is switched off (ACS-3 §7.45, subcommand 82h).

    Without effect where SCT has forced it on or off.
    """
    on = disk.sct.write_cache(on)
    if not on and disk.backend.write_cache:
        await disk.flush(command)
    disk.backend.write_cache = on


def look_ahead(disk: AtaDisk, _command: AtaCommand, *, on: bool) -> None:
    """Told in IDENTIFY DEVICE, without effect."""
    disk.look_ahead = on


def power_level(disk: AtaDisk, command: AtaCommand, *, on: bool) -> None:
    """Advanced power management: 1 (least power) to FEh (ACS-3 §7.45, subcommand 05h), told in IDENTIFY DEVICE."""
    level = features.count_of(command) if on else 0
    if on and not 1 <= level <= MAX_APM:
        raise AtaError(Error.ABRT)
    disk.apm = level


def preserve(disk: AtaDisk, command: AtaCommand, *, on: bool) -> None:
    """Whether a COMRESET leaves settings alone: the only feature of SATA that can be switched (SATA 3.x §13.3)."""
    if features.count_of(command) != SETTINGS_PRESERVATION or disk.transport is not Transport.SERIAL:
        raise AtaError(Error.ABRT)
    disk.preserves = on


def power_up_in_standby(disk: AtaDisk, _command: AtaCommand, *, on: bool) -> Coro[None] | None:
    """Whether the disk is to wait for a host after its next power-on (ACS-3 §4.16, PUIS)."""
    before, disk.puis = disk.puis, on
    return disk.keep(partial(setattr, disk, "puis", before))


def spin_up(disk: AtaDisk, _command: AtaCommand) -> None:
    """A disk that has come up in standby may be used."""
    if disk.waits:
        disk.waits = False
        disk.power_mode = power.ACTIVE


def set_multiple(disk: AtaDisk, command: AtaCommand) -> None:
    """SET MULTIPLE MODE: sectors in a DRQ data block, a power of two; 0 switches READ and WRITE MULTIPLE off."""
    count = command.taskfile.count & 0xFF
    if count & (count - 1) or count > disk.MAX_MULTIPLE:
        disk.multiple = 0
        raise AtaError(Error.ABRT)
    disk.multiple = count


def queued(disk: AtaDisk, command: AtaCommand) -> Reply:
    """SET FEATURES in the queue (NCQ NON-DATA, 5h): features, bits 15:8, say which subcommand (ACS-4)."""
    handler = _BY_VALUE.get(command.taskfile.features >> 8 & 0xFF)
    if handler is None:
        raise AtaError(Error.ABRT)
    return handler(disk, command)


MAX_APM = 0xFE
SETTINGS_PRESERVATION = 0x06

COMMANDS: tuple[Command[AtaDisk], ...] = (
    *features.COMMANDS,
    features.set_features(0x02, "enable volatile write cache", partial(write_cache, on=True)),
    features.set_features(0x05, "enable APM", partial(power_level, on=True)),
    features.set_features(0x06, "enable power-up in standby", partial(power_up_in_standby, on=True)),
    features.set_features(0x07, "spin up", spin_up),
    features.set_features(0x10, "enable a feature of SATA", partial(preserve, on=True)),
    features.set_features(0x55, "disable read look-ahead", partial(look_ahead, on=False)),
    features.set_features(0x82, "disable volatile write cache", partial(write_cache, on=False)),
    features.set_features(0x85, "disable APM", partial(power_level, on=False)),
    features.set_features(0x86, "disable power-up in standby", partial(power_up_in_standby, on=False)),
    features.set_features(0x90, "disable a feature of SATA", partial(preserve, on=False)),
    features.set_features(0xAA, "enable read look-ahead", partial(look_ahead, on=True)),
    Command(0xC6, "SET MULTIPLE MODE", Protocol.NON_DATA, set_multiple, "ACS-3 §7.46"),
)
_BY_VALUE = {each.value: each.handler for each in COMMANDS if each.opcode == features.SET_FEATURES}
