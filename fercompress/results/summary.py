"""summary.json and summary.csv: one row per variant and target, recomputed from the journal; equal journals give equal bytes.

`summary.schema.json` beside this file says what each column is; a null has its reason in the row's `reasons`.
"""

from __future__ import annotations

import csv
import importlib.resources
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fercompress.records import Doubt
from fercompress.results import columns, journal, pareto, training
from fercompress.results.accuracy import accuracy
from fercompress.results.classes import classes
from fercompress.results.latency import latency
from fercompress.results.row import Row
from fercompress.results.store import Store
from fercompress.results.tables import Tables, read_tables
from fercompress.results.tails import tails

# History:
#   1  one row per variant and target
#   2  `way` is a short name, its sentence is `way_text`; rank and bits, dense counts, epochs and durations of the training
#   3  idle and net power, joules per inference and per clip, what the meter reads
#   4  the engine of each row, time and memory that an NPU tells of itself; accuracy by fold, its mean and spread; unweighted recall; the best epoch
#      beside the last; the protocol, and whose faces it shows twice; macro-F1 and calibration error; the 95th
#      percentile of a clip's latency with its interval; how likely a variant is on the front of accuracy and bytes, or latency
SCHEMA = 4


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of summary.json; the order of its columns is theirs."""
    text = importlib.resources.files("fercompress.results").joinpath("summary.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def numeric_columns() -> tuple[str, ...]:
    """The columns of a row that hold one number."""
    columns = json_schema()["$defs"]["row"]["properties"].items()
    kinds = {name: column.get("type", ()) for name, column in columns}
    return tuple(name for name, kind in kinds.items() if {"number", "integer"} & set([kind] if isinstance(kind, str) else kind))


def write_summary(store: Store, folder: Path) -> dict[str, Any]:
    """Write summary.json and summary.csv into an existing folder; returns what summary.json holds. raises: ResultsError, DiskFullError"""
    made = document(read_tables(store))
    write_whole(folder / "summary.json", json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_whole(folder / "summary.csv", _csv(made["rows"]))
    return made


def document(found: Tables) -> dict[str, Any]:
    clips = found.clips
    data = clips and {
        "name": clips.name,
        "fingerprint": clips.fingerprint,
        "simulated": clips.simulated,
        "protocol": found.protocol,
        "classes": list(clips.classes),
        "left_out": len(clips.left_out),
        "folds": [
            {"name": f.name, "train": f.train_clips, "validation": f.validation_clips, "test": len(set(f.clip_ids)), "shared": f.shared_clips}
            for f in clips.folds
        ],
    }
    return {
        "schema": SCHEMA,
        "study": found.study["name"],
        "title": found.study.get("title", ""),
        "created": found.created,
        "baseline": found.study["baseline"],
        "data": data,
        "rows": rows(found),
        "config": dict(found.study),
    }


def rows(found: Tables) -> list[dict[str, Any]]:
    """In the study's order of targets and variants."""
    order = list(json_schema()["$defs"]["row"]["properties"])
    fronts = {target: pareto.fronts(found, target) for target in found.study["targets"]}
    return [_row(found, variant["name"], target, fronts[target], order) for target in found.study["targets"] for variant in found.study["variants"]]


def _row(found: Tables, variant: str, target: str, front: pareto.Front, order: list[str]) -> dict[str, Any]:
    row = Row(found, variant, target)
    for fill in (
        columns.engine, columns.size, accuracy, classes, latency, tails, columns.memory, columns.npu, columns.power,
        training.recipe, training.training,
    ):  # fmt: skip
        fill(row)
    pareto.fill(row, front)
    if found.facts.get(target, {}).get("simulated"):
        row.doubts.add(Doubt.SIMULATED_TARGET)
    row.put(variant=variant, target=target, doubts=[str(doubt) for doubt in Doubt if doubt in row.doubts])
    row.put(reasons={column: row.reasons[column] for column in order if column in row.reasons})
    return {column: row.values[column] for column in order}


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """One scalar per column: intervals as _lo and _hi, doubts and reasons as text."""
    cells: dict[str, Any] = {}
    for column, value in row.items():
        if column.endswith("_ci95"):
            cells[f"{column}_lo"], cells[f"{column}_hi"] = value or (None, None)
        elif column == "accuracy_folds":
            cells[column] = "; ".join("" if share is None else f"{share:.6g}" for share in value or ())
        elif column == "doubts":
            cells[column] = "; ".join(value)
        elif column == "reasons":
            cells[column] = "; ".join(f"{name}: {reason}" for name, reason in value.items())
        else:
            cells[column] = value
    return cells


def _csv(rows_: list[dict[str, Any]]) -> str:
    lines = [flat(row) for row in rows_]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of one. raises: ResultsError, DiskFullError"""
    half = path.with_name(f".{path.name}.part")
    with journal.named_errors(path):
        try:
            with half.open("w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            half.replace(path)
        except OSError:
            half.unlink(missing_ok=True)
            raise
