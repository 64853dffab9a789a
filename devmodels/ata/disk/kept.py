"""What a disk keeps over a loss of power, in a file: what hosts have locked, hidden and switched on or off for good.

Passwords (ACS-3 §4.18), the accessible maximum (§4.4), power-up in standby (§4.16), and whether SMART is on (§4.19).
Their commands end when it has been kept, and fail where it cannot be; then all is as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec

from devmodels.ata.command import AtaError
from devmodels.ata.disk.security import FACTORY_MASTER_ID, PASSWORD_SIZE
from devmodels.iocontext import Coro
from devmodels.statefile import Saved, SavedFile

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

Password = Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{2 * PASSWORD_SIZE}}}$")]


class KeptState(Saved, frozen=True):
    """`user` and `master` are passwords in hexadecimal; `accessible`: how many sectors can be addressed, or all."""

    user: Password | None = None
    master: Password = "00" * PASSWORD_SIZE
    master_id: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)] = FACTORY_MASTER_ID
    maximum: bool = False
    accessible: Annotated[int, msgspec.Meta(ge=1, lt=1 << 48)] | None = None
    puis: bool = False
    smart: bool = True


class KeptFile(SavedFile[KeptState]):
    """That of an ATA disk."""

    KIND = KeptState
    WHOSE = "an ATA disk"


def take(disk: AtaDisk) -> None:
    """Be as the file says, after power-on."""
    if disk.state is None:
        return
    kept, security = disk.state.state, disk.security
    security.user = None if kept.user is None else bytes.fromhex(kept.user)
    security.master, security.master_id = bytes.fromhex(kept.master), kept.master_id
    security.maximum = kept.maximum
    security.power_on()
    disk.accessible_max = kept.accessible
    disk.puis = disk.puis or kept.puis
    disk.smart.enabled = kept.smart


def keep(disk: AtaDisk, undo: Callable[[], None]) -> Coro[None] | None:
    """Something has changed: the rest of its command; `undo` makes it what it was."""
    return None if disk.state is None else _keep(disk, disk.state, undo)


async def _keep(disk: AtaDisk, file: KeptFile, undo: Callable[[], None]) -> None:
    security = disk.security
    try:
        await file.keep(
            user=None if security.user is None else security.user.hex(),
            master=security.master.hex(),
            master_id=security.master_id,
            maximum=security.maximum,
            accessible=disk.accessible_max,
            puis=disk.puis,
            smart=disk.smart.enabled,
        )
    except OSError:
        undo()
        raise AtaError from None
