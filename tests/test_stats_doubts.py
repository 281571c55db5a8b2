"""Doubts: each appears where its cause is, and not without."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress import stats
from fercompress.records import Doubt


def blocks(medians, noise=0.01, n=64, seed=0):
    random = np.random.default_rng(seed)
    return [median * np.exp(random.normal(0, noise, n)) for median in medians]


def test_steady_blocks_raise_no_doubt():
    assert stats.block_doubts(blocks(np.random.default_rng(1).normal(100, 1, 16))) == frozenset()


@pytest.mark.parametrize(
    ("medians", "doubt"),
    [
        (100 + 12 * np.random.default_rng(2).standard_normal(16), Doubt.NOISY),
        (np.linspace(100, 112, 16), Doubt.DRIFT),
        (np.where(np.arange(16) % 3 == 0, 108.0, 100.0), Doubt.BIMODAL),
    ],
)  # fmt: skip
def test_noisy_drifting_and_two_faced_blocks_are_told(medians, doubt):
    assert doubt in stats.block_doubts(blocks(medians))


def test_more_than_one_far_clip_in_fifty_is_told_and_one_is_not():
    def with_far(count):
        made = blocks([100.0] * 8, n=50)
        for block in made:
            block[:count] = 1000
        return stats.block_doubts(made)

    assert Doubt.OUTLIERS not in with_far(1)
    assert Doubt.OUTLIERS in with_far(2)


@pytest.mark.parametrize("shape", ["normal", "skewed", "heavy"])
def test_one_mode_is_seldom_taken_for_two(shape):
    random = np.random.default_rng(3)
    draw = {
        "normal": lambda: random.normal(100, 1, 16),
        "skewed": lambda: 100 * random.lognormal(0, 0.02, 16),
        "heavy": lambda: 100 + random.standard_t(3, 16),
    }
    seen = [Doubt.BIMODAL in stats.block_doubts([[median] for median in draw[shape]()]) for _ in range(400)]
    assert np.mean(seen) <= 0.02


def test_two_modes_eight_spreads_apart_are_nearly_always_seen():
    random = np.random.default_rng(3)
    seen = [stats.mode_distance(random.normal(0, 1, 16) + 8 * random.permutation([0, 1] * 8)) >= 5.5 for _ in range(200)]
    assert np.mean(seen) >= 0.9


def test_modes_of_two_values_repeated_are_infinitely_apart_and_of_one_value_not_at_all():
    assert stats.mode_distance([1.0, 2.0] * 6) == float("inf")
    assert stats.mode_distance([1.0] * 12) == 0
    assert stats.mode_distance([1.0, 2.0] * 5) is None
    # 6 of spread 1 about 0 (-1 -1 -1 1 1 1) and the same about 100: variances 1.2, distance 100 / sqrt(1.2)
    assert stats.mode_distance([-1, -1, -1, 1, 1, 1, 99, 99, 99, 101, 101, 101]) == pytest.approx(100 / 1.2**0.5)


def test_outliers_are_counted_two_ways_and_the_largest_is_named():
    found = stats.outliers([9, 10, 10, 11, 10, 9, 11, 14, 50])
    # median 10, median deviation 1: far beyond 24.826 or below; quartiles 10 and 11: fences 8.5 and 12.5
    assert found == stats.Outliers(n=9, far=1, fenced=2, largest=5.0)
    assert stats.outliers([1, 2, 3]) is None


@settings(deadline=None)
@given(st.lists(st.floats(1, 100), min_size=4, max_size=30), st.floats(0.5, 8))
def test_outliers_do_not_depend_on_the_unit(values, factor):
    power_of_two = 2.0 ** round(factor)  # scales without rounding
    assert stats.outliers([power_of_two * v for v in values]) == stats.outliers(values)


@pytest.mark.parametrize(
    ("clips", "rounds", "doubts"),
    [(63, 6, {Doubt.FEW_SAMPLES}), (64, 5, {Doubt.FEW_BLOCKS}), (64, 6, set()), (1, 1, {Doubt.FEW_SAMPLES, Doubt.FEW_BLOCKS})],
)
def test_small_samples_are_told(clips, rounds, doubts):
    assert stats.sample_doubts(clips, rounds) == doubts


def test_what_the_sensors_saw_becomes_doubts():
    assert stats.condition_doubts(throttled=True, clock_changed=False, hot_start=True) == {Doubt.THROTTLED, Doubt.HOT_START}
    assert stats.condition_doubts(throttled=False, clock_changed=True, hot_start=False) == {Doubt.CLOCK_CHANGED}
