"""SCSI in words: CDBs by the table of commands, LUNs, sense data, responses, task management, events."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from devmodels.disc.text import from_text
from devmodels.scsi.absent import AbsentUnit, ReportLunsUnit
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey, Status, TaskAttribute
from devmodels.scsi.disk.commands import COMMANDS
from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import sense as sense_layout
from devmodels.scsi.lun import parse_lun
from devmodels.scsi.mmc import commands as mmc
from devmodels.trace import NO_DISC, PLAIN_DISC
from devmodels.virtio_scsi.layout import (
    COMMAND_FIXED,
    COMMAND_SIZE,
    EVENT,
    EVENT_SIZE,
    EVENTS_MISSED,
    TMF,
    AsyncEvent,
    ControlType,
    EventType,
    ResetReason,
    ScsiResponse,
    TmfType,
)
from devmodels.virtio_scsi.wellknown import WELL_KNOWN_LUN
from guestsim.forms import KIND, SCSI_CONTROL, SCSI_EVENT, SCSI_GOOD, SCSI_RESPONSE, SCSI_SENSE
from guestsim.outputs import counted

if TYPE_CHECKING:
    from devmodels.scsi.table import Command
    from guestsim.forms import CommandForm

_FIXED = Layout(sense_layout.FIXED)
_DESCRIPTORS = Layout(sense_layout.DESCRIPTOR_HEADER)
_ACTION = 0x1F
_BYTE = 8
_FIXED_KINDS = (0x70, 0x71)
_DESCRIPTOR_KINDS = (0x72, 0x73)
_TRAY = ("closes the tray", "opens the tray", "asks for the medium", "insists on the medium")

CONDITION_MET = SCSI_GOOD + Status.CONDITION_MET
GOOD_RESPONSES = (ScsiResponse.VIRTIO_SCSI_S_OK, ScsiResponse.VIRTIO_SCSI_S_FUNCTION_SUCCEEDED)


# --- commands


@cache
def _table(drive: bool) -> dict[int, Command[Any] | dict[int, Command[Any]]]:
    """A CD drive's or a disk's, by opcode; where an opcode has service actions, by those."""
    table: dict[int, Command[Any] | dict[int, Command[Any]]] = {}
    own = mmc.COMMANDS if drive else COMMANDS
    for command in (*ReportLunsUnit.commands, *AbsentUnit.commands, *own):
        if command.action is None:
            table[command.opcode] = command
            continue
        actions = table.setdefault(command.opcode, {})
        if isinstance(actions, dict):
            actions[command.action] = command
    return table


def command_of(cdb: bytes, *, drive: bool = False) -> Command[Any] | None:
    """The command in a CDB; None where it is none that we know, or the CDB is too short for it.

    `drive`: here and below, whether it is for a CD drive.
    """
    found = _table(drive).get(cdb[0]) if cdb else None
    if isinstance(found, dict):
        found = found.get(cdb[1] & _ACTION) if len(cdb) > 1 else None
    return found if found is not None and len(cdb) >= found.layout.size else None


def command_name(cdb: bytes, *, drive: bool = False) -> str:
    """What a command is called."""
    command = command_of(cdb, drive=drive)
    if command is not None:
        return command.name
    return f"command {cdb[0]:#04x}" if cdb else "no CDB"


def cdb_words(cdb: bytes, *, drive: bool = False) -> str:
    """A command and what it is for: `READ (10) 8 blocks at LBA 64`, `INQUIRY page 0x83`."""
    command = command_of(cdb, drive=drive)
    if command is None:
        return command_name(cdb, drive=drive)
    return f"{command.name} {_about(command, command.layout.unpack(cdb))}".rstrip()


def _about(command: Command[Any], fields: dict[str, int]) -> str:
    """The fields that people look for."""
    parts = []
    blocks = fields.get("transfer_length" if "lba" in fields else "", fields.get("number_of_blocks"))
    if blocks is None and "blocks_15_0" in fields:
        blocks = fields["blocks_23_16"] << 16 | fields["blocks_15_0"]
    if blocks is not None:
        parts.append(counted(blocks, "block"))
    if "lba" in fields and command.data.name != "NONE":
        parts.append(f"at LBA {fields['lba']}")
    if "page_code" in fields and fields.get("evpd", 1):
        page = f"page {fields['page_code']:#04x}"
        subpage = fields.get("subpage_code", 0)
        parts.append(f"{page}/{subpage:#04x}" if subpage else page)
    if fields.get("parameter_list_length"):
        parts.append(f"with {fields['parameter_list_length']} bytes")
    return " ".join(parts)


def cdb_fields(cdb: bytes, *, drive: bool = False) -> list[tuple[str, int, int, int, str]]:
    """Name, offset, size, value and meaning of a CDB's fields; flags that are not set are left out."""
    command = command_of(cdb, drive=drive)
    if command is None:
        return [("opcode", 0, 1, cdb[0], command_name(cdb, drive=drive))] if cdb else []
    values = command.layout.unpack(cdb)
    found = []
    for name, place in command.layout.places.items():
        if values.get(name) or (name in values and place.width >= _BYTE):
            meaning = command.name if name == "opcode" else ""
            found.append((name, place.offset, place.size, values[name], meaning))
    return found


# --- places


def lun_words(lun: bytes) -> str:
    """What the eight bytes of a `lun` field name: `0:3`, target and LUN (VIRTIO 1.4 §5.6.6.1)."""
    if lun == WELL_KNOWN_LUN:
        return "REPORT LUNS"
    if not any(lun):
        return "none"
    number = parse_lun(lun[2:4] + bytes(6)) if lun[0] == 1 and not any(lun[4:]) else None
    return f"{lun[1]}:{number}" if number is not None else f"nowhere ({lun.hex(' ')})"


def lun_number_words(value: int) -> str:
    """The same, of a little-endian number."""
    return lun_words(value.to_bytes(8, "little"))


def attribute_words(value: int) -> str:
    """A task attribute."""
    return TaskAttribute(value).name if value in set(TaskAttribute) else ""


# --- what comes of it


def sense_words(code: int) -> str:
    """Sense key, additional code and qualifier, a byte each: `ILLEGAL REQUEST 24/00 INVALID FIELD IN CDB`."""
    key, asc = code >> 16, code & 0xFFFF
    name = SenseKey(key).name.replace("_", " ") if key in set(SenseKey) else f"key {key}"
    number = f"{asc >> 8:02x}/{asc & 0xFF:02x}"
    return f"{name} {number} {Asc(asc).name.replace('_', ' ')}" if asc in set(Asc) else f"{name} {number}"


def scsi_status(value: int) -> str:
    """A status, SAM-5 §5.3."""
    return Status(value).name.replace("_", " ") if value in set(Status) else f"status {value:#04x}"


def response(value: int) -> str:
    """A response, VIRTIO 1.4 §5.6.6.1, without its prefix."""
    try:
        return ScsiResponse(value).name.removeprefix("VIRTIO_SCSI_S_")
    except ValueError:
        return f"response {value}"


def event_name(value: int) -> str:
    """An event, VIRTIO 1.4 §5.6.6.3, without its prefix, and whether others were missed before it."""
    number = value & ~EVENTS_MISSED
    name = (
        EventType(number).name.removeprefix("VIRTIO_SCSI_T_")
        if number in set(EventType)
        else f"event {number:#x}"
    )
    return f"{name}, others missed" if value & EVENTS_MISSED else name


def status_words(code: int) -> str:
    """A SCSI host's status as of `guestsim.forms`."""
    value = code & ~KIND
    kind = code & KIND
    if kind == SCSI_GOOD:
        return scsi_status(value)
    if kind == SCSI_SENSE:
        return sense_words(value)
    if kind in (SCSI_RESPONSE, SCSI_CONTROL):
        return response(value)
    return event_name(value) if kind == SCSI_EVENT else f"status {code}"


def is_failure(code: int) -> bool:
    """Whether something was not done."""
    kind, value = code & KIND, code & ~KIND
    if kind == SCSI_CONTROL:
        return value not in GOOD_RESPONSES
    return kind != SCSI_EVENT and code not in (SCSI_GOOD, CONDITION_MET)


def sense_fields(data: bytes) -> list[tuple[str, int, int, int, str]]:
    """Name, offset, size, value and meaning of the fields of sense data (SPC-4 §4.5), flags that are set only."""
    kind = data[0] & 0x7F if data else 0
    layout = _FIXED if kind in _FIXED_KINDS else _DESCRIPTORS if kind in _DESCRIPTOR_KINDS else None
    if layout is None or len(data) < layout.size:
        return []
    values = layout.unpack(data)
    found = []
    for name, place in layout.places.items():
        if not values.get(name) and (name not in values or place.width < _BYTE):
            continue
        meaning = ""
        if name == "sense_key" and values[name] in set(SenseKey):
            meaning = SenseKey(values[name]).name.replace("_", " ")
        elif name == "code":
            meaning = sense_words(values["sense_key"] << 16 | values[name])
        found.append((name, place.offset, place.size, values[name], meaning))
    return found


def disc_words(text: str) -> str:
    """What a drive has for a disc, as a trace says it."""
    if text in (NO_DISC, PLAIN_DISC):
        return "no disc" if text == NO_DISC else "a disc of data"
    try:
        disc = from_text(text)
    except ValueError as error:
        return str(error)
    tracks = len(disc.tracks)
    return f"a disc of {tracks} track{'s' * (tracks != 1)}, {disc.blocks} blocks"


def tray_words(what: int) -> str:
    """What a user does with a tray, by its number in a trace."""
    return f"the user {_TRAY[what]}" if what < len(_TRAY) else str(what)


# --- whole buffers


def request_words(form: CommandForm, head: bytes) -> str:
    """What a command asks of which unit, by what comes before its data: `READ (10) 8 blocks at LBA 64 of 0:3`."""
    if len(head) < COMMAND_SIZE:
        return "no header"
    lun = COMMAND_FIXED.unpack_from(head, 0)[0]
    assert isinstance(lun, bytes)
    return f"{cdb_words(head[COMMAND_SIZE:], drive=form.is_drive(head))} of {lun_words(lun)}"


def operation(form: CommandForm, head: bytes) -> str:
    """What a command is called, by the same bytes."""
    if len(head) <= COMMAND_SIZE:
        return "not read"
    return command_name(head[COMMAND_SIZE:], drive=form.is_drive(head))


def control_words(head: bytes) -> str:
    """What a request of the control queue asks."""
    kind = int.from_bytes(head[:4], "little")
    if len(head) < 4 or kind not in set(ControlType):
        return f"control request {kind}" if len(head) >= 4 else "no header"
    if kind != ControlType.VIRTIO_SCSI_T_TMF:
        return ControlType(kind).name.removeprefix("VIRTIO_SCSI_T_")
    if len(head) < TMF.size:
        return "no header"
    _, function, lun, tag = TMF.unpack_from(head, 0)
    assert isinstance(function, int)
    assert isinstance(lun, bytes)
    name = function_name(function)
    of = (
        f" {tag!s}"
        if function in (TmfType.VIRTIO_SCSI_T_TMF_ABORT_TASK, TmfType.VIRTIO_SCSI_T_TMF_QUERY_TASK)
        else ""
    )
    return f"{name}{of} of {lun_words(lun)}"


def function_name(value: int) -> str:
    """A task management function."""
    if value not in set(TmfType):
        return f"function {value}"
    return TmfType(value).name.removeprefix("VIRTIO_SCSI_T_TMF_").replace("_", " ")


def event_words(data: bytes) -> str:
    """What an event says: `TRANSPORT_RESET of 0:9: RESCAN`."""
    if len(data) < EVENT_SIZE:
        return "event"
    event, lun, reason = EVENT.unpack_from(data, 0)
    assert isinstance(event, int)
    assert isinstance(lun, bytes)
    assert isinstance(reason, int)
    number = event & ~EVENTS_MISSED
    why = ""
    if number == EventType.VIRTIO_SCSI_T_TRANSPORT_RESET and reason in set(ResetReason):
        why = f": {ResetReason(reason).name.removeprefix('VIRTIO_SCSI_EVT_RESET_')}"
    elif number == EventType.VIRTIO_SCSI_T_PARAM_CHANGE:
        asc = (reason & 0xFF) << 8 | reason >> 8 & 0xFF
        why = f": {Asc(asc).name.replace('_', ' ')}" if asc in set(Asc) else f": {asc:#06x}"
    elif number == EventType.VIRTIO_SCSI_T_ASYNC_NOTIFY:
        why = f": {AsyncEvent(reason & 0x7F).name or hex(reason)}"
    of = f" of {lun_words(lun)}" if any(lun) else ""
    return f"{event_name(event)}{of}{why}"
