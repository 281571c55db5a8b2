"""The explorer: a `ReportInput` in; every variant's figures, texts and tied groups out, as the page's script draws them.

The script chooses axes and hides variants; every number, interval, text and group is made here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fercompress.choice import SAME_BYTES
from fercompress.report.figures import FAMILIES
from fercompress.report.leak import MARK, marked
from fercompress.report.pairs import RESAMPLES, latency_interval
from fercompress.report.record import ReportInput, Row
from fercompress.report.tables import step_text
from fercompress.report.units import bytes_text, interval_text, joules_text, percent_text, time_interval_text, time_text
from fercompress.stats import ties

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """What may stand on an axis: a summary column in `unit` (value times `scale`); stage: of a latency, whose interval is that over rounds"""

    key: str
    title: str
    unit: str
    scale: float
    show: Callable[[float], str]
    stage: str = ""
    higher_is_better: bool = False


AXES = (
    Axis("accuracy", "accuracy", "%", 100.0, percent_text, higher_is_better=True),
    Axis("stored_bytes", "stored bytes", "B", 1.0, bytes_text),
    Axis("latency_clip_p50_ns", "latency per clip", "s", 1e-9, time_text, "clip"),
    Axis("latency_extractor_p50_ns", "extractor latency", "s", 1e-9, time_text, "extractor"),
    Axis("latency_predictor_p50_ns", "predictor latency", "s", 1e-9, time_text, "predictor"),
    Axis("memory_peak_bytes", "peak memory", "B", 1.0, bytes_text),
    Axis("energy_clip_j", "energy per clip", "J", 1.0, joules_text),
)
MARKS = {"o": "circle", "s": "square", "D": "diamond"}  # matplotlib's names of marks -> plotly's
# Further columns that a point's text tells where a row has them: column, what it is, how its value is written.
TOLD: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("front_probability_stored_bytes", "probability to be on the front of accuracy and bytes", percent_text),
    ("front_probability_latency_clip", "probability to be on the front of accuracy and latency per clip", percent_text),
)


@dataclass(frozen=True)
class Point:
    """A variant on a target; figures: axis -> (value, low, high) in the axis' unit, both bounds None where there is no interval; lines: its text"""

    variant: str
    target: str
    family: str
    way: str
    rounded: bool
    baseline: bool
    figures: Mapping[str, tuple[float, float | None, float | None]]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Explorer:
    """axes: those of which anything was measured; groups: target -> "axis" or "axis|axis" -> groups of indices into `points` that are tied on all"""

    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    groups: Mapping[str, Mapping[str, Sequence[Sequence[int]]]]


def explorer(given: ReportInput) -> Explorer | None:
    """None where fewer than two quantities were measured: there is nothing to draw."""
    axes = tuple(axis for axis in AXES if any(row.get(axis.key) for row in given.rows))
    if len(axes) < 2:
        return None
    points = tuple(_point(given, row, axes) for row in given.rows)
    return Explorer(axes, points, {target: _groups(given, target, axes) for target in given.targets})


def data(given: ReportInput, found: Explorer, anchors: Mapping[str, str]) -> dict[str, Any]:
    """JSON-able. anchors: variant -> the id of its section"""
    return {
        "axes": [
            {"key": axis.key, "title": axis.title + (f" ({MARK} folds)" if given.leaky and axis.key == "accuracy" else ""), "unit": axis.unit,
             "higher": axis.higher_is_better, "timed": bool(axis.stage)}
            for axis in found.axes
        ],
        "targets": [{"name": target, "timing": given.timing_word(target)} for target in given.targets],
        "families": {name: {"colour": colour, "mark": MARKS[mark]} for name, (colour, mark) in FAMILIES.items()},
        "points": [
            {"variant": point.variant, "target": point.target, "family": point.family, "way": point.way, "rounded": point.rounded,
             "baseline": point.baseline, "figures": point.figures, "lines": point.lines, "section": anchors.get(point.variant, "")}
            for point in found.points
        ],
        "groups": found.groups,
    }  # fmt: skip


def _point(given: ReportInput, row: Row, axes: Sequence[Axis]) -> Point:
    name = row["variant"]
    figures: dict[str, tuple[float, float | None, float | None]] = {}
    lines = []
    for axis in axes:
        if (value := row.get(axis.key)) is None:
            continue
        bounds = _bounds(given, row, axis)
        low, high = (None, None) if bounds is None else (_short(bounds[0] * axis.scale), _short(bounds[1] * axis.scale))
        figures[axis.key] = (_short(value * axis.scale), low, high)
        shown = marked(row, axis.show(value)) if axis.key == "accuracy" else axis.show(value)
        text = shown + ("" if bounds is None else f" {_bounds_text(axis, bounds)}")
        timing = given.timing_word(row["target"]) if axis.stage else ""
        lines.append(f"{timing}{axis.title}: {text}")
    lines += [f"{title}: {show(row[key])}" for key, title, show in TOLD if row.get(key) is not None]
    recipe = tuple(f"· {step_text(step)}" for step in given.recipe(name)) or ("· none: the teacher itself",)
    way = str(row.get("way") or "not known")
    return Point(name, row["target"], given.family(name), way, given.is_int8(name), name == given.baseline, figures, (*lines, "recipe:", *recipe))


def _bounds(given: ReportInput, row: Row, axis: Axis) -> Bounds | None:
    if axis.stage:
        return latency_interval(given, row["target"], row["variant"], axis.stage)
    found = row.get(f"{axis.key}_ci95")
    return None if found is None else (found[0], found[1])


def _bounds_text(axis: Axis, bounds: Bounds) -> str:
    return time_interval_text(bounds) if axis.stage else interval_text(bounds, percent=axis.unit == "%")


def _short(value: float) -> float:
    """Six digits draw as well as sixteen, in a third of the bytes."""
    return float(f"{value:.6g}")


def _groups(given: ReportInput, target: str, axes: Sequence[Axis]) -> dict[str, list[list[int]]]:
    """Of each axis alone, and of each pair of axes: the variants that are tied on all of them."""
    places = {axis.key: [index for index, row in enumerate(given.rows) if row["target"] == target and row.get(axis.key)] for axis in axes}
    tied = {axis.key: _ties(given, target, axis, [given.rows[index] for index in places[axis.key]]) for axis in axes}
    found = {axis.key: _named(places[axis.key], tied[axis.key], _order(given, axis.key, places[axis.key])) for axis in axes}
    for one, other in itertools.combinations([axis.key for axis in axes], 2):
        both = [index for index in places[one] if index in places[other]]
        each = [tied[key][np.ix_(where, where)] for key in (one, other) for where in [[places[key].index(index) for index in both]]]
        found[f"{one}|{other}"] = _named(both, each[0] & each[1], _order(given, other, both))
    return {key: groups for key, groups in found.items() if groups}


def _order(given: ReportInput, key: str, places: Sequence[int]) -> list[int]:
    """Positions in `places` by rising figure, so that groups hold neighbours."""
    return sorted(range(len(places)), key=lambda position: (given.rows[places[position]][key], position))


def _named(places: Sequence[int], tied: ties.Ties, order: Sequence[int]) -> list[list[int]]:
    return [[places[position] for position in group] for group in ties.groups(tied, order)]


def _ties(given: ReportInput, target: str, axis: Axis, rows: Sequence[Row]) -> ties.Ties:
    """By paired intervals where there are any; else within 5 %, as sizes are compared all over the page."""
    names = [row["variant"] for row in rows]
    if axis.key == "accuracy" and all((target, name) in given.scores for name in names):
        tables = [given.scores[target, name] for name in names]
        seeds = sorted(set().union(*(table.index for table in tables)))
        clips = sorted(set().union(*(table.columns for table in tables)))
        scores = [table.reindex(index=seeds, columns=clips).to_numpy(dtype=np.float64) for table in tables]
        return ties.tied_in_accuracy(scores, [given.clusters[clip] for clip in clips], resamples=RESAMPLES)
    if axis.stage and all((target, name) in given.round_logs for name in names):
        logs = [given.round_logs[target, name][axis.stage] for name in names]
        rounds = sorted(set().union(*(log.index for log in logs)))
        return ties.tied_in_rounds(np.array([log.reindex(rounds).to_numpy(dtype=np.float64) for log in logs]).reshape(len(logs), len(rounds)))
    return ties.tied_within([row[axis.key] for row in rows], SAME_BYTES)
