"""`cue`: the image of a CD as a cue sheet describes it (ours).

The node's bytes are those of the sheet's files, one after the other; `disc` says what they are.  A CD drive reads the
disc; anything else sees the bytes.
"""

from __future__ import annotations

import codecs
import os
import stat
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import Annotated, ClassVar

import msgspec

from devmodels.blockbackend.drivers.file import FileNode, FileOptions
from devmodels.blockbackend.node import SECTOR, BlockNode
from devmodels.blockbackend.options import BlockOptionError, NodeOptions, shown
from devmodels.blockbackend.permissions import Role
from devmodels.blockbackend.request import Read, Request
from devmodels.blockbackend.status import BlockStatus
from devmodels.blockbackend.vectors import clear, window
from devmodels.disc import Disc
from devmodels.disc.cuesheet import MAX_SIZE, Contents, CueError, CueFile, lay_out, parse
from devmodels.disc.riff import find_samples
from devmodels.disc.sector import RAW
from devmodels.iocontext import IoContext
from devmodels.options import one_line

_AUDIO = (2, 16, 44100)
"""Channels, bits of a sample, samples per second of a WAVE file that a CD can have."""


class CueOptions(NodeOptions, frozen=True, kw_only=True):
    """`filename`: the sheet; the files that it names are beside it."""

    filename: Annotated[str, msgspec.Meta(min_length=1)]


class CueNode(BlockNode):
    """Read-only.  Each file is a child."""

    Options: ClassVar[type[NodeOptions]] = CueOptions

    def __init__(
        self, options: CueOptions, context: IoContext, disc: Disc, files: Sequence[tuple[FileNode, Contents]]
    ) -> None:
        """`files`: those of the sheet, each with its place among the node's bytes."""
        places = [place for _, place in files]
        self._bases = [place.base for place in places]
        self._ends = [place.end - place.padding for place in places]
        super().__init__(options, context, -(-places[-1].end // SECTOR) * SECTOR)
        self.read_only = True
        self.disc = disc
        self._files = [self.attach(f"file.{n}", node, Role.DATA) for n, (node, _) in enumerate(files)]

    @classmethod
    def open(
        cls,
        options: NodeOptions,
        context: IoContext,
        children: Mapping[str, BlockNode],  # noqa: ARG003
    ) -> BlockNode:
        """Read the sheet and open its files; BlockOptionError where it, or one of them, is not as it must be."""
        assert isinstance(options, CueOptions)
        text = _read(options.filename)
        with ExitStack() as opened:
            try:
                sheet = parse(text)
                files: list[tuple[FileNode, Contents]] = []
                base = 0
                for file in sheet.files:
                    node, place = _open(options, context, file, opened)
                    files.append((node, place._replace(base=base)))
                    base = files[-1][1].end
                disc = lay_out(sheet, [place for _, place in files])
            except CueError as error:
                where = f"$.filename: {shown(options.filename)}, "
                raise BlockOptionError(where + one_line(str(error))) from None
            whole = cls(options, context, disc, files)
            opened.pop_all()
        return whole

    def _reopen(self, before: NodeOptions) -> None:  # noqa: ARG002
        """It stays read-only."""
        self.read_only = True

    # --- requests

    def _parts(self, offset: int, length: int) -> Iterator[tuple[int | None, int, int, int]]:
        """The files that a range lies in: which (None: zeroes, which no file has), from where there, from where in the
        range, how many bytes."""
        done = 0
        while done < length:
            at = offset + done
            index = bisect_right(self._bases, at) - 1
            room = self._ends[index] - at
            if room > 0:
                count = min(room, length - done)
                yield index, at - self._bases[index], done, count
            else:
                following = self._bases[index + 1 : index + 2]
                count = min(following[0] - at, length - done) if following else length - done
                yield None, 0, done, count
            done += count

    def read_now(self, reads: Sequence[Read]) -> int:
        """What the files have at hand."""
        for number, (offset, vectors, length) in enumerate(reads):
            for index, start, done, count in self._parts(offset, length):
                part = window(vectors, done, count)
                if index is None:
                    clear(part)
                elif not self._files[index].read_now([(start, part, count)]):
                    return number
        return len(reads)

    async def read(self, request: Request) -> None:
        """From each file what it has."""
        for index, start, done, count in self._parts(request.offset, request.length):
            part = window(request.vectors, done, count)
            if index is None:
                clear(part)
            else:
                await self._files[index].read(request.derive(start, count, part))

    async def block_status(self, request: Request) -> BlockStatus:
        """What the first file of the range says."""
        index, start, _, count = next(self._parts(request.offset, request.length))
        if index is None:
            return await super().block_status(request)
        return await self._files[index].block_status(request.derive(start, count))


def _read(filename: str) -> str:
    """The sheet's text.  Bytes that are not UTF-8 stay what they are: file names have them, too."""
    try:
        with open(filename, "rb", opener=_descriptor) as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_SIZE + 1) if regular else b""
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BlockOptionError(f"$.filename: cannot open {shown(filename)}: {reason}") from None
    if not regular:
        raise BlockOptionError(f"$.filename: {shown(filename)} is given; expected a regular file")
    if len(data) > MAX_SIZE or b"\0" in data:
        raise BlockOptionError(f"$.filename: {shown(filename)} is given; expected a cue sheet, which is text")
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _descriptor(filename: str, flags: int) -> int:
    """Opening a FIFO by mistake must not wait for its other end."""
    return os.open(filename, flags | os.O_NONBLOCK)


def _open(
    options: CueOptions, context: IoContext, file: CueFile, opened: ExitStack
) -> tuple[FileNode, Contents]:
    """A file of the sheet as a node, which `opened` closes, and what it has; CueError."""
    name = PurePath(file.name)
    if name.is_absolute() or ".." in name.parts:
        # Whoever has made the sheet may not choose among all files of the host.
        raise CueError(
            file.line, f"{file.name!r} is elsewhere; expected a file beside the sheet, or below it"
        )
    path = Path(options.filename).parent / name
    try:
        node = FileNode.open(
            FileOptions(
                driver="file",
                filename=str(path),
                read_only=True,
                cache=options.cache,
                active=options.active,
                force_share=options.force_share,
            ),
            context,
            {},
        )
    except BlockOptionError as error:
        raise CueError(file.line, str(error).removeprefix("$.filename: ")) from None
    assert isinstance(node, FileNode)
    node.kept = False
    opened.callback(node.close)
    return node, _wave(path, file) if file.kind == "WAVE" else Contents(path.stat().st_size, 0)


def _wave(path: Path, file: CueFile) -> Contents:
    """Where the samples of a RIFF file are, the last sector filled up with silence; CueError where it is no CD's
    audio."""
    try:
        with path.open("rb") as stream:
            found = find_samples(stream)
            size = os.fstat(stream.fileno()).st_size
    except (OSError, ValueError) as error:
        raise CueError(file.line, f"{file.name!r} is no WAVE file: {error}") from None
    form = found.channels, found.bits, found.rate
    if form != _AUDIO:
        text = f"{file.name!r} has {form[0]} channels of {form[1]} bits at {form[2]} Hz"
        raise CueError(file.line, f"{text}; expected 2 of 16 bits at 44100 Hz")
    # A length that was not known when the file was begun is 0, or the highest that there is.
    samples = max(min(found.size or size, size - found.start), 0)
    padding = -samples % RAW
    return Contents(samples + padding, 0, found.start, padding)
