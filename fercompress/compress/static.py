"""Static rounding of an extractor: an exported graph and frames in, its QDQ form with 8- and 4-bit weights out. No weight is dropped.

Weights are symmetric with one scale per output channel, activations per tensor with ranges calibrated on frames. 4-bit weights take one of 15
values per channel and run in the same 8-bit arithmetic: they cost accuracy and save bytes, not time.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from torch import Tensor

from fercompress.errors import ModelError

Frames = npt.NDArray[np.float32]
METHODS = {"min-max": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
# Shares of a channel's largest weight that its 4-bit range may span: clipping the few largest costs less than coarse steps for all.
_SPANS = tuple(np.linspace(1.0, 0.5, 11))


@dataclass(frozen=True)
class Rounded:
    """A rounded graph and how it was chosen.

    method: a key of METHODS; layer_bits: stored bits of every convolution's weights, in graph order
    error: mean squared error of the features on the held-out frames, as a share of their variance
    errors: the same per calibration method that was tried
    """

    model: onnx.ModelProto
    method: str
    layer_bits: tuple[int, ...]
    error: float
    errors: dict[str, float]

    @property
    def report(self) -> dict[str, Any]:
        """For a manifest; three digits, so that equal weights keep giving equal manifests."""
        return {
            "calibration": self.method,
            "layer_bits": list(self.layer_bits),
            "relative_error": {method: float(f"{error:.2e}") for method, error in self.errors.items()},
        }


def rounded(
    model: onnx.ModelProto, calibration: Frames, held_out: Frames, kernel_bits: int, bits: int = 8, mean_bits: float | None = None,
    layer_bits: Sequence[int] | None = None,
) -> Rounded:  # fmt: skip
    """Round an exported extractor.

    calibration: float32 (N, channels, H, W), preprocessed, give the activations' ranges; held_out: likewise, choose the calibration method
    kernel_bits: 8, or 7 where the CPU's 8-bit products saturate; bits: 8 or 4, of the weights as they are stored
    mean_bits: between 4 and 8 instead: the layers that bear it best take 4 bits until the weights' mean is reached
    layer_bits: 8 or 4 for every convolution, in graph order, instead
    raises: ModelError for too few frames
    """
    for name, frames in (("calibration", calibration), ("held-out", held_out)):
        if len(frames) < 2:
            raise ModelError(f"{len(frames)} {name} frames are too few: at least 2 are needed; raise calibration_clips")
    weights = conv_weights(model)
    wanted = outputs(model, held_out)
    if layer_bits is None:
        layer_bits = [bits] * len(weights) if mean_bits is None else _mixed(model, weights, held_out, wanted, mean_bits)
    coarse = _with_weights(model, {name: round_weight(weights[name], 4) for name, chosen in zip(weights, layer_bits, strict=True) if chosen == 4})
    candidates = {method: _quantized(coarse, calibration, method, kernel_bits) for method in METHODS}
    spread = max(float(wanted.var()), 1e-12)
    errors = {method: float(np.square(outputs(candidate, held_out) - wanted).mean()) / spread for method, candidate in candidates.items()}
    best = min(errors, key=lambda method: errors[method])
    return Rounded(candidates[best], best, tuple(layer_bits), errors[best], errors)


def round_weight(weight: Tensor, bits: int) -> Tensor:
    """The nearest symmetric `bits`-bit weight with one scale per output channel (the first axis); of the spans tried, each channel's best."""
    flat = weight.detach().flatten(1)
    most = 2 ** (bits - 1) - 1
    largest = flat.abs().amax(1, keepdim=True).clamp_min(1e-12)
    best, smallest = flat, torch.full_like(largest, torch.inf)
    for span in _SPANS if bits < 8 else (1.0,):
        step = largest * (span / most)
        candidate = (flat / step).round().clamp(-most, most) * step
        error = (candidate - flat).square().sum(1, keepdim=True)
        best = torch.where(error < smallest, candidate, best)
        smallest = torch.minimum(error, smallest)
    return best.reshape(weight.shape)


def conv_weights(model: onnx.ModelProto) -> dict[str, Tensor]:
    """The convolutions' kernels by initialiser name, in graph order."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    names = list(dict.fromkeys(node.input[1] for node in model.graph.node if node.op_type == "Conv"))
    for name in names:
        if name not in stored:
            raise ModelError("a convolution of the extractor computes its kernel while it runs: only kernels that are stored can be rounded")
    return {name: torch.from_numpy(numpy_helper.to_array(stored[name]).copy()) for name in names}


def outputs(model: onnx.ModelProto, frames: Frames) -> Frames:
    """The model's answers, one frame at a time: float32 (N, D)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: frame[None]})[0] for frame in frames])


def _mixed(model: onnx.ModelProto, weights: dict[str, Tensor], held_out: Frames, wanted: Frames, mean_bits: float) -> list[int]:
    """8 bits, or 4 where a layer's own rounding costs the least error of the features per byte that it saves."""
    cost = {
        name: float(np.square(outputs(_with_weights(model, {name: round_weight(weight, 4)}), held_out) - wanted).mean()) / weight.numel()
        for name, weight in weights.items()
    }
    total = sum(weight.numel() for weight in weights.values())
    bits = dict.fromkeys(weights, 8)
    for name in sorted(weights, key=lambda layer: cost[layer]):
        if sum(bits[layer] * weight.numel() for layer, weight in weights.items()) <= mean_bits * total:
            break
        bits[name] = 4
    return list(bits.values())


def _with_weights(model: onnx.ModelProto, weights: dict[str, Tensor]) -> onnx.ModelProto:
    changed = copy.deepcopy(model)
    for tensor in changed.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name].numpy(), tensor.name))
    return changed


def _quantized(model: onnx.ModelProto, frames: Frames, method: str, kernel_bits: int) -> onnx.ModelProto:
    # Percentile calibration prints its progress: standard output is for results. Biases that a graph computes at load stay in float, as they are
    # meant to, of which onnxruntime warns one by one.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), _without_warnings():
        target = Path(folder) / "int8.onnx"
        quantize_static(
            marked(model),
            target,
            _Frames(model.graph.input[0].name, frames),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=kernel_bits < 8,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[method],
        )
        return onnx.load(target)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Of onnxruntime's tools, which write to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


class _Frames(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, frames: Sequence[Any] | Frames) -> None:
        self._feeds: Iterator[dict[str, Frames]] = ({name: frame[None]} for frame in frames)

    def get_next(self) -> dict[str, Frames] | None:
        return next(self._feeds, None)


def marked(model: onnx.ModelProto) -> onnx.ModelProto:
    """onnxruntime's tools advise to fold and infer shapes first, unless a model says that it was done; ours has nothing to fold."""
    copied = copy.deepcopy(model)
    add_pre_process_metadata(copied)
    return copied
