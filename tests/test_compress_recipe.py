import json
from typing import Any

import pytest
import torch
from torch import nn

from fercompress import config
from fercompress.compress.controls import Bottleneck, SmallDense, largest_hidden
from fercompress.compress.recipe import Context, apply, needs_training
from fercompress.compress.tensorize import shapes
from fercompress.errors import ModelError, ShapeError
from fercompress.tt.layers import TTLSTM

CHANNELS, HEIGHT, WIDTH, HIDDEN, CLASSES = 8, 3, 2, 16, 5
FEATURES = CHANNELS * HEIGHT * WIDTH


class Own(nn.Module):
    """A predictor as a user may write it: the LSTM sits somewhere inside."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"norm": nn.LayerNorm(FEATURES), "rnn": nn.LSTM(FEATURES, HIDDEN, batch_first=True)})
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        states, _ = self.body["rnn"](self.body["norm"](features))
        return self.head(states.mean(1))


def _variant(*recipe: dict[str, Any]) -> config.Variant:
    return config.Variant.model_validate_json(json.dumps({"name": "v", "recipe": recipe}))


def _numbers(predictor: nn.Module, _wishes: tuple[config.Quantize, ...]) -> int:
    return 4 * sum(parameter.numel() for parameter in predictor.parameters())


@pytest.fixture
def context() -> Context:
    return Context((CHANNELS, HEIGHT, WIDTH), CLASSES, 0.1, byte_budget=lambda name: {"tt": 4000}[name], predictor_bytes=_numbers)


def _never(_: nn.Module) -> nn.Module:
    raise AssertionError("a recipe without a change must not train")


def test_a_tensor_train_step_replaces_the_lstm_in_a_copy_and_leaves_the_teacher_alone(context: Context) -> None:
    teacher = Own()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    made = apply(_variant({"step": "tensor-train", "rank": 2}), nn.Identity(), teacher, context, lambda predictor: predictor)
    assert isinstance(made.predictor.get_submodule("body.rnn"), TTLSTM)
    assert isinstance(teacher.body["rnn"], nn.LSTM)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert made.way == "decomposed, then fine-tuned"
    assert made.predictor(torch.randn(2, 4, FEATURES)).shape == (2, CLASSES)


def test_decomposing_at_full_rank_changes_no_prediction(context: Context) -> None:
    teacher = Own().eval()
    step = {"step": "tensor-train", "rank": 8, "part": "input", "output_modes": [64, 1], "input_modes": [6, 8]}
    made = apply(_variant(step), nn.Identity(), teacher, context, lambda predictor: predictor)
    features = torch.randn(3, 4, FEATURES)
    torch.testing.assert_close(made.predictor(features), teacher(features), rtol=1e-4, atol=1e-5)


def test_the_fit_function_gets_the_changed_predictor_and_its_answer_is_the_result(context: Context) -> None:
    seen: list[nn.Module] = []

    def fit(predictor: nn.Module) -> nn.Module:
        seen.append(predictor)
        return predictor

    made = apply(_variant({"step": "tensor-train", "rank": 2, "start": "from-scratch"}), nn.Identity(), Own(), context, fit)
    assert made.predictor is seen[0]
    assert made.way == "trained in tensor-train form from scratch"
    assert not made.predictor.training


def test_a_recipe_of_quantization_only_trains_nothing_and_hands_the_wishes_on(context: Context) -> None:
    variant = _variant({"step": "quantize", "part": "extractor"}, {"step": "quantize", "part": "predictor"})
    teacher = Own()
    made = apply(variant, nn.Identity(), teacher, context, _never)
    assert [wish.part for wish in made.quantize] == ["extractor", "predictor"]
    assert made.predictor is not teacher
    assert not needs_training(variant)


def test_the_bottleneck_is_a_1x1_convolution_before_a_dense_lstm_of_the_same_hidden_size(context: Context) -> None:
    made = apply(_variant({"step": "bottleneck", "rank": 2}), nn.Identity(), Own(), context, lambda predictor: predictor)
    control = made.predictor
    assert isinstance(control, Bottleneck)
    assert (control.lstm.input_size, control.lstm.hidden_size) == (2 * HEIGHT * WIDTH, HIDDEN)
    maps = torch.randn(4, CHANNELS, HEIGHT, WIDTH)
    convolved = nn.functional.conv2d(maps, control.projection.weight[:, :, None, None])
    projected = control.projection(maps.permute(0, 2, 3, 1).flatten(1).reshape(4, -1, CHANNELS)).flatten(1)
    torch.testing.assert_close(projected, convolved.permute(0, 2, 3, 1).flatten(1))


def test_the_small_dense_control_takes_the_largest_hidden_size_within_the_budget(context: Context) -> None:
    made = apply(_variant({"step": "small-dense", "bytes_of": "tt"}), nn.Identity(), Own(), context, lambda predictor: predictor)
    control = made.predictor
    assert isinstance(control, SmallDense)
    hidden = control.lstm.hidden_size
    assert _numbers(control, ()) <= 4000 < _numbers(SmallDense(CHANNELS, hidden + 1, CLASSES, 0.1), ())
    assert control(torch.randn(2, 4, FEATURES)).shape == (2, CLASSES)


@pytest.mark.parametrize("budget", [1, 2, 3, 7, 64, 65, 1000])
def test_the_search_finds_the_largest_size_that_fits(budget: int) -> None:
    assert largest_hidden(lambda hidden: 3 * hidden, 3 * budget + 2) == budget


def test_a_budget_below_one_hidden_unit_is_refused_with_both_numbers() -> None:
    with pytest.raises(ModelError, match=r"into 10 bytes: with one hidden unit it takes 11"):
        largest_hidden(lambda hidden: 10 + hidden, 10)


def test_the_channels_are_the_last_input_factor_of_an_asymmetric_train() -> None:
    step = config.TensorTrain(step="tensor-train", rank=4)
    ih, hh = shapes(step, 4096, 256, 256)
    assert ih is not None
    assert hh is not None
    assert (ih.inputs, ih.outputs) == ((4, 4, 256), (32, 32, 1))
    assert ih.params + hh.params == 6208


def test_the_hidden_matrix_may_have_its_own_rank() -> None:
    _, hidden = shapes(config.TensorTrain(step="tensor-train", rank=4, hidden_rank=8), 4096, 256, 256)
    assert hidden is not None
    assert hidden.ranks == (1, 8, 8, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 10_000}, "rank 10000 at bond 1"),
        ({"rank": 2, "input_modes": [2, 3, 8]}, "both input_modes and output_modes"),
        ({"rank": 2, "input_modes": [2, 3, 9], "output_modes": [8, 8, 1]}, "multiply to 54, but the layer has 48 inputs"),
        ({"rank": 2, "input_modes": [2, 3, 8], "output_modes": [4, 4, 4]}, "layout is 'asymmetric'"),
    ],
)
def test_a_step_that_does_not_fit_the_layer_says_why(context: Context, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        apply(_variant({"step": "tensor-train", **changes}), nn.Identity(), Own(), context, _never)


def test_a_bottleneck_wider_than_the_feature_map_is_refused(context: Context) -> None:
    with pytest.raises(ModelError, match="rank 9 is above the feature map's 8 channels"):
        apply(_variant({"step": "bottleneck", "rank": 9}), nn.Identity(), Own(), context, _never)
