"""The accuracy columns of a summary row: predictions in, shares, intervals and the drop against the baseline out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from fercompress import stats
from fercompress.records import LEAKY, Doubt, Pass
from fercompress.results.row import Row
from fercompress.results.tables import Tables

FEW_PEOPLE = 10


def accuracy(row: Row) -> None:
    """Folds pooled (each test clip once per seed), seeds averaged; interval and limit resample people and seeds."""
    scores, clips = _scores(row.tables, row.variant, row.target)
    by_fold = ("accuracy_folds", "accuracy_fold_mean", "accuracy_fold_sd")
    columns = (
        "accuracy",
        "accuracy_ci95",
        "unweighted_recall",
        *by_fold,
        "n_clips",
        "seeds",
        "majority_share",
        "accuracy_drop",
        "accuracy_drop_limit95",
    )
    if row.tables.clips is None:
        row.lack("the clips are not recorded yet", "chance", *columns)
        return
    row.put(chance=1 / len(row.tables.clips.classes))
    if row.tables.clips.simulated:
        row.doubts.add(Doubt.SIMULATED)
    row.doubts |= leaks(row.tables)
    if scores.empty:
        row.lack(row.why_not(Pass.ACCURACY), *columns)
        return
    correct, clusters = scores.to_numpy(np.float64), clips["cluster"].tolist()
    row.put(
        accuracy=stats.seed_mean(correct), accuracy_ci95=list(stats.accuracy_interval(correct, clusters)),
        n_clips=len(clips), seeds=len(scores), majority_share=float(clips["label"].value_counts().max() / len(clips)),
    )  # fmt: skip
    shares = [float(np.nanmean(correct[:, (clips["label"] == label).to_numpy()])) for label in sorted(clips["label"].unique())]
    row.put(unweighted_recall=float(np.mean(shares)))
    _folds(row, correct, clips)
    _drop(row, scores)
    if len(scores) == 1:
        row.doubts.add(Doubt.ONE_SEED)
    if clips["cluster"].nunique() < FEW_PEOPLE:
        row.doubts.add(Doubt.FEW_PEOPLE)
    planned = len(row.tables.study.get("seeds", (0,))) * len(row.tables.clips.folds)
    if len(row.finished(Pass.ACCURACY)) < planned:
        row.doubts.add(Doubt.INCOMPLETE)


def leaks(tables: Tables) -> set[Doubt]:
    """Whether tested people are trained on where a reader would not expect it. Studies within a person say so by themselves."""
    protocol = tables.protocol
    if protocol == LEAKY:
        return {Doubt.LEAKY_FOLDS}
    shared = any(fold.shared_clips for fold in tables.clips.folds) if tables.clips else False
    return {Doubt.SHARED_PEOPLE} if protocol == "given" and shared else set()


def _folds(row: Row, correct: npt.NDArray[np.float64], clips: pd.DataFrame) -> None:
    """Each fold by itself, as papers tell it: seeds pooled within a fold, folds counting alike in the mean."""
    assert row.tables.clips is not None  # or there would be no predictions
    columns = [(clips["fold"] == fold.name).to_numpy() for fold in row.tables.clips.folds]
    shares = [float(np.nanmean(correct[:, mine])) if mine.any() else None for mine in columns]
    known = [share for share in shares if share is not None]
    row.put(accuracy_folds=shares)
    if len(known) < 2:
        row.lack("one fold: there is no spread between folds", "accuracy_fold_mean", "accuracy_fold_sd")
        return
    row.put(accuracy_fold_mean=float(np.mean(known)), accuracy_fold_sd=float(np.std(known, ddof=1)))


def _drop(row: Row, scores: pd.DataFrame) -> None:
    """In points: baseline less variant, on the clips and seeds that both were tested on."""
    if row.is_baseline:
        row.put(accuracy_drop=0.0)
        row.lack("this is the baseline", "accuracy_drop_limit95")
        return
    theirs, facts = _scores(row.tables, row.baseline, row.target)
    seeds, clips = scores.index.intersection(theirs.index), scores.columns.intersection(theirs.columns)
    if not len(seeds) or not len(clips):
        row.lack(f"the baseline {row.baseline} was tested on no common seed and clip on this target", "accuracy_drop", "accuracy_drop_limit95")
        return
    baseline, variant = (frame.loc[seeds, clips].to_numpy(np.float64) for frame in (theirs, scores))
    both = np.isnan(baseline) | np.isnan(variant)
    baseline, variant = np.where(both, np.nan, baseline), np.where(both, np.nan, variant)
    row.put(
        accuracy_drop=100 * stats.seed_mean(baseline - variant),
        accuracy_drop_limit95=100 * stats.drop_limit(baseline, variant, facts.loc[clips, "cluster"].tolist()),
    )


def _scores(tables: Tables, variant: str, target: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """returns: right (1) or wrong (0) by seed (rows) and clip (columns), NaN unseen; cluster, label and fold by clip"""
    predictions = tables.predictions
    mine = predictions[(predictions["variant"] == variant) & (predictions["target"] == target)]
    if mine.empty:
        return pd.DataFrame(), pd.DataFrame()
    scores = mine.assign(correct=mine["correct"].astype(float)).pivot_table(index="seed", columns="clip", values="correct", aggfunc="mean")
    return scores, mine.drop_duplicates("clip").set_index("clip").loc[scores.columns, ["cluster", "label", "fold"]]
