"""Loggers for those who hardly ever have something to say: `logging` is imported with the first line."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import logging


class _Logger:
    """Stands for the logger of that name."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        import logging

        return getattr(logging.getLogger(self._name), attribute)


def logger(name: str) -> logging.Logger:
    """As `logging.getLogger`, for those who log and set nothing."""
    return cast("logging.Logger", _Logger(name))
