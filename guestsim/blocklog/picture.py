"""The figures of a replay as a picture: latency by percentile for each operation, and what went on over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from guestsim.blocklog.figures import Figures, Latencies
from guestsim.blocklog.show import time_text

_WIDTH, _HEIGHT = 460, 260
_LEFT, _TOP, _GAP = 70, 50, 90
_COLOURS = ("#1f6fb4", "#d95f02", "#1b9e77", "#7b4fa3", "#b8860b", "#c03a6b")

_NINES = (0.0, 50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
"""What the axis of percentiles has marks for; it goes by nines."""


def to_svg(figures: Figures, title: str) -> str:
    """The picture as SVG, a white page of its own."""
    width = 2 * (_LEFT + _WIDTH) + _GAP
    height = _TOP + _HEIGHT + 70
    seconds = figures.duration_ns / 1e9
    head = f"{title}: {figures.count} requests in {seconds:.3f} s"
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(head)}</text>',
        *_Latency(figures, _LEFT, _TOP).draw(),
        *_Depth(figures, 2 * _LEFT + _WIDTH + _GAP - 20, _TOP).draw(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Panel:
    """A frame with axes."""

    def __init__(self, figures: Figures, x: int, y: int) -> None:
        self.figures = figures
        self.x = x
        self.y = y

    def frame(self, title: str) -> list[str]:
        """Its frame and what it is called."""
        return [
            f'<text x="{self.x}" y="{self.y - 8}" font-weight="bold">{escape(title)}</text>',
            f'<rect x="{self.x}" y="{self.y}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#888"/>',
        ]

    def mark_x(self, share: float, text: str) -> list[str]:
        """A line and its label at `share` of the width."""
        x = self.x + share * _WIDTH
        return [
            f'<line x1="{x:.1f}" y1="{self.y}" x2="{x:.1f}" y2="{self.y + _HEIGHT}" stroke="#ddd"/>',
            f'<text x="{x:.1f}" y="{self.y + _HEIGHT + 15}" text-anchor="middle">{escape(text)}</text>',
        ]

    def mark_y(self, share: float, text: str) -> list[str]:
        """A line and its label at `share` of the height."""
        y = self.y + _HEIGHT - share * _HEIGHT
        return [
            f'<line x1="{self.x}" y1="{y:.1f}" x2="{self.x + _WIDTH}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{self.x - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>',
        ]

    def line(self, points: Sequence[tuple[float, float]], colour: str) -> str:
        """A line through points, each (share of the width, share of the height)."""
        places = " ".join(
            f"{self.x + across * _WIDTH:.1f},{self.y + _HEIGHT - up * _HEIGHT:.1f}" for across, up in points
        )
        return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.6"/>'

    def legend(self, names: Sequence[tuple[str, str]]) -> list[str]:
        """Names with their colours, below the axis."""
        parts = []
        x = self.x
        for name, colour in names:
            y = self.y + _HEIGHT + 34
            parts.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{colour}"/>')
            parts.append(f'<text x="{x + 14}" y="{y + 9}">{escape(name)}</text>')
            x += 30 + 7 * len(name)
        return parts


class _Latency(_Panel):
    """Latency by percentile, both logarithmic."""

    def draw(self) -> list[str]:
        ops = sorted(self.figures.ops.items())
        parts = self.frame("Latency by percentile")
        if not ops:
            return parts
        low = math.floor(math.log10(max(1, min(of_op.latencies.least for _, of_op in ops))))
        high = math.ceil(math.log10(max(10, *(of_op.latencies.greatest for _, of_op in ops))))
        high = max(high, low + 1)
        for percent in _NINES:
            parts += self.mark_x(_nines(percent), f"{percent:g}")
        for power in range(low, high + 1):
            parts += self.mark_y((power - low) / (high - low), time_text(10.0**power))
        names = []
        for number, (op, of_op) in enumerate(ops):
            colour = _COLOURS[number % len(_COLOURS)]
            curve = [
                (across, (math.log10(max(1, ns)) - low) / (high - low))
                for across, ns in _curve(of_op.latencies)
            ]
            parts.append(self.line(curve, colour))
            names.append((op.name.lower().replace("_", " "), colour))
        return parts + self.legend(names)


def _nines(percent: float) -> float:
    """Where a percentile is on its axis: as far from 90 to 99 as from 99 to 99.9."""
    return min(1.0, -math.log10(1 - percent / 100) / 4) if percent < 100 else 1.0


def _curve(latencies: Latencies) -> list[tuple[float, int]]:
    """Places on the axis of percentiles with latencies, no further than there are requests enough for."""
    last = min(1.0, math.log10(max(2, latencies.count)) / 4)
    shares = [last * step / 80 for step in range(81)]
    return [(share, latencies.percentile(100 * (1 - 10 ** (-4 * share)))) for share in shares]


class _Depth(_Panel):
    """The depth of the queue over time: its mean, and the most there were."""

    def draw(self) -> list[str]:
        timeline = self.figures.timeline
        parts = self.frame("Requests under way over time")
        duration = self.figures.duration_ns
        if not timeline.slots or not duration:
            return parts
        top = max(slot.greatest for slot in timeline.slots)
        step = max(1, 10 ** math.floor(math.log10(top)) // (1 if str(top)[0] >= "3" else 2))
        for value in range(0, top + 1, step):
            parts += self.mark_y(value / top, str(value))
        for number in range(5):
            parts += self.mark_x(number / 4, time_text(duration * number / 4) if number else "0")
        edges = [min(1.0, n * timeline.width_ns / duration) for n in range(len(timeline.slots) + 1)]
        series = (
            ("most", "#b9d3ea", [float(slot.greatest) for slot in timeline.slots]),
            ("mean", _COLOURS[0], timeline.depths()),
        )
        for _, colour, values in series:
            points = [
                (at, value / top)
                for left, right, value in zip(edges, edges[1:], values, strict=False)
                for at in (left, right)
            ]
            parts.append(self.line(points, colour))
        return parts + self.legend([(name, colour) for name, colour, _ in series])
