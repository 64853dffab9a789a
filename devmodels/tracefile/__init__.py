"""Traces in files: events framed, numbered, versioned and compressed; `format` has the layout."""

from devmodels.tracefile.format import (
    VERSION,
    DeviceFacts,
    DiskFacts,
    Ending,
    TraceFileError,
    TraceHeader,
)
from devmodels.tracefile.reader import TraceReader
from devmodels.tracefile.writer import TraceWriter

__all__ = [
    "VERSION",
    "DeviceFacts",
    "DiskFacts",
    "Ending",
    "TraceFileError",
    "TraceHeader",
    "TraceReader",
    "TraceWriter",
]
