"""The report's pictures: a `ReportInput` in, one `Picture` (SVG and PNG bytes, the same for the same input) per question out."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fercompress.report.record import ReportInput, Row
from fercompress.report.units import bytes_text, percent_text, time_text

# Okabe and Ito's palette, told apart by people with any kind of colour vision; families differ in marker too.
FAMILIES = {"dense": ("#3b3f46", "o"), "tensor train": ("#0072b2", "s"), "control": ("#d55e00", "D")}
EXTRACTOR, PREDICTOR = "#56b4e9", "#e69f00"
MEMORY = ("#d3d8de", "#9fb4c7", "#56b4e9", "#0072b2")
INK, QUIET, GRID = "#1d2733", "#5b6673", "#e3e7ec"

STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9.5, "axes.titlesize": 9.5, "axes.labelsize": 9.5, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
    "text.color": INK, "axes.labelcolor": QUIET, "axes.edgecolor": "#c3cad2", "xtick.color": QUIET, "ytick.color": QUIET,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8, "axes.axisbelow": True,
    "figure.dpi": 100, "savefig.dpi": 160, "svg.hashsalt": "fercompress", "svg.fonttype": "path", "axes.unicode_minus": True, "text.parse_math": False,
}  # fmt: skip
WIDTH_IN = 5.6


@dataclass(frozen=True)
class Picture:
    """name: of its files; alt: what a person who cannot see it is told; caption: what its marks mean"""

    name: str
    title: str
    alt: str
    caption: str
    svg: bytes
    png: bytes


def accuracy_against(given: ReportInput, target: str, key: str, suffix: str = "") -> Picture | None:
    """key: "stored_bytes" or "latency_clip_p50_ns", on a log axis; None where no row has both figures."""
    rows = [row for row in given.on(target) if row.get("accuracy") is not None and row.get(key)]
    if not rows:
        return None
    show, what, name = {
        "stored_bytes": (bytes_text, "stored bytes", "accuracy-bytes"),
        "latency_clip_p50_ns": (time_text, "latency per clip (median)", "accuracy-latency"),
    }[key]
    with _figure(3.7) as (figure, axes):
        axes.set_xscale("log")
        lows, highs = [], []
        for row in rows:
            colour, marker = FAMILIES[given.family(row["variant"])]
            y = 100 * row["accuracy"]
            low, high = (100 * bound for bound in row.get("accuracy_ci95") or (row["accuracy"], row["accuracy"]))
            axes.errorbar(row[key], y, [[y - low], [high - y]], color=colour, linewidth=1.2, capsize=2.5, zorder=2)
            filled = colour if given.is_int8(row["variant"]) else "white"
            axes.plot(row[key], y, marker, color=colour, markerfacecolor=filled, markeredgewidth=1.6, markersize=6.5, zorder=3)
            lows.append(low)
            highs.append(high)
        _pad_log(axes, [row[key] for row in rows])
        span = max(highs) - min(lows) or 1.0
        axes.set_ylim(max(0.0, min(lows) - 0.12 * span), min(100.0 + 0.05 * span, max(highs) + 0.12 * span))
        _unit_axis(axes, show)
        axes.set_xlabel(f"{what}, log axis: left is better")
        axes.set_ylabel("accuracy on test clips, %")
        _family_legend(figure, given, rows)
        _label_points(figure, axes, [(row[key], 100 * row["accuracy"], row["variant"], FAMILIES[given.family(row["variant"])][0]) for row in rows])
        points = "; ".join(f"{row['variant']} {percent_text(row['accuracy'])} at {show(row[key])}" for row in rows)
        title = f"Accuracy against {what.split(' (')[0]}"
        caption = "Upper left is best. Bars: 95 % intervals of accuracy. Filled marks: int8; hollow: float. The vertical axis does not start at 0."
        return _picture(figure, name + suffix, title, f"{title}: {points}.", caption)


def latencies(given: ReportInput, target: str, stage: str, suffix: str = "") -> Picture | None:
    """How long every timed clip took in one stage: "extractor", "predictor" or "clip"."""
    column = f"{stage}_ns"
    frame = given.timings[given.timings["target"] == target]
    names = [row["variant"] for row in given.on(target) if (frame["variant"] == row["variant"]).any()]
    if not names:
        return None
    with _figure(0.9 + 0.32 * len(names)) as (figure, axes):
        axes.set_xscale("log")
        said = []
        for line, name in enumerate(names):
            own = frame[frame["variant"] == name]
            values = own[column].to_numpy(dtype=float)
            blocks = own.groupby(["round", "position"])[column].median().to_numpy(dtype=float)
            colour, _ = FAMILIES[given.family(name)]
            p5, p25, p50, p75, p95 = np.percentile(values, (5, 25, 50, 75, 95))
            axes.plot((p5, p95), (line, line), color=colour, linewidth=1.2, solid_capstyle="butt")
            axes.plot((p25, p75), (line, line), color=colour, linewidth=7, alpha=0.35, solid_capstyle="butt")
            # Blocks stand a little below the line, so that none hides the median.
            axes.plot(blocks, np.full(len(blocks), line + 0.27), "|", color=colour, markersize=4, markeredgewidth=1)
            axes.plot(p50, line, "o", color=colour, markersize=5)
            axes.annotate(time_text(p50), (p95, line), (5, 0), textcoords="offset points", va="center", fontsize=8, color=QUIET)
            said.append(f"{name} {time_text(p50)}")
        _variant_axis(axes, names)
        lows, highs = (np.percentile(frame[column], percentile) for percentile in (1, 99))
        _pad_log(axes, [lows, highs], share=0.1, right=0.22)
        _unit_axis(axes, time_text)
        what = {"extractor": "Extractor latency: a clip's frames one by one", "predictor": "Predictor latency: one clip", "clip": "Latency per clip: extractor and predictor"}[stage]
        axes.set_xlabel("log axis: left is better")
        caption = "Line: 5th to 95th percentile of all timed clips; bar: middle half; dot: median. Ticks below: medians of single blocks, the unit of the statistics."
        return _picture(figure, f"latency-{stage}{suffix}", what, f"{what}, medians: {', '.join(said)}.", caption)


def sizes(given: ReportInput, target: str, suffix: str = "") -> Picture:
    """Stored bytes of the two parts and their sum: dots, because stacked bars lie on a log axis."""
    names = [row["variant"] for row in given.on(target)]
    parts = [(given.manifests[name]["size"]["bytes_extractor"], given.manifests[name]["size"]["bytes_predictor"]) for name in names]
    with _figure(1.15 + 0.32 * len(names)) as (figure, axes):
        axes.set_xscale("log")
        for line, (extractor, predictor) in enumerate(parts):
            total = extractor + predictor
            axes.plot((min(extractor, predictor), total), (line, line), color="#c3cad2", linewidth=1.5, zorder=1)
            axes.plot(extractor, line, "s", color=EXTRACTOR, markersize=7, zorder=2)
            axes.plot(predictor, line, "o", color=PREDICTOR, markersize=7, zorder=3)
            axes.plot(total, line, "|", color=INK, markersize=13, markeredgewidth=2, zorder=4)
            axes.annotate(bytes_text(total), (total, line), (6, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
        _variant_axis(axes, names)
        _pad_log(axes, [size for pair in parts for size in (*pair, sum(pair)) if size], share=0.08, right=0.2)
        _unit_axis(axes, bytes_text)
        axes.set_xlabel("stored bytes, log axis: left is better")
        marks = [
            Line2D([], [], marker="s", linestyle="", color=EXTRACTOR, label="extractor"),
            Line2D([], [], marker="o", linestyle="", color=PREDICTOR, label="predictor"),
            Line2D([], [], marker="|", linestyle="", color=INK, markersize=11, markeredgewidth=2, label="both"),
        ]
        _legend(figure, marks)
        said = "; ".join(f"{name} extractor {bytes_text(a)}, predictor {bytes_text(b)}" for name, (a, b) in zip(names, parts, strict=True))
        caption = "Bytes of the files that a target needs to run; the number is their sum."
        return _picture(figure, f"sizes{suffix}", "Stored bytes by part", f"Stored bytes by part: {said}.", caption)


MEMORY_STEPS = (("memory_interpreter_bytes", "interpreter"), ("memory_runtime_bytes", "runtime"), ("memory_model_bytes", "model"), ("memory_peak_bytes", "running"))


def memory(given: ReportInput, target: str, suffix: str = "") -> Picture | None:
    """The process's high-water mark after each step, stacked by what the step added; None where memory was not measured."""
    rows = [row for row in given.on(target) if all(row.get(key) is not None for key, _ in MEMORY_STEPS)]
    if not rows:
        return None
    with _figure(1.15 + 0.32 * len(rows)) as (figure, axes):
        for line, row in enumerate(rows):
            before = 0.0
            for (key, _), colour in zip(MEMORY_STEPS, MEMORY, strict=True):
                axes.barh(line, max(0.0, row[key] - before), left=before, height=0.62, color=colour, edgecolor="white", linewidth=0.6)
                before = max(before, row[key])
            axes.annotate(bytes_text(row["memory_peak_bytes"]), (before, line), (5, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
        _variant_axis(axes, [row["variant"] for row in rows])
        axes.set_xlim(0, 1.2 * max(row["memory_peak_bytes"] for row in rows))
        _unit_axis(axes, bytes_text)
        axes.set_xlabel("peak resident memory of a fresh process: left is better")
        _legend(figure, [Line2D([], [], marker="s", linestyle="", markersize=8, color=colour, label=label) for (_, label), colour in zip(MEMORY_STEPS, MEMORY, strict=True)])
        said = "; ".join(f"{row['variant']} {bytes_text(row['memory_peak_bytes'])}" for row in rows)
        caption = "What each step added to the high-water mark: starting the interpreter, importing the runtime, loading the model, running clips."
        return _picture(figure, f"memory{suffix}", "Memory", f"Peak memory: {said}.", caption)


def confusion(given: ReportInput, variant: str) -> Picture | None:
    """Rows: true classes, columns: answers, each row in percent; None where the variant has no predictions."""
    own = given.predictions[given.predictions["variant"] == variant]
    if own.empty:
        return None
    classes = [str(name) for name in given.data["classes"]]
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (own["label"].to_numpy(dtype=int), own["predicted"].to_numpy(dtype=int)), 1)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(100 * counts, totals, out=np.zeros_like(counts), where=totals > 0)
    with _figure(max(3.2, 1.0 + 0.42 * len(classes)), width_in=max(3.9, 1.6 + 0.48 * len(classes))) as (figure, axes):
        axes.grid(visible=False)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=115, aspect="auto")
        for (line, column), share in np.ndenumerate(shares):
            if share >= 0.5:
                axes.text(column, line, f"{share:.0f}", ha="center", va="center", fontsize=8, color="white" if share > 65 else INK)
        axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(classes)), [f"{name} ({int(total)})" for name, total in zip(classes, totals[:, 0], strict=True)])
        axes.tick_params(length=0)
        axes.set_xlabel("answer")
        axes.set_ylabel("true class (clips)")
        recalls = ", ".join(f"{name} {shares[index, index]:.0f} %" for index, name in enumerate(classes))
        title = f"Confusion of {variant}"
        caption = "Each row adds up to 100 %; empty: below 0.5 %. All seeds and folds together."
        return _picture(figure, f"confusion-{variant}", title, f"{title}. Right answers: {recalls}.", caption)


@contextmanager
def _figure(height_in: float, width_in: float = WIDTH_IN) -> Iterator[tuple[Figure, Axes]]:
    """A figure that no global state knows: no pyplot, nothing to close."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots()


def _picture(figure: Figure, name: str, title: str, alt: str, caption: str) -> Picture:
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", metadata={"Software": None})
    return Picture(name, title, alt, caption, svg.getvalue(), png.getvalue())


def _unit_axis(axes: Axes, show: Callable[[float], str]) -> None:
    """Ticks in units that people read; on a log axis at 1, 2 and 5 where there is room."""
    if axes.get_xscale() == "log":
        low, high = axes.get_xlim()
        subs = (1.0, 2.0, 5.0) if high / low < 60 else (1.0, 3.0) if high / low < 600 else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(show(value))))


def _short(text: str) -> str:
    """A tick needs no digits after the point that are zero: "10.0 kB" -> "10 kB"."""
    number, _, unit = text.partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def _pad_log(axes: Axes, values: Sequence[float], share: float = 0.12, right: float | None = None) -> None:
    low, high = np.log10(min(values)), np.log10(max(values))
    span = max(high - low, 0.3)
    axes.set_xlim(10 ** (low - share * span), 10 ** (high + (right or share) * span))


def _variant_axis(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")


def _legend(figure: Figure, marks: Sequence[Any]) -> None:
    figure.legend(handles=list(marks), loc="outside upper left", ncols=len(marks), frameon=False, fontsize=8.5, handletextpad=0.3, columnspacing=1.4, borderpad=0)


def _family_legend(figure: Figure, given: ReportInput, rows: Sequence[Row]) -> None:
    present = {given.family(row["variant"]) for row in rows}
    _legend(figure, [Line2D([], [], marker=marker, linestyle="", color=colour, label=family) for family, (colour, marker) in FAMILIES.items() if family in present])


def _label_points(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each point's name where it covers the fewest other marks: the first of eight places that costs least."""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    frame = axes.get_window_extent(renderer)
    dots = [axes.transData.transform((x, y)) for x, y, _, _ in points]
    placed: list[Any] = []
    for x, y, name, colour in sorted(points):
        costs = []
        for dx, dy, ha, va in _PLACES:
            text = axes.annotate(name, (x, y), (dx, dy), textcoords="offset points", ha=ha, va=va, fontsize=8)
            box = text.get_window_extent(renderer)
            text.remove()
            outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
            hits = sum(box.x0 - 5 < dot[0] < box.x1 + 5 and box.y0 - 5 < dot[1] < box.y1 + 5 for dot in dots)
            costs.append((10 * sum(box.overlaps(other) for other in placed) + 4 * outside + hits, (dx, dy, ha, va), box))
        _, (dx, dy, ha, va), box = min(costs, key=lambda cost: cost[0])
        placed.append(box)
        axes.annotate(name, (x, y), (dx, dy), textcoords="offset points", ha=ha, va=va, fontsize=8, color=colour)


_PLACES = (
    (7, 4, "left", "bottom"), (7, -4, "left", "top"), (-7, 4, "right", "bottom"), (-7, -4, "right", "top"),
    (0, 22, "center", "bottom"), (0, -22, "center", "top"), (7, 16, "left", "bottom"), (-7, -16, "right", "top"),
)  # fmt: skip
