"""ATA commands that are held at the drive by a break point, while registers are looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from guestsim.diff.access import Access, Break, Held, Late, Loose, Resume, Wait
from guestsim.diff.grammar.ata import Task

HELD = "A"
"""The break point."""

TAGS = "ABCD"
"""Those of commands that are held at the same time."""

OFTEN = 0.05
"""How many of the commands that can be held are."""

STOPPED_HELD = 0.5
"""How many of those that are stopped are held then."""


def event(one: Task) -> str:
    """Where a command can be held; empty for those that are over at once."""
    if one.fails:
        return ""
    if one.name.startswith("flush-cache"):
        return "flush_to_os"
    if one.name.startswith(("read-10", "read-12", "read-sectors", "read-dma", "read-fpdma")):
        return "read_aio"
    return "write_aio" if one.way in ("dma-out", "ncq-out") and one.name.startswith("write") else ""


def held(
    at: str, begin: Iterable[Access], meanwhile: Iterable[Access], loose: Iterable[Loose] = ()
) -> Iterator[Access]:
    """What begins a command, which is held where `at` comes; what is done meanwhile; and it goes on.

    What is `loose` is not compared at the next quiescent point either.
    """
    if not at:
        yield from begin
        return
    yield Break(at, HELD)
    yield from begin
    yield from (Held(HELD), Wait(), *meanwhile, Resume(HELD), *loose)


def stopped(
    at: str,
    begin: Iterable[Access],
    meanwhile: Iterable[Access],
    stop: Iterable[Access],
    after: Iterable[Access] = (),
    loose: Iterable[Loose] = (),
    *,
    waits: bool = True,
) -> Iterator[Access]:
    """What begins a command, and what stops it: while it is held, where `at` comes.

    `meanwhile` and `after` are what is done before it is stopped and after it, if it is held.  `waits`: QEMU's reset
    does not end before the command has.
    """
    if not at:
        yield from (*begin, *stop)
        return
    yield from (Break(at, HELD), *begin, Held(HELD), *loose, Wait(), *meanwhile)
    yield from (*[Late(HELD)] * waits, *stop, *after, Resume(HELD))
