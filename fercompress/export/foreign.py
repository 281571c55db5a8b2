"""A product's own files in, an ordinary bundle out, proven to run; what is not as it can be measured is a `BundleError` that says why."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from fercompress.errors import BundleError
from fercompress.export import onnx_file
from fercompress.export.agent_engine import AgentEngine
from fercompress.export.bundle import ENGINE, MANIFEST, SCHEMA, load, write_once
from fercompress.export.foreign_axes import Wishes, fitted, layout_of, lengths, random_input
from fercompress.export.foreign_file import File, opened, opened_predictor
from fercompress.records import Bundle, Preprocess, Size, digest


def imported(extractor: Path, predictor: Path, wishes: Wishes, root: Path) -> Bundle:
    """A folder below root made of a frame's extractor and a clip's predictor. raises: BundleError"""
    first, second = opened(extractor), opened_predictor(predictor)
    layout = layout_of(first, wishes)
    places, found, shape, order = fitted(first, second, layout, wishes)
    logits = second.run(np.random.default_rng(0).random(shape, dtype=np.float32))
    parts = {
        "extractor": _part("extractor.onnx", first, layout, places, found),
        "predictor": predictor_part(second, shape, order, logits),
    }
    return _written(root, wishes, {"extractor.onnx": first, "predictor.onnx": second}, parts, places, logits, one_file=False)


def imported_whole(model: Path, wishes: Wishes, root: Path) -> Bundle:
    """A folder below root made of one file from a clip's frames to its logits. raises: BundleError"""
    only = opened(model)
    layout = layout_of(only, wishes, whole=True)
    places = lengths(only, layout, wishes, only.shape[layout.index("T")] or wishes.frames)
    given = random_input(layout, places, only.dtype)
    logits = only.run(given)
    part = _part("model.onnx", only, layout, places, logits)
    passed = {"name": "frame", "shape": list(given.shape), "dtype": only.dtype}
    parts = {"extractor": {**part, "output": passed}, "predictor": part}
    return _written(root, wishes, {"model.onnx": only}, parts, places, logits, one_file=True)


def predictor_part(file: File, shape: Sequence[int], order: str, logits: Any) -> dict[str, Any]:
    """Of a manifest."""
    return {
        "file": "predictor.onnx",
        "engine": ENGINE,
        "input": {"name": file.name, "shape": list(shape), "dtype": "float32", "layout": order},
        "output": {"name": file.output, "shape": list(logits.shape), "dtype": str(logits.dtype)},
    }


def labels_of(last: File, logits: Any, wishes: Wishes) -> tuple[str, ...]:
    """The classes' names; logits: what the last file gave. raises: BundleError for what is not one number per class"""
    if not np.issubdtype(logits.dtype, np.floating):
        raise BundleError(
            f"{last.path}: {last.output} is {logits.dtype}: it gives labels, and one number per class is needed; export it without ArgMax"
        )
    if logits.size != logits.shape[-1]:
        raise BundleError(
            f"{last.path}: {last.output} is {logits.shape}: one row of numbers, one per class, is needed; an answer per frame is not measured"
        )
    labels = wishes.labels or tuple(f"class{number}" for number in range(logits.size))
    if len(labels) != logits.size or len(set(labels)) != len(labels):
        raise BundleError(f"--labels gives {len(set(labels))} different names, {last.path} gives {logits.size} numbers per clip")
    return labels


def stored(root: Path, manifest: Mapping[str, Any], contents: Mapping[str, bytes]) -> Bundle:
    """Written below root, with the sha256 of every file, and read back. raises: BundleError"""
    files = {name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in contents.items()}
    content = (json.dumps({**manifest, "files": files}, indent=1, sort_keys=True) + "\n").encode()
    folder = root / f"{manifest['variant']}-{hashlib.sha256(content).hexdigest()[:12]}"
    write_once(folder, {**contents, MANIFEST: content})
    return load(folder)


def _part(name: str, file: File, layout: str, places: Mapping[str, int], found: Any) -> dict[str, Any]:
    return {
        "file": name,
        "engine": ENGINE,
        "input": {
            "name": file.name,
            "shape": [places[axis] for axis in layout],
            "dtype": file.dtype,
            "layout": layout,
            "channels": places["C"],
            "picture": [places["H"], places["W"]],
        },
        "output": {"name": file.output, "shape": list(found.shape), "dtype": str(found.dtype)},
    }


def _written(
    root: Path, wishes: Wishes, files: Mapping[str, File], parts: Mapping[str, Any], places: Mapping[str, int], logits: Any, *, one_file: bool
) -> Bundle:
    labels = labels_of(list(files.values())[-1], logits, wishes)
    contents: dict[str, bytes] = {}
    for name, file in files.items():
        for each, content in {name: file.path.read_bytes(), **file.extra}.items():
            if contents.get(each, content) != content:
                raise BundleError(f"{file.path}: both files keep weights in {each!r}, and these differ; save each as one file (onnx.save)")
            contents[each] = content
    preprocess = Preprocess(wishes.mean, wishes.std, difference=places["C"] == 2)
    manifest: dict[str, Any] = {
        "schema": SCHEMA, "variant": wishes.name, "engine": ENGINE, "foreign": True, "one_file": one_file,
        "graph_key": digest(ENGINE, [onnx_file.graph_sha256(file.model) for file in files.values()]),
        "recipe": [], "way": f"imported: {', '.join(file.path.name for file in files.values())}",
        "preprocess": asdict(preprocess), "frames": places["T"], "calls": 1 if "T" in parts["extractor"]["input"]["layout"] else places["T"],
        "size_px": places["H"], "classes": list(labels),
        "size": asdict(_size(files, contents, one_file)), "layers": [], "checks": {},
        "opset": max(onnx_file.opset_of(file.model) for file in files.values()),
        "made_with": {"onnxruntime": onnxruntime.__version__, **{f"{name} by": file.model.producer_name or "?" for name, file in files.items()}},
        **parts,
    }  # fmt: skip
    made = stored(root, manifest, contents)
    clips = np.random.default_rng(1).integers(0, 256, (2, places["T"], places["H"], places["W"]), dtype=np.uint8)
    answers = AgentEngine(made).logits(clips)
    if not np.isfinite(answers).all():
        raise BundleError(
            f"{made.folder}: its answers to random frames are not finite: {answers[0].tolist()}; are --mean and --std what it was trained with?"
        )
    return made


def _size(files: Mapping[str, File], contents: Mapping[str, bytes], one_file: bool) -> Size:
    """The dense twins are not known: 0."""
    numbers = {
        name: sum(math.prod(tensor.dims) for tensor in file.model.graph.initializer if tensor.data_type != onnx.TensorProto.INT64)
        for name, file in files.items()
    }
    first = 0 if one_file else len(contents["extractor.onnx"]) + sum(map(len, files["extractor.onnx"].extra.values()))
    lstm = onnx_file.lstm_numbers(list(files.values())[-1].model)
    whole = sum(map(len, contents.values()))
    return Size(0, 0, lstm, 0, numbers.get("extractor.onnx", 0), sum(numbers.values()), 0, first, whole - first)
