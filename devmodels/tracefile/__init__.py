"""Traces in files: events framed, numbered, versioned and compressed; `format` has the layout."""

from devmodels.tracefile.format import (
    MAGIC,
    VERSION,
    DeviceFacts,
    DiskFacts,
    Ending,
    TraceFileError,
    TraceHeader,
)
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
