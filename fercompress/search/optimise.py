"""The search itself: a space and a bench that makes variants in; trials out, each kept as soon as something is known of it.

Optuna proposes (a multi-objective tree-structured Parzen estimator: validation accuracy up, bytes down), every second time a neighbour of the front
found so far. What a proposal costs grows with what is known of it: bytes, modelled time and sensitivity, then a short training, then the whole one.
A search that was killed goes on with the trial that it was at: what that had trained is found, not trained again.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from fercompress import config
from fercompress.errors import InputError, ResultsError
from fercompress.search import trial as trials_
from fercompress.search.space import Choice, Space
from fercompress.search.trial import BEATEN_BY, Budget, Sketch, Trial

STARTUP = 6  # proposals at random, before the estimator has something to estimate from
NEIGHBOURS = 0.5  # share of the later proposals that change one of the front a little
PATIENCE = 200  # proposals in a row that are known or out of the budget: then there is nothing left to find


class Bench(Protocol):
    """Makes variants; each method finds what it made before. All raise InputError for a variant that cannot be made."""

    def sketch(self, variant: config.Variant) -> Sketch: ...

    def short(self, variant: config.Variant) -> float:
        """Validation accuracy after a short training."""

    def whole(self, variant: config.Variant) -> tuple[float, int]:
        """Validation accuracy and bytes of the variant's bundle, trained as the study says."""


@dataclass(frozen=True)
class Wish:
    """seconds: of all trials together, those before a stop included; trials: at most so many proposals; margin: below which accuracies are alike"""

    seconds: float
    trials: int | None
    seed: int
    budget: Budget
    margin: float


SCHEMA = 1  # of the search's file
Told = Callable[[Trial, Sequence[Trial]], None]  # a trial that has just ended, and all so far


def search(
    space: Space, bench: Bench, file: Path, wish: Wish, first: Sequence[config.Variant], told: Told, clock: Callable[[], float] = time.monotonic
) -> list[Trial]:  # fmt: skip
    """Every trial of the search in `file`, those of earlier calls included.

    first: recipes to begin with, as far as the space holds them. raises: ResultsError where the file is damaged or is of another search
    """
    held = [answers for variant in first if (answers := space.answers(variant)) is not None]
    book = _Book(file, wish.seed, held)
    in_vain = 0
    while in_vain < PATIENCE:
        if sum(each.seconds for each in book.trials.values()) >= wish.seconds:
            break
        if not book.unfinished() and wish.trials is not None and len(book.trials) >= wish.trials:
            break
        number, asked = book.propose()
        ended = _Try(book, bench, wish, clock).run(number, asked, space)
        told(ended, _sorted(book))
        in_vain = 0 if ended.stage in ("short", "whole") and not ended.repeated else in_vain + 1
    return _sorted(book)


def _sorted(book: _Book) -> list[Trial]:
    return [book.trials[number] for number in sorted(book.trials)]


class _Asked:
    """A trial of optuna's as the space asks it."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def ordered(self, name: str, choices: Sequence[Choice]) -> Choice:
        return choices[self._trial.suggest_int(name, 0, len(choices) - 1)]

    def named(self, name: str, choices: Sequence[str]) -> str:
        return str(self._trial.suggest_categorical(name, choices))


class _Book:
    """The search's file, and optuna's study as it follows from that file.

    A line for every change of a trial, the newest of each number counts; a line that a killed process left unfinished is none.
    """

    def __init__(self, file: Path, seed: int, first: Sequence[Mapping[str, Any]]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._file, self._seed, self._first = file, seed, first
        self._study = optuna.create_study(directions=["maximize", "minimize"])
        self._answers: dict[int, dict[str, Any]] = {}
        self._choices: dict[str, Any] = {}  # question -> the answers that there are
        self.trials: dict[int, Trial] = {}
        lines = self._lines()
        if lines and lines[0].get("seed") != seed:
            raise InputError(f"{file}: begun with --seed {lines[0].get('seed')}; go on with that one, or choose another --out")
        if not lines:
            self._write({"schema": SCHEMA, "seed": seed})
        for line in lines[1:]:
            trial = Trial.of(line["trial"])
            self.trials[trial.number], self._answers[trial.number] = trial, line["answers"]
            self._choices |= {question: range(there) if isinstance(there, int) else there for question, there in line["choices"].items()}

    def unfinished(self) -> bool:
        """Whether a killed process was at a trial."""
        return any(not each.ended for each in self.trials.values())

    def propose(self) -> tuple[int, optuna.Trial]:
        """The trial that a killed process was at; then the first ones; then by turns the estimator's own and a neighbour of the front."""
        begun = len(self._study.get_trials(deepcopy=False))
        for number in range(begun, len(self.trials)):
            if not self.trials[number].ended:
                break
            self._study.add_trial(self._frozen(number))
        number = len(self._study.get_trials(deepcopy=False))
        random = np.random.default_rng((self._seed, number))
        # Of a search that goes on: not the draws of its beginning again.
        self._study.sampler = optuna.samplers.TPESampler(seed=self._seed + 1000 * number, n_startup_trials=STARTUP)
        best = trials_.front(list(self.trials.values()))
        if number in self.trials:
            self._study.enqueue_trial(self._answers[number])
        elif number < len(self._first):
            self._study.enqueue_trial(dict(self._first[number]))
        elif best and random.random() < NEIGHBOURS:
            parent = self._answers[best[int(random.integers(len(best)))].number]
            self._study.enqueue_trial(trials_.mutated(parent, self._choices, random))
        return number, self._study.ask()

    def keep(self, asked: optuna.Trial, trial: Trial) -> Trial:
        """On the disk when it returns. raises: DiskFullError"""
        self._answers[trial.number] = dict(asked.params)
        told: dict[str, Any] = {}
        for question, distribution in asked.distributions.items():
            if isinstance(distribution, IntDistribution):
                told[question], self._choices[question] = distribution.high + 1, range(distribution.high + 1)
            elif isinstance(distribution, CategoricalDistribution):
                told[question] = self._choices[question] = list(distribution.choices)
        self._write({"trial": trial.text(), "answers": asked.params, "choices": told})
        self.trials[trial.number] = trial
        return trial

    def end(self, asked: optuna.Trial, trial: Trial) -> None:
        values = _values(trial)
        self._study.tell(asked, values, state=TrialState.PRUNED if values is None else TrialState.COMPLETE)

    def _frozen(self, number: int) -> optuna.trial.FrozenTrial:
        """An earlier process's trial as optuna knows it."""
        answers, values = self._answers[number], _values(self.trials[number])
        there = {question: self._choices[question] for question in answers}
        distributions: dict[str, Any] = {
            question: IntDistribution(0, choices[-1]) if isinstance(choices, range) else CategoricalDistribution(choices)
            for question, choices in there.items()
        }
        state = TrialState.PRUNED if values is None else TrialState.COMPLETE
        return optuna.trial.create_trial(params=answers, distributions=distributions, values=values, state=state)

    def _lines(self) -> list[dict[str, Any]]:
        if not self._file.exists():
            return []
        content = self._file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            found = [json.loads(line) for line in whole.splitlines()]
            if content and (not found or found[0]["schema"] > SCHEMA):
                raise ValueError("made by a newer fercompress" if found else "cut short")
        except (ValueError, KeyError, TypeError) as error:
            raise ResultsError(f"{self._file}: no search can be read there ({error}); move it away or start again with --fresh") from error
        if len(whole) < len(content):
            with self._file.open("r+b") as file:
                file.truncate(len(whole))
        return found

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _values(trial: Trial) -> list[float] | None:
    """What optuna is told: accuracy and the logarithm of bytes; None of what was not trained."""
    accuracy = trial.validation_accuracy if trial.validation_accuracy is not None else trial.short_accuracy
    return None if accuracy is None or trial.stored_bytes is None else [accuracy, math.log2(trial.stored_bytes)]


class _Try:
    """One trial from its proposal to its end."""

    def __init__(self, book: _Book, bench: Bench, wish: Wish, clock: Callable[[], float]) -> None:
        self._book, self._bench, self._wish, self._clock = book, bench, wish, clock

    def run(self, number: int, asked: optuna.Trial, space: Space) -> Trial:
        others = [each for each in self._book.trials.values() if each.number != number]
        variant = space.variant(f"s-{number:04d}", _Asked(asked))
        trial = self._book.trials.get(number) or self._book.keep(asked, Trial(number, variant))
        if (earlier := trials_.same(variant, others)) is not None:
            trial = replace(earlier, number=number, variant=variant, seconds=0.0, repeated=True, stopped=f"the same as {earlier.name}")
        else:
            try:
                trial = self._climbed(asked, trial, others)
            except InputError as error:
                trial = replace(trial, stopped=f"cannot be made: {error}")
        trial = self._book.keep(asked, replace(trial, ended=True))
        self._book.end(asked, trial)
        return trial

    def _climbed(self, asked: optuna.Trial, trial: Trial, others: Sequence[Trial]) -> Trial:
        """Through the stages, as far as it is worth it; each is kept before the next one begins."""
        start, before = self._clock(), trial.seconds

        def kept(**known: Any) -> Trial:
            return self._book.keep(asked, replace(trial, seconds=before + self._clock() - start, **known))

        sketch = self._bench.sketch(trial.variant)
        trial = kept(stage="sketched", stored_bytes=sketch.stored_bytes, predictor_ns=sketch.predictor_ns, sensitivity=sketch.sensitivity)
        if why := self._wish.budget.broken(sketch):
            return kept(stopped=why)
        if sketch.sensitivity is not None:
            known = [(each.stored_bytes, each.sensitivity) for each in others if each.stored_bytes is not None and each.sensitivity is not None]
            if trials_.beaten_by(sketch.stored_bytes, sketch.sensitivity, known, self._wish.margin) >= BEATEN_BY:
                return kept(stopped="before training others keep more of the teacher's accuracy in no more bytes")
        trial = kept(stage="short", short_accuracy=self._bench.short(trial.variant))
        assert trial.short_accuracy is not None
        known = [(each.stored_bytes, each.short_accuracy) for each in others if each.stored_bytes is not None and each.short_accuracy is not None]
        if trials_.beaten_by(sketch.stored_bytes, trial.short_accuracy, known, self._wish.margin):
            return kept(stopped="after a short training others are more accurate in no more bytes")
        accuracy, stored_bytes = self._bench.whole(trial.variant)
        trial = kept(stage="whole", validation_accuracy=accuracy, stored_bytes=stored_bytes)
        exact = Sketch(stored_bytes, sketch.predictor_ns, None)
        return kept(stopped=why) if (why := self._wish.budget.broken(exact)) else trial
