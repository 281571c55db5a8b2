"""The recurrence of an LSTM over sums that are ready: (T, batch, 4H) in, the LSTM operator's outputs out.

The LSTM operator multiplies its input by a matrix, and takes no sums that are ready. What was measured with ready sums, for 16 steps of 256
units, batch 1, one thread of a Zen 3 CPU (onnxruntime 1.32, the best of 40 rounds in us; float32 / int8):
    the operator fed through an identity matrix        709 / 295, and int8 rounds the sums as well
    unrolled plain operators, ten a step               434 / 270
    one operator a step, the sums as its bias          457 / 244, and as many copies of the packed weights as steps
    Scan over one operator, the sums as its bias       461 / 248, one copy
so the last is what is written. The bias has no batch axis: a larger batch goes through the identity matrix.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from fercompress.export.onnx_build import MICROSOFT, Builder

Names = tuple[str, str]


def lstm_operator(build: Builder, inputs: tuple[str, str, str, str, str, str], scales: Names, outputs: list[str], size: int) -> onnx.NodeProto:
    """inputs: sequence, w, r, bias, initial h, initial c; scales: of w and r where they are int8, ("", "") for float32"""
    sequence, w, r, bias, state_h, state_c = inputs
    if not scales[1]:
        return helper.make_node("LSTM", [sequence, w, r, bias, "", state_h, state_c], outputs, hidden_size=size)
    zero = build.number(0, "int8", (1,))
    names = [sequence, w, r, bias, "", state_h, state_c, "", scales[0], zero, scales[1], zero]
    return helper.make_node("DynamicQuantizeLSTM", names, outputs, domain=MICROSOFT, hidden_size=size)


def recurrence(build: Builder, sums: str, weights: Names, state: Names, outputs: list[str], size: int, batch: int) -> None:
    """Add the nodes that make `outputs` (Y, Y_h, Y_c; "" for what nobody reads) from the sums, bias included.

    weights: r (1, 4H, H) float32 and "", or (1, H, 4H) int8 and its scale (1, 4H); state: initial h and c, (1, batch, H), "" for zeros
    """
    if batch > 1:
        _through_identity(build, sums, weights, state, outputs, size)
    else:
        _scan(build, sums, weights, state, outputs, size)


def _scan(build: Builder, sums: str, weights: Names, state: Names, outputs: list[str], size: int) -> None:
    r, r_scale = weights
    # The operator's own input is one number, times zeros.
    w = build.zeros(np.int8, 1, 1, 4 * size) if r_scale else build.zeros(np.float32, 1, 4 * size, 1)
    if "" in state:
        zero = build.zeros(np.float32, 1, 1, size)
        state = (state[0] or zero, state[1] or zero)
    before, after, step = [build.name(), build.name()], [build.name(), build.name()], build.name()
    inputs = (build.number(0, shape=(1, 1, 1)), w, r, step, before[0], before[1])
    node = lstm_operator(build, inputs, (r_scale, r_scale), ["", *after], size)
    whole, last_h, last_c = [*outputs, "", "", ""][:3]
    if whole:
        # Every step's h is a result of its own beside the state that is passed on.
        every = build.name()
        nodes = [node, helper.make_node("Identity", [after[0]], [every])]
        after.append(every)
    else:
        nodes = [node]
    shape = [1, 1, size]
    body = helper.make_graph(
        nodes,
        "s",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in before]
        + [helper.make_tensor_value_info(step, TensorProto.FLOAT, [1, 8 * size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in after],
    )
    # The operator's second bias is zero.
    steps = build.op("Pad", sums, build.integers(0, 0, 0, 0, 0, 4 * size))
    results = [last_h or build.name(), last_c or build.name(), *([whole] if whole else [])]
    build.nodes.append(helper.make_node("Scan", [*state, steps], results, body=body, num_scan_inputs=1))


def _through_identity(build: Builder, sums: str, weights: Names, state: Names, outputs: list[str], size: int) -> None:
    r, r_scale = weights
    identity = build.op("EyeLike", build.zeros(np.float32, 4 * size, 4 * size), dtype=TensorProto.INT8 if r_scale else TensorProto.FLOAT)
    w = build.reshape(identity, 1, 4 * size, 4 * size)
    w_scale = r_scale and build.op("Expand", build.number(1), build.integers(1, 4 * size))
    build.nodes.append(lstm_operator(build, (sums, w, r, "", *state), (w_scale, r_scale), outputs, size))
