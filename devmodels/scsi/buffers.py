"""READ BUFFER and WRITE BUFFER: a data buffer of the unit, and an echo buffer for each nexus (SPC-4 §6.18, §6.49)."""

from __future__ import annotations

from devmodels.scsi.asc import Asc
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import cdb, parameters
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.sense import illegal, invalid_field
from devmodels.scsi.table import Command, Data
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit

CDB = Layout(cdb.READ_BUFFER)
_DESCRIPTOR = Layout(parameters.BUFFER_DESCRIPTOR)
_ECHO_DESCRIPTOR = Layout(parameters.ECHO_DESCRIPTOR)

COMBINED, DATA, DESCRIPTOR, ECHO, ECHO_DESCRIPTOR = 0x00, 0x02, 0x03, 0x0A, 0x0B
"""Modes, SPC-4 Table 226."""
CAPACITY = 1 << 16
ECHO_CAPACITY = 4096
MAX_ECHOES = 64
"""So many nexuses' echo buffers are kept."""
ANY_OFFSET = 0
"""OFFSET BOUNDARY: offsets are multiples of 1 byte."""


class Buffers:
    """The buffers of one unit; they cost nothing before they are written."""

    __slots__ = ("data", "echoes")

    def __init__(self) -> None:
        self.data = bytearray()
        self.echoes: dict[Nexus, bytes] = {}

    def read(self, offset: int, length: int) -> bytes:
        """What was written there; zeroes else."""
        return bytes(self.data[offset : offset + length]).ljust(length, b"\0")

    def write(self, offset: int, data: bytes) -> None:
        """Keep `data`."""
        if not self.data:
            self.data = bytearray(CAPACITY)
        self.data[offset : offset + len(data)] = data

    def write_echo(self, nexus: Nexus, data: bytes) -> None:
        """Keep `data` for `nexus`; the oldest of too many is dropped."""
        self.echoes.pop(nexus, None)
        if len(self.echoes) >= MAX_ECHOES:
            del self.echoes[next(iter(self.echoes))]
        self.echoes[nexus] = data

    def forget(self, nexus: Nexus) -> None:
        """`nexus` is gone."""
        self.echoes.pop(nexus, None)


class HasBuffers(LogicalUnit):
    """A unit with buffers."""

    buffers: Buffers


def _where(fields: Fields) -> tuple[int, int]:
    """Offset and length, which have 24 bits each."""
    return (
        fields["offset_23_16"] << 16 | fields["offset_15_0"],
        fields["length_23_16"] << 16 | fields["length_15_0"],
    )


def _check(fields: Fields, offset: int, length: int, capacity: int) -> None:
    if fields["mode_specific"]:
        raise invalid_field(CDB, "mode_specific")
    if fields["buffer_id"]:
        raise invalid_field(CDB, "buffer_id")
    if offset > capacity:
        raise invalid_field(CDB, "offset_23_16")
    if length > capacity - offset:
        raise invalid_field(CDB, "length_23_16")


def _capacity() -> bytes:
    return _DESCRIPTOR.pack(
        offset_boundary=ANY_OFFSET, capacity_23_16=CAPACITY >> 16, capacity_15_0=CAPACITY & 0xFFFF
    )


def read_buffer(unit: HasBuffers, task: Task, fields: Fields) -> bytes:
    """What was written last, or how much there is room for."""
    offset, length = _where(fields)
    mode = fields["mode"]
    if mode in (COMBINED, DATA):
        head = b"\0" + _capacity()[1:] if mode == COMBINED else b""
        room = max(0, min(length - len(head), CAPACITY - offset))
        _check(fields, offset, room, CAPACITY)
        return head[:length] + unit.buffers.read(offset, room)
    if mode == DESCRIPTOR:
        return _capacity()[:length]
    if mode == ECHO:
        echo = unit.buffers.echoes.get(task.nexus)
        if echo is None:
            raise illegal(Asc.COMMAND_SEQUENCE_ERROR)
        return echo[:length]
    if mode == ECHO_DESCRIPTOR:
        return _ECHO_DESCRIPTOR.pack(ebos=1, capacity=ECHO_CAPACITY)[:length]
    raise invalid_field(CDB, "mode")


def write_buffer(unit: HasBuffers, task: Task, fields: Fields) -> None:
    """Keep data until it is overwritten."""
    offset, length = _where(fields)
    mode = fields["mode"]
    if mode == DATA:
        _check(fields, offset, length, CAPACITY)
        unit.buffers.write(offset, unit.parameters(task, length))
    elif mode == ECHO:
        _check(fields, 0, length, ECHO_CAPACITY)
        unit.buffers.write_echo(task.nexus, unit.parameters(task, length))
    else:
        raise invalid_field(CDB, "mode")


COMMANDS: tuple[Command[HasBuffers], ...] = (
    Command(0x3C, "READ BUFFER", CDB, read_buffer, "SPC-4 §6.18", data=Data.IN, ready=False),
    Command(0x3B, "WRITE BUFFER", CDB, write_buffer, "SPC-4 §6.49", data=Data.OUT, ready=False),
)
