"""A `TTLSTM` as stock ONNX operators: the file stores the cores, and onnxruntime merges them once, when it loads the file.

Everything that leads from cores to the LSTM operator's weights is made of operators that onnxruntime folds when their inputs are constants
(Cast, Mul, MatMul, Reshape, Transpose, Gather, ...; not DequantizeLinear). int8 cores run through `com.microsoft.DynamicQuantizeLSTM`, whose
int8 weights and scales are computed by the same folding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fercompress.tt.layers import TTLSTM
from fercompress.tt.weights import DenseWeight, TTWeight

OPSET = 17
MICROSOFT = "com.microsoft"
_GATES = [0, 3, 1, 2]  # torch keeps i, f, g, o; ONNX wants i, o, f, c


class Builder:
    """Collects the nodes and constants of a graph's part; every method returns the name of a new tensor."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._prefix = prefix
        self._count = itertools.count()
        self._shapes: dict[tuple[int, ...], str] = {}
        self._numbers: dict[float, str] = {}

    def _name(self) -> str:
        return f"{self._prefix}{next(self._count)}"

    def constant(self, value: Any) -> str:
        name = self._name()
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        """A 1-d int64 constant; equal ones are stored once."""
        if values not in self._shapes:
            self._shapes[values] = self.constant(np.array(values, np.int64))
        return self._shapes[values]

    def number(self, value: float) -> str:
        """A 0-d float32 constant; equal ones are stored once."""
        if value not in self._numbers:
            self._numbers[value] = self.constant(np.float32(value))
        return self._numbers[value]

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = self._name()
        self.nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def reshape(self, tensor: str, *shape: int) -> str:
        return self.op("Reshape", tensor, self.integers(*shape))


def lstm_nodes(layer: TTLSTM, dense: onnx.NodeProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes and constants that stand in for `dense`, the LSTM operator of the layer's dense twin: same sequence, initial state and outputs."""
    build = Builder("tt_")
    hidden = layer.hidden_size
    sequence, *_, state_h, state_c = [*dense.input, "", "", ""][:7]
    if isinstance(layer.input, TTWeight) and layer.input.shape.asymmetric:
        *first, last = _matrices(build, layer.input)
        rank, _, inputs, _ = layer.input.shape.cores[-1]
        outer = layer.input_size // inputs
        sequence = build.op("MatMul", build.reshape(sequence, 0, 0, outer, inputs), build.op("Transpose", last, perm=[1, 0]))
        columns = outer * rank
        sequence = build.reshape(sequence, 0, 0, columns)
        w = _merged(build, first, layer.input.shape.cores[:-1])
    else:
        columns = layer.input_size
        w = _matrix(build, layer.input)
    w = _gates(build, w, hidden, columns)
    r = _gates(build, _matrix(build, layer.hidden), hidden, hidden)
    bias = "" if layer.bias is None else _bias(build, layer)
    if layer.quantized:
        w, w_scale = _int8(build, w, layer.kernel_bits)
        r, r_scale = _int8(build, r, layer.kernel_bits)
        zero = build.op("Cast", build.op("Sub", w_scale, w_scale), to=onnx.TensorProto.INT8)
        inputs_ = [sequence, w, r, bias, "", state_h, state_c, "", w_scale, zero, r_scale, zero]
        node = helper.make_node("DynamicQuantizeLSTM", inputs_, dense.output, domain=MICROSOFT, hidden_size=hidden)
    else:
        node = helper.make_node("LSTM", [sequence, w, r, bias, "", state_h, state_c], dense.output, hidden_size=hidden)
    return [*build.nodes, node], build.initializers


def _bias(build: Builder, layer: TTLSTM) -> str:
    """The stored vector in ONNX's order of gates, (1, 8H): the operator wants a second one, which is zero."""
    assert layer.bias is not None
    stored = layer.bias.detach().numpy()
    bias = build.op("Cast", build.constant(stored.astype(np.float16)), to=onnx.TensorProto.FLOAT) if layer.quantized else build.constant(stored)
    bias = build.reshape(_gates(build, bias, layer.hidden_size, 1), 1, -1)
    return build.op("Pad", bias, build.integers(0, 0, 0, 4 * layer.hidden_size))


def _matrix(build: Builder, weight: TTWeight | DenseWeight) -> str:
    """A weight as one float32 matrix, from what is stored of it."""
    tensors = _matrices(build, weight)
    return _merged(build, tensors, weight.shape.cores) if isinstance(weight, TTWeight) else tensors[0]


def _matrices(build: Builder, weight: TTWeight | DenseWeight) -> list[str]:
    """The stored tensors as float32, each core as (r[k], rest); int8 codes are scaled first."""
    names = []
    for k, size in enumerate(weight.sizes):
        flat = (size[0], math.prod(size[1:]))
        if not weight.quantized:
            names.append(build.constant(weight.values[k].detach().numpy().reshape(flat)))
            continue
        code = build.op("Cast", build.constant(weight.codes[k].numpy()), to=onnx.TensorProto.FLOAT)
        scale = build.op("Cast", build.constant(weight.scales[k].numpy()), to=onnx.TensorProto.FLOAT)
        value = build.op("Mul", code, scale)
        names.append(value if len(size) == 2 else build.reshape(value, *flat))
    return names


def _merged(build: Builder, cores: Sequence[str], shapes: Sequence[tuple[int, int, int, int]]) -> str:
    """`fercompress.tt.cores.merge` of (r[k], rest) matrices, as (prod outputs * prod inputs * r[-1]) numbers in row-major order."""
    merged = cores[0]
    _, outputs, inputs, _ = shapes[0]
    for core, (rank, output, size, _), following in zip(cores[1:], shapes[1:], [shape[3] for shape in shapes[1:]], strict=True):
        product = build.op("MatMul", build.reshape(merged, -1, rank), core)
        product = build.reshape(product, outputs, inputs, output, size * following)
        merged = build.op("Transpose", product, perm=[0, 2, 1, 3])
        outputs, inputs = outputs * output, inputs * size
    return merged


def _gates(build: Builder, matrix: str, hidden: int, columns: int) -> str:
    """4H * columns numbers in torch's order of gates -> (1, 4H, columns) in ONNX's."""
    gates = build.op("Gather", build.reshape(matrix, 4, -1), build.integers(*_GATES), axis=0)
    return build.reshape(gates, 1, 4 * hidden, columns)


def _int8(build: Builder, matrix: str, bits: int) -> tuple[str, str]:
    """(1, 4H, columns) float32 -> int8 (1, columns, 4H) and one scale per row of the matrix, (1, 4H)."""
    largest = build.op("ReduceMax", build.op("Abs", matrix), axes=[2], keepdims=1)
    # A row of zeros must not be divided by zero.
    scale = build.op("Div", build.op("Max", largest, build.number(1e-12)), build.number(2 ** (bits - 1) - 1))
    codes = build.op("Cast", build.op("Round", build.op("Div", matrix, scale)), to=onnx.TensorProto.INT8)
    return build.op("Transpose", codes, perm=[0, 2, 1]), build.reshape(scale, 1, -1)
