"""A predictor for boards without a runtime's wheel: a torch module in, `predictor.npz` out, which the agent's numpy engine runs.

The module's layers are found by running it once; that nothing else is computed between them is checked by comparing the file's logits with torch's.
`remote/fercompress_agent/engine_numpy.py` describes the file.
"""

from __future__ import annotations

import copy
import io
import json
import zipfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from fercompress_agent.engine_numpy import FORMAT, Numpy
from torch import Tensor, nn

from fercompress.errors import ModelError
from fercompress.export.onnx_lstm import plan_of
from fercompress.export.onnx_pack import coded_columns
from fercompress.records import Float32
from fercompress.tt.layers import TTLSTM, check_supported
from fercompress.tt.lstm import TTLSTMLayer
from fercompress.tt.weights import DenseWeight, TTWeight

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold: equal weights give equal bytes
_POINTS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}
_NOTHING = (nn.Dropout, nn.Identity)
_SMALLEST = 256  # numbers of a matrix below which rounding it saves nothing
_TOLERANCE = 1e-4  # of the largest logit: rounding, not another computation
_DTYPES = {32: np.float32, 16: np.float16, 8: np.int8, 4: np.uint8}
_ENTRIES = {32: "floats", 16: "halves", 8: "codes", 4: "nibbles"}


@dataclass(frozen=True)
class NumpyPredictor:
    """content: of predictor.npz; numbers, lstm_numbers: that it stores, scales included, in all and in its LSTM"""

    content: bytes
    numbers: int
    lstm_numbers: int

    @classmethod
    def of(cls, predictor: nn.Module, frames: int, features: int, bits: int = 32) -> NumpyPredictor:
        """bits: 8 or 4 round every large matrix that is not stored in codes already (those of a `TTLSTM` that was quantized are).

        raises: ModelError for a predictor that is not one LSTM with linear layers, normalizations and activations before and behind it
        """
        predictor = copy.deepcopy(predictor).cpu().eval()
        calls = _calls(predictor, torch.zeros(1, frames, features))
        example = np.random.default_rng(0).standard_normal((1, frames, features)).astype(np.float32)
        with torch.no_grad():
            wanted = predictor(torch.from_numpy(example)).numpy()[0]
        worst = np.inf
        for reduce in ("last", "mean"):
            plain = _written(calls, frames, features, 32, reduce)
            worst = min(worst, difference := float(np.abs(engine_of(plain.content, frames, features).predict(example) - wanted).max()))
            if difference <= _TOLERANCE * max(1.0, float(np.abs(wanted).max())):
                return plain if bits == 32 else _written(calls, frames, features, bits, reduce)
        raise ModelError(
            f"{type(predictor).__name__} cannot be written for numpy: it computes something between its layers that they do not tell "
            f"(logits differ by {worst:.1g}); use the engine onnxruntime for the predictor"
        )


def engine_of(content: bytes, frames: int, features: int) -> Numpy:
    """The agent's own engine with a file's content loaded: `predict` takes float32 (1, T, D)."""
    engine = Numpy(1)
    engine.numpy = np
    engine.joined_shape = (1, frames, features)
    engine.read(io.BytesIO(content))
    return engine


def logits(content: bytes, features: Float32) -> Float32:
    """features: float32 (1, T, D); returns float32 (1, classes)"""
    found = engine_of(content, features.shape[1], features.shape[2]).predict(features)
    return np.asarray(found, np.float32)[None]


def _calls(predictor: nn.Module, example: Tensor) -> list[nn.Module]:
    """The modules without parts of their own, in the order in which they run."""
    calls: list[nn.Module] = []
    hooks = []
    inside = {id(part) for lstm in predictor.modules() if isinstance(lstm, TTLSTM) for part in lstm.modules() if part is not lstm}
    for module in predictor.modules():
        whole = isinstance(module, nn.LSTM | TTLSTM) or not list(module.children())
        if whole and id(module) not in inside:
            hooks.append(module.register_forward_hook(lambda module, *_: calls.append(module)))
    with torch.no_grad():
        predictor(example)
    for hook in hooks:
        hook.remove()
    lstms = sum(isinstance(module, nn.LSTM | TTLSTM) for module in calls)
    if lstms != 1:
        raise ModelError(f"{type(predictor).__name__} cannot be written for numpy: it calls {lstms} LSTMs for one clip, not one")
    return calls


def _written(calls: list[nn.Module], frames: int, features: int, bits: int, reduce: str) -> NumpyPredictor:
    store = _Store(bits)
    layers: list[dict[str, Any]] = []
    width, lstm_numbers = features, 0
    for module in calls:
        if isinstance(module, _NOTHING):
            continue
        if isinstance(module, nn.LSTM | TTLSTM):
            if width != module.input_size and width % module.input_size == 0:
                layers.append({"kind": "pool", "channels": module.input_size})
            before = store.numbers
            layers += _lstm(module, store, frames)
            width, lstm_numbers = module.hidden_size, store.numbers - before
        elif isinstance(module, nn.Linear):
            weight = store.columns(module.weight)  # before the bias: tensors are read in the order in which they were stored
            layers.append({"kind": "linear", "weight": weight, "bias": None if module.bias is None else store.floats(module.bias)})
            width = width // module.in_features * module.out_features
        elif isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
            vectors = {name: None if value is None else store.floats(value) for name, value in (("weight", module.weight), ("bias", module.bias))}
            layers.append({"kind": "layernorm", "epsilon": module.eps, **vectors})
        elif type(module) in _POINTS:
            layers.append({"kind": _POINTS[type(module)]})
        else:
            known = "LSTM, Linear, LayerNorm, ReLU, Tanh, Sigmoid and Dropout"
            raise ModelError(f"a {type(module).__name__} cannot be written for numpy (known: {known}); use the engine onnxruntime for the predictor")
    return NumpyPredictor(store.file({"format": FORMAT, "reduce": reduce, "layers": layers}), store.numbers, lstm_numbers)


def _lstm(lstm: nn.LSTM | TTLSTM, store: _Store, frames: int) -> list[dict[str, Any]]:
    if isinstance(lstm, TTLSTM):
        return [_layer(layer, store, frames) for layer in lstm.layers]
    check_supported(lstm)
    made = []
    for place in range(lstm.num_layers):
        weights = [DenseWeight(lstm.get_parameter(f"weight_{part}_l{place}")) for part in ("ih", "hh")]
        if store.bits != 32:
            for weight in weights:
                weight.quantize_(store.bits)
        bias = (lstm.get_parameter(f"bias_ih_l{place}") + lstm.get_parameter(f"bias_hh_l{place}")) if lstm.bias else None
        described = {name: store.matrix(weight) for name, weight in zip(("input", "hidden"), weights, strict=True)}
        made.append({"kind": "lstm", "execution": "dense", **described, "bias": None if bias is None else store.floats(bias)})
    return made


def _layer(layer: TTLSTMLayer, store: _Store, frames: int) -> dict[str, Any]:
    """Run as the exported graph would."""
    plan = plan_of(layer, frames)
    execution: dict[str, Any] = {"execution": "dense"}
    if plan is not None and plan.execution != "dense":
        execution = {"execution": plan.execution, "cut": plan.chosen.cut, "first": plan.chosen.first}
    described = {"input": store.matrix(layer.input), "hidden": store.matrix(layer.hidden)}
    return {"kind": "lstm", **execution, **described, "bias": None if layer.bias is None else store.floats(layer.bias, halves=layer.quantized)}


@dataclass
class _Store:
    """Collects tensors; each method returns how the tensor is described in `meta`. Scales follow their codes."""

    bits: int
    numbers: int = 0
    parts: dict[int, list[npt.NDArray[Any]]] = field(default_factory=lambda: {bits: [] for bits in _ENTRIES})

    def floats(self, value: Tensor, *, halves: bool = False) -> dict[str, Any]:
        return self._add(value.detach().numpy(), 16 if halves else 32)

    def columns(self, weight: Tensor) -> dict[str, Any]:
        """A layer's weight (outputs, inputs), stored as (inputs, outputs)."""
        matrix = np.ascontiguousarray(weight.detach().numpy().T)
        if self.bits == 32 or matrix.size < _SMALLEST:
            return self._add(matrix, 32)
        coded = coded_columns(matrix, self.bits)
        return self._coded(coded.codes, coded.scales, self.bits)

    def matrix(self, weight: TTWeight | DenseWeight) -> dict[str, Any]:
        rows, columns = (weight.shape.rows, weight.shape.columns) if isinstance(weight, TTWeight) else weight.sizes[0]
        if weight.quantized:
            pairs = zip(weight.codes, weight.scales, strict=True)
            cores = [self._coded(codes.numpy(), scales.numpy(), weight.bits) for codes, scales in pairs]
        else:
            cores = [self.floats(value) for value in weight.tensors()]
        return {"rows": rows, "columns": columns, "cores": cores}

    def _coded(self, codes: npt.NDArray[Any], scales: npt.NDArray[Any], bits: int) -> dict[str, Any]:
        described = self._add(codes, bits)
        return {**described, "scales": self._add(scales, 16)["shape"]}

    def _add(self, value: npt.NDArray[Any], bits: int) -> dict[str, Any]:
        self.numbers += value.size
        flat = value.ravel()
        if bits == 4:
            high, low = (np.append(flat, np.zeros(flat.size % 2, np.int8)) + 8).reshape(2, -1).astype(np.uint8)
            flat = high * 16 + low
        self.parts[bits].append(flat.astype(_DTYPES[bits]))
        return {"shape": list(value.shape), "bits": bits}

    def file(self, meta: dict[str, Any]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo("meta", _EPOCH), json.dumps(meta, sort_keys=True, separators=(",", ":")))
            for bits, name in _ENTRIES.items():
                array = io.BytesIO()
                np.lib.format.write_array(array, np.concatenate([np.zeros(0, _DTYPES[bits]), *self.parts[bits]]), version=(1, 0))
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), array.getvalue())
        return buffer.getvalue()
