"""What rounding changed clip by clip: a rounded variant's answers beside those of its float twin and of the baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fercompress import stats
from fercompress.report.cells import Cell, Notes, Table
from fercompress.report.pairs import RESAMPLES
from fercompress.report.record import ReportInput
from fercompress.report.tables import heads, variant_cell
from fercompress.report.units import count_text, interval_text, percent_text, three

PLACE = ["seed", "fold", "clip_id"]
NOTES = (
    "Of identical clips: seeds and folds pooled. 95 % intervals by resampling people and seeds.",
    "A flip is another answer than the other variant's, right or wrong; it is negative where the other was right and this one is wrong, "
    "positive where it is the other way round: accuracy sees only their difference.",
    "Largest distance between the two variants' logits of one clip and class, before softmax.",
)


@dataclass(frozen=True)
class Flips:
    """n: answers compared; flips, negative, positive: how many of them; interval: of the share of flips; largest_logit: None without logits"""

    n: int
    flips: int
    negative: int
    positive: int
    interval: tuple[float, float]
    negative_interval: tuple[float, float]
    largest_logit: float | None


def float_twin(given: ReportInput, variant: str) -> str | None:
    """The variant of the same recipe without rounding; None where the study has none, or where the variant is not rounded."""
    if not given.is_int8(variant):
        return None
    bare = given.bare_recipe(variant)
    return next((name for name in given.recipes if not given.is_int8(name) and given.recipe(name) == bare), None)


def compare(given: ReportInput, target: str, variant: str, other: str) -> Flips | None:
    """None where the two were tested on no common seed and clip."""
    mine, theirs = given.answers.get((target, variant)), given.answers.get((target, other))
    if mine is None or theirs is None:
        return None
    both = mine.merge(theirs, on=PLACE, suffixes=("", "_other"))
    if both.empty:
        return None
    flipped = both["predicted"] != both["predicted_other"]
    right, right_other = both["predicted"] == both["label"], both["predicted_other"] == both["label"]
    negative = right_other & ~right
    logits = [column for column in mine.columns if str(column).startswith("logit_")]
    return Flips(
        len(both), int(flipped.sum()), int(negative.sum()), int((right & ~right_other).sum()),
        _interval(both, flipped), _interval(both, negative), _largest(both, logits),
    )  # fmt: skip


def _interval(both: pd.DataFrame, what: pd.Series[bool]) -> tuple[float, float]:
    table = both.assign(what=what.astype(float)).pivot_table(index="seed", columns="clip_id", values="what")
    clusters = both.drop_duplicates("clip_id").set_index("clip_id").loc[table.columns, "cluster"].astype(str).tolist()
    return stats.accuracy_interval(table.to_numpy(dtype=np.float64), clusters, resamples=RESAMPLES)


def _largest(both: pd.DataFrame, logits: list[str]) -> float | None:
    if not logits:
        return None
    mine, theirs = (both[[f"{column}{suffix}" for column in logits]].to_numpy(dtype=np.float64) for suffix in ("", "_other"))
    distances = np.abs(mine - theirs)
    return float(np.nanmax(distances)) if np.isfinite(distances).any() else None


def table(given: ReportInput, target: str) -> Table:
    """One line per rounded variant and what it is compared with: its float twin, then the baseline."""
    notes = Notes()
    for note in NOTES:
        notes.mark(note)
    lines = []
    for row in given.on(target):
        variant = row["variant"]
        if not given.is_int8(variant):
            continue
        twin = float_twin(given, variant)
        if twin is None:
            none = notes.mark("n/a: the study has no variant of the same recipe without rounding.")
            lines.append((variant_cell(given, variant), Cell("n/a", "float twin", marks=(none,), missing=True), *[Cell("n/a", missing=True)] * 4))
        others = dict.fromkeys(name for name in (twin, given.baseline) if name is not None and name != variant)
        lines += [
            (variant_cell(given, variant), _role(given, other, twin), *_cells(compare(given, target, variant, other), notes)) for other in others
        ]
    caption = "What rounding changed, clip by clip"
    titles = (Cell("Variant"), Cell("Against"), Cell("Flips", marks=(2,)), Cell("Negative flips", marks=(2,)), *heads("Positive flips"))
    return Table("flips", caption, (*titles, Cell("Largest logit difference", marks=(3,))), tuple(lines), notes.texts if lines else ())


def _role(given: ReportInput, other: str, twin: str | None) -> Cell:
    roles = [role for role, name in (("float twin", twin), ("baseline", given.baseline)) if name == other]
    return Cell(other, " and ".join(roles))


def _cells(found: Flips | None, notes: Notes) -> tuple[Cell, ...]:
    if found is None:
        mark = notes.mark("n/a: the two were tested on no common seed and clip on this target.")
        return (Cell("n/a", marks=(mark,), missing=True),) * 4
    logit = (
        Cell("n/a", marks=(notes.mark("n/a: no logits are recorded."),), missing=True)
        if found.largest_logit is None
        else Cell(three(found.largest_logit), exact=f"{found.largest_logit}")
    )
    return (
        _share(found.flips, found.n, found.interval),
        _share(found.negative, found.n, found.negative_interval),
        _share(found.positive, found.n, None),
        logit,
    )


def _share(count: int, n: int, bounds: tuple[float, float] | None) -> Cell:
    interval = "" if bounds is None else f"{interval_text(bounds, percent=True)}, "
    return Cell(percent_text(count / n), f"{interval}{count_text(count)} of {count_text(n)}", exact=f"{count} of {n}")
