"""PIO Setup FISes: of DRQ data blocks, and of a command packet (SATA 3.x §11.7, §11.8, §11.11).

Blocks follow one another without the host's help, in a turn in which it can read no register, so that one FIS is
received for all of them: the last one's.  PxIS.PSS would be 1 already where a later block's sets it again.

QEMU's have neither a direction nor a status of their own for after the block.
"""

from __future__ import annotations

from devmodels.ahci.command import PortCommand
from devmodels.ahci.fis import pio_setup
from devmodels.ata import Protocol, Status, TaskFile
from devmodels.ata.constants import READY

PACKET = 0xA0
PACKET_DMA = 0x01
"""Features of PACKET, bit 0."""
COMMAND_DATA, TO_HOST = 0x01, 0x02
"""Interrupt reason (count) of a packet command: C/D, I/O."""
ASKING, WORKING = READY | Status.DRQ, READY | Status.BSY


def is_packet(command: PortCommand) -> bool:
    """Whether the device does a packet."""
    return command.entry is not None and command.entry.protocol is Protocol.PACKET


def by_pio(command: PortCommand) -> bool:
    """Whether the command's data goes in DRQ data blocks."""
    if command.entry is None:
        return False
    if command.entry.protocol is Protocol.PACKET:
        return not command.taskfile.features & PACKET_DMA
    return command.entry.protocol.pio


def data_setup(command: PortCommand, length: int, *, plain: bool) -> tuple[bytes, bool]:
    """Of the last block where there are `length` bytes; and whether it interrupts.

    Only of the first block of a write the host is not told.  A packet command says how it ended in another FIS.
    `plain`: as QEMU's.
    """
    transfer, taskfile = command.transfer, command.taskfile
    assert transfer is not None
    packet = is_packet(command)
    block = transfer.block
    interrupt = packet or not transfer.out or length > block
    told = last = length % block or block
    if transfer.sector and plain:
        # QEMU's drive cuts its data blocks at each block of its medium, and tells by LBA of them as a whole.
        last = min(told, (length - 1) % transfer.sector + 1)
    after = WORKING if transfer.out or packet else taskfile.status or READY
    if plain:
        after = ASKING
    if packet:
        taskfile.count = 0 if transfer.out else TO_HOST
        taskfile.lba = taskfile.lba & ~0xFF_FF00 | told << 8
    out = transfer.out or plain
    shown = transfer.shown(command, length - last) if plain and transfer.out else taskfile
    return pio_setup(shown, ASKING, after, last, out=out, interrupt=interrupt), interrupt


def packet_setup(taskfile: TaskFile, size: int, *, plain: bool) -> bytes:
    """The device asks for a packet of `size` bytes."""
    asking = TaskFile(count=COMMAND_DATA, lba=taskfile.lba, device=taskfile.device)
    after = ASKING if plain else WORKING
    return pio_setup(asking, ASKING, after, size, out=True, interrupt=False)
