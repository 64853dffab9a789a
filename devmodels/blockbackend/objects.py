"""What nodes name and that is no node: QEMU's user-creatable objects, of which there are throttle groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from devmodels.blockbackend.options import BlockOptionError, shown

if TYPE_CHECKING:
    from devmodels.blockbackend.throttling import ThrottleGroup

Objects: TypeAlias = "dict[str, ThrottleGroup]"
"""By id."""

KINDS = ("throttle-group",)


def add_object(options: Mapping[str, object], objects: Objects) -> ThrottleGroup:
    """Make what `options` describe (`qom-type`, `id`, and the kind's own), as `--object` does; BlockOptionError."""
    from devmodels.blockbackend.throttling import ThrottleGroup
    from devmodels.blockbackend.throttling.limits import check

    kind, name, limits = options.get("qom-type"), options.get("id"), options.get("limits", {})
    if kind not in KINDS:
        given = "missing" if kind is None else f"{shown(kind)} is given"
        raise BlockOptionError(f"$.qom-type: {given}; expected {', '.join(map(shown, KINDS))}")
    if not isinstance(name, str) or not name:
        raise BlockOptionError("$.id: missing; expected a name for nodes to refer to")
    if name in objects:
        raise BlockOptionError(f"$.id: {shown(name)} is given; an object of that name is there")
    for other in options:
        if other not in ("qom-type", "id", "limits"):
            raise BlockOptionError(f"$.{other}: no such option; expected one of id, limits, qom-type")
    if not isinstance(limits, Mapping):
        raise BlockOptionError(f"$.limits: {shown(limits)} is given; expected an object of limits")
    objects[name] = group = ThrottleGroup(name, check(_numbers(limits), where="$.limits"))
    return group


def _numbers(limits: Mapping[str, object]) -> dict[str, object]:
    """Numbers that came as text (`limits.iops-total=100`) as numbers."""
    out = dict(limits)
    for name, value in limits.items():
        if isinstance(value, str):
            try:
                out[name] = msgspec.convert(value, int, strict=False)
            except msgspec.ValidationError:
                continue
    return out
