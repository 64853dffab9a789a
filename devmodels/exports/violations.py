"""What clients of an export do wrong, in the log: the first of it whole, then counted."""

from __future__ import annotations

import logging

from devmodels.conformance import Violation

log = logging.getLogger("devmodels")

LOGGED = 20
"""How many violations are logged; further ones are only counted."""


class ViolationWarnings:
    """Logs violations of one export, by `name`; to be called with each.  `of` says of what those are that it counts."""

    def __init__(self, name: str, log: logging.Logger = log, *, of: str = "") -> None:
        self.name = name
        self._log = log
        self._further = f"further violations of {of}" if of else "further violations"
        self._count = 0

    def forget(self) -> None:
        """Begin to count anew."""
        self._count = 0

    def __call__(self, violation: Violation) -> None:
        """One more."""
        self._count += 1
        if self._count <= LOGGED:
            self._log.warning("%s: %s", self.name, violation)
        elif self._count == LOGGED + 1:
            self._log.warning("%s: %s are only counted", self.name, self._further)
