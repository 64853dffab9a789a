"""Limits of one device: `block_set_io_throttle`, and what the queries show of them.

QMP has other names for them than throttle groups have: `iops` and `iops_rd` are `iops-total` and `iops-read`.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import UNSET, UnsetType

from devmodels.blockbackend import BlockBackend
from devmodels.blockbackend.options import BlockOptionError
from devmodels.blockbackend.throttling.limits import ThrottleLimits, check
from devmodels.monitor.command import CommandError
from devmodels.monitor.world import World


class ThrottleInfo(msgspec.Struct, kw_only=True):
    """The limits in force, 0 for none; bursts, lengths and the group where there are any."""

    bps: int
    bps_rd: int
    bps_wr: int
    iops: int
    iops_rd: int
    iops_wr: int
    bps_max: int | UnsetType = UNSET
    bps_rd_max: int | UnsetType = UNSET
    bps_wr_max: int | UnsetType = UNSET
    iops_max: int | UnsetType = UNSET
    iops_rd_max: int | UnsetType = UNSET
    iops_wr_max: int | UnsetType = UNSET
    bps_max_length: int | UnsetType = UNSET
    bps_rd_max_length: int | UnsetType = UNSET
    bps_wr_max_length: int | UnsetType = UNSET
    iops_max_length: int | UnsetType = UNSET
    iops_rd_max_length: int | UnsetType = UNSET
    iops_wr_max_length: int | UnsetType = UNSET
    iops_size: int | UnsetType = UNSET
    group: str | UnsetType = UNSET


class BlockIOThrottle(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Limits a second, all of them given, 0 for none; bursts for `…_max_length` seconds."""

    device: str | None = None
    id: str | None = None
    bps: int
    bps_rd: int
    bps_wr: int
    iops: int
    iops_rd: int
    iops_wr: int
    bps_max: int = 0
    bps_rd_max: int = 0
    bps_wr_max: int = 0
    iops_max: int = 0
    iops_rd_max: int = 0
    iops_wr_max: int = 0
    bps_max_length: int = 1
    bps_rd_max_length: int = 1
    bps_wr_max_length: int = 1
    iops_max_length: int = 1
    iops_rd_max_length: int = 1
    iops_wr_max_length: int = 1
    iops_size: int = 0
    group: str | None = None


_OF = {"": "total", "_rd": "read", "_wr": "write"}
NAMES = {"iops_size": "iops-size"} | {
    f"{unit}{short}{what}": f"{unit}-{of}{what.replace('_', '-')}"
    for unit in ("iops", "bps")
    for short, of in _OF.items()
    for what in ("", "_max", "_max_length")
}
"""Names of QMP to those of a throttle group."""
_BACK = {group: name for name, group in NAMES.items()}
_GROUPS = re.compile(r"\b(?:iops|bps)-(?:size|(?:total|read|write)(?:-max(?:-length)?)?)\b")

_ALWAYS = frozenset(f"{unit}{short}" for unit in ("iops", "bps") for short in _OF)
"""What is shown where it is 0, too."""

TOGETHER = "bps/iops/max total values and read/write values cannot be used at the same time"


async def block_set_io_throttle(world: World, arguments: BlockIOThrottle) -> None:
    """Limit a device, and the others of its group; without any limit it leaves its group."""
    backend = world.one_of(arguments.device, arguments.id).backend
    given = {group: getattr(arguments, name) for name, group in NAMES.items()}
    for unit in ("bps", "iops"):
        if given[f"{unit}-total"] and (given[f"{unit}-read"] or given[f"{unit}-write"]):
            raise CommandError(TOGETHER)
    try:
        limits = check(given, where="")
    except BlockOptionError as error:
        text = _GROUPS.sub(lambda found: _BACK[found[0]], str(error))
        raise CommandError(text.lstrip(":. ")) from None
    world.graph.set_io_throttle(backend, limits, arguments.group)


def throttle_info(backend: BlockBackend | None) -> ThrottleInfo:
    """What limits a backend has."""
    member = None if backend is None else backend.throttled_by
    limits = ThrottleLimits() if member is None else member.group.limits
    shown = {}
    for name, group in NAMES.items():
        field = group.replace("-", "_")
        if name in _ALWAYS or getattr(limits, field.removesuffix("_length")):
            shown[name] = getattr(limits, field)
    return ThrottleInfo(**shown, group=UNSET if member is None else member.group.name)
