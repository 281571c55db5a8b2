"""CNN extractors: one frame in, one feature map out.

Every extractor is an `nn.Module` that maps float32 (N, channels, H, W) to float32 (N, c, h, w). `flatten` turns the map into the
predictor's features, channels last: D = h * w * c, index (y * w + x) * c + channel, so that a tensor train's last input mode can be the channels.
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
    """The default: 75 to 77 thousand parameters, 2.6 M multiplications a 64 x 64 frame, (256, 4, 4) maps: D = 4096.

    The first convolution strides by four: half the time of training went into the large maps of two gentler ones, at equal accuracy.
    """
    stem = nn.Sequential(nn.Conv2d(channels, 32, 8, stride=4, padding=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
    return nn.Sequential(stem, _conv(32, 64, stride=2), _conv(64, 64, stride=2), _conv(64, 256, kernel=1))


class _InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018): 1x1 widen, 3x3 depthwise, 1x1 narrow without activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int = 4) -> None:
        super().__init__()
        wide = inputs * expansion
        self.body = nn.Sequential(
            _conv(inputs, wide, kernel=1),
            _conv(wide, wide, stride=stride, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.adds else y


def mobilenet_like(channels: int) -> nn.Module:
    """Inverted residuals, 256-channel maps at 1/16 of the side: D = 4096 at 64 x 64."""
    widths = [(16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 48, 2), (48, 48, 1), (48, 96, 2), (96, 96, 1)]
    return nn.Sequential(_conv(channels, 16, stride=2), *(_InvertedResidual(*row) for row in widths), _conv(96, 256, kernel=1))


class _BasicBlock(nn.Module):
    """ResNet's two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(inputs, outputs, stride=stride), nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        )
        straight = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if straight else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18(channels: int) -> nn.Module:
    """ResNet-18 without its pooling and classifier: (512, side/32, side/32) maps, D = 2048 at 64 x 64."""
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    return nn.Sequential(_conv(channels, 64, kernel=7, stride=2), nn.MaxPool2d(3, 2, padding=1), *(_BasicBlock(*row) for row in widths))


def vgg16_face(channels: int) -> nn.Module:
    """VGG-16's thirteen convolutions (Simonyan and Zisserman 2015; VGG-Face, Parkhi et al. 2015): D = 25088 = 7 * 7 * 512 at 224 x 224."""
    layers: list[nn.Module] = []
    for depth, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(depth):
            layers.append(_conv(channels, width))
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
