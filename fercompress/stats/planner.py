"""What so many rounds can show, and how many it takes: noise, effects and budgets in, rounds, powers and claims out. Nothing is measured here.

Noise is the standard deviation of one mirrored round's log ratio, as a calibration run of a bundle against itself finds it.
Powers are for normal rounds and the trimmed mean's t test; odd rounds cost a little more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats as distributions

from fercompress.stats.centre import TRIMMED_SHARE, trimmed_count
from fercompress.stats.looks import FEWEST_ROUNDS
from fercompress.stats.percentiles import claimable

ALPHA = 0.025  # one-sided; the interval beside a verdict is the 95 % one
POWER = 0.9
LEAST_EFFECT = 0.02  # no latency claim below 2 %, however quiet the machine: builds, layouts and caches move that much
MOST_ROUNDS = 1000  # what takes more is called undecidable
BLOCKS_PER_ROUND = 2  # of each variant: an order and its mirror


def smallest_effect(noise: float) -> float:
    """The smallest effect of interest that a target's noise allows: 2 %, and never below twice the noise."""
    return max(LEAST_EFFECT, 2 * noise)


def power_of(distance: float, noise: float, rounds: int, tail: float) -> float:
    """Chance that a one-sided test at level `tail` sees a true change that lies `distance` (logs) beyond the limit tested. 0 below six rounds"""
    if rounds < FEWEST_ROUNDS:
        return 0.0
    if noise == 0:
        return float(distance > 0)
    cut = trimmed_count(rounds)
    freedom = rounds - 2 * cut - 1 - (0.5 if cut else 0.0)
    critical = float(distributions.t.isf(tail, freedom))
    away = distance * math.sqrt(rounds) / (noise * _trimming_cost(rounds))
    if freedom > 100:  # where the non-central t's series loses its digits, and the normal is as good
        return float(distributions.norm.sf(critical - away))
    return float(distributions.nct.sf(critical, freedom, away))


def gate_power(effect: float, noise: float, rounds: int, *, smallest: float = LEAST_EFFECT, metrics: int = 1, share: float = 1.0) -> float:
    """Chance that a true change of `effect` (0.05: 5 % slower) is called worse at a look that may spend `share`, among so many tested metrics."""
    return power_of(math.log1p(effect) - math.log1p(smallest), noise, rounds, ALPHA * share / metrics)


def equivalence_power(noise: float, rounds: int, *, smallest: float = LEAST_EFFECT, share: float = 1.0) -> float:
    """Chance, at least, that a metric that did not change is called equivalent."""
    return max(0.0, 2 * power_of(math.log1p(smallest), noise, rounds, ALPHA * share) - 1)


def rounds_needed(effect: float, noise: float, *, smallest: float = LEAST_EFFECT, metrics: int = 1, power: float = POWER) -> int | None:
    """Fewest rounds, looked at once, that see a true change of `effect` with that power; None if over a thousand, or within the smallest effect."""
    return _fewest(math.log1p(effect) - math.log1p(smallest), noise, ALPHA / metrics, power, MOST_ROUNDS)


def detectable_effect(
    noise: float, rounds: int, *, smallest: float = LEAST_EFFECT, metrics: int = 1, power: float = POWER, share: float = 1.0
) -> float | None:
    """The least true change (0.03: 3 %) that so many rounds call worse with that power; None below six rounds."""
    if rounds < FEWEST_ROUNDS:
        return None
    low, high = 0.0, 1.0
    while power_of(high, noise, rounds, ALPHA * share / metrics) < power:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power_of(middle, noise, rounds, ALPHA * share / metrics) >= power else (middle, high)
    return math.exp(math.log1p(smallest) + high) - 1


def rounds_to_decide(
    change: float, noise: float, margin: float, *, alpha: float = ALPHA, metrics: int = 1, power: float = 0.8, most: int = MOST_ROUNDS
) -> int | None:
    """About how many rounds in all decide, if the change is what it looks like: beyond the margin or within it. None if more than `most`.

    change, margin: on one scale (logs, or shares); noise: of one sample on that scale
    """
    distance = abs(change) - margin
    return _fewest(abs(distance), noise, alpha / metrics if distance > 0 else alpha, power, most)


@dataclass(frozen=True)
class Claims:
    """What a run of so many rounds may say; percentiles: those that its timed clips support; effect: the least change it calls worse, None if none"""

    rounds: int
    timed_clips: int
    percentiles: tuple[float, ...]
    effect: float | None


def claims(rounds: int, clips_per_block: int, noise: float, *, smallest: float = LEAST_EFFECT, metrics: int = 1) -> Claims:
    """Of each variant, before anything is measured."""
    clips = BLOCKS_PER_ROUND * rounds * clips_per_block
    return Claims(rounds, clips, claimable(clips), detectable_effect(noise, rounds, smallest=smallest, metrics=metrics))


def rounds_within(budget_s: float, variants: int, block_s: float) -> int:
    """Whole rounds that fit; block_s: a block from its start to its end, loading and warm-up included."""
    if variants < 1 or block_s <= 0:
        raise ValueError(f"needs a variant and a block that takes time, got {variants} and {block_s} s")
    return int(budget_s // (BLOCKS_PER_ROUND * variants * block_s))


def _fewest(distance: float, noise: float, tail: float, power: float, most: int) -> int | None:
    if distance <= 0 or power_of(distance, noise, most, tail) < power:
        return None
    low, high = FEWEST_ROUNDS - 1, most  # the power at `low` is too small
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(distance, noise, middle, tail) >= power else (middle, high)
    # Trimming one more at either end can cost a little: of the few below, the first that does not fall back.
    while low >= FEWEST_ROUNDS and power_of(distance, noise, low, tail) >= power:
        low, high = low - 1, low
    return high


def _trimming_cost(rounds: int) -> float:
    """Standard error of the trimmed mean of normal values over that of their mean (its asymptotic variance: Huber 1981, sec. 3.3)."""
    if not trimmed_count(rounds):
        return 1.0
    z = float(distributions.norm.isf(TRIMMED_SHARE))
    kept = 1 - 2 * TRIMMED_SHARE
    within = kept - 2 * z * float(distributions.norm.pdf(z))
    return math.sqrt(within + 2 * TRIMMED_SHARE * z * z) / kept
