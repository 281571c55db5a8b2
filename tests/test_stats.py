import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from fercompress import stats

finite = st.floats(-100, 100, allow_subnormal=False)


def test_hodges_lehmann_of_one_three_eight_is_the_median_of_their_six_pair_means():
    assert stats.hodges_lehmann([1, 3, 8]) == 3.75  # pair means 1 2 3 4.5 5.5 8


@given(st.lists(finite, min_size=1, max_size=20), st.floats(-50, 50))
def test_hodges_lehmann_moves_with_its_values_and_turns_with_their_sign(values, shift):
    x = np.array(values)
    assert stats.hodges_lehmann(x + shift) == pytest.approx(stats.hodges_lehmann(x) + shift, abs=1e-9)
    assert stats.hodges_lehmann(-x) == pytest.approx(-stats.hodges_lehmann(x), abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_five_rounds_cannot_reach_95_percent(n):
    assert stats.signed_rank_interval(list(range(n))) is None


def test_six_rounds_reach_it_with_their_whole_range():
    assert stats.signed_rank_interval([3, 1, 2, 9, 5, 4]) == (1, 9)


@pytest.mark.parametrize(("n", "rank_sum"), [(6, 0), (8, 3), (10, 8), (12, 13), (20, 52), (25, 89)])
def test_interval_uses_the_published_critical_values(n, rank_sum):
    """Two-sided 5 % critical values of the signed-rank test (Wilcoxon & Wilcox 1964): the interval starts one Walsh average above."""
    values = 2.0 ** np.arange(n)  # all pair means differ
    averages = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2))
    assert stats.signed_rank_interval(values) == (averages[rank_sum], averages[-rank_sum - 1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-10_000, 10_000), min_size=6, max_size=14, unique=True), st.sampled_from([0.9, 0.95, 0.99]))
def test_interval_holds_exactly_the_shifts_that_scipys_wilcoxon_test_does_not_reject(values, confidence):
    x = np.array(values, float) + np.random.default_rng(0).uniform(0, 0.5, len(values))  # no ties
    interval = stats.signed_rank_interval(x, confidence)
    if interval is None:
        assert oracle.wilcoxon(x - x.min() + 1, method="exact").pvalue > 1 - confidence
        return
    low, high = interval
    step = 1e-7
    for inside in (low + step, high - step):
        assert oracle.wilcoxon(x - inside, method="exact").pvalue > 1 - confidence
    for outside in (low - step, high + step):
        assert oracle.wilcoxon(x - outside, method="exact").pvalue <= 1 - confidence


def test_interval_covers_the_true_ratio_at_least_as_often_as_it_says():
    random = np.random.default_rng(3)
    intervals = [stats.signed_rank_interval(random.standard_t(3, 8) * 0.02 + 0.1) for _ in range(1000)]
    assert 0.94 <= np.mean([low <= 0.1 <= high for low, high in intervals]) <= 0.98  # exact level for 8 pairs: 0.961


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf] * 6, [[1.0, 2.0]]])
def test_values_that_no_ratio_can_have_are_refused(values):
    with pytest.raises(ValueError, match="all finite"):
        stats.hodges_lehmann(values)


def test_wilson_interval_of_8_in_10_is_the_textbooks():
    assert stats.wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95]))
def test_wilson_interval_is_scipys(case, confidence):
    k, n = case
    theirs = oracle.binomtest(k, n).proportion_ci(confidence, method="wilson")
    low, high = stats.wilson_interval(k, n, confidence)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= low <= k / n <= high <= 1


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_impossible_counts(k, n):
    with pytest.raises(ValueError, match="0 <= successes <= n"):
        stats.wilson_interval(k, n)


def people(per_person, n):
    return [f"p{i // per_person}" for i in range(n)]


def test_seed_mean_counts_every_seed_once_however_many_clips_it_saw():
    assert stats.seed_mean(np.array([[1, 1, 0, 0], [1, math.nan, math.nan, math.nan]])) == 0.75


def test_accuracy_interval_of_clips_alike_within_persons_is_that_of_the_persons():
    """20 persons, wholly right or wholly wrong: 50 clips each tell no more than one."""
    each = (np.random.default_rng(0).random(20) < 0.7).astype(float)
    many = stats.accuracy_interval(np.repeat(each, 50)[None], people(50, 1000))
    one = stats.accuracy_interval(each[None], people(1, 20))
    naive = stats.wilson_interval(each.sum() * 50, 1000)
    assert many[1] - many[0] > 5 * (naive[1] - naive[0])
    assert many == pytest.approx(one, abs=0.04)


@pytest.mark.parametrize(("seeds", "persons", "clips", "share"), [(1, 20, 20, 0.9), (3, 40, 10, 0.95), (1, 60, 5, 0.99)])
def test_accuracy_interval_covers_the_truth_about_as_often_as_it_says(seeds, persons, clips, share):
    random = np.random.default_rng(5)
    covered = 0
    for repeat in range(250):
        chances = np.repeat(random.beta(share * 19, (1 - share) * 19, persons), clips)  # intra-person correlation 0.05
        low, high = stats.accuracy_interval(
            (random.random((seeds, persons * clips)) < chances) * 1.0, people(clips, persons * clips), resamples=400, seed=repeat
        )
        covered += low <= share <= high
    assert covered / 250 >= 0.91


def test_all_clips_right_is_not_certainty():
    low, high = stats.accuracy_interval(np.ones((1, 100)), people(10, 100))
    assert (low, high) == pytest.approx((0.963, 1), abs=1e-3)  # Wilson of 100 of 100


def test_a_second_seed_that_does_better_or_worse_widens_the_interval():
    one = (np.random.default_rng(0).random(400) < 0.9) * 1.0
    other = one.copy()
    other[np.flatnonzero(one)[::8]] = 0
    alone, both = stats.accuracy_interval(one[None], people(1, 400)), stats.accuracy_interval(np.stack([one, other]), people(1, 400))
    assert both[1] - both[0] > 1.5 * (alone[1] - alone[0])


def test_a_single_person_gets_the_interval_of_independent_clips():
    correct = np.array([[1.0] * 8 + [0.0] * 2])
    assert stats.accuracy_interval(correct, ["a"] * 10) == pytest.approx(stats.wilson_interval(8, 10))


def test_accuracy_interval_is_the_same_at_every_call_and_does_not_depend_on_the_names():
    correct = (np.random.default_rng(1).random((2, 60)) < 0.8) * 1.0
    assert stats.accuracy_interval(correct, people(3, 60)) == stats.accuracy_interval(correct, [f"x{name}" for name in people(3, 60)])


def test_drop_limit_of_identical_variants_is_small_but_not_zero():
    correct = (np.random.default_rng(1).random((3, 1500)) < 0.97) * 1.0
    assert stats.drop_limit(correct, correct, people(15, 1500)) == pytest.approx(1.645 * math.sqrt(2 / 1502) / math.sqrt(1502), rel=1e-3)


def test_pairing_makes_the_limit_of_the_drop_tighter_than_two_separate_intervals():
    random = np.random.default_rng(2)
    baseline = (random.random((3, 1500)) < 0.9) * 1.0
    variant = np.where(random.random((3, 1500)) < 0.01, 1 - baseline, baseline)
    limit = stats.drop_limit(baseline, variant, people(15, 1500))
    low, high = stats.accuracy_interval(baseline, people(15, 1500))
    assert 0.005 < limit < 0.02 < high - low


def test_drop_limit_keeps_its_level_when_the_true_drop_is_one_point():
    random = np.random.default_rng(9)
    below = 0
    for repeat in range(300):
        hard = np.repeat(random.beta(0.9, 0.1, 40), 20)  # persons differ much: what pairing takes out
        baseline = random.random(800) < hard
        variant = baseline & (random.random(800) > 0.02 / 0.9)  # 2 points lost on average
        variant |= ~baseline & (random.random(800) < 0.1)  # and one won
        below += stats.drop_limit(baseline[None] * 1.0, variant[None] * 1.0, people(20, 800), resamples=400, seed=repeat) < 0.01
    assert below / 300 <= 0.08  # says "less than a point lost" wrongly in about 5 % of cases


def test_drop_limit_is_negative_where_the_variant_is_clearly_better():
    baseline, variant = np.zeros((1, 500)), np.ones((1, 500))
    assert stats.drop_limit(baseline, variant, people(10, 500)) < -0.98


def test_drop_limit_refuses_other_seeds_or_clips():
    with pytest.raises(ValueError, match="same seeds and clips"):
        stats.drop_limit(np.ones((1, 3)), np.ones((2, 3)), ["a", "b", "c"])


@pytest.mark.parametrize(("q", "floor"), stats.FLOORS.items())
def test_floors_are_the_fewest_samples_whose_second_largest_bounds_the_percentile_at_99_percent(q, floor):
    def confidence(n):
        return 1 - (q**n + n * (1 - q) * q ** (n - 1))  # 1 - P(at most one sample above)

    assert confidence(floor) >= 0.99 > confidence(floor - 1)


def test_percentiles_are_claimed_from_their_floor_on():
    assert stats.percentile(range(1, 64), 0.9) is None
    assert stats.percentile(range(1, 65), 0.9) == 58
    assert stats.percentile(range(1, 11), 0.5) is None
    assert stats.percentile(range(1, 12), 0.5) == 6


def test_a_block_counts_once_however_long_it_is():
    assert stats.median_of_medians([[1] * 1000, [5, 6, 7], [9]]) == 6


def test_variation_and_drift_of_a_few_numbers():
    assert stats.coefficient_of_variation([9, 10, 11]) == pytest.approx(0.1)
    assert stats.coefficient_of_variation([5]) is None
    assert stats.drift([10, 10, 50, 11, 11]) == pytest.approx(0.1)
    assert stats.drift([10, 10, 11]) is None


def test_the_interval_of_a_change_is_the_limits_of_both_drops():
    random = np.random.default_rng(3)
    one, other = ((random.random((3, 60)) < share).astype(float) for share in (0.9, 0.8))
    one[0, 7] = other[0, 7] = np.nan
    people = [f"p{i // 5}" for i in range(60)]
    low, high = stats.change_interval(one, other, people)
    assert low == pytest.approx(-stats.drop_limit(one, other, people, 0.975))
    assert high == pytest.approx(stats.drop_limit(other, one, people, 0.975))
    assert low < stats.seed_mean(other - one) < high
