"""Channels of small weights keep what they say, however few bits and bytes they are stored in."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fercompress.compress.lowrank import low_rank
from fercompress.compress.static import outputs, rounded
from fercompress.export import onnx_file, packing
from fercompress.export.onnx_pack import coded_columns
from fercompress.tt.conv import TTConv2d
from fercompress.tt.weights import DenseWeight


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-3])
@pytest.mark.parametrize(("bits", "allowed"), [(8, 0.02), (4, 0.3)])
def test_the_relative_error_of_a_rounded_matrix_does_not_depend_on_its_size(spread, bits, allowed):
    torch.manual_seed(0)
    value = torch.randn(64, 96) * spread
    weight = DenseWeight(value)
    weight.quantize_(bits)
    assert (weight.dense() - value).norm() < allowed * value.norm()
    coded = coded_columns(value.T.numpy(), bits)
    decoded = (coded.codes.astype(np.float32) * coded.scales.astype(np.float32)).reshape(96, 64)
    assert np.linalg.norm(decoded - value.T.numpy()) < allowed * float(value.norm())


@pytest.mark.parametrize("bits", [8, 4])
def test_packing_silences_no_channel_whose_scale_float16_does_not_hold(bits):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 64, 3)
    with torch.no_grad():
        conv.weight[:16] *= 1e-5
        conv.bias[:16] = 0.5
    frames = np.random.default_rng(0).standard_normal((12, 4, 8, 8)).astype(np.float32)
    plain = onnx_file.extractor_model(nn.Sequential(conv).eval(), 4, 8)
    graph = rounded(plain, frames[:8], frames[8:], 7, bits).model
    wanted, stored = outputs(graph, frames[8:]), outputs(onnx_file.tidy(packing.packed(graph)), frames[8:])
    assert np.abs(stored - wanted).max() < 0.02 * np.abs(wanted).max()


class Twice(nn.Module):
    """One convolution in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared = nn.Conv2d(1, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)
        self.again = self.shared
        self.unused = nn.Conv2d(64, 64, 3)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.again(torch.relu(self.shared(torch.relu(self.first(frames)))))


def test_a_convolution_used_twice_is_made_low_rank_once_and_one_that_never_runs_is_left_alone():
    torch.manual_seed(0)
    dense = Twice().eval()
    compressed = low_rank(dense, 2.0, torch.randn(4, 1, 8, 8))
    assert compressed.again is compressed.shared
    assert isinstance(compressed.shared, TTConv2d)
    assert isinstance(compressed.unused, nn.Conv2d)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_convolution_used_twice_is_rounded_and_packed(bits):
    torch.manual_seed(0)
    frames = np.random.default_rng(0).standard_normal((12, 1, 8, 8)).astype(np.float32)
    plain = onnx_file.extractor_model(Twice().eval(), 1, 8)
    graph = rounded(plain, frames[:8], frames[8:], 7, bits).model
    small = onnx_file.tidy(packing.packed(graph))
    onnx.checker.check_model(small)
    wanted = outputs(graph, frames[8:])
    assert np.abs(outputs(small, frames[8:]) - wanted).max() < 0.02 * np.abs(wanted).max()


def test_a_subclass_that_computes_its_kernel_is_not_taken_for_a_plain_convolution():
    class Standardised(nn.Conv2d):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return self._conv_forward(maps, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)

    extractor = nn.Sequential(Standardised(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3)).eval()
    compressed = low_rank(extractor, 2.0, torch.randn(4, 1, 12, 12))
    assert isinstance(compressed[0], Standardised)
    assert isinstance(compressed[2], TTConv2d)
