"""A register, or a byte, drawn as its bits from the highest to the lowest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

_LETTER = 7.4
"""Width of a letter, in pixels."""
_WIDE, _NARROW = 29.0, 320.0
"""Widest bit, and the width of a diagram on a narrow screen."""


class Bit(NamedTuple):
    """Bits `high` down to `low`: a name, the style of their kind, where more is said."""

    high: int
    low: int
    name: str
    look: str
    href: str = ""


def diagram(width: int, named: Sequence[Bit], *, rest: str = "reserved", first: int = 0) -> Iterator[str]:
    """A row of `width` bits, of which the lowest is called `first`; those without a name look like `rest`."""
    unit = 4.2 if width <= 16 else 2.1
    yield f'<div class="bits" style="--n:{width};--unit:{unit}rem">'
    for bit in filled(width, named, rest, first):
        yield _cell(bit, width)
    yield "</div>"


def filled(width: int, named: Sequence[Bit], rest: str, first: int = 0) -> Iterator[Bit]:
    """All bits of a register, from the highest on: those without a name between the others."""
    top = first + width - 1
    for bit in sorted(named, key=lambda each: -each.high):
        if bit.high < top:
            yield Bit(top, bit.high + 1, "", rest)
        yield bit
        top = bit.low - 1
    if top >= first:
        yield Bit(top, first, "", rest)


def _cell(bit: Bit, width: int) -> str:
    span = bit.high - bit.low + 1
    letters = len(bit.name) * _LETTER
    wide = _WIDE * (2 if width <= 16 else 1)
    turned = " v" if letters > span * wide else " m" if letters > span * _NARROW / width else ""
    look = bit.look + turned
    numbers = (
        f'<i class="one">{bit.high}</i>'
        if span == 1
        else f"<i><span>{bit.high}</span><span>{bit.low}</span></i>"
    )
    style = f' style="grid-column:span {span}"' if span > 1 else ""
    tag, href = ("a", f' href="{bit.href}"') if bit.href else ("span", "")
    name = f"<b>{escape(bit.name)}</b>" if bit.name else "<b>&nbsp;</b>"
    return f'<{tag} class="{look}"{href}{style}>{numbers}{name}</{tag}>'
