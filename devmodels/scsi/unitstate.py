"""What a unit knows beyond its medium, as plain data: for snapshots of a machine whose one initiator the driver is.

Tasks are not part of it: they start anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from devmodels.scsi.constants import SenseKey
from devmodels.scsi.sense import Sense


class SenseState(msgspec.Struct, frozen=True):
    """Sense data that a nexus has yet to be told."""

    key: SenseKey
    code: int
    deferred: bool = False


class UnitState(msgspec.Struct, frozen=True, kw_only=True):
    """`attentions` of the driver's nexus, in order."""

    attentions: list[SenseState] = []


S = TypeVar("S", bound=UnitState)


def decode(data: bytes, kind: type[S]) -> S:
    """The state in `data`; ValueError where there is none of that kind."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not the state of a unit: {error}") from None


def save_senses(senses: Iterable[Sense]) -> list[SenseState]:
    """These as plain data."""
    return [SenseState(each.key, int(each.code), each.deferred) for each in senses]


def restored_senses(states: Iterable[SenseState]) -> list[Sense]:
    """The opposite."""
    return [Sense(each.key, each.code, deferred=each.deferred) for each in states]
