"""A product's own `.rknn` extractor: the file, its predictor and what a person states of it in, a bundle out that only a board can run.

An `.rknn` file tells no shapes, no input type and no normalisation, and nothing here can run it: all of that is stated, and a board proves it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime

from fercompress.errors import BundleError
from fercompress.export import onnx_file
from fercompress.export.bundle import ENGINE, SCHEMA
from fercompress.export.foreign import labels_of, predictor_part, stored
from fercompress.export.foreign_axes import CHANNELS, Wishes
from fercompress.export.foreign_file import File, axes_text, opened_predictor
from fercompress.records import Bundle, Preprocess, Size, digest


@dataclass(frozen=True)
class Npu:
    """channels, dtype: of the frames (1, side, side, channels) that the file takes: uint8 where mean and std are in the file, else float32

    features: that it gives for a frame, None: as many as the predictor's file says; engine: "rknnlite", or "rknn" for the full toolkit
    """

    channels: int = 1
    dtype: Literal["uint8", "float32"] = "uint8"
    features: int | None = None
    engine: Literal["rknnlite", "rknn"] = "rknnlite"


def imported(extractor: Path, predictor: Path, wishes: Wishes, npu: Npu, root: Path) -> Bundle:
    """A folder below root; the predictor runs once, on random features. raises: BundleError"""
    try:
        content = extractor.read_bytes()
    except OSError as error:
        raise BundleError(f"{extractor}: cannot be read ({error.strerror})") from error
    if not content:
        raise BundleError(f"{extractor}: is empty; convert the model again")
    if wishes.side is None:
        raise BundleError(f"{extractor}: an .rknn file does not tell its picture's size: give it with --side")
    _check(extractor, wishes, npu)
    second = opened_predictor(predictor)
    frames, features = _ends(extractor, second, wishes, npu)
    shape = (1, frames, features)
    logits = second.run(np.random.default_rng(0).random(shape, dtype=np.float32))
    labels = labels_of(second, logits, wishes)
    contents = {"extractor.rknn": content, "predictor.onnx": second.path.read_bytes(), **second.extra}
    engine = f"{npu.engine}+{ENGINE}"
    initializers = second.model.graph.initializer
    numbers = sum(math.prod(tensor.dims) for tensor in initializers if tensor.data_type != onnx.TensorProto.INT64)
    # What the extractor stores is not known: 0.
    size = Size(0, 0, onnx_file.lstm_numbers(second.model), 0, 0, numbers, 0, len(content), sum(map(len, contents.values())) - len(content))
    frame = [1, npu.channels, wishes.side, wishes.side]
    manifest: dict[str, Any] = {
        "schema": SCHEMA, "variant": wishes.name, "engine": engine, "foreign": True, "one_file": False,
        "graph_key": digest(engine, asdict(npu), frame, onnx_file.graph_sha256(second.model)),
        "recipe": [], "way": f"imported: {extractor.name}, {predictor.name}",
        "preprocess": asdict(Preprocess(wishes.mean, wishes.std, difference=npu.channels == 2)), "frames": frames, "calls": frames,
        "size_px": wishes.side, "classes": list(labels), "size": asdict(size), "layers": [],
        "checks": {"extractor": "stated, not run: an .rknn file runs on a board alone"},
        "opset": onnx_file.opset_of(second.model),
        "made_with": {"onnxruntime": onnxruntime.__version__, "predictor.onnx by": second.model.producer_name or "?"},
        "extractor": {
            "file": "extractor.rknn", "engine": npu.engine,
            # As in every bundle the shape has the channels first; in the file's own call they come last.
            "input": {
                "name": "frame", "shape": frame, "dtype": npu.dtype, "layout": "nhwc", "channels": npu.channels,
                "picture": [wishes.side, wishes.side],
            },
            "output": {"name": "features", "shape": [1, features], "dtype": "float32"},
        },
        "predictor": predictor_part(second, shape, "NTD", logits),
    }  # fmt: skip
    return stored(root, manifest, contents)


def _check(extractor: Path, wishes: Wishes, npu: Npu) -> None:
    if npu.channels not in CHANNELS:
        raise BundleError(f"{extractor}: --channels {npu.channels}: clips here are grey: 1, 2 (with the difference) or 3 (grey thrice)")
    if npu.dtype == "uint8" and npu.channels == 2:
        raise BundleError(f"{extractor}: takes uint8 with 2 channels: a difference between frames is no uint8; give --input-dtype float32")
    if npu.dtype == "uint8" and (wishes.mean, wishes.std) != (0.0, 1.0):
        raise BundleError(f"{extractor}: takes the pixels themselves, mean and std are in the file: leave --mean and --std out")
    if wishes.layout:
        raise BundleError(f"{extractor}: --layout is for ONNX files: an .rknn file takes (1, rows, columns, channels)")


def _ends(extractor: Path, predictor: File, wishes: Wishes, npu: Npu) -> tuple[int, int]:
    """Frames of a clip and features of a frame, as the predictor's input and the wishes say them."""
    batch, frames, *rest = predictor.shape
    if batch not in (None, 1) or len(rest) != 1:
        raise BundleError(f"{predictor.path}: takes {axes_text(predictor.shape)}; after an .rknn file a predictor takes (1, T, features)")
    features = rest[0] or npu.features
    if features is None:
        raise BundleError(f"{predictor.path}: leaves open how many features {extractor.name} gives for a frame: give it with --features")
    if npu.features not in (None, features):
        raise BundleError(f"--features {npu.features}: {predictor.path} takes {axes_text(predictor.shape)}, {features} for a frame")
    return frames or wishes.frames, features
