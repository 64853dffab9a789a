"""What HBAs do one way or another: as AHCI and Serial ATA have it, or as QEMU 7.2's with what is attached to it.

A field says what is done where it is true; `STRICT` has none of it.
"""

from __future__ import annotations

import msgspec

from devmodels.ata import Status
from devmodels.ata.constants import READY
from devmodels.conformance import ViolationLog


class Habits(msgspec.Struct, frozen=True):
    """Departures from AHCI 1.3.1 and Serial ATA 3.2, each with the clause."""

    early: bool = False
    """It is of AHCI 1.0, with links of Gen1 (AHCI 1.3.1 §3.1.1, §3.1.5, §3.3.10)."""
    quiet_link: bool = False
    """PxTFD, PxSIG and PxIS tell of a device by its first FIS alone, PxSERR does not (§3.3.8, §3.3.9, §3.3.12)."""
    resets_when_over: bool = False
    """A COMRESET is one when PxSCTL.DET is 0 again: till then nothing happens, and then nothing is issued (§3.3.11)."""
    signature: tuple[int, int, int] | None = None
    """Status of a disk and of an ATAPI drive, and the device field, in the first FIS (SATA 3.2 §11.3)."""
    empty_signature: tuple[int, int, int] | None = None
    """LBA, device field and status of the first FIS that a port without a device receives (AHCI 1.3.1 §3.3.9)."""
    hides_busy: bool = False
    """PxTFD.STS has no BSY while a command is under way (§3.3.8)."""
    hides_slot: bool = False
    """PxCMD.CCS is 0 (§3.3.7)."""
    repeats: bool = False
    """What has failed is done again with the next command, and when that has ended well, and the port does not halt
    (§6.2.2)."""
    lowest_first: bool = False
    """Of several commands that of the lowest slot comes first, wherever the last one was (§5.3.2)."""
    deaf_prds: bool = False
    """The interrupt bit of a PRD is not looked at (§4.2.3.3)."""
    adds_count: bool = False
    """PRDBC is cleared first, and then what was moved is added to what it holds (§4.2.2)."""
    counts_when_done: bool = False
    """PRDBC tells of what was given by DMA when it has been done, and well (§5.4.1)."""
    silent_overflow: bool = False
    """A command with more data than its PRDs have room for moves none, and ends well (§3.3.5)."""
    last_shown: bool = False
    """FISes of queued commands have status, error, count and address of the last command before them (ACS-3 §7.23)."""
    tells_dropped: bool = False
    """The first Set Device Bits FIS after a reset tells of the commands that it has dropped (SATA 3.2 §10.5.7)."""
    ends_by_register: bool = False
    """Every command that is not queued ends with a register FIS that interrupts (SATA 3.2 §11.7)."""
    mute_diagnostics: bool = False
    """EXECUTE DEVICE DIAGNOSTIC ends without a FIS, and stays issued (AHCI 1.3.1 §3.3.14)."""
    no_dma_setup: bool = False
    """The data of queued commands come without a DMA Setup FIS (SATA 3.2 §13.6.3)."""
    plain_pio_setup: bool = False
    """PIO Setup FISes have no direction, and no status of their own for after the block (SATA 3.2 §10.5.11)."""

    tells_again: bool = False
    """Each cause of an interrupt has a message of its own, be there others that were not cleared or not (§10.6.2.1)."""
    whole_packets: bool = False
    """The device is given all 16 bytes that there are for a packet (§4.2.3.2)."""
    loose_registers: bool = False
    """PxCMD, PxSCTL and the addresses hold what is written, FR is FRE, narrow writes are of whole registers (§3.3)."""
    deaf_override: bool = False
    """PxCMD.CLO changes no BSY or DRQ, and is not cleared (§3.3.7)."""
    issues_while_stopped: bool = False
    """PxCI and PxSACT take bits while PxCMD.ST is 0 (§3.3.13, §3.3.14)."""
    unheard_ends: bool = False
    """Where PxCMD.FRE is 0 a command ends without PxTFD and PxIS, but for PxIS.PSS (§10.3.1, §5.3.8)."""
    deaf_fises: bool = False
    """What is no register FIS of the host, or for another device of a port multiplier, stays issued (§4.2.3.1)."""
    at_once: bool = False
    """Commands are fetched, and resets are over, in the access that asks for them, if they can be (§5.3, §10.4)."""
    free_lengths: bool = False
    """A command FIS is read whatever length its header tells (§4.2.2)."""


STRICT = Habits()
AS_QEMU = Habits(
    early=True,
    quiet_link=True,
    resets_when_over=True,
    signature=(Status.DF | Status.DSC, READY | Status.DF, 0xA0),
    empty_signature=(0xFF_FF01, 0xA0, READY),
    hides_busy=True,
    hides_slot=True,
    repeats=True,
    lowest_first=True,
    deaf_prds=True,
    adds_count=True,
    counts_when_done=True,
    silent_overflow=True,
    last_shown=True,
    tells_dropped=True,
    ends_by_register=True,
    mute_diagnostics=True,
    no_dma_setup=True,
    plain_pio_setup=True,
    tells_again=True,
    whole_packets=True,
    loose_registers=True,
    deaf_override=True,
    issues_while_stopped=True,
    unheard_ends=True,
    deaf_fises=True,
    at_once=True,
    free_lengths=True,
)


def habits_of(violations: ViolationLog) -> Habits:
    """Those of its profile."""
    return AS_QEMU if violations.as_qemu else STRICT
