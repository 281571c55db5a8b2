"""Percentiles and their bounds: timed samples in, values out; None where the sample cannot support them at 99 % confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats as distributions

from fercompress.stats.bootstrap import bca_interval
from fercompress.stats.centre import Floats, Interval

# Timed calls needed before a percentile may be claimed: the fewest n for which, at 99 % confidence, the true percentile lies at or below
# the second-largest sample (MLPerf LoadGen's early stopping with one sample over the limit).
FLOORS = {0.5: 11, 0.9: 64, 0.95: 130, 0.99: 662}


def percentile(samples: Sequence[float] | Floats, q: float) -> float | None:
    """The smallest sample that at least the share q of the samples does not exceed; None below the floor of q. q: a key of FLOORS"""
    return float(np.quantile(samples, q, method="inverted_cdf")) if len(samples) >= FLOORS[q] else None


def percentile_upper_bound(samples: Sequence[float] | Floats, q: float, confidence: float = 0.99) -> float | None:
    """Upper bound of the true q-quantile by order statistics, of independent samples from any distribution; None where n is too small."""
    n = len(samples)
    rank = int(distributions.binom.ppf(confidence, n, q)) + 1  # smallest k with P(at most k - 1 of n at or below the quantile) >= confidence
    return float(np.sort(samples)[rank - 1]) if rank <= n else None


def percentile_bounds(samples: Sequence[float] | Floats, q: float, confidence: float = 0.99) -> Interval | None:
    """Lower and upper bound of the true q-quantile by order statistics, each missing it with probability (1 - confidence) / 2 at most.

    Of independent samples from any distribution; None where n is too small for either.
    """
    tail = (1 - confidence) / 2
    n = len(samples)
    # The k-th smallest lies at or below the quantile where at least k samples do: the largest k with P(fewer than k) <= tail.
    rank = int(distributions.binom.ppf(tail, n, q))
    rank += int(distributions.binom.cdf(rank, n, q) <= tail)
    upper = percentile_upper_bound(samples, q, 1 - tail)
    return None if rank < 1 or upper is None else (float(np.sort(samples)[rank - 1]), upper)


def percentile_interval(
    blocks: Sequence[Sequence[float] | Floats], q: float, confidence: float = 0.95, *, resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """BCa bootstrap interval of the pooled samples' q-quantile, blocks drawn whole; None below six blocks or the floor of q (a key of FLOORS)"""
    arrays = [np.asarray(block, np.float64) for block in blocks]
    if sum(map(len, arrays)) < FLOORS[q]:
        return None
    return bca_interval(arrays, lambda pooled: _quantile(pooled, q), confidence, resamples=resamples, seed=seed)


def _quantile(samples: Floats, q: float) -> float:
    return float(np.quantile(samples, q, method="inverted_cdf"))


def claimable(samples: int) -> tuple[float, ...]:
    """The percentiles (keys of FLOORS) that so many timed samples support."""
    return tuple(q for q, floor in FLOORS.items() if samples >= floor)
