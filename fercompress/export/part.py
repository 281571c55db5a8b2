"""One part of a bundle as a file: a network and the engine that is to run it in, the file's content and what it stores out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx
from fercompress_agent import engines
from torch import nn

from fercompress.errors import InputError
from fercompress.export import numpy_file, onnx_file, packing
from fercompress.export.session import session
from fercompress.records import Float32, digest

Rewrite = Callable[[onnx.ModelProto], onnx.ModelProto]
# Which file an engine runs, by the part that it runs.
SUFFIXES = {
    "extractor": {"onnxruntime": "onnx", "onnxruntime-c": "onnx", "rknnlite": "rknn", "rknn": "rknn"},
    "predictor": {"onnxruntime": "onnx", "onnxruntime-c": "onnx", "numpy": "npz"},
}

# Engines that a bundle can be made for: those that run both parts, and pairs whose halves understand each other.
MAKEABLE = (
    *(name for name in SUFFIXES["extractor"] if name in SUFFIXES["predictor"]),
    *(f"{one}+{other}" for one in SUFFIXES["extractor"] for other in SUFFIXES["predictor"] if one != other and engines.fits(one, other)),
)


@dataclass(frozen=True)
class Part:
    """One file of a bundle, ready to be written.

    run: its input -> its output, by the engine that will run it; numbers, lstm_numbers: that it stores; graph_key: equal where the operators are
    opset: of the ONNX graph that the file holds, or was converted from; None where there was none
    """

    suffix: str
    content: bytes
    numbers: int
    lstm_numbers: int
    graph_key: str
    run: Callable[[Float32], Float32]
    opset: int | None = None

    @classmethod
    def of(cls, model: onnx.ModelProto, rewrite: Rewrite | None) -> Part:
        """What is counted is the (rewritten) model, what is stored its packed form."""
        if rewrite is None:
            counted = stored = model
        else:
            rounded = rewrite(model)
            counted, stored = onnx_file.tidy(rounded), onnx_file.tidy(packing.packed(rounded))
        content = stored.SerializeToString(deterministic=True)
        numbers = onnx_file.stored_numbers(counted), onnx_file.lstm_numbers(counted)
        return cls("onnx", content, *numbers, onnx_file.graph_sha256(counted), _onnx_run(content), onnx_file.opset_of(stored))

    @classmethod
    def npu(cls, model: onnx.ModelProto, content: bytes, opset: int) -> Part:
        """content: a .rknn file of the model's network, exported with an opset that the converter reads

        The model is what is counted and what `run` runs: nothing here runs the file.
        """
        return replace(cls.of(model, None), suffix="rknn", content=content, opset=opset)

    @classmethod
    def predictor(cls, predictor: nn.Module, frames: int, features: int, rewrite: Rewrite | None, engine: str, bits: int) -> Part:
        """In the form that the engine runs; a graph is rounded by `rewrite`, numpy's file to `bits`."""
        if SUFFIXES["predictor"][engines_of(engine)["predictor"]] == "npz":
            return cls.numpy(predictor, frames, features, bits)
        return cls.of(onnx_file.predictor_model(predictor, frames, features), rewrite)

    @classmethod
    def numpy(cls, predictor: nn.Module, frames: int, features: int, bits: int) -> Part:
        made = numpy_file.NumpyPredictor.of(predictor, frames, features, bits)
        graph_key = digest([str(module) for module in predictor.modules()], bits)
        return cls("npz", made.content, made.numbers, made.lstm_numbers, graph_key, lambda given: numpy_file.logits(made.content, given))


def engines_of(engine: str) -> dict[str, str]:
    """{"extractor": name, "predictor": name} of an engine's name. raises: InputError"""
    first, plus, second = engine.partition("+")
    named = {"extractor": first, "predictor": second if plus else first}
    for part, name in named.items():
        if name not in SUFFIXES[part]:
            raise InputError(f"engine {engine!r}: no bundle is written for the {part} of {name!r} (known: {', '.join(SUFFIXES[part])})")
    return named


def features_of(extractor_model: onnx.ModelProto) -> int:
    """D, from the shape of an exported extractor's output."""
    return int(extractor_model.graph.output[0].type.tensor_type.shape.dim[1].dim_value)


def _onnx_run(content: bytes) -> Callable[[Float32], Float32]:
    """Loaded when it is first called: most parts are only counted."""
    loaded = functools.cache(lambda: session(content))

    def run(given: Float32) -> Float32:
        running = loaded()
        found: Float32 = running.run(None, {running.get_inputs()[0].name: given})[0]
        return found

    return run
