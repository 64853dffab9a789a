"""ATA devices: one command core for every host adapter (AHCI, IDE channels).

How a command goes.  A host adapter makes an `AtaCommand` of the registers that it was given (`TaskFile`) and calls
`AtaDevice.issue`.  The table of the device's kind says what the command is (`table`): its protocol, its addresses, who
answers it.  The handler ends it at once, or returns a `Transfer`, or works on as a coroutine; what it finds wrong it
raises as `AtaError`.

    adapter.begin(command)        there is a transfer: the adapter has memory, or a DRQ data block, for a part of it
      → device.move(command, vectors, length)      the next `length` bytes of it, between these and the medium
      → adapter.moved(command)                      they have been moved; the adapter goes on, or
      → device.conclude(command)                    all of it has
    adapter.finished(command)     it is over, as its task file says: status, error, address, count
    adapter.dropped(command)      it is over, and nobody may hear of it

The device does not know whether its data goes by DMA, by DRQ data blocks or in FISes; the adapter does not know where
they come from.  No coroutine waits for a guest: what an adapter has to keep between two accesses is the command.

ACS-3 (INCITS 522), ACS-4 (INCITS 529); what these have made obsolete: ATA/ATAPI-5 to -7 and ATA8-ACS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.lazy import exports

if TYPE_CHECKING:
    from devmodels.ata.command import AtaCommand, AtaError, HostAdapter
    from devmodels.ata.constants import Error, Reset, Status
    from devmodels.ata.device import AtaDevice
    from devmodels.ata.table import PENDING, Addressing, Command, Protocol
    from devmodels.ata.taskfile import Place, TaskFile
    from devmodels.ata.transfer import DataIn, DataOut, Transfer

__all__ = [
    "PENDING",
    "Addressing",
    "AtaCommand",
    "AtaDevice",
    "AtaError",
    "Command",
    "DataIn",
    "DataOut",
    "Error",
    "HostAdapter",
    "Place",
    "Protocol",
    "Reset",
    "Status",
    "TaskFile",
    "Transfer",
]

__getattr__ = exports(
    __name__,
    {
        "command": "AtaCommand AtaError HostAdapter",
        "constants": "Error Reset Status",
        "device": "AtaDevice",
        "table": "PENDING Addressing Command Protocol",
        "taskfile": "Place TaskFile",
        "transfer": "DataIn DataOut Transfer",
    },
)
"""A device is slow to import, and its addresses and constants are wanted where there is none."""
