"""A convolution whose kernel is a tensor train: 1x1, k x k, 1x1 convolutions in its place, so that it runs and converts everywhere.

The kernel (outputs, inputs, kh, kw) is a train over the modes (inputs | kh * kw | outputs): core 1 (1, inputs, r1) is a 1x1 convolution to
r1 channels, core 2 (r1, kh * kw, r2) the spatial one, core 3 (r2, outputs, 1) a 1x1 convolution back (Tucker-2 of Kim et al. 2016).
A 1x1 kernel has one bond: two 1x1 convolutions. No channel and no weight is dropped: the product keeps every input and output.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fercompress.errors import ModelError, ShapeError


class TTConv2d(nn.Module):
    """Drop-in for `nn.Conv2d` without groups: float32 (N, inputs, H, W) -> (N, outputs, H', W').

    A core of full rank is square and is merged into the spatial one: a stem of 2 channels has two convolutions, not three.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        ranks: tuple[int, ...],
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        bias: bool = True,
    ) -> None:
        """ranks: (r1, r2), or (r,) for a 1x1 kernel. raises: ShapeError for a rank that is below 1 or above what the bond can use"""
        super().__init__()
        self.in_channels, self.out_channels, self.kernel_size, self.ranks = in_channels, out_channels, kernel_size, ranks
        largest = max_ranks(in_channels, out_channels, kernel_size)
        if len(ranks) != len(largest):
            raise ShapeError(f"a {kernel_size[0]} x {kernel_size[1]} kernel's train has {len(largest)} inner ranks, got {ranks}")
        for bond, (rank, most) in enumerate(zip(ranks, largest, strict=True), start=1):
            if not 1 <= rank <= most:
                raise ShapeError(
                    f"rank {rank} at bond {bond} of a ({out_channels}, {in_channels}, {kernel_size}) kernel: it must be from 1 to {most}"
                )
        geometry: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
        # The channels between the convolutions, and the place of the spatial one: a 1x1 kernel has none of its own, its first one strides.
        widths = (in_channels, *ranks, out_channels)
        self.spatial = 0
        steps: list[nn.Conv2d] = []
        if len(ranks) == 1:
            steps = [nn.Conv2d(widths[0], widths[1], 1, bias=False, **geometry), nn.Conv2d(widths[1], widths[2], 1, bias=bias)]
        else:
            last = widths[2] < widths[3]
            if widths[1] < widths[0]:
                steps.append(nn.Conv2d(widths[0], widths[1], 1, bias=False))
            self.spatial = len(steps)
            steps.append(nn.Conv2d(widths[1], widths[2], kernel_size, bias=bias and not last, **geometry))
            if last:
                steps.append(nn.Conv2d(widths[2], widths[3], 1, bias=bias))
        self.layers = nn.Sequential(*steps)

    @classmethod
    def from_dense(cls, conv: nn.Conv2d, ranks: tuple[int, ...], moment: Tensor | None = None) -> TTConv2d:
        """The TT-SVD of a kernel; with `moment`, of the kernel times its root: the error that counts is then the one at the output.

        moment: float (inputs, inputs), the second moment of the input's channels
        raises: ShapeError, ModelError for groups or another padding than zeros
        """
        check_supported(conv)
        kernel_size = (conv.kernel_size[0], conv.kernel_size[1])
        with torch.random.fork_rng(devices=[]):
            layer = cls(
                conv.in_channels, conv.out_channels, kernel_size, ranks,
                stride=_pair(conv.stride), padding=_pair(conv.padding), dilation=_pair(conv.dilation), bias=conv.bias is not None,
            )  # fmt: skip
        with torch.no_grad():
            for step, kernel in zip(layer.steps, layer._kernels(conv, moment), strict=True):
                step.weight.copy_(kernel)
            if conv.bias is not None:
                bias = layer.steps[-1].bias
                assert bias is not None
                bias.copy_(conv.bias)
        return layer.to(conv.weight.device).train(conv.training)

    def _kernels(self, conv: nn.Conv2d, moment: Tensor | None) -> list[Tensor]:
        """float64 kernels of `steps`, as nn.Conv2d keeps them."""
        root, inverse = _roots(conv.in_channels, moment)
        kernel = torch.einsum("ab,bko->ako", root, _train_order(conv))
        basis, values, rest = _svd(kernel.flatten(1), self.ranks[0])
        # The singular values' roots go to both sides: equal ranges for the rounding that may follow.
        first = inverse @ basis * values.sqrt()
        if len(self.ranks) == 1:
            return [first.T[:, :, None, None], (values.sqrt()[:, None] * rest).T[:, :, None, None]]
        # The second bond is cut while the first side is still orthonormal, or the error would be weighted (Oseledets 2011, alg. 1).
        area = math.prod(self.kernel_size)
        basis, more_values, last = _svd((values[:, None] * rest).reshape(self.ranks[0] * area, self.out_channels), self.ranks[1])
        if (lacking := self.ranks[1] - len(more_values)) > 0:  # the first bond has left fewer singular values than the second one may hold: zeros
            basis, more_values = functional.pad(basis, (0, lacking)), functional.pad(more_values, (0, lacking))
            last = functional.pad(last, (0, 0, 0, lacking))
        middle = (basis * more_values.sqrt()).reshape(self.ranks[0], area, self.ranks[1]) / values.sqrt().clamp_min(1e-12)[:, None, None]
        last = more_values.sqrt()[:, None] * last
        kernels = []
        if self.spatial:
            kernels.append(first.T[:, :, None, None])
        else:
            middle = torch.einsum("ir,rks->iks", first, middle)
        if self.ranks[1] == self.out_channels:
            middle = middle @ last
        kernels.append(middle.permute(2, 0, 1).reshape(middle.shape[2], middle.shape[0], *self.kernel_size))
        if self.ranks[1] < self.out_channels:
            kernels.append(last.T[:, :, None, None])
        return kernels

    def to_dense(self) -> nn.Conv2d:
        """The `nn.Conv2d` that computes the same."""
        spatial, last = self.steps[self.spatial], self.steps[-1]
        with torch.random.fork_rng(devices=[]):
            conv = nn.Conv2d(
                self.in_channels, self.out_channels, self.kernel_size, stride=_pair(spatial.stride), padding=_pair(spatial.padding),
                dilation=_pair(spatial.dilation), bias=last.bias is not None,
            )  # fmt: skip
        # (outputs, inputs, area): the 1x1 kernels on both sides are matrices.
        dense = spatial.weight.detach().double().flatten(2)
        for step in self.steps[: self.spatial]:
            dense = torch.einsum("ori,rc->oci", dense, step.weight.detach().double()[:, :, 0, 0])
        for step in self.steps[self.spatial + 1 :]:
            dense = torch.einsum("pr,rci->pci", step.weight.detach().double()[:, :, 0, 0], dense)
        with torch.no_grad():
            conv.weight.copy_(dense.reshape(conv.weight.shape))
            if conv.bias is not None:
                assert last.bias is not None
                conv.bias.copy_(last.bias)
        return conv.to(spatial.weight.device).train(self.training)

    @property
    def steps(self) -> list[nn.Conv2d]:
        """The plain convolutions that run, in order."""
        return [step for step in self.layers if isinstance(step, nn.Conv2d)]

    @property
    def stored_numbers(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, maps: Tensor) -> Tensor:
        result: Tensor = self.layers(maps)
        return result

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, ranks={self.ranks}"


def check_supported(conv: nn.Conv2d) -> None:
    """raises: ModelError if a train cannot stand in for this convolution"""
    if conv.groups != 1:
        raise ModelError(f"a convolution with {conv.groups} groups cannot be put into tensor-train form: its kernel is block-diagonal already")
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise ModelError(f"a convolution with padding {conv.padding!r} of mode {conv.padding_mode!r} cannot be put into tensor-train form")


def max_ranks(inputs: int, outputs: int, kernel_size: tuple[int, int]) -> tuple[int, ...]:
    """The largest useful rank of every inner bond."""
    area = math.prod(kernel_size)
    return (min(inputs, outputs),) if area == 1 else (min(inputs, area * outputs), min(outputs, area * inputs))


def numbers(inputs: int, outputs: int, kernel_size: tuple[int, int], ranks: tuple[int, ...]) -> int:
    """Numbers that a kernel's train holds, bias left aside; a core of full rank is merged and costs nothing."""
    if len(ranks) == 1:
        return ranks[0] * (inputs + outputs)
    left, right = ranks
    return (inputs * left if left < inputs else 0) + left * math.prod(kernel_size) * right + (right * outputs if right < outputs else 0)


def singular_values(conv: nn.Conv2d, moment: Tensor | None = None) -> tuple[Tensor, ...]:
    """Of the (whitened) kernel's unfolding at every inner bond: float64, descending; those beyond the ranks bound the error of `from_dense`."""
    root, _ = _roots(conv.in_channels, moment)
    kernel = torch.einsum("ab,bko->ako", root, _train_order(conv))
    bonds = [kernel.flatten(1)] if kernel.shape[1] == 1 else [kernel.flatten(1), kernel.flatten(0, 1)]
    return tuple(torch.linalg.svdvals(bond) for bond in bonds)


def _train_order(conv: nn.Conv2d) -> Tensor:
    """(outputs, inputs, kh, kw) -> float64 (inputs, kh * kw, outputs)."""
    return conv.weight.detach().double().permute(1, 2, 3, 0).flatten(1, 2)


def _roots(channels: int, moment: Tensor | None) -> tuple[Tensor, Tensor]:
    """The symmetric root of a moment and its inverse, float64; a thousandth of the mean is added, so that a silent channel keeps its weights."""
    if moment is None:
        eye = torch.eye(channels, dtype=torch.float64)
        return eye, eye
    if moment.shape != (channels, channels):
        raise ShapeError(f"the moment must be ({channels}, {channels}) like the convolution's input channels, got {tuple(moment.shape)}")
    values, vectors = torch.linalg.eigh(moment.detach().double().cpu())
    values = values.clamp_min(0) + 1e-3 * values.clamp_min(0).mean().clamp_min(1e-12)
    return (vectors * values.sqrt()) @ vectors.T, (vectors / values.sqrt()) @ vectors.T


def _svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The leading `rank` left vectors, values and right vectors."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank], s[:rank], v[:rank]


def _pair(value: Any) -> tuple[int, int]:
    first, second = value
    return int(first), int(second)
