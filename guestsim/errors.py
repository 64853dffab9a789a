"""What can go wrong in a guest: a device that breaks its specification, and a wait that never ends."""

from __future__ import annotations


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
