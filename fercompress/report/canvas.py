"""What every picture shares: one quiet style, log axes in units that people read, labels that keep clear of each other, bytes that never change."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

INK, QUIET, GRID, LINE = "#1d2733", "#5b6673", "#e3e7ec", "#c3cad2"
WIDTH_IN = 4.9  # two pictures side by side on a page, and still readable on a telephone
WIDE_IN = 10.2  # a picture over the whole page
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9.5, "axes.titlesize": 9.5, "axes.labelsize": 9.5, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
    "text.color": INK, "axes.labelcolor": QUIET, "axes.edgecolor": LINE, "xtick.color": QUIET, "ytick.color": QUIET,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8, "axes.axisbelow": True,
    "figure.dpi": 100, "savefig.dpi": 160, "svg.hashsalt": "fercompress", "svg.fonttype": "path", "text.parse_math": False,
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """name: of its files; alt: what a person who cannot see it is told; caption: what its marks mean; wide: over the whole page"""

    name: str
    title: str
    alt: str
    caption: str
    svg: bytes
    png: bytes
    wide: bool = False


@contextmanager
def canvas(height_in: float, width_in: float = WIDTH_IN) -> Iterator[tuple[Figure, Axes]]:
    """A figure that no global state knows: no pyplot, nothing to close, a user's matplotlibrc without influence on the style's keys."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots()


@contextmanager
def panels(lines: int, columns: int, height_in: float, *, share_x: bool = False) -> Iterator[tuple[Figure, list[Axes]]]:
    """As `canvas`, over the whole page, with several pictures that share their y axes; row by row."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDE_IN, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, list(figure.subplots(lines, columns, sharex=share_x, sharey=True, squeeze=False).flat)


def finish(figure: Figure, name: str, title: str, alt: str, caption: str, *, wide: bool = False) -> Picture:
    """Draw into bytes that hold neither date nor version."""
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.set_layout_engine("none")  # laid out once; the second drawing keeps it
    figure.savefig(png, format="png", metadata={"Software": None})
    return Picture(re.sub(r"[^A-Za-z0-9._-]+", "_", name), title, alt, caption, lean(svg.getvalue()), png.getvalue(), wide)


def lean(svg: bytes) -> bytes:
    """The same drawing, its places to a hundredth of a point, without comments, metadata and line breaks: a fifth less to carry.

    Scales keep their digits.
    """
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<!DOCTYPE[^>]*>", "", svg.decode("utf-8"), flags=re.DOTALL)
    text = re.sub(r"""\b(?:d|x|y|points)="[^"]*"|translate\([^)]*\)""", _rounded, text)
    return re.sub(r">\s+<", "><", text).encode()


def _rounded(place: re.Match[str]) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", place[0]).replace("\n", " ")


def log_axis(axes: Axes, values: Sequence[float], show: Callable[[float], str], *, left: float = 0.12, right: float = 0.12, most: int = 7) -> None:
    """A log x axis around positive values; left, right: free room as a share of what the values span; most: ticks that fit."""
    low, high = math.log10(min(values)), math.log10(max(values))
    span = max(high - low, 0.3)
    bounds = 10 ** (low - left * span), 10 ** (high + right * span)
    axes.set_xscale("log")
    axes.set_xlim(*bounds)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(*bounds, most)))
    unit_ticks(axes, show)


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers within the bounds: as many as there are, but not above `most`."""
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [digit * 10.0**exponent for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) > most:
            return found or inside[:: math.ceil(len(inside) / most)]  # every second power of ten, or every third, ...
        found = inside
    return found


def unit_ticks(axes: Axes, show: Callable[[float], str]) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(show(value))))


def short(text: str) -> str:
    """A tick needs no zeros after its point: "10.0 kB" -> "10 kB"."""
    number, gap, unit = text.partition(" ")
    sign = "×" if number.endswith("×") else ""
    number = number.removesuffix("×")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + sign + gap + unit


def variant_axis(axes: Axes, names: Sequence[str]) -> None:
    """One line per variant, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")


def write_value(axes: Axes, x: float, y: float, text: str, colour: str = INK) -> None:
    axes.annotate(text, (x, y), (6, 0), textcoords="offset points", va="center", fontsize=8, color=colour)


def legend(figure: Figure, marks: Sequence[Any]) -> None:
    figure.legend(
        handles=list(marks),
        loc="outside upper left",
        ncols=len(marks),
        frameon=False,
        fontsize=8.5,
        handletextpad=0.3,
        columnspacing=1.4,
        borderpad=0,
    )


@dataclass(frozen=True)
class Labelled:
    """A point with its vertical bar and the name to write beside it (data coordinates)."""

    x: float
    y: float
    low: float
    high: float
    name: str
    colour: str


def label_points(figure: Figure, axes: Axes, points: Sequence[Labelled]) -> None:
    """Write each name at the place that covers least of other names, points and bars."""
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    bars = [axes.transData.transform([(point.x, point.low), (point.x, point.y), (point.x, point.high)]) for point in points]
    taken: list[Any] = []
    for index in sorted(range(len(points)), key=lambda index: (points[index].x, points[index].y)):
        point, costs = points[index], []
        for rank, (dx, dy, ha, va) in enumerate(_PLACES):
            text = axes.annotate(point.name, (point.x, point.y), (dx, dy), textcoords="offset points", ha=ha, va=va, fontsize=8)
            box = text.get_window_extent()
            text.remove()
            cost = 0.1 * rank + 12 * sum(box.overlaps(other) for other in taken)
            cost += 20 * (box.x0 < frame.x0 or box.x1 > frame.x1 + 4 or box.y0 < frame.y0 or box.y1 > frame.y1)
            for (x, low), (_, y), (_, high) in bars:
                within = box.x0 - 6 < x < box.x1 + 6
                cost += 2 * (within and low < box.y1 and high > box.y0) + 6 * (within and box.y0 - 5 < y < box.y1 + 5)
            costs.append((cost, (dx, dy, ha, va), box))
        _, (dx, dy, ha, va), box = min(costs, key=lambda cost: cost[0])
        taken.append(box)
        text = axes.annotate(
            point.name, (point.x, point.y), (dx, dy), textcoords="offset points", ha=ha, va=va, fontsize=8, color=point.colour, zorder=5
        )
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


_PLACES = (
    *((7, dy, "left", "center") for dy in (6, -6, 14, -14, 24, -24)),
    *((-7, dy, "right", "center") for dy in (6, -6, 14, -14, 24, -24)),
)  # fmt: skip
