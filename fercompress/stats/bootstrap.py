"""Resampling: scores by seed and clip, or values by block, in; what their statistics would be for other persons, seeds or blocks out.

Persons (sentences where there is one person), seeds and blocks are drawn, never single clips or inferences: those of one person or process are alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fercompress.stats.centre import Floats, Interval

RESAMPLES = 4000
TAIL_DRAWS = 10
MIN_UNITS = 6  # as for the signed-rank interval


def resampled_means(scores: Floats, clusters: Sequence[str], resamples: int, seed: int) -> Floats | None:
    """`seed_mean` of `resamples` draws of clusters and seeds with replacement; None for a single cluster."""
    names, which = np.unique(np.asarray(clusters, str), return_inverse=True)
    if len(names) < 2:
        return None
    seeds = len(scores)
    seen = ~np.isnan(scores)
    sums, counts = np.zeros((seeds, len(names))), np.zeros((seeds, len(names)))
    for row in range(seeds):
        sums[row] = np.bincount(which[seen[row]], scores[row, seen[row]], len(names))
        counts[row] = np.bincount(which[seen[row]], minlength=len(names))
    drawn, weight = drawn_counts(len(names), seeds, resamples, seed)
    totals, sizes = drawn @ sums.T, drawn @ counts.T  # (resamples, S)
    weight *= sizes > 0
    usable = weight.sum(axis=1) > 0
    means = (weight * totals / np.maximum(sizes, 1)).sum(axis=1)[usable] / weight.sum(axis=1)[usable]
    return np.asarray(means, np.float64)


def drawn_counts(clusters: int, seeds: int, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """How often each cluster and each training seed is drawn, with replacement: float (resamples, clusters) and (resamples, seeds)."""
    random = np.random.default_rng(seed)
    drawn = random.multinomial(clusters, np.full(clusters, 1 / clusters), resamples).astype(np.float64)
    return drawn, random.multinomial(seeds, np.full(seeds, 1 / seeds), resamples).astype(np.float64)


def widened_tail(tail: float, n: int) -> float:
    """The percentile to take for a tail of the bootstrap of n units, which is too narrow by sqrt((n - 1) / n) and knows no t distribution."""
    return float(special.ndtr(math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, tail)))


def tail_probability(means: Floats, limit: float, clusters: int) -> float:
    """One-sided p-value of "the true mean is not above `limit`": the level at which the widened percentile of the means just reaches it.

    Beyond the tenth lowest mean, where counting says little, a normal tail goes on that passes through that one.
    """
    share = np.count_nonzero(means <= limit) / len(means)
    rank = min(TAIL_DRAWS, len(means))
    if share * len(means) >= rank:
        z = float(special.ndtri(share))
    else:
        centre, last = float(np.median(means)), float(np.partition(means, rank - 1)[rank - 1])
        spread = (centre - last) / -float(special.ndtri(rank / len(means))) if rank < len(means) / 2 else centre - last
        if spread <= 0:  # all means alike: nothing to resample
            return 0.0 if limit < last else 1.0
        z = (limit - centre) / spread
    return float(special.stdtr(clusters - 1, z / math.sqrt(clusters / (clusters - 1))))


@dataclass(frozen=True, eq=False)
class Resampled:
    """Of a figure of clips: what resampling persons says of it, and never surer than independent clips would be.

    value: the figure; draws: float (R,), the figure in each resample, None for a single cluster; clusters, clips: how many there are
    """

    value: float
    draws: Floats | None
    clusters: int
    clips: int

    @property
    def samples(self) -> int:
        return self.clips

    @property
    def unit(self) -> str:
        return "clips"

    def above(self, limit: float) -> float:
        """One-sided p-value of "the true figure is not above `limit`"."""
        p = self.independent_above(limit)
        return p if self.draws is None else max(p, tail_probability(self.draws, limit, self.clusters))

    def below(self, limit: float) -> float:
        """One-sided p-value of "the true figure is not below `limit`"."""
        p = self.independent_below(limit)
        return p if self.draws is None else max(p, tail_probability(-self.draws, -limit, self.clusters))

    def interval(self, tail: float) -> Interval:
        """Limits that the truth lies beyond with probability `tail` each."""
        low, high = self.independent_interval(tail)
        if self.draws is None:
            return low, high
        widened = widened_tail(tail, self.clusters)
        return min(low, float(np.quantile(self.draws, widened))), max(high, float(np.quantile(self.draws, 1 - widened)))

    def independent_above(self, limit: float) -> float:
        """As `above`, of independent clips."""
        raise NotImplementedError

    def independent_below(self, limit: float) -> float:
        raise NotImplementedError

    def independent_interval(self, tail: float) -> Interval:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class ResampledChange(Resampled):
    """Variant less baseline, of a figure between 0 and 1.

    centre, error: of a normal approximation for independent clips, which no test and no limit is surer than
    """

    centre: float
    error: float

    def independent_above(self, limit: float) -> float:
        return float(special.ndtr((limit - self.centre) / self.error))

    def independent_below(self, limit: float) -> float:
        return float(special.ndtr((self.centre - limit) / self.error))

    def independent_interval(self, tail: float) -> Interval:
        half = -float(special.ndtri(tail)) * self.error
        return max(self.centre - half, -1.0), min(self.centre + half, 1.0)


def bca_limits(estimate: float, draws: Floats, without: Floats, confidence: float) -> Interval:
    """Bias-corrected and accelerated interval of a statistic (Efron 1987).

    estimate: of all units; draws: float (R,), of each resample; without: float (units,), of all units but one
    """
    # Ties count half: quantiles of few distinct values often equal the estimate.
    below = (np.count_nonzero(draws < estimate) + np.count_nonzero(draws == estimate) / 2) / len(draws)
    if not 0 < below < 1:  # all draws to one side: nothing to correct with
        low, high = np.quantile(draws, ((1 - confidence) / 2, (1 + confidence) / 2))
        return float(low), float(high)
    bias = float(special.ndtri(below))
    away = without.mean() - without
    spread = float((away**2).sum()) ** 1.5
    acceleration = float((away**3).sum()) / (6 * spread) if spread else 0.0
    z = bias + special.ndtri([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(draws, special.ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)
