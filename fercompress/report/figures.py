"""The report's pictures: a `ReportInput` in, one `Picture` per question out, or None where nothing was measured that could answer it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.lines import Line2D

from fercompress.report import ladder_figure, ranks
from fercompress.report.canvas import (
    INK,
    LINE,
    QUIET,
    Labelled,
    Picture,
    canvas,
    finish,
    label_points,
    legend,
    log_axis,
    unit_ticks,
    variant_axis,
    write_value,
)
from fercompress.report.ladder import Rung
from fercompress.report.leak import accuracy_text
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import bytes_text, interval_text, ratio_text, time_text

# Okabe and Ito's palette, told apart by people with any kind of colour vision; families and stages differ in their marks too.
FAMILIES = {"dense": ("#3b3f46", "o"), "tensor train": ("#0072b2", "s"), "control": ("#d55e00", "D")}
STAGES = {"predictor": ("#e69f00", "o"), "extractor": ("#56b4e9", "s"), "clip": (INK, "D")}
MEMORY_STEPS = {
    "memory_interpreter_bytes": ("interpreter", "#d3d8de"),
    "memory_runtime_bytes": ("runtime", "#9fb4c7"),
    "memory_model_bytes": ("model", "#56b4e9"),
    "memory_peak_bytes": ("running", "#0072b2"),
}
LINE_IN = 0.32  # height of one variant's line
MANY = 20  # variants from which on only some are named in a scatter


def accuracy_against(given: ReportInput, target: str, key: str, suffix: str = "") -> Picture | None:
    """key: "stored_bytes" or "latency_clip_p50_ns", on a log axis."""
    rows = [row for row in given.on(target) if row.get("accuracy") is not None and row.get(key)]
    if not rows:
        return None
    show, what, name = {
        "stored_bytes": (bytes_text, "stored bytes", "accuracy-bytes"),
        "latency_clip_p50_ns": (time_text, given.timing_word(target) + "latency per clip", "accuracy-latency"),
    }[key]
    with canvas(3.7) as (figure, axes):
        points = []
        for row in rows:
            colour, marker = FAMILIES[given.family(row["variant"])]
            low, high = (100 * bound for bound in row.get("accuracy_ci95") or (row["accuracy"], row["accuracy"]))
            point = Labelled(row[key], 100 * row["accuracy"], low, high, row["variant"], colour)
            points.append(point)
            axes.errorbar(point.x, point.y, [[point.y - low], [high - point.y]], color=colour, linewidth=1.2, capsize=2.5, zorder=2)
            filled = colour if given.is_int8(row["variant"]) else "white"
            axes.plot(point.x, point.y, marker, color=colour, markerfacecolor=filled, markeredgewidth=1.6, markersize=6.5, zorder=3)
        log_axis(axes, [point.x for point in points], show, right=0.17)
        bottom, top = min(point.low for point in points), max(point.high for point in points)
        room = 0.12 * ((top - bottom) or 1.0)
        axes.set_ylim(max(0.0, bottom - room), min(100.0 + room / 3, top + room))
        axes.set_xlabel(f"{what}, log axis: left is better")
        axes.set_ylabel(f"accuracy on {given.clip_word}test clips, %")
        present = {given.family(row["variant"]) for row in rows}
        legend(figure, [_mark(family, *mark) for family, mark in FAMILIES.items() if family in present])
        named = {row["variant"] for row in (rows if len(rows) <= MANY else _best(rows, key))} | {given.baseline}
        label_points(figure, axes, [point for point in points if point.name in named])
        said = "; ".join(f"{row['variant']} {accuracy_text(row)} at {show(row[key])}" for row in rows)
        title = f"Accuracy against {what}"
        caption = "Upper left is best. Bars: 95 % intervals. Filled marks: int8; hollow: float. The vertical axis does not start at 0." + (
            " Named: the baseline, and those that none beats in both." if len(named) < len(rows) else ""
        )
        return finish(figure, name + suffix, title, f"{title}: {said}.", caption)


def _best(rows: Sequence[Row], key: str) -> list[Row]:
    """Those that no other row beats in accuracy and `key` at once."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row[key], -row["accuracy"])):
        if not front or row["accuracy"] > front[-1]["accuracy"]:
            front.append(row)
    return front


def speedups(given: ReportInput, target: str, suffix: str = "") -> Picture | None:
    """How many times faster than the baseline, by stage, with the interval over rounds."""
    rows = [row for row in given.on(target) if row["variant"] != given.baseline and row.get("speedup_clip")]
    if not rows:
        return None
    with canvas(1.15 + 1.35 * LINE_IN * len(rows)) as (figure, axes):
        ends, said = [1.0], []
        axes.axvline(1, color=QUIET, linewidth=1, zorder=1)
        for line, row in enumerate(rows):
            for stage, shift in zip(STAGES, (-0.24, 0.0, 0.24), strict=True):
                if not row.get(f"speedup_{stage}"):
                    continue
                value, (colour, marker) = row[f"speedup_{stage}"], STAGES[stage]
                low, high = row.get(f"speedup_{stage}_ci95") or (value, value)
                axes.plot((low, high), (line + shift, line + shift), color=colour, linewidth=1.8, zorder=2)
                axes.plot(value, line + shift, marker, color=colour, markersize=4.5, zorder=3)
                ends += [low, high]
            bounds = row.get("speedup_clip_ci95")
            said.append(f"{row['variant']} {ratio_text(row['speedup_clip'])} per clip{'' if bounds is None else ' ' + interval_text(bounds)}")
        variant_axis(axes, [row["variant"] for row in rows])
        log_axis(axes, ends, ratio_text)
        axes.set_xlabel(f"{given.timing_word(target)}speed-up over {given.baseline}, log axis: right is better")
        legend(figure, [_mark(stage, *mark) for stage, mark in STAGES.items()])
        title = f"Speed-up over {given.baseline}"
        caption = "Lines: 95 % intervals; one that crosses 1× shows no difference. Without a line: too few rounds, or a narrow one."
        return finish(figure, f"speedups{suffix}", title, f"{title}: {'; '.join(said)}.", caption)


def latencies(given: ReportInput, target: str, stage: str, suffix: str = "") -> Picture | None:
    """How long the timed clips took in one stage: "extractor", "predictor" or "clip"."""
    column = f"{stage}_ns"
    frame = given.timings[given.timings["target"] == target]
    frame = frame[frame[column].notna()]  # a model in one file has no stages
    names = [row["variant"] for row in given.on(target) if (frame["variant"] == row["variant"]).any()]
    if not names:
        return None
    with canvas(0.85 + LINE_IN * len(names)) as (figure, axes):
        said, ends = [], []
        for line, name in enumerate(names):
            own = frame[frame["variant"] == name]
            p5, p25, p75, p95 = np.percentile(own[column].to_numpy(dtype=float), (5, 25, 75, 95))
            blocks = own.groupby(["round", "position"])[column].median().to_numpy(dtype=float)
            middle = float(np.median(blocks))
            colour, _ = FAMILIES[given.family(name)]
            axes.plot((p5, p95), (line, line), color=colour, linewidth=1.2, solid_capstyle="butt")
            axes.plot((p25, p75), (line, line), color=colour, linewidth=7, alpha=0.35, solid_capstyle="butt")
            # Blocks stand a little below the line, so that none hides the median.
            axes.plot(blocks, np.full(len(blocks), line + 0.27), "|", color=colour, markersize=4, markeredgewidth=1)
            axes.plot(middle, line, "o", color=colour, markersize=5)
            write_value(axes, max(p95, blocks.max()), line, time_text(middle), QUIET)
            said.append(f"{name} {time_text(middle)}")
            ends += [p5, p95, blocks.min(), blocks.max()]
        variant_axis(axes, names)
        log_axis(axes, ends, time_text, left=0.06, right=0.2)
        axes.set_xlabel(f"{given.timing_word(target)}latency, log axis: left is better")
        title = {
            "extractor": "Extractor latency: a clip's frames one by one",
            "predictor": "Predictor latency: one clip",
            "clip": "Latency per clip: extractor and predictor",
        }[stage]
        caption = "Line: 5th to 95th percentile of all timed clips; bar: middle half. Ticks: medians of single blocks; dot and number: their median."
        return finish(figure, f"latency-{stage}{suffix}", title, f"{title}, medians: {', '.join(said)}.", caption)


def sizes(given: ReportInput, target: str, suffix: str = "") -> Picture | None:
    """Stored bytes of the two parts and their sum: dots, because the lengths of stacked bars lie on a log axis."""
    rows = [row for row in given.on(target) if row.get("bytes_extractor") and row.get("bytes_predictor")]
    if not rows:
        return None
    names = [row["variant"] for row in rows]
    parts = [(row["bytes_extractor"], row["bytes_predictor"]) for row in rows]
    with canvas(1.1 + LINE_IN * len(names)) as (figure, axes):
        for line, (extractor, predictor) in enumerate(parts):
            total = extractor + predictor
            axes.plot((min(extractor, predictor), total), (line, line), color=LINE, linewidth=1.5, zorder=1)
            axes.plot(extractor, line, "s", color=STAGES["extractor"][0], markersize=7, zorder=2)
            axes.plot(predictor, line, "o", color=STAGES["predictor"][0], markersize=7, zorder=3)
            axes.plot(total, line, "|", color=INK, markersize=13, markeredgewidth=2, zorder=4)
            write_value(axes, total, line, bytes_text(total))
        variant_axis(axes, names)
        log_axis(
            axes, [size for extractor, predictor in parts for size in (extractor, predictor, extractor + predictor)], bytes_text, left=0.06, right=0.2
        )
        axes.set_xlabel("stored bytes, log axis: left is better")
        legend(figure, [*(_mark(stage, *STAGES[stage]) for stage in ("extractor", "predictor")), _mark("both", INK, "|")])
        said = "; ".join(f"{name} extractor {bytes_text(a)}, predictor {bytes_text(b)}" for name, (a, b) in zip(names, parts, strict=True))
        caption = "Bytes of the files that a target needs to run; the number is their sum."
        return finish(figure, f"sizes{suffix}", "Stored bytes by part", f"Stored bytes by part: {said}.", caption)


def memory(given: ReportInput, target: str, suffix: str = "") -> Picture | None:
    """The process's high-water mark after each step, stacked by what the step added."""
    rows = [row for row in given.on(target) if all(row.get(key) is not None for key in MEMORY_STEPS)]
    if not rows:
        return None
    with canvas(1.1 + LINE_IN * len(rows)) as (figure, axes):
        for line, row in enumerate(rows):
            before = 0.0
            for key, (_, colour) in MEMORY_STEPS.items():
                axes.barh(line, max(0.0, row[key] - before), left=before, height=0.62, color=colour, edgecolor="white", linewidth=0.6)
                before = max(before, row[key])
            write_value(axes, before, line, bytes_text(row["memory_peak_bytes"]))
        variant_axis(axes, [row["variant"] for row in rows])
        axes.set_xlim(0, 1.18 * max(row["memory_peak_bytes"] for row in rows))
        unit_ticks(axes, bytes_text)
        axes.set_xlabel("peak resident memory of a fresh process: left is better")
        legend(figure, [_mark(label, colour, "s") for label, colour in MEMORY_STEPS.values()])
        said = "; ".join(f"{row['variant']} {bytes_text(row['memory_peak_bytes'])}" for row in rows)
        caption = "What each step added to the high-water mark: starting the interpreter, importing the runtime, loading the model, running clips."
        return finish(figure, f"memory{suffix}", "Memory", f"Peak memory: {said}.", caption)


def confusion(given: ReportInput, target: str, variant: str, suffix: str = "") -> Picture | None:
    """Rows: true classes, columns: answers, each row in percent."""
    own = given.predictions[(given.predictions["variant"] == variant) & (given.predictions["target"] == target)]
    if own.empty:
        return None
    classes = [str(name) for name in given.data["classes"]]
    labels, answers = own["label"].to_numpy(dtype=int), own["predicted"].to_numpy(dtype=int)
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (labels[answers >= 0], answers[answers >= 0]), 1)
    totals = np.bincount(labels, minlength=len(classes))[:, None]
    shares = np.divide(100 * counts, totals, out=np.zeros_like(counts), where=totals > 0)
    with canvas(1.3 + 0.3 * len(classes)) as (figure, axes):
        axes.grid(visible=False)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=115, aspect="auto")
        for (line, column), share in np.ndenumerate(shares):
            if share >= 0.5:
                axes.text(column, line, f"{share:.0f}", ha="center", va="center", fontsize=8, color="white" if share > 65 else INK)
        axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(classes)), [f"{name} ({int(total)})" for name, total in zip(classes, totals[:, 0], strict=True)])
        axes.tick_params(length=0)
        axes.set_xlabel("answer")
        axes.set_ylabel(f"true class ({given.clip_word}clips)")
        recalls = ", ".join(f"{name} {shares[index, index]:.0f} %" for index, name in enumerate(classes))
        title = f"Confusion of {variant}"
        silent = int((answers < 0).sum())
        caption = "In percent of each row; empty: below 0.5 %. All seeds and folds together." + (
            f" Without an answer: {silent} clips." if silent else ""
        )
        return finish(figure, f"confusion-{variant}{suffix}", title, f"{title}. Right answers ({given.clip_word}clips): {recalls}.", caption)


def chosen(given: ReportInput, target: str, compared: Sequence[str], rungs: Sequence[Rung] = (), suffix: str = "") -> list[Picture]:
    """All pictures of a target in the page's order; `compared`: whose confusions are shown; `rungs`: of the ladder."""
    drawn = [
        ladder_figure.ladder(given, target, rungs, suffix),
        ranks.accuracy_bytes_ranks(given, target, suffix),
        accuracy_against(given, target, "stored_bytes", suffix),
        accuracy_against(given, target, "latency_clip_p50_ns", suffix),
        speedups(given, target, suffix),
        sizes(given, target, suffix),
        *(latencies(given, target, stage, suffix) for stage in ("clip", "predictor", "extractor")),
        memory(given, target, suffix),
        *(confusion(given, target, name, suffix) for name in compared),
    ]
    return [picture for picture in drawn if picture is not None]


def _mark(label: str, colour: str, marker: str) -> Line2D:
    if marker == "|":
        return Line2D([], [], marker=marker, linestyle="", color=colour, markersize=11, markeredgewidth=2, label=label)
    return Line2D([], [], marker=marker, linestyle="", color=colour, label=label)
