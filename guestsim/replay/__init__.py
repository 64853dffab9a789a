"""Replay: a recorded guest works again, on the same devices or others, without guest and image.

    from guestsim.replay import replay

    def test_nothing_has_changed() -> None:
        assert replay("boot.trace").difference is None

follow.py      the trace, and what is compared with it
memory.py      guest memory that the trace knows
disk.py        the disk that the trace knows
payload.py     what is written to it
context.py     the clock and the turns
devices.py     the devices, made again
feed.py        what goes into them
rings.py       rings that go on with what an earlier back end left
run.py         one replay
difference.py  where device and trace part
snapshot.py    where a replay stands, to go on from there
command.py     `guestsim replay`
cut.py         `guestsim cut`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guestsim.replay.difference import Difference
    from guestsim.replay.run import Replayed, replay

__all__ = ["Difference", "Replayed", "replay"]


def __getattr__(name: str) -> object:
    """The commands' module is here too, and imports nothing of devmodels before it works."""
    if name in __all__:
        from guestsim.replay import difference, run

        return getattr(difference if name == "Difference" else run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
