"""Picture of accuracy against stored bytes over many ranks, ways and bits: one panel per way, one line per number of bits, ranks along it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from fercompress.report.canvas import INK, QUIET, Picture, finish, legend, log_axis, panels
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import bytes_text, percent_text

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
    others = [row for row in measured if row.get("way") == "control"]
    shown = [row for line in found for row in line.rows] + others + ([baseline] if baseline else [])
    with panels(1, len(ways), 4.3, share_x=True) as (figure, all_axes):
        for axes, way in zip(all_axes, ways, strict=True):
            for line in (line for line in found if line.way == way):
                _draw(axes, line, *SERIES[bits.index(line.bits) % len(SERIES)], STYLES[besides.index(line.besides) % len(STYLES)])
            for row in others:
                _bar(axes, row, CONTROL[0])
                filled = CONTROL[0] if given.is_int8(row["variant"]) else "white"
                axes.plot(row["stored_bytes"], 100 * row["accuracy"], CONTROL[1], color=CONTROL[0], markerfacecolor=filled, markersize=6, zorder=4)
            if baseline is not None:
                _baseline(axes, baseline, named=way == ways[0])
            axes.set_title(f"{way.replace('-', ' ')}: {WAYS[way]}" if len(ways) < 3 else WAYS[way], loc="left")
            axes.set_xlabel("stored bytes, log axis: left is better")
        log_axis(all_axes[0], _ends(shown, baseline), bytes_text, left=0.06, right=0.06)
        all_axes[0].set_ylim(*_heights(shown))
        all_axes[0].set_ylabel(f"accuracy on {given.clip_word}test clips, %")
        marks = [_mark(_bits_text(pair), *SERIES[bits.index(pair) % len(SERIES)]) for pair in bits]
        marks += [_mark("control", *CONTROL)] if others else []
        marks += [Line2D([], [], color=INK, linestyle=STYLES[k % len(STYLES)], label=_besides_text(besides, k)) for k in range(len(besides))] * (
            len(besides) > 1
        )
        legend(figure, marks)
        said = "; ".join(
            f"{line.way} at {_bits_text(line.bits)}: "
            + ", ".join(f"rank {row['tt_rank']} {percent_text(row['accuracy'])} in {bytes_text(row['stored_bytes'])}" for row in line.rows)
            for line in found
        )
        caption = (
            "Upper left is best. Numbers: rank of the tensor train. Bars: 95 % intervals for new people and training seeds. "
            f"Dashed: the baseline's accuracy and, upright, {PUBLISHED} times fewer bytes than it (the paper's largest figure, whose counting is not "
            "public). The vertical axis does not start at 0."
        )
        title = "Accuracy against stored bytes, by rank, bits and way"
        return finish(figure, f"accuracy-bytes-ranks{suffix}", title, f"{title}. {said}.", caption, wide=True)


def _draw(axes: Axes, line: Line, colour: str, marker: str, style: Any) -> None:
    x, y = [row["stored_bytes"] for row in line.rows], [100 * row["accuracy"] for row in line.rows]
    axes.plot(x, y, color=colour, linestyle=style, linewidth=1.3, zorder=2)
    axes.plot(x, y, marker, color=colour, markersize=4.5, zorder=3)
    for row in line.rows:
        _bar(axes, row, colour)
        text = axes.annotate(
            f"{row['tt_rank']}", (row["stored_bytes"], 100 * row["accuracy"]), (0, 4.5), textcoords="offset points", ha="center", va="bottom",
            fontsize=7.5, color=INK, zorder=5,
        )  # fmt: skip
        text.set_path_effects([withStroke(linewidth=2.0, foreground="white")])


def _bar(axes: Axes, row: Row, colour: str) -> None:
    low, high = row.get("accuracy_ci95") or (row["accuracy"], row["accuracy"])
    axes.plot([row["stored_bytes"]] * 2, [100 * low, 100 * high], color=colour, linewidth=1, alpha=0.55, zorder=1)


def _baseline(axes: Axes, row: Row, *, named: bool) -> None:
    _bar(axes, row, INK)
    axes.plot(row["stored_bytes"], 100 * row["accuracy"], "*", color=INK, markersize=9, zorder=4)
    axes.axhline(100 * row["accuracy"], color=QUIET, linewidth=0.9, linestyle=(0, (5, 3)), zorder=0)
    axes.axvline(row["stored_bytes"] / PUBLISHED, color=QUIET, linewidth=0.9, linestyle=(0, (5, 3)), zorder=0)
    if named:
        axes.annotate(
            row["variant"], (row["stored_bytes"], 100 * row["accuracy"]), (-6, -4), textcoords="offset points", ha="right", va="top", fontsize=8
        )
    axes.annotate(
        f"{PUBLISHED}×", (row["stored_bytes"] / PUBLISHED, 0.02), (3, 0), xycoords=axes.get_xaxis_transform(), textcoords="offset points",
        fontsize=8, color=QUIET,
    )  # fmt: skip


def _ends(shown: Sequence[Row], baseline: Row | None) -> list[float]:
    return [row["stored_bytes"] for row in shown] + ([baseline["stored_bytes"] / PUBLISHED] if baseline else [])


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
