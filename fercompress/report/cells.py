"""Tables as values: cells with a text, a finer print, an exact value and numbered notes; written as HTML by the template, as Markdown here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fercompress.records import Doubt
from fercompress.report.leak import marked
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import interval_text


@dataclass(frozen=True)
class Cell:
    """text: what is read; sub: smaller, below it; exact: the unrounded value, for the tooltip; marks: numbers of the table's notes."""

    text: str
    sub: str = ""
    exact: str = ""
    marks: tuple[int, ...] = ()
    missing: bool = False
    style: str = ""


@dataclass(frozen=True)
class Table:
    """heads: one per column, their marks hold for every line; notes: what the marks 1, 2, ... say; numeric: all but the first column right-aligned"""

    name: str
    caption: str
    heads: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    numeric: bool = True


class Notes:
    """The notes of one table in the making: equal texts share one number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers) + 1)

    def shared(self, title: str, column: Sequence[Cell]) -> tuple[Cell, list[Cell]]:
        """A column's head and cells, with the marks that every cell has moved to the head: said once, read at once."""
        counted = [set(cell.marks) for cell in column if cell.style != "self"]
        common = set.intersection(*counted) if len(counted) > 1 else set()
        cells = [replace(cell, marks=tuple(mark for mark in cell.marks if mark not in common)) for cell in column]
        return Cell(title, marks=tuple(sorted(common))), cells

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._numbers)


@dataclass(frozen=True)
class Column:
    """How a summary column is shown: `show` turns a value into text; `interval` names the column with its 95 % interval."""

    key: str
    title: str
    show: Callable[[Any], str]
    interval: str = ""
    percent: bool = False
    sub: Callable[[ReportInput, Row], str] = field(default=lambda _given, _row: "")

    def cell(self, given: ReportInput, row: Row, notes: Notes) -> Cell:
        marks = tuple(notes.mark(_note(given, doubt)) for doubt in doubts_on(row, self.key))
        value = row.get(self.key)
        if value is None:
            return Cell("n/a", marks=(notes.mark(f"n/a: {reason(row, self.key)}"), *marks), missing=True)
        exact = f"{self.key} = {value}"
        parts = []
        if self.interval:
            bounds = row.get(self.interval)
            if bounds is None:
                marks = (notes.mark(f"No interval: {reason(row, self.interval)}"), *marks)
            else:
                parts.append(interval_text(bounds, percent=self.percent))
                exact += f", {self.interval} = [{bounds[0]}, {bounds[1]}]"
        if more := self.sub(given, row):
            parts.append(more)
        text = self.show(value)
        return Cell(marked(row, text) if Doubt.LEAKY_FOLDS in doubts_on(row, self.key) else text, ", ".join(parts), exact, marks)


def reason(row: Row, key: str) -> str:
    return str((row.get("reasons") or {}).get(key) or "not measured in this run, and no reason was recorded").removeprefix("n/a: ")


_LATENCIES = ("latency_extractor_p50_ns", "latency_predictor_p50_ns", "latency_clip_p50_ns")
_NET = ("power_net_w", "energy_inference_j", "energy_clip_j")  # the cells of energy show the net figure below
_POWERS = ("power_w", *_NET)
_SPEEDUPS = ("speedup_extractor", "speedup_predictor", "speedup_clip")
_MEMORY = tuple(f"memory_{step}_bytes" for step in ("interpreter", "runtime", "model", "peak"))
_ACCURACIES = (
    "accuracy", "accuracy_drop", "unweighted_recall", "accuracy_fold_mean", "accuracy_best_epoch", "accuracy_last_epoch", "validation_accuracy",
)  # fmt: skip
# Which numbers a doubt weakens: it is shown beside them.
WEAKENS: dict[str, tuple[str, ...]] = {
    Doubt.FEW_SAMPLES: ("latency_clip_p90_ns",),
    Doubt.FEW_BLOCKS: _SPEEDUPS,
    Doubt.NOISY: _LATENCIES,
    Doubt.DRIFT: _LATENCIES,
    Doubt.BUSY_HOST: _LATENCIES,
    Doubt.HOT_START: _LATENCIES,
    Doubt.CLOCK_CHANGED: _LATENCIES,
    Doubt.THROTTLED: _LATENCIES,
    Doubt.ONE_SEED: ("accuracy", "accuracy_drop"),
    Doubt.FEW_PEOPLE: ("accuracy",),
    Doubt.LEAKY_FOLDS: _ACCURACIES,
    Doubt.SHARED_PEOPLE: _ACCURACIES,
    Doubt.INCOMPLETE: ("accuracy", *_SPEEDUPS),
    Doubt.SHAPES_VARY: ("stored_bytes", "ratio_model_bytes", *_LATENCIES),
    Doubt.IDLE_DRIFT: ("power_idle_w", *_NET),
    Doubt.SHORT_POWER: _POWERS,
    Doubt.SLOW_METER: _POWERS,
    Doubt.SIMULATED: ("accuracy",),
    Doubt.SIMULATED_TARGET: ("latency_clip_p90_ns", *_LATENCIES, *_SPEEDUPS, *_MEMORY, "power_w"),
}


def _note(given: ReportInput, doubt: str) -> str:
    if doubt == Doubt.SIMULATED and given.data["simulated"]:
        return "Simulated clips: no person was filmed"
    return f"Doubt: {doubt}"


def doubts_on(row: Row, key: str) -> list[str]:
    """The row's doubts that weaken this column."""
    return [doubt for doubt in row.get("doubts") or () if key in WEAKENS.get(doubt, ())]


def markdown(table: Table) -> str:
    """A pipe table (GitHub's dialect) and its notes below it."""
    lines = [
        _line([_markdown_cell(head) for head in table.heads]),
        "|" + "|".join([":---", *("---:" if table.numeric else ":---" for _ in table.heads[1:])]) + "|",
        *(_line([_markdown_cell(cell) for cell in row]) for row in table.rows),
    ]
    if table.notes:
        lines += ["", *(f"{number}. {plain(note)}" for number, note in enumerate(table.notes, 1))]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, no table bars, one line."""
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(sign, written)
    return text


def _markdown_cell(cell: Cell) -> str:
    marks = f" ({', '.join(map(str, cell.marks))})" if cell.marks else ""
    return cell.text + (f" · {cell.sub}" if cell.sub else "") + marks


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(plain(text) for text in texts) + " |"
