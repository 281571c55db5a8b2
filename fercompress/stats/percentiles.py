"""Percentiles and their bounds: timed samples in, values out; None where the sample cannot support them at 99 % confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fercompress.stats.bootstrap import bca_interval
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
    arrays = [np.asarray(block, np.float64) for block in blocks]
    if sum(map(len, arrays)) < FLOORS[q]:
        return None
    return bca_interval(arrays, lambda pooled: _quantile(pooled, q), confidence, resamples=resamples, seed=seed)


def _quantile(samples: Floats, q: float) -> float:
    return float(np.quantile(samples, q, method="inverted_cdf"))


def claimable(samples: int) -> tuple[float, ...]:
    """The percentiles (keys of FLOORS) that so many timed samples support."""
    return tuple(q for q, floor in FLOORS.items() if samples >= floor)
