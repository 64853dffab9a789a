"""IDENTIFY PACKET DEVICE (ACS-3 §7.13): what the device is, and what it can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.ata.command import AtaCommand
from devmodels.ata.constants import Transport
from devmodels.ata.transfer import DataIn
from devmodels.ata.words import Words, reset_result

if TYPE_CHECKING:
    from devmodels.ata.packet.device import AtapiDevice

CONFIGURATION = 0x85C0
"""Word 0: ATAPI, a CD drive, its medium comes out, DRQ within 50 µs of PACKET, packets of 12 bytes."""
CYCLE_NS = 120
"""Cycle time of PIO mode 4 and multiword DMA mode 2."""
RELEASE_US = 30
"""Words 71 and 72, for overlapped commands, of which there are none."""
MAJOR_VERSION = 0x07F0
"""ATA/ATAPI-4 to ACS-3, a bit each (ACS-3 §7.13.6, word 80)."""
FEATURES = 1 << 3 | 1 << 4 | 1 << 9
"""Words 82 and 85: power management, PACKET, DEVICE RESET."""


def identify(device: AtapiDevice, _command: AtaCommand) -> DataIn:
    """The 256 words."""
    options, modes = device.options, device.modes
    words = Words()
    words[0] = CONFIGURATION
    words.text(10, 10, device.serial)
    words.text(23, 4, device.version)
    words.text(27, 20, device.model)
    words[49] = 0x0B00  # IORDY, LBA, DMA; no overlap, no queue.
    words[50] = 0x4000
    words[53] = 0x0006  # Words 64 to 70 and 88 are valid.
    words[63] = modes.multiword_word
    words[64] = 0x0003  # PIO modes 3 and 4.
    for word in (65, 66, 67, 68):
        words[word] = CYCLE_NS
    words[71] = words[72] = RELEASE_US
    words[80] = MAJOR_VERSION
    words[82] = words[85] = FEATURES
    for word in (83, 84, 86, 87):
        words[word] = 0x4000 if word != 86 else 0
    words[88] = modes.ultra_word
    if options.wwn:
        words.set_bit(84, 8)
        words.set_bit(87, 8)
        for at in range(4):
            words[108 + at] = options.wwn >> 48 - 16 * at
    if device.transport is Transport.SERIAL:
        words[76] = 0x020E  # Gen1 to Gen3; the host may ask for link power states.
        words[77] = device.link_speed << 1
        words[222] = 0x107F
    else:
        words[93] = reset_result(device.unit)
    return DataIn(words.pack())
