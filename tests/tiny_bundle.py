"""A bundle small enough to be worked out by hand: Flatten + MatMul per frame, mean over time + MatMul."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fercompress.measure.board import Board
from fercompress.records import Bundle, Clips, Float32, Preprocess, Size, UInt8

FRAMES, SIDE, FEATURES, CLASSES = 3, 4, 5, ("calm", "glad", "sad")
PREPROCESS = Preprocess(mean=0.4, std=0.25, difference=True)
SIZE = Size(0, 0, 10, 10, 20, 30, 30, 100, 200)


def weights(seed: int = 0) -> tuple[Float32, Float32]:
    """float32 (2 * SIDE * SIDE, FEATURES) and (FEATURES, classes)"""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2 * SIDE * SIDE, FEATURES)).astype(np.float32), rng.normal(size=(FEATURES, len(CLASSES))).astype(np.float32)


def logits_by_numpy(frames: UInt8, extractor: Float32 | None = None, predictor: Float32 | None = None) -> npt.NDArray[np.float64]:
    """frames: uint8 (N, T, H, W); weights: of seed 0 where not given; returns (N, classes), in float64 from the preprocessed float32"""
    first = weights(0)[0] if extractor is None else extractor
    second = weights(0)[1] if predictor is None else predictor
    pixels = PREPROCESS(frames).astype(np.float64)
    return pixels.reshape(len(frames), FRAMES, -1).dot(first).mean(axis=1).dot(second)


def _graph(nodes: list[onnx.NodeProto], weight: Float32, source: tuple[str, list[int]], target: tuple[str, list[int]]) -> bytes:
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info(source[0], TensorProto.FLOAT, source[1])],
        [helper.make_tensor_value_info(target[0], TensorProto.FLOAT, target[1])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write(
    folder: Path,
    variant: str = "tiny",
    seed: int = 0,
    *,
    extractor_seed: int | None = None,
    predictor_scale: float = 1.0,
    engine: str = "onnxruntime",
    graph_key: str = "tiny",
    recipe: tuple[dict[str, object], ...] = (),
    predictor: bytes | None = None,
) -> Bundle:
    """predictor: its file's content, whatever it is; extractor_seed: of the extractor's weights alone, so that variants can share its file;
    predictor_scale: 0 gives all-zero logits
    """
    folder.mkdir(parents=True)
    first = weights(seed if extractor_seed is None else extractor_seed)[0]
    second = weights(seed)[1] * np.float32(predictor_scale)
    files = {
        "extractor.onnx": _graph(
            [helper.make_node("Flatten", ["frame"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["features"])],
            first, ("frame", [1, 2, SIDE, SIDE]), ("features", [1, FEATURES]),
        ),
        "predictor.onnx": _graph(
            [helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1], keepdims=0), helper.make_node("MatMul", ["mean", "w"], ["logits"])],
            second, ("features", [1, FRAMES, FEATURES]), ("logits", [1, len(CLASSES)]),
        ),
    }  # fmt: skip
    files["predictor.onnx"] = predictor or files["predictor.onnx"]
    for name, data in files.items():
        (folder / name).write_bytes(data)
    manifest = {
        "schema": 1, "variant": variant, "engine": engine, "graph_key": graph_key, "recipe": list(recipe), "way": "made by hand",
        "files": {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()},
        "extractor": {
            "file": "extractor.onnx",
            "input": {"name": "frame", "shape": [1, 2, SIDE, SIDE], "dtype": "float32"},
            "output": {"name": "features", "shape": [1, FEATURES], "dtype": "float32"},
        },
        "predictor": {
            "file": "predictor.onnx",
            "input": {"name": "features", "shape": [1, FRAMES, FEATURES], "dtype": "float32"},
            "output": {"name": "logits", "shape": [1, len(CLASSES)], "dtype": "float32"},
        },
        "preprocess": {"mean": PREPROCESS.mean, "std": PREPROCESS.std, "difference": PREPROCESS.difference},
        "frames": FRAMES, "size": SIDE, "classes": list(CLASSES),
    }  # fmt: skip
    text = json.dumps(manifest, sort_keys=True).encode()
    (folder / "manifest.json").write_bytes(text)
    return Bundle(folder, hashlib.sha256(text).hexdigest(), variant, engine, manifest, SIZE)


def modelless(board: Board) -> Board:
    """For bundles of the engine "null": the Python below a virtual environment starts in a tenth of a second, with nothing installed."""
    return board.model_copy(update={"engines": ("null",), "python": getattr(sys, "_base_executable", sys.executable)})


def clips(n: int = 12, seed: int = 0) -> Clips:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (n, FRAMES, SIDE, SIDE), dtype=np.uint8)
    names = tuple(f"clip{i}" for i in range(n))
    return Clips("tiny", frames, np.arange(n) % len(CLASSES), CLASSES, names, names, names, names, (0,) * n, f"tiny-{n}-{seed}", simulated=True)
