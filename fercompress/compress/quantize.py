"""int8 without dropping a weight: what is rounded before export (a train's cores) and after it (everything else, in the ONNX graph)."""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from torch import nn

from fercompress.errors import ModelError
from fercompress.tt.layers import TTLSTM, only_lstm

Rewrite = Callable[[onnx.ModelProto], onnx.ModelProto]
# Fewer numbers than this stay float32: the three nodes that decode them would take more bytes than they save.
_WORTH_ROUNDING = 256
# Flags of /proc/cpuinfo (x86, arm64) that mean exact 8-bit dot products; without one onnxruntime's int8 kernels saturate in 16 bits.
_EXACT_INT8 = {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "asimddp", "i8mm"}


def kernel_bits(cpuinfo: str) -> int:
    """How many bits int8 weights may use on the CPU that a /proc/cpuinfo describes: 8, or 7 where full range would saturate."""
    flags = {
        flag for line in cpuinfo.splitlines() if line.partition(":")[0].strip() in ("flags", "Features") for flag in line.partition(":")[2].split()
    }
    return 8 if flags & _EXACT_INT8 else 7


def this_cpu_bits() -> int:
    """`kernel_bits` of this machine; 7, which is right everywhere, where it does not tell."""
    path = Path("/proc/cpuinfo")
    return kernel_bits(path.read_text(encoding="utf-8")) if path.is_file() else 7


def rounded_cores(predictor: nn.Module, bits: int) -> nn.Module:
    """A copy whose tensor-train layer stores int8; the predictor itself where it has none."""
    name, lstm = only_lstm(predictor)
    if not isinstance(lstm, TTLSTM):
        return predictor
    copied = copy.deepcopy(predictor)
    layer = copied.get_submodule(name)
    assert isinstance(layer, TTLSTM)
    layer.quantize_(bits)
    return copied


def extractor_rewrite(frames: npt.NDArray[np.float32], bits: int) -> Rewrite:
    """Static int8 of an extractor's graph: QDQ, one scale per output channel, ranges calibrated on frames.

    frames: float32 (N, channels, H, W), preprocessed; three quarters calibrate, the rest chooses the calibration method by the error of the features
    bits: see `kernel_bits`
    The same graph is quantized once, however often it is asked for.
    """
    done: dict[bytes, onnx.ModelProto] = {}

    def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
        key = model.SerializeToString(deterministic=True)
        if key not in done:
            done[key] = _static(model, frames, bits)
        return copy.deepcopy(done[key])

    return rewrite


def predictor_rewrite(bits: int) -> Rewrite:
    """int8 of what is left in a predictor's graph: a dense LSTM becomes DynamicQuantizeLSTM, other large matrices are stored as int8."""

    def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
        if any(node.op_type == "LSTM" for node in model.graph.node):
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "int8.onnx"
                quantize_dynamic(
                    _marked(model), target, op_types_to_quantize=["LSTM"], weight_type=QuantType.QInt8, reduce_range=bits < 8, per_channel=True
                )
                model = onnx.load(target)
        return _weights_as_int8(model)

    return rewrite


def _static(model: onnx.ModelProto, frames: npt.NDArray[np.float32], bits: int) -> onnx.ModelProto:
    if len(frames) < 4:
        raise ModelError(f"{len(frames)} calibration frames are too few: at least 4 are needed; raise calibration_clips")
    held_out = np.arange(len(frames)) % 4 == 3
    wanted = _outputs(model, frames[held_out])
    best, smallest = model, np.inf
    for method in (CalibrationMethod.MinMax, CalibrationMethod.Percentile):
        # Percentile calibration prints its progress: standard output is for results.
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            target = Path(folder) / "int8.onnx"
            quantize_static(
                _marked(model),
                target,
                _Frames(model.graph.input[0].name, frames[~held_out]),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=bits < 8,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=method,
            )
            candidate = onnx.load(target)
        error = float(np.square(_outputs(candidate, frames[held_out]) - wanted).mean())
        if error < smallest:
            best, smallest = candidate, error
    return best


class _Frames(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, frames: npt.NDArray[np.float32]) -> None:
        self._feeds: Iterator[dict[str, npt.NDArray[np.float32]]] = ({name: frame[None]} for frame in frames)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self._feeds, None)


def _outputs(model: onnx.ModelProto, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: frame[None]})[0] for frame in frames])


def _marked(model: onnx.ModelProto) -> onnx.ModelProto:
    """onnxruntime's tools advise to fold and infer shapes first, unless a model says that it was done; ours has nothing to fold."""
    marked = copy.deepcopy(model)
    add_pre_process_metadata(marked)
    return marked


def _weights_as_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store every large matrix that a MatMul or Gemm reads as int8 with one float16 scale per row; onnxruntime decodes them once, when it loads."""
    model = copy.deepcopy(model)
    graph = model.graph
    read = {name for node in graph.node if node.op_type in ("MatMul", "Gemm") for name in node.input}
    matrices = [
        tensor
        for tensor in graph.initializer
        if tensor.name in read and tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2 and np.prod(tensor.dims) >= _WORTH_ROUNDING
    ]
    decoding: list[onnx.NodeProto] = []
    for tensor in matrices:
        decoding += _decoded(graph, tensor)
        graph.initializer.remove(tensor)
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend([*decoding, *body])
    return model


def _decoded(graph: onnx.GraphProto, tensor: onnx.TensorProto) -> Sequence[Any]:
    value = numpy_helper.to_array(tensor)
    largest = np.abs(value).max(axis=1, keepdims=True)
    # Rounded to float16 a scale may come out too small and clip: one part in 1000 is added first.
    scale = (largest / 127 * 1.001).astype(np.float16)
    codes = np.clip(np.round(value / np.maximum(scale.astype(np.float32), np.finfo(np.float16).tiny)), -127, 127).astype(np.int8)
    name = tensor.name
    graph.initializer.extend([numpy_helper.from_array(codes, f"{name}_codes"), numpy_helper.from_array(scale, f"{name}_scale")])
    return [
        helper.make_node("Cast", [f"{name}_codes"], [f"{name}_float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Cast", [f"{name}_scale"], [f"{name}_step"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_float", f"{name}_step"], [name]),
    ]
