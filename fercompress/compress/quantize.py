"""Rounding a predictor without dropping a weight: a train's cores before export, a dense LSTM in the exported graph."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from fercompress.compress.static import marked
from fercompress.tt.layers import TTLSTM
from fercompress.tt.place import only_lstm

Rewrite = Callable[[onnx.ModelProto], onnx.ModelProto]
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
    """A dense LSTM becomes DynamicQuantizeLSTM, whose weights are int8; a tensor train's operator is left alone: its cores were rounded before.

    bits: see `kernel_bits`
    """

    def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
        if not any(node.op_type == "LSTM" for node in model.graph.node):
            return model
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "int8.onnx"
            quantize_dynamic(
                marked(model), target, op_types_to_quantize=["LSTM"], weight_type=QuantType.QInt8, reduce_range=bits < 8, per_channel=True
            )
            return onnx.load(target)

    return rewrite
