"""What holds of every execution of every target, beside what the target itself looks at.

no exception is left to the log (what a turn of a context raises ends there),
an execution ends: processor time is bounded,
memory is bounded: what Python allocates at the peak, looked at for one input of sixteen.
"""

from __future__ import annotations

import logging
import signal
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fuzz.target import Run
from tests.doorbells import measured

SECONDS = 10.0
"""Of processor time in the process; executions take milliseconds."""
PEAK = 64 << 20
"""Bytes allocated at the peak of an execution: the largest machine of a target has less than a third of that."""
ONE_OF = 16


class Endless(AssertionError):
    """An execution took more than `SECONDS`."""


class Excessive(AssertionError):
    """An execution allocated more than `PEAK`."""


class Logged(AssertionError):
    """Something wrote an error to the log."""


class _Errors(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def _no_errors_logged() -> Iterator[None]:
    logger = logging.getLogger("devmodels")
    handler, propagate = _Errors(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    for record in handler.records:
        cause = record.exc_info[1] if record.exc_info else None
        raise Logged(record.getMessage()) from cause


@contextmanager
def _bounded_time(seconds: float) -> Iterator[None]:
    def too_long(_number: int, _frame: FrameType | None) -> None:
        raise Endless(f"more than {seconds} s of processor time")

    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _bounded_memory(most: int) -> Iterator[None]:
    with measured() as peak_so_far:
        yield
        peak = peak_so_far()
    if peak > most:
        raise Excessive(f"{peak >> 20} MiB were allocated")


def watched(run: Run, *, seconds: float = SECONDS, peak: int = PEAK, one_of: int = ONE_OF) -> Run:
    """`run`, and the bounds of this module."""

    def once(data: bytes) -> None:
        with _bounded_time(seconds), _no_errors_logged():
            if zlib.crc32(data) % one_of:
                run(data)
                return
            with _bounded_memory(peak):
                run(data)

    return once
