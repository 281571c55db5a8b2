"""The matrices of a `TTLSTM`'s layer in ONNX: what the layer stores in, float32 matrices that onnxruntime computes when it loads the file out.

Cores are merged by one Einsum; gates come in ONNX's order because the first core's output index is permuted before it is stored.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fercompress.errors import ModelError
from fercompress.export.onnx_build import Builder
from fercompress.export.onnx_pack import Coded, packed
from fercompress.tt.lstm import TTLSTMLayer
from fercompress.tt.weights import DenseWeight, TTWeight

GATES = (0, 3, 1, 2)  # torch keeps i, f, g, o; ONNX wants i, o, f, c
_BONDS, _OUTPUTS, _INPUTS = string.ascii_uppercase, string.ascii_lowercase[:13], string.ascii_lowercase[13:]


@dataclass(frozen=True)
class Core:
    """One core, or one dense matrix: a tensor's name, and a letter for each of its axes (an axis of length 1 has none)."""

    tensor: str
    letters: str


@dataclass(frozen=True)
class Matrix:
    """Cores of a (4H, columns) matrix; `ordered` tells whether the gates are in ONNX's order already."""

    cores: tuple[Core, ...]
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    ranks: tuple[int, ...]
    ordered: bool

    def merged(self, build: Builder, axes: str, *shape: int, first: int = 0, last: int | None = None) -> str:
        """The cores first..last contracted, with the given order of axes, reshaped.

        axes: "o" for the output factors, "i" for the input factors, "l" and "r" for the ranks before and behind these cores
        """
        last = len(self.inputs) if last is None else last
        spans = {"o": _OUTPUTS[first:last], "i": _INPUTS[first:last], "l": _BONDS[first], "r": _BONDS[last]}
        cores = self.cores[first:last]
        given = "".join(core.letters for core in cores)
        wanted = "".join(letter for axis in axes for letter in spans[axis] if letter in given)
        tensor = cores[0].tensor
        if len(cores) > 1:
            tensor = build.op("Einsum", *(core.tensor for core in cores), equation=f"{','.join(core.letters for core in cores)}->{wanted}")
        elif wanted != given:
            tensor = build.op("Transpose", tensor, perm=[given.index(letter) for letter in wanted])
        return build.reshape(tensor, *shape)


def matrices(build: Builder, layer: TTLSTMLayer) -> tuple[Matrix, Matrix, str]:
    """The layer's input-to-hidden and hidden-to-hidden matrix and its bias (4H,) in ONNX's order of gates ("" for none). raises: ModelError"""
    weights = (layer.input, layer.hidden)
    bias = None if layer.bias is None else _in_order(layer.bias.detach().numpy())
    if not layer.quantized:
        names = [build.constant(value) for weight in weights for value in _values(weight)]
        vector = "" if bias is None else build.constant(bias)
    else:
        parts = [part for weight in weights for part in _coded(weight)]
        bits = {getattr(weight, "bits", 8) for weight in weights}
        if len(bits) != 1:
            raise ModelError(f"the two matrices of a layer must have the same number of bits, got {sorted(bits)}")
        names, vectors = packed(build, parts, bits.pop(), [] if bias is None else [bias.astype(np.float16)])
        vector = vectors[0] if vectors else ""
    split = len(layer.input.sizes)
    return _matrix(layer.input, names[:split]), _matrix(layer.hidden, names[split:]), vector


def _matrix(weight: TTWeight | DenseWeight, names: Sequence[str]) -> Matrix:
    if isinstance(weight, TTWeight):
        shape = weight.shape
        if len(names) > len(_OUTPUTS):
            raise ModelError(f"a train of {len(names)} cores cannot be exported: at most {len(_OUTPUTS)}")
        cores = tuple(Core(name, _letters(core, k)) for k, (name, core) in enumerate(zip(names, shape.cores, strict=True)))
        return Matrix(cores, shape.outputs, shape.inputs, shape.ranks, _first_core_holds_gates(weight))
    rows, columns = weight.sizes[0]
    groups = weight.scales[0].shape[1] if weight.quantized else 1
    # A dense matrix is one core, whose input index is split where groups of columns have scales of their own.
    letters = _INPUTS[1] + _INPUTS[0] + _OUTPUTS[0] if groups > 1 else _INPUTS[0] + _OUTPUTS[0]
    return Matrix((Core(names[0], letters),), (rows,), (groups, columns // groups), (1, 1), True)


def _letters(core: tuple[int, int, int, int], k: int) -> str:
    """The axes of core k as it is stored: the axes that scales belong to last."""
    left, output, _, right = core
    axes = [(left, _BONDS[k]), (right, _BONDS[k + 1]), (output, _OUTPUTS[k])]
    return "".join(letter for length, letter in axes if length > 1) + _INPUTS[k]


def _values(weight: TTWeight | DenseWeight) -> list[npt.NDArray[np.float32]]:
    return [_stored(weight, k, value.detach()) for k, value in enumerate(weight.values)]


def _coded(weight: TTWeight | DenseWeight) -> list[Coded]:
    codes = [_stored(weight, k, code) for k, code in enumerate(weight.codes)]
    if isinstance(weight, TTWeight):
        return [Coded(code, _stored(weight, k, scale)) for k, (code, scale) in enumerate(zip(codes, weight.scales, strict=True))]
    scale = _in_order(weight.scales[0].numpy()).T  # (groups, rows)
    code = codes[0]
    if len(scale) > 1:
        return [Coded(np.ascontiguousarray(code.reshape(len(scale), -1, code.shape[1]).transpose(1, 0, 2)), scale)]
    return [Coded(code, scale[0])]


def _stored(weight: TTWeight | DenseWeight, k: int, tensor: Tensor) -> npt.NDArray[Any]:
    """Core k, its scales, or the dense matrix, with the axes that `_letters` names and with ONNX's order of gates."""
    if not isinstance(weight, TTWeight):
        return _in_order(tensor.numpy()).T
    array = tensor.numpy()
    if k == 0 and _first_core_holds_gates(weight):
        array = np.moveaxis(_in_order(np.moveaxis(array, 1, 0)), 0, 1)
    array = array.transpose(0, 3, 1, 2)
    return array.reshape([length for length in array.shape[:3] if length > 1] + [array.shape[3]])


def _first_core_holds_gates(weight: TTWeight) -> bool:
    """Whether a gate is a range of the first core's output index."""
    return weight.shape.outputs[0] % len(GATES) == 0 and not padded(weight)


def padded(weight: TTWeight) -> bool:
    """Whether the cores describe rows or columns that the matrix does not have."""
    return (math.prod(weight.shape.outputs), math.prod(weight.shape.inputs)) != (weight.shape.rows, weight.shape.columns)


def _in_order(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The first axis, which holds four gates, from torch's order to ONNX's."""
    return np.concatenate([np.split(array, len(GATES))[gate] for gate in GATES])
