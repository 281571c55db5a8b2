"""CNN extractors: one frame in, one feature map out.

Every extractor is an `nn.Module` that maps float32 (N, channels, H, W) to float32 (N, c, h, w).
`flatten` turns the map into the predictor's features, channels last: D = h * w * c, index ((y * w) + x) * c + channel, so that a tensor train's last input mode can be the channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def flatten(feature_map: Tensor) -> Tensor:
    """(N, c, h, w) -> (N, h * w * c), channels last."""
    return feature_map.permute(0, 2, 3, 1).flatten(1)


def feature_size(extractor: nn.Module, channels: int, size: int) -> int:
    """D: how many features one (channels, size, size) frame becomes."""
    was_training = extractor.training
    extractor.eval()
    with torch.no_grad():
        features = flatten(extractor(torch.zeros(1, channels, size, size)))
    extractor.train(was_training)
    return int(features.shape[1])


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def small(channels: int) -> nn.Module:
    """The default: 77 thousand parameters, 3.4 M multiplications a 64 x 64 frame, (256, 4, 4) maps: D = 4096."""
    return nn.Sequential(
        _conv(channels, 16, stride=2), _conv(16, 32, stride=2), _conv(32, 64, stride=2), _conv(64, 64, stride=2), _conv(64, 256, kernel=1)
    )
