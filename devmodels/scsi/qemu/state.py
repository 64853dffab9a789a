"""What fronts know beyond their units, as plain data: for snapshots, as `devmodels.scsi.unitstate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import msgspec

from devmodels.scsi.kind import UnitFront
from devmodels.scsi.qemu.cdb import LARGEST_BLOCK, SMALLEST_BLOCK
from devmodels.scsi.unitstate import SenseState, restored_senses, save_senses

if TYPE_CHECKING:
    from devmodels.scsi.qemu.attention import BusAttention

Fronts = Mapping[str, UnitFront]
"""By the names of their units."""


class FrontState(msgspec.Struct, frozen=True, kw_only=True):
    """As of `Front`, `DiskFront` and `DriveFront`; what the other kind has is not looked at."""

    sense: Annotated[bytes, msgspec.Meta(max_length=18)]
    max_lba: Annotated[int, msgspec.Meta(ge=0)]
    block_size: Annotated[int, msgspec.Meta(ge=SMALLEST_BLOCK, le=LARGEST_BLOCK, multiple_of=SMALLEST_BLOCK)]
    held: bool = False
    changed: bool = False
    new_media: bool = False
    eject_requested: bool = False


class BusState(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to tell of the bus, and of each front."""

    told: SenseState | None
    fronts: dict[str, FrontState]


def save(bus: BusAttention, fronts: Fronts) -> bytes:
    """Everything."""
    told = save_senses(() if bus.sense is None else (bus.sense,))
    states = {
        name: FrontState(**{each: getattr(front, each) for each in front.KEPT})
        for name, front in fronts.items()
    }
    return msgspec.msgpack.encode(BusState(told=told[0] if told else None, fronts=states))


def judge(data: bytes, fronts: Fronts) -> BusState:
    """The state in `data`; ValueError where it cannot be that of such fronts."""
    try:
        state = msgspec.msgpack.decode(data, type=BusState)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not the state of units as QEMU's: {error}") from None
    if set(state.fronts) != set(fronts):
        raise ValueError(f"the state is of units {sorted(state.fronts)}, expected {sorted(fronts)}")
    return state


def restore(bus: BusAttention, fronts: Fronts, data: bytes) -> None:
    """Be as `data` says, which `judge` has found to be possible."""
    state = judge(data, fronts)
    bus.sense = None if state.told is None else restored_senses((state.told,))[0]
    for name, front in fronts.items():
        for each in front.KEPT:
            setattr(front, each, getattr(state.fronts[name], each))
