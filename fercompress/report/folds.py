"""Every fold by itself: one line per fold and one column per variant, then the folds' mean and the pooled accuracy, which is the report's figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fercompress.report.cells import Cell, Table, reason
from fercompress.report.leak import accuracy_text, marked
from fercompress.report.record import ReportInput, Row
from fercompress.report.tables import variant_cell
from fercompress.report.units import count_text, interval_text, percent_text

NOTES = (
    "Seeds pooled within a fold. A fold has few clips: single lines say little.",
    "Each fold counts alike, as many papers report it; standard deviation over folds. Folds share most of their training clips, so it is no standard "
    "error of the mean, and no interval is made of it.",
    "Each clip counts alike; 95 % interval for new people (and training seeds). The figure that the rest of this page uses.",
)


def table(given: ReportInput, target: str) -> Table:
    """No lines where there is one fold."""
    rows = [row for row in given.on(target) if row.get("accuracy_folds")]
    known: list[Mapping[str, Any]] = list(given.data["folds"])
    lines: list[tuple[Cell, ...]] = []
    if len(known) > 1 and rows:
        lines = [(Cell(str(fold["name"]), _tested(fold)), *(_of_fold(row, at) for row in rows)) for at, fold in enumerate(known)]
        lines.append((Cell("Mean of folds", marks=(2,)), *(_mean(row) for row in rows)))
        lines.append((Cell("All clips pooled", marks=(3,)), *(_pooled(row) for row in rows)))
    heads = (Cell("Fold", marks=(1,)), *(Cell(variant_cell(given, row["variant"]).text) for row in rows))
    return Table("folds", "Accuracy, fold by fold", heads, tuple(lines), NOTES if lines else ())


def _tested(fold: Mapping[str, Any]) -> str:
    shared = fold.get("shared")
    people = f", {count_text(shared)} of people trained on" if shared else ""
    return f"n = {count_text(fold['test'])}{people}"


def _of_fold(row: Row, at: int) -> Cell:
    share = row["accuracy_folds"][at]
    if share is None:
        return Cell("n/a", exact="this fold was not tested", missing=True)
    return Cell(marked(row, percent_text(share)), exact=f"{share}")


def _mean(row: Row) -> Cell:
    if row.get("accuracy_fold_mean") is None:
        return Cell("n/a", exact=reason(row, "accuracy_fold_mean"), missing=True)
    exact = f"accuracy_fold_mean = {row['accuracy_fold_mean']}, accuracy_fold_sd = {row['accuracy_fold_sd']}"
    return Cell(accuracy_text(row, "accuracy_fold_mean"), f"SD {100 * row['accuracy_fold_sd']:.1f} points", exact)


def _pooled(row: Row) -> Cell:
    bounds = row.get("accuracy_ci95")
    return Cell(accuracy_text(row), "" if bounds is None else interval_text(bounds, percent=True), f"accuracy = {row['accuracy']}")
