"""Limits on operations and bytes a second, shared by the members of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.lazy import exports

if TYPE_CHECKING:
    from devmodels.blockbackend.throttling.bucket import Bucket
    from devmodels.blockbackend.throttling.group import Member, ThrottleGroup
    from devmodels.blockbackend.throttling.limits import ThrottleLimits
    from devmodels.blockbackend.throttling.throttled import Throttled

__all__ = ["Bucket", "Member", "ThrottleGroup", "ThrottleLimits", "Throttled"]

__getattr__ = exports(
    __name__,
    {
        "bucket": "Bucket",
        "group": "Member ThrottleGroup",
        "limits": "ThrottleLimits",
        "throttled": "Throttled",
    },
)
"""Few disks have limits."""
