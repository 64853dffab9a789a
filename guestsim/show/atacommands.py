"""The commands of ATA devices in a trace, from where they were given to where the driver was told how they ended.

At a port a command begins when the HBA reads its FIS, and ends with one from the device; on a channel it begins when
the command register is written, and ends when the driver reads a status that is not busy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devmodels.ahci.fis import INTERRUPT_BIT
from devmodels.ata.constants import Status
from guestsim.show import ata

if TYPE_CHECKING:
    from devmodels.trace import TraceEvent

_BUSY = Status.BSY | Status.DRQ
DROPPED = "dropped"


@dataclass(slots=True)
class AtaRow:
    """One command: `bus` and `slot` are port and slot, or channel and device; `ended_ns`: None if it never did."""

    number: int
    event: int
    time_ns: int
    device: str
    bus: int
    slot: int
    words: str
    queued: bool = False
    drive: bool = False
    status: str = ""
    failed: bool = False
    packet: bool = False
    """Whether it has a packet, which is known."""
    ended_ns: int | None = None

    @property
    def total_ns(self) -> int | None:
        """From its beginning to its end."""
        return None if self.ended_ns is None else self.ended_ns - self.time_ns


class AtaCommands:
    """Follows what hosts of ATA devices do; `ended` is called with each command that is over."""

    def __init__(self, ended: Callable[[AtaRow], None] | None = None) -> None:
        self.ended = ended
        self._open: dict[tuple[str, int, int], AtaRow] = {}
        self._count = 0
        self._event = self._time_ns = 0

    def at(self, event: TraceEvent) -> None:
        """What follows happens in this event."""
        self._event, self._time_ns = event.number, event.time_ns

    def begin(self, device: str, bus: int, slot: int, words: str, *, queued: bool, drive: bool) -> None:
        """A command is given."""
        self._end_those(self._those(device, bus, slot), DROPPED)
        self._open[device, bus, slot] = AtaRow(
            self._count, self._event, self._time_ns, device, bus, slot, words, queued, drive
        )
        self._count += 1

    def packet(self, device: str, bus: int, slot: int, words: str) -> None:
        """The packet of a command is known."""
        for row in self._those(device, bus, slot):
            row.words, row.packet = words, True

    def received(self, device: str, port: int, kind: str, fields: Mapping[str, int]) -> None:
        """A FIS from the device at a port."""
        state, error = fields.get("status", 0), fields.get("error", 0)
        if kind == "fis_set_device_bits":
            queued = [row for row in self._those(device, port) if row.queued]
            self._end(
                [row for row in queued if fields["sactive"] >> row.slot & 1], state & ~Status.ERR, error
            )
            if state & Status.ERR:
                self._end([row for row in queued if row.ended_ns is None], state, error)
        elif kind == "fis_register_d2h" and (fields["flags"] & INTERRUPT_BIT or state & Status.ERR):
            self._end([row for row in self._those(device, port) if not row.queued], state, error)
        elif kind == "fis_pio_setup" and not fields["e_status"] & _BUSY:
            self._end([row for row in self._those(device, port) if not row.queued], fields["e_status"], error)

    def status_read(self, device: str, channel: int, unit: int, state: int) -> None:
        """The driver sees the status of a channel's device."""
        if not state & _BUSY:
            self._end(self._those(device, channel, unit), state, None)

    def reset(self, status: str = DROPPED) -> None:
        """All that there was is over, and nobody is told."""
        self._end_those(list(self._open.values()), status)

    def _those(self, device: str, bus: int, slot: int | None = None) -> list[AtaRow]:
        return [row for key, row in self._open.items() if key[:2] == (device, bus) and slot in (None, key[2])]

    def _end(self, rows: list[AtaRow], state: int, error: int | None) -> None:
        for row in rows:
            row.ended_ns, row.failed = self._time_ns, bool(state & Status.ERR)
            code = "" if error is None else (ata.packet_error if row.drive else ata.error)(error)
            self._end_those([row], (code or "ERR") if row.failed else "ok")

    def _end_those(self, rows: list[AtaRow], status: str) -> None:
        for row in rows:
            row.status = status
            del self._open[row.device, row.bus, row.slot]
            if self.ended is not None:
                self.ended(row)


def to_json(row: AtaRow, start_ns: int) -> dict[str, object]:
    """A row as plain values, as those of other requests are; times in ns, `time-ns` since the trace's beginning."""
    return {
        "request": row.number,
        "time-ns": row.time_ns - start_ns,
        "event": row.event,
        "device": row.device,
        "queue": row.bus,
        "head": row.slot,
        "text": row.words,
        "status": row.status,
        "latency-ns": row.total_ns,
    }
