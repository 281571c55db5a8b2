"""Accuracy of clips: right or wrong by seed and clip in; intervals, the paired change and its tests out.

The person and the training seed are the samples, never the single clip: clips of one person resemble each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats as distributions

from fercompress.stats.bootstrap import RESAMPLES, ResampledChange, resampled_means, widened_tail
from fercompress.stats.centre import Floats, Interval


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


def accuracy_interval(correct: Floats, clusters: Sequence[str], confidence: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Two-sided interval of `seed_mean(correct)` for new persons and, where there are several, new training seeds.

    correct: float (S seeds, N clips), 1 right, 0 wrong, NaN unseen; clusters: N names, the persons (or sentences) that are drawn together
    Bootstrap over clusters and seeds at once (both are crossed: every seed sees the same persons; Owen 2007), its percentiles widened for
    few clusters (Hesterberg 2015, sec. 5.3.1), and never narrower than Wilson's interval of N independent clips: where nearly every clip
    is right, resampling has hardly any spread left to show.
    """
    low, high = wilson_interval(seed_mean(correct) * _seen(correct), _seen(correct), confidence)
    means = resampled_means(correct, clusters, resamples, seed)
    if means is not None:
        tail = widened_tail((1 - confidence) / 2, len(set(clusters)))
        low, high = min(low, float(np.quantile(means, tail))), max(high, float(np.quantile(means, 1 - tail)))
    return low, high


def drop_limit(
    baseline: Floats, variant: Floats, clusters: Sequence[str], confidence: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """One-sided upper limit of how much less accurate `variant` is than `baseline` (share; negative: it is better even so).

    baseline, variant: float (S seeds, N clips), the same seeds and clips, 1 right, 0 wrong, NaN unseen. Paired by seed and clip.
    """
    return -accuracy_change(baseline, variant, clusters, resamples=resamples, seed=seed).interval(1 - confidence)[0]


def change_interval(
    baseline: Floats, variant: Floats, clusters: Sequence[str], confidence: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Two-sided interval of how much more accurate `variant` is than `baseline` (share): `drop_limit` to both sides, out of one bootstrap."""
    return accuracy_change(baseline, variant, clusters, resamples=resamples, seed=seed).interval((1 - confidence) / 2)


def accuracy_change(baseline: Floats, variant: Floats, clusters: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> ResampledChange:
    """How much more accurate `variant` is than `baseline` (share), with its tests; arguments as of `drop_limit`.

    Bootstrap as in `accuracy_interval`; never surer than N independent clips with one pseudo-clip lost and one won (Agresti & Min 2005),
    which keeps "no clip differs" from reading as "no difference is possible".
    """
    if baseline.shape != variant.shape:
        raise ValueError(f"needs the same seeds and clips, got {baseline.shape} and {variant.shape}")
    gain = variant - baseline
    n = _seen(gain)
    won, lost = (seed_mean(np.where(np.isnan(gain), np.nan, sign * gain > 0)) * n for sign in (1, -1))
    centre, error = paired_share(lost, won, n)
    means = resampled_means(gain, clusters, resamples, seed)
    return ResampledChange(seed_mean(gain), means, len(set(clusters)), n, centre, error)


def paired_share(lost: float, won: float, n: int) -> tuple[float, float]:
    """Centre and standard error of (won - lost) / n of n independent clips, one pseudo-clip lost and one won (Agresti & Min 2005)."""
    centre = (won - lost) / (n + 2)
    return centre, math.sqrt(((lost + won + 2) / (n + 2) - centre**2) / (n + 2))


def mcnemar(lost: int, won: int, *, mid: bool = False) -> float:
    """Two-sided p-value of "as many clips are lost as won", exact (McNemar 1947), or its less timid mid-p (Fagerland et al. 2013).

    lost, won: clips that only the baseline, only the variant is right about; clips of one person count as independent here
    """
    if lost < 0 or won < 0:
        raise ValueError(f"needs counts of clips, got {lost} lost and {won} won")
    fewer, n = min(lost, won), lost + won
    p = 2 * float(distributions.binom.cdf(fewer, n, 0.5))
    if mid:
        return min(1.0, p - float(distributions.binom.pmf(fewer, n, 0.5)))
    return min(1.0, p)


def _seen(scores: Floats) -> int:
    """Clips that at least one seed saw."""
    return int((~np.isnan(scores)).any(axis=0).sum())
