"""The same graph in fewer bytes: any ONNX model in, one with short names and without what a runtime does not need out; and what it stores."""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fercompress.export.onnx_build import MICROSOFT
from fercompress.records import digest

RECURRENT = ("LSTM", "DynamicQuantizeLSTM")


def ir_version(opset: int) -> int:
    """The smallest that the opset's readers know: an old converter or runtime refuses newer ones unread. Opset 17 came with IR 8, 13 with 7."""
    return 8 if opset >= 15 else 7 if opset >= 13 else 6


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computation without what a runtime does not need: short names, no descriptions, no all-zero initial states; checked.

    The result depends on the computation alone (no paths, no dates), so that equal weights give equal bytes.
    """
    graph = model.graph
    opset = opset_of(model)
    _constants_aside(graph)
    drop_zero_states(graph)
    last_states(graph, opset)
    reshape_in_place(graph)
    drop_unread(graph)
    tidied = onnx.ModelProto(ir_version=ir_version(opset), graph=onnx.GraphProto(name="g"))
    domains = {node.domain for node in graph.node}
    tidied.opset_import.append(helper.make_opsetid("", opset))
    if MICROSOFT in domains:
        tidied.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    names = _short_names(graph)
    for value in itertools.chain(graph.input, graph.output):
        value.doc_string = ""
    tidied.graph.input.extend(graph.input)
    tidied.graph.output.extend(graph.output)
    for initializer in sorted(graph.initializer, key=lambda tensor: (len(names[tensor.name]), names[tensor.name])):
        tidied.graph.initializer.append(_short(initializer, names[initializer.name]))
    tidied.graph.node.extend(_renamed(node, names) for node in graph.node)
    onnx.checker.check_model(tidied)
    return tidied


def opset_of(model: onnx.ModelProto) -> int:
    """Of ONNX's own operators."""
    return max(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _short(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """int64 as variable-length numbers, the rest as raw data, whatever the tensor was."""
    value = numpy_helper.to_array(tensor)
    if tensor.data_type == onnx.TensorProto.INT64 and (value >= 0).all():
        return helper.make_tensor(name, tensor.data_type, tensor.dims, value.ravel())
    return numpy_helper.from_array(value, name)


def _renamed(node: onnx.NodeProto, names: dict[str, str]) -> onnx.NodeProto:
    short = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
    short.input.extend(names[name] for name in node.input)
    short.output.extend(names[name] for name in node.output)
    short.attribute.extend(sorted((attribute for attribute in node.attribute if not _default(node, attribute)), key=lambda attribute: attribute.name))
    for attribute in short.attribute:
        attribute.doc_string = ""
    return short


def _default(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> bool:
    """Gemm's factors of 1, which torch spells out."""
    return node.op_type == "Gemm" and attribute.name in ("alpha", "beta") and attribute.f == 1


def _short_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Every tensor's new name; the graph's inputs and outputs keep theirs, "" stays ""."""
    kept = [value.name for value in itertools.chain(graph.input, graph.output)]
    names = {"": "", **{name: name for name in kept}}
    letters = string.ascii_letters
    fresh = (name for length in itertools.count(1) for name in map("".join, itertools.product(letters, repeat=length)) if name not in kept)
    for node in graph.node:
        for name in itertools.chain(node.input, node.output):
            if name not in names:
                names[name] = next(fresh)
    return names


def _constants_aside(graph: onnx.GraphProto) -> None:
    """Constants as initializers, which take fewer bytes than nodes; equal ones of few numbers are stored once."""
    kept, same = [], {}
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(node)
    firsts: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    outputs = {value.name for value in graph.output}
    for tensor in graph.initializer:
        key = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        if tensor.name not in outputs:
            same[tensor.name] = firsts.setdefault(key, tensor.name)
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = same.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)


def drop_zero_states(graph: onnx.GraphProto) -> None:
    """An LSTM operator without initial states starts at zero: zeros, and what the exporter writes to make them, need not be stored."""
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}

    def zero(name: str) -> bool:
        if name in initializers:
            return not numpy_helper.to_array(initializers[name]).any()
        node = producers.get(name)
        if node is None:
            return False
        if node.op_type in ("Constant", "ConstantOfShape"):
            return all(attribute.HasField("t") and not numpy_helper.to_array(attribute.t).any() for attribute in node.attribute)
        # The first input of Expand holds the values, the second only the shape.
        return (node.op_type == "Concat" and all(map(zero, node.input))) or (node.op_type in ("Expand", "Identity") and zero(node.input[0]))

    for node in graph.node:
        if node.op_type in RECURRENT and len(node.input) > 6 and all(name and zero(name) for name in node.input[5:7]):
            node.input[5] = node.input[6] = ""
            while not node.input[-1]:
                node.input.pop()


def last_states(graph: onnx.GraphProto, opset: int) -> None:
    """A head that reads the last of all hidden states is fed from the operator's own last state, and the others need not be put in order."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    constants |= {node.output[0]: numpy_helper.to_array(node.attribute[0].t) for node in graph.node if node.op_type == "Constant"}
    producers = {name: node for node in graph.node for name in node.output if name}
    for place, node in enumerate(graph.node):
        index = constants.get(node.input[1]) if node.op_type == "Gather" else None
        if index is None or index.shape != () or int(index) != -1:
            continue
        source = producers.get(node.input[0])
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if source is not None and source.op_type == "Transpose" and list(source.attribute[0].ints) == [1, 0, 2]:
            axis, source = {0: 1, 1: 0}.get(axis, axis), producers.get(source.input[0])
        if axis != 0 or source is None or source.op_type != "Squeeze":
            continue
        lstm = producers.get(source.input[0])
        if lstm is None or lstm.op_type not in RECURRENT or lstm.output[0] != source.input[0] or (len(lstm.input) > 4 and lstm.input[4]):
            continue
        if any(attribute.name == "direction" and attribute.s != b"forward" for attribute in lstm.attribute):
            continue
        while len(lstm.output) < 2:
            lstm.output.append("")
        lstm.output[1] = lstm.output[1] or f"{lstm.output[0]}_last"
        if opset < 13:
            graph.node[place].CopyFrom(helper.make_node("Squeeze", [lstm.output[1]], node.output, axes=[0]))
        else:
            axes = f"{lstm.output[0]}_axes"
            graph.initializer.append(numpy_helper.from_array(np.array([0]), axes))
            graph.node[place].CopyFrom(helper.make_node("Squeeze", [lstm.output[1], axes], node.output))


def reshape_in_place(graph: onnx.GraphProto) -> None:
    """A transposed input of which only axes of length 1 change places, as of one clip's frames, is a reshaped one: no runtime copies that."""
    lengths = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in graph.input}
    for node in graph.node:
        shape = lengths.get(node.input[0]) if node.op_type == "Transpose" else None
        if shape is None or not all(shape):
            continue
        order = list(node.attribute[0].ints) if node.attribute else list(reversed(range(len(shape))))
        long = [axis for axis in order if shape[axis] > 1]
        if long == sorted(long):
            name = f"{node.output[0]}_shape"
            # The first long axis, a clip's frames, is left open: a graph that takes fewer is made from this one.
            target = [-1 if long and axis == long[0] else shape[axis] for axis in order]
            graph.initializer.append(numpy_helper.from_array(np.array(target), name))
            node.CopyFrom(helper.make_node("Reshape", [node.input[0], name], node.output))


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that no output depends on, and the names of optional outputs that nobody reads."""
    read = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read.isdisjoint(node.output):
            continue
        if node.op_type != "Split":  # whose outputs are not optional
            for place, name in enumerate(node.output):
                if name not in read:
                    node.output[place] = ""
            while not node.output[-1]:
                node.output.pop()
        read.update(node.input)
        kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    initializers = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(initializers)


def stored_numbers(model: onnx.ModelProto) -> int:
    """Numbers that a file stores as constants: weights, biases, scales, zero points; shapes and indices (int64) do not count."""
    return _count(model.graph.node, {tensor.name: tensor for tensor in model.graph.initializer})


def lstm_numbers(model: onnx.ModelProto) -> int:
    """Those of `stored_numbers` that the LSTM needs: its own and those of everything before it in the predictor (projections of the features)."""
    producers = {name: node for node in model.graph.node for name in node.output if name}
    nodes: list[onnx.NodeProto] = []
    waiting = [node for node in model.graph.node if node.op_type in RECURRENT]
    while waiting:
        node = waiting.pop()
        if not any(node is seen for seen in nodes):
            nodes.append(node)
            waiting.extend(producers[name] for name in node.input if name in producers)
    return _count(nodes, {tensor.name: tensor for tensor in model.graph.initializer})


def _count(nodes: Iterable[onnx.NodeProto], initializers: dict[str, onnx.TensorProto]) -> int:
    tensors = [initializers[name] for name in {name for node in nodes for name in node.input} if name in initializers]
    tensors += [attribute.t for node in nodes if node.op_type == "Constant" for attribute in node.attribute if attribute.name == "value"]
    return sum(_numbers(tensor) for tensor in tensors if tensor.data_type != onnx.TensorProto.INT64)


def _numbers(tensor: onnx.TensorProto) -> int:
    """How many numbers a constant holds: two codes of 4 bits share a byte, and nothing else here is a vector of unsigned bytes."""
    return int(math.prod(tensor.dims)) * (2 if tensor.data_type == onnx.TensorProto.UINT8 and tensor.dims else 1)


def graph_sha256(model: onnx.ModelProto) -> str:
    """A key of the computation without its numbers: operators, their order, attributes, shapes and dtypes."""
    constants = [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in model.graph.initializer]
    nodes = [
        (node.domain, node.op_type, list(node.input), list(node.output), [_attribute(attribute) for attribute in node.attribute])
        for node in model.graph.node
    ]
    ends = [value.SerializeToString(deterministic=True).hex() for value in itertools.chain(model.graph.input, model.graph.output)]
    return digest(constants, nodes, ends, sorted((entry.domain, entry.version) for entry in model.opset_import))


def _attribute(attribute: onnx.AttributeProto) -> Any:
    if attribute.type == onnx.AttributeProto.TENSOR:
        return (attribute.name, attribute.t.data_type, list(attribute.t.dims))
    return (attribute.name, str(onnx.helper.get_attribute_value(attribute)))
