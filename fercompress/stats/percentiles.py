"""Percentiles and their bounds: timed samples in, values out; None where the sample cannot support them at 99 % confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fercompress.stats.bootstrap import MIN_UNITS, bca_limits
from fercompress.stats.centre import Floats, Interval

# Timed calls needed before a percentile may be claimed: the fewest n for which, at 99 % confidence, the true percentile lies at or below
# the second-largest sample (MLPerf LoadGen's early stopping with one sample over the limit).
FLOORS = {0.5: 11, 0.9: 64, 0.95: 130, 0.99: 662}


def percentile(samples: Sequence[float] | Floats, q: float) -> float | None:
    """The smallest sample that at least the share q of the samples does not exceed; None below the floor of q. q: a key of FLOORS"""
    return float(np.quantile(samples, q, method="inverted_cdf")) if len(samples) >= FLOORS[q] else None


def percentile_interval(
    blocks: Sequence[Sequence[float] | Floats], q: float, confidence: float = 0.95, *, resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """BCa bootstrap interval of the pooled samples' q-quantile, blocks drawn whole; None below six blocks or the floor of q (a key of FLOORS)"""
    arrays = [np.sort(np.asarray(block, np.float64)) for block in blocks]
    if any(not len(block) for block in arrays):
        raise ValueError("every block needs at least one sample")
    n = len(arrays)
    if n < MIN_UNITS or sum(map(len, arrays)) < FLOORS[q]:
        return None
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
    counts = np.stack([np.bincount(row, minlength=n) for row in drawn])
    estimate = pooled_quantiles(arrays, np.ones((1, n), np.int64), q)[0]
    without = pooled_quantiles(arrays, 1 - np.eye(n, dtype=np.int64), q)
    return bca_limits(float(estimate), pooled_quantiles(arrays, counts, q), without, confidence)


def pooled_quantiles(blocks: Sequence[Floats], counts: npt.NDArray[np.integer], q: float) -> Floats:
    """The q-quantile of each pool that holds block b so often as counts[:, b] says; blocks: each sorted; counts: (R, blocks). returns: (R,)

    By bisection over the values, not by pooling: a run has 100 000 timed clips, and a bootstrap thousands of pools.
    """
    values = np.unique(np.concatenate(blocks))
    wanted = np.maximum(1, np.ceil(q * (counts @ np.array([len(block) for block in blocks])) - 1e-9))
    low, high = np.zeros(len(counts), np.int64), np.full(len(counts), len(values) - 1)
    while (low < high).any():
        middle = (low + high) // 2
        ranks = np.stack([np.searchsorted(block, values[middle], side="right") for block in blocks], axis=1)
        enough = (counts * ranks).sum(axis=1) >= wanted
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    return np.asarray(values[low], np.float64)


def claimable(samples: int) -> tuple[float, ...]:
    """The percentiles (keys of FLOORS) that so many timed samples support."""
    return tuple(q for q, floor in FLOORS.items() if samples >= floor)
