"""Extractors on stock onnxruntime: low-rank convolutions rounded to int8 against the same network as it was, fp32 and int8."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fercompress.compress.quantize import this_cpu_bits
from fercompress.export.onnx_file import extractor_model
from fercompress.export.runtime import session
from fercompress.model.zoo import ZOO
from peers.contest import Call, Contest, NotAvailableError

OURS, FP32, INT8 = "fercompress low-rank int8", "onnxruntime fp32", "onnxruntime int8"


def contest(zoo: str, channels: int, size: int, ratio: float) -> Contest:
    """Random weights with calibrated batch norms: speed only. What the ranks cost in accuracy is for a study to say, not for this row."""
    try:
        from fercompress.compress import lowrank, static  # here, so that a version without them still runs the other rows
    except ImportError as error:
        raise NotAvailableError(f"this version cannot make low-rank convolutions ({error})") from error
    torch.set_num_threads(1)
    torch.manual_seed(0)
    frames = torch.rand(16, channels, size, size)
    extractor = _calibrated(ZOO[zoo](channels), frames)
    pixels, bits = frames.numpy(), this_cpu_bits()
    plain = extractor_model(extractor, channels, size)
    small = extractor_model(lowrank.low_rank(extractor, ratio, frames), channels, size)
    graphs = {
        FP32: plain,
        INT8: static.rounded(plain, pixels[:8], pixels[8:], bits).model,
        OURS: static.rounded(small, pixels[:8], pixels[8:], bits).model,
    }
    wanted, found = (static.outputs(graph, pixels[:4]) for graph in (plain, graphs[OURS]))
    facts = {
        "relative_error_of_features": float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)),
        "stored_bytes": {name: len(graph.SerializeToString()) for name, graph in graphs.items()},
    }
    return Contest({name: _call(graph.SerializeToString(), pixels[:1]) for name, graph in graphs.items()}, facts=facts)


def _calibrated(extractor: nn.Module, frames: torch.Tensor) -> nn.Module:
    extractor.train()
    with torch.no_grad():
        for _ in range(20):
            extractor(frames)
    return extractor.eval()


def _call(content: bytes, frame: np.ndarray) -> Call:
    ready = session(content)
    return lambda: ready.run(None, {"frame": frame})
