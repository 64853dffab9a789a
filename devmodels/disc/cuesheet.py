"""Cue sheets: text that says which bytes of which files are the tracks of a disc (CDRWIN's commands).

    FILE "image.bin" BINARY
      TRACK 01 MODE1/2352
        INDEX 01 00:00:00
      TRACK 02 AUDIO
        PREGAP 00:02:00
        INDEX 01 45:10:33

`parse` reads the text, `lay_out` makes a disc of it once the files' sizes are known.  What is wrong is a `CueError`:
one line, with the number of the sheet's line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from devmodels.disc import cdtext
from devmodels.disc.address import FRAMES, LONGEST, SECONDS
from devmodels.disc.address import PREGAP as USUAL_PREGAP
from devmodels.disc.disc import BLOCK, DATA_CONTROL, Disc, Extent, Mode, Track
from devmodels.disc.sector import RAW, WITHOUT_HEADER

MAX_TRACKS = 99
MAX_FILES = 2 * MAX_TRACKS
MAX_SIZE = 1 << 20
"""The longest sheet, in bytes."""

_WORDS = re.compile(r'\s*(?:"([^"]*)"|([^\s"]+))')
_TIME = re.compile(r"(\d{1,3}):(\d{1,2}):(\d{1,2})")
_LINE_END = re.compile(r"\r\n|\r|\n")
_SHOWN = 60
_DIGITS = 3
"""The most digits of a track's number."""

MODES = {
    "AUDIO": (Mode.AUDIO, RAW),
    "MODE1/2048": (Mode.MODE1, BLOCK),
    "MODE1/2352": (Mode.MODE1, RAW),
    "MODE2/2048": (Mode.MODE2, BLOCK),
    "MODE2/2336": (Mode.MODE2, WITHOUT_HEADER),
    "MODE2/2352": (Mode.MODE2, RAW),
    "CDI/2336": (Mode.MODE2, WITHOUT_HEADER),
    "CDI/2352": (Mode.MODE2, RAW),
}
"""What a track can be, and how many bytes of a sector its file has."""
KINDS = ("BINARY", "MOTOROLA", "WAVE")
"""What a file can be: as on the disc, audio with the high byte first, a RIFF file of such audio."""
FLAGS = {"DCP": 0x2, "4CH": 0x8, "PRE": 0x1, "SCMS": 0}
"""Bits of CONTROL."""
_IGNORED = frozenset({"REM", "CDTEXTFILE"})
_TEXTS = {"TITLE": cdtext.TITLE, "PERFORMER": cdtext.PERFORMER, "SONGWRITER": cdtext.SONGWRITER}
"""Commands whose one argument is the rest of the line, whatever it is."""


class CueError(ValueError):
    """A sheet is wrong; the text is one line that says where."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")


class CueFile(msgspec.Struct):
    """A file of the sheet."""

    name: str
    kind: str
    line: int


class Point(NamedTuple):
    """Where index `number` of a track begins: file, and frame there."""

    number: int
    file: int
    frame: int
    line: int


class CueTrack(msgspec.Struct):
    """A track of the sheet; `pregap` and `postgap` in frames, of which no file has anything."""

    number: int
    mode: Mode
    stored: int
    line: int
    control: int
    pregap: int = 0
    postgap: int = 0
    isrc: str = ""
    points: list[Point] = msgspec.field(default_factory=list)


class Sheet(msgspec.Struct):
    """`files` and `tracks` in order."""

    files: list[CueFile] = msgspec.field(default_factory=list)
    tracks: list[CueTrack] = msgspec.field(default_factory=list)
    catalog: str = ""
    texts: dict[int, dict[int, str]] = msgspec.field(default_factory=dict)
    """By type of CD-TEXT and track, 0 for the disc."""


class Contents(NamedTuple):
    """What a file has for the disc: `size` bytes from byte `start` on; `base`: where its first byte is in the image.

    The last `padding` bytes of these are zeroes that are not in the file.
    """

    size: int
    base: int
    start: int = 0
    padding: int = 0

    @property
    def end(self) -> int:
        """Where the next file begins in the image."""
        return self.base + self.start + self.size


# --- reading the text


def _said(text: str) -> str:
    """What the sheet says, cut where it is long."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def parse(text: str) -> Sheet:
    """The sheet in `text`; CueError."""
    sheet = Sheet()
    number = 0
    # Other characters that end lines elsewhere may be part of a name here.
    for number, line in enumerate(_LINE_END.split(text.removesuffix("\n").removesuffix("\r")), 1):
        first = line.split(maxsplit=1)[:1]
        if not first or first[0].upper() in _IGNORED:
            # Whatever it says, it is not taken apart.
            continue
        if (kind := _TEXTS.get(first[0].upper())) is not None:
            _text(sheet, kind, line.split(maxsplit=1)[1:])
            continue
        name, *arguments = _split(line, number)
        command = _COMMANDS.get(name.upper())
        if command is None:
            known = ", ".join([*_COMMANDS, *sorted(_IGNORED | _TEXTS.keys())])
            raise CueError(number, f"{_said(name)} is no command; expected one of {known}")
        command(sheet, arguments, number)
    if not sheet.tracks:
        raise CueError(max(number, 1), "no TRACK; expected one at least")
    _check_end(sheet.tracks[-1])
    return sheet


def _split(line: str, number: int) -> list[str]:
    words, at = [], 0
    line = line.strip()
    while at < len(line):
        match = _WORDS.match(line, at)
        if match is None:
            raise CueError(number, "a quotation mark without the one that ends it")
        words.append(match[2] if match[1] is None else match[1])
        at = match.end()
    return words


def _count(arguments: Sequence[str], wanted: int, line: int, form: str) -> None:
    if len(arguments) != wanted:
        raise CueError(line, f"expected {form}")


def _file(sheet: Sheet, arguments: Sequence[str], line: int) -> None:
    _count(arguments, 2, line, 'FILE "name" type')
    name, kind = arguments[0], arguments[1].upper()
    if kind not in KINDS:
        raise CueError(line, f"type {_said(arguments[1])} of a file; expected one of {', '.join(KINDS)}")
    if not name:
        raise CueError(line, "a file without a name")
    if len(sheet.files) == MAX_FILES:
        raise CueError(line, f"more than {MAX_FILES} files")
    sheet.files.append(CueFile(name, kind, line))


def _track(sheet: Sheet, arguments: Sequence[str], line: int) -> None:
    _count(arguments, 2, line, "TRACK number mode")
    if not sheet.files:
        raise CueError(line, "TRACK before any FILE")
    text, mode = arguments[0], MODES.get(arguments[1].upper())
    if mode is None:
        raise CueError(line, f"mode {_said(arguments[1])} of a track; expected one of {', '.join(MODES)}")
    if sheet.files[-1].kind == "WAVE" and mode[0] is not Mode.AUDIO:
        raise CueError(line, f"mode {_said(arguments[1])} of a track in a WAVE file; expected AUDIO")
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else 0
    if not 1 <= number <= MAX_TRACKS:
        raise CueError(line, f"track {_said(text)}; expected a number from 1 to {MAX_TRACKS}")
    if sheet.tracks:
        last = sheet.tracks[-1]
        if number != last.number + 1:
            raise CueError(line, f"TRACK {number} after TRACK {last.number}; expected {last.number + 1}")
        _check_end(last)
    control = 0 if mode[0] is Mode.AUDIO else DATA_CONTROL
    sheet.tracks.append(CueTrack(number, mode[0], mode[1], line, control))


def _check_end(track: CueTrack) -> None:
    if not any(point.number == 1 for point in track.points):
        raise CueError(track.line, f"TRACK {track.number} has no INDEX 01")


def _last_track(sheet: Sheet, name: str, line: int) -> CueTrack:
    if not sheet.tracks:
        raise CueError(line, f"{name} before any TRACK")
    return sheet.tracks[-1]


def _frames(text: str, line: int) -> int:
    match = _TIME.fullmatch(text)
    if match is not None:
        minute, second, frame = map(int, match.groups())
        if second < SECONDS and frame < FRAMES:
            return (minute * SECONDS + second) * FRAMES + frame
    raise CueError(
        line, f"time {_said(text)}; expected minutes:seconds:frames, with 60 seconds and 75 frames"
    )


def _index(sheet: Sheet, arguments: Sequence[str], line: int) -> None:
    _count(arguments, 2, line, "INDEX number time")
    track = _last_track(sheet, "INDEX", line)
    text = arguments[0]
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 2 else -1
    before = track.points[-1].number if track.points else None
    wanted = (0, 1) if before is None else (before + 1,)
    if number not in wanted or number > 99:
        what = text if text.isascii() and text.isalnum() and len(text) <= _SHOWN else _said(text)
        raise CueError(line, f"INDEX {what}; expected {' or '.join(f'{each:02}' for each in wanted)}")
    point = Point(number, len(sheet.files) - 1, _frames(arguments[1], line), line)
    earlier = next((p for t in reversed(sheet.tracks) for p in reversed(t.points)), None)
    if earlier is not None and earlier.file == point.file and point.frame < earlier.frame:
        raise CueError(line, f"INDEX {text} at {arguments[1]}, before the one in line {earlier.line}")
    track.points.append(point)


def _pregap(sheet: Sheet, arguments: Sequence[str], line: int) -> None:
    _count(arguments, 1, line, "PREGAP time")
    track = _last_track(sheet, "PREGAP", line)
    if track.points:
        raise CueError(line, "PREGAP after INDEX; expected it before")
    track.pregap = _frames(arguments[0], line)


def _postgap(sheet: Sheet, arguments: Sequence[str], line: int) -> None:
    _count(arguments, 1, line, "POSTGAP time")
    _last_track(sheet, "POSTGAP", line).postgap = _frames(arguments[0], line)


def _flags(sheet: Sheet, arguments: Sequence[str], line: int) -> None:
    track = _last_track(sheet, "FLAGS", line)
    for flag in arguments:
        if flag.upper() not in FLAGS:
            raise CueError(line, f"flag {_said(flag)}; expected {', '.join(FLAGS)}")
        track.control |= FLAGS[flag.upper()]


def _isrc(sheet: Sheet, arguments: Sequence[str], line: int) -> None:
    _count(arguments, 1, line, "ISRC code")
    code = arguments[0].upper()
    if len(code) != 12 or not (code.isascii() and code.isalnum()):
        raise CueError(line, f"ISRC {_said(arguments[0])}; expected 12 letters and digits")
    _last_track(sheet, "ISRC", line).isrc = code


def _catalog(sheet: Sheet, arguments: Sequence[str], line: int) -> None:
    _count(arguments, 1, line, "CATALOG number")
    number = arguments[0]
    if len(number) != 13 or not (number.isascii() and number.isdecimal()):
        raise CueError(line, f"CATALOG {_said(number)}; expected 13 digits")
    sheet.catalog = number


def _text(sheet: Sheet, kind: int, arguments: Sequence[str]) -> None:
    """What of a text CD-TEXT can have; never wrong."""
    text = "".join(arguments).strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    text = text[: cdtext.LONGEST].encode("latin-1", "replace").decode("latin-1").replace("\0", "?")
    sheet.texts.setdefault(kind, {})[sheet.tracks[-1].number if sheet.tracks else 0] = text


_COMMANDS: dict[str, Callable[[Sheet, Sequence[str], int], None]] = {
    "FILE": _file,
    "TRACK": _track,
    "INDEX": _index,
    "PREGAP": _pregap,
    "POSTGAP": _postgap,
    "FLAGS": _flags,
    "ISRC": _isrc,
    "CATALOG": _catalog,
}


# --- from the sheet to the disc


class _Run(NamedTuple):
    """What lies between two points, the first of index `number`, or up to its file's end; without `offset`, a gap."""

    number: int
    blocks: int
    offset: int | None
    swapped: bool = False


class _Placed(NamedTuple):
    """A run of a track, from block `start` of the disc on."""

    track: CueTrack
    start: int
    run: _Run


def lay_out(sheet: Sheet, contents: Sequence[Contents]) -> Disc:
    """The disc of a sheet whose files have `contents`; CueError where they are too short.

    Block 0 is the first that a file has.  The pregap of the first track up to 00:02:00 is before it, as on every disc.
    """
    runs = _runs(sheet, contents)
    placed: list[_Placed] = []
    firsts: dict[int, int] = {}
    at = 0
    for number, track in enumerate(sheet.tracks):
        firsts[track.number] = at
        before = track.pregap if number else max(track.pregap - USUAL_PREGAP, 0)
        for run in (_Run(0, before, None), *runs[number], _Run(-1, track.postgap, None)):
            if run.blocks:
                placed.append(_Placed(track, at, run))
                at += run.blocks
    if at > LONGEST:
        raise CueError(sheet.tracks[-1].line, f"a disc of {at} blocks; expected at most {LONGEST}")
    tracks = _tracks(sheet, placed, firsts, at)
    extents = [
        Extent(
            each.start,
            each.run.blocks,
            tracks[each.track.number],
            each.run.offset,
            each.track.stored,
            each.run.swapped,
        )
        for each in placed
    ]
    texts = {kind: [found.get(number, "") for number in (0, *tracks)] for kind, found in sheet.texts.items()}
    return Disc(list(tracks.values()), extents, sheet.catalog, texts)


def _tracks(sheet: Sheet, placed: Sequence[_Placed], firsts: dict[int, int], end: int) -> dict[int, Track]:
    """The tracks by number."""
    starts: dict[tuple[int, int], int] = {}
    for each in placed:
        starts.setdefault((each.track.number, each.run.number), each.start)
    ends = [*list(firsts.values())[1:], end]
    found = {}
    for track, after in zip(sheet.tracks, ends, strict=True):
        number = track.number
        # An index at which nothing lies begins where the next one does.
        indexes: list[int] = []
        follows = after
        for point in reversed(track.points):
            follows = starts.get((number, point.number), follows)
            if point.number:
                indexes.insert(0, follows)
        if indexes[0] == after:
            raise CueError(track.line, f"TRACK {number} holds nothing")
        found[number] = Track(
            number, track.mode, firsts[number], indexes[0], after, tuple(indexes), track.control, track.isrc
        )
    return found


def _runs(sheet: Sheet, contents: Sequence[Contents]) -> list[list[_Run]]:
    """What each track has in the files, in order."""
    found: list[list[_Run]] = [[] for _ in sheet.tracks]
    points = [(number, point) for number, track in enumerate(sheet.tracks) for point in track.points]
    at = dict.fromkeys(range(len(sheet.files)), 0)
    """Up to which byte each file is used."""
    begun: set[int] = set()

    def take(track: CueTrack, index: int, blocks: int, file: int) -> _Run:
        offset = contents[file].base + contents[file].start + at[file]
        at[file] += blocks * track.stored
        return _Run(index, blocks, offset, sheet.files[file].kind == "MOTOROLA")

    for place, (number, point) in enumerate(points):
        track = sheet.tracks[number]
        file, name = contents[point.file], sheet.files[point.file].name
        following = points[place + 1 : place + 2]
        if point.file not in begun and point.frame:
            # What is before the first index of a file is of the track's pregap.
            found[number].append(take(track, 0, point.frame, point.file))
        begun.add(point.file)
        if following and following[0][1].file == point.file:
            blocks = following[0][1].frame - point.frame
        else:
            blocks = (file.size - at[point.file]) // track.stored
            if blocks <= 0:
                raise CueError(point.line, f"INDEX {point.number:02} is beyond the end of {_said(name)}")
        found[number].append(take(track, point.number, blocks, point.file))
        if at[point.file] > file.size:
            raise CueError(point.line, f"the end of {_said(name)} comes before the next INDEX")
    return found
