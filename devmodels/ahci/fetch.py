"""A command of a port's command list is fetched: its header, its FIS and its packet, once each (AHCI 1.3.1 §5.3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from devmodels.ahci.command import Header
from devmodels.ahci.fis import H2D_DWORDS, H2D_SIZE, parse_register
from devmodels.ahci.layout import (
    ACMD_OFFSET,
    ACMD_SIZE,
    ATAPI,
    CFL,
    COMMAND_HEADER,
    HEADER_SIZE,
    MAX_CFL,
    MIN_CFL,
)
from devmodels.ahci.link import IPM_ACTIVE
from devmodels.ahci.registers import HBFS
from devmodels.conformance import written
from devmodels.memoryregions import GuestMemoryError

if TYPE_CHECKING:
    from devmodels.ahci.port import Port
    from devmodels.ata import TaskFile


class Fetched(NamedTuple):
    """The command of `slot`: its header, its FIS as it is in memory, the packet if there is one, what the FIS says."""

    slot: int
    header: Header
    data: bytes
    packet: bytes | None
    kind: int
    flags: int
    taskfile: TaskFile
    control: int


def fetch(port: Port, commands: int, slot: int) -> Fetched | None:
    """Read a command header and its FIS from the list at `commands`; None where the port halts for that."""
    registers, memory, habits = port.registers, port.hba.memory, port.hba.habits
    if registers.ssts_ipm > IPM_ACTIVE:
        # There is something to send: the link wakes up (§8.3.1).
        registers.ssts_ipm = IPM_ACTIVE
    if not habits.hides_slot:
        registers.ccs = slot
    address = commands + HEADER_SIZE * slot
    try:
        fields = memory.unpack(address, COMMAND_HEADER.layout)
        flags, prdtl, _, ctba, ctbau = fields
        header = Header(address, flags, prdtl, ctba, ctbau)
        length = flags & CFL
        if habits.free_lengths:
            length = H2D_DWORDS
        elif not MIN_CFL <= length <= MAX_CFL:
            port.violation(
                "AHCI 1.3.1 §4.2.2",
                f"slot {slot}: a command FIS of {length} dwords",
                COMMAND_HEADER.pack(*fields),
            )
            port.fatal(HBFS)
            return None
        data = memory.read(header.table, 4 * length)
        if length < H2D_DWORDS:
            data = data.ljust(H2D_SIZE, b"\0")
        packet = memory.read(header.table + ACMD_OFFSET, ACMD_SIZE) if flags & ATAPI else None
    except GuestMemoryError as error:
        port.violation("AHCI 1.3.1 §6.1.1", f"slot {slot}: {error}", written(error.address, 8))
        port.fatal(HBFS)
        return None
    return Fetched(slot, header, data, packet, *parse_register(data))
