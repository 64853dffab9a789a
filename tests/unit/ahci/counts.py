"""PRDBC of a port's commands is how many bytes of memory the device was given, or has filled (AHCI 1.3.1 §5.4.1)."""

from __future__ import annotations

from collections.abc import Sequence

from devmodels.ahci.command import PortCommand
from devmodels.ahci.layout import HEADER_SIZE, PRDBC_OFFSET
from devmodels.ahci.port import Port
from devmodels.ata import AtaCommand
from tests.unit.ata.hostility import Shadow

LISTS = 0x800
"""The first bytes of memory: command lists, where nothing else is written."""
RECEIVED_SIZE = 0x100


def watch_counts(port: Port, shadow: Shadow, wrong: list[str]) -> None:
    """Look at what the device at `port` moves; what does not hold is put into `wrong`."""
    device = port.device
    assert device is not None
    move, moved = device.move, device.moved
    given: dict[AtaCommand, int] = {}

    def moves(command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:
        given[command] = sum(map(len, vectors))
        move(command, vectors, length)

    def has_moved(command: AtaCommand, length: int) -> None:
        assert isinstance(command, PortCommand)
        assert command.transfer is not None
        expected = given.pop(command, 0)
        if not command.transfer.exact:
            expected = min(expected, length)
        at = command.header.address - shadow.base
        told = not (command.dropped or command.queued) and tells(at)
        moved(command, length)
        if told:
            count = int.from_bytes(shadow.data[at + PRDBC_OFFSET : at + PRDBC_OFFSET + 4], "little")
            if count != expected:
                wrong.append(f"PRDBC of slot {command.slot} is {count}, and {expected} bytes were moved")

    def tells(at: int) -> bool:
        """Whether a header is there that the HBA may write, and nothing else does."""
        after = port.received - shadow.base - at
        apart = not -RECEIVED_SIZE < after < HEADER_SIZE
        return 0 <= at < LISTS and apart and port.hba.may_master

    setattr(device, "move", moves)  # noqa: B010
    setattr(device, "moved", has_moved)  # noqa: B010
