"""Ties: by the same intervals as the page's tables, and groups in which every two are tied."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fercompress import stats
from fercompress.stats import ties

PEOPLE = [f"p{clip // 3}" for clip in range(60)]


def answers(seed: int, variants: int, seeds: int = 2) -> list[np.ndarray]:
    """Variants of rising accuracy, right or wrong on much the same clips."""
    random = np.random.default_rng(seed)
    hard = random.random((seeds, 60))
    return [(hard + 0.1 * random.standard_normal((seeds, 60)) < 0.5 + 0.08 * variant).astype(float) for variant in range(variants)]


def tied(one: np.ndarray, other: np.ndarray) -> bool:
    low, high = stats.change_interval(one, other, PEOPLE, resamples=500)
    return low <= 0 <= high


@pytest.mark.parametrize("seed", range(3))
def test_a_pair_is_tied_where_its_own_interval_holds_zero(seed: int) -> None:
    scores = answers(seed, 6)
    found = ties.tied_in_accuracy(scores, PEOPLE, resamples=500)
    expected = [[tied(one, other) for other in scores] for one in scores]
    assert found.tolist() == expected
    assert not all(itertools.chain(*expected))


def test_a_variant_that_saw_fewer_clips_is_compared_on_those() -> None:
    scores = answers(0, 3)
    scores[2][:, :12] = np.nan
    found = ties.tied_in_accuracy(scores, PEOPLE, resamples=500)
    blind = [np.where(np.isnan(scores[2]), np.nan, score) for score in scores]
    assert found[0, 2] == tied(blind[0], blind[2])
    assert found[1, 2] == tied(blind[1], blind[2])
    scores[2][0] = np.nan  # a seed that it was not trained with
    kept = [score[1:] for score in scores]
    assert ties.tied_in_accuracy(scores, PEOPLE, resamples=500)[2].tolist() == ties.tied_in_accuracy(kept, PEOPLE, resamples=500)[2].tolist()
    both = [scores[2], np.where(np.isnan(scores[2]), np.nan, 0.0)]
    assert not ties.tied_in_accuracy(both, PEOPLE, resamples=500)[0, 1]
    scores[2][:] = np.nan
    assert not ties.tied_in_accuracy(scores, PEOPLE, resamples=500)[0, 2]  # never compared


def test_of_one_person_pairs_are_judged_as_independent_clips() -> None:
    scores = [np.zeros((1, 60)), np.ones((1, 60)), np.ones((1, 60))]
    assert ties.tied_in_accuracy(scores, ["only"] * 60).tolist() == [[True, False, False], [False, True, True], [False, True, True]]


def test_rounds_tie_what_they_do_not_tell_apart() -> None:
    rounds = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    logs = np.array([rounds, rounds + 0.01, rounds + 0.05 * np.array([1, -1, 1, -1, 1, -1])])
    assert ties.tied_in_rounds(logs).tolist() == [[True, False, True], [False, True, True], [True, True, True]]
    assert ties.tied_in_rounds(logs[:, :5]).all()  # five rounds give no 95 % interval
    logs[0, :3] = np.nan
    assert ties.tied_in_rounds(logs).all()
    logs[0] = np.nan
    assert not ties.tied_in_rounds(logs)[0, 1]  # never compared


def test_sizes_tie_within_their_ratio() -> None:
    assert ties.tied_within([100, 105, 110], 1.05).tolist() == [[True, True, False], [True, True, True], [False, True, True]]


@given(arrays(np.bool_, (7, 7)), st.permutations(range(7)))
def test_groups_are_cliques_that_share_no_variant_and_leave_none_out_that_fits(half: np.ndarray, order: list[int]) -> None:
    matrix = half | half.T | np.eye(7, dtype=np.bool_)
    found = ties.groups(matrix, order)
    assert all(len(group) > 1 for group in found)
    members = list(itertools.chain(*found))
    assert len(members) == len(set(members))
    for group in found:
        assert all(matrix[one, other] for one in group for other in group)
    alone = [index for index in range(7) if index not in members]
    assert not any(matrix[one, other] for one, other in itertools.combinations(alone, 2))
    assert not any(all(matrix[index, member] for member in group) for index in alone for group in found)
