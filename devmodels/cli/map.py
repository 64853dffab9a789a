"""`devmodels map`: what each part of an image is and where it lies, as `qemu-img map` tells it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from typing import Literal

import msgspec

from devmodels.blockbackend import Graph, Op, Request
from devmodels.blockbackend import options as block_options
from devmodels.blockbackend.backend import BlockBackend
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.registry import coerce
from devmodels.blockbackend.status import BlockStatus, Status
from devmodels.cli.blockdev import add_object
from devmodels.iocontext import Future, IoContext
from devmodels.options import parse_keyval

STEP = 1 << 30
"""The most bytes that are asked about at once."""

_PSEUDO_PROTOCOL = "json:"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the image.  `offset`: where it lies in an image without a format."""

    start: int
    length: int
    depth: int
    present: bool
    zero: bool
    data: bool
    offset: int | None = None

    def as_json(self) -> str:
        """As qemu-img prints it, one line."""
        members = [f'"{name}": {msgspec.json.encode(value).decode()}' for name, value in _members(self)]
        return "{ " + ", ".join(members) + "}"


def _members(entry: Entry) -> list[tuple[str, object]]:
    return [(name, value) for name, value in msgspec.structs.asdict(entry).items() if value is not None]


def map_image(
    image: str,
    *,
    image_opts: bool,
    force_share: bool,
    objects: Sequence[str],
    output: Literal["human", "json"],
) -> None:
    """Open the image, print its parts, close it; OptionError or OSError where that cannot be."""
    context = IoContext.wall()
    graph = Graph(context)
    try:
        for text in objects:
            add_object(graph, text)
        options = {"read-only": True, **_options(image, image_opts=image_opts)}
        if force_share:
            options["force-share"] = True
        found = context.run(entries(graph.add(options)))
    finally:
        graph.close()
        context.close()
    lines = _as_json(found) if output == "json" else _as_table(found)
    sys.stdout.write("\n".join(lines) + "\n")


def _options(image: str, *, image_opts: bool) -> dict[str, object]:
    if image_opts:
        return coerce(parse_keyval(image))
    if image.startswith(_PSEUDO_PROTOCOL):
        return block_options.decode(image.removeprefix(_PSEUDO_PROTOCOL))
    return {"driver": "file", "filename": image}


# --- what there is


async def entries(node: BlockNode) -> list[tuple[Entry, str]]:
    """The image's parts, each with the name of the file it lies in; what can be one part is."""
    found: list[tuple[Entry, str]] = []
    async for start, status in _statuses(node):
        entry, where = _entry(start, status), _where(status)
        if found and where == found[-1][1] and _continues(found[-1][0], entry):
            before = found.pop()[0]
            entry = msgspec.structs.replace(before, length=before.length + entry.length)
        found.append((entry, where))
    return found


async def _statuses(node: BlockNode) -> AsyncIterator[tuple[int, BlockStatus]]:
    backend = BlockBackend(node, read_only=True)
    try:
        at = 0
        while at < backend.size:
            over: Future[None] = Future(node.context)

            def done(_request: Request, over: Future[None] = over) -> None:
                over.set_result(None)

            length = min(STEP, backend.size - at)
            request = Request(Op.BLOCK_STATUS, at, length, done=done)
            backend.submit(request)
            await over
            if request.error:
                raise OSError(request.error, f"cannot tell what is at offset {at}")
            yield at, request.status
            at += request.status.pnum
    finally:
        backend.close()


def _entry(start: int, status: BlockStatus) -> Entry:
    flags = status.flags
    return Entry(
        start=start,
        length=status.pnum,
        depth=status.depth,
        present=Status.ALLOCATED in flags,
        zero=Status.ZERO in flags,
        data=Status.DATA in flags,
        offset=status.offset if Status.OFFSET_VALID in flags else None,
    )


def _continues(entry: Entry, following: Entry) -> bool:
    """Whether `following` is more of the same."""
    offset = None if entry.offset is None else entry.offset + entry.length
    return following == msgspec.structs.replace(
        entry, start=following.start, length=following.length, offset=offset
    )


def _where(status: BlockStatus) -> str:
    if status.node is None or Status.OFFSET_VALID not in status.flags:
        return ""
    return str(getattr(status.node.options, "filename", status.node.node_name))


# --- how it looks


def _as_json(found: Sequence[tuple[Entry, str]]) -> list[str]:
    return ["[" + ",\n".join(entry.as_json() for entry, _ in found) + "]"]


def _as_table(found: Sequence[tuple[Entry, str]]) -> list[str]:
    """What holds data; "-" where that is not stored as it is."""
    lines = [f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File"]
    for entry, where in found:
        if entry.data and not entry.zero:
            offset = "-" if entry.offset is None else _hex(entry.offset)
            lines.append(f"{_hex(entry.start):<16}{_hex(entry.length):<16}{offset:<16}{where or '-'}")
    return lines


def _hex(number: int) -> str:
    """As printf's %#x: zero has no prefix."""
    return f"{number:#x}" if number else "0"
