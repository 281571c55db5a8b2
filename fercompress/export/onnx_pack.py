"""Rounded weights in few bytes: int8 or int4 codes and float16 scales in, one packed constant and the operators that decode it out.

onnxruntime folds those operators when it loads the file, so that decoding costs nothing later. They are plain ones, as old as opset 11.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from fercompress.errors import ShapeError
from fercompress.export.onnx_build import Builder
from fercompress.tt.weights import SMALLEST_SCALE, group_columns

_LARGEST = {8: 127, 4: 7}


@dataclass(frozen=True)
class Coded:
    """A float32 tensor as it is stored: value = codes * scales, where the scales belong to the last axes.

    codes: int8 (..., *scales.shape), -7..7 if 4 bits are kept of it, else -127..127; scales: float16
    """

    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float16]

    def __post_init__(self) -> None:
        if self.scales.ndim < 1 or self.codes.shape[-self.scales.ndim :] != self.scales.shape:
            raise ShapeError(f"scales of shape {self.scales.shape} must have the last axes of the codes, whose shape is {self.codes.shape}")
        if self.codes.dtype != np.int8 or self.scales.dtype != np.float16:
            raise ShapeError(f"codes must be int8 and scales float16, not {self.codes.dtype} and {self.scales.dtype}")


def packed(build: Builder, weights: Sequence[Coded], bits: int, vectors: Sequence[npt.NDArray[np.float16]] = ()) -> tuple[list[str], list[str]]:
    """Names of the weights as float32, each of its codes' shape, and of the vectors as float32 (n,).

    bits: 8, or 4: two codes share a byte
    vectors: float16 (n,), stored beside the scales (a bias)
    raises: ShapeError if a code does not fit into 4 bits
    """
    codes = build.split(_codes(build, weights, bits), [weight.codes.size for weight in weights])
    floats = [weight.scales.ravel() for weight in weights] + [vector.ravel() for vector in vectors]
    numbers = build.cast(build.constant(np.concatenate(floats)), onnx.TensorProto.FLOAT)
    scales = build.split(numbers, [part.size for part in floats])
    values = []
    for code, scale, weight in zip(codes, scales, weights, strict=False):
        if weight.scales.ndim > 1:
            scale = build.reshape(scale, *weight.scales.shape)
        values.append(build.op("Mul", build.reshape(code, *weight.codes.shape), scale))
    return values, scales[len(weights) :]


def _codes(build: Builder, weights: Sequence[Coded], bits: int) -> str:
    """All codes as one float32 vector."""
    flat = np.concatenate([weight.codes.ravel() for weight in weights])
    if bits == 8:
        return build.cast(build.constant(flat), onnx.TensorProto.FLOAT)
    if bits not in _LARGEST:
        raise ShapeError(f"codes can be packed in 8 or 4 bits, not {bits}")
    if np.abs(flat).max(initial=0) > 7:
        raise ShapeError(f"codes of 4 bits lie between -7 and 7, but one is {flat[np.abs(flat).argmax()]}: quantize with bits=4")
    spare = flat.size % 2
    high, low = (np.append(flat, np.zeros(spare, np.int8)) + 8).reshape(2, -1).astype(np.uint8)
    # Integers of 32 bits: onnxruntime divides no smaller ones at old opsets.
    both = build.cast(build.constant(high * 16 + low), onnx.TensorProto.INT32)
    sixteen = build.number(16, "int32")
    digits = build.op("Concat", build.op("Div", both, sixteen), build.op("Mod", both, sixteen), axis=0)
    values = build.op("Sub", build.cast(digits, onnx.TensorProto.FLOAT), build.number(8))
    return build.op("Slice", values, build.integers(0), build.integers(flat.size)) if spare else values


def matrices_packed(model: onnx.ModelProto, bits: int, smallest: int = 256) -> onnx.ModelProto:
    """A copy that stores every matrix of at least `smallest` numbers that a MatMul or Gemm reads as codes of 8 or 4 bits, all in one constant.

    8 bits: one scale per output; 4 bits: one per output and group of inputs, every n-th input being of one group, groups of at most 32.
    raises: ShapeError for another number of bits
    """
    if bits not in _LARGEST:
        raise ShapeError(f"matrices can be packed in 8 or 4 bits, not {bits}")
    model = copy.deepcopy(model)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2}
    # A matrix that is read twice, or as a bias, stays as it is: its readers might want it in different order.
    reads = [name for node in graph.node for name in node.input]
    readers = {
        node.input[1]: node
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm") and reads.count(node.input[1]) == 1 and node.input[1] in tensors
    }
    readers = {name: node for name, node in readers.items() if math.prod(tensors[name].dims) >= smallest}
    if not readers:
        return model
    build = Builder("packed_", next(entry.version for entry in model.opset_import if not entry.domain))
    coded = []
    for name, node in readers.items():
        value = numpy_helper.to_array(tensors[name])
        transposed = [attribute for attribute in node.attribute if attribute.name == "transB" and attribute.i]
        for attribute in transposed:
            node.attribute.remove(attribute)
        coded.append(coded_columns(value.T if transposed else value, bits))
    values, _ = packed(build, coded, bits)
    for (name, node), value_name, code in zip(readers.items(), values, coded, strict=True):
        node.input[1] = value_name if code.codes.ndim == 2 else build.reshape(value_name, -1, code.codes.shape[-1])
        graph.initializer.remove(tensors[name])
    graph.initializer.extend(build.initializers)
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend([*build.nodes, *body])
    return model


def coded_columns(matrix: npt.NDArray[np.float32], bits: int) -> Coded:
    """(inputs, outputs) rounded, symmetric around 0: codes (inputs, outputs) at 8 bits, (inputs / groups, groups, outputs) at 4."""
    inputs, outputs = matrix.shape
    groups = 1 if bits == 8 else inputs // group_columns(inputs)
    value = matrix.reshape(inputs // groups, groups, outputs)
    # Rounded to float16 a scale may come out too small and clip: one part in 1000 is added first.
    scales = np.maximum(np.abs(value).max(axis=0) / _LARGEST[bits] * 1.001, SMALLEST_SCALE).astype(np.float16)
    step = scales.astype(np.float32)
    codes = np.clip(np.round(value / step), -_LARGEST[bits], _LARGEST[bits]).astype(np.int8)
    return Coded(codes, scales) if groups > 1 else Coded(codes[:, 0], scales[0])
