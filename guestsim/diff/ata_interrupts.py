"""Interrupts of QEMU's ATA hosts that are explained, and asked for no longer when a step of a script has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers.ide_layouts import BmStatus

if TYPE_CHECKING:
    from guestsim.diff.ata_ports import AtaPorts
    from guestsim.diff.both import Both

_CAN_DMA = 0x60


def take_back(both: Both, ports: AtaPorts) -> None:
    """Take back what theirs tells and ours does not, as a driver does that has seen it (AHCI 1.3.1 §5.6.3).

    Each register is compared first: what is not explained there ends the comparison, and stays.  What both tell is
    left to the guest.
    """
    for irq, status, master in ports.channels():
        alone = both.theirs.irq_level(irq) and not both.ours.irq_level(irq)
        if alone:
            # The lines were compared with the step, and reading the status clears the other one's.
            both.theirs.io_read(status, 1)
        if not master:
            continue
        if alone:
            # What the line has set (SFF-8038i §2.2).
            more = both.theirs.io_read(master, 1) & ~both.ours.io_read(master, 1)
        else:
            more = _more(both, master, 1, port=True)
        if more & BmStatus.INTERRUPT:
            can = both.theirs.io_read(master, 1) & _CAN_DMA
            both.theirs.io_write(master, 1, can | BmStatus.INTERRUPT)
    for of_all, of_ports in ports.hbas():
        taken = 0
        for number, register in of_ports.items():
            if more := _more(both, register, 4, port=False):
                both.theirs.write(register, 4, more)
                taken |= 1 << number
        taken &= both.theirs.read(of_all, 4) & ~both.ours.read(of_all, 4)
        if taken:
            both.theirs.write(of_all, 4, taken)


def _more(both: Both, address: int, size: int, *, port: bool) -> int:
    """The bits that theirs alone has, where they are explained."""
    found = both.look(address, size, port=port)
    return 0 if found is None else found[1] & ~found[0]
