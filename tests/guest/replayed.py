"""What a guest did is done again without it, from the trace of its devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guestsim.replay import replay

from .conftest import ROW
from .vm import GuestRun


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run, and the trace of it, whose images are gone."""

    run: GuestRun
    trace: Path

    @classmethod
    def without_images(cls, run: GuestRun, trace: Path, *images: str) -> Recorded:
        """Take away what matches these globs beside the trace."""
        for glob in images:
            for image in trace.parent.glob(glob):
                image.unlink()
        return cls(run, trace)


def done_again(recorded: Recorded, record_property: Callable[[str, object], None], least: int) -> None:
    """Replay it to its end: no difference, and so many requests at least."""
    recorded.run.check("end")
    replayed = replay(recorded.trace)
    assert replayed.difference is None, str(replayed.difference)
    assert not replayed.short
    assert replayed.requests >= least
    told = f"seconds of {replayed.guest_ns / 1e9:.2f}, {replayed.events} events, {replayed.requests} requests"
    record_property(ROW, f"{'replay':24} {replayed.seconds:7.2f}  {told}")
