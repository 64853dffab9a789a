"""blkparse's default text (blkparse(1), "Default output"; blktrace's blkparse_fmt.c).

    254,0    0       44     4.041034133    37  D  WS 524160 + 128 [kworker/0:1H]
    254,0    0       45     4.042254055     0  C  WS 524160 + 128 [0]

Device, CPU, sequence, time, process, event, RWBS, sector + sectors, command or error.  A request is what is given to
the driver (D) until it is completed (C): what is queued (Q) before may be merged, split and put in order yet.  What the
driver puts back (R) is given to it again.  A device without such a queue has no D; its requests are what is queued.  A
summary ends the events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from devmodels.blockbackend.request import Flags, Op
from guestsim.blocklog.events import SECTOR, Begin, End, Event, Lines, Losses

LINE = re.compile(
    r" *(?P<disk>\d+,\d+) +(?P<cpu>\d+) +(?P<seq>\d+) +(?P<sec>\d+)\.(?P<ns>\d{9}) +(?P<pid>\d+)"
    r" +(?P<event>[A-Za-z]{1,2}) +(?P<rwbs>[A-Z]+)(?: +(?P<rest>.*))?"
)
_EXTENT = re.compile(
    r"(?:(?P<sector>\d+)(?: \+ (?P<count>\d+)(?: \( *\d+\))?)?(?: |$))?(?:\[(?P<last>.*)\])?"
)
_PACKET = re.compile(r"(?:\d+ )?\([0-9a-f. ]*\) \[.*\]")
_SUMMARY = re.compile(
    r"CPU\d+ \(.*\):|Total \(.*\):|Throughput \(R/W\):.*|Events \(.*|Skips: .*|Input file .*"
)
_EXPECTED = "'major,minor cpu sequence seconds.nanoseconds pid event RWBS sector + sectors [process]'"

_TAKEN = frozenset("QDRC")
_PASSED_OVER = frozenset("ABFGIMPSTUXm")
_LOOK_AHEAD = 10_000
"""So many events are looked at, to see which disks have a D."""

_Key = tuple[str, Op, int]
"""A disk, what is done, the sector where it begins."""
_Request = tuple[int, int]
"""Its number, and how many sectors of it are not completed."""
_Line = tuple[int, re.Match[str]]

_LIMIT = 1 << 54
"""Sectors: 8 EiB."""

_LETTERS = {"R": Op.READ, "W": Op.WRITE, "D": Op.DISCARD, "F": Op.FLUSH}


def _meaning(rwbs: str) -> tuple[bool, Op | None, bool]:
    """Whether the cache is flushed before, what is done (None: nothing that is known here), whether FUA is set."""
    before = rwbs[0] == "F" and len(rwbs) > 1
    what = rwbs[before:]
    op = Op.SECURE_ERASE if what.startswith("DE") else _LETTERS.get(what[0])
    if op is None and before and what[0] == "N":
        op = Op.FLUSH
    return before, op, "F" in what[1:]


class _Extent(NamedTuple):
    """What a line is about; `before`: the cache is flushed first."""

    key: _Key
    sectors: int
    before: bool
    fua: bool
    last: str | None
    """The process, or the error."""


class _Reader:
    def __init__(self, lines: Lines, losses: Losses) -> None:
        self._lines = lines
        self._losses = losses
        self._number = 0
        self._running: dict[_Key, list[_Request]] = {}
        """Several that touch the same may be under way; which of them is completed, nobody can tell: the first."""
        self._back: dict[_Key, list[_Request]] = {}
        """What the driver has put back."""

    def events(self) -> Iterator[Event]:
        lines = self._events()
        seen = list(islice(lines, _LOOK_AHEAD))
        given = {found["disk"] for _, found in seen if found["event"] == "D"}
        queued = {found["disk"] for _, found in seen if found["event"] == "Q"} - given
        for number, found in chain(seen, lines):
            event, disk = found["event"], found["disk"]
            if event == ("Q" if disk in queued or not given else "D"):
                yield from self._begin(number, found)
            elif event == "C":
                yield from self._complete(number, found)
            elif event == "R":
                self._put_back(number, found)

    def _events(self) -> Iterator[_Line]:
        """The lines of events that count."""
        for line in self._lines:
            if not line.strip():
                continue
            found = LINE.fullmatch(line)
            if found is None:
                if _SUMMARY.match(line):
                    return
                raise self._lines.error(_EXPECTED)
            if found["event"] in _TAKEN:
                yield self._lines.number, found
            elif found["event"][0] not in _PASSED_OVER:
                raise self._lines.error(f"an event of blkparse's, {found['event']} is given")

    def _extent(self, number: int, found: re.Match[str]) -> _Extent | None:
        """What the line is about; None where it is a command of the device's own."""
        rest = (found["rest"] or "").strip()
        extent = _EXTENT.fullmatch(rest)
        if extent is None and not _PACKET.fullmatch(rest):
            raise self._lines.error("'sector + sectors [process or error]' after the RWBS", number)
        before, op, fua = _meaning(found["rwbs"])
        if extent is None or op is None or (extent["sector"] is None and found["rwbs"][0] != "F"):
            return None
        sector, sectors = int(extent["sector"] or 0), int(extent["count"] or 0)
        if sector + sectors >= _LIMIT:
            raise self._lines.error(f"sectors below 8 EiB, {sector} + {sectors} is given", number)
        if op is Op.FLUSH:
            sector = 0
        return _Extent((found["disk"], op, sector), sectors, before, fua, extent["last"])

    def _begin(self, number: int, found: re.Match[str]) -> Iterator[Event]:
        extent = self._extent(number, found)
        if extent is None:
            self._losses["command of the device's own, neither read, write, flush nor discard"] += 1
            return
        disk, op, sector = extent.key
        sectors = extent.sectors
        queue, now = int(found["cpu"]), _time(found)
        if extent.before and op is not Op.FLUSH:
            yield Begin(self._number, now, Op.FLUSH, 0, 0, disk, queue=queue)
            yield End(self._number, now)
            self._number += 1
            if not sectors:
                return
        again = _first(self._back, extent.key)
        self._running.setdefault(extent.key, []).append(again or (self._number, sectors))
        if again is not None:
            return
        flags = Flags.FUA if extent.fua else Flags.NONE
        if op is Op.FLUSH:
            sectors = 0
        yield Begin(self._number, now, op, sector * SECTOR, sectors * SECTOR, disk, flags, queue=queue)
        self._number += 1

    def _complete(self, number: int, found: re.Match[str]) -> Iterator[Event]:
        extent = self._extent(number, found)
        if extent is None:
            return
        disk, op, sector = extent.key
        done = extent.sectors
        if op is not Op.FLUSH and not done:
            return
        running = _first(self._running, extent.key)
        if running is None:
            return  # It had begun before the log did.
        request, left = running
        if done < left:
            self._running.setdefault((disk, op, sector + done), []).append((request, left - done))
            return
        yield End(request, _time(found), _errno(extent.last))

    def _put_back(self, number: int, found: re.Match[str]) -> None:
        extent = self._extent(number, found)
        request = None if extent is None else _first(self._running, extent.key)
        if extent is not None and request is not None:
            self._back.setdefault(extent.key, []).append(request)


def _first(requests: dict[_Key, list[_Request]], key: _Key) -> _Request | None:
    """Take the first of them out."""
    found = requests.get(key)
    if found is None:
        return None
    first = found.pop(0)
    if not found:
        del requests[key]
    return first


def _time(found: re.Match[str]) -> int:
    return int(found["sec"]) * 1_000_000_000 + int(found["ns"])


def _errno(text: str | None) -> int:
    """An errno, which blkparse prints as what is left of it in 16 bits: -5 is 65531."""
    value = int(text) if text is not None and re.fullmatch(r"-?\d+", text) else 0
    return min(abs(value), -value & 0xFFFF)


def read_blkparse(lines: Lines, losses: Losses) -> Iterator[Event]:
    """The requests of blkparse's text; LogError where a line is wrong."""
    return _Reader(lines, losses).events()


# --- writing

_RWBS = {
    Op.READ: "R",
    Op.WRITE: "W",
    Op.FLUSH: "FN",
    Op.DISCARD: "D",
    Op.WRITE_ZEROES: "W",
    Op.SECURE_ERASE: "DE",
}
_MAJOR = 254


class _Writer:
    def __init__(self, losses: Losses, *, ends: bool) -> None:
        self._losses = losses
        self._ends = ends
        self._first: int | None = None
        self._count = 0
        self._disks: dict[str, str] = {}
        self._running: dict[int, Begin] = {}

    def lines(self, events: Iterable[Event]) -> Iterator[str]:
        for event in events:
            if self._first is None:
                self._first = event.time_ns
            if isinstance(event, Begin):
                self._lose(event)
                if self._ends:
                    self._running[event.number] = event
                yield self._line(event, event.time_ns, "Q", "[guestsim]")
                yield self._line(event, event.time_ns, "D", "[guestsim]")
            elif (begin := self._running.pop(event.number, None)) is not None:
                yield self._line(begin, event.time_ns, "C", f"[{-event.error & 0xFFFF}]")

    def _line(self, begin: Begin, time_ns: int, event: str, last: str) -> str:
        seconds, ns = divmod(max(0, time_ns - (self._first or 0)), 1_000_000_000)
        self._count += 1
        op = begin.op
        rwbs = _RWBS[op] + ("F" if begin.flags & Flags.FUA else "")
        if op is not Op.FLUSH:
            last = f"{begin.offset // SECTOR} + {-(-begin.length // SECTOR)} {last}"
        elif event == "C":
            last = f"0 {last}"
        disk = self._disk(begin.disk)
        where = f"{disk:<7} {begin.queue:2d} {self._count:8d} {seconds:5d}.{ns:09d} {0:5d}"
        return f"{where} {event:>2} {rwbs:>3} {last}"

    def _disk(self, name: str) -> str:
        """Its numbers, of its own where the log has none."""
        disk = self._disks.get(name)
        if disk is None:
            disk = name if re.fullmatch(r"\d+,\d+", name) else f"{_MAJOR},{16 * len(self._disks)}"
            if name and disk != name:
                self._losses[f"name of a disk: {name} is {disk}"] += 1
            major, minor = disk.split(",")
            disk = self._disks[name] = f"{major:>3},{minor:<3}"
        return disk

    def _lose(self, begin: Begin) -> None:
        if begin.op is Op.WRITE_ZEROES:
            self._losses["write of zeroes: a write"] += 1
        elif begin.op is Op.WRITE and begin.data is not None:
            self._losses["write whose data is not kept"] += 1
        elif begin.op is Op.READ and begin.data is not None:
            self._losses["read whose expected data is not kept"] += 1
        if (begin.offset | begin.length) % SECTOR:
            self._losses["request that is not of whole sectors: rounded"] += 1


def write_blkparse(events: Iterable[Event], losses: Losses, *, ends: bool) -> Iterator[str]:
    """The lines for each request: queued, given to the driver, completed; what is not in them is counted.

    `ends`: whether the log tells of ends at all.
    """
    return _Writer(losses, ends=ends).lines(events)
