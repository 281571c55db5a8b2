"""The space of a search: whatever is chosen in it is a variant that can be made, and a variant in it can be told in its words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fercompress import config
from fercompress.compress import tensorize
from fercompress.search.space import LAYOUTS, PARTS, RANKS, STARTS, WIDTHS, Space
from fercompress.studyfile import load_study
from fercompress.tt.shape import TTShape

LSTM = nn.LSTM(96, 20)  # awkward sizes: factors 96 = 2^5 * 3 and 80 = 2^4 * 5
CHANNELS = 8


def skeletons(lstm: nn.LSTM, channels: int) -> dict[Any, tuple[TTShape, TTShape]]:
    found = {}
    for layout in LAYOUTS:
        first, second = tensorize.shapes(config.TensorTrain(step="tensor-train", layout=layout, rank=1), lstm, channels)[0]
        assert first is not None
        assert second is not None
        found[layout] = (first, second)
    return found


SPACE = Space(skeletons(LSTM, CHANNELS))


class Drawn:
    """Answers whatever hypothesis draws, and the same to the same question."""

    def __init__(self, data: st.DataObject) -> None:
        self.data, self.said = data, {}

    def ordered(self, name: str, choices: Sequence[Any]) -> Any:
        self.said[name] = place = self.data.draw(st.integers(0, len(choices) - 1), label=name)
        return choices[place]

    def named(self, name: str, choices: Sequence[str]) -> str:
        self.said[name] = self.data.draw(st.sampled_from(choices), label=name)
        return self.said[name]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_every_choice_is_a_variant_whose_trains_fit_the_layer(data) -> None:
    variant = SPACE.variant("s-0000", Drawn(data))
    again = config.Variant.model_validate_json(variant.model_dump_json(exclude_unset=True))
    assert again == variant
    (step,) = [step for step in variant.recipe if isinstance(step, config.TensorTrain)]
    first, second = tensorize.shapes(step, LSTM, CHANNELS)[0]
    assert (first is None, second is None) == (step.part == "hidden", step.part == "input")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_variant_of_the_space_is_told_in_answers_that_make_it_again(data) -> None:
    variant = SPACE.variant("s-0000", Drawn(data))
    answers = SPACE.answers(variant)
    if answers is None:  # a rank that was lowered to what its neighbours carry need not be one of the ladder's
        ranks = [rank for step in variant.recipe if isinstance(step, config.TensorTrain) for own in (step.rank, step.hidden_rank) if own
                 for rank in own.per_bond]  # fmt: skip
        assert not set(ranks) <= set(RANKS)
        return

    class Said:
        def ordered(self, name: str, choices: Sequence[Any]) -> Any:
            return choices[answers[name]]

        def named(self, name: str, _choices: Sequence[str]) -> str:
            return answers[name]

    assert SPACE.variant("s-0000", Said()) == variant


def test_the_default_study_s_tensor_trains_are_in_the_space_and_its_other_variants_are_not() -> None:
    space = Space(skeletons(nn.LSTM(4096, 256), 64))
    held = [variant.name for variant in load_study("default").variants if space.answers(variant) is not None]
    assert held == ["tt-r2", "tt-r4", "tt-r8", "tt-r4-int8", "lowrank-tt-r8", "lowrank-tt-r8-int8"]
    answers = space.answers(next(variant for variant in load_study("default").variants if variant.name == "lowrank-tt-r8-int8"))
    assert answers["layout"] == "asymmetric"
    assert WIDTHS[answers["width"]] == 3.0
    assert [RANKS[answers[f"input rank, asymmetric {bond}"]] for bond in (1, 2)] == [8, 8]


@pytest.mark.parametrize(
    "step",
    [
        {"step": "tensor-train", "rank": {"ratio": 20.0}},
        {"step": "tensor-train", "rank": 5},
        {"step": "tensor-train", "rank": 2, "input_modes": (4, 4, 6), "output_modes": (4, 4, 5), "layout": "balanced"},
        {"step": "bottleneck", "rank": 2},
    ],
)
def test_what_the_space_has_no_words_for_is_not_in_it(step) -> None:
    if "input_modes" in step:
        step = {**step, "input_modes": list(step["input_modes"]), "output_modes": list(step["output_modes"])}
    assert SPACE.answers(config.Variant.model_validate({"name": "other", "recipe": (step,)})) is None


def test_an_extractor_without_kernels_to_shrink_keeps_its_own() -> None:
    class First:
        def ordered(self, name: str, choices: Sequence[Any]) -> Any:
            assert name != "width"
            return choices[0]

        def named(self, _name: str, choices: Sequence[str]) -> str:
            return choices[0]

    variant = Space(SPACE.skeletons, low_rank=False).variant("s-0000", First())
    assert [step.step for step in variant.recipe] == ["tensor-train", "quantize", "quantize"]
    assert (variant.recipe[0].part, variant.recipe[0].start) == (PARTS[0], STARTS[0])
