"""Apply a variant's recipe: the teacher's two networks in, the variant's networks and its quantization wishes out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from fercompress import config
from fercompress.compress.controls import Bottleneck, SmallDense, largest_hidden
from fercompress.compress.tensorize import tensorize
from fercompress.errors import ModelError
from fercompress.tt.layers import only_lstm


@dataclass(frozen=True)
class Context:
    """What steps may need to know of the study.

    feature_map: (c, h, w) of the extractor's output; classes: how many; dropout: for a control's own head
    byte_budget: from a variant's name to the bytes that a predictor may take to make the whole bundle as large as that variant's (not above)
    predictor_bytes: from a predictor and the recipe's quantization wishes to the bytes of its exported file
    """

    feature_map: tuple[int, int, int]
    classes: int
    dropout: float
    byte_budget: Callable[[str], int]
    predictor_bytes: Callable[[nn.Module, tuple[config.Quantize, ...]], int]


@dataclass(frozen=True)
class Compressed:
    """What a recipe made; `compress.quantize` still has to round it.

    extractor: the teacher's; predictor: the variant's, trained, in evaluation mode; way: how it came about, named in every result
    quantize: what is wished to be rounded
    """

    extractor: nn.Module
    predictor: nn.Module
    way: str
    quantize: tuple[config.Quantize, ...]


Change = Callable[[nn.Module, Any, Context, tuple[config.Quantize, ...]], tuple[nn.Module, str]]


def apply(variant: config.Variant, extractor: nn.Module, predictor: nn.Module, context: Context, fit: Callable[[nn.Module], nn.Module]) -> Compressed:
    """The teacher's modules are never changed: what a step changes is a copy.

    fit: trains a predictor that a step has changed (on the frozen extractor's features, by distillation where the study says so) and returns it
    raises: ShapeError, ModelError
    """
    wishes = tuple(step for step in variant.recipe if isinstance(step, config.Quantize))
    way = "dense, as trained"
    changed = predictor
    for step in variant.recipe:
        if not isinstance(step, config.Quantize):
            changed, way = STEPS[type(step)](changed, step, context, wishes)
            changed = fit(changed)
    if changed is predictor:
        changed = copy.deepcopy(predictor)
    return Compressed(extractor.eval(), changed.eval(), way, wishes)


def _tensor_train(predictor: nn.Module, step: config.TensorTrain, context: Context, _wishes: tuple[config.Quantize, ...]) -> tuple[nn.Module, str]:
    way = "decomposed, then fine-tuned" if step.start == "decompose" else "trained in tensor-train form from scratch"
    return tensorize(predictor, step, context.feature_map[0]), way


def _bottleneck(predictor: nn.Module, step: config.Bottleneck, context: Context, _wishes: tuple[config.Quantize, ...]) -> tuple[nn.Module, str]:
    channels, height, width = context.feature_map
    if step.rank > channels:
        raise ModelError(f"bottleneck rank {step.rank} is above the feature map's {channels} channels")
    hidden = only_lstm(predictor)[1].hidden_size
    control = Bottleneck(channels, height * width, step.rank, hidden, context.classes, context.dropout)
    return control, f"control: 1x1 convolution to {step.rank} channels before a dense LSTM, trained from scratch"


def _small_dense(_predictor: nn.Module, step: config.SmallDense, context: Context, wishes: tuple[config.Quantize, ...]) -> tuple[nn.Module, str]:
    channels = context.feature_map[0]

    def build(hidden: int) -> SmallDense:
        return SmallDense(channels, hidden, context.classes, context.dropout)

    hidden = largest_hidden(lambda size: context.predictor_bytes(build(size), wishes), context.byte_budget(step.bytes_of))
    return build(hidden), f"control: pooled features and a dense LSTM of {hidden} units, as many bytes as {step.bytes_of}, trained from scratch"


STEPS: dict[type[config.Section], Change] = {
    config.TensorTrain: _tensor_train,
    config.Bottleneck: _bottleneck,
    config.SmallDense: _small_dense,
}


def needs_training(variant: config.Variant) -> bool:
    """Whether `apply` will call `fit`."""
    return any(type(step) in STEPS for step in variant.recipe)
