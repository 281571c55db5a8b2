"""What the tests of `predict` share: bundles of small random networks in several forms, and clips written as real videos."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import nn

from fercompress.compress.quantize import predictor_rewrite, rounded_cores
from fercompress.export import bundle
from fercompress.export.part import Rewrite
from fercompress.records import Bundle, Preprocess, UInt8
from fercompress.tt.layers import TTLSTM
from fercompress.tt.shape import asymmetric, balanced

CLASSES = ("calm", "glad", "sad")
FRAMES, SIDE = 6, 32
FORMS = ("dense", "tt", "tt-balanced", "numpy", "numpy-tt")
ROUNDED = ("dense-int8", "tt-int8")


class Predictor(nn.Module):
    def __init__(self, lstm: nn.Module, hidden: int, *, last: bool = True) -> None:
        super().__init__()
        self.lstm, self.classifier, self.last = lstm, nn.Linear(hidden, len(CLASSES)), last

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        states = self.lstm(features)[0]
        return self.classifier(states[:, -1] if self.last else states.mean(1))  # type: ignore[no-any-return]


def made(folder: Path, form: str, clips: UInt8, *, last: bool = True) -> Bundle:
    """A bundle of a random network below `folder`; clips: uint8 (n, FRAMES, SIDE, SIDE)"""
    torch.manual_seed(3)
    extractor = nn.Sequential(nn.Conv2d(2, 12, 5, stride=4, padding=2), nn.ReLU(), nn.AvgPool2d(2)).eval()
    features, hidden = 12 * 16, 16
    if "tt" in form:
        shape = balanced(64, features, 4, cores=3) if form == "tt-balanced" else asymmetric(64, features, 4, last=12)
        lstm: nn.Module = TTLSTM(features, hidden, shape, None, batch_first=True)
    else:
        lstm = nn.LSTM(features, hidden, batch_first=True)
    predictor: nn.Module = Predictor(lstm, hidden, last=last).eval()
    with torch.no_grad():
        predictor.classifier.weight.mul_(6)  # answers that differ from frame to frame
    rewrites: dict[str, Rewrite] = {}
    if form.endswith("int8"):
        predictor = rounded_cores(predictor, 7, 8)
        rewrites["predictor"] = predictor_rewrite(7)
    inputs = bundle.Inputs(Preprocess(0.4, 0.25, difference=True), FRAMES, SIDE, CLASSES)
    size = bundle.DenseSize.of(extractor, predictor, inputs)
    engine = "onnxruntime+numpy" if form.startswith("numpy") else "onnxruntime"
    return bundle.write(folder, form, extractor, predictor, inputs, size, clips, recipe=[], way="random", rewrites=rewrites, engine=engine)


def video(path: Path, frames: Sequence[UInt8] | UInt8, rate: int = 25) -> Path:
    """frames: uint8 (H, W) each, written as they are: FFV1 loses nothing"""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=Fraction(rate))
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = "gray"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="gray")))
        file.mux(stream.encode())
    return path
