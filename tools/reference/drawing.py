"""A state machine as SVG: boxes at their places, arrows between them, labels on those."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from tools.reference.machines import ANY, ANYWHERE, Arrow, Machine, Place

COLUMN, ROW = 215.0, 105.0
"""Distances of places."""
WIDTH, HEIGHT = 126.0, 40.0
"""Of a box."""
MARGIN = 14.0
LOOP = 36.0
"""How far an arrow from a box to itself sticks out."""
LETTER = 6.7
"""Of a label, on average."""
APART = 22.0
"""How far two arrows between the same boxes swerve."""
STYLE = """
.machine { font: 13px system-ui, sans-serif }
.machine rect { fill: #e4ecf8; stroke: #5b7db1; stroke-width: 1.3 }
.machine .first rect { stroke-width: 2.6 }
.machine .any rect { fill: none; stroke: #8a93a2; stroke-dasharray: 4 3 }
.machine path { fill: none; stroke: #5d6675; stroke-width: 1.4 }
.machine marker path { fill: #5d6675; stroke: none }
.machine text { fill: #1d2430; text-anchor: middle; dominant-baseline: central }
.machine .name { font-weight: 600 }
.machine .any .name { font-weight: 400; font-style: italic; fill: #5d6675 }
.machine .label text { font-size: 12px }
.machine .label rect { fill: #fff; stroke: none }
@media (prefers-color-scheme: dark) {
  .machine rect { fill: #1f3149; stroke: #6f94cc }
  .machine path { stroke: #99a3b1 } .machine marker path { fill: #99a3b1 }
  .machine text { fill: #dfe4ea } .machine .any .name { fill: #99a3b1 }
  .machine .label rect { fill: #15181d }
}
"""


class Point(NamedTuple):
    """In the drawing's units."""

    x: float
    y: float


def svg(machine: Machine, *, alone: bool = True) -> str:
    """The drawing; `alone` with its style and background, as a file, else for a page that has the style."""
    return "\n".join(_lines(machine, alone=alone)) + "\n"


def _size(machine: Machine) -> tuple[float, float]:
    ends = [
        *machine.places.values(),
        *(place for (name, _), place in ANYWHERE.items() if name == machine.anchor),
    ]
    width = max(each.column for each in ends) * COLUMN + WIDTH
    return width + 2 * MARGIN, max(each.row for each in ends) * ROW + HEIGHT + 2 * MARGIN + LOOP


def _lines(machine: Machine, *, alone: bool) -> Iterator[str]:
    width, height = _size(machine)
    space = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    yield (
        f'<svg{space} class="machine" viewBox="0 0 {_number(width)} {_number(height)}" width="{_number(width)}" '
        f'height="{_number(height)}" role="img" aria-label="{escape(machine.title)}">'
    )
    if alone:
        yield f"<title>{escape(machine.title)}</title><style>{STYLE}"
        yield "svg { background: #fff } @media (prefers-color-scheme: dark) { svg { background: #15181d } }</style>"
    tip = f"tip-{machine.anchor}"
    yield f'<defs><marker id="{tip}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8"'
    yield 'orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>'
    pairs = {(arrow.source, arrow.target) for arrow in machine.arrows}
    drawn = [
        _arrow(machine, arrow, twin=(arrow.target, arrow.source) in pairs, tip=tip)
        for arrow in machine.arrows
    ]
    yield from (line for line, _ in drawn)
    for name, place in machine.places.items():
        yield _box(name, place, "first" if name == machine.first else "")
    for (anchor, _), place in ANYWHERE.items():
        if anchor == machine.anchor:
            yield _box(ANY, place, "any")
    yield from (label for _, label in drawn)
    yield "</svg>"


def _center(place: Place) -> Point:
    return Point(MARGIN + WIDTH / 2 + place.column * COLUMN, MARGIN + LOOP + HEIGHT / 2 + place.row * ROW)


def _box(name: str, place: Place, look: str) -> str:
    x, y = _center(place)
    corner = f'x="{_number(x - WIDTH / 2)}" y="{_number(y - HEIGHT / 2)}"'
    box = f'{corner} width="{_number(WIDTH)}" height="{_number(HEIGHT)}"'
    text = f'<text class="name" x="{_number(x)}" y="{_number(y)}">{escape(name)}</text>'
    return f'<g class="{look}"><rect {box} rx="9"/>{text}</g>'


def _arrow(machine: Machine, arrow: Arrow, *, twin: bool, tip: str) -> tuple[str, str]:
    """The line, and its label."""
    place = ANYWHERE[machine.anchor, arrow.target] if arrow.source == ANY else machine.places[arrow.source]
    start, end = _center(place), _center(machine.places[arrow.target])
    if arrow.source == arrow.target:
        return _loop(start, arrow, tip)
    bend = arrow.bend or (APART if twin else 0)
    length = math.dist(start, end)
    side = Point((end.y - start.y) / length, -(end.x - start.x) / length)
    shift = math.copysign(min(abs(bend) / 2, HEIGHT / 3), bend)
    start = Point(start.x + side.x * shift, start.y + side.y * shift)
    end = Point(end.x + side.x * shift, end.y + side.y * shift)
    middle = Point((start.x + end.x) / 2 + side.x * bend, (start.y + end.y) / 2 + side.y * bend)
    first, last = (
        _border(_center(place), start, middle),
        _border(_center(machine.places[arrow.target]), end, middle),
    )
    line = f'<path d="M{_point(first)}Q{_point(middle)} {_point(last)}" marker-end="url(#{tip})"/>'
    at = arrow.at
    where = Point(
        (1 - at) ** 2 * first.x + 2 * at * (1 - at) * middle.x + at**2 * last.x,
        (1 - at) ** 2 * first.y + 2 * at * (1 - at) * middle.y + at**2 * last.y,
    )
    return line, _label(where, arrow.label)


def _loop(center: Point, arrow: Arrow, tip: str) -> tuple[str, str]:
    """An arrow from a box to itself: above it, or below where it swerves the other way."""
    side = 1 if arrow.bend < 0 else -1
    edge = center.y + side * HEIGHT / 2
    first, last = Point(center.x - 22, edge), Point(center.x + 22, edge)
    far = edge + side * LOOP
    over = f"{_point(Point(center.x - 30, far))} {_point(Point(center.x + 30, far))}"
    line = f'<path d="M{_point(first)}C{over} {_point(last)}" marker-end="url(#{tip})"/>'
    return line, _label(Point(center.x, edge + side * 0.75 * LOOP), arrow.label)


def _border(center: Point, inside: Point, towards: Point) -> Point:
    """Where the way from a place in a box to one outside leaves the box."""
    x, y = towards.x - inside.x, towards.y - inside.y
    reach = [
        (center.x + math.copysign(WIDTH / 2, x) - inside.x) / x if x else math.inf,
        (center.y + math.copysign(HEIGHT / 2, y) - inside.y) / y if y else math.inf,
    ]
    share = min(reach)
    return Point(inside.x + x * share, inside.y + y * share)


def _label(where: Point, text: str) -> str:
    width = len(text) * LETTER + 4
    corner = f'x="{_number(where.x - width / 2)}" y="{_number(where.y - 8)}"'
    back = f'<rect {corner} width="{_number(width)}" height="16"/>'
    words = f'<text x="{_number(where.x)}" y="{_number(where.y)}">{escape(text)}</text>'
    return f'<g class="label">{back}{words}</g>'


def _point(point: Point) -> str:
    return f"{_number(point.x)} {_number(point.y)}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
