"""Traces in files: events framed, numbered, versioned and compressed; `format` has the layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.lazy import exports
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

__getattr__ = exports(__name__, {"reader": "TraceReader", "writer": "TraceWriter WritingTracer"})
"""Compression is slow to import, and the layout is wanted where there is no file."""
