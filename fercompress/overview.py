"""A run at a glance: the content of summary.json in; the few columns that fit a terminal, and what a reader must know beside them, out."""

from __future__ import annotations

from typing import Any

from fercompress.records import LEAKY, Doubt
from fercompress.report import paper


def caption(summary: dict[str, Any]) -> str:
    """What stands below the table."""
    data = summary["data"] or {"name": "", "protocol": None}
    lines = ["n/a: the reason stands in the report; [low, high] are 95 % intervals"]
    if data["protocol"] == LEAKY:
        lines.append("leaky-image: folds cut without regard to people; tested faces are trained on too")
    if published := paper.sentence(data["name"], data["protocol"]):
        lines.append(published)
    return "\n".join(lines)


def rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One row of text per variant and target; the engine is a column where there are several."""
    several = len({row["engine"] for row in summary["rows"] if row["engine"]}) > 1
    return [_row(row, several) for row in summary["rows"]]


def _row(row: dict[str, Any], with_engine: bool) -> dict[str, Any]:
    def interval(key: str, scale: float, digits: int, suffix: str = "") -> str:
        if row[key] is None:
            return "n/a"
        bounds = row[f"{key}_ci95"]
        around = "" if bounds is None else f" [{bounds[0] * scale:.{digits}f}, {bounds[1] * scale:.{digits}f}]"
        return f"{row[key] * scale:.{digits}f}{around}{suffix}"

    def number(key: str, scale: float, digits: int, unit: str) -> str:
        return "n/a" if row[key] is None else f"{row[key] * scale:,.{digits}f} {unit}"

    return {
        "variant": row["variant"],
        **({"engine": row["engine"] or "n/a"} if with_engine else {}),
        "target": row["target"] + (" (times simulated)" if str(Doubt.SIMULATED_TARGET) in (row["doubts"] or ()) else ""),
        "accuracy %": interval("accuracy", 100, 1) + (" leaky-image" if str(Doubt.LEAKY_FOLDS) in (row["doubts"] or ()) else ""),
        "n": f"{row['n_clips']:,}" if row["n_clips"] is not None else "n/a",
        "stored": number("stored_bytes", 1e-3, 1, "kB"),
        "smaller": "n/a" if row["ratio_model_bytes"] is None else f"{row['ratio_model_bytes']:.1f}x",
        "clip p50": number("latency_clip_p50_ns", 1e-6, 2, "ms"),
        "clip faster": interval("speedup_clip", 1, 2, "x"),
        "predictor faster": interval("speedup_predictor", 1, 2, "x"),
        "peak memory": number("memory_peak_bytes", 1e-6, 1, "MB"),
        "power": "n/a" if row["power_w"] is None else f"{row['power_w']:.2f} W",
    }
