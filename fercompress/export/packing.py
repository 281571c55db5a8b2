"""Fewer bytes for a statically rounded graph: a QDQ model in, one that a runtime folds back to it at load out.

Below 100 kB what surrounds the weights counts. Codes that take at most 16 values are stored two per byte; scales and biases as float16; what follows
from something else that is stored (a bias's code and scale, a zero point of zero) is computed at load. Only operators that onnxruntime folds when
their inputs are constants are used; DequantizeLinear, which it does not fold, stays where it was.
"""

from __future__ import annotations

import collections
import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

_FEWEST = 64  # channels or codes below which the decoding nodes take more bytes than they save
_LEVELS = 16  # values that half a byte can tell apart


def packed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A smaller model of the same graph; scales are rounded to float16, so the last digits of outputs may move. Without QDQ, the same comes back."""
    shrinker = _Shrinker(copy.deepcopy(model))
    for node in list(shrinker.graph.node):
        if node.op_type == "Conv":
            shrinker.bias(node)
            shrinker.weight_scale(node)
    shrinker.nibbles()
    return shrinker.finished()


@dataclass
class _Decoder:
    """A DequantizeLinear and its constants."""

    node: onnx.NodeProto
    codes: npt.NDArray[np.integer]
    scale_name: str
    scale: npt.NDArray[np.float32]


class _Shrinker:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.graph = model, model.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self.readers = collections.Counter(name for node in self.graph.node for name in node.input)
        # As the graph was: what feeds a decoder changes one by one below.
        self.decoders = {node.output[0]: decoder for node in self.graph.node if (decoder := self._decoder(node)) is not None}
        self.new: list[onnx.NodeProto] = []  # all of them run once, at load
        self.shared: dict[str, str] = {}

    def finished(self) -> onnx.ModelProto:
        body = list(self.graph.node)
        del self.graph.node[:]
        self.graph.node.extend([*self.new, *body])
        del self.graph.initializer[:]
        read = {name for node in self.graph.node for name in node.input}
        self.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self.constants.items() if name in read)
        return self.model

    def bias(self, conv: onnx.NodeProto) -> None:
        """int32 codes, scales and zero points of a bias -> the bias as float16; its code is bias / (input scale * weight scale) by definition."""
        decoder = self.decoders.get(conv.input[2]) if len(conv.input) > 2 else None
        weight, source = self._own_weight(conv), self.producers.get(conv.input[0])
        if decoder is None or weight is None or source is None or source.op_type != "DequantizeLinear" or decoder.codes.size < _FEWEST:
            return
        if self.readers[conv.input[2]] > 1:
            return
        name = decoder.node.output[0]
        bias = self._constant(f"{name}_16", (decoder.codes * decoder.scale).astype(np.float16))
        scale = self._op("Mul", source.input[1], self._float16(weight.scale_name), name=f"{name}_scale_now")
        ratio = self._op("Div", self._op("Cast", bias, to=onnx.TensorProto.FLOAT), scale)
        codes = self._op("Cast", self._op("Round", ratio), to=onnx.TensorProto.INT32)
        self._feed(decoder.node, codes, scale)

    def weight_scale(self, conv: onnx.NodeProto) -> None:
        decoder = self._own_weight(conv)
        if decoder is not None and decoder.scale.size >= _FEWEST:
            self._feed(decoder.node, decoder.node.input[0], self._float16(decoder.scale_name))

    def _own_weight(self, conv: onnx.NodeProto) -> _Decoder | None:
        """The decoder of a kernel that no other convolution reads, and whose scales float16 holds in full: a quiet channel must not fall silent."""
        decoder = self.decoders.get(conv.input[1])
        if decoder is None or self.readers[conv.input[1]] > 1 or float(decoder.scale.min()) < np.finfo(np.float16).tiny:
            return None
        return decoder

    def nibbles(self) -> None:
        """All int8 kernels whose codes share at most 16 values: one table of values, and one tensor of two indices per byte."""
        chosen: list[_Decoder] = []
        values: set[int] = set()
        for decoder in self.decoders.values():
            if decoder.codes.dtype != np.int8 or decoder.codes.size < _FEWEST:
                continue
            with_it = values | set(np.unique(decoder.codes).tolist())
            if len(with_it) <= _LEVELS:
                values = with_it
                chosen.append(decoder)
        if not chosen:
            return
        table = np.array(sorted(values), np.int8)
        flat = np.concatenate([decoder.codes.ravel() for decoder in chosen])
        index = np.searchsorted(table, np.pad(flat, (0, len(flat) % 2), constant_values=table[0]).astype(np.int8)).astype(np.uint8)
        half = len(index) // 2
        bytes_ = self._op("Cast", self._constant("nibbles", index[:half] * _LEVELS + index[half:]), to=onnx.TensorProto.INT32)
        sixteen = self._constant("nibbles_levels", np.array(_LEVELS, np.int32))
        indices = self._op("Concat", self._op("Div", bytes_, sixteen), self._op("Mod", bytes_, sixteen), axis=0)
        codes = self._op("Gather", self._constant("nibbles_table", table), indices, axis=0)
        if len(index) > len(flat):
            codes = self._op("Slice", codes, self._constant("nibbles_0", np.array([0])), self._constant("nibbles_end", np.array([len(flat)])))
        sizes = [decoder.codes.size for decoder in chosen]
        names = [f"nibbles_{place}_codes" for place in range(len(sizes))]
        self.new.append(helper.make_node("Split", [codes, self._constant("nibbles_sizes", np.array(sizes, np.int64))], names, axis=0))
        for name, decoder in zip(names, chosen, strict=True):
            shape = self._constant(f"{name}_shape", np.array(decoder.codes.shape, np.int64))
            self._feed(decoder.node, self._op("Reshape", name, shape), decoder.node.input[1])

    def _decoder(self, node: onnx.NodeProto) -> _Decoder | None:
        """A DequantizeLinear of constants whose zero points are all zero."""
        if node.op_type != "DequantizeLinear" or node.input[0] not in self.constants or node.input[1] not in self.constants:
            return None
        if len(node.input) > 2 and self.constants[node.input[2]].any():
            return None
        return _Decoder(node, self.constants[node.input[0]], node.input[1], self.constants[node.input[1]])

    def _feed(self, decoder: onnx.NodeProto, codes: str, scale: str) -> None:
        """A zero point of zero is the default of signed codes."""
        del decoder.input[:]
        decoder.input.extend([codes, scale])

    def _float16(self, name: str) -> str:
        """The float32 constant `name`, stored as float16; rounded up a little, or the largest code would be clipped: see the scale's own rounding."""
        if name not in self.shared:
            self.shared[name] = self._op("Cast", self._constant(f"{name}_16", self.constants[name].astype(np.float16)), to=onnx.TensorProto.FLOAT)
        return self.shared[name]

    def _constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self.constants[name] = value
        return name

    def _op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"packing_{len(self.new)}"
        self.new.append(helper.make_node(kind, inputs, [output], **attributes))
        return output
