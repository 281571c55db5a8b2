"""Put a predictor's LSTM into tensor-train form: a predictor and a recipe step in, a copy with a `TTLSTM` in the LSTM's place out."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

from torch import Tensor, nn

from fercompress.config import Ranks, TensorTrain
from fercompress.errors import ModelError, ShapeError
from fercompress.tt import ranks as tt_ranks
from fercompress.tt import shape as tt_shape
from fercompress.tt.decompose import input_moments
from fercompress.tt.layers import TTLSTM, check_supported, only_lstm, replaced
from fercompress.tt.shape import TTShape

Shapes = tuple[TTShape | None, TTShape | None]
Loss = Callable[[nn.Module], float]
_LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # ranks among which a budget of bytes is spent
_WEIGHTS = ("weight_ih_l0", "weight_hh_l0")


def tensorize(
    predictor: nn.Module, step: TensorTrain, channels: int, samples: Callable[[], tuple[Tensor, Tensor]], validation_loss: Loss
) -> nn.Module:
    """channels: of the feature map, the last axis of the features; an asymmetric train's last input factor where none is given.

    samples: what the layer reads, float (n, D) features and (n, H) hidden states; asked for where the step is data-aware
    validation_loss: of a predictor on the cached validation features; asked for where ranks are chosen by measured sensitivity
    The copy is initialised (`step.start`), not trained.
    raises: ShapeError for ranks or factors that do not fit, ModelError for an LSTM that cannot be put into this form
    """
    name, lstm = dense_lstm(predictor)

    def loss_of(trains: Shapes) -> float:
        return validation_loss(replaced(copy.deepcopy(predictor), name, TTLSTM.from_dense(lstm, *trains)))

    input_shape, hidden_shape = shapes(step, lstm, channels, loss_of)
    if step.start == "decompose":
        layer = TTLSTM.from_dense(lstm, input_shape, hidden_shape)
    elif step.start == "data-aware":
        trains = zip((input_shape, hidden_shape), samples(), strict=True)
        moments = [None if shape is None else input_moments(read, shape.inputs) for shape, read in trains]
        layer = TTLSTM.from_dense(lstm, input_shape, hidden_shape, input_moments=moments[0], hidden_moments=moments[1])
    else:
        layer = TTLSTM(lstm.input_size, lstm.hidden_size, input_shape, hidden_shape, bias=bool(lstm.bias), batch_first=lstm.batch_first)
        layer.to(lstm.get_parameter("weight_ih_l0").device)
    return replaced(copy.deepcopy(predictor), name, layer)


def dense_lstm(predictor: nn.Module) -> tuple[str, nn.LSTM]:
    """The one LSTM that a train can stand in for. raises: ModelError"""
    name, lstm = only_lstm(predictor)
    if isinstance(lstm, TTLSTM):
        raise ModelError(f"the predictor's LSTM {name!r} is in tensor-train form already")
    check_supported(lstm)
    return name, lstm


def shapes(step: TensorTrain, lstm: nn.LSTM, channels: int, loss_of: Callable[[Shapes], float] | None = None) -> Shapes:
    """The trains of the input-to-hidden and the hidden-to-hidden matrix, None for one that stays dense.

    loss_of: the validation loss with the given trains in the layer; without it a budget of bytes is only checked
    raises: ShapeError
    """
    skeletons = _skeletons(step, lstm, channels)
    ranks = (step.rank, step.rank if step.hidden_rank is None else step.hidden_rank)
    if isinstance(step.rank, Ranks) and step.rank.budget_bytes is not None:
        return _within(step.rank.budget_bytes, skeletons, loss_of)
    weights = (lstm.get_parameter(name).detach() for name in _WEIGHTS)
    first, second = (
        None if skeleton is None else _ranked(skeleton, rank, weight) for skeleton, rank, weight in zip(skeletons, ranks, weights, strict=True)
    )
    return first, second


def _skeletons(step: TensorTrain, lstm: nn.LSTM, channels: int) -> Shapes:
    """The two trains' factors, with rank 1 at every bond."""
    rows = 4 * lstm.hidden_size
    rank = step.rank if isinstance(step.rank, int) else 1
    first = _input_skeleton(step, lstm.input_size, rows, channels) if step.part in ("input", "both") else None
    if step.part == "input":
        return first, None
    if step.layout == "balanced":
        return first, tt_shape.balanced(rows, lstm.hidden_size, 1, cores=3)
    hidden_rank = step.hidden_rank if isinstance(step.hidden_rank, int) else rank
    return first, _flat(tt_shape.asymmetric(rows, lstm.hidden_size, hidden_rank))


def _input_skeleton(step: TensorTrain, features: int, rows: int, channels: int) -> TTShape:
    if step.input_modes is None and step.output_modes is None:
        if step.layout == "balanced":
            return tt_shape.balanced(rows, features, 1)
        # Features of another extractor than ours may not end with its channels.
        return tt_shape.asymmetric(rows, features, 1, last=channels if features % channels == 0 else None)
    if step.input_modes is None or step.output_modes is None:
        raise ShapeError("give both input_modes and output_modes of a tensor-train step, or neither")
    shape = tt_shape.checked(rows, features, step.output_modes, step.input_modes, 1)
    if shape.asymmetric != (step.layout == "asymmetric"):
        raise ShapeError(
            f"output_modes {step.output_modes}: the last one is 1 in an asymmetric layout and above 1 in a balanced one; layout is {step.layout!r}"
        )
    return shape


def _flat(shape: TTShape) -> TTShape:
    return dataclasses.replace(shape, ranks=(1,) * len(shape.ranks))


def _ranked(skeleton: TTShape, rank: int | Ranks, weight: Tensor) -> TTShape:
    if isinstance(rank, int):
        return TTShape.uniform(skeleton.outputs, skeleton.inputs, rank, skeleton.padded_rows, skeleton.padded_columns)
    policy, value = rank.policy
    chosen = tt_ranks.chosen(tt_ranks.Spectrum.of(weight, skeleton.outputs, skeleton.inputs), policy, value)
    return dataclasses.replace(skeleton, ranks=chosen)


def _within(budget_bytes: int, skeletons: Shapes, loss_of: Callable[[Shapes], float] | None) -> Shapes:
    """Both trains' ranks under one budget of bytes (8-bit cores), spent where the validation loss falls most for a byte."""
    parts = {place: skeleton for place, skeleton in enumerate(skeletons) if skeleton is not None}
    fitting: dict[str, dict[int, TTShape]] = {}
    for place, skeleton in parts.items():
        most = tt_shape.max_ranks(skeleton.outputs, skeleton.inputs)
        usable = [rank for rank in _LADDER if rank <= min(most[1:-1], default=1)]
        fitting[str(place)] = {rank: _ranked(skeleton, rank, Tensor()) for rank in usable}

    def loss(part: str, rank: int) -> float:
        if loss_of is None:
            return 0.0
        trains = [fitting[part][rank] if place == int(part) else None for place in (0, 1)]
        return loss_of((trains[0], trains[1]))

    sizes = {part: {rank: shape.stored_bytes(8) for rank, shape in choices.items()} for part, choices in fitting.items()}
    chosen = tt_ranks.within_bytes(sizes, loss, budget_bytes)
    first, second = (fitting[str(place)][chosen[str(place)]] if place in parts else None for place in (0, 1))
    return first, second
