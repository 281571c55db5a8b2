"""Accuracies of folds that put people on both sides of a test: a row in, its accuracy as text out, marked wherever it is read."""

from __future__ import annotations

from fercompress.records import Doubt
from fercompress.report.record import Row
from fercompress.report.units import percent_text

MARK = "leaky-image"


def marked(row: Row, text: str) -> str:
    """text: an accuracy of the row"""
    return f"{text} ({MARK})" if Doubt.LEAKY_FOLDS in (row.get("doubts") or ()) else text


def accuracy_text(row: Row, key: str = "accuracy") -> str:
    return marked(row, percent_text(row[key]))
