"""Looks, Holm's rule and verdicts: known answers, error rates by seeded simulation, and what each verdict says."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress import stats
from fercompress.records import Doubt
from fercompress.stats import Comparison, Direction, ExactChange, Looks, Outcome, Scale, Verdict

ONCE = Looks((8,))


def test_holm_of_four_p_values_is_the_textbooks():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.2))
def test_holm_rejects_what_stepping_down_rejects(p_values, level):
    """The procedure itself: from the smallest on, reject while p <= level / (those left)."""
    left = len(p_values)
    rejected = set()
    for place in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        if p_values[place] * left > level:
            break
        rejected.add(place)
        left -= 1
    assert {i for i, p in enumerate(stats.holm(p_values)) if p <= level} == rejected


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.holm([0.1, math.nan])


def test_two_looks_spend_a_quarter_and_three():
    assert [Looks((8, 16)).share(rounds) for rounds in (8, 16)] == [0.25, 0.75]


@settings(deadline=None)
@given(st.lists(st.integers(6, 60), min_size=1, max_size=6, unique=True), st.floats(0.3, 4), st.integers(6, 60))
def test_all_looks_together_never_spend_more_than_all(rounds, exponent, end):
    looks = Looks(tuple(sorted(rounds)), exponent)
    assert sum(map(looks.share, looks.rounds)) == pytest.approx(1)
    if end <= looks.rounds[-1]:
        short = looks.ended(end)
        assert sum(map(short.share, short.rounds)) <= 1 + 1e-12
        for look in short.due(end)[:-1]:
            assert short.share(look) == looks.share(look)  # what earlier looks spent is not changed by the end


def test_a_budget_that_ends_early_gets_a_last_look_for_what_its_time_has_earned():
    ended = Looks((8, 16)).ended(12)
    assert ended.rounds == (8, 12)
    assert ended.share(12) == pytest.approx((12 / 16) ** 2 - (8 / 16) ** 2)
    assert Looks((8, 16)).following(12) == 16
    assert Looks((8, 16)).following(16) is None


@pytest.mark.parametrize("wrong", [(), (5, 8), (8, 8), (16, 8)])
def test_looks_that_do_not_grow_from_six_rounds_are_refused(wrong):
    with pytest.raises(ValueError, match="must grow from 6"):
        Looks(wrong)


def test_rounds_beyond_the_last_look_are_refused_since_their_error_is_spent():
    with pytest.raises(ValueError, match="17 rounds are more than the 16"):
        stats.paired_rounds([0.0] * 17, Looks((8, 16)))
    with pytest.raises(ValueError, match="no look is due at 9"):
        Looks((8, 16)).share(9)


def rounds(centre, noise=0.005, n=8, seed=0):
    return tuple(np.random.default_rng(seed).normal(centre, noise, n).tolist())


def latency(ratios, looks=ONCE, name="latency_clip_p50_ns", **settings_):
    return Comparison(name, Direction.LOWER, Scale.RATIO, 0.02, stats.paired_rounds(ratios, looks), **settings_)


def verdict(comparison):
    (found,) = stats.decide([comparison])
    return found


@pytest.mark.parametrize(
    ("centre", "noise", "outcome"),
    [(0.05, 0.005, Outcome.WORSE), (-0.05, 0.005, Outcome.BETTER), (0.0, 0.005, Outcome.EQUIVALENT), (0.02, 0.01, Outcome.INCONCLUSIVE)],
)
def test_a_slower_a_faster_an_equal_and_an_unclear_variant(centre, noise, outcome):
    found = verdict(latency(rounds(centre, noise)))
    assert found.outcome is outcome
    low, high = found.interval
    assert low < found.estimate < high
    assert (found.samples, found.unit) == (8, "rounds")
    assert (found.p_value <= stats.ALPHA) == (outcome is not Outcome.INCONCLUSIVE)


def test_where_higher_is_better_more_is_better_and_less_is_worse():
    higher = dataclasses.replace(latency(rounds(0.05)), direction=Direction.HIGHER)
    assert verdict(higher).outcome is Outcome.BETTER
    assert verdict(dataclasses.replace(latency(rounds(-0.05)), direction=Direction.HIGHER)).outcome is Outcome.WORSE


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-0.2, 0.2), min_size=8, max_size=8), st.sampled_from([0.005, 0.02, 0.05]))
def test_swapping_baseline_and_variant_turns_the_verdict_round(ratios, effect):
    turned = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER}
    there, back = (
        verdict(Comparison("m", Direction.LOWER, Scale.RATIO, effect, stats.paired_rounds(values, ONCE))) for values in (ratios, [-r for r in ratios])
    )
    assert back.outcome is turned.get(there.outcome, there.outcome)
    assert back.estimate == pytest.approx(1 / there.estimate)
    assert back.interval == pytest.approx((1 / there.interval[1], 1 / there.interval[0]))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-0.1, 0.1), min_size=8, max_size=16), st.sampled_from([0.005, 0.02, 0.05]))
def test_a_single_metrics_verdict_is_where_its_interval_lies(ratios, effect):
    looks = Looks((len(ratios),))
    found = verdict(Comparison("m", Direction.LOWER, Scale.RATIO, effect, stats.paired_rounds(ratios, looks)))
    low, high = found.interval
    limit = 1 + effect
    if min(abs(math.log(bound) - sign * math.log(limit)) for bound in (low, high) for sign in (-1, 1)) < 1e-9:
        return
    expected = (
        Outcome.WORSE if low > limit else Outcome.BETTER if high < 1 / limit else Outcome.EQUIVALENT if 1 / limit < low and high < limit
        else Outcome.INCONCLUSIVE
    )  # fmt: skip
    assert found.outcome is expected


def test_a_slowdown_that_shows_alone_may_be_chance_among_ten_metrics_and_the_verdict_says_so():
    ratios = rounds(0.026, 0.01)
    assert verdict(latency(ratios)).outcome is Outcome.WORSE
    others = [latency(rounds(0, seed=i), name=f"m{i}") for i in range(9)]
    found = stats.decide([latency(ratios), *others])[0]
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "taken alone it would be worse" in found.reason


def test_exact_and_identical_metrics_do_not_make_the_others_harder_to_decide():
    ratios = rounds(0.026, 0.01)
    exact = [Comparison(f"b{i}", Direction.LOWER, Scale.RATIO, 0.0, ExactChange(10, 10)) for i in range(9)]
    same = [Comparison(f"a{i}", Direction.HIGHER, Scale.DIFFERENCE, 0.01, None, identical=True) for i in range(9)]
    assert stats.decide([latency(ratios), *exact, *same])[0].outcome is Outcome.WORSE


@pytest.mark.parametrize(
    ("before", "after", "effect", "outcome"),
    [
        (1000, 1000, 0.0, Outcome.EQUIVALENT), (1000, 1001, 0.0, Outcome.WORSE), (1000, 999, 0.0, Outcome.BETTER),
        (1000, 1009, 0.01, Outcome.EQUIVALENT), (1000, 1011, 0.01, Outcome.WORSE), (1000, 980, 0.01, Outcome.BETTER),
        (0, 0, 0.01, Outcome.EQUIVALENT), (0, 1, 0.01, Outcome.WORSE), (1, 0, 0.01, Outcome.BETTER),
    ],
)  # fmt: skip
def test_bytes_are_compared_to_the_byte_against_their_own_smallest_effect(before, after, effect, outcome):
    found = verdict(Comparison("stored_bytes", Direction.LOWER, Scale.RATIO, effect, ExactChange(before, after)))
    assert found.outcome is outcome
    assert found.p_value is None
    assert found.estimate == (after / before if before and after else 1.0 if before == after else None) or found.estimate == pytest.approx(
        after / before
    )
    json.dumps(dataclasses.asdict(found), allow_nan=False)


def clip_answers(clips=300, persons=20, share=0.9, seed=0):
    random = np.random.default_rng(seed)
    return (random.random((1, clips)) < share) * 1.0, [str(i) for i in np.repeat(np.arange(persons), clips // persons)]


def accuracy(before, after, names):
    return Comparison("accuracy", Direction.HIGHER, Scale.DIFFERENCE, 0.01, stats.accuracy_change(before, after, names))


def lost(before, clips):
    """Some of the clips that were right are wrong."""
    after = before.copy()
    right = np.flatnonzero(before[0])
    after[0, np.random.default_rng(1).choice(right, clips, replace=False)] = 0
    return after


def test_of_300_clips_one_point_lost_is_inconclusive_ten_are_worse_and_an_identical_copy_is_equivalent():
    before, names = clip_answers()
    nine = [latency(rounds(0, seed=i), name=f"m{i}") for i in range(8)]  # eight others, so that Holm's rule bites
    point = stats.decide([accuracy(before, lost(before, 3), names), *nine])[0]
    assert point.outcome is Outcome.INCONCLUSIVE
    assert point.unit == "clips"
    assert point.estimate == pytest.approx(-0.01)
    assert stats.decide([accuracy(before, lost(before, 30), names), *nine])[0].outcome is Outcome.WORSE
    logits = np.random.default_rng(0).normal(size=(300, 7))
    copy = Comparison("accuracy", Direction.HIGHER, Scale.DIFFERENCE, 0.01, None, identical=stats.identical(logits, logits.copy()))
    assert verdict(copy).outcome is Outcome.EQUIVALENT
    assert verdict(copy).reason == "identical outputs"


@pytest.mark.parametrize("persons", [10, 20, 60])
def test_ten_points_lost_are_worse_with_few_persons_too(persons):
    before, names = clip_answers(persons=persons)
    nine = [latency(rounds(0, seed=i), name=f"m{i}") for i in range(8)]
    assert stats.decide([accuracy(before, lost(before, 30), names), *nine])[0].outcome is Outcome.WORSE


def test_too_few_rounds_are_inconclusive_with_the_reason_and_count_among_the_metrics():
    few = latency(rounds(0.05, n=5), name="few", lacking="5 of 8 rounds")
    found = verdict(few)
    assert (found.outcome, found.estimate, found.reason, found.p_value) == (Outcome.INCONCLUSIVE, None, "5 of 8 rounds", None)
    p = [stats.decide([latency(rounds(0.03, 0.007)), *more])[0].p_value for more in ((), (few,))]
    assert p[1] == pytest.approx(2 * p[0])


def test_an_undecided_metric_says_how_many_rounds_and_minutes_more_and_they_do_decide():
    ratios = 0.032 + 0.02 * np.array([0.1, -1.4, 0.8, -0.1, 1.4, -0.4, 0.4, -0.8])
    found = verdict(latency(ratios.tolist(), minutes=0.5))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.more_minutes == pytest.approx(found.more_samples / 2)
    assert str(found.more_samples) in found.reason
    n = 8 + found.more_samples
    truth, spread = math.log(found.estimate), np.std(ratios, ddof=1)
    again = [verdict(latency(rounds(truth, spread, n, seed), Looks((n,)))).outcome is Outcome.WORSE for seed in range(100)]
    assert np.mean(again) >= 0.6


def test_a_change_of_just_the_smallest_effect_is_told_to_be_undecidable():
    values = np.array(rounds(0, 0.01))
    values += math.log(1.02) - stats.trimmed_mean(values).value
    found = verdict(latency(values.tolist(), minutes=1.0))
    assert (found.outcome, found.more_samples, found.more_minutes) == (Outcome.INCONCLUSIVE, None, None)
    assert "any practicable number" in found.reason


def test_a_verdict_survives_json():
    doubts = frozenset({Doubt.NOISY, Doubt.FEW_SAMPLES})
    found = verdict(latency(rounds(0.05), doubts=doubts))
    assert found.doubts == (Doubt.FEW_SAMPLES, Doubt.NOISY)
    assert Verdict.of(json.loads(json.dumps(dataclasses.asdict(found)))) == found


def test_worse_stands_only_if_a_fresh_run_says_so_too():
    worse, same = verdict(latency(rounds(0.05))), verdict(latency(rounds(0.0)))
    again = verdict(latency(rounds(0.06, seed=1)))
    assert stats.confirmed(worse, again).outcome is Outcome.WORSE
    assert stats.confirmed(worse, again).estimate == again.estimate
    cleared = stats.confirmed(worse, same)
    assert cleared.outcome is Outcome.EQUIVALENT
    assert "a first run said worse" in cleared.reason
    assert stats.confirmed(same, worse) == same  # nothing to confirm
    with pytest.raises(ValueError, match="cannot confirm"):
        stats.confirmed(worse, dataclasses.replace(same, metric="other"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"smallest_effect": 0.0}, "no measurement can show"), ({"smallest_effect": -1.0}, "must be 0 or more"),
        ({"evidence": None}, "must say what is lacking"), ({"evidence": ExactChange(1, 1), "scale": Scale.DIFFERENCE}, "as a ratio"),
    ],
)  # fmt: skip
def test_comparisons_that_cannot_be_judged_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(latency(rounds(0)), **change)


def test_a_metric_twice_in_a_gate_is_refused():
    with pytest.raises(ValueError, match="each metric once"):
        stats.decide([latency(rounds(0)), latency(rounds(0.1))])


def test_what_one_look_showed_the_next_may_take_back():
    looks = Looks((8, 16))
    early = rounds(0.06)
    assert verdict(latency(early, looks)).outcome is Outcome.WORSE
    assert verdict(latency(early + rounds(0.05), looks)).outcome is Outcome.WORSE
    assert verdict(latency(early + rounds(-0.08), looks)).outcome is not Outcome.WORSE


def test_rounds_since_the_last_look_wait_for_the_next():
    looks = Looks((8, 16))
    assert verdict(latency(rounds(0.0) + (9.0,) * 3, looks)) == verdict(latency(rounds(0.0), looks))


def test_looking_often_errs_no_more_than_it_says_where_a_test_after_each_round_would():
    """The truth lies just at the smallest effect, where errors are likeliest."""
    random = np.random.default_rng(8)
    looks = Looks((8, 12, 16, 20, 24))
    limit = math.log(1.02)
    ours = naive = 0
    for _ in range(1000):
        ratios = random.normal(limit, 0.01, 24)
        ours += any(stats.paired_rounds(ratios[:n], looks).above(limit) <= stats.ALPHA for n in looks.rounds)
        naive += any(stats.trimmed_mean(ratios[:n]).above(limit) <= stats.ALPHA for n in range(8, 25))
    assert ours / 1000 <= 0.035
    assert naive / 1000 >= 0.06


def test_the_interval_covers_the_truth_although_the_run_stops_when_decided():
    random = np.random.default_rng(5)
    looks = Looks((8, 16))
    covered = 0
    for _ in range(600):
        ratios = random.normal(0.03, 0.01, 16)
        found = verdict(latency(ratios[:8], looks))
        if found.outcome is Outcome.INCONCLUSIVE:
            found = verdict(latency(ratios, looks))
        covered += found.interval[0] <= math.exp(0.03) <= found.interval[1]
    assert covered / 600 >= 0.94
