"""Resampling: scores by seed and clip, or values by block, in; what their statistics would be for other persons, seeds or blocks out.

Persons (sentences where there is one person), seeds and blocks are drawn, never single clips or inferences: those of one person or process are alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions

from fercompress.stats.centre import Floats, Interval

RESAMPLES = 4000
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
    return float(distributions.norm.cdf(math.sqrt(n / (n - 1)) * distributions.t.ppf(tail, n - 1)))


def tail_probability(means: Floats, limit: float, clusters: int) -> float:
    """One-sided p-value of "the true mean is not above `limit`": the level at which the widened percentile of the means just reaches it."""
    share = (np.count_nonzero(means <= limit) + 1) / (len(means) + 1)  # never 0: that would claim more than the draws can show
    return float(distributions.t.cdf(distributions.norm.ppf(share) / math.sqrt(clusters / (clusters - 1)), clusters - 1))


@dataclass(frozen=True, eq=False)
class ResampledChange:
    """Variant less baseline, of a figure between 0 and 1: what resampling says of it, and what independent clips would say at the most.

    value: the change; draws: float (R,), the change in each resample, None for a single cluster; clusters, clips: how many there are
    centre, error: of a normal approximation for independent clips, which no test and no limit is surer than
    """

    value: float
    draws: Floats | None
    clusters: int
    clips: int
    centre: float
    error: float

    @property
    def samples(self) -> int:
        return self.clips

    @property
    def unit(self) -> str:
        return "clips"

    def above(self, limit: float) -> float:
        """One-sided p-value of "the true change is not above `limit`"."""
        p = float(distributions.norm.sf((self.centre - limit) / self.error))
        return p if self.draws is None else max(p, tail_probability(self.draws, limit, self.clusters))

    def below(self, limit: float) -> float:
        """One-sided p-value of "the true change is not below `limit`"."""
        p = float(distributions.norm.cdf((self.centre - limit) / self.error))
        return p if self.draws is None else max(p, tail_probability(-self.draws, -limit, self.clusters))

    def interval(self, tail: float) -> Interval:
        """Limits that the truth lies beyond with probability `tail` each."""
        half = float(distributions.norm.isf(tail)) * self.error
        low, high = self.centre - half, self.centre + half
        if self.draws is not None:
            widened = widened_tail(tail, self.clusters)
            low, high = min(low, float(np.quantile(self.draws, widened))), max(high, float(np.quantile(self.draws, 1 - widened)))
        return max(low, -1.0), min(high, 1.0)


def bca_interval(
    units: Sequence[Floats], statistic: Callable[[Floats], float], confidence: float = 0.95, *, resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """Bias-corrected and accelerated interval of a statistic of pooled samples (Efron 1987); None below 6 units.

    units: the samples of each block, drawn whole; statistic: of float (N,), the samples of the drawn blocks one after the other
    raises: ValueError if a unit is empty
    """
    if any(not len(unit) for unit in units):
        raise ValueError("every block needs at least one sample")
    n = len(units)
    if n < MIN_UNITS:
        return None
    arrays = [np.asarray(unit, np.float64) for unit in units]
    estimate = statistic(np.concatenate(arrays))
    random = np.random.default_rng(seed)
    draws = np.array([statistic(np.concatenate([arrays[i] for i in row])) for row in random.integers(0, n, (resamples, n))])
    without = np.array([statistic(np.concatenate(arrays[:i] + arrays[i + 1 :])) for i in range(n)])
    # Ties count half: quantiles of few distinct values often equal the estimate.
    below = (np.count_nonzero(draws < estimate) + np.count_nonzero(draws == estimate) / 2) / resamples
    if not 0 < below < 1:  # all draws to one side: nothing to correct with
        low, high = np.quantile(draws, ((1 - confidence) / 2, (1 + confidence) / 2))
        return float(low), float(high)
    bias = float(distributions.norm.ppf(below))
    away = without.mean() - without
    spread = float((away**2).sum()) ** 1.5
    acceleration = float((away**3).sum()) / (6 * spread) if spread else 0.0
    z = bias + distributions.norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(draws, distributions.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)
