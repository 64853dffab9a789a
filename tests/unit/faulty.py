"""A block driver `faulty` for tests: a filter whose requests fail where a test says so."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from devmodels.blockbackend import Op, Request, registry
from devmodels.blockbackend.filters import FilterNode


class Faulty(FilterNode):
    """`errors`: the errno with which an operation fails; set for each node by its test."""

    errors: dict[Op, int]

    def _judge(self, request: Request) -> None:
        error = getattr(self, "errors", {}).get(request.op)
        if error is not None:
            raise OSError(error, "faulty")

    async def read(self, request: Request) -> None:
        self._judge(request)
        await super().read(request)

    async def write(self, request: Request) -> None:
        self._judge(request)
        await super().write(request)

    async def flush(self, request: Request) -> None:
        self._judge(request)
        await super().flush(request)

    async def discard(self, request: Request) -> None:
        self._judge(request)
        await super().discard(request)

    async def write_zeroes(self, request: Request) -> None:
        self._judge(request)
        await super().write_zeroes(request)

    async def secure_erase(self, request: Request) -> None:
        self._judge(request)
        await super().secure_erase(request)


@contextmanager
def installed() -> Iterator[None]:
    """While it lasts, `"driver": "faulty"` is one of the drivers there are."""
    entry = importlib.metadata.EntryPoint("faulty", f"{__name__}:Faulty", registry.ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "entry_points", lambda *, group: [entry])
        registry.driver.cache_clear()
        yield
    registry.driver.cache_clear()


def options(name: str = "d0", size: int = 1 << 20) -> dict[str, object]:
    """A faulty node `name` over memory."""
    return {
        "driver": "faulty",
        "node-name": name,
        "discard": "unmap",
        "file": {"driver": "memory", "size": size},
    }
