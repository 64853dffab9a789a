"""How a defect is put into our devices by hand: a method is kept, and another one that calls it stands in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest

from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain

Put = pytest.MonkeyPatch
Defect = Callable[[Put], None]
"""Puts a defect into our devices."""
Kind = type | ModuleType
"""What has the method, or the function."""
Used = Sequence[tuple[Chain, int]]


def before(put: Put, kind: Kind, name: str, first: Callable[..., None]) -> None:
    """A method does `first` and then what it does."""
    method = getattr(kind, name)

    def wrong(*arguments: Any) -> Any:
        first(*arguments)
        return method(*arguments)

    put.setattr(kind, name, wrong)


def after(put: Put, kind: Kind, name: str, then: Callable[..., None]) -> None:
    """A method does what it does and then `then`."""
    method = getattr(kind, name)

    def wrong(*arguments: Any) -> None:
        method(*arguments)
        then(*arguments)

    put.setattr(kind, name, wrong)


def given(put: Put, kind: Kind, name: str, change: Callable[..., tuple[Any, ...]]) -> None:
    """A method is given what `change` makes of its arguments, the object among them."""
    method = getattr(kind, name)
    put.setattr(kind, name, lambda *arguments: method(*change(*arguments)))


def answers(put: Put, kind: Kind, name: str, change: Callable[[Any], Any]) -> None:
    """A method answers what `change` makes of its answer."""
    method = getattr(kind, name)
    put.setattr(kind, name, lambda *arguments, **more: change(method(*arguments, **more)))


def finishes(put: Put, change: Callable[[VirtQueue, Used], Used]) -> None:
    """Chains that were used, each with the bytes that were written, are given back otherwise."""
    given(put, VirtQueue, "finish", lambda queue, used: (queue, change(queue, used)))
