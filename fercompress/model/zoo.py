"""The models that ship, as a plain table, and the way to bring one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from fercompress.model import extractor
from fercompress.model.predictor import LstmPredictor


@dataclass(frozen=True)
class Network:
    """extractor: float32 (N, channels, size, size) -> (N, c, h, w); predictor: float32 (B, T, D = h*w*c) -> (B, classes)."""

    extractor: nn.Module
    predictor: nn.Module


ZOO: dict[str, Callable[[int], nn.Module]] = {
    "small": extractor.small,
}


def build(zoo: str, channels: int, size: int, classes: int, hidden: int, dropout: float) -> Network:
    backbone = ZOO[zoo](channels)
    return Network(backbone, LstmPredictor(extractor.feature_size(backbone, channels, size), hidden, classes, dropout))
