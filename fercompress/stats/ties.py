"""Variants that cannot be told apart: scores, rounds or sizes of several in; which pairs are tied, and groups of them, out.

A tie is a symmetric bool matrix (V, V), true on its diagonal. It is no equivalence: a may be tied with b and b with c where a and c are told apart.
Pairs are judged one by one at 95 %, so that of dozens of pairs that truly are alike one in twenty is told apart by chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fercompress.stats.accuracy import accuracy_change, paired_share, seed_mean
from fercompress.stats.bootstrap import RESAMPLES, ResampledChange, drawn_counts
from fercompress.stats.centre import Floats, signed_rank_interval

Ties = npt.NDArray[np.bool_]
TAIL = 0.025


def tied_in_accuracy(scores: Sequence[Floats], clusters: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> Ties:
    """Pairs whose `change_interval` holds 0; not those without a seed and clip in common. The persons are drawn once for all pairs.

    scores: V of float (S seeds, N clips), 1 right, 0 wrong, NaN unseen; clusters: N names
    """
    means = _joint_means(scores, clusters, resamples, seed)

    def alike(one: int, other: int) -> bool:
        unseen = np.isnan(scores[one]) | np.isnan(scores[other])
        if unseen.all():
            return False
        rows = ~unseen.all(axis=1)
        if means is None or not rows.all() or (np.isnan(scores[one]) != np.isnan(scores[other])).any():
            pair = [np.where(unseen, np.nan, scores[which])[rows] for which in (one, other)]
            low, high = accuracy_change(pair[0], pair[1], clusters, resamples=resamples, seed=seed).interval(TAIL)
        else:
            low, high = _change(scores[one], scores[other], means[other] - means[one], len(set(clusters))).interval(TAIL)
        return low <= 0 <= high

    return _pairs(len(scores), alike)


def _joint_means(scores: Sequence[Floats], clusters: Sequence[str], resamples: int, seed: int) -> Floats | None:
    """`seed_mean` of every variant in the same draws, (V, resamples); None for a single cluster.

    Of two variants that saw the same seeds and clips the difference of their rows is what `resampled_means` gives of their difference.
    """
    names, which = np.unique(np.asarray(clusters, str), return_inverse=True)
    if len(names) < 2 or not scores:
        return None
    drawn, weight = drawn_counts(len(names), len(scores[0]), resamples, seed)
    made = np.zeros((len(scores), resamples))
    for row, table in enumerate(scores):
        seen = ~np.isnan(table)
        sums = np.array([np.bincount(which[mask], line[mask], len(names)) for line, mask in zip(table, seen, strict=True)])
        counts = np.array([np.bincount(which[mask], minlength=len(names)) for mask in seen])
        totals, sizes = drawn @ sums.T, drawn @ counts.T
        usable = weight * (sizes > 0)
        with np.errstate(invalid="ignore"):  # a draw in which no seed saw a clip is NaN, and left out below
            made[row] = (usable * totals / np.maximum(sizes, 1)).sum(axis=1) / usable.sum(axis=1)
    return made


def _change(one: Floats, other: Floats, draws: Floats, clusters: int) -> ResampledChange:
    gain = other - one
    n = int((~np.isnan(gain)).any(axis=0).sum())
    won, lost = (seed_mean(np.where(np.isnan(gain), np.nan, sign * gain > 0)) * n for sign in (1, -1))
    return ResampledChange(seed_mean(gain), draws[np.isfinite(draws)], clusters, n, *paired_share(lost, won, n))


def tied_in_rounds(logs: Floats) -> Ties:
    """Pairs whose signed-rank interval over the rounds that both have holds "no change", or that share too few rounds to say; not those without any.

    logs: float (V, rounds), a round's log of a variant's time, NaN where it has none
    """

    def alike(one: int, other: int) -> bool:
        ratios = logs[one] - logs[other]
        ratios = ratios[np.isfinite(ratios)]
        if not len(ratios):
            return False
        bounds = signed_rank_interval(ratios)
        return bounds is None or bounds[0] <= 0 <= bounds[1]

    return _pairs(len(logs), alike)


def tied_within(values: Sequence[float], ratio: float) -> Ties:
    """Pairs of positive values of which the larger is at most `ratio` times the smaller: for what has no interval."""
    return _pairs(len(values), lambda one, other: max(values[one], values[other]) <= ratio * min(values[one], values[other]))


def groups(ties: Ties, order: Sequence[int]) -> list[list[int]]:
    """Groups of two or more in which every two are tied; each variant is in one at most: the first, in `order`, that it is tied with as a whole."""
    found: list[list[int]] = []
    for index in order:
        home = next((group for group in found if all(ties[index, member] for member in group)), None)
        if home is None:
            found.append([index])
        else:
            home.append(index)
    return [group for group in found if len(group) > 1]


def _pairs(count: int, alike: Callable[[int, int], bool]) -> Ties:
    ties = np.eye(count, dtype=np.bool_)
    for one, other in itertools.combinations(range(count), 2):
        ties[one, other] = ties[other, one] = alike(one, other)
    return ties
