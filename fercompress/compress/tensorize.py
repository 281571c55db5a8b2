"""Put a predictor's LSTM into tensor-train form: a predictor and a recipe step in, a copy with a `TTLSTM` in the LSTM's place out."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor, nn

from fercompress.config import TensorTrain
from fercompress.errors import ModelError, ShapeError
from fercompress.tt import shape as tt_shape
from fercompress.tt.decompose import input_moments
from fercompress.tt.layers import TTLSTM, check_supported, only_lstm, replaced
from fercompress.tt.shape import TTShape


def tensorize(predictor: nn.Module, step: TensorTrain, channels: int, samples: Callable[[], tuple[Tensor, Tensor]]) -> nn.Module:
    """channels: of the feature map, the last axis of the features; an asymmetric train's last input factor where none is given.

    samples: what the layer reads, float (n, D) features and (n, H) hidden states; asked for where the step is data-aware

    The copy is initialised (`step.start`), not trained.
    raises: ShapeError for ranks or factors that do not fit, ModelError for an LSTM that cannot be put into this form
    """
    name, lstm = only_lstm(predictor)
    if isinstance(lstm, TTLSTM):
        raise ModelError(f"the predictor's LSTM {name!r} is in tensor-train form already")
    check_supported(lstm)
    input_shape, hidden_shape = shapes(step, lstm.input_size, lstm.hidden_size, channels)
    if step.start == "decompose":
        layer = TTLSTM.from_dense(lstm, input_shape, hidden_shape)
    elif step.start == "data-aware":
        moments = [
            None if shape is None else input_moments(read, shape.inputs) for shape, read in zip((input_shape, hidden_shape), samples(), strict=True)
        ]
        layer = TTLSTM.from_dense(lstm, input_shape, hidden_shape, input_moments=moments[0], hidden_moments=moments[1])
    else:
        layer = TTLSTM(lstm.input_size, lstm.hidden_size, input_shape, hidden_shape, bias=bool(lstm.bias), batch_first=lstm.batch_first)
        layer.to(lstm.get_parameter("weight_ih_l0").device)
    return replaced(copy.deepcopy(predictor), name, layer)


def shapes(step: TensorTrain, features: int, hidden: int, channels: int) -> tuple[TTShape | None, TTShape | None]:
    """The trains of the input-to-hidden and the hidden-to-hidden matrix, None for one that stays dense. raises: ShapeError"""
    input_shape = _input_shape(step, features, 4 * hidden, channels) if step.part in ("input", "both") else None
    if step.part == "input":
        return input_shape, None
    rank = step.hidden_rank or step.rank
    if step.layout == "balanced":
        return input_shape, tt_shape.balanced(4 * hidden, hidden, rank, cores=3)
    return input_shape, tt_shape.asymmetric(4 * hidden, hidden, rank)


def _input_shape(step: TensorTrain, features: int, rows: int, channels: int) -> TTShape:
    if step.input_modes is None and step.output_modes is None:
        if step.layout == "balanced":
            return tt_shape.balanced(rows, features, step.rank)
        # Features of another extractor than ours may not end with its channels.
        return tt_shape.asymmetric(rows, features, step.rank, last=channels if features % channels == 0 else None)
    if step.input_modes is None or step.output_modes is None:
        raise ShapeError("give both input_modes and output_modes of a tensor-train step, or neither")
    shape = tt_shape.checked(rows, features, step.output_modes, step.input_modes, step.rank)
    if shape.asymmetric != (step.layout == "asymmetric"):
        raise ShapeError(
            f"output_modes {step.output_modes}: the last one is 1 in an asymmetric layout and above 1 in a balanced one; layout is {step.layout!r}"
        )
    return shape
