"""Unit attention conditions: a unit has one at most, and so has the bus, for whoever is the first to be asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from devmodels.scsi.asc import RESET_OR_LOSS, Asc
from devmodels.scsi.attentions import Attentions
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import Sense, attention

RESET = attention(Asc.POWER_ON_OR_RESET)
NO_MEDIUM = attention(Asc.MEDIUM_NOT_PRESENT)
MEDIUM_CHANGED = attention(Asc.MEDIUM_MAY_HAVE_CHANGED)
LUNS_CHANGED = attention(Asc.REPORTED_LUNS_DATA_CHANGED)


class BusAttention:
    """What is told once, by whichever unit."""

    __slots__ = ("sense",)

    def __init__(self) -> None:
        self.sense: Sense | None = None

    def luns_changed(self) -> None:
        """A unit has come, or has gone."""
        self.sense = LUNS_CHANGED


class OneAttention(Attentions):
    """Those of a unit: a reset is before what was there, whatever reset it was, and else the lower code.

    `told`: the codes of what else there is to tell.
    """

    __slots__ = ("told",)

    def __init__(self, told: Iterable[Asc]) -> None:
        super().__init__()
        self.told = frozenset(told)

    def establish(self, nexuses: Iterable[Nexus], code: Asc) -> None:
        """Each of `nexuses` has this to be told, unless something greater is there."""
        if code >> 8 == RESET_OR_LOSS:
            self.put(nexuses, RESET)
        elif code in self.told:
            self.put(nexuses, attention(code))

    def put(self, nexuses: Iterable[Nexus], sense: Sense) -> None:
        """As `establish`, whatever it is."""
        for nexus in nexuses:
            before = self.first(nexus)
            if before is None or _precedence(sense) < _precedence(before):
                self.pending[nexus] = deque((sense,))


def _precedence(sense: Sense) -> int:
    return 0 if sense == RESET else sense.code
