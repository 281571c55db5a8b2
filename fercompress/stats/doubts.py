"""Doubts as values: what was measured in, the reasons why its numbers are weaker than they look out.

A doubt never removes a sample and never changes a number: it stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fercompress.records import Doubt
from fercompress.stats.centre import Floats
from fercompress.stats.looks import FEWEST_ROUNDS
from fercompress.stats.percentiles import FLOORS
from fercompress.stats.spread import coefficient_of_variation, drift, mode_distance, outliers

NOISY = 0.10  # variation of the blocks' medians (pyperf's limit)
DRIFT = 0.05  # between the rounds' halves
# Distance of two modes; of 1500 normal samples each 1 % reach it with 12 blocks, 0.2 % with 16, none with 24.
MODES = 5.5
OUTLIERS = 1 / 50  # share of the timed clips that may be far (pyperf's and measurement practice: more than one in 50 is unstable)


def sample_doubts(timed_clips: int, rounds: int) -> frozenset[Doubt]:
    found = set()
    if timed_clips < FLOORS[0.9]:
        found.add(Doubt.FEW_SAMPLES)
    if rounds < FEWEST_ROUNDS:
        found.add(Doubt.FEW_BLOCKS)
    return frozenset(found)


def block_doubts(blocks: Sequence[Sequence[float] | Floats]) -> frozenset[Doubt]:
    """blocks: the positive samples of each block of one variant and stage, in the order measured."""
    found = set()
    medians = [float(np.median(block)) for block in blocks]
    variation, moved, apart = coefficient_of_variation(medians), drift(medians), mode_distance(medians)
    if variation is not None and variation >= NOISY:
        found.add(Doubt.NOISY)
    if moved is not None and abs(moved) >= DRIFT:
        found.add(Doubt.DRIFT)
    if apart is not None and apart >= MODES:
        found.add(Doubt.BIMODAL)
    counts = [count for block in blocks if (count := outliers(block)) is not None]
    if counts and sum(count.far for count in counts) > OUTLIERS * sum(count.n for count in counts):
        found.add(Doubt.OUTLIERS)
    return frozenset(found)


def condition_doubts(*, throttled: bool, clock_changed: bool, hot_start: bool) -> frozenset[Doubt]:
    """Of what the target's sensors said during any of the blocks."""
    seen = {Doubt.THROTTLED: throttled, Doubt.CLOCK_CHANGED: clock_changed, Doubt.HOT_START: hot_start}
    return frozenset(doubt for doubt, true in seen.items() if true)
