"""Fronts beside brute force; how likely a variant is on the front of a toy run, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import toy_run as toy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fercompress import stats
from fercompress.results import pareto
from fercompress.results.store import FILE, Store
from fercompress.results.tables import read_tables

FEW = st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan")])
PAIRS = st.integers(1, 6).flatmap(lambda n: st.tuples(arrays(np.float64, (3, n), elements=FEW), arrays(np.float64, (3, n), elements=FEW)))


def beats(worth, cost, other_worth, other_cost) -> bool:
    return worth >= other_worth and cost <= other_cost and (worth > other_worth or cost < other_cost)


@given(PAIRS)
def test_a_variant_is_on_the_front_where_no_other_one_beats_it(pair):
    worth, cost = pair
    found = stats.on_front(worth, cost)
    for draw in range(len(worth)):
        points = list(zip(worth[draw], cost[draw], strict=True))
        for place, point in enumerate(points):
            known = not np.isnan(point).any()
            assert found[draw, place] == (known and not any(beats(*other, *point) for other in points))


@given(st.lists(st.tuples(st.integers(-2, 9), st.integers(-2, 9)), max_size=8))
def test_the_hypervolume_is_the_number_of_cells_that_some_point_beats(points):
    # Points on a grid: a cell is beaten as a whole or not at all. The worst point is (0, 7).
    lowest = min((cost for _, cost in points), default=0)
    cells = sum(
        any(worth >= right and cost <= low for worth, cost in points) for right in range(1, max([0, *(worth for worth, _ in points)]) + 1)
        for low in range(lowest, 7)
    )  # fmt: skip
    assert stats.hypervolume(points, (0, 7)) == pytest.approx(cells)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / FILE) as opened:
        yield opened


def fronts(store, the_study, **blocks) -> pareto.Front:
    toy.record_head(store, the_study)
    toy.record_blocks(store, the_study, **blocks)
    return pareto.fronts(read_tables(store), "localhost")


def test_the_probability_is_that_of_drawing_a_person_that_tells_the_variants_apart(store):
    # `tt` is smaller and faster: always on the front. `dense` is where one of the two people (of twelve) whose clips `tt` gets wrong is drawn.
    found = fronts(store, toy.study())
    chance = 1 - (10 / 12) ** 12
    for column in pareto.COLUMNS:
        assert found["tt"][column] == 1.0
        assert found["dense"][column] == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / pareto.RESAMPLES))


def test_of_two_seeds_one_alone_may_be_drawn(store):
    # Seed 1 is never wrong: with seeds drawn anew, (seed 1, seed 1) comes in a quarter of the draws and tells the variants apart no more.
    the_study = toy.study(seeds=(0, 1))
    toy.record_head(store, the_study)
    for seed, wrong in ((0, (3, 4)), (1, ())):
        for fold in toy.TESTS:
            store.record(toy.accuracy_block("dense", seed, fold))
            store.record(toy.accuracy_block("tt", seed, fold, wrong))
    chance = 0.75 * (1 - (10 / 12) ** 12)
    assert pareto.fronts(read_tables(store), "localhost")["dense"][pareto.COLUMNS[0]] == pytest.approx(chance, abs=0.05)


def test_rounds_are_drawn_so_that_a_variant_that_is_faster_in_some_is_sometimes_on_the_front(store):
    # Equal answers, so the faster one alone is on the front. `tt` is faster in four rounds of six, each block of a round alike.
    the_study = toy.study()
    toy.record_head(store, the_study)
    for fold in toy.TESTS:
        for variant in ("dense", "tt"):
            store.record(toy.accuracy_block(variant, 0, fold))
    for round_ in range(6):
        for half in (0, 1):
            store.record(toy.latency_block("dense", round_, half, 100))
            store.record(toy.latency_block("tt", round_, half, 90 if round_ < 4 else 120))
    found = pareto.fronts(read_tables(store), "localhost")
    # The median of six drawn rounds is below 100 where four or more fast ones are drawn; of three and three it is (90 + 120) / 2, above.
    chance = sum(math.comb(6, k) * (2 / 3) ** k * (1 / 3) ** (6 - k) for k in (4, 5, 6))
    assert found["tt"]["front_probability_latency_clip"] == pytest.approx(chance, abs=0.045)
    assert found["dense"]["front_probability_latency_clip"] == pytest.approx(1 - chance, abs=0.045)


def test_what_is_not_known_is_null_with_the_reason(store):
    the_study = toy.study(rounds=2)
    found = fronts(store, the_study)
    assert found["tt"]["front_probability_latency_clip"] == "2 rounds of latency on this target: resampling needs at least 6"
    assert found["tt"]["front_probability_stored_bytes"] == 1.0


def test_a_variant_without_answers_is_on_no_front_and_beats_nobody(store):
    the_study = toy.study()
    toy.record_head(store, the_study)
    for fold in toy.TESTS:
        store.record(toy.accuracy_block("dense", 0, fold))
    found = pareto.fronts(read_tables(store), "localhost")
    assert found["tt"]["front_probability_stored_bytes"] == "it has no accuracy on this target"
    assert found["dense"]["front_probability_stored_bytes"] == 1.0
