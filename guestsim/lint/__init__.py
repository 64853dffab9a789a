"""What the drivers of a trace did against the specification: what devices reported, and what the trace itself shows."""

from guestsim.lint.run import Linter, lint
from guestsim.lint.sessions import Finding, Level, Session

__all__ = ["Finding", "Level", "Linter", "Session", "lint"]
