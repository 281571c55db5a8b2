"""Picture of accuracy against stored bytes over many ranks, ways and bits: one panel per way, one line per number of bits, ranks along it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from fercompress.report.canvas import INK, LINE, QUIET, Picture, finish, legend, log_axis, panels
from fercompress.report.leak import accuracy_text
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import bytes_text

PUBLISHED = 221  # times smaller than its baseline: the paper's largest figure; what was counted is not public
WAYS = {
    "from-scratch": "trained in TT form from scratch",
    "decomposed": "decomposed, then trained",
    "data-aware": "decomposed with data, then trained",
}
# Okabe and Ito's palette and marks that differ too, in the order of bits; the line style tells layouts and other steps apart.
SERIES = (("#0072b2", "o"), ("#e69f00", "s"), ("#009e73", "^"), ("#cc79a7", "v"), ("#56b4e9", "P"), ("#000000", "X"), ("#f0e442", "h"))
STYLES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
CONTROL = ("#d55e00", "D")
CROWDED = 30  # points from which on every number of bits has panels of its own
ROOM = 2.2  # the axis reaches so many times beyond the largest tensor train; the dense model would lie ten times further off


@dataclass(frozen=True)
class Line:
    """Variants that differ in rank alone, by rising rank; bits: (predictor, extractor); besides: what else the recipe says, as JSON"""

    way: str
    bits: tuple[int, int]
    besides: str
    rows: tuple[Row, ...]


def lines(rows: Sequence[Row], recipes: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Line]:
    """The tensor trains among the rows, grouped. rows: of one target"""
    groups: dict[tuple[str, tuple[int, int], str], list[Row]] = {}
    for row in rows:
        if row.get("tt_rank") is None or row.get("way") not in WAYS or row.get("accuracy") is None or not row.get("stored_bytes"):
            continue
        bits = (row["predictor_bits"], row["extractor_bits"])
        groups.setdefault((row["way"], bits, _besides(recipes[row["variant"]])), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (list(WAYS).index(item[0][0]), [-bit for bit in item[0][1]], item[0][2]))
    return [Line(*key, tuple(sorted(group, key=lambda row: row["tt_rank"]))) for key, group in ordered]


def _besides(recipe: Sequence[Mapping[str, Any]]) -> str:
    """The recipe without rank, start and rounding: equal for variants that may share a line."""
    kept = [
        {key: value for key, value in step.items() if key not in ("rank", "start") and value is not None}
        for step in recipe
        if step["step"] != "quantize"
    ]
    return json.dumps(kept, sort_keys=True, default=str)


def accuracy_bytes_ranks(given: ReportInput, target: str, suffix: str = "") -> Picture | None:
    """None where fewer than two ranks were measured."""
    rows = given.on(target)
    found = lines(rows, given.recipes)
    if len({row["tt_rank"] for line in found for row in line.rows}) < 2:
        return None
    ways = list(dict.fromkeys(line.way for line in found))
    bits = list(dict.fromkeys(line.bits for line in sorted(found, key=lambda line: [-bit for bit in line.bits])))
    besides = list(dict.fromkeys(line.besides for line in found))
    measured = [row for row in rows if row.get("accuracy") is not None and row.get("stored_bytes")]
    baseline = next((row for row in measured if row["variant"] == given.baseline), None)
    trains = [row for line in found for row in line.rows]
    controls = [row for row in measured if row.get("way") == "control"]
    # Few points share a panel per way; many get one per way and number of bits.
    several = len(trains) > CROWDED and len(bits) > 1
    grid: list[tuple[tuple[int, int] | None, str]] = [(pair, way) for pair in (bits if several else [None]) for way in ways]
    low = [row["stored_bytes"] for row in trains] + ([baseline["stored_bytes"] / PUBLISHED] if baseline else [])
    high = max(row["stored_bytes"] for row in trains) * ROOM
    far = [f"{row['variant']} ({bytes_text(row['stored_bytes'])})" for row in controls if row["stored_bytes"] > high]
    with panels(len(grid) // len(ways), len(ways), 1.1 + 2.3 * len(grid) // len(ways) if several else 4.3, share_x=True) as (figure, all_axes):
        log_axis(all_axes[0], [*low, high], bytes_text, left=0.05, right=0.0, most=4)
        all_axes[0].set_ylim(*_heights([*trains, *controls, *([baseline] if baseline else [])]))
        figure.draw_without_rendering()  # labels are placed by where the points come to lie
        for axes, (pair, way) in zip(all_axes, grid, strict=True):
            for line in (line for line in found if line.way == way):
                colour, marker = SERIES[bits.index(line.bits) % len(SERIES)]
                if pair in (None, line.bits):
                    _draw(axes, line, colour, marker, STYLES[besides.index(line.besides) % len(STYLES)])
                else:
                    axes.plot(
                        [row["stored_bytes"] for row in line.rows], [100 * row["accuracy"] for row in line.rows], color=LINE, linewidth=1, zorder=0
                    )
            for row in controls:
                _control(axes, row, high, given.is_int8(row["variant"]))
            if baseline is not None:
                _baseline(axes, baseline)
            # The way heads its column, the bits their row.
            titles = [WAYS[way]] if axes in all_axes[: len(ways)] else []
            axes.set_title("\n".join([*titles, *([_bits_text(pair)] if pair else [])]), loc="left")
        for axes in all_axes[-len(ways) :]:
            axes.set_xlabel("stored bytes, log axis: left is better")
        figure.supylabel(f"accuracy on {given.clip_word}test clips, %", fontsize=9.5, color=QUIET)
        marks = [_mark(_bits_text(pair), *SERIES[bits.index(pair) % len(SERIES)]) for pair in bits]
        marks += [_mark("control", *CONTROL)] if controls else []
        marks += [Line2D([], [], color=INK, linestyle=STYLES[k % len(STYLES)], label=_besides_text(besides, k)) for k in range(len(besides))] * (
            len(besides) > 1
        )
        legend(figure, marks)
        said = "; ".join(
            f"{line.way} at {_bits_text(line.bits)}: "
            + ", ".join(f"rank {row['tt_rank']} {accuracy_text(row)} in {bytes_text(row['stored_bytes'])}" for row in line.rows)
            for line in found
        )
        caption = (
            "Upper left is best. Numbers along a line: rank of the tensor train. Bars: 95 % intervals for new people and training seeds. "
            + (f"Dashed: accuracy of {given.baseline} ({bytes_text(baseline['stored_bytes'])}) and, upright, {PUBLISHED} times fewer bytes than it, "
               "the paper's largest figure, whose counting is not public. " if baseline else "")
            + ("Controls: filled int8, hollow float. " if controls else "")
            + (f"At the right edge, larger than the axis reaches: {', '.join(far)}. " if far else "")
            + ("Pale lines: other bits of the same way. " if several else "")
            + "The vertical axis does not start at 0."
        )  # fmt: skip
        title = "Accuracy against stored bytes, by rank, bits and way"
        return finish(figure, f"accuracy-bytes-ranks{suffix}", title, f"{title}. {said}.", caption, wide=True)


def _draw(axes: Axes, line: Line, colour: str, marker: str, style: Any) -> None:
    points = [(row["stored_bytes"], 100 * row["accuracy"]) for row in line.rows]
    axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, linewidth=1.3, zorder=2)
    axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=4.5, zorder=3)
    places = axes.transData.transform(points)
    for index, row in enumerate(line.rows):
        _bar(axes, row, colour)
        # Beside the point where the line is steep, above it where it is flat.
        across, up = abs(places[min(index + 1, len(places) - 1)] - places[max(index - 1, 0)])
        _label(axes, f"{row['tt_rank']}", points[index], steep=bool(up > across))


def _label(axes: Axes, words: str, point: tuple[float, float], *, steep: bool) -> None:
    offset, ha, va = ((5, -1), "left", "center") if steep else ((0, 4.5), "center", "bottom")
    text = axes.annotate(words, point, offset, textcoords="offset points", ha=ha, va=va, fontsize=7.5, color=INK, zorder=5)
    text.set_path_effects([withStroke(linewidth=2.0, foreground="white")])


def _bar(axes: Axes, row: Row, colour: str, x: float | None = None) -> None:
    low, high = row.get("accuracy_ci95") or (row["accuracy"], row["accuracy"])
    axes.plot([row["stored_bytes"] if x is None else x] * 2, [100 * low, 100 * high], color=colour, linewidth=1, alpha=0.55, zorder=1)


def _control(axes: Axes, row: Row, high: float, int8: bool) -> None:
    """At the right edge, without its bar, where it is larger than the axis reaches."""
    colour, marker = CONTROL
    beyond = row["stored_bytes"] > high
    if not beyond:
        _bar(axes, row, colour)
    x, y = high if beyond else row["stored_bytes"], 100 * row["accuracy"]
    axes.plot(x, y, marker, color=colour, markerfacecolor=colour if int8 else "white", markersize=5.5, zorder=4, clip_on=False)


def _baseline(axes: Axes, row: Row) -> None:
    axes.axhline(100 * row["accuracy"], color=QUIET, linewidth=0.9, linestyle=(0, (5, 3)), zorder=0)
    axes.axvline(row["stored_bytes"] / PUBLISHED, color=QUIET, linewidth=0.9, linestyle=(0, (5, 3)), zorder=0)
    axes.annotate(
        f"{PUBLISHED}×", (row["stored_bytes"] / PUBLISHED, 0.02), (3, 0), xycoords=axes.get_xaxis_transform(), textcoords="offset points",
        fontsize=8, color=QUIET,
    )  # fmt: skip


def _heights(shown: Sequence[Row]) -> tuple[float, float]:
    """In percent, all bars inside, room for the ranks above."""
    bounds = [row.get("accuracy_ci95") or (row["accuracy"], row["accuracy"]) for row in shown]
    bottom, top = 100 * min(low for low, _ in bounds), 100 * max(high for _, high in bounds)
    room = 0.08 * ((top - bottom) or 1.0)
    return max(0.0, bottom - room), min(100.0 + room / 2, top + room)


def _bits_text(bits: tuple[int, int]) -> str:
    predictor, extractor = ("float32" if each == 32 else f"int{each}" for each in bits)
    return f"all {predictor}" if predictor == extractor else f"predictor {predictor}, extractor {extractor}"


def _besides_text(besides: Sequence[str], which: int) -> str:
    """What tells this group of recipes apart from the others: settings that not all groups share."""
    settings = [{(step["step"], key, json.dumps(value)) for step in json.loads(text) for key, value in step.items()} for text in besides]
    own = sorted(settings[which] - settings[0].intersection(*settings))
    words = [f"{key.replace('_', ' ')} {json.loads(value)}" for step, key, value in own if key != "step"]
    steps = [step for step, key, _ in own if key == "step"]
    return ", ".join([*steps, *words]) or "nothing else"


def _mark(label: str, colour: str, marker: str) -> Line2D:
    return Line2D([], [], marker=marker, color=colour, linestyle="" if label == "control" else "-", linewidth=1.3, markersize=5, label=label)
