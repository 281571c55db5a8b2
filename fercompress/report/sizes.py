"""How small a variant is, told four ways: TT'd matrices, LSTM, model in numbers, model in bytes; each as numbers, ratio and definition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fercompress.report.cells import Cell, Notes, Table, reason
from fercompress.report.record import ReportInput, Row
from fercompress.report.tables import heads, variant_cell
from fercompress.report.units import bytes_text, count_text, ratio_text


@dataclass(frozen=True)
class Way:
    """One way to count: columns of now and of the dense twin, the ratio's column, and what is counted"""

    title: str
    now: str
    dense: str
    ratio: str
    definition: str


WAYS = (
    Way("TT'd matrices only", "params_tt", "params_tt_dense", "ratio_tt_params",
        "Numbers in the tensor-train cores, and in those same matrices when dense; everything else is left out: the largest ratio."),
    Way("Whole LSTM", "params_lstm", "params_lstm_dense", "ratio_lstm_params",
        "All numbers of the LSTM (cores or matrices, biases, scales of rounded ones), against the dense teacher's LSTM."),
    Way("Whole model, parameters", "params", "params_dense", "ratio_model_params",
        "All numbers of extractor, LSTM and classifier, however many bits each takes, against the dense teacher's: rounding gains nothing."),
    Way("Whole model, bytes", "stored_bytes", "", "ratio_model_bytes", ""),
)  # fmt: skip


def four_ways(given: ReportInput, target: str) -> Table:
    """One line per variant; each way has numbers (dense → now) and how many times fewer they are."""
    notes = Notes()
    definitions = [way.definition or _bytes_definition(given) for way in WAYS]
    titles = [Cell(way.title, marks=(notes.mark(definition),)) for way, definition in zip(WAYS, definitions, strict=True)]
    baseline = given.baseline_row(target)
    lines = [(variant_cell(given, row["variant"]), *(_cell(given, way, row, baseline, notes) for way in WAYS)) for row in given.on(target)]
    caption = "Size, counted four ways: times fewer, and dense → now"
    return Table("size", caption, (*heads("Variant"), *titles), tuple(lines), notes.texts)


def _cell(given: ReportInput, way: Way, row: Row, baseline: Row | None, notes: Notes) -> Cell:
    now = row.get(way.now)
    dense = row.get(way.dense) if way.dense else (baseline or {}).get("stored_bytes")
    ratio = row.get(way.ratio)
    if now is None or ratio is None:
        missing = way.ratio if ratio is None else way.now
        return Cell("n/a", marks=(notes.mark(f"n/a: {reason(row, missing)}"),), missing=True)
    unit = "" if way.dense else " B"
    finer = f"{count_text(now)}{unit}" if dense is None or row["variant"] == given.baseline else f"{count_text(dense)} → {count_text(now)}{unit}"
    exact = f"{way.ratio} = {ratio}, {way.now} = {now}"
    if row["variant"] == given.baseline:
        return Cell("—", finer, exact, style="self")
    return Cell(ratio_text(ratio), finer, exact)


def _bytes_definition(given: ReportInput) -> str:
    said = (
        "Bytes of the files that a target needs to run the model (graph text, scales and zero points count; the manifest does not), "
        f"against {given.baseline}'s."
    )
    checked, wrong = _files(given)
    if wrong:
        return f"{said} They differ from the lengths of the files that the manifests list: {'; '.join(wrong)}."
    if not checked:
        return said
    return (
        f"{said} They equal, to the byte, the lengths of the files on disk, listed with their sha256 in the manifests of all {checked} timed bundles."
    )


def _files(given: ReportInput) -> tuple[int, list[str]]:
    """How many timed bundles have the stored bytes that their files add up to, and those that have not."""
    stored = {row["variant"]: row.get("stored_bytes") for row in given.rows}
    checked, wrong = 0, []
    for variant, manifest in given.manifests.items():
        lengths, counted = _lengths(manifest), stored.get(variant)
        if lengths is None or counted is None:
            continue
        if lengths == counted:
            checked += 1
        else:
            wrong.append(f"{variant} {bytes_text(lengths)} on disk, {bytes_text(counted)} counted")
    return checked, wrong


def _lengths(manifest: Mapping[str, Any]) -> int | None:
    files = manifest.get("files")
    return sum(entry["bytes"] for entry in files.values()) if files else None
