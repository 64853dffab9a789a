"""The state of a bus master beyond its registers, as plain data: for snapshots."""

from __future__ import annotations

from typing import Annotated

import msgspec

Number = Annotated[int, msgspec.Meta(ge=0, le=1)]
"""Of a unit."""
Region = tuple[Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)], Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]]
"""Address and length."""


class PieceState(msgspec.Struct, frozen=True):
    """Memory for what is being moved for a unit's command, and how many bytes more are nobody's."""

    regions: list[Region]
    pad: Annotated[int, msgspec.Meta(ge=0, le=4096)]


class MasterState(msgspec.Struct, frozen=True):
    """`BusMaster`: where it is in its table, which units wait for it, what it moves for the first of them."""

    entry: Annotated[int, msgspec.Meta(ge=0, lt=1 << 33)]
    end: Annotated[int, msgspec.Meta(ge=0, lt=1 << 33)]
    address: Annotated[int, msgspec.Meta(ge=0, lt=1 << 33)]
    left: Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
    last: bool
    waiting: list[Number]
    piece: PieceState | None
