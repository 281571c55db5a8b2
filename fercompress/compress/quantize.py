"""Rounding a predictor without dropping a weight: before export (a train's cores) and after it (everything else, in the ONNX graph)."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from fercompress.compress.static import marked
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


def rounded_cores(predictor: nn.Module, kernel_bits: int, bits: int = 8) -> nn.Module:
    """A copy whose tensor-train layer stores 8- or 4-bit codes; the predictor itself where it has none.

    kernel_bits: of the merged weights when the layer runs, see `kernel_bits`
    """
    name, lstm = only_lstm(predictor)
    if not isinstance(lstm, TTLSTM):
        return predictor
    copied = copy.deepcopy(predictor)
    layer = copied.get_submodule(name)
    assert isinstance(layer, TTLSTM)
    layer.quantize_(kernel_bits, bits)
    return copied


def predictor_rewrite(bits: int) -> Rewrite:
    """int8 of what is left in a predictor's graph: a dense LSTM becomes DynamicQuantizeLSTM, other large matrices are stored as int8."""

    def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
        if any(node.op_type == "LSTM" for node in model.graph.node):
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "int8.onnx"
                quantize_dynamic(
                    marked(model), target, op_types_to_quantize=["LSTM"], weight_type=QuantType.QInt8, reduce_range=bits < 8, per_channel=True
                )
                model = onnx.load(target)
        return _weights_as_int8(model)

    return rewrite


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
