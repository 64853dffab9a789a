"""What a port's commands move: from and to the regions of their PRD tables, and PRDBC says how much (AHCI 1.3.1
§4.2.3.3, §5.4.1).

Tables are read by code of our own.  What lies where the HBA itself writes, or is there twice, is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

from devmodels.ahci.command import Header, PortCommand
from devmodels.ahci.port import Port
from devmodels.ata import AtaCommand
from devmodels.blockbackend.vectors import gather
from tests.unit.ata.shadow import Shadow

LISTS = 0x800
"""The first bytes of memory: command lists, where nothing else is written."""
HEADER_SIZE, COUNT, RECEIVED_SIZE = 0x20, 4, 0x100
PRDT, PRD = 0x80, struct.Struct("<Q4xI")
LAST = 0x3F_FFFF
Regions = list[tuple[int, int]]
"""Of memory, as offsets; none where it cannot be said where they are."""


class Moves:
    """Follows the device at `port`; what does not hold is put into `wrong`."""

    def __init__(self, port: Port, shadow: Shadow, wrong: list[str]) -> None:
        device = port.device
        assert device is not None
        self._port, self._shadow, self._wrong = port, shadow, wrong
        self._device_move, self._device_moved = device.move, device.moved
        self._given: dict[AtaCommand, tuple[Sequence[memoryview], Regions]] = {}
        """Memory that the device has, and where the guest has it."""
        setattr(device, "move", self._move)  # noqa: B010
        setattr(device, "moved", self._moved)  # noqa: B010

    def _move(self, command: AtaCommand, vectors: Sequence[memoryview], length: int) -> None:
        assert isinstance(command, PortCommand)
        assert command.transfer is not None
        # The guest may have another table there when it is over.
        regions = self._regions(command, sum(map(len, vectors)))
        self._given[command] = vectors, regions
        # What a queued command gives may be written by another one of its turn.
        if command.transfer.out and not command.queued:
            self._compare(command, regions, bytes(gather(vectors)))
        self._device_move(command, vectors, length)

    def _moved(self, command: AtaCommand, length: int) -> None:
        assert isinstance(command, PortCommand)
        assert command.transfer is not None
        vectors, regions = self._given.pop(command, ((), []))
        expected = sum(map(len, vectors))
        if not command.transfer.exact:
            expected = min(expected, length)
        data = b"" if command.transfer.out or command.dropped else bytes(gather(vectors)[:expected])
        at = command.header.address - self._shadow.base
        told = not (command.dropped or command.queued) and self._tells(at)
        self._device_moved(command, length)
        self._compare(command, regions, data)
        if told:
            count = int.from_bytes(self._shadow.data[at + COUNT : at + COUNT + 4], "little")
            if count != expected:
                self._wrong.append(
                    f"PRDBC of slot {command.slot} is {count}, and {expected} bytes were moved"
                )

    def _tells(self, at: int) -> bool:
        """Whether a header is there that the HBA may write, and nothing else does."""
        after = self._port.received - self._shadow.base - at
        apart = not -RECEIVED_SIZE < after < HEADER_SIZE
        return 0 <= at < LISTS and apart and self._port.hba.may_master

    def _compare(self, command: PortCommand, regions: Regions, data: bytes) -> None:
        """The guest has the beginning of its regions so."""
        if regions and self._port.hba.may_master:
            found = b"".join(self._shadow.data[at:end] for at, end in regions)
            if found[: len(data)] != data:
                self._wrong.append(f"slot {command.slot} has not moved what is in its regions")

    def _regions(self, command: PortCommand, length: int) -> Regions:
        """Where the first `length` bytes of its table are, as far as they are apart."""
        shadow, header, left = self._shadow, command.header, length
        table = header.table - shadow.base + PRDT
        found: Regions = []
        for number in range(header.prdtl if table >= 0 else 0):
            if not left or table + (number + 1) * PRD.size > len(shadow.data):
                break
            address, last = PRD.unpack_from(shadow.data, table + number * PRD.size)
            at, size = (address & ~1) - shadow.base, min((last & LAST) + 1, left)
            found.append((at, at + size))
            left -= size
        size = len(shadow.data)
        own = (
            (0, LISTS + 2 * RECEIVED_SIZE),
            (size - RECEIVED_SIZE, size),
            *((start - shadow.base, start - shadow.base + RECEIVED_SIZE) for start in self._reported(header)),
        )
        apart = all(end <= at for (_, end), (at, _) in pairwise(sorted(found)))
        clear = all(end <= first or last <= at for at, end in found for first, last in own)
        return found if apart and clear and not left else []

    def _reported(self, header: Header) -> tuple[int, int]:
        """Where the HBA reports at the moment; elsewhere it may later, or has before."""
        return self._port.received, header.address
