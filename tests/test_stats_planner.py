"""What the planner promises is what simulated rounds do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from fercompress import stats


def found(effect, noise, rounds, tail, runs=3000):
    random = np.random.default_rng(rounds)
    ratios = random.normal(math.log1p(effect), noise, (runs, rounds))
    return np.mean([stats.trimmed_mean(row).above(math.log(1.02)) <= tail for row in ratios])


@pytest.mark.parametrize(
    ("effect", "noise", "rounds", "metrics"), [(0.05, 0.015, 8, 1), (0.03, 0.01, 16, 9), (0.05, 0.012, 8, 9), (0.04, 0.03, 40, 4)]
)
def test_power_is_the_share_of_simulated_gates_that_find_it(effect, noise, rounds, metrics):
    promised = stats.gate_power(effect, noise, rounds, metrics=metrics)
    assert 0.3 < promised < 0.98
    assert found(effect, noise, rounds, stats.ALPHA / metrics) == pytest.approx(promised, abs=0.04)


@pytest.mark.parametrize(("effect", "rounds"), [(0.03, 6), (0.05, 6), (0.025, 7)])
def test_where_nothing_is_trimmed_power_is_that_of_the_non_central_t(effect, rounds):
    away = (math.log1p(effect) - math.log(1.02)) * math.sqrt(rounds) / 0.01
    theirs = oracle.nct.sf(oracle.t.isf(0.025, rounds - 1), rounds - 1, away)
    assert stats.gate_power(effect, 0.01, rounds) == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(("noise", "rounds"), [(0.015, 8), (0.03, 20)])
def test_equivalence_is_declared_as_often_as_promised(noise, rounds):
    random = np.random.default_rng(1)
    limit = math.log(1.02)
    means = [stats.trimmed_mean(row) for row in random.normal(0, noise, (3000, rounds))]
    declared = np.mean([max(mean.below(limit), mean.above(-limit)) <= stats.ALPHA for mean in means])
    assert declared == pytest.approx(stats.equivalence_power(noise, rounds), abs=0.05)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.025, 0.2), st.floats(0.002, 0.08), st.integers(1, 12))
def test_the_rounds_needed_are_enough_and_one_fewer_is_not(effect, noise, metrics):
    rounds = stats.rounds_needed(effect, noise, metrics=metrics)
    if rounds is None:
        assert stats.gate_power(effect, noise, 1000, metrics=metrics) < 0.9
        return
    assert stats.gate_power(effect, noise, rounds, metrics=metrics) >= 0.9
    assert rounds == 6 or stats.gate_power(effect, noise, rounds - 1, metrics=metrics) < 0.9


@settings(deadline=None, max_examples=40)
@given(st.floats(0.001, 0.1), st.integers(6, 100))
def test_the_detectable_effect_is_what_those_rounds_find_nine_times_in_ten(noise, rounds):
    effect = stats.detectable_effect(noise, rounds)
    assert effect > 0.02
    assert stats.gate_power(effect, noise, rounds) == pytest.approx(0.9, abs=1e-3)


def test_a_change_within_the_smallest_effect_needs_more_rounds_than_there_are():
    assert stats.rounds_needed(0.02, 0.001) is None
    assert stats.rounds_needed(0.01, 0.001) is None


def test_more_noise_more_metrics_and_a_smaller_share_cost_power():
    best = stats.gate_power(0.05, 0.01, 8)
    assert best > stats.gate_power(0.05, 0.02, 8) > stats.gate_power(0.05, 0.02, 8, metrics=9)
    assert best > stats.gate_power(0.05, 0.01, 8, share=0.1)


def test_no_noise_at_all_is_certain():
    assert stats.gate_power(0.021, 0.0, 6) == 1
    assert stats.gate_power(0.019, 0.0, 6) == 0


def test_below_six_rounds_nothing_can_be_claimed():
    assert stats.gate_power(1.0, 0.001, 5) == 0
    assert stats.detectable_effect(0.01, 5) is None


def test_claims_of_eight_rounds_of_eight_clips_hold_a_p90_but_no_p99():
    made = stats.claims(8, 8, 0.01)
    assert (made.timed_clips, made.percentiles) == (128, (0.5, 0.9))
    assert 0.03 < made.effect < 0.05
    assert stats.claims(8, 42, 0.01).percentiles == (0.5, 0.9, 0.95, 0.99)  # 672 of 662


def test_twenty_minutes_for_seven_variants_of_ten_seconds_a_block_are_eight_rounds():
    assert stats.rounds_within(20 * 60, 7, 10.0) == 8  # 140 s a round
    with pytest.raises(ValueError, match="block that takes time"):
        stats.rounds_within(60, 2, 0.0)


@pytest.mark.parametrize(("noise", "effect"), [(0.0, 0.02), (0.01, 0.02), (0.03, 0.06)])
def test_no_threshold_is_below_twice_the_noise_or_two_percent(noise, effect):
    assert stats.smallest_effect(noise) == pytest.approx(effect)
