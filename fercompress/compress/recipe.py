"""Apply a variant's recipe to a predictor: the teacher's in, the variant's and its quantization wishes out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fercompress import config
from fercompress.compress.controls import Bottleneck, SmallDense, largest_hidden
from fercompress.compress.tensorize import tensorize
from fercompress.errors import ModelError
from fercompress.section import Section
from fercompress.tt.place import only_lstm


@dataclass(frozen=True)
class Context:
    """What steps may need to know of the study.

    feature_map: (c, h, w) of the extractor's output; classes: how many; dropout: for a control's own head
    byte_budget: from a variant's name to the bytes that a predictor may take to make the whole bundle as large as that variant's (not above)
    predictor_bytes: from a predictor and the recipe's quantization wishes to the bytes of its exported file
    samples: what the LSTM reads in training: float (n, D) features and (n, H) hidden states
    validation_loss: a predictor's mean cross-entropy on the validation clips' features
    trained: whether what a step has changed is trained afterwards; origin: of the teacher's weights, for descriptions
    """

    feature_map: tuple[int, int, int]
    classes: int
    dropout: float
    byte_budget: Callable[[str], int]
    predictor_bytes: Callable[[nn.Module, tuple[config.Quantize, ...]], int]
    samples: Callable[[], tuple[Tensor, Tensor]]
    validation_loss: Callable[[nn.Module], float]
    trained: bool = True
    origin: str = "as trained"


Change = Callable[[nn.Module, Any, Context, tuple[config.Quantize, ...]], tuple[nn.Module, str]]
WAYS = {
    "decompose": "decomposed, then fine-tuned",
    "data-aware": "decomposed with the error weighted by the inputs' covariance, then fine-tuned",
    "from-scratch": "trained in tensor-train form from scratch",
}
UNTRAINED_WAYS = {
    "decompose": "decomposed, not trained further",
    "data-aware": "decomposed with the error weighted by the inputs' covariance, not trained further",
    "from-scratch": "in tensor-train form, with random cores",
}


def apply(variant: config.Variant, predictor: nn.Module, context: Context, fit: Callable[[nn.Module], nn.Module]) -> tuple[nn.Module, str]:
    """The variant's predictor, in evaluation mode and not yet rounded, and how it came about. The teacher's is never changed: the result is a copy.

    fit: trains a predictor that a step has changed (on the frozen extractor's features, by distillation where the study says so) and returns it
    raises: ShapeError, ModelError
    """
    wishes = quantize_steps(variant)
    way = f"dense, {context.origin}"
    changed = predictor
    for step in predictor_steps(variant):
        changed, way = STEPS[type(step)](changed, step, context, wishes)
        changed = fit(changed)
    if changed is predictor:
        changed = copy.deepcopy(predictor)
    return changed.eval(), way


def low_rank_step(variant: config.Variant) -> config.LowRank | None:
    return next((step for step in variant.recipe if isinstance(step, config.LowRank)), None)


def predictor_steps(variant: config.Variant) -> tuple[config.Step, ...]:
    """Those that change the predictor, and make it train."""
    return tuple(step for step in variant.recipe if type(step) in STEPS)


def quantize_steps(variant: config.Variant) -> tuple[config.Quantize, ...]:
    return tuple(step for step in variant.recipe if isinstance(step, config.Quantize))


def _tensor_train(predictor: nn.Module, step: config.TensorTrain, context: Context, _wishes: tuple[config.Quantize, ...]) -> tuple[nn.Module, str]:
    way = (WAYS if context.trained else UNTRAINED_WAYS)[step.start]
    if step.start == "data-aware" and only_lstm(predictor)[1].num_layers > 1:
        way += "; of several layers, only the first one's inputs"
    return tensorize(predictor, step, context.feature_map[0], context.samples, context.validation_loss), way


def _bottleneck(predictor: nn.Module, step: config.Bottleneck, context: Context, wishes: tuple[config.Quantize, ...]) -> tuple[nn.Module, str]:
    channels, height, width = context.feature_map
    if step.rank > channels:
        raise ModelError(f"bottleneck rank {step.rank} is above the feature map's {channels} channels")

    def build(hidden: int) -> Bottleneck:
        return Bottleneck(channels, height * width, step.rank, hidden, context.classes, context.dropout)

    hidden, size = _hidden(step.bytes_of, build, only_lstm(predictor)[1].hidden_size, context, wishes)
    return build(hidden), f"control: 1x1 convolution to {step.rank} channels before a dense LSTM{size}, {_start(context)}"


def _small_dense(predictor: nn.Module, step: config.SmallDense, context: Context, wishes: tuple[config.Quantize, ...]) -> tuple[nn.Module, str]:
    def build(hidden: int) -> SmallDense:
        return SmallDense(context.feature_map[0], hidden, context.classes, context.dropout)

    hidden, size = _hidden(step.bytes_of, build, only_lstm(predictor)[1].hidden_size, context, wishes)
    return build(hidden), f"control: pooled features and a dense LSTM{size}, {_start(context)}"


def _retrain(predictor: nn.Module, _step: config.Retrain, context: Context, _wishes: tuple[config.Quantize, ...]) -> tuple[nn.Module, str]:
    return copy.deepcopy(predictor), f"control: dense, {'trained on like the variants' if context.trained else 'not trained further'}"


def _start(context: Context) -> str:
    return "trained from scratch" if context.trained else "at random"


def _hidden(
    bytes_of: str | None, build: Callable[[int], nn.Module], as_teacher: int, context: Context, wishes: tuple[config.Quantize, ...]
) -> tuple[int, str]:
    """How many hidden units a control has, and why, for its description."""
    if bytes_of is None:
        return as_teacher, ""
    hidden = largest_hidden(lambda size: context.predictor_bytes(build(size), wishes), context.byte_budget(bytes_of))
    return hidden, f" of {hidden} units, as many bytes as {bytes_of}"


STEPS: dict[type[Section], Change] = {
    config.TensorTrain: _tensor_train,
    config.Bottleneck: _bottleneck,
    config.SmallDense: _small_dense,
    config.Retrain: _retrain,
}
