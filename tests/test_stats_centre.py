"""The trimmed mean, on which verdicts rest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from fercompress import stats

finite = st.floats(-100, 100, allow_subnormal=False)


def test_of_eight_values_the_lowest_and_the_highest_are_set_aside():
    found = stats.trimmed_mean([1, 2, 3, 4, 5, 6, 7, 1000])
    assert found.value == 4.5
    # Winsorized: 2 2 3 4 5 6 7 7, squares about 4.5 sum to 30; 30 / (6 * 5) = 1.
    assert found.error == pytest.approx(1)
    assert found.freedom == 4.5


@settings(max_examples=60, deadline=None)
@given(st.lists(finite, min_size=8, max_size=30, unique=True))
def test_mean_and_error_are_those_of_scipys_trimmed_t_test(values):
    x = np.array(values)
    found = stats.trimmed_mean(x)
    if found.error < 1e-6:
        return
    assert found.value == pytest.approx(oracle.trim_mean(x, 1 / 8), abs=1e-9)
    theirs = oracle.ttest_ind(x, -x, equal_var=False, trim=1 / 8)  # of a sample and its mirror image: sqrt(2) times the one-sample statistic
    assert found.value / found.error == pytest.approx(theirs.statistic / 2**0.5, rel=1e-6, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(finite, min_size=2, max_size=7, unique=True), finite)
def test_below_eight_values_it_is_students_t(values, limit):
    found = stats.trimmed_mean(values)
    if found.error < 1e-6:
        return
    assert found.above(limit) == pytest.approx(oracle.ttest_1samp(values, limit, alternative="greater").pvalue, abs=1e-9)
    assert found.below(limit) == pytest.approx(oracle.ttest_1samp(values, limit, alternative="less").pvalue, abs=1e-9)
    theirs = oracle.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.interval(0.025) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(st.lists(finite, min_size=8, max_size=20), st.floats(-50, 50), st.floats(0.1, 10))
def test_it_moves_and_stretches_with_its_values(values, shift, factor):
    x = np.array(values)
    before, after = stats.trimmed_mean(x), stats.trimmed_mean(factor * x + shift)
    assert after.value == pytest.approx(factor * before.value + shift, abs=1e-8)
    assert after.error == pytest.approx(factor * before.error, abs=1e-8)


def test_the_interval_holds_just_the_limits_that_neither_test_rejects():
    found = stats.trimmed_mean(np.random.default_rng(0).normal(size=16))
    low, high = found.interval(0.01)
    assert found.above(low) == pytest.approx(0.01)
    assert found.below(high) == pytest.approx(0.01)


@pytest.mark.parametrize("rounds", [6, 8, 12, 16])
def test_it_rejects_a_true_centre_no_more_often_than_it_says(rounds):
    """Also far out in the tail, where Holm's rule looks."""
    random = np.random.default_rng(rounds)
    p = np.array([stats.trimmed_mean(x).above(0) for x in random.normal(size=(8000, rounds))])
    for level in (0.025, 0.0025):
        assert np.mean(p <= level) <= level + 3 * (level / 8000) ** 0.5


def test_one_odd_round_of_eight_hides_a_slowdown_from_the_plain_t_test_but_not_from_the_trimmed_one():
    ratios = [0.049, 0.05, 0.048, 0.052, 0.047, 0.051, 0.05, -0.12]
    assert oracle.ttest_1samp(ratios, 0.02, alternative="greater").pvalue > 0.3
    assert stats.trimmed_mean(ratios).above(0.02) < 0.0001


def test_values_alike_to_the_last_bit_are_certain():
    found = stats.trimmed_mean([0.5] * 8)
    assert (found.above(0.4), found.above(0.5), found.below(0.5), found.below(0.6)) == (0, 1, 1, 0)
    assert found.interval(0.025) == (0.5, 0.5)


def test_one_value_has_no_error():
    assert stats.trimmed_mean([1.0]) is None
