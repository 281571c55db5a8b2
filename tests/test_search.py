"""The search on a bench whose answers are known: it finds the front, keeps budgets, stops by its own rules, and loses no trial when it is stopped."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_search_space import SPACE

from fercompress import config, stats
from fercompress.errors import InputError, ModelError, ResultsError
from fercompress.search import optimise, trial
from fercompress.search.trial import Budget, Sketch, Trial


class Bench:
    """Bytes grow with ranks and bits; accuracy with the logarithm of bytes, and a little with the start. One second per stage."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, []

    def _size(self, variant: config.Variant) -> int:
        size = 1000.0
        for step in variant.recipe:
            if isinstance(step, config.TensorTrain):
                size += 100 * sum(rank for own in (step.rank, step.hidden_rank) if own is not None for rank in own.per_bond)
            if isinstance(step, config.LowRank):
                size -= 100 * step.ratio
            if isinstance(step, config.Quantize):
                size -= 10 * (32 - (step.mean_bits or step.bits))
        return int(size)

    def _accuracy(self, variant: config.Variant) -> float:
        start = {"data-aware": 0.02, "decompose": 0.01, "from-scratch": 0.0}
        (train,) = [step for step in variant.recipe if isinstance(step, config.TensorTrain)]
        return min(0.99, 0.5 + math.log10(self._size(variant)) / 10 + start[train.start])

    def _took(self, stage: str, variant: config.Variant) -> None:
        self.now += 1.0
        self.calls.append((stage, variant.name))

    def sketch(self, variant: config.Variant) -> Sketch:
        self._took("sketch", variant)
        return Sketch(self._size(variant), 1e6, None)

    def short(self, variant: config.Variant) -> float:
        self._took("short", variant)
        return self._accuracy(variant) - 0.05

    def whole(self, variant: config.Variant) -> tuple[float, int]:
        self._took("whole", variant)
        return self._accuracy(variant), self._size(variant)


def run(tmp_path, bench: Any, seconds: float = 90.0, seed: int = 0, budget: Budget | None = None, first: Sequence[config.Variant] = (),
        trials: int | None = None) -> list[Trial]:  # fmt: skip
    wish = optimise.Wish(seconds, trials, seed, budget or Budget(), 0.005)
    return optimise.search(SPACE, bench, tmp_path / "search.jsonl", wish, first, lambda *_: None, clock=lambda: bench.now)


def volume(trials: Sequence[Trial]) -> float:
    return stats.hypervolume([(each.validation_accuracy, math.log2(each.stored_bytes)) for each in trials if each.whole], (0.5, 14.0))


def test_it_ends_when_its_seconds_are_over_and_says_how_far_each_trial_came(tmp_path):
    bench = Bench()
    trials = run(tmp_path, bench)
    assert 90 <= sum(each.seconds for each in trials) < 93
    assert [each.number for each in trials] == list(range(len(trials)))
    whole = [each for each in trials if each.whole]
    assert len(whole) > 10
    for each in whole:
        assert (each.validation_accuracy, each.stored_bytes) == (bench._accuracy(each.variant), bench._size(each.variant))
    for each in trials:
        assert each.whole or each.stopped


def test_the_front_holds_exactly_the_whole_trials_that_no_other_beats(tmp_path):
    trials = run(tmp_path, Bench(), 60.0)
    points = {(each.validation_accuracy, each.stored_bytes) for each in trials if each.whole}
    wanted = {p for p in points if not any(q != p and q[0] >= p[0] and q[1] <= p[1] for q in points)}
    found = trial.front(trials)
    assert {(each.validation_accuracy, each.stored_bytes) for each in found} == wanted
    assert len(found) == len(wanted)
    assert [each.stored_bytes for each in found] == sorted(each.stored_bytes for each in found)


def test_no_trial_is_trained_that_is_larger_than_the_budget(tmp_path):
    bench = Bench()
    trials = run(tmp_path, bench, budget=Budget(stored_bytes=2000))
    large = {each.name for each in trials if bench._size(each.variant) > 2000}
    assert large
    assert not large & {name for stage, name in bench.calls if stage != "sketch"}
    assert any(each.whole for each in trials)
    assert all("bytes are more than the 2,000 of the budget" in each.stopped for each in trials if each.name in large)


def test_a_short_training_stops_what_a_smaller_one_beats(tmp_path):
    trials = run(tmp_path, Bench())
    stopped = [each for each in trials if each.stage == "short"]
    assert stopped
    for each in stopped:
        assert each.stopped == "after a short training others are more accurate in no more bytes"
        earlier = [other for other in trials if other.number < each.number and other.short_accuracy is not None]
        assert any(other.stored_bytes <= each.stored_bytes and other.short_accuracy > each.short_accuracy + 0.005 for other in earlier)


class Stopped(Bench):
    """Dies in its n-th stage, as a killed process does: before the stage has an answer."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def _took(self, stage: str, variant: config.Variant) -> None:
        if len(self.calls) == self.at:
            raise KeyboardInterrupt
        super()._took(stage, variant)


@pytest.mark.parametrize("at", [0, 1, 2, 8])
def test_stopped_at_any_stage_it_goes_on_with_the_trial_that_it_was_at(tmp_path, at):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stopped(at))
    seen: list[Trial] = []
    bench = Bench()
    wish = optimise.Wish(90.0, None, 0, Budget(), 0.005)
    trials = optimise.search(
        SPACE, bench, tmp_path / "search.jsonl", wish, (), lambda ended, _: seen.append(ended), clock=lambda: bench.now
    )  # fmt: skip
    assert [each.number for each in trials] == list(range(len(trials)))
    assert all(each.whole or each.stopped for each in trials), "none is left half-way"
    assert len({each.number for each in seen}) == len(seen)
    assert 90 <= sum(each.seconds for each in trials) < 93


def test_with_more_seconds_a_search_that_has_ended_goes_on_and_keeps_what_it_had(tmp_path):
    first = run(tmp_path, Bench(), 30.0)
    assert run(tmp_path, Bench(), 30.0) == first
    later = run(tmp_path, Bench(), 60.0)
    assert later[: len(first)] == first
    assert len(later) > len(first)
    with pytest.raises(InputError, match="begun with --seed 0"):
        run(tmp_path, Bench(), 90.0, seed=1)


def test_the_study_s_own_variants_come_first_and_one_recipe_is_made_once(tmp_path):
    own = [config.Variant.model_validate({"name": "mine", "recipe": ({"step": "tensor-train", "rank": rank},)}) for rank in (2, 4, 2)]
    bench = Bench()
    trials = run(tmp_path, bench, 30.0, first=own)
    assert [trials[place].variant.recipe[0].rank.per_bond for place in range(3)] == [[2, 2], [4, 4], [2, 2]]
    assert trials[2].stopped == "the same as s-0000"
    assert ("whole", "s-0002") not in bench.calls
    recipes = [str(each.variant.recipe) for each in trials if each.whole]
    assert len(recipes) == len(set(recipes))


def test_what_cannot_be_made_is_told_and_the_search_goes_on(tmp_path):
    class Broken(Bench):
        def whole(self, variant: config.Variant) -> tuple[float, int]:
            if len(self.calls) < 6:
                self._took("whole", variant)
                raise ModelError("rank 7 is no rank")
            return super().whole(variant)

    trials = run(tmp_path, Broken(), 60.0)
    assert trials[0].stopped == "cannot be made: rank 7 is no rank"
    assert any(each.whole for each in trials)


class Uneven(Bench):
    """Only the first input rank and the width help; every other rank is bytes for nothing."""

    def _accuracy(self, variant: config.Variant) -> float:
        (train,) = [step for step in variant.recipe if isinstance(step, config.TensorTrain)]
        shrunk = sum(step.ratio for step in variant.recipe if isinstance(step, config.LowRank))
        helps = train.rank.per_bond[0] if train.part != "hidden" else 1
        return 0.6 + 0.06 * math.log2(helps) - 0.005 * shrunk


def test_it_finds_more_than_as_many_whole_trainings_of_blind_proposals(tmp_path):
    found, blind = [], []
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        bench = Uneven()
        trials = run(tmp_path / str(seed), bench, 150.0, seed=seed)
        found.append(volume(trials))
        random = np.random.default_rng(seed)

        class Blind:
            def ordered(self, _name: str, choices: Sequence[Any], random=random) -> Any:
                return choices[int(random.integers(len(choices)))]

            named = ordered

        points = [SPACE.variant("s-0", Blind()) for _ in range(sum(each.whole for each in trials))]
        blind.append(volume([
            Trial(place, each, "whole", "", bench._size(each), validation_accuracy=bench._accuracy(each)) for place, each in enumerate(points)
        ]))  # fmt: skip
    assert np.mean(found) > 1.1 * np.mean(blind), (found, blind)


def test_a_file_that_is_no_search_is_refused(tmp_path):
    (tmp_path / "search.jsonl").write_text("not a search\n")
    with pytest.raises(ResultsError, match=r"search\.jsonl: no search can be read there .*; move it away or start again with --fresh"):
        run(tmp_path, Bench())


@given(st.integers(0, 2**32 - 1))
def test_a_mutation_changes_one_or_two_answers_to_others_that_there_are(seed):
    choices = {"a": range(5), "b": range(2), "layout": ["x", "y", "z"], "only": range(1)}
    answers = {"a": 0, "b": 1, "layout": "y", "only": 0}
    changed = trial.mutated(answers, choices, np.random.default_rng(seed))
    differing = [question for question in answers if changed[question] != answers[question]]
    assert len(differing) <= 2
    assert all(changed[question] in choices[question] for question in answers)
    assert changed["a"] in (0, 1)


def test_a_trial_survives_its_own_text():
    variant = SPACE.variant("s-0007", type("Last", (), {"ordered": lambda *a: a[2][-1], "named": lambda *a: a[2][-1]})())
    for stage, stopped in itertools.product(("begun", "whole"), ("", "why")):
        one = Trial(7, variant, stage, stopped, 1234, None, 0.5, 0.6, 0.7, 8.5)
        assert Trial.of(one.text()) == one
        assert "ended" not in one.table
        assert one.table["recipe"][0]["step"] == variant.recipe[0].step
