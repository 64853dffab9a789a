"""The table of a drive's commands, and how much data each moves."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from devmodels.disc.disc import BLOCK
from devmodels.scsi import basic, inventory, modecommands
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import mmc_data
from devmodels.scsi.mmc import (
    audio,
    capacity,
    eventstatus,
    features,
    mechanism,
    performance,
    reading,
    structure,
    toc,
)
from devmodels.scsi.table import Command, Data

COMMANDS: tuple[Command[Any], ...] = (
    *basic.COMMANDS,
    inventory.COMMAND,
    *modecommands.COMMANDS,
    *mechanism.COMMANDS,
    *capacity.COMMANDS,
    *reading.COMMANDS,
    *toc.COMMANDS,
    *audio.COMMANDS,
    features.COMMAND,
    eventstatus.COMMAND,
    structure.COMMAND,
    *performance.COMMANDS,
)

_BY_OPCODE = {command.opcode: command for command in COMMANDS}
_CAPACITY = 8
_PERFORMANCE_HEADER = Layout(mmc_data.PERFORMANCE_HEADER).size
_PERFORMANCE = Layout(mmc_data.NOMINAL_PERFORMANCE).size


def _msf_blocks(fields: Fields) -> int:
    """As many as an MSF range can be."""
    times = [
        (fields[f"{end}_minute"] * 60 + fields[f"{end}_second"]) * 75 + fields[f"{end}_frame"]
        for end in ("start", "end")
    ]
    return max(times[1] - times[0], 0) if fields["start_minute"] != 0xFF else reading.MAX_BLOCKS


_BYTES: dict[int, Callable[[Fields], int]] = {
    0x25: lambda _: _CAPACITY,
    0x28: lambda fields: min(fields["transfer_length"], reading.MAX_BLOCKS) * BLOCK,
    0xA8: lambda fields: min(fields["transfer_length"], reading.MAX_BLOCKS) * BLOCK,
    0xBE: lambda fields: (
        min(fields["blocks_23_16"] << 16 | fields["blocks_15_0"], reading.MAX_BLOCKS) * reading.LARGEST
    ),
    0xB9: lambda fields: min(_msf_blocks(fields), reading.MAX_BLOCKS) * reading.LARGEST,
    0xAC: lambda fields: _PERFORMANCE_HEADER + bool(fields["maximum_descriptors"]) * _PERFORMANCE,
}
"""How many bytes commands return at most that have no allocation length, by operation code."""


def transfer(cdb: bytes) -> tuple[Data, int]:
    """Which way a command's data goes, and how many bytes it is at most.  Nothing for what is no command."""
    command = _BY_OPCODE.get(cdb[0]) if cdb else None
    if command is None or command.data is Data.NONE:
        return Data.NONE, 0
    try:
        fields = command.layout.unpack(cdb)
    except struct.error:
        return Data.NONE, 0
    most = _BYTES.get(command.opcode)
    return command.data, most(fields) if most is not None else fields[command.length]
