"""Published networks as tables of layers, written down from their papers: what the board model is calibrated and validated on.

A network is a list of `Layer` at batch 1 (fercompress.measure.simlayers); batch normalisation and ReLU are folded, other activations move numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fercompress.measure.simlayers import Layer, conv_kind


@dataclass
class Net:
    """Follows one feature map: `c` channels of side `hw`, and collects layers."""

    c: int
    hw: int
    layers: list[Layer] = field(default_factory=list)

    def conv(self, out: int, k: int, stride: int = 1, groups: int = 1, pad: int | None = None, source: int | None = None) -> Net:
        """source: channels of the input where it is not what the last layer gave; pad None keeps the side but for the stride"""
        c = source or self.c
        pad = k // 2 if pad is None else pad
        hw = (self.hw + 2 * pad - k) // stride + 1
        weights = out * (c // groups) * k * k
        self.layers.append(Layer(conv_kind((k, k), (stride, stride), groups, c), weights * hw * hw, weights + out, c * self.hw**2, out * hw**2))
        self.c, self.hw = out, hw
        return self

    def pool(self, k: int, stride: int, pad: int = 0, up: bool = True) -> Net:
        """up: whether a window that sticks out counts (Caffe's way)"""
        before = self.c * self.hw**2
        span = self.hw + 2 * pad - k
        self.hw = (-(-span // stride) if up else span // stride) + 1
        return self.move(before, self.c * self.hw**2)

    def fc(self, out: int) -> Net:
        inputs = self.c * self.hw**2
        self.layers.append(Layer("linear", inputs * out, inputs * out + out, inputs, out))
        self.c, self.hw = out, 1
        return self

    def mean(self) -> Net:
        self.move(self.c * self.hw**2, self.c)
        self.hw = 1
        return self

    def move(self, inputs: float, outputs: float) -> Net:
        self.layers.append(Layer("move", 0, 0, inputs, outputs))
        return self

    def add(self) -> Net:
        return self.move(2 * self.c * self.hw**2, self.c * self.hw**2)

    def eltwise(self) -> Net:
        """A pass over the map that is not folded into its convolution."""
        return self.move(self.c * self.hw**2, self.c * self.hw**2)


def width8(channels: float) -> int:
    """MobileNet's rounding to a multiple of 8 (Sandler et al. 2018)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def mobilenet_v1(width: float = 1.0, size: int = 224, classes: int = 1000) -> list[Layer]:
    """Howard et al. 2017, table 1"""
    net = Net(3, size).conv(int(32 * width), 3, 2)
    for out, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        net.conv(net.c, 3, stride, net.c).conv(int(out * width), 1)
    return net.mean().fc(classes).layers if classes else net.layers


def ssd_mobilenet_v1(size: int = 300, classes: int = 21) -> list[Layer]:
    """Liu et al. 2016 on MobileNet v1 (Howard's feature maps: 19, 10, 5, 3, 2, 1), as chuanqi305's Caffe model"""
    net = Net(3, size).conv(32, 3, 2)
    maps = []
    for out, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        net.conv(net.c, 3, stride, net.c)
        net.conv(out, 1)
        if len(net.layers) == 1 + 2 * 11:
            maps.append((net.c, net.hw, 3))
    maps.append((net.c, net.hw, 6))
    for squeeze, out in [(256, 512), (128, 256), (128, 256), (64, 128)]:
        net.conv(squeeze, 1).conv(out, 3, 2)
        maps.append((net.c, net.hw, 6))
    for channels, side, boxes in maps:
        for out in (4 * boxes, classes * boxes):
            net.layers += Net(channels, side).conv(out, 1).layers
    return net.layers


def mobilenet_v2(width: float = 1.0, size: int = 224) -> list[Layer]:
    """Sandler et al. 2018, table 2"""
    net = Net(3, size).conv(width8(32 * width), 3, 2)
    for expand, out, repeats, first in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for index in range(repeats):
            stride, before = first if index == 0 else 1, net.c
            if expand > 1:
                net.conv(before * expand, 1)
            net.conv(net.c, 3, stride, net.c).conv(width8(out * width), 1)
            if stride == 1 and before == net.c:
                net.add()
    return net.conv(max(1280, width8(1280 * width)), 1).mean().fc(1000).layers


def squeezenet() -> list[Layer]:
    """Iandola et al. 2016, version 1.1, 227 x 227"""
    net = Net(3, 227).conv(64, 3, 2, pad=0).pool(3, 2)
    for squeeze, expand, pooled in [(16, 64, False), (16, 64, True), (32, 128, False), (32, 128, True),
                                    (48, 192, False), (48, 192, False), (64, 256, False), (64, 256, False)]:  # fmt: skip
        net.conv(squeeze, 1).conv(expand, 1).conv(expand, 3, source=squeeze)
        net.c = 2 * expand
        if pooled:
            net.pool(3, 2)
    return net.conv(1000, 1).mean().layers


def alexnet() -> list[Layer]:
    """Krizhevsky et al. 2012 as Caffe's bvlc_alexnet, 227 x 227, two groups"""
    net = Net(3, 227).conv(96, 11, 4, pad=0).eltwise().pool(3, 2).conv(256, 5, groups=2).eltwise().pool(3, 2)
    net.conv(384, 3).conv(384, 3, groups=2).conv(256, 3, groups=2).pool(3, 2)
    return net.fc(4096).fc(4096).fc(1000).layers


def vgg16() -> list[Layer]:
    """Simonyan and Zisserman 2014, configuration D"""
    net = Net(3, 224)
    for channels, repeats in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]:
        for _ in range(repeats):
            net.conv(channels, 3)
        net.pool(2, 2)
    return net.fc(4096).fc(4096).fc(1000).layers


def googlenet() -> list[Layer]:
    """Szegedy et al. 2014, table 1"""
    net = Net(3, 224).conv(64, 7, 2).pool(3, 2).eltwise().conv(64, 1).conv(192, 3).eltwise().pool(3, 2)
    for one, three_in, three, five_in, five, pool, pooled in [
        (64, 96, 128, 16, 32, 32, False), (128, 128, 192, 32, 96, 64, True),
        (192, 96, 208, 16, 48, 64, False), (160, 112, 224, 24, 64, 64, False), (128, 128, 256, 24, 64, 64, False),
        (112, 144, 288, 32, 64, 64, False), (256, 160, 320, 32, 128, 128, True),
        (256, 160, 320, 32, 128, 128, False), (384, 192, 384, 48, 128, 128, False),
    ]:  # fmt: skip
        c = net.c
        net.conv(one, 1, source=c).conv(three_in, 1, source=c).conv(three, 3).conv(five_in, 1, source=c).conv(five, 5)
        net.move(c * net.hw**2, c * net.hw**2).conv(pool, 1, source=c)
        net.c = one + three + five + pool
        if pooled:
            net.pool(3, 2)
    return net.mean().fc(1000).layers


def resnet18() -> list[Layer]:
    """He et al. 2015, table 1"""
    net = Net(3, 224).conv(64, 7, 2).pool(3, 2, 1, up=False)
    for stage, out in enumerate([64, 128, 256, 512]):
        for block in range(2):
            stride, before, side = (2 if stage and not block else 1), net.c, net.hw
            net.conv(out, 3, stride).conv(out, 3)
            if stride > 1:
                net.layers += Net(before, side).conv(out, 1, stride).layers
            net.add()
    return net.mean().fc(1000).layers


def resnet50(preactivated: bool = False) -> list[Layer]:
    """He et al. 2015, table 1, the stride on the first 1x1 (v1), or on the 3x3 with norms that cannot be folded (v2, He et al. 2016)"""
    net = Net(3, 224).conv(64, 7, 2).pool(3, 2, 1, up=False)
    for stage, (inner, repeats) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for block in range(repeats):
            stride, before, side = (2 if stage and not block else 1), net.c, net.hw
            if preactivated:
                net.eltwise()
            net.conv(inner, 1, 1 if preactivated else stride).conv(inner, 3, stride if preactivated else 1).conv(4 * inner, 1)
            if not block:
                net.layers += Net(before, side).conv(4 * inner, 1, stride).layers
            net.add()
    return net.mean().fc(1000).layers


def _silu(net: Net) -> None:
    """One pass over the map. Two (a sigmoid, then a product) made the calibrating yolov5s 76 % too slow beside its twin with ReLU."""
    net.eltwise()


def yolov5(depth: float, width: float, relu: bool = False) -> list[Layer]:
    """Ultralytics YOLOv5 6.0 at 640 x 640, models/yolov5{n,s,m}.yaml"""
    net = Net(3, 640)

    def unit(out: int, k: int, stride: int = 1, pad: int | None = None, source: int | None = None) -> None:
        net.conv(out, k, stride, pad=pad, source=source)
        if not relu:
            _silu(net)

    def ch(channels: int) -> int:
        return -(-int(channels * width) // 8) * 8

    def c3(out: int, repeats: int, residual: bool = True) -> None:
        before, half = net.c, out // 2
        unit(half, 1)
        for _ in range(max(1, round(repeats * depth))):
            unit(half, 1)
            unit(half, 3)
            if residual:
                net.add()
        unit(half, 1, source=before)
        unit(out, 1, source=2 * half)

    unit(ch(64), 6, 2, pad=2)
    kept: list[tuple[int, int]] = []
    for out, repeats in [(128, 3), (256, 6), (512, 9), (1024, 3)]:
        unit(ch(out), 3, 2)
        c3(ch(out), repeats)
        kept.append((net.c, net.hw))
    c = net.c
    unit(c // 2, 1)
    for _ in range(3):
        net.eltwise()  # 5x5 pooling, stride 1
    unit(c, 1, source=2 * c)
    up = []
    for out, (side_c, side_hw) in [(512, kept[2]), (256, kept[1])]:
        unit(ch(out), 1)
        up.append(net.c)
        net.hw = side_hw
        net.eltwise()  # the nearest neighbours
        net.c += side_c
        c3(ch(out), 3, residual=False)
    heads = [(net.c, net.hw)]
    for out, joined in [(256, up[1]), (512, up[0])]:
        unit(ch(out), 3, 2)
        net.c += joined
        c3(ch(2 * out), 3, residual=False)
        heads.append((net.c, net.hw))
    for c, hw in heads:
        net.layers += Net(c, hw).conv(255, 1).layers
    return net.layers


def yolov8(depth: float, width: float, most: int) -> list[Layer]:
    """Ultralytics YOLOv8 at 640 x 640, cfg/models/v8/yolov8.yaml; most: its max_channels"""
    net = Net(3, 640)

    def unit(out: int, k: int, stride: int = 1, source: int | None = None) -> None:
        net.conv(out, k, stride, source=source)
        _silu(net)

    def ch(channels: int) -> int:
        return -(-int(min(channels, most) * width) // 8) * 8

    def c2f(out: int, repeats: int, residual: bool) -> None:
        half, count = out // 2, max(1, round(repeats * depth))
        unit(out, 1)
        net.c = half
        for _ in range(count):
            unit(half, 3)
            unit(half, 3)
            if residual:
                net.add()
        unit(out, 1, source=(2 + count) * half)

    unit(ch(64), 3, 2)
    kept: list[tuple[int, int]] = []
    for out, repeats in [(128, 3), (256, 6), (512, 6), (1024, 3)]:
        unit(ch(out), 3, 2)
        c2f(ch(out), repeats, True)
        kept.append((net.c, net.hw))
    c = net.c
    unit(c // 2, 1)
    for _ in range(3):
        net.eltwise()
    unit(c, 1, source=2 * c)
    deepest, middle = (net.c, net.hw), (0, 0)
    for out, (side_c, side_hw) in [(512, kept[2]), (256, kept[1])]:
        net.hw = side_hw
        net.eltwise()
        net.c += side_c
        c2f(ch(out), 3, False)
        middle = (net.c, net.hw) if out == 512 else middle
    heads = [(net.c, net.hw)]
    for out, (joined, _) in [(256, middle), (512, deepest)]:
        unit(ch(out), 3, 2)
        net.c += joined
        c2f(ch(2 * out), 3, False)
        heads.append((net.c, net.hw))
    box, label = max(16, heads[0][0] // 4, 64), max(heads[0][0], 80)
    for c, hw in heads:
        for inner, out in [(box, 64), (label, 80)]:
            net.c, net.hw = c, hw
            unit(inner, 3)
            unit(inner, 3)
            net.conv(out, 1)
    return net.layers


NETWORKS: dict[str, Callable[[], list[Layer]]] = {
    "alexnet": alexnet,
    "googlenet": googlenet,
    "mobilenet v1": mobilenet_v1,
    "mobilenet v1 0.25-128": lambda: mobilenet_v1(0.25, 128),
    "mobilenet v2": mobilenet_v2,
    "mobilenet v2 1.4": lambda: mobilenet_v2(1.4),
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet50 v2": lambda: resnet50(preactivated=True),
    "squeezenet": squeezenet,
    "ssd mobilenet v1": ssd_mobilenet_v1,
    "vgg16": vgg16,
    "yolov5n": lambda: yolov5(0.33, 0.25),
    "yolov5s": lambda: yolov5(0.33, 0.50),
    "yolov5s relu": lambda: yolov5(0.33, 0.50, relu=True),
    "yolov5m": lambda: yolov5(0.67, 0.75),
    "yolov8n": lambda: yolov8(0.33, 0.25, 1024),
    "yolov8s": lambda: yolov8(0.33, 0.50, 1024),
    "yolov8m": lambda: yolov8(0.67, 0.75, 768),
}


def network(name: str, int8: bool = False) -> list[Layer]:
    """The network's layers, all of them on 8-bit numbers where int8."""
    return [replace(layer, int8=int8) for layer in NETWORKS[name]()]
