"""Targets side by side: what the same files do on each of them, and whether they answer alike."""

from __future__ import annotations

from fercompress.report.cells import Cell, Column, Notes, Table
from fercompress.report.flips import PLACE
from fercompress.report.record import ReportInput, Row
from fercompress.report.tables import ACCURACY, CLIP, PEAK, SPEEDUP_CLIP, variant_cell
from fercompress.report.units import count_text, percent_text, ratio_text

SHOWN = (ACCURACY, CLIP, SPEEDUP_CLIP, PEAK)
ALIKE = "Of the same seeds and test clips; another engine, or other arithmetic, may answer otherwise where two classes are nearly even."
TIMES = "Medians of two machines, not paired: no interval."


def targets(given: ReportInput) -> Table | None:
    """One line per variant; per quantity one column per target, then answers and times beside the first target. None where there is one target"""
    if len(given.targets) < 2:
        return None
    notes = Notes()
    first, *others = given.targets
    rows = {(row["variant"], row["target"]): row for row in given.rows}
    names = [name for name in given.recipes if any((name, target) in rows for target in given.targets)]
    columns: list[tuple[Cell, list[Cell]]] = []
    for other in others:
        alike = notes.mark(ALIKE)
        columns.append((Cell(f"Same answers: {other} as {first}", marks=(alike,)), [same_answers(given, name, first, other) for name in names]))
        times = notes.mark(TIMES)
        pairs = [(rows.get((name, first)), rows.get((name, other))) for name in names]
        columns.append((Cell(f"Time per clip: {other} over {first}", marks=(times,)), [_times(*pair) for pair in pairs]))
    for column in SHOWN:
        for target in given.targets:
            title = f"{column.title}: {target}"
            cells = [_shown(given, column, rows.get((name, target)), notes) for name in names]
            columns.append(notes.shared(title, cells))
    lines = zip((variant_cell(given, name) for name in names), *(cells for _, cells in columns), strict=True)
    return Table("targets", "What the same files do on each target", (Cell("Variant"), *(head for head, _ in columns)), tuple(lines), notes.texts)


def _shown(given: ReportInput, column: Column, row: Row | None, notes: Notes) -> Cell:
    return Cell("n/a", exact="not measured on this target", missing=True) if row is None else column.cell(given, row, notes)


def same_answers(given: ReportInput, variant: str, first: str, other: str) -> Cell:
    """The share of clips on which both targets answered with the same class."""
    here, there = given.answers.get((first, variant)), given.answers.get((other, variant))
    if here is None or there is None:
        return Cell("n/a", exact="not asked on both targets", missing=True)
    both = here.merge(there, on=PLACE, suffixes=("", "_other"))
    if both.empty:
        return Cell("n/a", exact="no seed and clip in common", missing=True)
    alike = int((both["predicted"] == both["predicted_other"]).sum())
    return Cell(percent_text(alike / len(both)), f"{count_text(len(both) - alike)} of {count_text(len(both))} differ", exact=f"{alike / len(both)}")


def _times(here: Row | None, there: Row | None) -> Cell:
    before, now = ((row or {}).get("latency_clip_p50_ns") for row in (here, there))
    if not before or not now:
        return Cell("n/a", exact="not timed on both targets", missing=True)
    return Cell(ratio_text(now / before), exact=f"{now / before}")
