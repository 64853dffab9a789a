"""Defects that can be put into any device of `fuzz.ring` by hand: into its classes, before a bench is made."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from devmodels.blockbackend.request import Request
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.split import SplitRing
from fuzz.ring.disk import FuzzedDisk
from fuzz.ring.ledger import SECTOR
from tests.unit.virtio.model import IN_ORDER, NOTIFICATION_DATA

Put = pytest.MonkeyPatch
Defect = Callable[[Put], None]
PLAIN = IN_ORDER | NOTIFICATION_DATA
"""Features that are not negotiated, so that defects are simple."""


def before(put: Put, kind: type | ModuleType, name: str, first: Callable[..., None]) -> None:
    """A method does `first` and then what it does."""
    method = getattr(kind, name)

    def wrong(self: Any, *arguments: Any) -> Any:
        first(self, *arguments)
        return method(self, *arguments)

    put.setattr(kind, name, wrong)


def finishes(put: Put, change: Callable[[Any], Any]) -> None:
    finish = VirtQueue.finish
    put.setattr(VirtQueue, "finish", lambda self, done: finish(self, change(list(done))))


def says_a_byte_more(put: Put) -> None:
    finishes(put, lambda done: [(chain, length + 1) for chain, length in done])


def gives_back_twice(put: Put) -> None:
    push = SplitRing.push

    def wrong(self: SplitRing, *arguments: Any) -> None:
        push(self, *arguments)
        push(self, *arguments)

    put.setattr(SplitRing, "push", wrong)


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
