"""What rknn-toolkit 1.7 can read: versions and operators as data, and what in a graph is not among them.

Sources: ONNX_1_6 is the ONNX section of Rockchip's `RKNN_OP_Support_V1.6.0.md`, the last that lists them by name (later ones point to a
spreadsheet); VERSIONS is from the user guides and quick starts of each version; LIMITS and the window's limits are from the spreadsheet and
"Trouble Shooting" of 1.7.5. That 1.7 reads all that 1.6.0 did is assumed, except where LIMITS says otherwise. An operator that is not listed is
refused: it would fail later, with less said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

# toolkit: (opset, IR version), the highest that its ONNX loader reads
VERSIONS = {"1.7.0": (11, 6), "1.7.1": (11, 6), "1.7.3": (11, 6), "1.7.5": (12, 7)}
LOWEST_OPSET = 8

ONNX_1_6 = frozenset(
    ["AveragePool", "GlobalAveragePool", "Conv", "ConvTranspose", "MaxPool", "GlobalMaxPool", "Gemm", "MatMul", "Slice", "Split", "Concat",
     "Reshape", "Flatten", "Squeeze", "Transpose", "DepthToSpace", "SpaceToDepth", "Add", "Sum", "Sub", "Mul", "Div", "Relu", "Clip",
     "LeakyRelu", "Softmax", "PRelu", "Floor", "BatchNormalization", "LRN", "Tanh", "Elu", "Sigmoid", "Unsqueeze", "LogSoftmax", "Dropout",
     "InstanceNormalization", "Sqrt", "Log", "Cast", "Exp", "Identity", "Upsample", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum",
     "Gather", "LSTM", "GRU"]
)  # fmt: skip
# Listed and yet refused.
LIMITS = {
    "GRU": "the spreadsheet of 1.7.5 says that GRU is not read from ONNX",
    "LSTM": "conversions of ONNX LSTMs are reported to fail; the predictor runs on the processor",
}
_POOLS = ("AveragePool", "MaxPool")
_WINDOWS = ("Conv", *_POOLS)


def refusals(model: onnx.ModelProto, toolkit: str) -> tuple[str, ...]:
    """One sentence per thing that the toolkit would not read, each naming node and operator; empty: nothing is known against the graph.

    toolkit: a key of VERSIONS
    """
    opset, ir_version = VERSIONS[toolkit]
    found = []
    for item in model.opset_import:
        if item.domain not in ("", "ai.onnx"):
            found.append(f"operators of the domain {item.domain!r} are not read: export plain ONNX operators")
        elif not LOWEST_OPSET <= item.version <= opset:
            found.append(f"opset {item.version} is not read: toolkit {toolkit} takes {LOWEST_OPSET} to {opset}")
    if model.ir_version > ir_version:
        found.append(f"IR version {model.ir_version} is above {ir_version}, the last that toolkit {toolkit} reads")
    found += [
        f"input {value.name!r} has a dynamic shape: export it with a fixed batch of 1"
        for value in model.graph.input
        if any(not size.dim_value for size in value.type.tensor_type.shape.dim)
    ]
    kernels = {item.name: tuple(item.dims) for item in model.graph.initializer}
    for position, node in enumerate(model.graph.node):
        name = f"node {node.name or f'{position} (to {node.output[0]!r})'}, operator {node.op_type}"
        found += [f"{name}: {reason}" for reason in _against(node, kernels, toolkit)]
    return tuple(found)


def _against(node: onnx.NodeProto, kernels: dict[str, tuple[int, ...]], toolkit: str) -> Iterator[str]:
    if node.op_type not in ONNX_1_6:
        yield f"not in the list of operators that toolkit {toolkit} reads from ONNX"
        return
    if node.op_type in LIMITS:
        yield LIMITS[node.op_type]
    if node.op_type not in _WINDOWS:
        return
    attributes: dict[str, Any] = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    weight = kernels.get(node.input[1]) if node.op_type == "Conv" else None
    if node.op_type == "Conv" and weight is None:
        yield "its kernel is computed while the graph runs: only kernels that are stored are read"
        return
    kernel = tuple(attributes.get("kernel_shape", () if weight is None else weight[2:]))
    strides = tuple(attributes.get("strides", (1,) * len(kernel)))
    dilations = tuple(attributes.get("dilations", (1,) * len(kernel)))
    if len(kernel) == 3:
        yield "three-dimensional windows do not run on the NPU"
    elif len(kernel) == 1 and node.op_type in _POOLS:
        yield "one-dimensional pooling is not read from ONNX"
    if attributes.get("ceil_mode"):
        yield "ceil_mode rounds the output's size up: not known to be read (assumed against)"
    if weight is not None:
        groups, channels = attributes.get("group", 1), weight[1] * attributes.get("group", 1)
        if groups not in (1, channels):
            yield f"{groups} groups for {channels} channels: only ordinary and depthwise convolutions are known to run (assumed against)"
        spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
        if any(span > 11 * stride - 1 for span, stride in zip(spans, strides, strict=True)):
            yield f"a kernel that spans {spans} with strides {list(strides)}: the NPU takes at most 11 * stride - 1"
