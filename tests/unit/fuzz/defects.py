"""Defects that can be put into any device of `fuzz.ring` by hand: into its classes, before a bench is made."""

from __future__ import annotations

from devmodels.blockbackend.request import Request
from devmodels.virtio.split import SplitRing
from fuzz.ring.disk import FuzzedDisk
from fuzz.ring.ledger import SECTOR
from tests.defects import Put, before, finishes
from tests.unit.virtio.model import IN_ORDER, NOTIFICATION_DATA

PLAIN = IN_ORDER | NOTIFICATION_DATA
"""Features that are not negotiated, so that defects are simple."""


def says_a_byte_more(put: Put) -> None:
    finishes(put, lambda _, used: [(chain, length + 1) for chain, length in used])


def gives_back_twice(put: Put) -> None:
    before(put, SplitRing, "push", SplitRing.push)


def forgets_to_flush(put: Put) -> None:
    async def flush(_disk: FuzzedDisk, _request: Request) -> None:
        pass

    put.setattr(FuzzedDisk, "flush", flush)


def writes_another_sector(put: Put) -> None:
    write = FuzzedDisk.write

    async def wrong(self: FuzzedDisk, request: Request) -> None:
        request.offset += SECTOR
        await write(self, request)
        request.offset -= SECTOR

    put.setattr(FuzzedDisk, "write", wrong)
