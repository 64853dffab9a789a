"""Shrinking a trace on which our device fails: to the shortest script that fails, or else to a shorter trace.

A failure that a driver can see is shrunk to a script, on fresh machines, again and again.  What only the exact replay
sees (a flush that never reaches the disk, say) no script can show: then the trace up to there is what is saved.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from devmodels.tracefile import TraceHeader, TraceReader, TraceWriter
from guestsim.drivers.layouts import SECTOR, BlkType
from guestsim.errors import GuestError
from guestsim.portable.content import copy_sparse
from guestsim.portable.differences import DiskPlace
from guestsim.portable.machine import Place, open_world
from guestsim.portable.play import Player
from guestsim.portable.readback import LastContent
from guestsim.portable.report import text_of
from guestsim.portable.shrink.program import Ask, Entry, Fixed, Group, Program
from guestsim.portable.shrink.render import compressed, render, script_of, to_yaml
from guestsim.portable.shrink.simplify import cut_content, simplest
from guestsim.portable.shrink.window import Base, Window
from guestsim.portable.survey import Survey, survey, unheard, watched
from guestsim.script.load import SUFFIX, ScriptError, Source
from guestsim.script.needs import TargetSpec
from guestsim.script.run import Options, ScriptReport, YamlScript, read_scripts
from guestsim.targets import TargetError

if TYPE_CHECKING:
    from guestsim.portable.content import Content
    from guestsim.portable.limits import Limits
    from guestsim.portable.requests import Item
    from guestsim.replay import Difference

WINDOWS = (64, 512, 4096, 32768, 1 << 20)
"""So many items before the failure are tried, then more."""
MOST_RUNS = 5000
"""Of one shrinking; then the shortest so far is taken."""

Watch = Callable[[str, int], None]
"""Hears of what is being done, and of how many requests (or events) are left or done."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What was saved: a script (`requests`, `steps` as they are written) or a trace of `events`, or nothing.

    `first` is what failed in the trace, empty where nothing does; a driver has `seen` it or only the exact replay.
    `failure` is what fails in what was saved.  `runs` scripts were run for it.
    """

    path: Path | None
    seen: bool = False
    first: str = ""
    failure: str = ""
    requests: int = 0
    steps: int = 0
    lines: int = 0
    runs: int = 0
    events: int = 0


class _EnoughError(Exception):
    """The runs are used up."""


_KINDS = (
    "waited for",
    "the target raised",
    "NEEDS_RESET",
    "used length",
    "used-length",
    "status",
    "data",
    "violation",
    "VIRTIO",
)
"""What says in a failure's words of which kind it is; the first that is in them."""


def kind_of(failure: str) -> str:
    """The kind of a failure, so that none is taken for another while the program gets shorter.

    Empty where it is the program's own, which asks for what its driver has not negotiated.
    """
    return next((kind for kind in _KINDS if kind in failure), "").replace("-", " ")


class _Runner:
    """Runs programs and counts."""

    def __init__(self, watch: Watch, most: int) -> None:
        self.runs = 0
        self.best: Program | None = None
        self.kinds: set[str] | None = None
        """What was wrong with the first that failed."""
        self._watch = watch
        self._most = most
        self._known: dict[bytes, bool] = {}

    def fails(self, program: Program) -> bool:
        """Whether a step of the program is not as it should be, in the way in which the first one was not."""
        key = sha256(repr((program.entries, program.content, program.size)).encode()).digest()
        known = self._known.get(key)
        if known is not None:
            return known
        if not program.holds:
            return False
        if self.runs >= self._most:
            raise _EnoughError
        self.runs += 1
        report = self.report(program)
        kinds = (
            {kind_of(text) for step in report.steps for text in step.failures}
            if report is not None
            else set()
        )
        kinds.discard("")
        if self.kinds is None and kinds:
            self.kinds = kinds
        failed = bool(kinds & (self.kinds or set()))
        self._known[key] = failed
        if failed and (self.best is None or program.requests <= self.best.requests):
            self.best = program
            self._watch("requests left", program.requests)
        return failed

    def report(self, program: Program) -> ScriptReport | None:
        """Run a program in this process; None where it is no script."""
        try:
            return YamlScript(script_of(render(cut_content(program))), Source("shrunk")).run(Options())
        except (ScriptError, ValueError):
            return None


def _no_watch(_what: str, _number: int) -> None:
    pass


def shrink(
    trace: Path,
    out: Path,
    *,
    device: str | None = None,
    watch: Watch = _no_watch,
    most: int = MOST_RUNS,
) -> Shrunk:
    """Save the shortest script on which the device fails as on `trace`, at `out`.

    TraceFileError or OSError where the trace cannot be read or nothing be written.
    """
    with TraceReader(trace) as reader, tempfile.TemporaryDirectory(prefix="guestsim-") as name:
        first_image = Path(name, "first.img")
        found = survey(reader, first_image, device, lambda number: watch("events read", number))
        search = _Search(reader, found, Path(name), watch)
        failed = search.replay()
        runner = _Runner(watch, most)
        program = search.program(failed, runner) if failed is not None else None
        first = failed.text if failed is not None else ""
    if program is not None:
        return _save(_shrunk(program, runner), out, f"{trace.name}: {first}", runner)
    return _exact(trace, out, first, watch)


class _Failed(NamedTuple):
    """Where our device fails on a trace: by event `number`; at `place` on the disk, where only that shows it."""

    number: int
    text: str
    place: DiskPlace | None = None


class _Search:
    """Looks for the end of a trace that fails as a script."""

    def __init__(self, reader: TraceReader, found: Survey, folder: Path, watch: Watch) -> None:
        self._reader = reader
        self._survey = found
        self._folder = folder
        self._watch = watch
        self._limits: Limits | None = None

    def replay(self) -> _Failed | None:
        """Feed the trace to our device as it was recorded, to the first difference."""
        first, image = self._folder / "first.img", self._folder / "disk.img"
        copy_sparse(first, image)
        place = Place(TargetSpec("devmodels"), memory=self._survey.memory)
        with (
            LastContent(self._folder / "last.img", first, self._survey.first) as content,
            open_world(self._survey, image, place) as world,
        ):
            player = Player(world, place, self._survey, self._progress, first_only=True, content=content)
            try:
                self._limits = player.prepare()
            except GuestError as error:
                raise TargetError(str(error)) from None
            tally = player.play(self._items(content), self._limits)
        image.unlink()
        if tally.differences:
            difference = tally.differences[0]
            return _Failed(difference.number, text_of(difference), difference.place)
        return _Failed(player.reached, tally.stopped) if tally.stopped else None

    def program(self, failed: _Failed, runner: _Runner) -> Program | None:
        """The last requests before it, as few as fail; None where they do not fail as a script.

        What is wrong on the disk is read after them: it may have been its own write, or any later one.
        """
        place = failed.place
        if place is None:
            return self._window(failed.number, runner)
        sector = place.byte // SECTOR * SECTOR
        for start, end in ((sector, sector + SECTOR), (place.start, place.end)):
            length = end - start
            ask = Ask(BlkType.IN, start // SECTOR, room=length, used_length=length + 1)
            read = Group(0, (ask,))
            found = self._window(failed.number, runner, read) if failed.number >= 0 else None
            found = found or self._window(self._survey.events, runner, Fixed({"probe": {}}), read)
            if found is not None:
                return found
        return None

    def _window(self, at: int, runner: _Runner, *more: Entry) -> Program | None:
        for most in WINDOWS:
            first, written = self._folder / "first.img", self._folder / "written.img"
            with Base(first, written, self._survey.disk.size) as base:
                window = Window(self._survey, base, until=at, most=most)
                window.fill(self._items())
                program = window.program(*more)
            self._watch("trying requests", program.requests)
            if runner.fails(program):
                return program
            if window.whole:
                break
        return None

    def _items(self, content: Content | None = None) -> Iterator[Item]:
        assert self._limits is not None
        lowering = self._survey.lowering(self._limits.lacks, content)
        return lowering.items(watched(self._reader, unheard))

    def _progress(self, number: int) -> None:
        self._watch("events fed", number)


def _shrunk(program: Program, runner: _Runner) -> Program:
    """The shortest that fails, or the shortest when there were enough runs."""
    try:
        return simplest(program, runner.fails)
    except _EnoughError:
        assert runner.best is not None
        return runner.best


def _save(program: Program, out: Path, first: str, runner: _Runner) -> Shrunk:
    """Write the script, and see that it fails."""
    plain = render(cut_content(program))
    out.write_text(to_yaml(plain, [f"Shrunk from {first}"]), encoding="utf-8")
    (script,) = read_scripts(out)
    report = script.run(Options())
    failure = next(iter(report.failures), "")
    return Shrunk(
        out,
        True,
        first.partition(": ")[2],
        failure,
        requests=program.requests,
        steps=len(compressed(plain["steps"])),  # type: ignore[arg-type]
        lines=len(out.read_text(encoding="utf-8").splitlines()),
        runs=runner.runs,
    )


def _exact(trace: Path, out: Path, first: str, watch: Watch) -> Shrunk:
    """What only the exact replay sees: the trace up to there."""
    from guestsim.replay import replay

    difference = replay(trace, progress=lambda number: watch("events replayed", number)).difference
    if difference is None:
        return Shrunk(None, bool(first), first)
    path = out.with_name(out.name.removesuffix(SUFFIX).removesuffix(".yaml") + ".trace")
    events = _prefix(trace, path, difference.number)
    again = replay(path).difference
    failure = "" if again is None else _in_a_line(again)
    return Shrunk(path, bool(first), first or _in_a_line(difference), failure, events=events)


def _in_a_line(difference: Difference) -> str:
    words = difference.words()
    return f"event {words.number}: {words.got}, expected {words.expected}"


def _prefix(trace: Path, path: Path, last: int) -> int:
    """Write the events up to `last`; how many that are."""
    with TraceReader(trace) as reader:
        old = reader.header
        writer = TraceWriter(path, TraceHeader.of(old.program, strict=old.strict, memory=old.memory))
        for event in reader:
            writer(event)
            if event.number >= last:
                break
        writer.close()
    return writer.events
