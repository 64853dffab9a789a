"""How far a long run is: a bar, or a line each minute where nobody watches."""

from __future__ import annotations

import sys
import time

from guestsim.progress import Bar

_TELL_EVERY = 60.0
"""Seconds between lines."""


class Progress:
    """So many things are to be done; what is told begins with `of`, the command, and says `what` is done.

    `counted` things are few: the bar has their number.
    """

    def __init__(self, of: str, what: str, total: int, *, counted: bool = True) -> None:
        self._said, self._total, self._done = f"{of}: {what}", total, 0
        self._bar = Bar(what, total, counted=counted)
        self._begun = self._told = time.monotonic()

    def __enter__(self) -> Progress:
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__()
        self._tell("")

    def more(self, words: str = "", *, done: int = 1) -> None:
        """So many more are done."""
        self._done += done
        self._bar.more(done)
        if time.monotonic() - self._told > _TELL_EVERY:
            self._tell(words)

    def _tell(self, words: str) -> None:
        if self._bar.shown or not self._total:
            return
        self._told = time.monotonic()
        text = f"{self._said}: {self._done} of {self._total} in {self._told - self._begun:.0f} s"
        sys.stderr.write(f"{text}{words and ', '}{words}\n")
        sys.stderr.flush()
