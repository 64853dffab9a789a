"""The security feature set (ACS-3 §4.18): passwords, locking, freezing, erasing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import BLOCK, Error
from devmodels.ata.disk.requests import AtaRequest
from devmodels.ata.table import Command, Protocol
from devmodels.ata.transfer import DataOut
from devmodels.blockbackend import Flags, Op
from devmodels.iocontext import Coro

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

PASSWORD_SIZE = 32
ATTEMPTS = 5
ERASE_UNIT = 0xF4
MASTER_BIT, ENHANCED_BIT, MAXIMUM_BIT = 0x0001, 0x0002, 0x0100
"""Bits of word 0 of what is sent."""
FACTORY_MASTER_ID = 0xFFFE
Then = Callable[[Any, AtaCommand, bytes], Coro[None] | None]
Passwords = tuple[bytes | None, bytes, int, bool]
ERASE_PIECE = 1 << 30
"""How much is erased at a time, in bytes."""


class Security:
    """Passwords, None where there is none; `locked`, `frozen`; how many `attempts` are left."""

    __slots__ = ("attempts", "frozen", "locked", "master", "master_id", "maximum", "prepared", "user")

    def __init__(self) -> None:
        self.user: bytes | None = None
        self.master = bytes(PASSWORD_SIZE)
        self.master_id = FACTORY_MASTER_ID
        self.maximum = False
        self.locked = self.frozen = self.prepared = False
        self.attempts = ATTEMPTS

    def power_on(self) -> None:
        """With a user password the disk is locked; there are new attempts (ACS-3 §4.18)."""
        self.locked = self.user is not None
        self.frozen = self.prepared = False
        self.attempts = ATTEMPTS

    @property
    def passwords(self) -> Passwords:
        """What outlives a loss of power: user and master password, the latter's number, which security level."""
        return self.user, self.master, self.master_id, self.maximum

    def be(self, passwords: Passwords) -> None:
        """Have these."""
        self.user, self.master, self.master_id, self.maximum = passwords

    @property
    def word(self) -> int:
        """Word 128 of IDENTIFY DEVICE."""
        enabled = self.user is not None
        bits = (True, enabled, self.locked, self.frozen, not self.attempts, True)
        return sum(on << at for at, on in enumerate(bits)) | MAXIMUM_BIT * (enabled and self.maximum)

    def matches(self, given: bytes, *, master: bool) -> bool:
        """Whether a password is right."""
        import hmac

        own = self.master if master else self.user
        return own is not None and hmac.compare_digest(own, given)


def _parse(data: bytes) -> tuple[int, bytes]:
    return int.from_bytes(data[:2], "little"), data[2 : 2 + PASSWORD_SIZE]


def _set_password(disk: AtaDisk, _command: AtaCommand, data: bytes) -> Coro[None] | None:
    flags, password = _parse(data)
    security = disk.security
    before = security.passwords
    if flags & MASTER_BIT:
        security.master = password
        number = int.from_bytes(data[34:36], "little")
        if number not in (0, 0xFFFF):
            security.master_id = number
    else:
        security.user, security.maximum = password, bool(flags & MAXIMUM_BIT)
    return disk.keep(partial(security.be, before))


def _unlock(disk: AtaDisk, _command: AtaCommand, data: bytes) -> None:
    flags, password = _parse(data)
    security = disk.security
    master = bool(flags & MASTER_BIT)
    if not security.attempts:
        raise AtaError(Error.ABRT)
    if (master and security.maximum) or not security.matches(password, master=master):
        security.attempts -= security.locked
        raise AtaError(Error.ABRT)
    security.locked = False


def _disable(disk: AtaDisk, _command: AtaCommand, data: bytes) -> Coro[None] | None:
    flags, password = _parse(data)
    security = disk.security
    master = bool(flags & MASTER_BIT)
    if (master and security.maximum) or not security.matches(password, master=master):
        raise AtaError(Error.ABRT)
    before = security.passwords
    security.user, security.maximum = None, False
    return disk.keep(partial(security.be, before))


async def _erase(disk: AtaDisk, command: AtaCommand, data: bytes) -> None:
    """All sectors become zeroes, and the user password goes (ACS-3 §7.39)."""
    flags, password = _parse(data)
    security = disk.security
    if not security.prepared or not security.matches(password, master=bool(flags & MASTER_BIT)):
        security.prepared = False
        raise AtaError(Error.ABRT)
    try:
        await _erase_all(disk, command)
    finally:
        # Not before: one that is held is begun again where a snapshot is restored.
        security.prepared = False
    disk.bad.forget()
    before = security.passwords
    security.user, security.maximum = None, False
    keeping = disk.keep(partial(security.be, before))
    if keeping is not None:
        await keeping
    security.locked = False


async def _erase_all(disk: AtaDisk, command: AtaCommand) -> None:
    size = disk.sectors * disk.sector_size
    for offset in range(0, size, ERASE_PIECE):
        length = min(ERASE_PIECE, size - offset)
        request = AtaRequest(Op.WRITE_ZEROES, offset, length, (), Flags.MAY_UNMAP)
        if await disk.perform(command, request):
            raise AtaError(Error.ABRT)


def set_password(disk: AtaDisk, _command: AtaCommand) -> DataOut:
    """SECURITY SET PASSWORD."""
    return _wanted(disk, _set_password, locked=True)


def unlock(disk: AtaDisk, _command: AtaCommand) -> DataOut:
    """SECURITY UNLOCK: five wrong passwords, and no other is looked at before the next power-on."""
    return _wanted(disk, _unlock)


def erase_unit(disk: AtaDisk, _command: AtaCommand) -> DataOut:
    """SECURITY ERASE UNIT, directly after SECURITY ERASE PREPARE; not after five wrong passwords."""
    if not disk.security.attempts:
        raise AtaError(Error.ABRT)
    return _wanted(disk, _erase)


def disable(disk: AtaDisk, _command: AtaCommand) -> DataOut:
    """SECURITY DISABLE PASSWORD."""
    return _wanted(disk, _disable, locked=True)


def _wanted(disk: AtaDisk, then: Then, *, locked: bool = False) -> DataOut:
    if disk.security.frozen or (locked and disk.security.locked):
        raise AtaError(Error.ABRT)
    return DataOut(BLOCK, then)


def prepare(disk: AtaDisk, _command: AtaCommand) -> None:
    """SECURITY ERASE PREPARE."""
    if disk.security.frozen:
        raise AtaError(Error.ABRT)
    disk.security.prepared = True


def freeze(disk: AtaDisk, _command: AtaCommand) -> None:
    """SECURITY FREEZE LOCK: nothing changes before the next power-on."""
    if disk.security.locked:
        raise AtaError(Error.ABRT)
    disk.security.frozen = True


COMMANDS: tuple[Command[AtaDisk], ...] = (
    Command(0xF1, "SECURITY SET PASSWORD", Protocol.PIO_OUT, set_password, "ACS-3 §7.41"),
    Command(0xF2, "SECURITY UNLOCK", Protocol.PIO_OUT, unlock, "ACS-3 §7.42"),
    Command(0xF3, "SECURITY ERASE PREPARE", Protocol.NON_DATA, prepare, "ACS-3 §7.38"),
    Command(ERASE_UNIT, "SECURITY ERASE UNIT", Protocol.PIO_OUT, erase_unit, "ACS-3 §7.39"),
    Command(0xF5, "SECURITY FREEZE LOCK", Protocol.NON_DATA, freeze, "ACS-3 §7.40"),
    Command(0xF6, "SECURITY DISABLE PASSWORD", Protocol.PIO_OUT, disable, "ACS-3 §7.37"),
)
