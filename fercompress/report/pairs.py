"""Two variants of one run beside each other: paired changes with 95 % intervals out of the clips and rounds that both saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fercompress import stats
from fercompress.report.record import ReportInput

RESAMPLES = 2000  # a page compares a dozen pairs; 50 resamples beyond each limit settle its first decimal


@dataclass(frozen=True)
class Change:
    """value: the estimate; interval: two-sided 95 %, None where the sample is too small; none: the value that means "no change" """

    value: float
    interval: tuple[float, float] | None
    none: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies wholly above or below `none`, else 0: not told apart."""
        if self.interval is None:
            return 0
        return int(self.interval[0] > self.none) - int(self.interval[1] < self.none)


def accuracy_change(given: ReportInput, target: str, old: str, new: str) -> Change | None:
    """Accuracy of `new` less that of `old` (shares), over the same seeds and clips; None where there are no such clips.

    The interval resamples clusters of clips (persons) and seeds.
    """
    before, after = (given.scores.get((target, name)) for name in (old, new))
    if before is None or after is None:
        return None
    seeds, clips = before.index.intersection(after.index), before.columns.intersection(after.columns)
    if seeds.empty or clips.empty:
        return None
    clusters = [given.clusters[clip] for clip in clips]
    one, other = (table.loc[seeds, clips].to_numpy(dtype=np.float64) for table in (before, after))
    unseen = np.isnan(one) | np.isnan(other)
    one, other = np.where(unseen, np.nan, one), np.where(unseen, np.nan, other)
    return Change(stats.seed_mean(other - one), stats.change_interval(one, other, clusters, resamples=RESAMPLES), 0.0)


def speedup(given: ReportInput, target: str, old: str, new: str, stage: str) -> Change | None:
    """How many times faster `new` is than `old` in a stage: paired by round, as the rows' speed-ups over the baseline are."""
    before, after = (given.round_logs.get((target, name)) for name in (old, new))
    if before is None or after is None:
        return None
    ratios = (before[stage] - after[stage]).dropna().to_numpy(dtype=np.float64)
    if not len(ratios):
        return None
    return Change(float(np.exp(stats.hodges_lehmann(ratios))), _exp(stats.signed_rank_interval(ratios)), 1.0)


def latency_interval(given: ReportInput, target: str, variant: str, stage: str) -> tuple[float, float] | None:
    """95 % interval of a variant's latency over rounds, in nanoseconds; None below six rounds."""
    logs = given.round_logs.get((target, variant))
    return None if logs is None or logs.empty else _exp(stats.signed_rank_interval(logs[stage].dropna().to_numpy(dtype=np.float64)))


def _exp(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if bounds is None else (float(np.exp(bounds[0])), float(np.exp(bounds[1])))
