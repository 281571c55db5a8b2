"""Bundles: a variant's networks in, a folder out that a target can run and that its content names."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from fercompress.errors import BundleError, DiskFullError, InputError
from fercompress.export import onnx_file
from fercompress.export.onnx_lstm import plan_of
from fercompress.export.part import SUFFIXES, Part, Rewrite, engines_of, features_of
from fercompress.export.rknn_file import Converted
from fercompress.records import Bundle, Preprocess, Size, UInt8, digest
from fercompress.tt.lstm import TTLSTMLayer
from fercompress.tt.weights import TTWeight

SCHEMA = 1
GENERATION = 3  # raised whenever the same networks would be written as other files: bundles of an older run are then made again
ENGINE = "onnxruntime"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Inputs:
    """What a bundle's graphs take and give: frames uint8 (T, size, size), preprocessed; one of `classes` comes out."""

    preprocess: Preprocess
    frames: int
    size: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class DenseSize:
    """How many numbers the teacher stores: what every variant's ratios are against."""

    params_lstm: int
    params_model: int

    @classmethod
    def of(cls, extractor: nn.Module, predictor: nn.Module, inputs: Inputs) -> DenseSize:
        """Counted in the teacher's own graphs, as a variant's are."""
        extractor_model = onnx_file.extractor_model(extractor, inputs.preprocess.channels, inputs.size)
        predictor_model = onnx_file.predictor_model(predictor, inputs.frames, features_of(extractor_model))
        whole = onnx_file.stored_numbers(extractor_model) + onnx_file.stored_numbers(predictor_model)
        return cls(onnx_file.lstm_numbers(predictor_model), whole)


def write(
    root: Path,
    variant: str,
    extractor: nn.Module,
    predictor: nn.Module,
    inputs: Inputs,
    dense: DenseSize,
    clips: UInt8,
    *,
    recipe: Sequence[Mapping[str, Any]],
    way: str,
    rewrites: Mapping[str, Rewrite] | None = None,
    checks: Mapping[str, Any] | None = None,
    engine: str = ENGINE,
    predictor_bits: int = 32,
    npu: Converted | None = None,
) -> Bundle:
    """Export both networks, compare them with torch, and write a new folder below root; the same content is written once.

    clips: uint8 (n, T, size, size), real ones: the largest differences of features and logits between torch and the engine stand in the manifest
    recipe: the variant's steps as JSON-able tables; rewrites: per "extractor" / "predictor" what rounds the exported graph
    checks: JSON-able, what was checked of the networks before export
    engine: that is to run it: "a", or "a+b" for a's extractor and b's predictor, see `engines_of`
    predictor_bits: of large matrices that no tensor train stores, where numpy runs the predictor (a rewrite rounds them in a graph)
    npu: the extractor as a .rknn file, where the engine is the NPU's; the agreement is then that of the graph it was made of
    raises: InputError for an engine that runs no such bundle, BundleError if root cannot be written, DiskFullError, ModelError for a network
    that cannot be exported
    """
    rewrites = rewrites or {}
    engines = engines_of(engine)
    extractor_model = onnx_file.extractor_model(extractor, inputs.preprocess.channels, inputs.size)
    if (SUFFIXES["extractor"][engines["extractor"]] == "rknn") != (npu is not None):
        raise InputError(f"engine {engine!r} {'needs' if npu is None else 'cannot run'} an extractor that was converted for the NPU")
    first = Part.of(extractor_model, rewrites.get("extractor")) if npu is None else Part.npu(extractor_model, npu.path.read_bytes(), npu.opset)
    features = features_of(extractor_model)
    second = Part.predictor(predictor, inputs.frames, features, rewrites.get("predictor"), engine, predictor_bits)
    parts = {"extractor": first, "predictor": second}
    size = _size(parts, predictor, dense)
    shapes = {
        "extractor": (("frame", [1, inputs.preprocess.channels, inputs.size, inputs.size]), ("features", [1, features])),
        "predictor": (("features", [1, inputs.frames, features]), ("logits", [1, len(inputs.classes)])),
    }
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "variant": variant,
        "engine": engine,
        "graph_key": digest(engine, list(recipe), shapes, [part.graph_key for part in parts.values()]),
        "recipe": list(recipe),
        "way": way,
        "files": {
            f"{name}.{part.suffix}": {"sha256": hashlib.sha256(part.content).hexdigest(), "bytes": len(part.content)} for name, part in parts.items()
        },
        "preprocess": asdict(inputs.preprocess),
        "frames": inputs.frames,
        "size_px": inputs.size,
        "classes": list(inputs.classes),
        "size": asdict(size),
        "layers": [
            {"name": name, **module.description, **_execution(module, inputs.frames)}
            for name, module in predictor.named_modules()
            if isinstance(module, TTLSTMLayer)
        ],
        "checks": dict(checks or {}),
        "agreement": _agreement(parts, extractor, predictor, inputs, clips),
        "opset": second.opset or first.opset,  # of the .onnx files; what a converted extractor was made of stands with it
        "made_with": {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }
    if npu is not None:
        manifest["made_with"]["converter"] = npu.toolkit
    for name, (source, target) in shapes.items():
        manifest[name] = {
            "file": f"{name}.{parts[name].suffix}",
            "engine": engines[name],
            "input": {"name": source[0], "shape": source[1], "dtype": "float32"},
            "output": {"name": target[0], "shape": target[1], "dtype": "float32"},
        }
    if npu is not None:
        # The shape is the graph's, as in every bundle; in the file's own call the channels come last.
        manifest["extractor"]["input"] |= {"dtype": npu.input_dtype, "layout": "nhwc"}
        manifest["extractor"]["opset"] = npu.opset
    content = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    sha256 = hashlib.sha256(content).hexdigest()
    folder = root / f"{variant}-{sha256[:12]}"
    write_once(folder, {**{f"{name}.{part.suffix}": part.content for name, part in parts.items()}, MANIFEST: content})
    return Bundle(folder, sha256, variant, engine, manifest, size)


def load(folder: Path) -> Bundle:
    """Read a bundle and check every file against its sha256. raises: BundleError, which names the file"""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({error.strerror}); a bundle is a folder with {MANIFEST} and the two files that it names"
        ) from error
    try:
        manifest = json.loads(content)
        schema, files = manifest["schema"], manifest["files"]
        size = Size(**manifest["size"])
        variant, engine = str(manifest["variant"]), str(manifest["engine"])
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: not a bundle's manifest ({error!r}); write the bundle again") from error
    if schema != SCHEMA:
        raise BundleError(f"{path}: manifest schema {schema}, but this version reads {SCHEMA}; upgrade fercompress or write the bundle again")
    for name, entry in files.items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise BundleError(f"{folder / name}: cannot be read ({error.strerror}); write the bundle again") from error
        if found != entry["sha256"]:
            raise BundleError(
                f"{folder / name}: sha256 is {found[:12]}..., the manifest says {entry['sha256'][:12]}...: "
                f"it changed; delete {folder} and run the same command again"
            )
    return Bundle(folder, hashlib.sha256(content).hexdigest(), variant, engine, manifest, size)


def predictor_bytes(predictor: nn.Module, frames: int, features: int, rewrite: Rewrite | None, engine: str = ENGINE, bits: int = 32) -> int:
    """Bytes of the file that `write` would make of a predictor."""
    return len(Part.predictor(predictor, frames, features, rewrite, engine, bits).content)


def extractor_bytes(extractor: nn.Module, channels: int, size: int, rewrite: Rewrite | None) -> int:
    """Bytes of the file that `write` would make of an extractor."""
    return len(Part.of(onnx_file.extractor_model(extractor, channels, size), rewrite).content)


def _size(parts: Mapping[str, Part], predictor: nn.Module, dense: DenseSize) -> Size:
    trains = [module for module in predictor.modules() if isinstance(module, TTWeight)]
    extractor_numbers = parts["extractor"].numbers
    return Size(
        params_tt=sum(train.stored_numbers for train in trains),
        params_tt_dense=sum(train.shape.rows * train.shape.columns for train in trains),
        params_lstm=parts["predictor"].lstm_numbers,
        params_lstm_dense=dense.params_lstm,
        params_extractor=extractor_numbers,
        params_model=extractor_numbers + parts["predictor"].numbers,
        params_model_dense=dense.params_model,
        bytes_extractor=len(parts["extractor"].content),
        bytes_predictor=len(parts["predictor"].content),
    )


def _execution(layer: TTLSTMLayer, frames: int) -> dict[str, Any]:
    """How the exported layer runs, apart from how it is stored, and what else it could have been: modelled microseconds per clip."""
    plan = plan_of(layer, frames)
    if plan is None:
        return {"execution": "dense"}
    return {"execution": plan.chosen.name, "plan_us": {candidate.name: round(candidate.cost_ns / 1000, 1) for candidate in plan.candidates}}


def _agreement(parts: Mapping[str, Part], extractor: nn.Module, predictor: nn.Module, inputs: Inputs, clips: UInt8) -> dict[str, Any]:
    """Largest absolute differences between torch and the engine; the predictor is compared on torch's features, so that the parts are told apart."""
    pixels = inputs.preprocess(clips)
    extractor_worst, predictor_worst = 0.0, 0.0
    with torch.no_grad():
        for clip in pixels:
            maps = extractor.eval()(torch.from_numpy(clip).clone())  # torch's memory is aligned: the last digits depend on it
            features = maps.permute(0, 2, 3, 1).flatten(1)
            found = np.concatenate([parts["extractor"].run(frame[None]) for frame in clip])
            extractor_worst = max(extractor_worst, float(np.abs(found - features.numpy()).max()))
            logits = predictor.eval()(features[None]).numpy()
            found = parts["predictor"].run(features[None].numpy())
            predictor_worst = max(predictor_worst, float(np.abs(found - logits).max()))
    # Two digits say it all, and equal weights keep giving equal manifests.
    return {"extractor_max_abs": float(f"{extractor_worst:.1e}"), "predictor_max_abs": float(f"{predictor_worst:.1e}"), "clips": len(clips)}


def write_once(folder: Path, files: Mapping[str, bytes]) -> None:
    """All files or no folder: written beside, then renamed."""
    if folder.is_dir():
        load(folder)  # a damaged copy must not stand in for the one asked for
        return
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
        for name, content in files.items():
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if folder.is_dir():
            return  # another process wrote the same content first
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"{folder}: no space left to write the bundle; free {sum(map(len, files.values()))} bytes") from error
        raise BundleError(f"{folder}: cannot be written ({error.strerror}); choose an output folder that you may write") from error
