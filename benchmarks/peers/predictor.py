"""Predictors as files for stock onnxruntime: our tensor-train LSTM against onnxruntime's own LSTM of the dense twin, fp32 and int8."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from torch import nn
from torch.nn import functional

from fercompress.compress.quantize import rounded_cores, this_cpu_bits
from fercompress.export.onnx_file import predictor_model
from fercompress.export.onnx_lstm import plan_of
from fercompress.export.onnx_pack import matrices_packed
from fercompress.export.runtime import session
from fercompress.model.predictor import LstmPredictor
from fercompress.tt import shape as tt_shape
from fercompress.tt.layers import TTLSTM
from fercompress.tt.place import replaced
from fercompress.tt.shape import TTShape
from peers.contest import Contest, Difference

Features = npt.NDArray[np.float32]

OURS, FP32, INT8 = "fercompress TT-LSTM int8", "onnxruntime LSTM fp32", "onnxruntime LSTM int8"
CLASSES = 7
# A wrong graph is off by far more than rounding: ours stays below 0.05, the int8 dense LSTM, whose hidden states are off by up to 0.1, below 0.2.
# How small the differences really are is reported, not decided, by the figures in `facts`.
_ALLOWED = {OURS: 0.05, FP32: 1e-3, INT8: 0.2}
AGREEMENT_GOAL = 0.01  # mean over clips, for ours
_FIT_CLIPS = 40 * CLASSES
_CLASS_SHARE = 0.15  # of a scene's variance; the rest is the clip's own, so that some clips are hard to tell


def asymmetric(features: int, hidden: int, rank: int, last: int | None, frames: int, batch: int, clips: int, with_int8: bool = True) -> Contest:
    """last: the last core's input factor, a feature map's channels, or None for the library's choice; clips: that the agreement is counted over."""
    return _contest(tt_shape.asymmetric(4 * hidden, features, rank, last=last), hidden, frames, batch, clips, with_int8)


def balanced(outputs: list[int], inputs: list[int], rank: int, frames: int, batch: int, clips: int) -> Contest:
    """Shapes that somebody else has chosen."""
    shape = TTShape.uniform(outputs, inputs, rank)
    return _contest(shape, shape.rows // 4, frames, batch, clips, with_int8=True)


def _contest(shape: TTShape, hidden: int, frames: int, batch: int, clips: int, with_int8: bool) -> Contest:
    network = _network(shape, hidden, frames)
    dense = replaced(_copy(network), "lstm", network.lstm.to_dense())
    bits = this_cpu_bits()
    rounded: Any = rounded_cores(network, bits)
    wanted, twin, ours = (_exported(each, frames, shape.columns, batch) for each in (network, dense, rounded))
    graphs = {OURS: matrices_packed(ours, 8), FP32: twin}
    if with_int8:
        graphs[INT8] = _dynamic(twin, bits)
    missing = {} if with_int8 else {INT8: "left out at this size: quantize_dynamic needs several times the dense weights' memory"}
    runs = {name: _run(graph) for name, graph in graphs.items()}
    facts, differences = _agreement(_run(wanted), runs, shape.columns, frames, batch, clips)
    plan = plan_of(rounded.lstm, frames, batch)
    facts["execution"] = network.lstm.execution if plan is None else plan.chosen.name
    facts["stored_bytes"] = {name: len(graph.SerializeToString()) for name, graph in graphs.items()}
    features = next(clip_features(batch, frames, shape.columns, batch, seed=1))
    return Contest({name: _bound(run, features) for name, run in runs.items()}, missing, differences, facts)


def _network(shape: TTShape, hidden: int, frames: int) -> Any:
    """A random LSTM with a classifier that was fitted to its states: its probabilities are as decided as a trained network's."""
    torch.manual_seed(0)
    network: Any = LstmPredictor(hidden, hidden, CLASSES)
    network.lstm = TTLSTM(shape.columns, hidden, shape, None, batch_first=True)
    network.eval()
    clips = clip_features(_FIT_CLIPS, frames, shape.columns, _FIT_CLIPS // CLASSES, seed=2)
    with torch.inference_mode():
        states = torch.cat([network.lstm(torch.from_numpy(clip))[0][:, -1] for clip in clips])
    states, labels = states.clone(), torch.arange(_FIT_CLIPS) % CLASSES
    optimizer = torch.optim.LBFGS(network.classifier.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(network.classifier(states), labels) + 1e-3 * network.classifier.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return network


def clip_features(clips: int, frames: int, features: int, batch: int, seed: int) -> Iterator[Features]:
    """Such as a CNN with a ReLU gives: about half of them zero, alike from frame to frame; the n-th clip is of class n % CLASSES.

    yields: float32 (batch, frames, features), as many as hold `clips` clips
    """
    classes = np.random.default_rng(0).standard_normal((CLASSES, features), np.float32)
    random = np.random.default_rng([seed, 1])
    for first in range(0, clips, batch):
        own = random.standard_normal((batch, features), np.float32)
        scenes = _CLASS_SHARE**0.5 * classes[np.arange(first, first + batch) % CLASSES] + (1 - _CLASS_SHARE) ** 0.5 * own
        yield np.maximum(scenes[:, None] + 0.5 * random.standard_normal((batch, frames, features), np.float32), 0)


def _copy(network: nn.Module) -> Any:
    copied = LstmPredictor(network.lstm.hidden_size, network.lstm.hidden_size, CLASSES)  # type: ignore[union-attr, arg-type]
    copied.classifier.load_state_dict(network.classifier.state_dict())  # type: ignore[union-attr]
    return copied.eval()


def _exported(network: Any, frames: int, features: int, batch: int) -> onnx.ModelProto:
    return predictor_model(network, frames, features, batch=batch)


def _dynamic(model: onnx.ModelProto, bits: int) -> onnx.ModelProto:
    """onnxruntime's own tool, with what its documentation advises: per channel, and reduced range where the CPU's int8 products saturate."""
    marked = copy.deepcopy(model)
    add_pre_process_metadata(marked)  # nothing in the graph is left to fold, and without this the tool warns that one should
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(marked, source)
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True, reduce_range=bits < 8)
        return onnx.load(target)


def _run(model: onnx.ModelProto) -> Callable[[Features], Features]:
    ready = session(model.SerializeToString())
    return lambda features: ready.run(None, {"features": features})[0]


def _bound(run: Callable[[Features], Features], features: Features) -> Callable[[], Features]:
    return lambda: run(features)


def _agreement(
    wanted: Callable[[Features], Features], runs: dict[str, Callable[[Features], Features]], features: int, frames: int, batch: int, clips: int
) -> tuple[dict[str, Any], dict[str, Difference]]:
    """Of every contestant's class probabilities with those of the fp32 tensor-train predictor, on the same new clips."""
    largest: dict[str, list[float]] = {name: [] for name in runs}
    flips = dict.fromkeys(runs, 0)
    right = seen = 0
    for clip in clip_features(clips, frames, features, batch, seed=3):
        truth = _probabilities(wanted(clip))
        right += int((truth.argmax(1) == np.arange(seen, seen + batch) % CLASSES).sum())
        seen += batch
        for name, run in runs.items():
            found = _probabilities(run(clip))
            largest[name].extend(np.abs(found - truth).max(1).tolist())
            flips[name] += int((found.argmax(1) != truth.argmax(1)).sum())
    facts = {name: {"clips": seen, "mean": float(np.mean(values)), "largest": max(values), "flips": flips[name]} for name, values in largest.items()}
    facts[OURS]["goal"] = "met" if facts[OURS]["mean"] <= AGREEMENT_GOAL else "missed"
    quantity = "mean over clips of the largest difference of a class probability from the fp32 TT predictor"
    differences = {name: Difference(quantity, float(np.mean(values)), _ALLOWED[name]) for name, values in largest.items()}
    return {"agreement": facts, "accuracy_fp32": right / seen}, differences


def _probabilities(logits: Features) -> Features:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
