"""The recurrence of an LSTM over sums that are ready: (T, batch, 4H) in, the LSTM operator's outputs out.

The LSTM operator multiplies its input by a matrix, and takes no sums that are ready. But that matrix need not be a constant: here the sums are
the matrix, and the input is the identity, whose row t picks the sums of step t. An int8 operator's matrix must be int8: it is written with two
digits, hi + lo / 255, below one another, so that the sums keep 16 bits; the input's one and 1/255 are exact as the operator rounds them (255
and 1). Measured with ready sums, 16 steps of 256 units, batch 1, one thread of a Zen 3 CPU (onnxruntime 1.32; the best of 40 rounds in us,
float32 / int8; the int8 operator alone, without any sums, takes 120):
    a constant identity matrix, the sums as its input       709 / 295, and int8 rounds the sums to 8 bits
    unrolled plain operators, ten a step                    434 / 270
    one LSTM operator a step, the sums as its bias          457 / 244, and as many packed copies of the weights as steps
    Scan over one LSTM operator, the sums as its bias       461 / 248
    the sums as the matrix, the identity as the input       364 / 143
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from fercompress.export.onnx_build import MICROSOFT, Builder

Names = tuple[str, str]
# One in the 8 bits that an input of the operator is rounded to, and so the weight of the second digit.
_DIGIT = 255


def lstm_operator(build: Builder, inputs: tuple[str, str, str, str, str, str], scales: Names, outputs: list[str], size: int) -> onnx.NodeProto:
    """inputs: sequence, w, r, bias, initial h, initial c; scales: of w and r where they are int8, ("", "") for float32"""
    sequence, w, r, bias, state_h, state_c = inputs
    if not scales[1]:
        return helper.make_node("LSTM", [sequence, w, r, bias, "", state_h, state_c], outputs, hidden_size=size)
    zero = build.number(0, "int8", (1,))
    names = [sequence, w, r, bias, "", state_h, state_c, "", scales[0], zero, scales[1], zero]
    return helper.make_node("DynamicQuantizeLSTM", names, outputs, domain=MICROSOFT, hidden_size=size)


def recurrence(
    build: Builder, sums: str, steps: int, batch: int, weights: Names, bias: str, state: Names, outputs: list[str], size: int
) -> onnx.NodeProto:
    """The node that makes `outputs` (Y, Y_h, Y_c; "" for what nobody reads) from sums (steps, batch, 4H) without bias.

    weights: r (1, 4H, H) float32 and "", or (1, H, 4H) int8 and its scale (1, 4H); bias: (1, 8H) or ""; state: h and c, (1, batch, H), "" for zeros
    """
    r, r_scale = weights
    rows = steps * batch
    sequence = build.op("EyeLike", build.zeros(np.float32, rows, rows))
    matrix, scale = build.reshape(sums, 1, -1, 4 * size), ""
    if r_scale:
        sequence = build.op("Concat", sequence, build.op("Div", sequence, build.number(_DIGIT)), axis=1)
        matrix, scale = _digits(build, matrix)
    else:
        matrix = build.op("Transpose", matrix, perm=[0, 2, 1])
    # Row t * batch + b of the identity is clip b's input at step t.
    sequence = build.reshape(sequence, -1, batch, rows * (2 if r_scale else 1)) if batch > 1 else build.unsqueeze(sequence, 1)
    return lstm_operator(build, (sequence, matrix, r, bias, *state), (scale, r_scale), outputs, size)


def _digits(build: Builder, matrix: str) -> Names:
    """(1, rows, columns) float32 -> its two digits, int8 (1, 2 rows, columns), and the scale of the first, (1,)."""
    largest = build.op("Max", build.op("ReduceMax", build.op("Abs", matrix), axes=[0, 1, 2], keepdims=0), build.number(1e-12))
    scale = build.op("Div", largest, build.number(127))
    zero = build.number(0, "int8")
    high = build.op("QuantizeLinear", matrix, scale, zero)
    rest = build.op("Sub", matrix, build.op("DequantizeLinear", high, scale))
    low = build.op("QuantizeLinear", rest, build.op("Div", scale, build.number(_DIGIT)), zero)
    return build.op("Concat", high, low, axis=1), build.reshape(scale, 1)
