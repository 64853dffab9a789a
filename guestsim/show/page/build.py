"""The page: one file of HTML with its style, its program and the trace, which it unpacks itself; it loads nothing."""

from __future__ import annotations

import base64
import html
import zlib
from collections.abc import Callable
from importlib.resources import files

import msgspec

from devmodels.tracefile import TraceReader
from guestsim.show.filters import Range
from guestsim.show.page.collect import Collector

PAYLOAD = 256
"""So many bytes of a request's data are in the page, unless told otherwise."""

_ALL = Range()
_SCRIPTS = (
    "data.js",
    "format.js",
    "view.js",
    "layout.js",
    "lanes.js",
    "overview.js",
    "timeline.js",
    "filter.js",
    "table.js",
    "parts.js",
    "way.js",
    "detail.js",
    "lists.js",
    "header.js",
    "main.js",
)


def page_of(
    reader: TraceReader,
    *,
    times: Range = _ALL,
    events: Range = _ALL,
    payload: int = PAYLOAD,
    progress: Callable[[int], None] = lambda _events: None,
) -> str:
    """The page for a trace, or for its `times` (ns since its beginning) and `events`; TraceFileError, QueryError.

    `payload` is how many bytes of each request's data are in it.  `progress` hears how many events have been read.
    """
    title = reader.path.name
    collector = Collector(payload, times, events)
    collector.collect(reader, progress)
    pack, found = collector.pack()
    about = msgspec.json.encode(
        {"title": title, "program": reader.header.program, "tables": pack.index, **found}
    )
    data = len(about).to_bytes(4, "little") + about
    data += bytes(-len(data) % 8)
    data += pack.data
    packed = base64.b64encode(zlib.compress(data, 6)).decode()
    return _filled(title, packed)


def _filled(title: str, packed: str) -> str:
    """The page's text around its data."""
    assets = files("guestsim.show.page").joinpath("assets")
    parts = {
        "TITLE": html.escape(title),
        "STYLE": assets.joinpath("page.css").read_text(encoding="utf-8"),
        "PROGRAM": "\n".join(assets.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS),
        "DATA": packed,
    }
    pieces = assets.joinpath("page.html").read_text(encoding="utf-8").split("@@")
    # Between the marks there is, in turn, text and a name.
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))
