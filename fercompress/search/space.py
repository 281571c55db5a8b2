"""What a search chooses among: the factors of a model's matrices and someone who chooses in, a variant's recipe out.

Ranks of every bond of both trains, their layout, which matrices they stand in for, where they start, bits of each part, and the extractor's width:
how many times fewer numbers its kernels hold in low-rank form (1: its own kernels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from fercompress import config
from fercompress.tt import ranks as tt_ranks
from fercompress.tt.shape import TTShape, max_ranks

Layout = Literal["asymmetric", "balanced"]
Choice = TypeVar("Choice", int, float, str)

LAYOUTS: tuple[Layout, ...] = ("asymmetric", "balanced")
PARTS = ("both", "input", "hidden")
STARTS = ("data-aware", "decompose", "from-scratch")
RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
WIDTHS = (1.0, 2.0, 3.0, 4.0, 6.0)  # numbers in the kernels / numbers in their trains
EXTRACTOR_BITS = (4.0, 6.0, 8.0, 32.0)  # between 4 and 8: on average, 4 where a layer bears it best
PREDICTOR_BITS = (4, 8, 32)


class Ask(Protocol):
    """Someone who chooses: an optuna trial, or a person's own recipe told in these words."""

    def ordered(self, name: str, choices: Sequence[Choice]) -> Choice:
        """One of choices that have an order."""

    def named(self, name: str, choices: Sequence[str]) -> str:
        """One of choices without an order."""


@dataclass(frozen=True)
class Space:
    """skeletons: layout -> the input-to-hidden and the hidden-to-hidden train of the teacher's LSTM, at whatever ranks

    low_rank: whether the extractor has kernels that a train can stand in for
    """

    skeletons: Mapping[Layout, tuple[TTShape, TTShape]]
    low_rank: bool = True

    def variant(self, name: str, ask: Ask) -> config.Variant:
        """A variant as `ask` chooses it."""
        layout: Layout = "asymmetric" if ask.named("layout", LAYOUTS) == "asymmetric" else "balanced"
        part = ask.named("part", PARTS)
        start = ask.named("start", STARTS)
        input_train, hidden_train = self.skeletons[layout]
        rank = self._ranks(ask, f"input rank, {layout}", input_train) if part != "hidden" else None
        hidden = self._ranks(ask, f"hidden rank, {layout}", hidden_train) if part != "input" else None
        width = ask.ordered("width", WIDTHS) if self.low_rank else 1.0
        bits = ask.ordered("extractor bits", EXTRACTOR_BITS), ask.ordered("predictor bits", PREDICTOR_BITS)
        train: dict[str, Any] = {"step": "tensor-train", "layout": layout, "part": part, "start": start}
        train |= {"rank": {"per_bond": hidden if rank is None else rank}}
        train |= {"hidden_rank": {"per_bond": hidden}} if hidden is not None and rank is not None else {}
        recipe = [*([{"step": "low-rank", "ratio": width}] if width > 1 else []), train, *_rounding(*bits)]
        return config.Variant.model_validate({"name": name, "recipe": tuple(recipe)})

    def answers(self, variant: config.Variant) -> dict[str, Any] | None:
        """What a chooser would have to say for a variant, by question; None where the space does not hold it."""
        told = _Told(variant)
        if not told.known:
            return None
        try:
            again = self.variant(variant.name, told)
        except (ValueError, KeyError):
            return None
        return told.said if _core(again, self) == _core(variant, self) else None

    def _ranks(self, ask: Ask, question: str, train: TTShape) -> list[int]:
        """One for each inner bond, lowered to what it and its neighbours can carry."""
        most = max_ranks(train.outputs, train.inputs)[1:-1]
        chosen = [ask.ordered(f"{question} {bond}", [rank for rank in RANKS if rank <= largest]) for bond, largest in enumerate(most, 1)]
        return list(tt_ranks.feasible(train.outputs, train.inputs, chosen)[1:-1])


def _rounding(extractor_bits: float, predictor_bits: int) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    if extractor_bits < 32:
        how = {"bits": int(extractor_bits)} if extractor_bits in (4, 8) else {"mean_bits": extractor_bits}
        steps.append({"step": "quantize", "part": "extractor", **how})
    if predictor_bits < 32:
        steps.append({"step": "quantize", "part": "predictor", "bits": predictor_bits})
    return steps


class _Told:
    """Answers the space's questions as a given recipe does."""

    def __init__(self, variant: config.Variant) -> None:
        self._steps: dict[str, config.Step] = {step.step if not isinstance(step, config.Quantize) else step.part: step for step in variant.recipe}
        train = self._steps.get("tensor-train")
        self.known = isinstance(train, config.TensorTrain) and config.npu_step(variant) is None and variant.engine is None
        self._train = train if isinstance(train, config.TensorTrain) else None
        self.said: dict[str, Any] = {}

    def named(self, name: str, _choices: Sequence[str]) -> str:
        self.said[name] = getattr(self._train, name)
        return str(self.said[name])

    def ordered(self, name: str, choices: Sequence[Choice]) -> Choice:
        """raises: ValueError where the recipe's own is none of the choices"""
        value = self._value(name)
        if " rank" in name:  # a rank that is above what a bond can carry is lowered anyway
            value = min(value, choices[-1])
        self.said[name] = place = list(choices).index(value)
        return choices[place]

    def _value(self, name: str) -> Any:
        if name == "width":
            step = self._steps.get("low-rank")
            return step.ratio if isinstance(step, config.LowRank) else 1.0
        if name.endswith(" bits"):
            rounding = self._steps.get(name.removesuffix(" bits"))
            return (rounding.mean_bits or rounding.bits) if isinstance(rounding, config.Quantize) else 32
        assert self._train is not None
        own = self._train.hidden_rank if name.startswith("hidden") and self._train.hidden_rank is not None else self._train.rank
        if isinstance(own, int):
            return own
        if own.per_bond is None:
            raise ValueError("its ranks are chosen by a policy")
        return own.per_bond[int(name.rsplit(" ", 1)[-1]) - 1]


def _core(variant: config.Variant, space: Space) -> list[Any]:
    """A recipe in one form, whichever way its ranks are written."""
    found: list[Any] = []
    for step in variant.recipe:
        told = step.model_dump()
        if isinstance(step, config.TensorTrain):
            trains = space.skeletons[step.layout]
            own = (step.rank, step.rank if step.hidden_rank is None else step.hidden_rank)
            both = [_bonds(rank, train) for rank, train in zip(own, trains, strict=True)]
            told["rank"] = {"both": both, "input": both[:1], "hidden": both[1:]}[step.part]
            told.pop("hidden_rank")
        found.append(told)
    return found


def _bonds(rank: int | config.Ranks, train: TTShape) -> tuple[int, ...] | None:
    inner = [rank] * (len(train.outputs) - 1) if isinstance(rank, int) else rank.per_bond
    return None if inner is None or len(inner) != len(train.outputs) - 1 else tt_ranks.feasible(train.outputs, train.inputs, inner)
