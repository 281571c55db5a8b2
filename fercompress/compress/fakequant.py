"""Quantization-aware training: an extractor in, a copy that rounds in training as it will be rounded when exported, and the way back.

Weights are rounded per output channel, the inputs of every convolution per tensor; gradients pass straight through (Jacob et al. 2018).
Batch normalisation may stay unfolded: it scales whole output channels, and so scales a channel's step with it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fercompress.compress.static import round_weight
from fercompress.errors import ModelError

_MOMENTUM = 0.05  # of the running range


def rounding(extractor: nn.Module, layer_bits: Sequence[int], example: Tensor) -> nn.Module:
    """A copy whose convolutions round their inputs to 8 bits and their weights to `layer_bits`, in the order in which they run.

    example: float32 (N, channels, H, W), to see that order. raises: ModelError if the number of convolutions differs
    """
    copied = copy.deepcopy(extractor)
    convolutions = _in_order(copied, example)
    if len(convolutions) != len(layer_bits):
        raise ModelError(f"{len(layer_bits)} bit widths were given for {len(convolutions)} convolutions")
    for conv, bits in zip(convolutions, layer_bits, strict=True):
        parametrize.register_parametrization(conv, "weight", _RoundedWeight(bits))
        conv.register_module("input_range", _InputRange())
        conv.register_forward_pre_hook(_round_input)
    return copied


def plain(module: nn.Module) -> nn.Module:
    """A copy of what `rounding` made, without its rounding: the trained weights in the extractor's own form."""
    copied = copy.deepcopy(module)
    for conv in [layer for layer in copied.modules() if isinstance(layer, nn.Conv2d) and parametrize.is_parametrized(layer)]:
        parametrize.remove_parametrizations(conv, "weight", leave_parametrized=False)
        del conv.input_range
        conv._forward_pre_hooks.clear()
    return copied


def _in_order(extractor: nn.Module, example: Tensor) -> list[nn.Conv2d]:
    seen: list[nn.Conv2d] = []
    layers = [layer for layer in extractor.modules() if isinstance(layer, nn.Conv2d)]
    handles = [layer.register_forward_pre_hook(lambda module, _inputs: seen.append(module) if module not in seen else None) for layer in layers]
    was_training = extractor.training
    with torch.inference_mode():
        extractor.eval()(example)
    extractor.train(was_training)
    for handle in handles:
        handle.remove()
    return seen


class _RoundedWeight(nn.Module):
    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (round_weight(weight, self.bits) - weight).detach()


class _InputRange(nn.Module):
    """The running range of one convolution's input, zero included; in evaluation it stands still."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        if self.training:
            low, high = values.detach().amin().clamp_max(0), values.detach().amax().clamp_min(0)
            share = _MOMENTUM if float(self.high - self.low) > 0 else 1.0
            self.low.lerp_(low, share)
            self.high.lerp_(high, share)
        step = float(self.high - self.low) / 255
        if step <= 0:
            return values
        zero = min(255, max(0, round(-float(self.low) / step)))
        return torch.fake_quantize_per_tensor_affine(values, step, zero, 0, 255)


def _round_input(conv: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    observed: nn.Module = conv.get_submodule("input_range")
    return (observed(inputs[0]), *inputs[1:])
