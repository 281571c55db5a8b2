"""A variant's answers: predictions in; the confusion with each class's recall, and each person's, as tables out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fercompress import stats
from fercompress.report.cells import Cell, Table
from fercompress.report.leak import MARK
from fercompress.report.record import ReportInput
from fercompress.report.tables import heads
from fercompress.report.units import count_text, interval_text, percent_text

ALL_PEOPLE = 12  # up to so many are all listed
WORST_PEOPLE = 8
SHADES = 5


def confusion(given: ReportInput, target: str, variant: str) -> Table | None:
    """Rows: true classes; columns: answers in percent of the row, then the class's recall with its interval and n. None without answers"""
    own = given.answers.get((target, variant))
    if own is None:
        return None
    classes = [str(name) for name in given.data["classes"]]
    labels, answers = own["label"].to_numpy(dtype=np.int64), own["predicted"].to_numpy(dtype=np.int64)
    answered = answers >= 0
    counts = stats.confusion_matrix(labels[answered], answers[answered], len(classes))
    totals = np.bincount(labels, minlength=len(classes))
    tested = own.drop_duplicates("clip_id")
    clips = np.bincount(tested["label"].to_numpy(dtype=np.int64), minlength=len(classes))
    lines = []
    for index, name in enumerate(classes):
        cells = [_share(float(count), int(totals[index]), index == column) for column, count in enumerate(counts[index])]
        lines.append((Cell(name), *cells, _recall(given, float(counts[index, index]), int(totals[index]), int(clips[index]))))
    silent = int((~answered).sum())
    notes = (
        "In percent of each true class (row); all seeds and folds together."
        + (f" Without an answer: {count_text(silent)}." if silent else "")
        + " Recall: 95 % interval of independent clips (Wilson); clips of one person are alike, so it may be too narrow.",
    )
    caption = "Confusion and recall of each class" + (f" ({MARK} folds)" if given.leaky else "")
    return Table("confusion", caption, heads("True class", *classes, "Recall"), tuple(lines), notes)


def _share(count: float, total: int, right: bool) -> Cell:
    """shade-0 .. shade-4: how dark it stands on the page"""
    if not total:
        return Cell("", exact="no clip of this class")
    share = count / total
    style = f"shade-{min(SHADES - 1, int(share * SHADES))}" + (" right" if right else "")
    return Cell(f"{100 * share:.0f}" if share >= 0.005 else "", exact=f"{count_text(count)} of {count_text(total)}", style=style)


def _recall(given: ReportInput, right: float, total: int, clips: int) -> Cell:
    if not total:
        return Cell("n/a", "no clip of this class", missing=True)
    low, high = stats.wilson_interval(right / total * clips, clips)
    return Cell(_text(given, right / total), f"{interval_text((low, high), percent=True)}, n = {count_text(clips)}", exact=f"{right / total}")


def _text(given: ReportInput, share: float) -> str:
    """Marked wherever it is read, as every accuracy of leaky folds is."""
    return percent_text(share) + (f" ({MARK})" if given.leaky else "")


def people(given: ReportInput, target: str, variant: str) -> Table | None:
    """Each person's share of right answers; of many people how they are spread, and the worst. None where there is one person, or no answer"""
    own = given.answers.get((target, variant))
    if own is None:
        return None
    who = "subject" if "subject" in own.columns and (own["subject"].astype(str) != "").all() and own["subject"].nunique() > 1 else "cluster"
    each = by_person(own, who)
    if len(each) < 2:
        return None
    few = len(each) <= ALL_PEOPLE
    shown = each if few else each[:WORST_PEOPLE]
    lines = [(Cell(name), Cell(_text(given, share), exact=f"{share}"), Cell(count_text(clips))) for name, share, clips in shown]
    if not few:
        shares = np.array([share for _, share, _ in each])
        spread = ", ".join(_text(given, float(np.quantile(shares, q))) for q in (0.1, 0.5, 0.9))
        perfect = int((shares == 1).sum())
        lines.insert(
            0,
            (
                Cell(f"all {count_text(len(each))}"),
                Cell(spread, f"10th, 50th, 90th percentile; {count_text(perfect)} without a mistake"),
                Cell(count_text(sum(clips for _, _, clips in each))),
            ),
        )
    what = "person" if who == "subject" else "person or sentence"
    caption = f"Right answers of each {what}" + ("" if few else f": how they spread, and the {WORST_PEOPLE} worst")
    return Table("people", caption + (f" ({MARK} folds)" if given.leaky else ""), heads(what.capitalize(), "Recall", "Clips"), tuple(lines))


def by_person(answers: pd.DataFrame, who: str) -> list[tuple[str, float, int]]:
    """(name, share of right answers over seeds, clips), worst first. answers: one line per clip and seed; who: the column that names them"""
    right = answers.assign(right=answers["label"] == answers["predicted"]).groupby(who)
    found = [
        (str(name), float(share), int(clips)) for (name, share), clips in zip(right["right"].mean().items(), right["clip_id"].nunique(), strict=True)
    ]
    return sorted(found, key=lambda each: (each[1], -each[2], each[0]))
