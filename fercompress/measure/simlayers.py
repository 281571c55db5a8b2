"""What a network costs, layer by layer: an ONNX graph in, multiply-accumulates and numbers moved out; a board model turns them into time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import shape_inference

from fercompress.errors import BundleError

Kind = Literal["winograd", "dense", "depthwise", "linear", "move"]
FREE = {"Constant", "Shape", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "QuantizeLinear", "DequantizeLinear", "Relu", "Clip"}

# Of the runtime's own operators: the standard one that gives the same shapes, and how many inputs it takes.
TWINS = {"DynamicQuantizeLSTM": ("LSTM", 3), "DynamicQuantizeMatMul": ("MatMul", 2), "MatMulIntegerToFloat": ("MatMul", 2)}


@dataclass(frozen=True)
class Layer:
    """One layer at batch 1.

    kind: "winograd" (3x3, stride 1, not grouped: the fast algorithm applies), "dense" (other convolutions, 1x1 too), "depthwise", "linear"
        (products with a matrix: no weight is used twice per input), "move" (element by element, pooling: no products worth counting)
    macs: multiply-accumulates; weights, inputs, outputs: numbers; int8: whether it computes on 8-bit numbers
    """

    kind: Kind
    macs: float
    weights: float
    inputs: float
    outputs: float
    int8: bool = False

    def __post_init__(self) -> None:
        if min(self.macs, self.weights, self.inputs, self.outputs) < 0:
            raise ValueError(f"a layer cannot cost less than nothing: {self}")

    @property
    def moved_bytes(self) -> float:
        return (self.weights + self.inputs + self.outputs) * (1 if self.int8 else 4)


def conv_kind(kernel: Sequence[int], stride: Sequence[int], groups: int, channels_in: int) -> Kind:
    if groups > 1 and groups == channels_in:
        return "depthwise"
    return "winograd" if groups == 1 and tuple(kernel) == (3, 3) and set(stride) == {1} else "dense"


def layers(model: onnx.ModelProto) -> list[Layer]:
    """Every node that costs time. What follows from constants alone is computed when the file is loaded, and costs none.

    raises: BundleError if a shape cannot be told, or is not static
    """
    try:
        inferred = shape_inference.infer_shapes(_standard(model), strict_mode=False, data_prop=True).graph
    except shape_inference.InferenceError as error:
        raise BundleError(f"the graph's shapes cannot be inferred ({error}); export it again with static shapes") from error
    sizes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    constant = set(sizes)
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        sizes.setdefault(value.name, tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim))
    found: list[Layer] = []
    whole: set[str] = set()
    for node in model.graph.node:
        names = [name for name in node.input if name]
        if all(name in constant for name in names):
            constant |= set(node.output)
            continue
        if node.op_type == "DequantizeLinear":
            whole |= set(node.output)  # what reads it computes on 8-bit numbers
        if node.op_type in FREE:  # views, and what runtimes fuse into their neighbours
            continue
        for name in [*names, *filter(None, node.output)]:
            if name not in sizes or (name not in constant and 0 in sizes[name]):
                raise BundleError(f"{node.op_type}: the shape of {name!r} is not static, so its cost is unknown; export it with static shapes")
        int8 = any(word in node.op_type for word in ("QLinear", "Integer", "DynamicQuantize")) or names[0] in whole
        found.append(_layer(node, sizes, constant, int8))
    return found


def _standard(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose runtime-specific operators bear the name of the standard one that gives the same shapes: onnx infers no others."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type in TWINS:
            node.op_type, kept = TWINS[node.op_type]
            node.domain = ""
            del node.input[kept:]
    return copy


def _layer(node: onnx.NodeProto, sizes: Mapping[str, tuple[int, ...]], constant: set[str], int8: bool) -> Layer:
    names = [name for name in node.input if name]
    weights = float(sum(math.prod(sizes[name]) for name in names if name in constant))
    inputs = float(sum(math.prod(sizes[name]) for name in names if name not in constant))
    outputs = float(sum(math.prod(sizes[name]) for name in node.output if name))
    first = next((sizes[name] for name in node.output if name), ())
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if "Conv" in node.op_type:
        # The quantized forms carry scales between the tensors: the weight is the first constant of the input's rank.
        source = sizes[names[0]]
        kernel = next(sizes[name] for name in names[1:] if len(sizes[name]) == len(source))
        groups = int(attributes.get("group", 1))
        kind = conv_kind(kernel[2:], attributes.get("strides", [1] * (len(kernel) - 2)), groups, source[1])
        return Layer(kind, math.prod(first) * math.prod(kernel[1:]), weights, inputs, outputs, int8)
    if node.op_type == "Gemm" or "MatMul" in node.op_type:
        left = sizes[names[0]]
        shared = left[0] if attributes.get("transA") else left[-1]
        rows = math.prod(first) / first[-1] if first else 1
        kind = "linear" if rows == 1 else "dense"
        return Layer(kind, math.prod(first) * shared, weights, inputs, outputs, int8)
    if node.op_type.endswith("LSTM"):
        steps, _, width = sizes[names[0]]
        hidden = int(attributes["hidden_size"])
        return Layer("linear", steps * 4 * hidden * (width + hidden), weights, inputs, outputs, int8)
    return Layer("move", 0, weights, inputs, outputs, int8)
