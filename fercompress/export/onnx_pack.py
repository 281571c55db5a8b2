"""Rounded weights in few bytes: int8 or int4 codes and float16 scales in, one packed constant and the operators that decode it out.

onnxruntime folds those operators when it loads the file, so that decoding costs nothing later. They are plain ones, as old as opset 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from fercompress.errors import ShapeError
from fercompress.export.onnx_build import Builder


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
    if bits != 4:
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
