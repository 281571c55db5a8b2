"""Figures of classes, calibration, McNemar, flips: hand-worked examples and bounds."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from fercompress import stats

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 2])


def test_figures_of_six_clips_worked_by_hand():
    confusion = stats.confusion_matrix(LABELS, PREDICTED, 3)
    assert confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert stats.recalls(confusion) == pytest.approx([2 / 3, 1 / 2, 1])
    assert stats.unweighted_average_recall(confusion) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert stats.worst_class_recall(confusion) == 0.5
    assert stats.macro_f1(confusion) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)  # F1: 2*2/(3+3), 2*1/(2+2), 2*1/(1+1)


def test_a_class_without_clips_takes_no_part_in_recalls_but_as_a_wrong_answer_in_macro_f1():
    confusion = stats.confusion_matrix(np.array([0, 0, 1]), np.array([0, 2, 1]), 4)
    assert stats.recalls(confusion)[:2].tolist() == [0.5, 1]
    assert np.isnan(stats.recalls(confusion)[2:]).all()
    assert stats.unweighted_average_recall(confusion) == 0.75
    assert stats.worst_class_recall(confusion) == 0.5
    assert stats.macro_f1(confusion) == pytest.approx((2 / 3 + 1 + 0) / 3)  # class 2 is answered, class 3 is nowhere


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40), st.permutations(range(4)))
def test_figures_do_not_depend_on_the_classes_order_and_lie_between_0_and_1(pairs, order):
    labels, predicted = np.array(pairs).T
    turned = np.array(order)
    one, other = stats.confusion_matrix(labels, predicted, 4), stats.confusion_matrix(turned[labels], turned[predicted], 4)
    for figure in (stats.unweighted_average_recall, stats.worst_class_recall, stats.macro_f1):
        assert 0 <= float(figure(one)) <= 1
        assert float(figure(one)) == pytest.approx(float(figure(other)))
    assert stats.worst_class_recall(one) <= stats.unweighted_average_recall(one) + 1e-12


def test_unseen_clips_are_not_counted():
    assert stats.confusion_matrix(LABELS, np.array([[0, -1, -1, -1, -1, 2], [-1, 0, -1, -1, -1, -1]]), 3).tolist() == [
        [2, 0, 0],
        [0, 0, 0],
        [0, 0, 1],
    ]


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(ValueError, match="outside the 2 classes"):
        stats.confusion_matrix(LABELS, PREDICTED, 2)


def test_calibration_error_of_clips_sure_to_75_and_90_percent():
    three_to_one, nine_to_one = [math.log(3), 0], [math.log(9), 0]
    logits = np.array([three_to_one] * 4 + [nine_to_one] * 2)
    labels = np.array([0, 0, 1, 1, 0, 0])
    # Two of four right at 0.75: gap 0.25, four clips; two of two right at 0.9: gap 0.1, two clips.
    assert stats.expected_calibration_error(logits, labels) == pytest.approx((4 * 0.25 + 2 * 0.1) / 6)


def test_calibration_error_does_not_see_what_is_added_to_all_logits():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 5)), random.integers(0, 5, 50)
    assert stats.expected_calibration_error(logits + 500, labels) == pytest.approx(stats.expected_calibration_error(logits, labels))


def test_mcnemar_of_one_against_seven_clips():
    assert stats.mcnemar(1, 7) == pytest.approx(18 / 256)  # 2 (1 + 8) / 2 ** 8
    assert stats.mcnemar(1, 7, mid=True) == pytest.approx(10 / 256)  # less one of the two tails' own 8 / 2 ** 8
    assert stats.mcnemar(0, 0) == 1


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test_of_even_odds(lost, won):
    exact = oracle.binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert stats.mcnemar(lost, won) == pytest.approx(exact, abs=1e-12)
    assert stats.mcnemar(lost, won, mid=True) <= stats.mcnemar(lost, won)
    assert stats.mcnemar(lost, won) == stats.mcnemar(won, lost)


def test_flips_of_four_clips_and_two_seeds():
    labels = np.array([0, 1, 2, 0])
    before = np.array([[0, 1, 0, 1], [0, -1, 2, 0]])
    after = np.array([[1, 1, 2, 2], [0, 1, 2, 1]])
    assert stats.flips(labels, before, after) == stats.Flips(answers=7, flips=4, negative=2, positive=1)


def test_logits_alike_to_the_last_bit_are_identical_and_one_bit_is_a_difference():
    logits = np.random.default_rng(0).normal(size=(9, 7))
    other = logits.copy()
    assert stats.identical(logits, other)
    other[3, 2] = np.nextafter(other[3, 2], 9)
    assert not stats.identical(logits, other)
    assert stats.largest_difference(logits, other) == pytest.approx(abs(logits[3, 2] - other[3, 2]), abs=1e-18)


@pytest.mark.parametrize(("one", "other", "distance"), [(np.nan, np.nan, 0), (np.nan, 1.0, math.inf), (math.inf, math.inf, 0), (1.0, -2.0, 3)])
def test_odd_logits_are_compared_too(one, other, distance):
    assert stats.largest_difference(np.array([[0.0, one]]), np.array([[0.0, other]])) == distance


def singles(n):
    return [str(i) for i in range(n)]


def test_a_share_of_negative_flips_has_clopper_and_pearsons_interval_or_a_wider_one():
    labels, before = np.zeros(200, int), np.zeros((1, 200), int)
    after = before.copy()
    after[0, :6] = 1
    found = stats.negative_flips(labels, before, after, ["one person"] * 200)
    theirs = oracle.binomtest(6, 200).proportion_ci(0.95, method="exact")
    assert found.interval(0.025) == pytest.approx((theirs.low, theirs.high))
    assert found.above(0.01) == pytest.approx(oracle.binomtest(6, 200, 0.01, alternative="greater").pvalue)
    assert found.below(0.06) == pytest.approx(oracle.binomtest(6, 200, 0.06, alternative="less").pvalue)
    spread = stats.negative_flips(labels, before, after, [str(i // 20) for i in range(200)])  # all six of one person
    assert spread.interval(0.025)[1] > found.interval(0.025)[1]
    assert spread.above(0.01) > found.above(0.01)


def test_no_share_is_better_than_none_and_every_share_is_above_a_negative_one():
    found = stats.negative_flips(np.zeros(50, int), np.zeros((1, 50), int), np.zeros((1, 50), int), singles(50))
    assert (found.below(-0.02), found.above(-0.02), found.above(1.0)) == (1, 0, 1)


def toy(random, clips=300, persons=20, classes=5, anew=0.05):
    labels = random.integers(0, classes, clips)
    names = [str(person) for person in np.repeat(np.arange(persons), clips // persons)]

    def answers():
        return np.where(random.random((2, clips)) < 0.85, labels, (labels + random.integers(1, classes, (2, clips))) % classes)

    before = answers()
    return labels, before, np.where(random.random((2, clips)) < anew, answers(), before), names


@pytest.mark.parametrize("figure", [stats.macro_f1, stats.unweighted_average_recall, stats.worst_class_recall])
def test_changes_of_class_figures_err_no_more_often_than_they_say(figure):
    random = np.random.default_rng(6)
    changes = [stats.class_change(figure, *toy(random), 5, resamples=300, seed=i) for i in range(150)]
    for side in (-1, 1):
        low = [(change.above(0) if side > 0 else change.below(0)) <= 0.025 for change in changes]
        assert np.mean(low) <= 0.06


@pytest.mark.parametrize("figure", [stats.macro_f1, stats.unweighted_average_recall, stats.worst_class_recall])
def test_the_same_answers_change_nothing_but_are_not_certainty(figure):
    labels, before, _, names = toy(np.random.default_rng(0))
    change = stats.class_change(figure, labels, before, before, names, 5)
    low, high = change.interval(0.025)
    assert change.value == 0
    assert low < 0 < high
    assert change.above(0) > 0.4


def test_a_class_that_is_lost_is_seen_in_its_recall_though_accuracy_hardly_moves():
    labels, before, _, names = toy(np.random.default_rng(1), clips=600)
    after = before.copy()
    rare = np.flatnonzero(labels == 4)[::2]
    after[:, rare] = 0
    change = stats.class_change(stats.worst_class_recall, labels, before, after, names, 5)
    assert change.value < -0.3
    assert change.below(-0.05) < 0.001
    right = [(answers == labels) * 1.0 for answers in (before, after)]
    assert stats.accuracy_change(*right, names).value > -0.12


def test_a_change_of_class_figures_refuses_other_clips():
    with pytest.raises(ValueError, match="same seeds and clips"):
        stats.class_change(stats.macro_f1, LABELS, PREDICTED[None], PREDICTED[None, :3], singles(6), 3)
    with pytest.raises(ValueError, match="at least one clip"):
        stats.class_change(stats.macro_f1, LABELS, PREDICTED[None], np.full((1, 6), -1), singles(6), 3)


def test_tests_and_limits_of_a_change_of_accuracy_agree():
    random = np.random.default_rng(2)
    before = (random.random((2, 300)) < 0.9) * 1.0
    after = np.where(random.random((2, 300)) < 0.05, 0, before)
    change = stats.accuracy_change(before, after, [str(i // 15) for i in range(300)])
    for limit, tail in itertools.product((-0.08, -0.06, -0.04, -0.02), (0.025, 0.1)):
        low, high = change.interval(tail)
        if abs(limit - low) > 0.001:
            assert (change.above(limit) <= tail) == (low > limit)
        if abs(limit - high) > 0.001:
            assert (change.below(limit) <= tail) == (high < limit)
