"""Statistics of blocks and clips: plain arrays in, estimates and intervals out; None where a sample is too small to say.

The block (a fresh process), the round and the person are the samples here, never the single inference or clip:
inferences of one process and clips of one person resemble each other, and counting them as independent finds differences that are not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats as distributions

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

# Timed calls needed before a percentile may be claimed: the fewest n for which, at 99 % confidence, the true percentile lies at or below
# the second-largest sample (MLPerf LoadGen's early stopping with one sample over the limit).
FLOORS = {0.5: 11, 0.9: 64, 0.95: 130, 0.99: 662}


def hodges_lehmann(values: Sequence[float] | Floats) -> float:
    """Median of all pairwise means, a value's with itself too (Hodges & Lehmann 1963): the centre that the signed-rank interval surrounds."""
    return float(np.median(_walsh_averages(values)))


def signed_rank_interval(values: Sequence[float] | Floats, confidence: float = 0.95) -> Interval | None:
    """Exact interval for the centre of symmetric values: the shifts that Wilcoxon's signed-rank test does not reject.

    returns: None where even the widest, (min, max), falls short of `confidence`: below 6 values at 95 %
    """
    averages = np.sort(_walsh_averages(values))
    n = len(values)
    cumulative = np.cumsum(_signed_rank_probabilities(n))
    # The rounding of sums of powers of two stays far below the steps of the distribution.
    rejected = int(np.searchsorted(cumulative, (1 - confidence) / 2 * (1 + 1e-12), side="right"))  # rank sums 0 .. rejected - 1 are too rare
    if not rejected:
        return None
    return float(averages[rejected - 1]), float(averages[-rejected])


def _walsh_averages(values: Sequence[float] | Floats) -> Floats:
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError("needs at least one value, all finite, in one dimension")
    i, j = np.triu_indices(len(x))
    averages: Floats = x[i] + (x[j] - x[i]) / 2
    return averages


def _signed_rank_probabilities(n: int) -> Floats:
    """P(rank sum = 0, 1, ..., n(n+1)/2) under symmetry: each rank is in or out with probability 1/2."""
    p = np.ones(1)
    for rank in range(1, n + 1):
        p = (np.pad(p, (0, rank)) + np.pad(p, (rank, 0))) / 2
    return p


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Score interval of a share (Wilson 1927); successes may be a mean over several tries of the same n."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    z = float(distributions.norm.ppf((1 + confidence) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def seed_mean(scores: Floats) -> float:
    """scores: float (S seeds, N clips), NaN where a seed did not see a clip. returns: the mean over seeds of each seed's mean."""
    counts = (~np.isnan(scores)).sum(axis=1)
    if not len(counts) or not counts.all():
        raise ValueError("every seed needs at least one clip")
    return float((np.nansum(scores, axis=1) / counts).mean())


def accuracy_interval(correct: Floats, clusters: Sequence[str], confidence: float = 0.95, *, resamples: int = 4000, seed: int = 0) -> Interval:
    """Two-sided interval of `seed_mean(correct)` for new persons and, where there are several, new training seeds.

    correct: float (S seeds, N clips), 1 right, 0 wrong, NaN unseen; clusters: N names, the persons (or sentences) that are drawn together
    Bootstrap over clusters and seeds at once (both are crossed: every seed sees the same persons; Owen 2007), its percentiles widened for
    few clusters (Hesterberg 2015, sec. 5.3.1), and never narrower than Wilson's interval of N independent clips: where nearly every clip
    is right, resampling has hardly any spread left to show.
    """
    low, high = wilson_interval(seed_mean(correct) * _seen(correct), _seen(correct), confidence)
    means = _resampled_means(correct, clusters, resamples, seed)
    if means is not None:
        tail = _widened_tail((1 - confidence) / 2, len(set(clusters)))
        low, high = min(low, float(np.quantile(means, tail))), max(high, float(np.quantile(means, 1 - tail)))
    return low, high


def drop_limit(
    baseline: Floats, variant: Floats, clusters: Sequence[str], confidence: float = 0.95, *, resamples: int = 4000, seed: int = 0
) -> float:
    """One-sided upper limit of how much less accurate `variant` is than `baseline` (share; negative: it is better even so).

    baseline, variant: float (S seeds, N clips), the same seeds and clips, 1 right, 0 wrong, NaN unseen. Paired by seed and clip.
    Bootstrap as in `accuracy_interval`; never below the paired limit of N independent clips with one pseudo-clip lost and one won
    (Agresti & Min 2005), which keeps "no clip differs" from reading as "no difference is possible".
    """
    drop = _paired_drop(baseline, variant)
    return _drop_limit(drop, clusters, _resampled_means(drop, clusters, resamples, seed), confidence)


def change_interval(
    baseline: Floats, variant: Floats, clusters: Sequence[str], confidence: float = 0.95, *, resamples: int = 4000, seed: int = 0
) -> Interval:
    """Two-sided interval of how much more accurate `variant` is than `baseline` (share): `drop_limit` to both sides, out of one bootstrap."""
    drop = _paired_drop(baseline, variant)
    means = _resampled_means(drop, clusters, resamples, seed)
    one_sided = (1 + confidence) / 2
    return -_drop_limit(drop, clusters, means, one_sided), _drop_limit(-drop, clusters, None if means is None else -means, one_sided)


def _paired_drop(baseline: Floats, variant: Floats) -> Floats:
    if baseline.shape != variant.shape:
        raise ValueError(f"needs the same seeds and clips, got {baseline.shape} and {variant.shape}")
    return baseline - variant


def _drop_limit(drop: Floats, clusters: Sequence[str], means: Floats | None, confidence: float) -> float:
    """means: of the bootstrap, None where there is a single cluster"""
    n = _seen(drop)
    lost, won = seed_mean(np.where(np.isnan(drop), np.nan, drop > 0)) * n, seed_mean(np.where(np.isnan(drop), np.nan, drop < 0)) * n
    centre = (lost - won) / (n + 2)
    limit = centre + float(distributions.norm.ppf(confidence)) * math.sqrt(((lost + won + 2) / (n + 2) - centre**2) / (n + 2))
    if means is not None:
        limit = max(limit, float(np.quantile(means, 1 - _widened_tail(1 - confidence, len(set(clusters))))))
    return min(limit, 1.0)


def _seen(scores: Floats) -> int:
    """Clips that at least one seed saw."""
    return int((~np.isnan(scores)).any(axis=0).sum())


def _resampled_means(scores: Floats, clusters: Sequence[str], resamples: int, seed: int) -> Floats | None:
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
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples).astype(np.float64)
    weight = random.multinomial(seeds, np.full(seeds, 1 / seeds), resamples).astype(np.float64)
    totals, sizes = drawn @ sums.T, drawn @ counts.T  # (resamples, S)
    weight *= sizes > 0
    usable = weight.sum(axis=1) > 0
    means = (weight * totals / np.maximum(sizes, 1)).sum(axis=1)[usable] / weight.sum(axis=1)[usable]
    return np.asarray(means, np.float64)


def _widened_tail(tail: float, n: int) -> float:
    """The percentile to take for a tail of the bootstrap of n units, which is too narrow by sqrt((n - 1) / n) and knows no t distribution."""
    return float(distributions.norm.cdf(math.sqrt(n / (n - 1)) * distributions.t.ppf(tail, n - 1)))


def percentile(samples: Sequence[float] | Floats, q: float) -> float | None:
    """The smallest sample that at least the share q of the samples does not exceed; None below the floor of q. q: a key of FLOORS"""
    return float(np.quantile(samples, q, method="inverted_cdf")) if len(samples) >= FLOORS[q] else None


def percentile_upper_bound(samples: Sequence[float] | Floats, q: float, confidence: float = 0.99) -> float | None:
    """Upper bound of the true q-quantile by order statistics, of independent samples from any distribution; None where n is too small."""
    n = len(samples)
    rank = int(distributions.binom.ppf(confidence, n, q)) + 1  # smallest k with P(at most k - 1 of n at or below the quantile) >= confidence
    return float(np.sort(samples)[rank - 1]) if rank <= n else None


def median_of_medians(blocks: Sequence[Sequence[float] | Floats]) -> float:
    """blocks: the samples of each block. A block counts once, however many samples it holds."""
    return float(np.median([np.median(block) for block in blocks]))


def coefficient_of_variation(values: Sequence[float] | Floats) -> float | None:
    """Standard deviation (n - 1) over mean; None below two values."""
    return float(np.std(values, ddof=1) / np.mean(values)) if len(values) > 1 else None


def drift(values: Sequence[float] | Floats) -> float | None:
    """Median of the later half over the median of the earlier half, less 1 (the middle of an odd number is in neither); None below four values."""
    half = len(values) // 2
    return float(np.median(values[-half:]) / np.median(values[:half]) - 1) if half >= 2 else None
