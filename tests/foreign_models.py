"""Small ONNX models as a product might have them, and what they compute, by numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

T, SIDE, D, K = 4, 8, 5, 4
RNG = np.random.default_rng(7)
FIRST = {channels: RNG.normal(size=(channels * SIDE * SIDE, D)).astype(np.float32) for channels in (1, 2, 3)}
SECOND = RNG.normal(size=(D, K)).astype(np.float32)


def save(
    path: Path,
    nodes: list[Any],
    shape: tuple[Any, ...],
    weight: Any,
    *,
    kind: int = TensorProto.FLOAT,
    gives: int = TensorProto.FLOAT,
    more: Any = (),
    **options: Any,
) -> Path:
    """Input "x" of this shape, constants "w" and `more`, output "y"; a text in the shape leaves that axis open."""
    constants = [numpy_helper.from_array(weight, "w"), *(numpy_helper.from_array(np.asarray(value), name) for name, value in dict(more).items())]
    ends = [helper.make_tensor_value_info("x", kind, list(shape)), helper.make_tensor_value_info("y", gives, None)]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], constants), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, **options)
    return path


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def extractor(
    path: Path, shape: tuple[Any, ...] = (1, 1, SIDE, SIDE), channels: int = 1, order: tuple[int, ...] = (0, 1, 2, 3), **options: Any
) -> Path:
    """order: the transposition that makes NCHW of the input"""
    nodes = [node("Transpose", "x", "t", perm=order), node("Flatten", "t", "f"), node("MatMul", "f w", "y")]
    return save(path, nodes, shape, FIRST[channels], **options)


def predictor(path: Path, shape: tuple[Any, ...] = (1, T, D), time: int = 1, features: int = 2, weight: Any = SECOND) -> Path:
    """The mean over time, then a product; time, features: which axes these are."""
    batch = 3 - time - features
    nodes = [
        node("Transpose", "x", "t", perm=(batch, time, features)),
        node("ReduceMean", "t", "m", axes=[1], keepdims=0),
        node("MatMul", "m w", "y"),
    ]
    return save(path, nodes, shape, weight)


def whole(path: Path, shape: tuple[Any, ...] = (1, T, 1, SIDE, SIDE), order: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Path:
    nodes = [
        node("Transpose", "x", "t", perm=order),
        node("Reshape", "t rows", "f"),
        node("MatMul", "f w", "g"),
        node("Unsqueeze", "g zero", "u"),
        node("ReduceMean", "u", "m", axes=[1], keepdims=0),
        node("MatMul", "m second", "y"),
    ]
    more = {"rows": np.array([-1, SIDE * SIDE]), "zero": np.array([0]), "second": SECOND}
    return save(path, nodes, shape, FIRST[1], more=more)


def busy(path: Path, out: Path, products: int) -> Path:
    """The same answers after so many products of 64 x 64 matrices more, none of which a runtime can leave out."""
    model = onnx.load(path)
    graph, rotation = model.graph, np.linalg.qr(RNG.normal(size=(64, 64)))[0].astype(np.float32)
    graph.node[-1].output[0] = "answer"
    graph.initializer.extend([numpy_helper.from_array(rotation, "rotation"), numpy_helper.from_array(np.float32(0), "nought")])
    nodes = [node("ReduceMean", "x", "mean", keepdims=0), node("Mul", "mean rotation", "busy0")]
    nodes += [node("MatMul", f"busy{step} rotation", f"busy{step + 1}") for step in range(products)]
    nodes += [node("ReduceMean", f"busy{products}", "last", keepdims=0), node("Mul", "last nought", "zero_"), node("Add", "answer zero_", "y")]
    graph.node.extend(nodes)
    onnx.save(model, out)
    return out


def expected(frames: Any, channels: int = 1, mean: float = 0.0, std: float = 1.0) -> Any:
    """frames: uint8 (N, T, H, W); returns float64 (N, K)"""
    part = frames.astype(np.float64) / 255
    planes = [(part - mean) / std]
    if channels == 2:
        planes.append((part - part[:, :1]) / std)
    planes = planes * (channels // len(planes))
    pixels = np.stack(planes, axis=2).reshape(len(frames), T, -1)
    return (pixels @ FIRST[channels]).mean(axis=1) @ SECOND
