"""Small drawings within the page's text: samples in, an SVG element out; drawn by hand, since a page holds two for every variant and target.

Texts and colours are the page's (classes in page.css); what a mark says when pointed at is its <title>.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from fercompress.report.canvas import log_ticks, short
from fercompress.stats import Floats

WIDTH, HEIGHT = 340, 150
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 26, 20
BINS = 48


@dataclass(frozen=True)
class Spot:
    """One mark of a series; low, high: ends of its bar; flagged: drawn as what needs attention; tip: what it says when pointed at"""

    x: float
    low: float
    middle: float
    high: float
    tip: str
    flagged: bool = False


def histogram(values: Floats, marks: Mapping[str, float], show: Callable[[float], str], label: str) -> Markup:
    """Counts of positive values over a log axis; the thousandth part at either end lies in the outermost bars. marks: label -> place of a line"""
    low, high = (float(np.quantile(values, share)) for share in (0.001, 0.999))
    low, high = min(low, *marks.values()), max(high, *marks.values()) * 1.0001
    low, high = (low, high) if high > 1.02 * low else (low / 1.01, high * 1.01)
    counts, _ = np.histogram(np.log(np.clip(values, low, high)), BINS, (math.log(low), math.log(high)))
    across, tall = (WIDTH - LEFT - RIGHT) / BINS, HEIGHT - TOP - BOTTOM
    bars = "".join(
        f"M{LEFT + column * across:.1f} {HEIGHT - BOTTOM}v{-tall * count / counts.max():.1f}h{across - 0.6:.1f}V{HEIGHT - BOTTOM}z"
        for column, count in enumerate(counts)
        if count
    )
    place = _scale(math.log(low), math.log(high), LEFT, WIDTH - RIGHT)
    parts = [f'<path class="bars" d="{bars}"/>', _ticks(low, high, show, lambda value: place(math.log(value)))]
    taken = -math.inf
    for name, value in sorted(marks.items(), key=lambda mark: mark[1]):
        x = place(math.log(value))
        text = f"{name} {short(show(value))}"
        room = 6.2 * len(text)
        at = min(max(x, taken), WIDTH - room - 2)
        taken = at + room + 8
        parts.append(f'<path class="mark" d="M{x:.1f} {TOP - 4}V{HEIGHT - BOTTOM}"/><text x="{at:.1f}" y="{TOP - 9}">{escape(text)}</text>')
    return _svg(parts, label)


def series(
    spots: Sequence[Spot], show: Callable[[float], str], x_title: str, label: str, middle: float | None = None, onset: float | None = None
) -> Markup:
    """Marks with bars over a linear axis; middle: a level line; onset: an upright line where something sets in"""
    low, high = min(spot.low for spot in spots), max(spot.high for spot in spots)
    room = 0.06 * (high - low) or 0.01 * high or 1.0
    up = _scale(low - room, high + room, HEIGHT - BOTTOM, TOP)
    first, last = min(spot.x for spot in spots), max(spot.x for spot in spots)
    across = _scale(first, last if last > first else first + 1, LEFT + 62, WIDTH - RIGHT - 8)
    level, edge = f'<path class="grid" d="M{LEFT + 56} {{y:.1f}}H{WIDTH - RIGHT}"/>', WIDTH - RIGHT
    parts = [
        level.format(y=up(value)) + f'<text x="{LEFT}" y="{up(value) + 4:.1f}">{escape(short(show(value)))}</text>' for value in _levels(low, high)
    ]
    if middle is not None:
        parts.append(f'<path class="mark" d="M{LEFT + 56} {up(middle):.1f}H{edge}"/>')
    if onset is not None:
        parts.append(f'<path class="onset" d="M{across(onset):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    parts.append('<path class="bar" d="' + "".join(f"M{across(s.x):.1f} {up(s.low):.1f}V{up(s.high):.1f}" for s in spots) + '"/>')
    for spot in spots:
        x, y = across(spot.x), up(spot.middle)
        shape = f'<path class="flag" d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z">' if spot.flagged else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6">'
        parts.append(f"{shape}<title>{escape(spot.tip)}</title></{'path' if spot.flagged else 'circle'}>")
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_title)}</text>')
    return _svg(parts, label)


def _svg(parts: Sequence[str], label: str) -> Markup:
    return Markup(f'<svg class="strip" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>')


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / ((high - low) or 1.0) * (stop - start)


def _ticks(low: float, high: float, show: Callable[[float], str], place: Callable[[float], float]) -> str:
    parts = [f'<path class="grid" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>']
    for value in log_ticks(low, high, 4) or [low, high]:
        x, text = place(value), short(show(value))
        half = 3.1 * len(text)
        parts.append(f'<text x="{min(max(x, half), WIDTH - half):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(text)}</text>')
    return "".join(parts)


def _levels(low: float, high: float) -> list[float]:
    """The two ends, or one where they lie on each other."""
    return [low, high] if high > low else [low]
