"""Files that a run writes: the code's own schemas in, Markdown tables out."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from fercompress.results import journal, summary

UNITS = {"_ns": "ns", "_bytes": "bytes", "_s": "s", "_w": "W", "_j": "J"}

# Columns that several tables of the journal share, then those of one. A column that has no line here is an error when the page is made.
SHARED = {
    "id": "number of the row, ascending: where a thing is recorded again, its newest row counts",
    "recorded": "when: UTC, ISO 8601, milliseconds",
    "crc32": "of the row's other values: a row that rotted is refused",
    "variant": "name of the variant in the study",
    "seed": "of the training",
    "fold": "of the data set",
}
OWN = {
    "studies": {"study": "the whole study as it was run, JSON"},
    "plans": {"study": "`id` of the study", "keys": "which blocks it consists of, JSON: for each its columns `variant` to `settings_sha256`"},
    "clips": {"facts": "the clips without their pictures, JSON: classes, folds, labels and people of the test clips, what was left out and why"},
    "bundles": {
        "engine": "that is to run it", "sha256": "of its manifest.json; empty where the last attempt made none",
        "timed": "1: latency, memory and power are measured on this one",
        "size": "its parameters and bytes, JSON", "manifest": "a copy of manifest.json",
    },
    "trainings": {"facts": "the training epoch by epoch, JSON: loss, validation accuracy, seconds, which epoch was kept"},
    "blocks": {
        "target": "where it ran", "pass": "accuracy, latency, memory or power", "round": "from 0; 0 for passes without rounds",
        "position": "place within the round, its mirrored half included", "settings_sha256": "of all else that its numbers depend on",
        "bundle_sha256": "what ran", "status": "ok, failed or excluded", "reason": "why it is not ok, or why it has no number",
        "extractor_ns": "per timed clip, all its frames together: int64, little-endian, ns", "predictor_ns": "per timed clip: int64, ns",
        "clip_ns": "per timed clip, from first frame to answer: int64, ns", "frame_ns": "per frame, clip after clip: int64, ns",
        "logits": "float32, little-endian, row after row", "logits_shape": "clips and classes, JSON", "clip_index": "which test clips: int64",
        "memory_bytes": "highest memory of the process after each step, JSON", "power": "watts and joules, JSON",
        "facts": "the machine before and after, JSON: versions, clocks, temperatures, load, start and end",
    },
}  # fmt: skip

MANIFEST = {
    "schema": "number of this format",
    "variant": "name of the variant",
    "engine": "that is to run it: one engine, or two, `a+b`, the extractor's and the predictor's",
    "graph_key": "equal for bundles that differ in their numbers alone",
    "recipe": "the steps that made it, as in the study",
    "way": "how it came about, in words",
    "frames": "per clip",
    "size_px": "height and width of a frame",
    "classes": "names, in the order of the answers",
    "preprocess": "`mean` and `std` of pixel / 255; `difference`: a second channel, the difference to the clip's first frame",
    "size": "parameters and bytes, each beside the dense model's",
    "files": "sha256 and bytes of each file",
    "layers": "how each tensor train is stored and executed, with the estimated time of every other way",
    "checks": "what was checked of the networks before they were written: nothing was pruned",
    "agreement": "largest differences between PyTorch and the engine, on real clips",
    "opset": "of the ONNX files",
    "made_with": "versions of the libraries",
    "extractor": "file, engine, name, shape and dtype of input and output",
    "predictor": "the same",
}
IMPORTED = {
    "foreign": "true",
    "one_file": "true where one file does both stages",
    "calls": "of the extractor for one clip: one, or one for each frame",
}
SEAL = {
    "schema": "number of this format",
    "made_with": "versions of the libraries that computed and drew",
    "journal": "sha256 of the tables' definition, and of every row",
    "files": "sha256 of every file of the report and of every bundle",
    "digest": "of all of the above: tells an edit of the seal itself",
}
BASELINE = {
    "schema": "number of this format",
    "target": "where it was measured: one file for each target",
    "entries": "`newest`, the last accepted state, and `release`, the pinned one",
    "sha256": "of all of the above: tells an edit by hand",
}
ENTRY = {
    "owner": "who answers for it",
    "reason": "why it was accepted",
    "created": "date, UTC",
    "expires": "date, UTC: it is not believed after it",
    "name": "run and variant",
    "bundles": "sha256 of each",
    "stored_bytes": "files that a target needs, bytes",
    "answers": "label and answer for every test clip, with the clip's person or sentence",
    "rounds": "per stage and round the time, ns",
    "tails": "per round the 90th percentile of a clip's time, ns",
    "memory_bytes": "peak of each memory block",
    "energy_clip_j": "joules per clip of each power block",
    "conditions": "what must be alike at the next comparison: machine, runtime, clocks, temperature, clips, settings, folds",
    "doubts": "per metric, why its number is weaker than it looks",
}
RUN_FOLDER = {
    "index.html": "the report: one file, works offline",
    "report.md": "the same as Markdown",
    "summary.json": "one row per variant and target; `summary.csv` has the same columns",
    "summary.csv": "an interval is two columns there, `_lo` and `_hi`",
    "figures": "the report's figures, for print and for the page",
    "results.sqlite": "the journal: everything that was measured, append-only",
    "bundles": "`<variant>-<sha256>/`: what was measured with",
    "seal.json": "sha256 of all of the above; not there while a run is not finished",
    "search.jsonl": "of `fercompress search`: what it needs to go on, one line for each event",
    "search.json": "of `fercompress search`: every proposal and what became of it",
    "work": "clips, weights, features: may be deleted, is made again",
}


def two_columns(rows: Mapping[str, str], head: str = "key") -> str:
    return "\n".join([f"| {head} | |", "|---|---|", *(f"| `{name}` | {words} |" for name, words in rows.items()), ""])


def unit(column: str) -> str:
    """Of a summary's column, from its name."""
    bare = column.removesuffix("_ci95")
    return next((unit for suffix, unit in UNITS.items() if bare.endswith(suffix)), "")


def summary_columns() -> str:
    """Every column of summary.json's rows: name, unit, type and meaning, from its JSON Schema."""
    schema = summary.json_schema()
    lines = ["| column | unit | value | |", "|---|---|---|---|"]
    for name, told in schema["$defs"]["row"]["properties"].items():
        lines.append(f"| `{name}` | {unit(name)} | {_kind(told, schema)} | {_meaning(told)} |")
    return "\n".join(lines) + "\n"


def _kind(told: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in told:
        return "interval" if told["$ref"].endswith("interval") else "table"
    if "anyOf" in told:
        return " or ".join(_kind(each, schema) for each in told["anyOf"])
    if "enum" in told:
        return " or ".join("null" if value is None else f"`{value}`" for value in told["enum"])
    kinds = told.get("type", "value")
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


def _meaning(told: Mapping[str, Any]) -> str:
    found = [each["description"] for each in (told, *told.get("anyOf", ())) if "description" in each]
    return str(found[0] if found else "").replace("|", "\\|")


def journal_tables() -> str:
    """Every table and column of results.sqlite, as SQLite itself tells them."""
    with sqlite3.connect(":memory:") as db:
        for rung in journal._LADDER:
            db.executescript(rung)
        parts = []
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid"):
            lines = [f"### `{table}`", "", "| column | type | |", "|---|---|---|"]
            for _, column, kind, *_ in db.execute(f"PRAGMA table_info({table})"):
                lines.append(f"| `{column}` | {kind.lower()} | {OWN[table].get(column) or SHARED[column]} |")
            parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)
