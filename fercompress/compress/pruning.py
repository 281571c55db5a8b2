"""The promise that nothing was pruned, checked: a teacher's and a variant's networks in, counts for the manifest out.

Pruning would show in two ways: an input or output of a matrix whose weights all became zero, or a single weight stored as zero although it is
larger than half a step of its rounding. A weight that rounding brings to zero was at most half a step: that is not pruning.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from fercompress.compress.lowrank import supported
from fercompress.errors import ModelError
from fercompress.tt.conv import TTConv2d
from fercompress.tt.layers import TTLSTM
from fercompress.tt.place import only_lstm

_SLACK = 1.02  # of half a step: scales are stored as float16


def check(
    teacher: tuple[nn.Module, nn.Module], variant: tuple[nn.Module, nn.Module], graphs: tuple[onnx.ModelProto, onnx.ModelProto]
) -> dict[str, Any]:
    """teacher, variant: extractor and predictor; graphs: the variant's extractor exported before and after rounding.

    returns: matrices compared, zero units and weights, and how many weights rounding brought to zero
    raises: ModelError where something was pruned
    """
    pairs = [*_kernels(teacher[0], variant[0]), *_recurrent(teacher[1], variant[1])]
    dropped = sum(zero_units(after) - zero_units(before) for _, before, after in pairs if zero_units(after) > zero_units(before))
    weights, to_zero, pruned = rounded_to_zero(*graphs)
    if dropped or pruned:
        raise ModelError(
            f"compression dropped {dropped} inputs or outputs and {pruned} weights, but a recipe must be free of pruning: this is a defect"
        )
    return {
        "matrices": [name for name, _, _ in pairs],
        "units_dropped": dropped,
        "extractor_weights": weights,
        "rounded_to_zero": to_zero,
        "weights_pruned": pruned,
    }


def zero_units(matrix: Tensor) -> int:
    """Rows and columns of a matrix without a weight that is not zero."""
    used = matrix != 0
    return int((~used.any(0)).sum() + (~used.any(1)).sum())


def rounded_to_zero(before: onnx.ModelProto, after: onnx.ModelProto) -> tuple[int, int, int]:
    """Of the convolutions' weights: how many there are, how many became zero by rounding, and how many of those were above half a step."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    producers = {node.output[0]: node for node in after.graph.node}
    kernels = {tensor.name: numpy_helper.to_array(tensor) for tensor in before.graph.initializer}
    weights = to_zero = pruned = 0
    convolutions = [[node for node in model.graph.node if node.op_type == "Conv"] for model in (before, after)]
    for plain, node in zip(*convolutions, strict=True):
        value = kernels[plain.input[1]]
        weights += value.size
        decoder = producers.get(node.input[1])
        if decoder is None or decoder.op_type != "DequantizeLinear":
            continue
        codes, step = stored[decoder.input[0]], stored[decoder.input[1]].reshape(-1, *[1] * (value.ndim - 1))
        # Codes of a coarser grid than the scale's: the smallest code that is used is one step.
        unit = np.abs(np.where(codes == 0, 127, codes)).reshape(len(codes), -1).min(1).reshape(step.shape)
        vanished = (codes == 0) & (value != 0)
        to_zero += int(vanished.sum())
        pruned += int((vanished & (np.abs(value) > _SLACK * unit * step / 2)).sum())
    return weights, to_zero, pruned


def _kernels(teacher: nn.Module, variant: nn.Module) -> list[tuple[str, Tensor, Tensor]]:
    """Every convolution's kernel as a matrix (outputs, inputs * area), the teacher's and the variant's."""
    pairs = []
    for name, conv in supported(teacher):
        layer = variant.get_submodule(name)
        kernel = layer.to_dense().weight if isinstance(layer, TTConv2d) else layer.weight
        assert isinstance(kernel, Tensor)
        pairs.append((f"extractor.{name}", conv.weight.detach().flatten(1), kernel.detach().flatten(1)))
    return pairs


def _recurrent(teacher: nn.Module, variant: nn.Module) -> list[tuple[str, Tensor, Tensor]]:
    """The matrices of all of the LSTM's layers, where the variant has the teacher's architecture (controls have their own)."""
    name, dense = only_lstm(teacher)
    other_name, layer = only_lstm(variant)
    assert isinstance(dense, nn.LSTM)
    if name != other_name or any(getattr(layer, size) != getattr(dense, size) for size in ("input_size", "hidden_size", "num_layers")):
        return []
    with torch.no_grad():
        twin = layer.to_dense() if isinstance(layer, TTLSTM) else layer
        return [
            (f"predictor.{name}.{part}", dense.get_parameter(part).detach(), twin.get_parameter(part).detach())
            for part, _ in dense.named_parameters()
            if part.startswith("weight_")
        ]
