"""A part of an ONNX graph while it is built: operators and numpy arrays in, nodes and constants out, each operator as its opset spells it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fercompress.export.session import session

OPSET = 17
# What is tested. 11 is what the RK3399Pro's converter reads.
OPSETS = (11, 12, 13, 14, 15, 16, 17)
MICROSOFT = "com.microsoft"


class Builder:
    """Collects the nodes and constants of a graph's part; every method returns the name (or names) of new tensors."""

    def __init__(self, prefix: str, opset: int = OPSET) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.opset = opset
        self._prefix = prefix
        self._count = itertools.count()
        self._shapes: dict[tuple[int, ...], str] = {}
        self._numbers: dict[tuple[str, float, tuple[int, ...]], str] = {}

    def name(self) -> str:
        return f"{self._prefix}{next(self._count)}"

    def constant(self, value: Any) -> str:
        name = self.name()
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        """A 1-d int64 constant; equal ones are stored once, a small number in one byte (raw data would take eight)."""
        if values not in self._shapes:
            self._shapes[values] = name = self.name()
            self.initializers.append(helper.make_tensor(name, onnx.TensorProto.INT64, [len(values)], values))
        return self._shapes[values]

    def number(self, value: float, dtype: str = "float32", shape: tuple[int, ...] = ()) -> str:
        """One number as a constant, 0-d unless a shape of ones is given; equal ones are stored once."""
        key = (dtype, value, shape)
        if key not in self._numbers:
            self._numbers[key] = self.constant(np.full(shape, value, dtype))
        return self._numbers[key]

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self.ops(1, kind, *inputs, domain=domain, **attributes)[0]

    def ops(self, outputs: int, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        """One node with several outputs."""
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names

    def cast(self, tensor: str, dtype: int) -> str:
        return self.op("Cast", tensor, to=dtype)

    def reshape(self, tensor: str, *shape: int) -> str:
        return self.op("Reshape", tensor, self.integers(*shape))

    def split(self, tensor: str, lengths: Sequence[int]) -> list[str]:
        """The parts of a tensor along its first axis; one part is the tensor itself."""
        if len(lengths) == 1:
            return [tensor]
        if self.opset < 13:
            return self.ops(len(lengths), "Split", tensor, split=list(lengths))
        return self.ops(len(lengths), "Split", tensor, self.integers(*lengths))

    def squeeze(self, tensor: str, axis: int) -> str:
        return self.op("Squeeze", tensor, axes=[axis]) if self.opset < 13 else self.op("Squeeze", tensor, self.integers(axis))

    def unsqueeze(self, tensor: str, axis: int) -> str:
        return self.op("Unsqueeze", tensor, axes=[axis]) if self.opset < 13 else self.op("Unsqueeze", tensor, self.integers(axis))

    def zeros(self, dtype: type[np.generic], *shape: int) -> str:
        """Stored as their shape."""
        return self.op("ConstantOfShape", self.integers(*shape), value=numpy_helper.from_array(np.zeros(1, dtype)))

    def folded(self, names: Iterable[str]) -> dict[str, str]:
        """Compute tensors that depend on constants alone, here and now: old name -> name of a constant. What led to them is dropped."""
        wanted = list(dict.fromkeys(names))
        outputs = [onnx.ValueInfoProto(name=name) for name in wanted]
        graph = onnx.GraphProto(name="g", node=self.nodes, initializer=self.initializers, output=outputs)
        opsets = [helper.make_opsetid("", self.opset)]
        model = onnx.ModelProto(ir_version=8, graph=graph, opset_import=opsets)
        inferred = onnx.shape_inference.infer_shapes(model)
        types = {value.name: value for value in inferred.graph.value_info}
        del model.graph.output[:]
        model.graph.output.extend(types.get(name, onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)) for name in wanted)
        values = session(model.SerializeToString()).run(wanted, {})
        self.nodes, self.initializers = [], []
        self._shapes, self._numbers = {}, {}
        return {name: self.constant(value) for name, value in zip(wanted, values, strict=True)}
