"""A replay from beginning to end: the next event says what happens next.

An event that can be an input is fed to its device; any other one must come of what the device put off.  Both emit what
follows, event by event, and the follower compares.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devmodels.trace import TraceEvent
from devmodels.tracefile import TraceReader
from guestsim.replay.devices import World
from guestsim.replay.difference import Difference
from guestsim.replay.feed import FEEDS
from guestsim.replay.follow import Ended, Follower, Parted, Unreadable

INPUTS_SHOWN = 8
"""How many of the last inputs a difference has."""
_PROGRESS_EVENTS = 10_000


@dataclass(slots=True)
class Replayed:
    """How a replay went: events that were compared, requests among them; `difference` is None where all was the same.

    `guest_ns` is how long the recording took, `seconds` the replay.  `cut`: the file ends in the middle of a frame.
    """

    events: int
    requests: int
    seconds: float
    guest_ns: int
    cut: bool
    difference: Difference | None

    @property
    def ok(self) -> bool:
        """Whether the device did all that it had done."""
        return self.difference is None

    @property
    def ratio(self) -> float:
        """Replay's time by the guest's; 0 where that is not known."""
        return self.seconds * 1e9 / self.guest_ns if self.guest_ns else 0.0


class Replay:
    """A trace being replayed."""

    def __init__(self, reader: TraceReader) -> None:
        self._reader = reader
        self.follower = Follower(reader)
        self.world = World(reader.header, self.follower)
        self._inputs: deque[TraceEvent] = deque(maxlen=INPUTS_SHOWN)

    def run(self, progress: Callable[[int], None] | None = None) -> Replayed:
        """Go on to the end, or to the first difference; `progress` hears of the events done now and then."""
        begun = time.perf_counter()
        first = self.follower.event()
        start_ns = 0 if first is None else first.time_ns
        difference = None
        try:
            self._follow(progress)
        except Ended:
            pass
        except Unreadable as error:
            raise error.error from None
        except Parted:
            difference = self._difference()
        except Exception as error:
            difference = self._raised(error)
        return Replayed(
            self.follower.number if difference is None else difference.number,
            sum(each.backend.submitted for each in self.world.devices.values()),
            time.perf_counter() - begun,
            self.follower.time_ns() - start_ns,
            self._reader.cut,
            difference,
        )

    def _follow(self, progress: Callable[[int], None] | None) -> None:
        follower, world, inputs = self.follower, self.world, self._inputs
        context = world.context
        report = _PROGRESS_EVENTS
        while (kind := follower.peek()) is not None:
            number = follower.number
            if progress is not None and number >= report:
                progress(number)
                report = number + _PROGRESS_EVENTS
            feed = FEEDS.get(kind)
            if feed is None:
                if not context.run_oldest():
                    follower.part("nothing")
                continue
            event = follower.event()
            assert event is not None
            _, time_ns, source, _, detail = event
            inputs.append(event)
            context.set_now(time_ns)
            feed(world, source, detail)
            if follower.number == number:
                follower.part("nothing")

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
        return Difference(self._reader.path, expected, got, list(self._inputs), error)

    def close(self) -> None:
        """Give everything up."""
        self.world.close()


def replay(trace: Path | str, *, progress: Callable[[int], None] | None = None) -> Replayed:
    """Let the devices of a trace do again what they did, without guest and image, and compare.

    OSError or TraceFileError where the trace cannot be read.
    """
    with TraceReader(Path(trace)) as reader:
        running = Replay(reader)
        try:
            return running.run(progress)
        finally:
            running.close()
