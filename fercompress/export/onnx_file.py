"""ONNX graphs of extractors and predictors: torch modules in, small checked models out."""

from __future__ import annotations

import copy
import io
import itertools
import math
import string
import warnings
from collections.abc import Iterable
from typing import Any, cast

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from fercompress.errors import ModelError
from fercompress.export.onnx_lstm import MICROSOFT, OPSET, lstm_nodes
from fercompress.records import digest
from fercompress.tt.layers import TTLSTM, only_lstm, replaced

# Opset 17 came with IR 8: what reads the one reads the other, older runtimes included.
_IR_VERSION = 8


def extractor_model(extractor: nn.Module, channels: int, size: int) -> onnx.ModelProto:
    """`extractor` with the channels-last flatten behind it: "frame" float32 (1, channels, size, size) -> "features" float32 (1, h * w * c)."""
    return tidy(_traced(_Flattened(extractor), torch.zeros(1, channels, size, size), "frame", "features"))


def predictor_model(predictor: nn.Module, frames: int, features: int) -> onnx.ModelProto:
    """ "features" float32 (1, frames, features) -> "logits" float32 (1, classes); a `TTLSTM` is stored as its cores.

    raises: ModelError if the predictor does not hold exactly one LSTM, or calls it on more than one clip at a time
    """
    name, lstm = only_lstm(predictor)
    example = torch.zeros(1, frames, features)
    if not isinstance(lstm, TTLSTM):
        return tidy(_traced(predictor, example, "features", "logits"))
    # The exporter sees a dense LSTM; its operator is then fed from the cores, and the dense weights are dropped as unread.
    dense = lstm.to_dense()
    model = _traced(replaced(copy.deepcopy(predictor), name, dense), example, "features", "logits")
    _feed_from_cores(model, copy.deepcopy(lstm).cpu())
    return tidy(model)


class _Flattened(nn.Module):
    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, frame: Tensor) -> Tensor:
        return self.extractor(frame).permute(0, 2, 3, 1).flatten(1)  # type: ignore[no-any-return]


def _traced(module: nn.Module, example: Tensor, input_name: str, output_name: str) -> onnx.ModelProto:
    module = copy.deepcopy(module).cpu().eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The older exporter, on purpose: the newer one writes opset 18 and more only. It says so itself, and that a traced LSTM
        # has a fixed batch size; a module that looks at shapes while it runs is fine, because the shapes are fixed.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # The older exporter writes into open files too, which the annotation does not say.
        torch.onnx.export(
            module, (example,), cast("str", buffer), dynamo=False, opset_version=OPSET, input_names=[input_name], output_names=[output_name]
        )
    return onnx.load_from_string(buffer.getvalue())


def _feed_from_cores(model: onnx.ModelProto, layer: TTLSTM) -> None:
    """Replace the dense LSTM operator by one whose weights are computed from the layer's cores."""
    graph = model.graph
    places = [place for place, node in enumerate(graph.node) if node.op_type == "LSTM"]
    if len(places) != 1:
        raise ModelError(f"the predictor calls its LSTM {len(places)} times for one clip: exactly one call can be exported")
    place = places[0]
    nodes, initializers = lstm_nodes(layer, graph.node[place])
    graph.initializer.extend(initializers)
    after = list(graph.node)[place + 1 :]
    del graph.node[place:]
    graph.node.extend([*nodes, *after])


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computation without what a runtime does not need: short names, no descriptions, no all-zero initial states; checked.

    The result depends on the computation alone (no paths, no dates), so that equal weights give equal bytes.
    """
    graph = model.graph
    _drop_zero_states(graph)
    _drop_unread(graph)
    tidied = onnx.ModelProto(ir_version=_IR_VERSION, graph=onnx.GraphProto(name="g"))
    domains = {node.domain for node in graph.node}
    tidied.opset_import.extend(
        onnx.helper.make_opsetid(entry.domain, entry.version)
        for entry in sorted(model.opset_import, key=lambda entry: entry.domain)
        if entry.domain in domains or not entry.domain
    )
    if MICROSOFT in domains and all(entry.domain != MICROSOFT for entry in tidied.opset_import):
        tidied.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    names = _short_names(graph)
    for value in itertools.chain(graph.input, graph.output):
        value.doc_string = ""
    tidied.graph.input.extend(graph.input)
    tidied.graph.output.extend(graph.output)
    for initializer in sorted(graph.initializer, key=lambda tensor: (len(names[tensor.name]), names[tensor.name])):
        tidied.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(initializer), names[initializer.name]))
    for node in graph.node:
        short = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        short.input.extend(names[name] for name in node.input)
        short.output.extend(names[name] for name in node.output)
        short.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        for attribute in short.attribute:
            attribute.doc_string = ""
        tidied.graph.node.append(short)
    onnx.checker.check_model(tidied)
    return tidied


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


def _drop_zero_states(graph: onnx.GraphProto) -> None:
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
        if node.op_type in ("LSTM", "DynamicQuantizeLSTM") and len(node.input) > 6 and all(name and zero(name) for name in node.input[5:7]):
            node.input[5] = node.input[6] = ""
            while not node.input[-1]:
                node.input.pop()


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that no output depends on, and the names of optional outputs that nobody reads."""
    read = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read.isdisjoint(node.output):
            continue
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
    waiting = [node for node in model.graph.node if node.op_type in ("LSTM", "DynamicQuantizeLSTM")]
    while waiting:
        node = waiting.pop()
        if not any(node is seen for seen in nodes):
            nodes.append(node)
            waiting.extend(producers[name] for name in node.input if name in producers)
    return _count(nodes, {tensor.name: tensor for tensor in model.graph.initializer})


def _count(nodes: Iterable[onnx.NodeProto], initializers: dict[str, onnx.TensorProto]) -> int:
    tensors = [initializers[name] for name in {name for node in nodes for name in node.input} if name in initializers]
    tensors += [attribute.t for node in nodes if node.op_type == "Constant" for attribute in node.attribute if attribute.name == "value"]
    return sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type != onnx.TensorProto.INT64)


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
