"""Commands that every disk has and nobody thinks of: diagnostics, geometry, buffers, NOP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import BLOCK, DIAGNOSTIC_PASSED, HEAD, Error, Transport
from devmodels.ata.table import Command, Protocol
from devmodels.ata.transfer import DataIn, DataOut

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk


def diagnose(disk: AtaDisk, command: AtaCommand) -> None:
    """EXECUTE DEVICE DIAGNOSTIC: passed, and the signature (ACS-3 §7.9)."""
    taskfile = command.taskfile
    taskfile.show(*disk.signature)
    # QEMU's has two bits that are always 1, and obsolete; a channel shows them by itself.
    taskfile.device = 0xA0 if disk.violations.as_qemu and disk.transport is Transport.SERIAL else 0
    taskfile.error = DIAGNOSTIC_PASSED


def initialize(disk: AtaDisk, command: AtaCommand) -> None:
    """INITIALIZE DEVICE PARAMETERS: another translation (ATA/ATAPI-5 §8.16)."""
    taskfile = command.taskfile
    sectors, heads = taskfile.count & 0xFF, (taskfile.device & HEAD) + 1
    if not sectors:
        raise AtaError(Error.ABRT)
    disk.translation = heads, sectors


def nothing(_disk: AtaDisk, _command: AtaCommand) -> None:
    """RECALIBRATE, SEEK: nothing moves."""


def nop(_disk: AtaDisk, _command: AtaCommand) -> None:
    """NOP: always aborted (ACS-3 §7.17)."""
    raise AtaError(Error.ABRT)


def read_buffer(disk: AtaDisk, _command: AtaCommand) -> DataIn:
    """The sector buffer, as WRITE BUFFER has left it (ACS-3 §7.19)."""
    return DataIn(disk.sector_buffer)


def write_buffer(_disk: AtaDisk, _command: AtaCommand) -> DataOut:
    """WRITE BUFFER."""
    return DataOut(BLOCK, _keep)


def _keep(disk: AtaDisk, _command: AtaCommand, data: bytes) -> None:
    disk.sector_buffer = data


COMMANDS: tuple[Command[AtaDisk], ...] = (
    Command(0x00, "NOP", Protocol.NON_DATA, nop, "ACS-3 §7.17"),
    Command(0x10, "RECALIBRATE", Protocol.NON_DATA, nothing, "ATA-3"),
    Command(0x70, "SEEK", Protocol.NON_DATA, nothing, "ATA/ATAPI-6"),
    Command(0x90, "EXECUTE DEVICE DIAGNOSTIC", Protocol.DIAGNOSTIC, diagnose, "ACS-3 §7.9"),
    Command(0x91, "INITIALIZE DEVICE PARAMETERS", Protocol.NON_DATA, initialize, "ATA/ATAPI-5"),
    Command(0xE4, "READ BUFFER", Protocol.PIO_IN, read_buffer),
    Command(0xE9, "READ BUFFER DMA", Protocol.DMA_IN, read_buffer),
    Command(0xE8, "WRITE BUFFER", Protocol.PIO_OUT, write_buffer),
    Command(0xEB, "WRITE BUFFER DMA", Protocol.DMA_OUT, write_buffer),
)
