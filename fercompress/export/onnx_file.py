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
from fercompress.export.onnx_tidy import drop_unread, drop_zero_states, graph_sha256, last_states, lstm_numbers, stored_numbers, tidy
from fercompress.tt.layers import TTLSTM, only_lstm, replaced

__all__ = ["extractor_model", "graph_sha256", "lstm_numbers", "predictor_model", "stored_numbers", "tidy"]


def extractor_model(extractor: nn.Module, channels: int, size: int, *, opset: int = OPSET, batch: int = 1) -> onnx.ModelProto:
    """`extractor` with the channels-last flatten behind it: "frame" float32 (batch, channels, size, size) -> "features" float32 (batch, h * w * c).

    raises: ModelError for an opset that is not one of `OPSETS`
    """
    return tidy(_traced(_Flattened(extractor), torch.zeros(batch, channels, size, size), "frame", "features", opset))


def predictor_model(
    predictor: nn.Module, frames: int, features: int, *, execution: str | None = None, opset: int = OPSET, batch: int = 1
) -> onnx.ModelProto:
    """ "features" float32 (batch, frames, features) -> "logits" float32 (batch, classes); a `TTLSTM` is stored as its cores.

    execution: how a `TTLSTM`'s input train runs, see `onnx_lstm`; None: the cheapest by its plan
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
    """Replace the dense LSTM operator by one whose weights are computed from the layer's cores. lengths: steps and batch"""
    graph = model.graph
    drop_zero_states(graph)
    last_states(graph, opset)
    drop_unread(graph)
    places = [place for place, node in enumerate(graph.node) if node.op_type == "LSTM"]
    if len(places) != 1:
        raise ModelError(f"the predictor calls its LSTM {len(places)} times for one clip: exactly one call can be exported")
    place = places[0]
    nodes, initializers = lstm_nodes(layer, graph.node[place], execution, steps=lengths[0], batch=lengths[1], opset=opset)
    graph.initializer.extend(initializers)
    after = list(graph.node)[place + 1 :]
    del graph.node[place:]
    graph.node.extend([*nodes, *after])
