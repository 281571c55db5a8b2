"""Picture of the ladder: rungs from top to bottom, one panel each for accuracy, stored bytes and latency, worse steps marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from fercompress.report.canvas import INK, QUIET, Picture, finish, legend, log_axis, panels, variant_axis
from fercompress.report.ladder import Gain, Rung, total_text
from fercompress.report.pairs import Change
from fercompress.report.record import STAGES, ReportInput
from fercompress.report.units import bytes_text, points_text, ratio_text

LINE_IN = 0.3
# What a step did, by colour and mark: told apart without colours too.
BETTER, SAME, WORSE = ("#0072b2", "o"), ("#8a949f", "s"), ("#d55e00", "v")
LABELS = {1: ("step is better", BETTER), 0: ("step not told apart", SAME), -1: ("step is worse", WORSE)}


def ladder(given: ReportInput, target: str, rungs: Sequence[Rung], suffix: str = "") -> Picture | None:
    """None where there is no step, or nothing but bytes is known of any."""
    if not any(rung.step and (rung.step.accuracy or any(rung.step.speed.values())) for rung in rungs):
        return None
    with panels(1, 5, 1.25 + LINE_IN * len(rungs)) as (figure, (first, *others)):
        _accuracies(first, rungs)
        _sizes(others[0], rungs)
        word = given.timing_word(target)
        for axes, stage in zip(others[1:], STAGES, strict=True):
            _speeds(axes, rungs, stage, f"{word}{stage}, times faster")
        variant_axis(first, [rung.row["variant"] for rung in rungs])
        for axes in others:
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False, axis="y")
        legend(figure, [Line2D([], [], marker=mark, linestyle="", color=colour, label=label) for label, (colour, mark) in LABELS.values()])
        said = "; ".join(f"{rung.row['variant']}: {total_text(rung.total)}" for rung in rungs if rung.total is not None)
        caption = (
            f"Where each rung stands against {given.baseline}; lines through marks: 95 % intervals. Colour and mark: the step from the rung above, "
            "told apart only where its own paired interval excludes no change."
        )
        return finish(figure, f"ladder{suffix}", "The ladder", f"The ladder, against {given.baseline}: {said}.", caption, wide=True)


def _accuracies(axes: Axes, rungs: Sequence[Rung]) -> None:
    points = [(0.0, None, 0) if rung.total is None else _accuracy(rung) for rung in rungs]
    axes.axvline(0, color=QUIET, linewidth=1, zorder=1)
    _marks(axes, points, lambda points_: points_text(points_ / 100))
    axes.set_xlabel("accuracy, points\nright is better")
    axes.margins(x=0.2)


def _accuracy(rung: Rung) -> tuple[float | None, tuple[float, float] | None, int]:
    change = rung.total.accuracy if rung.total is not None else None
    if change is None:
        return None, None, 0
    interval = None if change.interval is None else (100 * change.interval[0], 100 * change.interval[1])
    return 100 * change.value, interval, _sign(rung.step, lambda step: step.accuracy)


def _sizes(axes: Axes, rungs: Sequence[Rung]) -> None:
    points: list[tuple[float | None, tuple[float, float] | None, int]] = []
    for rung in rungs:
        ratio = None if rung.step is None else rung.step.times_smaller
        points.append((rung.row.get("stored_bytes"), None, 0 if ratio is None else (ratio > 1) - (ratio < 1)))
    _marks(axes, points, bytes_text)
    _log(axes, points, bytes_text)
    axes.set_xlabel("stored bytes\nleft is better")


def _speeds(axes: Axes, rungs: Sequence[Rung], stage: str, label: str) -> None:
    points: list[tuple[float | None, tuple[float, float] | None, int]] = []
    for rung in rungs:
        change = Change(1.0, None, 1.0) if rung.total is None else rung.total.speed[stage]
        value, interval = (None, None) if change is None else (change.value, change.interval)
        points.append((value, interval, _sign(rung.step, lambda step: step.speed[stage])))
    axes.axvline(1, color=QUIET, linewidth=1, zorder=1)
    _marks(axes, points, ratio_text)
    _log(axes, points, ratio_text)
    axes.set_xlabel(f"{label}\nright is better")


def _sign(step: Gain | None, change: Callable[[Gain], Change | None]) -> int:
    found = None if step is None else change(step)
    return 0 if found is None else found.sign


def _log(axes: Axes, points: Sequence[tuple[float | None, tuple[float, float] | None, int]], show: Callable[[float], str]) -> None:
    ends = [end for value, interval, _ in points if value is not None for end in (value, *(interval or ()))]
    if ends:
        log_axis(axes, ends, show, left=0.1, right=0.4, most=3)


def _marks(axes: Axes, points: Sequence[tuple[float | None, tuple[float, float] | None, int]], show: Callable[[float], str]) -> None:
    """points: value, interval and what the step did (1, 0, -1), one per rung; a value that was not measured is said so."""
    known = [(line, value) for line, (value, _, _) in enumerate(points) if value is not None]
    axes.plot([value for _, value in known], [line for line, _ in known], color="#c3cad2", linewidth=1.2, zorder=1)
    for line, (value, interval, sign) in enumerate(points):
        if value is None:
            axes.annotate("n/a", (0.02, line), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8, color=QUIET)
            continue
        colour, mark = (INK, "o") if line == 0 else LABELS[sign][1]
        end = value
        if interval is not None:
            axes.plot(interval, (line, line), color=colour, linewidth=1.6, zorder=2)
            end = interval[1]
        axes.plot(value, line, mark, color=colour, markersize=5.5, zorder=3)
        text = axes.annotate(show(value), (end, line), (6, 0), textcoords="offset points", va="center", fontsize=8, color=INK, zorder=4)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
