"""Figures of classes and of confidence in a summary row: predictions in; macro-F1 and the calibration error out."""

from __future__ import annotations

import numpy as np

from fercompress import stats
from fercompress.records import Pass
from fercompress.results.row import Row

COLUMNS = ("macro_f1", "calibration_error")


def classes(row: Row) -> None:
    """Folds pooled; all seeds' answers counted for macro-F1, seeds averaged for the calibration error: a seed is one model."""
    answers = row.tables.predictions
    mine = answers[(answers["variant"] == row.variant) & (answers["target"] == row.target)]
    if mine.empty or row.tables.clips is None:
        row.lack(row.why_not(Pass.ACCURACY), *COLUMNS)
        return
    labels, predicted = mine["label"].to_numpy(np.int64), mine["predicted"].to_numpy(np.int64)
    if (predicted < 0).any():
        row.lack(f"{int((predicted < 0).sum())} clips were answered with no number", *COLUMNS)
        return
    names = [column for column in mine if str(column).startswith("logit_")]
    errors = [
        stats.expected_calibration_error(seed[names].to_numpy(np.float64), seed["label"].to_numpy(np.int64)) for _, seed in mine.groupby("seed")
    ]
    confusion = stats.confusion_matrix(labels, predicted, len(row.tables.clips.classes))
    row.put(macro_f1=float(stats.macro_f1(confusion)), calibration_error=float(np.mean(errors)))
