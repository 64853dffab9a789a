"""What lies where in the buffers of a device's queues: virtio-blk requests, and those of a SCSI host's three kinds of
queues.

`Forms` follows a trace, for which device has which, and how long CDBs and sense data are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from contextlib import suppress
from typing import NamedTuple

import msgspec

from devmodels.scsi.lun import parse_lun
from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import DeviceFacts
from devmodels.virtio_blk.layout import REQUEST_HEADER, BlkType
from devmodels.virtio_scsi.layout import (
    ASYNC,
    ASYNC_ANSWER,
    COMMAND_FIXED,
    COMMAND_SIZE,
    CONFIG,
    CONTROL_QUEUE,
    DEFAULT_CDB_SIZE,
    DEFAULT_SENSE_SIZE,
    EVENT_QUEUE,
    EVENT_SIZE,
    RESPONSE_FIXED,
    RESPONSE_SIZE,
    TMF,
    ControlType,
)

_BLK_HEADER = REQUEST_HEADER.layout.size
_RANGES = (
    BlkType.VIRTIO_BLK_T_DISCARD,
    BlkType.VIRTIO_BLK_T_WRITE_ZEROES,
    BlkType.VIRTIO_BLK_T_SECURE_ERASE,
)
_ANSWERS = {
    int(BlkType.VIRTIO_BLK_T_GET_ID): "virtio_blk_id",
    int(BlkType.VIRTIO_BLK_T_GET_LIFETIME): "virtio_blk_lifetime",
}

_TMF = TMF.size
_ASYNC = ASYNC.size
_ASYNC_ANSWER = ASYNC_ANSWER.size
_MOST_SENSE, _MOST_CDB = 65535, 255
_RESPONSE_AT = {
    int(ControlType.VIRTIO_SCSI_T_TMF): 0,
    int(ControlType.VIRTIO_SCSI_T_AN_QUERY): _ASYNC_ANSWER - 1,
    int(ControlType.VIRTIO_SCSI_T_AN_SUBSCRIBE): _ASYNC_ANSWER - 1,
}
"""Where requests of the control queue have their response."""

SCSI_GOOD = 1 << 28
"""Statuses of SCSI hosts are numbers from here on: a status of SAM-5, added to this; sense data of a CHECK CONDITION
(key, additional code and qualifier, a byte each), added to `SCSI_SENSE`; a response of the host, added to
`SCSI_RESPONSE`; one of the control queue, added to `SCSI_CONTROL`; an event, added to `SCSI_EVENT`."""
SCSI_SENSE, SCSI_RESPONSE, SCSI_CONTROL, SCSI_EVENT = 2 << 28, 3 << 28, 4 << 28, 5 << 28
KIND = 7 << 28
"""The bits that say which of these it is; for a virtio-blk status none."""

_UNIT = re.compile(r"(?P<unit>.+) LUN (?P<lun>[0-9]+)(?: tag (?P<tag>0x[0-9a-f]+))?")
_CHECK_CONDITION = 2
_NO_SENSE_YET = 0
_FIXED, _DESCRIPTORS = (0x70, 0x71), (0x72, 0x73)

ATA_HOSTS = ("ich9-ahci", "ahci", "piix3-ide", "piix4-ide")
"""Models of hosts of ATA devices."""

Cut = Callable[[int, int], "bytes | None"]
"""The bytes of a buffer's writable part from a place to another, None where the device has not written them."""


class UnitPlace(NamedTuple):
    """Where a violation was, as units say it; `tag` is that of the command, where it is told."""

    unit: str
    lun: int
    tag: int | None


def unit_place(place: str) -> UnitPlace | None:
    """The place of a violation of a unit's; None where it is another device's."""
    found = _UNIT.fullmatch(place)
    if found is None:
        return None
    tag = None if found["tag"] is None else int(found["tag"], 16)
    return UnitPlace(found["unit"], int(found["lun"]), tag)


class Part(NamedTuple):
    """A part of one side of a buffer: bytes `start` to `end` of it; `layout` is a name in `LAYOUTS`, "" for data."""

    title: str
    layout: str
    start: int
    end: int


class Form:
    """The buffers of one queue.  `head_size`: so many readable bytes say what a buffer is about."""

    head_size = 0

    def parts(self, head: bytes, total: int, *, writable: bool) -> list[Part]:
        """One side of a buffer, `total` bytes long, from its beginning to its end; `head` as far as it is known."""
        raise NotImplementedError

    def status(self, head: bytes, total: int, written: Cut) -> int | None:
        """The status in a buffer whose writable part is `total` bytes long; None where there is none."""
        raise NotImplementedError


def _cut(total: int, *parts: tuple[str, str, int]) -> list[Part]:
    """Parts by title, layout and length, as far as there is room; the last one takes what is left."""
    found = []
    start = 0
    for number, (title, layout, length) in enumerate(parts):
        end = total if number == len(parts) - 1 else min(start + length, total)
        if end > start:
            found.append(Part(title, layout, start, end))
        start = end
    return found


class BlkForm(Form):
    """A virtio-blk request, VIRTIO 1.4 §5.2.6."""

    head_size = _BLK_HEADER

    def parts(self, head: bytes, total: int, *, writable: bool) -> list[Part]:
        """Header and data, or data and status."""
        kind = int.from_bytes(head[:4], "little") if len(head) >= _BLK_HEADER else None
        if not writable:
            rest = ("segments", "virtio_blk_discard_write_zeroes", 0) if kind in _RANGES else ("data", "", 0)
            return _cut(total, ("header", "virtio_blk_req", _BLK_HEADER), rest)
        answer = "" if kind is None else _ANSWERS.get(kind, "")
        return _cut(total, ("data", answer, total - 1), ("status", "status", 1))

    def status(self, head: bytes, total: int, written: Cut) -> int | None:  # noqa: ARG002
        """The last byte."""
        last = written(total - 1, total) if total else None
        return last[0] if last else None


BLK = BlkForm()


class CommandForm(Form):
    """A request of a SCSI host, VIRTIO 1.4 §5.6.6.1.  `drives`: target and LUN of those units that are CD drives."""

    def __init__(
        self,
        *,
        cdb_size: int = DEFAULT_CDB_SIZE,
        sense_size: int = DEFAULT_SENSE_SIZE,
        drives: Set[tuple[int, int]] = frozenset(),
    ) -> None:
        self.cdb_size = cdb_size
        self.sense_size = sense_size
        self.head_size = COMMAND_SIZE + cdb_size
        self.drives = drives

    def is_drive(self, head: bytes) -> bool:
        """Whether it is for a CD drive, whose commands are not a disk's."""
        if not self.drives or len(head) < COMMAND_SIZE:
            return False
        place, *_ = COMMAND_FIXED.unpack_from(head, 0)
        assert isinstance(place, bytes)
        return (place[1], parse_lun(place[2:4] + bytes(6))) in self.drives

    def is_at(self, head: bytes, where: UnitPlace) -> bool:
        """Whether it is that command."""
        if len(head) < COMMAND_SIZE:
            return False
        place, number, *_ = COMMAND_FIXED.unpack_from(head, 0)
        assert isinstance(place, bytes)
        return number == where.tag and parse_lun(place[2:4] + bytes(6)) == where.lun

    def parts(self, head: bytes, total: int, *, writable: bool) -> list[Part]:
        """Header, CDB, data; or response, sense data, data."""
        if not writable:
            layout = "mmc cdb" if self.is_drive(head) else "cdb"
            command = ("header", "virtio_scsi_req_cmd", COMMAND_SIZE), ("CDB", layout, self.cdb_size)
            return _cut(total, *command, ("data", "", 0))
        response = ("response", "virtio_scsi_resp_cmd", RESPONSE_SIZE), ("sense", "sense", self.sense_size)
        return _cut(total, *response, ("data", "", 0))

    def status(self, head: bytes, total: int, written: Cut) -> int | None:  # noqa: ARG002
        """Response, status or sense data, whichever says most."""
        data = written(0, RESPONSE_SIZE) if total >= RESPONSE_SIZE else None
        if data is None:
            return None
        sense_length, _, _, status, response = RESPONSE_FIXED.unpack_from(data, 0)
        if response:
            return SCSI_RESPONSE + int(response)
        if status == _CHECK_CONDITION and int(sense_length):
            sense = written(RESPONSE_SIZE, min(total, RESPONSE_SIZE + int(sense_length)))
            code = _NO_SENSE_YET if sense is None else sense_code(sense)
            if code:
                return SCSI_SENSE + code
        return SCSI_GOOD + int(status)


def sense_code(sense: bytes) -> int:
    """Sense key, additional sense code and qualifier, a byte each (SPC-4 §4.5); 0 where there are none."""
    kind = sense[0] & 0x7F if sense else 0
    if kind in _FIXED and len(sense) >= 14:
        return (sense[2] & 0xF) << 16 | sense[12] << 8 | sense[13]
    if kind in _DESCRIPTORS and len(sense) >= 4:
        return (sense[1] & 0xF) << 16 | sense[2] << 8 | sense[3]
    return 0


class ControlForm(Form):
    """A request of the control queue, VIRTIO 1.4 §5.6.6.2."""

    head_size = _TMF

    def parts(self, head: bytes, total: int, *, writable: bool) -> list[Part]:
        """The request, or its response."""
        manages = int.from_bytes(head[:4], "little") == ControlType.VIRTIO_SCSI_T_TMF
        if manages:
            name = "virtio_scsi_ctrl_tmf_resp" if writable else "virtio_scsi_ctrl_tmf"
            size = 1 if writable else _TMF
        else:
            name = "virtio_scsi_ctrl_an_resp" if writable else "virtio_scsi_ctrl_an"
            size = _ASYNC_ANSWER if writable else _ASYNC
        return _cut(total, ("response" if writable else "request", name, size), ("rest", "", 0))

    def status(self, head: bytes, total: int, written: Cut) -> int | None:
        """The response; of what is no request that we know, the last byte."""
        at = _RESPONSE_AT.get(int.from_bytes(head[:4], "little"), total - 1)
        last = written(at, at + 1) if 0 <= at < total else None
        return SCSI_CONTROL + last[0] if last else None


class EventForm(Form):
    """A buffer of the event queue, VIRTIO 1.4 §5.6.6.3."""

    def parts(self, head: bytes, total: int, *, writable: bool) -> list[Part]:  # noqa: ARG002
        """The event."""
        return _cut(total, ("event", "virtio_scsi_event", EVENT_SIZE), ("rest", "", 0)) if writable else []

    def status(self, head: bytes, total: int, written: Cut) -> int | None:  # noqa: ARG002
        """Which event it is."""
        data = written(0, 4) if total >= EVENT_SIZE else None
        return None if data is None else SCSI_EVENT + (int.from_bytes(data, "little") & 0x7FFF_FFFF & ~KIND)


CONTROL, EVENTS = ControlForm(), EventForm()


class Forms:
    """The forms of a trace's devices, by what it says of them."""

    def __init__(self) -> None:
        self._commands: dict[str, CommandForm] = {}
        self.hosts: dict[str, str] = {}
        """The host of each unit."""
        self._drives: dict[str, set[tuple[int, int]]] = {}

    def add(self, facts: DeviceFacts) -> None:
        """A device, or a unit, is there."""
        if facts.host:
            self.hosts[facts.name] = facts.host
            self._unit(facts)
        elif facts.disk is None:
            self._drives[facts.name] = set()
            self._commands[facts.name] = self._usual(facts.name)
        else:
            self._commands.pop(facts.name, None)

    def _unit(self, facts: DeviceFacts) -> None:
        """A disk, or a drive, is at a place of its host."""
        options = facts.options
        place = options.get("scsi-id", 0), options.get("lun", 0)
        drives = self._drives.get(facts.host)
        if drives is None or not isinstance(place[0], int) or not isinstance(place[1], int):
            return
        if options.get("driver") == "scsi-cd" or options.get("device-type") == "cd":
            drives.add((place[0], place[1]))
        else:
            drives.discard((place[0], place[1]))

    def _usual(self, host: str) -> CommandForm:
        return CommandForm(drives=self._drives[host])

    def see(self, event: TraceEvent) -> None:
        """Take an event that may change something: DEVICE, CONFIG_WRITE, RESET."""
        if event.kind is EventKind.DEVICE:
            with suppress(msgspec.DecodeError, UnicodeEncodeError):
                self.add(msgspec.json.decode(str(event.detail[0]), type=DeviceFacts))
        elif event.source in self._commands:
            if event.kind is EventKind.CONFIG_WRITE:
                offset, data = event.detail
                assert isinstance(data, bytes)
                self._sizes(event.source, int(offset), data)
            elif event.kind is EventKind.RESET and event.detail[0] == -1:
                self._commands[event.source] = self._usual(event.source)

    def _sizes(self, device: str, offset: int, data: bytes) -> None:
        """The driver writes sizes (VIRTIO 1.4 §5.6.4.1); those that no device takes change nothing."""
        form = self._commands[device]
        config = bytearray(CONFIG.layout.size)
        places = {"sense_size": form.sense_size, "cdb_size": form.cdb_size}
        for name, size in places.items():
            at = CONFIG.offsets[name]
            config[at : at + 4] = size.to_bytes(4, "little")
        if offset < len(config):
            config[offset : offset + len(data)] = data
        sense, cdb = (
            int.from_bytes(config[CONFIG.offsets[name] :][:4], "little")
            for name in ("sense_size", "cdb_size")
        )
        if sense <= _MOST_SENSE and cdb <= _MOST_CDB:
            self._commands[device] = CommandForm(cdb_size=cdb, sense_size=sense, drives=self._drives[device])

    def host_of(self, unit: str) -> str | None:
        """The host of a unit, by what the unit calls itself."""
        host = self.hosts.get(unit)
        if host is None:
            # One of an export is called after its host's socket and its place.
            path = unit.rsplit(",", 2)[0]
            host = path if path in self._commands else None
        return host

    def is_scsi(self, device: str) -> bool:
        """Whether it is a SCSI host."""
        return device in self._commands

    def of(self, device: str, queue: int) -> Form:
        """The form of a queue's buffers."""
        form = self._commands.get(device)
        if form is None:
            return BLK
        if queue == CONTROL_QUEUE:
            return CONTROL
        return EVENTS if queue == EVENT_QUEUE else form
