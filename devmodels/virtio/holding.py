"""The control plane's methods: while one runs, the threads of the device's queues stand still."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from devmodels.iocontext import Hold


class _Held(Protocol):
    hold: Hold


_Device = TypeVar("_Device", bound=_Held)
_P = ParamSpec("_P")
_R = TypeVar("_R")


def holding(
    method: Callable[Concatenate[_Device, _P], _R],
) -> Callable[Concatenate[_Device, _P], _R]:
    """The control plane works while the threads of the device's queues stand still."""

    @wraps(method)
    def held(self: _Device, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self.hold:
            return method(self, *args, **kwargs)

    return held
