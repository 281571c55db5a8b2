"""Answers that changed: two models' logits or predictions of identical clips in; flips, negative flips and their tests out.

A flip is another answer than the baseline's; it is negative where the baseline was right and the variant is wrong. Accuracy sees only the
difference of negative and positive flips; a user notices each negative one (Yan et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats as distributions

from fercompress.stats.accuracy import seed_mean
from fercompress.stats.bootstrap import RESAMPLES, Resampled, resampled_means
from fercompress.stats.centre import Floats, Interval
from fercompress.stats.classes import UNSEEN

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Flips:
    """answers: compared, over all seeds; flips, negative, positive: how many of them"""

    answers: int
    flips: int
    negative: int
    positive: int


def flips(labels: Ints, baseline: Ints, variant: Ints) -> Flips:
    """labels: int (N,); baseline, variant: int (S, N), UNSEEN where a seed did not see a clip. raises: ValueError for different shapes"""
    if baseline.shape != variant.shape or baseline.shape[1:] != labels.shape:
        raise ValueError(f"needs the same seeds and clips, got {baseline.shape} and {variant.shape} for {labels.shape} labels")
    seen = (baseline != UNSEEN) & (variant != UNSEEN)
    was, now = baseline == labels, variant == labels
    flipped = (baseline != variant) & seen
    return Flips(int(seen.sum()), int(flipped.sum()), int((was & ~now & seen).sum()), int((now & ~was & seen).sum()))


def largest_difference(baseline: Floats, variant: Floats) -> float:
    """Largest distance between the logits of one clip and class. baseline, variant: float (..., C) of one shape; NaN on one side only is infinity"""
    if baseline.shape != variant.shape:
        raise ValueError(f"needs logits of one shape, got {baseline.shape} and {variant.shape}")
    same = (baseline == variant) | (np.isnan(baseline) & np.isnan(variant))
    distances = np.abs(np.where(same, 0.0, baseline) - np.where(same, 0.0, variant))  # no infinity less itself
    return float(np.where(np.isnan(distances), np.inf, distances).max(initial=0.0))


def identical(baseline: Floats, variant: Floats) -> bool:
    """Whether all logits agree to the last bit: then every figure of accuracy is equal, and no statistics are needed to say so."""
    return largest_difference(baseline, variant) == 0.0


@dataclass(frozen=True, eq=False)
class NegativeFlips(Resampled):
    """The share of negative flips: exact binomial tests of independent clips or the bootstrap's over persons, whichever is less sure."""

    def above(self, limit: float) -> float:
        """As of `Resampled`; a share is certainly above a negative limit, and never above 1."""
        return super().above(limit) if 0 <= limit < 1 else float(limit >= 1)

    def below(self, limit: float) -> float:
        return super().below(limit) if 0 < limit <= 1 else float(limit <= 0)

    def independent_above(self, limit: float) -> float:
        return float(distributions.binom.sf(math.floor(self._count) - 1, self.clips, limit))

    def independent_below(self, limit: float) -> float:
        return float(distributions.binom.cdf(math.ceil(self._count), self.clips, limit))

    def independent_interval(self, tail: float) -> Interval:
        """Clopper & Pearson 1934"""
        fewest, most = math.floor(self._count), math.ceil(self._count)
        low = float(distributions.beta.ppf(tail, fewest, self.clips - fewest + 1)) if fewest else 0.0
        high = float(distributions.beta.isf(tail, most + 1, self.clips - most)) if most < self.clips else 1.0
        return low, high

    @property
    def _count(self) -> float:
        """Mean over seeds; rounded so that 3.0000000000000004 clips are 3."""
        return round(self.value * self.clips, 9)


def negative_flips(
    labels: Ints, baseline: Ints, variant: Ints, clusters: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> NegativeFlips:
    """Arguments as of `flips`; clusters: N names, the persons that are drawn together."""
    flips(labels, baseline, variant)  # checks the shapes
    unseen = (baseline == UNSEEN) | (variant == UNSEEN)
    negative = np.where(unseen, np.nan, (baseline == labels) & (variant != labels))
    clips = int((~unseen).any(axis=0).sum())
    return NegativeFlips(seed_mean(negative), resampled_means(negative, clusters, resamples, seed), len(set(clusters)), clips)
