"""ONNX graphs of extractors and predictors: torch modules in, small checked models out."""

from __future__ import annotations

import copy
import io
import warnings
from typing import cast

import onnx
import torch
from torch import Tensor, nn

from fercompress.errors import ModelError
from fercompress.export.onnx_build import OPSET, OPSETS
from fercompress.export.onnx_lstm import lstm_nodes
from fercompress.export.onnx_tidy import drop_unread, drop_zero_states, graph_sha256, last_states, lstm_numbers, opset_of, stored_numbers, tidy
from fercompress.tt.layers import TTLSTM
from fercompress.tt.place import only_lstm, replaced

__all__ = ["extractor_model", "graph_sha256", "lstm_numbers", "opset_of", "predictor_model", "stored_numbers", "tidy"]


def extractor_model(extractor: nn.Module, channels: int, size: int, *, opset: int = OPSET, batch: int = 1) -> onnx.ModelProto:
    """`extractor` with the channels-last flatten behind it: "frame" float32 (batch, channels, size, size) -> "features" float32 (batch, h * w * c).

    raises: ModelError for an opset that is not one of `OPSETS`
    """
    return tidy(_traced(_Flattened(extractor), torch.zeros(batch, channels, size, size), "frame", "features", opset))


def predictor_model(
    predictor: nn.Module, frames: int, features: int, *, execution: str | None = None, opset: int = OPSET, batch: int = 1
) -> onnx.ModelProto:
    """ "features" float32 (batch, frames, features) -> "logits" float32 (batch, classes); a `TTLSTM` is stored as its cores.

    execution: how the input train of a `TTLSTM`'s first layer runs, see `onnx_lstm`; None, and in layers above it: the cheapest by its plan
    opset: 11 and 12 are for converters that know plain operators only: there a `TTLSTM` is stored merged, in float32
    raises: ModelError if the predictor does not hold exactly one LSTM, or calls it on more than one clip at a time, for an execution that its
    train does not allow, or an opset that is not one of `OPSETS`
    """
    name, lstm = only_lstm(predictor)
    example = torch.zeros(batch, frames, features)
    if not isinstance(lstm, TTLSTM):
        return tidy(_traced(predictor, example, "features", "logits", opset))
    # The exporter sees a dense LSTM; its operator is then fed from the cores, and the dense weights are dropped as unread.
    dense = lstm.to_dense()
    model = _traced(replaced(copy.deepcopy(predictor), name, dense), example, "features", "logits", opset)
    _feed_from_cores(model, copy.deepcopy(lstm).cpu(), execution, opset, (frames, batch))
    return tidy(model)


class _Flattened(nn.Module):
    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, frame: Tensor) -> Tensor:
        return self.extractor(frame).permute(0, 2, 3, 1).flatten(1)  # type: ignore[no-any-return]


def _traced(module: nn.Module, example: Tensor, input_name: str, output_name: str, opset: int) -> onnx.ModelProto:
    if opset not in OPSETS:
        raise ModelError(f"opset {opset} cannot be written: choose one from {OPSETS[0]} to {OPSETS[-1]}")
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
            module, (example,), cast("str", buffer), dynamo=False, opset_version=opset, input_names=[input_name], output_names=[output_name]
        )
    return onnx.load_from_string(buffer.getvalue())


def _feed_from_cores(model: onnx.ModelProto, layer: TTLSTM, execution: str | None, opset: int, lengths: tuple[int, int]) -> None:
    """Replace the dense LSTM operators, one for each layer, by some whose weights are computed from the cores. lengths: steps and batch"""
    graph = model.graph
    drop_zero_states(graph)
    last_states(graph, opset)
    drop_unread(graph)
    found = [node for node in graph.node if node.op_type == "LSTM"]
    if len(found) != layer.num_layers:
        calls = len(found) / layer.num_layers
        raise ModelError(f"the predictor calls its LSTM {calls:g} times for one clip: exactly one call can be exported")
    # A node comes behind those that it reads: the operators are in the layers' order.
    layers = enumerate(layer.layers)
    clips_first = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose" and list(node.attribute[0].ints) == [1, 0, 2]}
    nodes = []
    for node in graph.node:
        if node.op_type != "LSTM":
            nodes.append(node)
            continue
        place, part = next(layers)
        wish = None if place else execution
        made, initializers = lstm_nodes(
            part, node, wish, steps=lengths[0], batch=lengths[1], opset=opset, prefix=f"tt{place or ''}_", clips_first=clips_first.get(node.input[0])
        )
        nodes.extend(made)
        graph.initializer.extend(initializers)
    del graph.node[:]
    graph.node.extend(nodes)
