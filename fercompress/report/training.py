"""What training cost: the ways to a tensor train at equal epochs and equal seconds, and how soon each reached the dense model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fercompress.report.cells import Cell, Column, Table, reason
from fercompress.report.leak import accuracy_text, marked
from fercompress.report.pairs import accuracy_change
from fercompress.report.record import ReportInput, Row
from fercompress.report.tables import heads, points_cell, variant_cell, variants
from fercompress.report.units import count_text, interval_text, percent_text, seconds_text

WAYS = ("from-scratch", "decomposed", "data-aware")
NOTES = (
    "Test accuracy of the exported epoch, 95 % interval; against the first way of the group: paired on the same seeds and test clips.",
    "Validation accuracy: the best of the first E epochs, E the fewest that any way of the group was trained for; mean over seeds and folds. "
    "Where trainings ended early, the longer ones are seen in the middle of their learning-rate schedule.",
    "Validation accuracy: the best of the epochs that end within S seconds, S the shortest training of the group (equal time, so that a way "
    "with quicker epochs may show more of them).",
    "Seconds of all epochs of the predictor on cached features, median over seeds and folds. The dense teacher, which the decomposed and the "
    "data-aware way start from and which distillation needs, is not in it; nor are decomposition, covariance and validation.",
)
DENSE = (
    "Until the end of the first epoch whose validation accuracy is at least the best of the dense teacher of the same seed and fold. "
    "The teacher was trained with its extractor; a dense predictor trained on the same cached features is not part of the run: its time is unknown."
)


@dataclass(frozen=True)
class Contest:
    """The variants that differ in their way alone: same rank, parts and layout; rows in the order of WAYS"""

    rank: int
    rows: tuple[Row, ...]
    epochs: int  # the fewest that any of their trainings lasted
    seconds: float  # of the shortest of their trainings


def contests(given: ReportInput, target: str) -> list[Contest]:
    """Only where at least two ways can be compared; of variants that differ in rounding alone, which share a training, the least rounded one."""
    groups: dict[str, dict[str, Row]] = {}
    for row in sorted(given.on(target), key=lambda row: len(given.recipe(row["variant"]))):
        way = row.get("way")
        if way in WAYS and row.get("tt_rank") is not None and not _epochs(given, row).empty:
            groups.setdefault(_besides_the_way(given.bare_recipe(row["variant"])), {}).setdefault(str(way), row)
    found = []
    for group in groups.values():
        if len(group) < 2:
            continue
        rows = tuple(group[way] for way in WAYS if way in group)
        trainings = [each for row in rows for _, each in _epochs(given, row).groupby(["seed", "fold"])]
        found.append(Contest(rows[0]["tt_rank"], rows, min(map(len, trainings)), min(float(each["epoch_s"].sum()) for each in trainings)))
    return sorted(found, key=lambda contest: contest.rank)


def _besides_the_way(recipe: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps([{key: value for key, value in step.items() if key != "start"} for step in recipe], sort_keys=True, default=str)


def _epochs(given: ReportInput, row: Row) -> pd.DataFrame:
    found: pd.DataFrame = given.epochs[given.epochs["variant"] == row["variant"]]
    return found


def best_within(epochs: pd.DataFrame, *, count: int | None = None, seconds: float | None = None) -> float | None:
    """Best validation accuracy of the first epochs, mean over trainings; None where a training had none within the seconds.

    epochs: one line per epoch of every training of a variant
    """
    found = []
    for _, each in epochs.groupby(["seed", "fold"]):
        ordered = each.sort_values("epoch")
        # A sum of seconds may differ from itself in its last digit.
        within = ordered["epoch"] < count if count is not None else ordered["epoch_s"].cumsum() <= (seconds or 0.0) * (1 + 1e-9)
        if not within.any():
            return None
        found.append(float(ordered.loc[within, "validation_accuracy"].max()))
    return float(np.mean(found)) if found else None


def ways(given: ReportInput, target: str) -> Table:
    """One line per rank and way."""
    lines = []
    for contest in contests(given, target):
        first = contest.rows[0]
        for row in contest.rows:
            epochs = _epochs(given, row)
            change = Cell("—", style="self") if row is first else points_cell(accuracy_change(given, target, first["variant"], row["variant"]))
            lines.append(
                (
                    variant_cell(given, row["variant"]),
                    Cell(f"{contest.rank}"),
                    Cell(str(row["way"]).replace("-", " ")),
                    _accuracy(row),
                    change,
                    _validated(row, best_within(epochs, count=contest.epochs), f"{contest.epochs} epochs"),
                    _validated(row, best_within(epochs, seconds=contest.seconds), seconds_text(contest.seconds)),
                    _total(row),
                )
            )
    titles = (
        *heads("Variant", "Rank", "Way"), Cell("Accuracy", marks=(1,)), Cell("Against the first, points", marks=(1,)),
        Cell("At equal epochs", marks=(2,)), Cell("At equal seconds", marks=(3,)), Cell("Training", marks=(4,)),
    )  # fmt: skip
    return Table("ways", "The ways to a tensor train, at equal training", titles, tuple(lines), NOTES if lines else ())


def _accuracy(row: Row) -> Cell:
    if row.get("accuracy") is None:
        return Cell("n/a", exact=reason(row, "accuracy"), missing=True)
    bounds = row.get("accuracy_ci95")
    return Cell(accuracy_text(row), "no interval" if bounds is None else interval_text(bounds, percent=True), f"{row['accuracy']}")


def _validated(row: Row, share: float | None, within: str) -> Cell:
    if share is None:
        return Cell("n/a", f"no epoch within {within}", missing=True)
    return Cell(marked(row, percent_text(share)), f"within {within}", exact=f"{share}")


def _total(row: Row) -> Cell:
    if row.get("train_total_s") is None:
        return Cell("n/a", exact=reason(row, "train_total_s"), missing=True)
    return Cell(seconds_text(row["train_total_s"]), f"{count_text(row['train_epochs'])} epochs", exact=f"{row['train_total_s']} s")


def _epoch_count(_: ReportInput, row: Row) -> str:
    return "" if row.get("train_epochs") is None else f"{count_text(row['train_epochs'])} epochs"


TRAINING = (
    Column("validation_accuracy", "Validation, before rounding", percent_text),
    Column("accuracy_best_epoch", "Test, kept epoch", percent_text),
    Column("accuracy_last_epoch", "Test, last epoch", percent_text),
    Column("train_epoch_s", "One epoch", seconds_text),
    Column("train_total_s", "Whole training", seconds_text, sub=_epoch_count),
    Column("time_to_dense_s", "To the dense model's accuracy", seconds_text),
)


def costs(given: ReportInput, target: str) -> Table:
    """One line per variant: what its training took, and how soon it was as good as the dense teacher on validation clips."""
    made = variants(given, target, TRAINING, "training", "Training, on the extractor's cached features")
    number = len(made.notes) + 1
    marked = Cell(made.heads[-1].text, marks=(*made.heads[-1].marks, number))
    return Table(made.name, made.caption, (*made.heads[:-1], marked), made.rows, (*made.notes, DENSE))
