"""What can go wrong in a guest: a device that breaks its specification, and a wait that never ends."""

from __future__ import annotations

import traceback
from pathlib import Path


class GuestError(Exception):
    """The guest cannot go on; the message says why, for a person."""


class GuestCheckError(GuestError):
    """The device did what its specification forbids; `clause` names document and clause."""

    def __init__(self, clause: str, summary: str) -> None:
        super().__init__(f"{summary} ({clause})")
        self.clause = clause
        self.summary = summary


class GuestTimeoutError(GuestError):
    """Something that a vCPU waited for did not come; `what` names it."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(f"waited for {what}: {detail}")
        self.what = what


class DisconnectedError(GuestError):
    """Whoever provides the device has gone, in another process; the message says who and how."""


class RaisedError(GuestError):
    """The target raised instead of doing what a device does; the message says what, and from where."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"the target raised {raised(error)}")


def raised(error: Exception) -> str:
    """An exception that nobody expected, in one line with the place that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"
