"""Limits on operations and bytes a second, shared by the members of a group."""

from devmodels.blockbackend.throttling.bucket import Bucket
from devmodels.blockbackend.throttling.group import Member, Throttled, ThrottleGroup
from devmodels.blockbackend.throttling.limits import ThrottleLimits

__all__ = ["Bucket", "Member", "ThrottleGroup", "ThrottleLimits", "Throttled"]
