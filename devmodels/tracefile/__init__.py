"""Traces in files: events framed, numbered, versioned and compressed; `format` has the layout."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from devmodels.tracefile.format import (
    MAGIC,
    VERSION,
    DeviceFacts,
    DiskFacts,
    Ending,
    TraceFileError,
    TraceHeader,
)

if TYPE_CHECKING:
    from devmodels.tracefile.reader import TraceReader
    from devmodels.tracefile.writer import TraceWriter, WritingTracer

__all__ = [
    "MAGIC",
    "VERSION",
    "DeviceFacts",
    "DiskFacts",
    "Ending",
    "TraceFileError",
    "TraceHeader",
    "TraceReader",
    "TraceWriter",
    "WritingTracer",
]

_WHERE = {"TraceReader": "reader", "TraceWriter": "writer", "WritingTracer": "writer"}


def __getattr__(name: str) -> object:
    """Compression is slow to import, and the layout is wanted where there is no file."""
    if name not in _WHERE:
        raise AttributeError(name)
    return getattr(import_module(f"devmodels.tracefile.{_WHERE[name]}"), name)
