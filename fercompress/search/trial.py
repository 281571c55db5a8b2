"""One trial of a search: what was asked, how far it came, what was found; and the rules by which it goes on or stops."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from fercompress import config, stats

# How far a trial came. "sketched": nothing trained; "short": a short training; "whole": trained as the study says, exported and validated
Stage = Literal["begun", "sketched", "short", "whole"]
BEATEN_BY = 2  # so many sketches that beat one end it: what a train keeps before it is trained says little about what it has afterwards


@dataclass(frozen=True)
class Trial:
    """variant: its recipe; stopped: why it went no further, "" where nothing stopped it

    stored_bytes: of its bundle; before it is exported, as modelled
    predictor_ns: of one clip through both trains, as modelled for onnxruntime; None where nothing is in tensor-train form
    sensitivity: validation accuracy (share) of the teacher with the trains in place, nothing trained; None where trains start at random
    short_accuracy: validation accuracy after the short training; validation_accuracy: of the exported bundle, rounding included
    seconds: that it took
    """

    number: int
    variant: config.Variant
    stage: Stage = "begun"
    stopped: str = ""
    stored_bytes: int | None = None
    predictor_ns: float | None = None
    sensitivity: float | None = None
    short_accuracy: float | None = None
    validation_accuracy: float | None = None
    seconds: float = 0.0
    repeated: bool = False  # an earlier trial is of the same recipe
    ended: bool = False

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def whole(self) -> bool:
        return self.stage == "whole" and not self.stopped and not self.repeated

    def text(self) -> str:
        return json.dumps({**asdict(replace(self, variant=None)), "variant": self.variant.model_dump(mode="json", exclude_unset=True)})  # type: ignore[arg-type]

    @classmethod
    def of(cls, text: str) -> Trial:
        told = json.loads(text)
        return cls(**{**told, "variant": config.Variant.model_validate_json(json.dumps(told["variant"]))})

    @property
    def table(self) -> dict[str, Any]:
        """As search.json has it."""
        told = asdict(replace(self, variant=None))  # type: ignore[arg-type]
        told = {key: value for key, value in told.items() if key not in ("variant", "repeated", "ended")}
        return {"variant": self.name, **told, "recipe": [step.model_dump(mode="json", exclude_unset=True) for step in self.variant.recipe]}


@dataclass(frozen=True)
class Sketch:
    """What is known of a variant before anything is trained; see `Trial`."""

    stored_bytes: int
    predictor_ns: float | None
    sensitivity: float | None


@dataclass(frozen=True)
class Budget:
    """What no trial may exceed; None: no limit."""

    stored_bytes: float | None = None
    predictor_ns: float | None = None

    def broken(self, sketch: Sketch) -> str:
        """ "" or why. A modelled time is right within a factor of two, so only what is more than twice too slow is out."""
        if self.stored_bytes is not None and sketch.stored_bytes > self.stored_bytes:
            return f"{sketch.stored_bytes:,} bytes are more than the {self.stored_bytes:,.0f} of the budget"
        if self.predictor_ns is not None and sketch.predictor_ns is not None and sketch.predictor_ns > 2 * self.predictor_ns:
            return f"its predictor is modelled at {sketch.predictor_ns / 1e6:.3g} ms, more than twice the {self.predictor_ns / 1e6:.3g} of the budget"
        return ""


def front(trials: Sequence[Trial]) -> list[Trial]:
    """The whole trials that no other one beats in validation accuracy and bytes, smallest first; of equal ones the first."""
    whole = list({(each.validation_accuracy, each.stored_bytes): each for each in reversed(trials) if each.whole}.values())
    if not whole:
        return []
    points = np.array([[each.validation_accuracy, each.stored_bytes] for each in whole], np.float64)
    on = stats.on_front(points[:, 0], points[:, 1])
    return sorted((each for each, mine in zip(whole, on, strict=True) if mine), key=lambda each: (each.stored_bytes or 0, each.number))


def beaten_by(stored_bytes: int, accuracy: float, others: Iterable[tuple[int, float]], margin: float) -> int:
    """How many others are at least as small and by more than `margin` more accurate."""
    return sum(size <= stored_bytes and found > accuracy + margin for size, found in others)


def same(variant: config.Variant, trials: Iterable[Trial]) -> Trial | None:
    """An earlier trial of the same recipe."""
    return next((each for each in trials if each.variant.recipe == variant.recipe), None)


def mutated(answers: Mapping[str, Any], choices: Mapping[str, Sequence[Any]], random: np.random.Generator) -> dict[str, Any]:
    """Answers with one or two of them changed: a neighbour where they have an order, any other one where they have none.

    choices: question -> the answers that there are, where they have no order; range(n) where they have one
    """
    changed = dict(answers)
    for question in random.choice(sorted(changed), size=min(len(changed), int(random.integers(1, 3))), replace=False):
        there = choices[str(question)]
        if isinstance(there, range):
            near = [place for place in (changed[question] - 1, changed[question] + 1) if place in there]
        else:
            near = [place for place in there if place != changed[question]]
        if near:
            changed[str(question)] = near[int(random.integers(len(near)))]
    return changed
