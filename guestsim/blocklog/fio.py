"""fio's iolog, versions 2 and 3 (fio HOWTO, "Trace file format"; iolog.c).

    fio version 3 iolog
    0 /dev/vda add
    0 /dev/vda open
    174 /dev/vda write 61440 4096

Version 3 has a time in each line, in microseconds from the beginning.  Version 2 has `FILE wait N 0`: fio waits until
N milliseconds after its own start.  (Its manual has microseconds after the `wait` before; this follows the program.)
Neither tells when a request ended, what was written, or with which flags.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from devmodels.blockbackend.request import Flags, Op
from guestsim.blocklog.events import Begin, Event, Lines, Losses, split

HEADERS = {"fio version 2 iolog": 2, "fio version 3 iolog": 3}

_ACTIONS = {
    "read": Op.READ,
    "write": Op.WRITE,
    "sync": Op.FLUSH,
    "datasync": Op.FLUSH,
    "trim": Op.DISCARD,
}
_WORDS = {
    Op.READ: "read",
    Op.WRITE: "write",
    Op.FLUSH: "datasync",
    Op.DISCARD: "trim",
    Op.WRITE_ZEROES: "write",
    Op.SECURE_ERASE: "trim",
}
_MANAGING = ("add", "open", "close")
_EXPECTED = f"one of {', '.join((*_MANAGING, 'wait', *_ACTIONS))}"

_MOST = 1 << 30
"""fio reads lengths as 32 bits; longer requests are cut into pieces of this."""
_LONGEST_NAME = 256


def read_fio(lines: Lines, _losses: Losses) -> Iterator[Event]:
    """The requests of an iolog of either version; LogError where a line is wrong."""
    version = HEADERS.get(next(lines, "").strip())
    if version is None:
        raise lines.error("'fio version 2 iolog' or 'fio version 3 iolog'")
    state: dict[str, str] = {}
    clock = number = 0
    for line in lines:
        words = line.split()
        if version == 3:
            if not words:
                raise lines.error("a time in µs, a file and an action")
            clock = max(clock, _number(lines, words.pop(0), "a time in µs") * 1000)
        if len(words) == 2:
            _manage(lines, state, *words)
        elif len(words) == 4:
            disk, action = words[:2]
            offset, length = (
                _number(lines, word, f"{what} in bytes")
                for word, what in zip(words[2:], ("an offset", "a length"), strict=True)
            )
            if state.get(disk) != "open":
                raise lines.error(f"{disk} to have been added and opened before")
            if action == "wait" and version == 2:
                clock = max(clock, offset * 1_000_000)
                continue
            op = _ACTIONS.get(action)
            if op is None:
                raise lines.error(f"{_EXPECTED}, {action} is given")
            if op is Op.FLUSH:
                offset = length = 0
            yield Begin(number, clock, op, offset, length, disk)
            number += 1
        else:
            raise lines.error(
                f"{'a time, ' if version == 3 else ''}a file, an action, and for I/O offset and length"
            )


def _manage(lines: Lines, state: dict[str, str], disk: str, action: str) -> None:
    if action not in _MANAGING:
        raise lines.error(f"{_EXPECTED}, {action} is given")
    if action != "add" and disk not in state:
        raise lines.error(f"{disk} to have been added before")
    state[disk] = action


def _number(lines: Lines, word: str, what: str) -> int:
    if not (word.isascii() and word.isdecimal()) or int(word) >> 64:
        raise lines.error(f"{what}, {word} is given")
    return int(word)


def write_fio(events: Iterable[Event], losses: Losses, version: int) -> Iterator[str]:
    """An iolog's lines; what it cannot hold is counted in `losses`."""
    yield f"fio version {version} iolog"
    disks: dict[str, str] = {}
    first: int | None = None
    waited = 0
    stamp = ""
    for event in events:
        if not isinstance(event, Begin):
            continue
        first = event.time_ns if first is None else first
        since = max(0, event.time_ns - first)
        stamp = f"{since // 1000} " if version == 3 else ""
        disk = disks.get(event.disk)
        if disk is None:
            disk = disks[event.disk] = _file_name(event.disk, set(disks.values()), losses)
            yield f"{stamp}{disk} add"
            yield f"{stamp}{disk} open"
        if version == 2 and since // 1_000_000 > waited:
            waited = since // 1_000_000
            yield f"{disk} wait {waited} 0"
        _count(event, losses)
        for piece in split(event, _MOST, losses):
            yield f"{stamp}{disk} {_WORDS[event.op]} {piece.offset} {piece.length}"
    for disk in disks.values():
        yield f"{stamp}{disk} close"


def _file_name(disk: str, taken: set[str], losses: Losses) -> str:
    """A file's name of its own without blanks, and not longer than fio takes."""
    name = "_".join(disk.split())[:_LONGEST_NAME] or "disk"
    while name in taken:
        name = f"{name[: _LONGEST_NAME - 1]}_"
    if disk and name != disk:
        losses["name of a disk, which fio does not take as it is"] += 1
    return name


def _count(event: Begin, losses: Losses) -> None:
    op = event.op
    if op is Op.WRITE_ZEROES:
        losses["write of zeroes: a write"] += 1
    elif op is Op.SECURE_ERASE:
        losses["secure erase: a trim"] += 1
    elif op is Op.WRITE and event.data is not None:
        losses["write whose data is not kept"] += 1
    elif op is Op.READ and event.data is not None:
        losses["read whose expected data is not kept"] += 1
    if event.flags & Flags.FUA:
        losses["FUA of a write"] += 1
