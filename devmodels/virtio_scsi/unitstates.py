"""What is behind a SCSI host device, for snapshots: what each unit knows, and which events the driver wants."""

from __future__ import annotations

import msgspec

from devmodels.scsi import LogicalUnit, Nexus
from devmodels.virtio_scsi.bus import ScsiBus

SUBSCRIPTIONS, WELL_KNOWN = "subscriptions", "well-known"

Subscriptions = dict[tuple[int, int], int]
"""By target and LUN: the events that the driver wants to hear of."""


def _names(bus: ScsiBus) -> dict[str, tuple[Nexus, LogicalUnit]]:
    """The units by names made of target and LUN, with the driver's nexus; the one that lists them as `WELL_KNOWN`."""
    names = {f"{number}.{lun}": (bus.nexus(number), unit) for number, lun, unit in bus.units()}
    return names | {WELL_KNOWN: (bus.well_known.nexus, bus.well_known.unit)}


def save(bus: ScsiBus, subscriptions: Subscriptions) -> dict[str, bytes]:
    """Everything by name."""
    parts = {name: unit.save(nexus) for name, (nexus, unit) in _names(bus).items()}
    wanted = [(target, lun, events) for (target, lun), events in subscriptions.items()]
    return parts | {SUBSCRIPTIONS: msgspec.msgpack.encode(wanted)}


def _subscriptions(parts: dict[str, bytes]) -> Subscriptions:
    try:
        wanted = msgspec.msgpack.decode(parts[SUBSCRIPTIONS], type=list[tuple[int, int, int]])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not a list of events: {error}") from None
    return {(target, lun): events for target, lun, events in wanted}


def judge(bus: ScsiBus, parts: dict[str, bytes]) -> None:
    """ValueError where it is not of such units."""
    names = _names(bus)
    if set(parts) != {*names, SUBSCRIPTIONS}:
        given, expected = (sorted(set(each) - {SUBSCRIPTIONS, WELL_KNOWN}) for each in (parts, names))
        raise ValueError(f"{bus.name}: the state is of units {given}, expected {expected}")
    for name, (_, unit) in names.items():
        unit.judge(parts[name])
    _subscriptions(parts)


def restore(bus: ScsiBus, parts: dict[str, bytes]) -> Subscriptions:
    """Units are as `save` says; the events that the driver wants."""
    for name, (nexus, unit) in _names(bus).items():
        unit.restore(nexus, parts[name])
    return _subscriptions(parts)
