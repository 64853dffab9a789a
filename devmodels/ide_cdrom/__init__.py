"""PIIX IDE controllers: two channels with up to two devices each, ATA disks and ATAPI drives, and bus master DMA.

    registers   what a guest sees of a channel: command block, control block, bus master
    unit        one device on a cable: its task file, its command, its data at the data register
    channel     both devices, the device control register, the interrupt line
    busmaster   DMA by tables of physical regions
    function    the PCI functions PIIX3 and PIIX4, in compatibility mode or in native mode

ATA/ATAPI-7 vol. 1 and 2 (INCITS 397), SFF-8038i 1.0, SFF-8020i 2.6, Intel 82371SB (290550) and 82371AB (290562),
PCI IDE Controller Specification 1.0.
"""

from devmodels.ide_cdrom.channel import Channel
from devmodels.ide_cdrom.function import PiixIde
from devmodels.ide_cdrom.options import IdePciOptions

__all__ = ["Channel", "IdePciOptions", "PiixIde"]
