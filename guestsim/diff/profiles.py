"""What our devices are compared as: by their specifications, or as QEMU's, which depart from them in places."""

from __future__ import annotations

from typing import Literal, get_args

Profile = Literal["strict", "qemu"]

PROFILES: tuple[Profile, ...] = get_args(Profile)
BOTH: frozenset[Profile] = frozenset(PROFILES)
STRICT: frozenset[Profile] = frozenset({"strict"})
"""Of what ours does as QEMU's where it is to: a difference of profile `strict` alone."""
AS_QEMU: frozenset[Profile] = frozenset({"qemu"})
"""Of what cannot be told from what ours does as QEMU's."""
