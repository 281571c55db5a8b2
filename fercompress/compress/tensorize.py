"""Put a predictor's LSTM into tensor-train form: a predictor and a recipe step in, a copy with a `TTLSTM` in the LSTM's place out."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from fercompress.config import Ranks, TensorTrain
from fercompress.errors import ModelError, ShapeError
from fercompress.tt import ranks as tt_ranks
from fercompress.tt import shape as tt_shape
from fercompress.tt.decompose import input_moments
from fercompress.tt.layers import TTLSTM, LayerShapes, check_supported
from fercompress.tt.place import only_lstm, replaced
from fercompress.tt.shape import TTShape

Shapes = tuple[LayerShapes, ...]  # of every layer
Loss = Callable[[nn.Module], float]
_LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # ranks among which a budget of bytes is spent


def tensorize(
    predictor: nn.Module, step: TensorTrain, channels: int, samples: Callable[[], tuple[Tensor, Tensor]], validation_loss: Loss
) -> nn.Module:
    """channels: of the feature map, the last axis of the features; an asymmetric train's last input factor where none is given.

    samples: what a layer reads, float (n, D) features and (n, H) hidden states; asked for where the step is data-aware. The hidden states are the
    LSTM's outputs: of several layers these are the last one's, and what is between the layers is not known. There the first layer's input matrix is
    decomposed by the features' covariance, and all others as if all inputs weighed the same.
    validation_loss: of a predictor on the cached validation features; asked for where ranks are chosen by measured sensitivity
    The copy is initialised (`step.start`), not trained.
    raises: ShapeError for ranks or factors that do not fit, ModelError for an LSTM that cannot be put into this form
    """
    name, lstm = dense_lstm(predictor)

    def loss_of(trains: Shapes) -> float:
        return validation_loss(replaced(copy.deepcopy(predictor), name, TTLSTM.from_dense(lstm, *trains[0], deeper=trains[1:])))

    first, *deeper = shapes(step, lstm, channels, loss_of)
    if step.start == "decompose":
        layer = TTLSTM.from_dense(lstm, *first, deeper=deeper)
    elif step.start == "data-aware":
        known = (first[0], None if deeper else first[1])
        moments = [None if shape is None else input_moments(read, shape.inputs) for shape, read in zip(known, samples(), strict=True)]
        layer = TTLSTM.from_dense(lstm, *first, input_moments=moments[0], hidden_moments=moments[1], deeper=deeper)
    else:
        layer = TTLSTM(
            lstm.input_size, lstm.hidden_size, *first, deeper=deeper, bias=bool(lstm.bias), batch_first=lstm.batch_first, dropout=lstm.dropout
        )
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
    """The trains of every layer's input-to-hidden and hidden-to-hidden matrix, None for one that stays dense.

    A layer above the first reads H numbers: its input-to-hidden matrix has the factors of a hidden-to-hidden one, and `step.rank`.
    loss_of: the validation loss with the given trains in the layer; without it a budget of bytes is only checked
    raises: ShapeError
    """
    skeletons = tuple(_skeletons(step, lstm, channels, place) for place in range(lstm.num_layers))
    ranks = (step.rank, step.rank if step.hidden_rank is None else step.hidden_rank)
    if isinstance(step.rank, Ranks) and step.rank.budget_bytes is not None:
        return _within(step.rank.budget_bytes, skeletons, loss_of)

    def ranked(place: int, part: int, name: str) -> TTShape | None:
        skeleton = skeletons[place][part]
        return None if skeleton is None else _ranked(skeleton, ranks[part], lstm.get_parameter(f"{name}_l{place}").detach())

    return tuple((ranked(place, 0, "weight_ih"), ranked(place, 1, "weight_hh")) for place in range(lstm.num_layers))


def _skeletons(step: TensorTrain, lstm: nn.LSTM, channels: int, place: int) -> LayerShapes:
    """The factors of the two trains of layer `place`, with rank 1 at every bond."""
    rows = 4 * lstm.hidden_size
    rank = step.rank if isinstance(step.rank, int) else 1
    hidden_rank = step.hidden_rank if isinstance(step.hidden_rank, int) else rank
    first = second = None
    if step.part in ("input", "both"):
        first = _state_skeleton(step, lstm.hidden_size, rows, rank) if place else _input_skeleton(step, lstm.input_size, rows, channels)
    if step.part != "input":
        second = _state_skeleton(step, lstm.hidden_size, rows, hidden_rank)
    return first, second


def _state_skeleton(step: TensorTrain, hidden: int, rows: int, rank: int) -> TTShape:
    """Of a matrix that multiplies hidden states."""
    if step.layout == "balanced":
        return tt_shape.balanced(rows, hidden, 1, cores=3)
    return _flat(tt_shape.asymmetric(rows, hidden, rank))


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
    """All trains' ranks under one budget of bytes (8-bit cores), spent where the validation loss falls most for a byte."""
    every = [skeleton for pair in skeletons for skeleton in pair]
    parts = {place: skeleton for place, skeleton in enumerate(every) if skeleton is not None}
    fitting: dict[str, dict[int, TTShape]] = {}
    for place, skeleton in parts.items():
        most = tt_shape.max_ranks(skeleton.outputs, skeleton.inputs)
        usable = [rank for rank in _LADDER if rank <= min(most[1:-1], default=1)]
        fitting[str(place)] = {rank: _ranked(skeleton, rank, Tensor()) for rank in usable}

    def loss(part: str, rank: int) -> float:
        if loss_of is None:
            return 0.0
        return loss_of(_pairs([fitting[part][rank] if place == int(part) else None for place in range(len(every))]))

    sizes = {part: {rank: shape.stored_bytes(8) for rank, shape in choices.items()} for part, choices in fitting.items()}
    chosen = tt_ranks.within_bytes(sizes, loss, budget_bytes)
    return _pairs([fitting[str(place)][chosen[str(place)]] if place in parts else None for place in range(len(every))])


def _pairs(trains: Sequence[TTShape | None]) -> Shapes:
    return tuple(zip(trains[::2], trains[1::2], strict=True))
