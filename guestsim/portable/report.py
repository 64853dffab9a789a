"""What came of a portable replay, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.markup import escape

from guestsim.outputs import counted
from guestsim.portable.differences import Difference
from guestsim.portable.machine import is_packed, recorded_transport

if TYPE_CHECKING:
    from collections import Counter

    from rich.console import Console

    from guestsim.portable.run import Replayed

SHOWN = 20
"""How many differences are printed."""


def show(replayed: Replayed, trace: str, console: Console) -> None:
    """Print it."""
    tally, survey = replayed.tally, replayed.survey
    say = console.print
    cut = ", the file is cut" if survey.cut else ""
    say(
        f"{escape(trace)}: {survey.facts.name}, {survey.requests} requests in {survey.events} events{cut}",
        soft_wrap=True,
    )
    for name in survey.others:
        say(f"  [yellow]-[/] {escape(name)} is another device of the trace: see --device", soft_wrap=True)
    rate = f", {tally.compared / tally.seconds:.0f} a second" if tally.seconds else ""
    say(
        f"on {escape(where(replayed))}: {tally.compared} requests in {tally.seconds:.2f} s{rate}",
        soft_wrap=True,
    )
    _reasons(console, tally.skipped, "not fed")
    _reasons(console, tally.unknown, "of whose data not all is compared")
    _reasons(console, tally.left_out, "left out")
    _reasons(console, tally.explained, "different, as known")
    if tally.missing:
        say(
            f"  [yellow]-[/] negotiated in the trace, not offered here: {', '.join(tally.missing)}",
            soft_wrap=True,
        )
    if tally.read_back:
        say(f"read back when all was done: {tally.read_back} bytes of the disk", soft_wrap=True)
    for difference in tally.differences[:SHOWN]:
        say(f"  [red]✗[/] {escape(text_of(difference))}", soft_wrap=True)
    if tally.stopped:
        say(f"  [red]it ended before the trace: {escape(tally.stopped)}[/]", soft_wrap=True)
    colour = "green" if tally.ok else "red"
    say(f"[bold {colour}]{tally.equal} equal, {counted(tally.different, 'difference')}[/]")


def _reasons(console: Console, counts: Counter[str], what: str) -> None:
    for why, number in counts.most_common():
        console.print(f"  [yellow]-[/] {number} {what}: {escape(why)}", soft_wrap=True)


def where(replayed: Replayed) -> str:
    """Target, ring, transport and memory."""
    place, survey = replayed.place, replayed.survey
    parts = [str(place.target), place.ring or ("packed" if is_packed(survey.sessions) else "split")]
    if not place.target.vhost_user:
        parts.append(place.transport or recorded_transport(survey.facts))
    if place.target.name == "devmodels":
        parts.append(place.memory)
    return ", ".join(parts)


def text_of(difference: Difference) -> str:
    """One difference in one line."""
    of = (
        f", queue {difference.queue} head {difference.head}: {difference.request}"
        if difference.queue >= 0
        else ""
    )
    if difference.number < 0:
        return f"{difference.what} {difference.got}, expected {difference.expected}: it was there first"
    return (
        f"event {difference.number}{of}: {difference.what} {difference.got}, expected {difference.expected}"
    )


def to_json(replayed: Replayed) -> dict[str, object]:
    """Everything as plain values."""
    tally, survey, place = replayed.tally, replayed.survey, replayed.place
    return {
        "ok": tally.ok,
        "device": survey.facts.name,
        "target": str(place.target),
        "where": where(replayed),
        "events": survey.events,
        "cut": survey.cut,
        "requests": tally.requests,
        "compared": tally.compared,
        "equal": tally.equal,
        "different": tally.different,
        "differences": [msgspec.to_builtins(difference) for difference in tally.differences],
        "explained": dict(tally.explained),
        "not-fed": dict(tally.skipped),
        "compared-in-part": dict(tally.unknown),
        "left-out": dict(tally.left_out),
        "not-offered": tally.missing,
        "bytes-read-back": tally.read_back,
        "stopped": tally.stopped or None,
        "seconds": round(tally.seconds, 6),
    }
