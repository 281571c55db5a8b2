"""Low-rank convolutions: an extractor and a ratio in, a copy whose kernels are tensor trains out; nothing is trained here."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fercompress.errors import ModelError
from fercompress.tt import conv as tt_conv
from fercompress.tt.conv import TTConv2d
from fercompress.tt.place import replaced

_HALVINGS = 40  # of the interval in which the relative error is sought


def low_rank(extractor: nn.Module, ratio: float, frames: Tensor) -> nn.Module:
    """Every convolution that gains by it becomes a `TTConv2d`; all bonds bear the same relative error, the smallest that reaches `ratio`.

    ratio: numbers in the kernels that a train can hold / numbers left of them; frames: float32 (N, channels, H, W), preprocessed, whose statistics
    weight every kernel's error by what its inputs look like
    raises: ModelError if there is no such convolution, or not even rank 1 everywhere reaches the ratio
    """
    moments = input_moments(extractor, [name for name, _ in supported(extractor)], frames)
    # A layer that never runs (an auxiliary head, say) shows no inputs, and stays as it is.
    convolutions = [(name, conv) for name, conv in supported(extractor) if name in moments]
    if not convolutions:
        raise ModelError("the extractor has no convolution that a tensor train can stand in for (one group, zero padding, nn.Conv2d itself)")
    values = [tt_conv.singular_values(conv, moments[name]) for name, conv in convolutions]
    ranks = _ranks([conv for _, conv in convolutions], values, ratio)
    compressed = copy.deepcopy(extractor)
    # A layer that is used in several places has several names, and stays one layer.
    names = [(name, id(module)) for name, module in extractor.named_modules(remove_duplicate=False)]
    for (name, conv), chosen in zip(convolutions, ranks, strict=True):
        if chosen is not None:
            layer = TTConv2d.from_dense(conv, chosen, moments[name])
            for alias in [alias for alias, module in names if module == id(conv)]:
                compressed = replaced(compressed, alias, layer)
    return compressed


def supported(extractor: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """The convolutions that a train can stand in for, by name."""
    return [
        (name, module)
        for name, module in extractor.named_modules()
        # A subclass may compute something else from its weight.
        if type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    ]


def input_moments(extractor: nn.Module, names: Sequence[str], frames: Tensor) -> dict[str, Tensor]:
    """The second moment of the named layers' input channels over frames and places: float64 (channels, channels) each."""
    moments: dict[str, Tensor] = {}

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            flat = inputs[0].transpose(0, 1).flatten(1).double()
            moments[name] = moments.get(name, torch.zeros(())) + flat @ flat.T / flat.shape[1]

        return extractor.get_submodule(name).register_forward_pre_hook(hook)

    handles = [watch(name) for name in names]
    was_training = extractor.training
    try:
        with torch.inference_mode():
            extractor.eval()(frames)
    finally:
        extractor.train(was_training)
        for handle in handles:
            handle.remove()
    return moments


def _ranks(convolutions: list[nn.Conv2d], values: list[tuple[Tensor, ...]], ratio: float) -> list[tuple[int, ...] | None]:
    """Per layer the ranks, or None for a layer that is smaller as it is, by halving the interval of the relative error."""
    dense = [conv.weight.numel() for conv in convolutions]

    def at(error: float) -> tuple[list[tuple[int, ...] | None], int]:
        chosen: list[tuple[int, ...] | None] = []
        total = 0
        for conv, bonds, whole in zip(convolutions, values, dense, strict=True):
            ranks = tuple(_rank(bond, error) for bond in bonds)
            stored = tt_conv.numbers(conv.in_channels, conv.out_channels, (conv.kernel_size[0], conv.kernel_size[1]), ranks)
            chosen.append(ranks if stored < whole else None)
            total += min(stored, whole)
        return chosen, total

    wanted = sum(dense) / ratio
    low, high = 0.0, 1.0
    chosen, total = at(high)
    if total > wanted:
        raise ModelError(f"low-rank ratio {ratio:g} is out of reach: with rank 1 everywhere the kernels' ratio is {sum(dense) / total:.3g}")
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found, total = at(middle)
        if total <= wanted:
            high, chosen = middle, found
        else:
            low = middle
    return chosen


def _rank(values: Tensor, error: float) -> int:
    """The smallest rank, at least 1, whose discarded singular values are at most `error` of all (Frobenius)."""
    energy = values.square()
    kept = energy.cumsum(0) / energy.sum().clamp_min(1e-300)
    return max(1, int((kept < 1 - error**2 - 1e-12).sum()) + 1) if math.isfinite(error) and error < 1 else 1
