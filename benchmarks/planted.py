"""Twins of a bundle with a planted fault, to learn whether a gate finds it: the same answers, slower; or as fast, with answers that are worse."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

WIDTH = 64


def slower(bundle: Path, out: Path, products: int) -> Path:
    """A twin whose predictor multiplies its input, 64 numbers a row, `products` times by a 64 x 64 matrix more and adds nought times their mean.

    Its answers are equal. The features must be a multiple of 64.

    returns: the twin's folder
    """

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        source, target = graph.input[0].name, graph.output[0].name
        for node in graph.node:
            node.output[:] = ["planted_logits" if name == target else name for name in node.output]
        rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0]  # keeps numbers from growing
        graph.initializer.extend(
            [
                numpy_helper.from_array(np.array([-1, WIDTH], np.int64), "planted_shape"),
                numpy_helper.from_array(rotation.astype(np.float32), "planted_matrix"),
                numpy_helper.from_array(np.float32(0), "planted_nought"),
            ]
        )
        nodes = [helper.make_node("Reshape", [source, "planted_shape"], ["planted_0"])]
        nodes += [helper.make_node("MatMul", [f"planted_{step}", "planted_matrix"], [f"planted_{step + 1}"]) for step in range(products)]
        nodes += [
            helper.make_node("ReduceMean", [f"planted_{products}"], ["planted_mean"], keepdims=0),
            helper.make_node("Mul", ["planted_mean", "planted_nought"], ["planted_zero"]),
            helper.make_node("Add", ["planted_logits", "planted_zero"], [target]),
        ]
        graph.node.extend(nodes)

    return _twin(bundle, out, change)


def worse(bundle: Path, out: Path, noise: float, seed: int = 0) -> Path:
    """A twin that adds a number to every logit which depends on the clip and on `seed`, of standard deviation `noise` times a logit's spread of 1."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        source, target = graph.input[0], graph.output[0].name
        features, classes = source.type.tensor_type.shape.dim[2].dim_value, graph.output[0].type.tensor_type.shape.dim[1].dim_value
        for node in graph.node:
            node.output[:] = ["planted_logits" if name == target else name for name in node.output]
        rng = np.random.default_rng(seed)
        # A sine of a large random sum: as good as random, and the same for the same clip.
        weights = (rng.normal(size=(features, classes)) * 50).astype(np.float32)
        graph.initializer.extend(
            [numpy_helper.from_array(weights, "planted_weights"), numpy_helper.from_array(np.float32(noise * 2**0.5), "planted_size")]
        )
        graph.node.extend(
            [
                helper.make_node("ReduceMean", [source.name], ["planted_mean"], axes=[1], keepdims=0),
                helper.make_node("MatMul", ["planted_mean", "planted_weights"], ["planted_sum"]),
                helper.make_node("Sin", ["planted_sum"], ["planted_sine"]),
                helper.make_node("Mul", ["planted_sine", "planted_size"], ["planted_noise"]),
                helper.make_node("Add", ["planted_logits", "planted_noise"], [target]),
            ]
        )

    return _twin(bundle, out, change)


def _twin(bundle: Path, out: Path, change: object) -> Path:
    """The bundle's files with a changed predictor, and a manifest that knows it."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    name = manifest["predictor"]["file"]
    model = onnx.load(str(bundle / name))
    change(model)  # type: ignore[operator]
    onnx.checker.check_model(model)
    content = model.SerializeToString(deterministic=True)
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest["size"]["bytes_predictor"] = len(content)
    out.mkdir(parents=True)
    for other in manifest["files"]:
        (out / other).write_bytes(content if other == name else (bundle / other).read_bytes())
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return out
