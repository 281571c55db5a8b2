"""The report's tables: a `ReportInput` in, one `Table` per question out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fercompress.report.cells import Cell, Column, Notes, Table, reason
from fercompress.report.pairs import Change, accuracy_change, latency_interval, speedup
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import (
    bytes_text,
    count_text,
    interval_text,
    joules_text,
    percent_text,
    points_text,
    ratio_text,
    time_interval_text,
    time_text,
    watts_text,
)


def _n_clips(_: ReportInput, row: Row) -> str:
    return f"n = {count_text(row['n_clips'])}"


def _spread(_: ReportInput, row: Row) -> str:
    return "" if row.get("accuracy_fold_sd") is None else f"SD {100 * row['accuracy_fold_sd']:.1f} points"


def _limit(_: ReportInput, row: Row) -> str:
    limit = row.get("accuracy_drop_limit95")
    return "" if limit is None else f"not worse than {_drop(limit)}"


def _smaller(_: ReportInput, row: Row) -> str:
    ratio = row.get("ratio_model_bytes")
    return "" if ratio is None or ratio == 1 else f"{ratio_text(ratio)} smaller"


def _latency(stage: str) -> Callable[[ReportInput, Row], str]:
    """The interval over rounds and the number of blocks."""

    def sub(given: ReportInput, row: Row) -> str:
        return f"{_interval(stage)(given, row)}, {count_text(row['blocks'])} blocks"

    return sub


def _interval(stage: str) -> Callable[[ReportInput, Row], str]:
    def sub(given: ReportInput, row: Row) -> str:
        bounds = latency_interval(given, row["target"], row["variant"], stage)
        return "no interval" if bounds is None else time_interval_text(bounds)

    return sub


def _timed_clips(_: ReportInput, row: Row) -> str:
    return "" if row.get("timed_clips") is None else f"n = {count_text(row['timed_clips'])}"


def _meter(_: ReportInput, row: Row) -> str:
    """The source and the side; the row's `power_source` names the sensor too."""
    return str(row.get("power_source", "")).partition(":")[0]


def _net(key: str, text: Callable[[float], str]) -> Callable[[ReportInput, Row], str]:
    def sub(_: ReportInput, row: Row) -> str:
        return "" if row.get(key) is None else f"net {text(row[key])}"

    return sub


def _drop(points: float) -> str:
    """accuracy_drop is in points, positive where accuracy was lost; shown as a change."""
    return points_text(-points / 100)


ACCURACY = Column("accuracy", "Accuracy", percent_text, "accuracy_ci95", percent=True, sub=_n_clips)
DROP = Column("accuracy_drop", "Against baseline, points", _drop, sub=_limit)
STORED = Column("stored_bytes", "Stored", bytes_text, sub=_smaller)
CLIP = Column("latency_clip_p50_ns", "Latency per clip", time_text, sub=_latency("clip"))
SPEEDUP_CLIP = Column("speedup_clip", "Clip speed-up", ratio_text, "speedup_clip_ci95")
SPEEDUP_EXTRACTOR = Column("speedup_extractor", "Extractor speed-up", ratio_text, "speedup_extractor_ci95")
SPEEDUP_PREDICTOR = Column("speedup_predictor", "Predictor speed-up", ratio_text, "speedup_predictor_ci95")
PEAK = Column("memory_peak_bytes", "Peak memory", bytes_text)

MAIN = (ACCURACY, DROP, STORED, CLIP, SPEEDUP_CLIP, SPEEDUP_PREDICTOR, PEAK)
SPEED = (
    Column("latency_extractor_p50_ns", "Extractor p50", time_text, sub=_interval("extractor")),
    SPEEDUP_EXTRACTOR,
    Column("latency_predictor_p50_ns", "Predictor p50", time_text, sub=_interval("predictor")),
    SPEEDUP_PREDICTOR,
    Column("latency_clip_p50_ns", "Clip p50", time_text, sub=_latency("clip")),
    Column("latency_clip_p90_ns", "Clip p90", time_text, sub=_timed_clips),
    SPEEDUP_CLIP,
)
ACCURACIES = (
    ACCURACY,
    DROP,
    Column("unweighted_recall", "Mean over classes (UAR)", percent_text),
    Column("accuracy_fold_mean", "Mean of folds", percent_text, sub=_spread),
    Column("accuracy_last_epoch", "Last epoch, in torch", percent_text),
    Column("majority_share", "Largest class", percent_text),
    Column("chance", "Chance", percent_text),
    Column("seeds", "Seeds", count_text),
)
COSTS = (
    Column("memory_interpreter_bytes", "Interpreter", bytes_text),
    Column("memory_runtime_bytes", "+ runtime", bytes_text),
    Column("memory_model_bytes", "+ model", bytes_text),
    PEAK,
    Column("memory_peak_anonymous_bytes", "Anonymous pages", bytes_text),
    Column("memory_peak_file_bytes", "File-backed pages", bytes_text),
    Column("power_w", "Power", watts_text),
)
NPU_FRAME = Column("npu_frame_ns", "NPU alone, one frame", time_text)
NPU_MEMORY = Column("npu_memory_peak_bytes", "NPU memory", bytes_text)
POWER = (
    Column("power_w", "Power while it runs", watts_text, sub=_meter),
    Column("power_idle_w", "Idle", watts_text),
    Column("power_net_w", "Net", watts_text),
    Column("energy_inference_j", "Energy per inference", joules_text, sub=_net("energy_inference_net_j", joules_text)),
    Column("energy_clip_j", "Energy per clip", joules_text, sub=_net("energy_clip_net_j", joules_text)),
)


def variants(given: ReportInput, target: str, columns: Sequence[Column], name: str, caption: str) -> Table:
    """One line per variant of a target, one column per summary column."""
    notes = Notes()
    rows = given.on(target)
    filled = [notes.shared(column.title, [_comparing(column, given, row, notes) for row in rows]) for column in columns]
    names = [variant_cell(given, row["variant"], with_family=name == "main", with_engine=name in ("main", "speed")) for row in rows]
    return Table(
        name, caption, (Cell("Variant"), *(head for head, _ in filled)), tuple(zip(names, *(cells for _, cells in filled), strict=True)), notes.texts
    )


def variant_cell(given: ReportInput, variant: str, with_family: bool = False, with_engine: bool = False) -> Cell:
    """with_engine: where the study has several"""
    kind = given.family(variant)
    sub = ["baseline" if variant == given.baseline else kind] if with_family else []
    sub += [given.engines[variant]] if with_engine and variant in given.engines else []
    return Cell(variant, sub=", ".join(sub), style=f"family {kind.replace(' ', '-')}")


def with_npu(given: ReportInput, target: str, columns: Sequence[Column], *more: Column) -> tuple[Column, ...]:
    """The columns, and those of an NPU where a variant runs on one there."""
    return (*columns, *(more if any(given.on_npu(row["variant"]) and row.get("engine") for row in given.on(target)) else ()))


def _comparing(column: Column, given: ReportInput, row: Row, notes: Notes) -> Cell:
    """The baseline against itself is 1 or 0 by definition: a dash says so better than a number or a missing value would."""
    if row["variant"] == given.baseline and (column.key.startswith(("speedup_", "ratio_")) or column.key == "accuracy_drop"):
        return Cell("—", exact="the baseline itself", style="self")
    return column.cell(given, row, notes)


def steps(given: ReportInput, target: str) -> Table:
    """What each added step bought: every variant beside the largest variant that its recipe extends."""
    rows = {row["variant"]: row for row in given.on(target)}
    recipes = {name: [_canonical(step) for step in given.recipe(name)] for name in rows}
    lines = []
    for name, recipe in recipes.items():
        parents = [other for other, held in recipes.items() if len(held) < len(recipe) and all(step in recipe for step in held)]
        if not parents:
            continue
        parent = max(parents, key=lambda other: len(recipes[other]))
        added = [step for step in given.recipe(name) if _canonical(step) not in recipes[parent]]
        lines.append(
            (
                Cell(f"{parent} → {name}"),
                Cell("; ".join(step_text(step) for step in added), style="words"),
                points_cell(accuracy_change(given, target, parent, name)),
                smaller_cell(rows[parent], rows[name]),
                *(faster_cell(speedup(given, target, parent, name, stage)) for stage in ("predictor", "extractor", "clip")),
            )
        )
    titles = ("From → to", "Step added", "Accuracy, points", "Stored", "Predictor", "Extractor", "Clip")
    caption = "What each step bought: the variant against the one that it extends, paired, with 95 % intervals"
    return Table("steps", caption, heads(*titles), tuple(lines))


def heads(*titles: str) -> tuple[Cell, ...]:
    return tuple(map(Cell, titles))


def _canonical(step: Mapping[str, Any]) -> str:
    return json.dumps(step, sort_keys=True, default=str)


def points_cell(change: Change | None, why: str = "no clips of both variants on this target") -> Cell:
    if change is None:
        return Cell("n/a", exact=why, missing=True)
    bounds = "no interval" if change.interval is None else interval_text(change.interval, percent=True)
    return Cell(points_text(change.value), bounds, exact=f"{100 * change.value} points", style="" if change.sign else "self")


def smaller_cell(old: Row, new: Row) -> Cell:
    if not old.get("stored_bytes") or not new.get("stored_bytes"):
        return Cell("n/a", exact=reason(new, "stored_bytes"), missing=True)
    ratio = old["stored_bytes"] / new["stored_bytes"]
    word = "smaller" if ratio >= 1 else "larger"
    text = "the same size" if ratio == 1 else f"{ratio_text(max(ratio, 1 / ratio))} {word}"
    return Cell(
        text, f"{count_text(old['stored_bytes'])} → {count_text(new['stored_bytes'])} B", f"{old['stored_bytes']} → {new['stored_bytes']} bytes"
    )


def faster_cell(change: Change | None, why: str = "no rounds with both variants on this target") -> Cell:
    """How many times faster, below 1 where slower."""
    if change is None:
        return Cell("n/a", exact=why, missing=True)
    bounds = "no interval" if change.interval is None else interval_text(change.interval)
    return Cell(ratio_text(change.value), bounds, exact=f"{change.value}", style="" if change.sign else "self")


def step_text(step: Mapping[str, Any]) -> str:
    """One step of a recipe as words: "tensor-train: rank 4, part both"."""
    if step.get("npu"):  # bits and the rest are not for it
        step = {key: step[key] for key in ("step", "part", "npu", "calibration_clips") if key != "calibration_clips" or step["npu"] == "u8"}
    first = ("rank", "hidden_rank", "part")  # what tells two variants apart, before the rest
    settings = sorted(
        (key for key in step if key != "step" and step[key] is not None), key=lambda key: first.index(key) if key in first else len(first)
    )
    shown = [f"{key.replace('_', ' ')} {value_text(step[key])}" for key in settings]
    return f"{step['step']}: {', '.join(shown)}"


def value_text(value: Any) -> str:
    """A setting of a step; one that is a table of its own by the keys that are set: "relative error 0.1"."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {inner}" for key, inner in value.items() if inner is not None)
    return str(value)
