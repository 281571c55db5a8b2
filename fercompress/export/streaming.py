"""One step of a predictor: a clip predictor's ONNX graph in, a graph that takes one frame's features and the LSTM's state out.

Carried from step to step the state makes the step graph's logits after T frames those of the clip graph: to the last digits in float32; an int8
operator rounds its input by the range of what it is given, one step here and all steps there, so that its probabilities differ slightly.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fercompress.errors import ModelError
from fercompress.export.onnx_tidy import RECURRENT, tidy
from fercompress.export.session import session
from fercompress.records import Float32

STATE = ("hidden", "cell")
NEXT_STATE = ("next_hidden", "next_cell")
# Largest difference between the logits of both graphs, over the largest logit, that is taken for rounding rather than for another computation.
_FLOAT_TOLERANCE = 1e-4
_INT8_TOLERANCE = 0.1


def streaming(model: onnx.ModelProto) -> onnx.ModelProto:
    """The step graph: features float32 (1, 1, D), hidden and cell float32 (1, 1, H) -> logits, next_hidden, next_cell. Zeros start a clip.

    model: features float32 (1, T, D) -> logits; with an LSTM, DynamicQuantizeLSTM, or any execution of a `TTLSTM`
    raises: ModelError for a graph that cannot be run step by step: another batch than 1, not exactly one LSTM, two directions, an initial state
    of its own, a head that reads more than the last state
    """
    clip = model
    model = _inner_names(tidy(copy.deepcopy(model)))
    graph = model.graph
    node = _recurrent(graph)
    features = graph.input[0].type.tensor_type.shape.dim
    if len(graph.input) != 1 or len(features) != 3 or features[0].dim_value != 1:
        raise ModelError(f"a predictor that can stream takes features (1, T, D), not {[d.dim_value for d in features]}: export it with batch=1")
    size = next(attribute.i for attribute in node.attribute if attribute.name == "hidden_size")
    features[1].dim_value = 1
    _one_row(graph)
    node.input.extend([""] * (7 - len(node.input)))
    node.input[5:7] = STATE
    node.output.extend([""] * (3 - len(node.output)))
    for place, name in zip((1, 2), NEXT_STATE, strict=True):
        for reader in graph.node:
            reader.input[:] = [name if read and read == node.output[place] else read for read in reader.input]
        node.output[place] = name
    graph.input.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, size]) for name in STATE)
    graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, size]) for name in NEXT_STATE)
    step = tidy(model)
    _check(clip, step, node.op_type)
    return step


def steps(model: onnx.ModelProto, features: Float32) -> Float32:
    """The logits after each step. features: float32 (T, D); returns float32 (T, classes)"""
    running = session(model.SerializeToString())
    size = model.graph.input[1].type.tensor_type.shape.dim[2].dim_value
    state = [np.zeros((1, 1, size), np.float32)] * 2
    logits = []
    for row in features:
        result, *state = running.run(None, {model.graph.input[0].name: row[None, None], STATE[0]: state[0], STATE[1]: state[1]})
        logits.append(result[0])
    return np.stack(logits)


def _inner_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """No tensor inside is called what the step graph's ends are called."""
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    for tensor in model.graph.initializer:
        tensor.name = f"inner_{tensor.name}"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name if not name or name in ends else f"inner_{name}" for name in names]
    return model


def _recurrent(graph: onnx.GraphProto) -> onnx.NodeProto:
    found = [node for node in graph.node if node.op_type in RECURRENT]
    if len(found) != 1:
        raise ModelError(f"a predictor that can stream has exactly one LSTM, this one has {len(found)}")
    node: onnx.NodeProto = found[0]
    if any(attribute.name == "direction" and attribute.s != b"forward" for attribute in node.attribute):
        raise ModelError("the LSTM reads its clip backwards: a stream has no end to start from")
    if any(node.input[5:7]):
        raise ModelError("the LSTM starts from a state of its own: only clips that start from zeros can be streamed")
    if node.output[0]:
        raise ModelError("the predictor reads the hidden states of all steps: only a head on the last state can be streamed")
    return node


def _one_row(graph: onnx.GraphProto) -> None:
    """Where ready sums are picked by an identity matrix, one step needs one row of it."""
    makers = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        if node.op_type == "EyeLike":
            graph.initializer.append(numpy_helper.from_array(np.array([1, 1]), "inner_one_row"))
            makers[node.input[0]].input[0] = "inner_one_row"


def _check(clip: onnx.ModelProto, step: onnx.ModelProto, kind: str) -> None:
    """raises: ModelError if the step graph does not end where the clip graph does: the predictor looks at time outside its LSTM"""
    source = clip.graph.input[0]
    shape = [dim.dim_value for dim in source.type.tensor_type.shape.dim]
    features = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    wanted = session(clip.SerializeToString()).run(None, {source.name: features})[0][0]
    difference = float(np.abs(steps(step, features[0])[-1] - wanted).max() / max(np.abs(wanted).max(), 1e-6))
    if difference > (_FLOAT_TOLERANCE if kind == "LSTM" else _INT8_TOLERANCE):
        raise ModelError(
            f"streamed, the logits differ by {difference:.1g} of the largest from the clip's: "
            "the predictor looks at time outside its LSTM, and cannot be run step by step"
        )
