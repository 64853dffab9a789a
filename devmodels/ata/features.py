"""SET FEATURES (ACS-3 §7.45): what disks and ATAPI devices have in common of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.table import Command, Handler, Protocol, Sub

if TYPE_CHECKING:
    from devmodels.ata.device import AtaDevice

SET_FEATURES = 0xEF
TAKEN = (0xAA, 0x55, 0x05, 0x85, 0x69, 0x67, 0x96, 0x9A, 0x42, 0xC2)
"""Subcommands that QEMU's devices take, and that change nothing."""
MODE_WORDS = {0: None, 1: None, 2: 62, 4: 63, 8: 88}
"""Count, bits 7:3, of SET FEATURES, set transfer mode, and the word in which QEMU's devices tell of such a mode."""
D = TypeVar("D", bound="AtaDevice")


def set_features(value: int, name: str, handler: Handler[D]) -> Command[D]:
    """The subcommand `value` of SET FEATURES."""
    return Command(
        SET_FEATURES,
        f"SET FEATURES, {name}",
        Protocol.NON_DATA,
        handler,
        "ACS-3 §7.45",
        sub=Sub.FEATURES,
        value=value,
    )


def count_of(command: AtaCommand) -> int:
    """The count that a subcommand is given; the queue's form has its tag there, and this in bits 15:8 (ACS-4)."""
    count = command.taskfile.count
    return (count >> 8 if command.queued else count) & 0xFF


def transfer_mode(device: AtaDevice, command: AtaCommand) -> None:
    """As count says."""
    if not device.modes.choose(count_of(command)):
        raise AtaError


def mode_words(count: int) -> dict[int, int]:
    """What QEMU's devices tell in IDENTIFY DEVICE after SET FEATURES, set transfer mode: words and their values.

    PIO, single word, multiword and Ultra DMA modes are there, from 0 to 7.
    """
    kind, mode = divmod(count, 8)
    if kind not in MODE_WORDS:
        raise AtaError
    words, chosen = {62: 0x0007, 63: 0x0007, 88: 0x003F}, MODE_WORDS[kind]
    if chosen is not None:
        words[chosen] |= 0x100 << mode
    return words


def revert(device: AtaDevice, _command: AtaCommand, *, on: bool) -> None:
    """Whether a software reset leads to the power-on defaults."""
    device.reverts = on


COMMANDS: tuple[Command[AtaDevice], ...] = (
    set_features(0x03, "set transfer mode", transfer_mode),
    set_features(0x66, "disable reverting to power-on defaults", partial(revert, on=False)),
    set_features(0xCC, "enable reverting to power-on defaults", partial(revert, on=True)),
)
