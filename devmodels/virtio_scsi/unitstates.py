"""What is behind a SCSI host device, for snapshots: what each unit knows, and which events the driver wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from devmodels.scsi import LogicalUnit, Nexus
from devmodels.virtio_scsi.bus import ScsiBus

if TYPE_CHECKING:
    from devmodels.scsi.kind import UnitFront

SUBSCRIPTIONS, WELL_KNOWN = "subscriptions", "well-known"
AS_QEMU = "as-qemu"
"""The part of a bus whose units are as QEMU's: what their fronts know."""

Subscriptions = dict[tuple[int, int], int]
"""By target and LUN: the events that the driver wants to hear of."""


def _names(bus: ScsiBus) -> dict[str, tuple[Nexus, LogicalUnit]]:
    """The units by names made of target and LUN, with the driver's nexus; the one that lists them as `WELL_KNOWN`."""
    names = {f"{number}.{lun}": (bus.nexus(number), unit) for number, lun, unit in bus.units()}
    return names | {WELL_KNOWN: (bus.well_known.nexus, bus.well_known.unit)}


def _fronts(bus: ScsiBus) -> dict[str, UnitFront]:
    """What stands before the units, by their names."""
    return {name: unit.front for name, (_, unit) in _names(bus).items() if unit.front is not None}


def save(bus: ScsiBus, subscriptions: Subscriptions) -> dict[str, bytes]:
    """Everything by name."""
    parts = {name: unit.save(nexus) for name, (nexus, unit) in _names(bus).items()}
    wanted = [(target, lun, events) for (target, lun), events in subscriptions.items()]
    parts[SUBSCRIPTIONS] = msgspec.msgpack.encode(wanted)
    if bus.attention is not None:
        from devmodels.scsi.qemu import state

        parts[AS_QEMU] = state.save(bus.attention, _fronts(bus))
    return parts


def _subscriptions(parts: dict[str, bytes]) -> Subscriptions:
    try:
        wanted = msgspec.msgpack.decode(parts[SUBSCRIPTIONS], type=list[tuple[int, int, int]])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not a list of events: {error}") from None
    return {(target, lun): events for target, lun, events in wanted}


def judge(bus: ScsiBus, parts: dict[str, bytes]) -> None:
    """ValueError where it is not of such units."""
    names = _names(bus)
    as_qemu = bus.attention is not None
    if (AS_QEMU in parts) is not as_qemu:
        raise ValueError(f"{bus.name}: the state is of units under another profile")
    own = {SUBSCRIPTIONS, AS_QEMU} if as_qemu else {SUBSCRIPTIONS}
    if set(parts) != {*names, *own}:
        given, expected = (sorted(set(each) - {*own, WELL_KNOWN}) for each in (parts, names))
        raise ValueError(f"{bus.name}: the state is of units {given}, expected {expected}")
    for name, (_, unit) in names.items():
        unit.judge(parts[name])
    _subscriptions(parts)
    if bus.attention is not None:
        from devmodels.scsi.qemu import state

        state.judge(parts[AS_QEMU], _fronts(bus))


def restore(bus: ScsiBus, parts: dict[str, bytes]) -> Subscriptions:
    """Units are as `save` says; the events that the driver wants."""
    for name, (nexus, unit) in _names(bus).items():
        unit.restore(nexus, parts[name])
    if bus.attention is not None:
        from devmodels.scsi.qemu import state

        state.restore(bus.attention, _fronts(bus), parts[AS_QEMU])
    return _subscriptions(parts)
