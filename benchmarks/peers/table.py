"""The table of comparisons: every line is contestants that run in the same rounds, and what is wanted of ours. To add one, add a `Row`."""

from __future__ import annotations

import itertools
from typing import Any

from peers import decomposition, extractor, memory, predictor, projection, training
from peers.contest import Goal, Row

_ORT = ("onnx", "onnxruntime", "torch")
_PEERS = ("torch", "tensorly", "cotengra", "opt-einsum", "tensorly-torch", "tntorch", "torchTT", "tensornetwork", "autoray")

PREDICTOR, BALANCED, GRID = "clip predictor, asymmetric", "clip predictor, balanced", "never slower"
PROJECTION, TRAINING, MEMORY = "projection, same cores", "training step", "peak training memory"
DECOMPOSITION, EXTRACTOR = "TT-SVD", "extractor"


def _predictor(features: int, last: int | None, against_fp32: float, against_int8: float | None) -> Row:
    shape = {
        "features": features,
        "hidden": 256,
        "rank": 4,
        "last": last,
        "frames": 16,
        "batch": 1,
        "clips": 256,
        "with_int8": against_int8 is not None,
    }
    goals = [Goal((predictor.FP32,), against_fp32)]
    if against_int8 is not None:
        goals.append(Goal((predictor.INT8,), against_int8))
    return Row(PREDICTOR, f"D = {features}", predictor.OURS, tuple(goals), shape, _ORT, predictor.asymmetric)


def _balanced(inputs: list[int], outputs: list[int], features: int, against_fp32: float, against_int8: float) -> Row:
    shape = {"outputs": outputs, "inputs": inputs, "rank": 4, "frames": 16, "batch": 1, "clips": 256}
    goals = (Goal((predictor.FP32,), against_fp32), Goal((predictor.INT8,), against_int8))
    return Row(BALANCED, f"D = {features}", predictor.OURS, goals, shape, _ORT, predictor.balanced, "four cores alike, as Yang et al. 2017")


def _grid() -> list[Row]:
    """As planned by the library, against the faster of onnxruntime's fp32 and int8 LSTM; no interval may lie wholly below 1."""
    rows = []
    for features, hidden, rank, frames, batch in itertools.product((128, 512, 2048, 8192), (64, 256), (2, 8), (4, 32), (1, 8)):
        shape: dict[str, Any] = {"features": features, "hidden": hidden, "rank": rank, "last": None, "frames": frames, "batch": batch, "clips": 32}
        name = f"asymmetric, D = {features}, H = {hidden}, r = {rank}, T = {frames}, batch {batch}"
        rows.append(Row(GRID, name, predictor.OURS, (Goal((predictor.FP32, predictor.INT8), 1.0),), shape, _ORT, predictor.asymmetric))
    for (features, inputs), (hidden, outputs), frames in itertools.product(
        ((256, [4, 4, 4, 4]), (1296, [6, 6, 6, 6]), (4096, [8, 8, 8, 8])), ((64, [4, 4, 4, 4]), (256, [4, 4, 8, 8])), (4, 32)
    ):
        shape = {"outputs": outputs, "inputs": inputs, "rank": 4, "frames": frames, "batch": 1, "clips": 32}
        name = f"balanced, D = {features}, H = {hidden}, r = 4, T = {frames}, batch 1"
        rows.append(Row(GRID, name, predictor.OURS, (Goal((predictor.FP32, predictor.INT8), 1.0),), shape, _ORT, predictor.balanced))
    return rows


def _projection(name: str, rows: int, against_cotengra: float, against_others: float, prepare: Any) -> Row:
    shape = {"outputs": [4, 4, 8, 8], "inputs": [8, 8, 8, 8], "rank": 4, "rows": rows}
    others = [Goal((peer,), against_others) for peer in projection.OTHERS]
    absent = [Goal((peer,), against_others) for peer in projection.ABSENT]
    goals = (Goal(projection.COTENGRA, against_cotengra), *others, Goal((projection.DENSE,), None), *absent)
    return Row(PROJECTION, name, projection.OURS, goals, shape, _PEERS, prepare, "4096 -> 1024, four balanced cores, rank 4")


def _training(features: int, hidden: int, last: int | None, against_plain: float, against_best: float) -> Row:
    shape = {"features": features, "hidden": hidden, "rank": 4, "last": last, "frames": 16, "batch": 32}
    goals = (Goal((training.PLAIN,), against_plain), Goal((training.PLAIN, *training.BEST_DENSE), against_best))
    return Row(TRAINING, f"D = {features}, H = {hidden}", training.OURS, goals, shape, ("torch",), training.contest, "batch 32, T = 16, fused Adam")


def _decomposition(features: int, outputs: list[int], inputs: list[int], at_least: float) -> Row:
    goals = (Goal((decomposition.TENSORLY,), at_least),)
    shape = {"outputs": outputs, "inputs": inputs, "rank": 4}
    layout = "asymmetric" if outputs[-1] == 1 else "balanced"
    return Row(DECOMPOSITION, f"1024 x {features}, {layout}", decomposition.OURS, goals, shape, ("torch", "tensorly", "numpy"), decomposition.contest)


def _extractor(zoo: str, channels: int, size: int, ratio: float) -> Row:
    shape = {"zoo": zoo, "channels": channels, "size": size, "ratio": ratio}
    goals = (Goal((extractor.FP32,), 4.0), Goal((extractor.INT8,), None))
    note = f"kernels stored in 1/{ratio:g} of the numbers; speed only, accuracy is a study's to say"
    return Row(EXTRACTOR, f"{zoo}, {channels} x {size} x {size}", extractor.OURS, goals, shape, _ORT, extractor.contest, note)


TABLE: tuple[Row, ...] = (
    _predictor(512, None, 3.0, 1.2),
    _predictor(4096, 256, 12.0, 4.5),
    _predictor(25088, 512, 32.0, 15.0),
    _predictor(57600, 256, 50.0, None),
    _balanced([8, 8, 8, 8], [4, 4, 8, 8], 4096, 6.0, 2.3),
    _balanced([14, 16, 14, 8], [4, 4, 8, 8], 25088, 10.0, 5.0),
    _projection("16 rows, forward", 16, 1.3, 3.5, projection.forward),
    _projection("512 rows, forward and backward", 512, 1.0, 2.0, projection.forward_backward),
    _training(512, 128, None, 1.7, 1.7),
    _training(2048, 256, 512, 5.0, 3.0),
    _training(25088, 256, 512, 11.0, 5.0),
    Row(
        MEMORY,
        "D = 25088, H = 256",
        training.OURS,
        (Goal((training.PLAIN,), 7.0),),
        {"features": 25088, "hidden": 256, "rank": 4, "last": 512, "frames": 16, "batch": 32},
        ("torch",),
        memory.contest,
        "VmHWM of three steps beyond the input's process, fresh process per sample",
        least_rounds=6,  # a sample takes many seconds, and pages do not depend on the machine's load
    ),
    _decomposition(512, [4, 4, 8, 8], [4, 4, 4, 8], 10.0),
    _decomposition(4096, [4, 4, 8, 8], [8, 8, 8, 8], 20.0),
    _decomposition(25088, [4, 4, 8, 8], [14, 16, 14, 8], 30.0),
    _decomposition(512, [32, 32, 1], [8, 4, 16], 10.0),
    _decomposition(4096, [32, 32, 1], [4, 4, 256], 20.0),
    _decomposition(25088, [32, 32, 1], [7, 7, 512], 30.0),
    _extractor("vgg16-face", 1, 64, 4.0),
    _extractor("resnet18", 3, 112, 4.0),
    *_grid(),
)
