import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import nn

from fercompress import config
from fercompress.compress.controls import Bottleneck, SmallDense, largest_hidden
from fercompress.compress.recipe import Context, apply, low_rank_step, predictor_steps, quantize_steps
from fercompress.compress.tensorize import shapes
from fercompress.errors import ModelError, ShapeError
from fercompress.tt.layers import TTLSTM
from fercompress.tt.weights import TTWeight

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


def _samples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(200, FEATURES, generator=generator), torch.randn(200, HIDDEN, generator=generator)


@pytest.fixture
def context() -> Context:
    return Context(
        (CHANNELS, HEIGHT, WIDTH),
        CLASSES,
        0.1,
        byte_budget=lambda name: {"tt": 4000}[name],
        predictor_bytes=_numbers,
        samples=_samples,
        validation_loss=lambda _: 0.0,
    )


def test_a_retrained_dense_predictor_is_trained_on_and_leaves_the_teacher_alone(context):
    teacher = Own()
    given: list[nn.Module] = []

    def fit(predictor: nn.Module) -> nn.Module:
        given.append(predictor)
        torch.testing.assert_close(predictor.state_dict(), teacher.state_dict())
        with torch.no_grad():
            predictor.head.bias += 1
        return predictor

    made, way = apply(_variant({"step": "retrain"}), teacher, context, fit)
    assert given == [made]
    assert "trained on" in way
    torch.testing.assert_close(made.head.bias, teacher.head.bias + 1)


def _never(_: nn.Module) -> nn.Module:
    raise AssertionError("a recipe without a change must not train")


def test_a_tensor_train_step_replaces_the_lstm_in_a_copy_and_leaves_the_teacher_alone(context: Context) -> None:
    teacher = Own()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    made, way = apply(_variant({"step": "tensor-train", "rank": 2}), teacher, context, lambda predictor: predictor)
    assert isinstance(made.get_submodule("body.rnn"), TTLSTM)
    assert isinstance(teacher.body["rnn"], nn.LSTM)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert way == "decomposed, then fine-tuned"
    assert made(torch.randn(2, 4, FEATURES)).shape == (2, CLASSES)


def test_decomposing_at_full_rank_changes_no_prediction(context: Context) -> None:
    teacher = Own().eval()
    step = {"step": "tensor-train", "rank": 8, "part": "input", "output_modes": [64, 1], "input_modes": [6, 8]}
    made, _ = apply(_variant(step), teacher, context, lambda predictor: predictor)
    features = torch.randn(3, 4, FEATURES)
    torch.testing.assert_close(made(features), teacher(features), rtol=1e-4, atol=1e-5)


def test_the_fit_function_gets_the_changed_predictor_and_its_answer_is_the_result(context: Context) -> None:
    seen: list[nn.Module] = []

    def fit(predictor: nn.Module) -> nn.Module:
        seen.append(predictor)
        return predictor

    made, way = apply(_variant({"step": "tensor-train", "rank": 2, "start": "from-scratch"}), Own(), context, fit)
    assert made is seen[0]
    assert way == "trained in tensor-train form from scratch"
    assert not made.training


def test_a_recipe_of_quantization_only_trains_nothing_and_hands_the_wishes_on(context: Context) -> None:
    variant = _variant({"step": "quantize", "part": "extractor"}, {"step": "quantize", "part": "predictor"})
    teacher = Own()
    made, way = apply(variant, teacher, context, _never)
    assert [wish.part for wish in quantize_steps(variant)] == ["extractor", "predictor"]
    assert made is not teacher
    assert way == "dense, as trained"
    assert not predictor_steps(variant)


def test_the_bottleneck_is_a_1x1_convolution_before_a_dense_lstm_of_the_same_hidden_size(context: Context) -> None:
    made, _ = apply(_variant({"step": "bottleneck", "rank": 2}), Own(), context, lambda predictor: predictor)
    control = made
    assert isinstance(control, Bottleneck)
    assert (control.lstm.input_size, control.lstm.hidden_size) == (2 * HEIGHT * WIDTH, HIDDEN)
    maps = torch.randn(4, CHANNELS, HEIGHT, WIDTH)
    convolved = nn.functional.conv2d(maps, control.projection.weight[:, :, None, None])
    projected = control.projection(maps.permute(0, 2, 3, 1).flatten(1).reshape(4, -1, CHANNELS)).flatten(1)
    torch.testing.assert_close(projected, convolved.permute(0, 2, 3, 1).flatten(1))


def test_the_small_dense_control_takes_the_largest_hidden_size_within_the_budget(context: Context) -> None:
    made, _ = apply(_variant({"step": "small-dense", "bytes_of": "tt"}), Own(), context, lambda predictor: predictor)
    control = made
    assert isinstance(control, SmallDense)
    hidden = control.lstm.hidden_size
    assert _numbers(control, ()) <= 4000 < _numbers(SmallDense(CHANNELS, hidden + 1, CLASSES, 0.1), ())
    assert control(torch.randn(2, 4, FEATURES)).shape == (2, CLASSES)


def test_a_bottleneck_may_be_as_large_as_another_variant_too(context: Context) -> None:
    made, way = apply(_variant({"step": "bottleneck", "rank": 2, "bytes_of": "tt"}), Own(), context, lambda predictor: predictor)
    assert isinstance(made, Bottleneck)
    hidden = made.lstm.hidden_size
    assert _numbers(made, ()) <= 4000 < _numbers(Bottleneck(CHANNELS, HEIGHT * WIDTH, 2, hidden + 1, CLASSES, 0.1), ())
    assert f"{hidden} units, as many bytes as tt" in way


def test_data_aware_decomposition_errs_less_on_what_the_layer_reads(context: Context) -> None:
    torch.manual_seed(0)
    teacher = Own().eval()
    teacher.body["norm"] = nn.Identity()
    scales = torch.logspace(0, -2, CHANNELS).repeat(HEIGHT * WIDTH)
    features = torch.randn(300, 4, FEATURES) * scales

    def error(start: str) -> float:
        samples = lambda: (features.flatten(0, 1), torch.randn(200, HIDDEN))  # noqa: E731
        step = {"step": "tensor-train", "rank": 2, "part": "input", "start": start}
        made, _ = apply(_variant(step), teacher, dataclasses.replace(context, samples=samples), lambda predictor: predictor)
        with torch.no_grad():
            wanted, found = (features @ module.weight_ih_l0.T for module in (teacher.body["rnn"], made.get_submodule("body.rnn").to_dense()))
        return float((wanted - found).square().mean())

    assert error("data-aware") < 0.9 * error("decompose")


def test_low_rank_is_the_extractor_s_step_and_leaves_the_predictor_alone() -> None:
    variant = _variant({"step": "low-rank", "ratio": 2.0}, {"step": "tensor-train", "rank": 2})
    step = low_rank_step(variant)
    assert step is not None
    assert step.ratio == 2.0
    assert [step.step for step in predictor_steps(variant)] == ["tensor-train"]


@pytest.mark.parametrize("budget", [1, 2, 3, 7, 64, 65, 1000])
def test_the_search_finds_the_largest_size_that_fits(budget: int) -> None:
    assert largest_hidden(lambda hidden: 3 * hidden, 3 * budget + 2) == budget


def test_a_budget_below_one_hidden_unit_is_refused_with_both_numbers() -> None:
    with pytest.raises(ModelError, match=r"into 10 bytes: with one hidden unit it takes 11"):
        largest_hidden(lambda hidden: 10 + hidden, 10)


def test_the_channels_are_the_last_input_factor_of_an_asymmetric_train() -> None:
    step = config.TensorTrain(step="tensor-train", rank=4)
    ((ih, hh),) = shapes(step, nn.LSTM(4096, 256), 256)
    assert ih is not None
    assert hh is not None
    assert (ih.inputs, ih.outputs) == ((4, 4, 256), (32, 32, 1))
    assert ih.params + hh.params == 6208


def test_the_hidden_matrix_may_have_its_own_rank() -> None:
    ((_, hidden),) = shapes(config.TensorTrain(step="tensor-train", rank=4, hidden_rank=8), nn.LSTM(4096, 256), 256)
    assert hidden is not None
    assert hidden.ranks == (1, 8, 8, 1)


@pytest.mark.parametrize("wish", [{"relative_error": 0.5}, {"ratio": 3.0}, {"bytes": 600}, {"budget_bytes": 500}, {"per_bond": [3, 5]}])
def test_ranks_may_be_chosen_by_error_ratio_bytes_or_bond(context: Context, wish: dict[str, Any]) -> None:
    teacher = Own().eval()
    losses = {"asked": 0}

    def loss(predictor: nn.Module) -> float:
        losses["asked"] += 1
        layer = predictor.get_submodule("body.rnn")
        assert isinstance(layer, TTLSTM)
        return -float(layer.stored_numbers)  # more numbers are better

    context = dataclasses.replace(context, validation_loss=loss)
    part = "both" if "budget_bytes" in wish else "input"
    made, _ = apply(_variant({"step": "tensor-train", "rank": wish, "part": part}), teacher, context, lambda predictor: predictor)
    layer = made.get_submodule("body.rnn")
    assert isinstance(layer, TTLSTM)
    assert isinstance(layer.input, TTWeight)
    dense = teacher.body["rnn"].weight_ih_l0
    if "relative_error" in wish:
        assert (layer.input.dense() - dense).norm() <= 0.5 * dense.norm()
    elif "ratio" in wish:
        assert dense.numel() / layer.input.shape.params >= 3
    elif "bytes" in wish:
        assert layer.input.shape.stored_bytes(8) <= 600
    elif "per_bond" in wish:
        assert layer.input.shape.ranks == (1, 3, 5, 1)
    else:
        assert isinstance(layer.hidden, TTWeight)
        assert layer.input.shape.stored_bytes(8) + layer.hidden.shape.stored_bytes(8) <= 500
        assert losses["asked"] > 2
    assert bool(losses["asked"]) == ("budget_bytes" in wish)


class Deep(nn.Module):
    """A user's predictor with an LSTM of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(FEATURES, HIDDEN, num_layers=2, dropout=0.2, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(features)[0][:, -1])


@pytest.mark.parametrize("start", ["decompose", "data-aware", "from-scratch"])
@pytest.mark.parametrize("layout", ["asymmetric", "balanced"])
@pytest.mark.parametrize("part", ["input", "hidden", "both"])
def test_both_layers_of_a_users_lstm_become_trains(context: Context, part: str, layout: str, start: str) -> None:
    step = {"step": "tensor-train", "rank": 3, "hidden_rank": 2, "part": part, "layout": layout, "start": start}
    made, way = apply(_variant(step), Deep(), context, lambda predictor: predictor)
    layer = made.get_submodule("rnn")
    assert isinstance(layer, TTLSTM)
    assert (layer.num_layers, layer.dropout) == (2, 0.2)
    for one in layer.layers:
        assert isinstance(one.input, TTWeight) == (part in ("input", "both"))
        assert isinstance(one.hidden, TTWeight) == (part in ("hidden", "both"))
        for weight, rank in ((one.input, 3), (one.hidden, 2)):
            assert not isinstance(weight, TTWeight) or set(weight.shape.ranks[1:-1]) == {rank}
    assert made(torch.randn(2, 4, FEATURES)).shape == (2, CLASSES)
    assert ("only the first one's inputs" in way) == (start == "data-aware")


def test_decomposing_two_layers_at_full_rank_changes_no_prediction(context: Context) -> None:
    torch.manual_seed(0)
    teacher = Deep().eval()
    made, _ = apply(_variant({"step": "tensor-train", "rank": {"relative_error": 1e-6}}), teacher, context, lambda predictor: predictor)
    features = torch.randn(3, 4, FEATURES)
    torch.testing.assert_close(made(features), teacher(features), rtol=1e-4, atol=1e-5)


def test_a_budget_of_bytes_is_shared_by_the_trains_of_all_layers(context: Context) -> None:
    def loss(predictor: nn.Module) -> float:
        layer = predictor.get_submodule("rnn")
        assert isinstance(layer, TTLSTM)
        return -float(layer.stored_numbers)

    context = dataclasses.replace(context, validation_loss=loss)
    made, _ = apply(_variant({"step": "tensor-train", "rank": {"budget_bytes": 1500}}), Deep(), context, lambda predictor: predictor)
    layer = made.get_submodule("rnn")
    assert isinstance(layer, TTLSTM)
    trains = [module.shape for module in layer.modules() if isinstance(module, TTWeight)]
    assert len(trains) == 4
    assert 750 < sum(shape.stored_bytes(8) for shape in trains) <= 1500


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": {"bytes": 10}}, "too few"),
        ({"rank": 10_000}, "rank 10000 at bond 1"),
        ({"rank": 2, "input_modes": [2, 3, 8]}, "both input_modes and output_modes"),
        ({"rank": 2, "input_modes": [2, 3, 9], "output_modes": [8, 8, 1]}, "multiply to 54, but the layer has 48 inputs"),
        ({"rank": 2, "input_modes": [2, 3, 8], "output_modes": [4, 4, 4]}, "layout is 'asymmetric'"),
    ],
)
def test_a_step_that_does_not_fit_the_layer_says_why(context: Context, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        apply(_variant({"step": "tensor-train", **changes}), Own(), context, _never)


def test_a_bottleneck_wider_than_the_feature_map_is_refused(context: Context) -> None:
    with pytest.raises(ModelError, match="rank 9 is above the feature map's 8 channels"):
        apply(_variant({"step": "bottleneck", "rank": 9}), Own(), context, _never)
