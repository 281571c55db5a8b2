"""What the page needs to answer a budget by itself: a `ReportInput` in, figures and texts of every variant out, as budget.js takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fercompress.choice import unknown
from fercompress.report.leak import accuracy_text
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import bytes_text, interval_text, time_text


@dataclass(frozen=True)
class Column:
    """What a person may limit; scale: of its unit in the column's own; drop: how far it may be below the baseline's, else the most that is allowed"""

    key: str
    title: str
    unit: str
    scale: float
    drop: bool = False


COLUMNS = (
    Column("stored_bytes", "stored", "kB", 1e3),
    Column("latency_clip_p50_ns", "latency per clip", "ms", 1e6),
    Column("latency_clip_p90_ns", "latency of nine clips in ten", "ms", 1e6),
    Column("memory_peak_bytes", "peak memory", "MB", 1e6),
    Column("energy_clip_j", "energy per clip", "mJ", 1e-3),
    Column("validation_accuracy", "loss of validation accuracy", "points", 0.01, drop=True),
)


def data(given: ReportInput) -> dict[str, Any]:
    """JSON-able. Columns that nobody measured are left out."""
    columns = [column for column in COLUMNS if any(row.get(column.key) is not None for row in given.rows)]
    return {
        "baseline": given.baseline,
        "columns": [{"key": each.key, "title": each.title, "unit": each.unit, "scale": each.scale, "drop": each.drop} for each in columns],
        "rows": [_row(row, columns) for row in given.rows],
    }


def _row(row: Row, columns: list[Column]) -> dict[str, Any]:
    keys = {"validation_accuracy", "stored_bytes", "latency_clip_p50_ns", *(column.key for column in columns)}
    runs = row.get("engine", "not told") is not None
    return {
        "variant": row["variant"], "target": row["target"], "runs": runs, "figures": {key: row.get(key) for key in sorted(keys)},
        "text": _text(row), "tested": _tested(row), "why": "n/a" if runs else unknown(row, "engine"),
    }  # fmt: skip


def _text(row: Row) -> str:
    said = [f"{accuracy_text(row, 'validation_accuracy')} of validation clips"] if row.get("validation_accuracy") else []
    shows = (("stored_bytes", bytes_text), ("latency_clip_p50_ns", time_text))
    return ", ".join([*said, *(show(row[key]) for key, show in shows if row.get(key))])


def _tested(row: Row) -> str:
    if row.get("accuracy") is None:
        return f"n/a ({unknown(row, 'accuracy')})"
    bounds = row.get("accuracy_ci95")
    return f"{accuracy_text(row)}{'' if bounds is None else f' {interval_text(bounds, percent=True)}'} of {row['n_clips']:,} test clips"
