"""Choose a variant: rows of summary.json and a budget in; which one to use, the next best, and what the budget costs out.

The one rule by which a report's first screen advises and `fercompress pick` answers. Validation figures alone decide which of the variants that keep
the budget is the best; test figures stand beside what was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Row = Mapping[str, Any]

SAME_BYTES = 1.05  # two variants within 5 % of each other's bytes count as equally large
TOLERANCE = 0.01  # validation accuracy that the advice may cost, as a share: one point
RULE = (
    "The rule: among the variants whose validation accuracy (as trained, before any quantization) is at most one point below the baseline's, "
    "give or take one standard error of the difference, "
    "the one that stores the fewest bytes (within 5 %: the one more accurate on validation data, then the one with the faster clip). "
    "Controls may win. Test figures choose nothing."
)
# Test figures: who chooses by one of them has no test of the choice left.
TESTED = ("accuracy", "unweighted_recall", "macro_f1", "calibration_error")
_NEEDED = ("engine", "validation_accuracy", "stored_bytes")  # without them a variant does not run here, or cannot be judged
_UNTOLD = {"engine": "not told"}  # by rows that are older than the column
_EXACT = 1e-12  # shares are quotients: two that are equal on paper may differ in the last digit


@dataclass(frozen=True)
class Limit:
    """`column` is at most `value` (or at least, where `most` is False), in the column's own unit; text: as a person wrote it"""

    column: str
    value: float
    most: bool
    text: str

    def miss(self, row: Row, _baseline: Row | None, _validated: int) -> Miss | None:
        found = row.get(self.column)
        if found is None:
            return Miss(self, None, unknown(row, self.column))
        if found <= self.value if self.most else found >= self.value:
            return None
        return Miss(self, float(found), "")


@dataclass(frozen=True)
class Drop:
    """`column`, a share, is at most `value` below the baseline's, give or take so many standard errors of the difference of two shares."""

    column: str
    value: float
    text: str
    standard_errors: float = 0.0

    def miss(self, row: Row, baseline: Row | None, validated: int) -> Miss | None:
        """validated: how many validation clips there are"""
        best, found = None if baseline is None else baseline.get(self.column), row.get(self.column)
        if best is None:
            return Miss(self, None, f"the baseline's {self.column} is not known")
        if found is None:
            return Miss(self, None, unknown(row, self.column))
        given = self.standard_errors * standard_error(best, found, validated)
        return None if best - found <= self.value + given + _EXACT else Miss(self, float(found), "")


@dataclass(frozen=True)
class Miss:
    """What of a budget a row does not keep: its value; or None, and why it is not known whether it does."""

    limit: Limit | Drop | None  # None: what every choice needs
    value: float | None
    reason: str


@dataclass(frozen=True)
class Unfit:
    """misses: what it does not keep, or is not known to keep; perhaps: whether it may keep the budget for all that is known"""

    row: Row
    misses: tuple[Miss, ...]
    perhaps: bool


@dataclass(frozen=True)
class Choice:
    """fitting: every row that keeps the budget, best first; unfit: the others, in the order given

    unlimited: what would be chosen without any budget; without: of each limit, what would be chosen without that one alone
    """

    fitting: tuple[Row, ...]
    unfit: tuple[Unfit, ...]
    unlimited: Row | None
    without: tuple[tuple[Limit | Drop, Row | None], ...]

    @property
    def chosen(self) -> Row | None:
        return self.fitting[0] if self.fitting else None

    @property
    def runner_up(self) -> Row | None:
        return self.fitting[1] if len(self.fitting) > 1 else None

    @property
    def certain(self) -> bool:
        """False where nothing fits as far as is known, and something might."""
        return bool(self.fitting) or not any(each.perhaps for each in self.unfit)


Budget = Sequence[Limit | Drop]
Goal = Literal["validation_accuracy", "stored_bytes"]
GOAL_WORDS: Mapping[Goal, str] = {
    "validation_accuracy": "the most accurate on validation data (of equal ones: the one that stores the fewest bytes, then the faster clip)",
    "stored_bytes": "the one that stores the fewest bytes (within 5 %: the more accurate on validation data, then the faster clip)",
}


def advice(rows: Sequence[Row], baseline: Row | None, validated: int) -> Choice:
    """RULE, for whom nothing is said about a budget. rows: of one target; validated: validation clips behind the validation accuracies"""
    return choose(rows, baseline, (Drop("validation_accuracy", TOLERANCE, "1pt", standard_errors=1.0),), validated, "stored_bytes")


def choose(rows: Sequence[Row], baseline: Row | None, budget: Budget, validated: int, goal: Goal = "validation_accuracy") -> Choice:
    """The rows of one target that keep the whole budget, the best first.

    A row that does not run there, or has no validation accuracy or bytes, is never chosen. Of equally good ones: fewer bytes (for the goal of
    bytes: more accurate on validation data), then the faster clip, then by name.
    """
    judgeable, unfit = [], []
    for row in rows:
        lacking = [Miss(None, None, f"{column}: {unknown(row, column)}") for column in _NEEDED if row.get(column, _UNTOLD.get(column)) is None]
        misses = [miss for limit in budget if (miss := limit.miss(row, baseline, validated)) is not None]
        if not lacking:
            judgeable.append(row)
        if lacking or misses:
            unfit.append(Unfit(row, (*lacking, *misses), not lacking and all(miss.value is None for miss in misses)))

    def kept(limits: Budget) -> list[Row]:
        return [row for row in judgeable if all(limit.miss(row, baseline, validated) is None for limit in limits)]

    best = _GOALS[goal]
    fitting, left = [], kept(budget)
    while left:
        fitting.append(best(left))
        left = [row for row in left if row is not fitting[-1]]
    without = []
    for limit in budget:
        others = kept([each for each in budget if each is not limit])
        without.append((limit, best(others) if others else None))
    return Choice(tuple(fitting), tuple(unfit), best(judgeable) if judgeable else None, tuple(without))


def validated(data: Mapping[str, Any] | None) -> int:
    """How many validation clips the validation accuracies rest on; other seeds see the same clips again and do not count. data: summary.json's"""
    return max(1, sum(int(fold["validation"]) for fold in (data or {}).get("folds", ())))


def standard_error(first: float, second: float, clips: int) -> float:
    """Of the difference of two shares of so many clips, as if independent (after Breiman et al. 1984): a few hundred tell no half point apart."""
    return math.sqrt((first * (1 - first) + second * (1 - second)) / clips)


def guesses(row: Row) -> bool:
    """Whether a row is not shown to be better than always naming the largest class."""
    bounds, share = row.get("accuracy_ci95"), row.get("majority_share")
    return bounds is not None and share is not None and bool(bounds[0] <= share)


def unknown(row: Row, column: str) -> str:
    """Why a column is null."""
    return str((row.get("reasons") or {}).get(column) or "not measured in this run, and no reason was recorded").removeprefix("n/a: ")


def _most_accurate(rows: Sequence[Row]) -> Row:
    return min(rows, key=lambda row: (-row["validation_accuracy"], row["stored_bytes"], *_last(row)))


def _smallest(rows: Sequence[Row]) -> Row:
    fewest = min(row["stored_bytes"] for row in rows)
    alike = [row for row in rows if row["stored_bytes"] <= fewest * SAME_BYTES]
    return min(alike, key=lambda row: (-row["validation_accuracy"], row.get("latency_clip_p50_ns") or math.inf, row["stored_bytes"], row["variant"]))


def _last(row: Row) -> tuple[float, str]:
    return row.get("latency_clip_p50_ns") or math.inf, row["variant"]


_GOALS: Mapping[Goal, Callable[[Sequence[Row]], Row]] = {"validation_accuracy": _most_accurate, "stored_bytes": _smallest}
