"""The report's tables: a `ReportInput` in, one `Table` per question out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fercompress.report.cells import Cell, Column, Notes, Table
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import (
    bytes_text,
    count_text,
    percent_text,
    points_text,
    ratio_text,
    seconds_text,
    time_text,
    watts_text,
)


def _n_clips(row: Row) -> str:
    return f"n = {count_text(row['n_clips'])}"


def _limit(row: Row) -> str:
    limit = row.get("accuracy_drop_limit95")
    return "" if limit is None else f"not worse than {points_text(-limit)}"


def _smaller(row: Row) -> str:
    ratio = row.get("ratio_model_bytes")
    return "" if ratio is None or ratio == 1 else f"{ratio_text(ratio)} smaller"


def _p90(row: Row) -> str:
    value = row.get("latency_clip_p90_ns")
    return "p90 n/a" if value is None else f"p90 {time_text(value)}"


def _drop(share: float) -> str:
    return points_text(-share)



def _seeds(value: Any) -> str:
    return str(value) if isinstance(value, int) else str(len(value))


ACCURACY = Column("accuracy", "Accuracy", percent_text, "accuracy_ci95", percent=True, sub=_n_clips)
DROP = Column("accuracy_drop", "Against baseline, points", _drop, sub=_limit)
STORED = Column("stored_bytes", "Stored", bytes_text, sub=_smaller)
CLIP = Column("latency_clip_p50_ns", "Latency per clip", time_text, sub=_p90)
SPEEDUP_CLIP = Column("speedup_clip", "Clip speed-up", ratio_text, "speedup_clip_ci95")
SPEEDUP_EXTRACTOR = Column("speedup_extractor", "Extractor speed-up", ratio_text, "speedup_extractor_ci95")
SPEEDUP_PREDICTOR = Column("speedup_predictor", "Predictor speed-up", ratio_text, "speedup_predictor_ci95")
PEAK = Column("memory_peak_bytes", "Peak memory", bytes_text)

MAIN = (ACCURACY, DROP, STORED, CLIP, SPEEDUP_CLIP, SPEEDUP_PREDICTOR, PEAK)
SPEED = (
    Column("latency_extractor_p50_ns", "Extractor p50", time_text),
    SPEEDUP_EXTRACTOR,
    Column("latency_predictor_p50_ns", "Predictor p50", time_text),
    SPEEDUP_PREDICTOR,
    Column("latency_clip_p50_ns", "Clip p50", time_text),
    Column("latency_clip_p90_ns", "Clip p90", time_text),
    SPEEDUP_CLIP,
    Column("blocks", "Blocks", count_text),
)
SIZE = (
    Column("params", "Numbers stored", count_text),
    Column("ratio_tt_params", "TT'd matrices only", ratio_text),
    Column("ratio_lstm_params", "Whole LSTM", ratio_text),
    Column("ratio_model_params", "Whole model", ratio_text),
    Column("ratio_model_bytes", "Bytes of the whole model", ratio_text),
    Column("stored_bytes", "Stored bytes", bytes_text),
)
ACCURACIES = (
    ACCURACY,
    DROP,
    Column("validation_accuracy", "Validation", percent_text),
    Column("accuracy_last_epoch", "Last epoch", percent_text),
    Column("majority_share", "Largest class", percent_text),
    Column("chance", "Chance", percent_text),
    Column("seeds", "Seeds", _seeds),
    Column("train_epoch_s", "Training per epoch", seconds_text),
)
COSTS = (
    Column("memory_interpreter_bytes", "Interpreter", bytes_text),
    Column("memory_runtime_bytes", "+ runtime", bytes_text),
    Column("memory_model_bytes", "+ model", bytes_text),
    PEAK,
    Column("power_w", "Power", watts_text),
)


def variants(given: ReportInput, target: str, columns: Sequence[Column], name: str, caption: str) -> Table:
    """One line per variant of a target, one column per summary column."""
    notes = Notes()
    rows = [(variant_cell(given, row["variant"]), *(_comparing(column, given, row, notes) for column in columns)) for row in given.on(target)]
    return Table(name, caption, ("Variant", *(column.title for column in columns)), tuple(rows), notes.texts)


def variant_cell(given: ReportInput, variant: str) -> Cell:
    kind = "baseline" if variant == given.baseline else given.family(variant)
    return Cell(variant, sub=kind, style=f"family {kind.replace(' ', '-')}")


def _comparing(column: Column, given: ReportInput, row: Row, notes: Notes) -> Cell:
    """The baseline against itself is 1 or 0 by definition: a dash says so better than a number or a missing value would."""
    if row["variant"] == given.baseline and (column.key.startswith(("speedup_", "ratio_")) or column.key == "accuracy_drop"):
        return Cell("—", exact="the baseline itself", style="self")
    return column.cell(row, notes)


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
                _change(rows[parent], rows[name], "accuracy", lambda old, new: f"{points_text(new - old)} points"),
                _change(rows[parent], rows[name], "stored_bytes", _gain("smaller", "larger")),
                _change(rows[parent], rows[name], "latency_predictor_p50_ns", _gain("faster", "slower")),
                _change(rows[parent], rows[name], "latency_extractor_p50_ns", _gain("faster", "slower")),
                _change(rows[parent], rows[name], "latency_clip_p50_ns", _gain("faster", "slower")),
            )
        )
    heads = ("From → to", "Step added", "Accuracy", "Stored", "Predictor", "Extractor", "Clip")
    return Table("steps", "What each step bought: ratios of the two variants' figures, without intervals", heads, tuple(lines))


def _canonical(step: Mapping[str, Any]) -> str:
    return json.dumps(step, sort_keys=True, default=str)


def _change(old: Row, new: Row, key: str, show: Callable[[float, float], str]) -> Cell:
    if old.get(key) is None or new.get(key) is None:
        return Cell("n/a", missing=True)
    return Cell(show(old[key], new[key]), exact=f"{key}: {old[key]} → {new[key]}")


def _gain(better: str, worse: str) -> Callable[[float, float], str]:
    def show(old: float, new: float) -> str:
        ratio = old / new
        if 0.98 < ratio < 1 / 0.98:
            return "the same"
        return f"{ratio_text(max(ratio, 1 / ratio))} {better if ratio > 1 else worse}"

    return show


def step_text(step: Mapping[str, Any]) -> str:
    """One step of a recipe as words: "tensor-train rank 4"."""
    shown = [f"{key.replace('_', ' ')} {value}" for key, value in step.items() if key != "step" and value is not None]
    return " ".join([str(step["step"]), ", ".join(shown)]).strip()


def recipes(given: ReportInput) -> Table:
    rows = []
    for name, manifest in given.manifests.items():
        steps_ = "; ".join(step_text(step) for step in given.recipe(name)) or "none: as the teacher was trained"
        versions = ", ".join(f"{library} {version}" for library, version in (manifest.get("made_with") or {}).items())
        rows.append(
            (
                variant_cell(given, name),
                Cell(steps_, style="words"),
                Cell(str(manifest.get("way") or "not recorded"), style="words"),
                Cell(f"{manifest.get('engine', '?')}, opset {manifest.get('opset', '?')}", sub=versions, style="words"),
            )
        )
    return Table("recipes", "How each variant was made", ("Variant", "Recipe", "Way", "Engine"), tuple(rows), numeric=False)


def layers(given: ReportInput, variant: str) -> Table | None:
    """The manifest's layers as they are: one line per layer, one column per key that any layer has."""
    entries: list[Mapping[str, Any]] = list(given.manifests[variant].get("layers") or ())
    if not entries:
        return None
    keys = list(dict.fromkeys(key for entry in entries for key in entry))
    rows = tuple(tuple(Cell(_plain(entry.get(key))) for key in keys) for entry in entries)
    return Table(f"layers-{variant}", f"Layers of {variant}", tuple(key.replace("_", " ") for key in keys), rows)


def _plain(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count_text(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "×".join(map(str, value))
    return str(value)


def provenance(given: ReportInput) -> Table:
    """Where the numbers come from: data, target, settings."""
    data = given.data
    parts = ", ".join(f"{name} {count_text(count)}" for name, count in data["parts"].items())
    facts: list[tuple[str, str]] = [
        ("Study", given.study),
        ("Made", given.created_utc),
        ("Data", f"{data['name']}{' (simulated)' if data['simulated'] else ''}: {parts} clips; {len(data['left_out'])} left out"),
        ("Data fingerprint", str(data["fingerprint"])),
        ("Classes", ", ".join(map(str, data["classes"]))),
        *((str(key).replace("_", " ").capitalize(), _plain(value)) for key, value in given.settings.items()),
        *((f"{target}: {str(key).replace('_', ' ')}", _plain(value)) for target, known in given.host.items() for key, value in known.items()),
    ]
    return Table("provenance", "Where these numbers come from", ("Fact", "Value"), tuple((Cell(key), Cell(value, style="words")) for key, value in facts), numeric=False)


def faults(given: ReportInput) -> Table | None:
    """Blocks that failed or were left out: a result, not a hole."""
    if not given.faults:
        return None
    keys = ("variant", "target", "pass", "status", "reason")
    rows = tuple(tuple(Cell(str(fault.get(key, "")), style="words") for key in keys) for fault in given.faults)
    return Table("faults", "Blocks that failed or were excluded", tuple(key.capitalize() for key in keys), rows, numeric=False)


def left_out(given: ReportInput) -> Table | None:
    if not given.data["left_out"]:
        return None
    rows = tuple((Cell(str(clip["clip"])), Cell(str(clip["reason"]), style="words")) for clip in given.data["left_out"])
    return Table("left-out", "Clips that were left out", ("Clip", "Reason"), rows, numeric=False)
