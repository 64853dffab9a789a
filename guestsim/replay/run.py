"""A replay from beginning to end: the next event says what happens next.

An event that can be an input is fed to its device; any other one must come of what the device put off.  Both emit what
follows, event by event, and the follower compares.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import TraceReader
from guestsim.replay.devices import World
from guestsim.replay.difference import SHOWN, Difference
from guestsim.replay.feed import FEEDS, Feed
from guestsim.replay.follow import Ended, Follower, Parted, Unreadable
from guestsim.replay.payload import wrong_payload
from guestsim.replay.snapshot import SnapshotError, load, never, restore, save, why_not

_PROGRESS_EVENTS = 10_000
_DIGEST_AT, _SERVED_AT = 5, 6
"""Where a DISPATCH has the digest of its data, and the requests that it serves."""


@dataclass(slots=True)
class Replayed:
    """How a replay went: events that were compared, requests among them; `difference` is None where all was the same.

    `guest_ns` is how long the recording took, `seconds` the replay.  `short` says why the trace
    does not go on to where its devices came to rest, as far as its end was met: it was cut off, or reached its limit.
    `stopped` is the number of the event before which it was to stop, where it did.
    """

    events: int
    requests: int
    seconds: float
    guest_ns: int
    short: str
    difference: Difference | None
    stopped: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the device did all that it had done."""
        return self.difference is None

    @property
    def ratio(self) -> float:
        """Replay's time by the guest's; 0 where that is not known."""
        return self.seconds * 1e9 / self.guest_ns if self.guest_ns else 0.0


class Replay:
    """A trace being replayed, from its beginning or from a snapshot; SnapshotError where that is none of it.

    `world` has the devices, for whoever wants to look at them where it has stopped.
    """

    def __init__(self, reader: TraceReader, snapshot: bytes | None = None) -> None:
        self._reader = reader
        self.follower = Follower(reader)
        self.world = World(reader.header, self.follower)
        self.world.serve = self._serve
        self._inputs: deque[TraceEvent] = deque(maxlen=SHOWN)
        if snapshot is not None:
            try:
                restore(self.world, reader, load(snapshot))
            except BaseException:
                self.close()
                raise

    def run(
        self,
        progress: Callable[[int], None] | None = None,
        *,
        stop_at: int | None = None,
        savable: bool = False,
    ) -> Replayed:
        """Go on to the end, or to the first difference; `progress` hears of the events done now and then.

        With `stop_at` it stops before that event, or before the next one at which no device is in the middle of
        something; with `savable`, before the next one at which `save` can be called.
        """
        begun = time.perf_counter()
        first, difference, stopped = self.follower.event(), None, False
        requests = self._requests()
        try:
            stopped = self._follow(progress, sys.maxsize if stop_at is None else stop_at, savable=savable)
        except Ended:
            pass
        except Unreadable as error:
            raise error.error from None
        except SnapshotError:
            raise
        except Parted:
            difference = self._difference()
        except Exception as error:
            difference = self._raised(error)
        number = self.follower.number if difference is None else difference.number
        start, start_ns = (number, self.follower.time_ns()) if first is None else first[:2]
        return Replayed(
            number - start,
            self._requests() - requests,
            time.perf_counter() - begun,
            (self.follower.time_ns() if difference is None else difference.time_ns) - start_ns,
            _short(self._reader),
            difference,
            number if stopped else None,
        )

    def save(self) -> bytes:
        """Where it stands; SnapshotError where that cannot be said."""
        if reason := never(self.world) or why_not(self.world):
            raise SnapshotError(f"event {self.follower.number}: {reason}")
        return save(self.world, self._reader)

    def _requests(self) -> int:
        return sum(each.backend.told.requests for each in self.world.disks.values())

    def _follow(self, progress: Callable[[int], None] | None, stop_at: int, *, savable: bool) -> bool:
        """Whether it has stopped where it was to."""
        follower, world = self.follower, self.world
        context = world.context
        report = _PROGRESS_EVENTS
        while (kind := follower.peek()) is not None:
            number = follower.number
            if number >= stop_at:
                if savable and (reason := never(world)):
                    raise SnapshotError(f"event {number}: {reason}")
                if not (savable and why_not(world)):
                    return True
            if progress is not None and number >= report:
                progress(number)
                report = number + _PROGRESS_EVENTS
            feed = FEEDS.get(kind)
            if feed is None:
                if not context.run_oldest():
                    follower.part("nothing")
                continue
            self._feed(feed)
        return follower.number >= stop_at

    def _feed(self, feed: Feed) -> None:
        """Do the next event, an input."""
        follower, world = self.follower, self.world
        event = follower.event()
        assert event is not None
        number, time_ns, source, _, detail = event
        self._inputs.append(event)
        world.context.set_now(time_ns)
        feed(world, source, detail)
        if follower.number == number:
            follower.part("nothing")

    def _serve(self) -> None:
        """Do what whoever was interrupted did before it returned."""
        while (kind := self.follower.peek()) is not None and kind is not EventKind.SERVED:
            feed = FEEDS.get(kind)
            if feed is None:
                self.follower.part("nothing")
            else:
                self._feed(feed)

    def _raised(self, error: Exception) -> Difference | None:
        """What a device raises is not in the trace; one that does so beyond its end does it unseen."""
        try:
            self.follower.part(f"{type(error).__name__}: {error}")
        except Parted:
            return self._difference(error)
        except Ended:
            return None

    def _difference(self, error: Exception | None = None) -> Difference:
        assert self.follower.parting is not None
        expected, did = self.follower.parting
        got = did if isinstance(did, str) else TraceEvent(expected.number, expected.time_ns, *did)
        if isinstance(got, TraceEvent) and _only_data(expected, got):
            number, *_ = got.detail
            served = [int(each) for each in got.detail[_SERVED_AT:]]
            wrong = wrong_payload(self.world.disk(got.source).backend, served)
            got = f"{got.source} {got.kind.value}  dispatch {number!s}: {wrong}"
        return Difference(self._reader.path, expected, got, list(self._inputs), error)

    @classmethod
    def begin(cls, reader: TraceReader, start: Path | str | None = None) -> Replay:
        """A replay from the snapshot in the file `start`, if any."""
        if start is None:
            return cls(reader)
        try:
            return cls(reader, Path(start).read_bytes())
        except SnapshotError as error:
            raise SnapshotError(f"{start}: {error}") from None

    def close(self) -> None:
        """Give everything up."""
        self.world.close()

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _only_data(expected: TraceEvent, got: TraceEvent) -> bool:
    """Whether a dispatch is as it was but for what it is to write."""
    if expected.source != got.source or not expected.kind is got.kind is EventKind.DISPATCH:
        return False
    return expected.detail[:_DIGEST_AT] + expected.detail[_SERVED_AT:] == (
        got.detail[:_DIGEST_AT] + got.detail[_SERVED_AT:]
    )


def _short(reader: TraceReader) -> str:
    """Why there is no more of a trace; empty where its recording was closed, and as long as nobody came to its end."""
    if reader.cut:
        return "the trace is cut short"
    if reader.ending is None or reader.ending.reason == "closed":
        return ""
    return f"the recording ended there: {reader.ending.text}"


def replay(
    trace: Path | str,
    *,
    start: Path | str | None = None,
    stop_at: int | None = None,
    save: Path | str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Replayed:
    """Let the devices of a trace do again what they did, without guest and image, and compare.

    `start` is a snapshot to begin from; before event `stop_at` it stops, and a snapshot is saved in the file `save`,
    there or before the next event where that can be.

    OSError or TraceFileError where the trace cannot be read, SnapshotError where the snapshot is none of it, or where
    there is none to be had up to the trace's end.
    """
    with TraceReader(Path(trace)) as reader, Replay.begin(reader, start) as running:
        result = running.run(progress, stop_at=stop_at, savable=save is not None)
        if save is not None and result.difference is None:
            if result.stopped is None:
                raise SnapshotError(
                    f"{trace}: it ends before event {stop_at}, or before its state can be saved"
                )
            Path(save).write_bytes(running.save())
        return result
