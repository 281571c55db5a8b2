import pytest
import torch
from torch import nn

from fercompress.compress.lowrank import input_moments, low_rank, supported
from fercompress.errors import ModelError
from fercompress.model import extractor as extractors
from fercompress.tt.conv import TTConv2d


@pytest.mark.parametrize("ratio", [1.5, 3.0, 8.0])
def test_the_kernels_shrink_by_the_ratio_and_the_feature_map_keeps_its_shape(ratio):
    torch.manual_seed(0)
    dense = extractors.small(2).eval()
    frames = torch.randn(8, 2, 64, 64)
    compressed = low_rank(dense, ratio, frames)
    before = sum(conv.weight.numel() for _, conv in supported(dense))
    after = sum(
        layer.stored_numbers if isinstance(layer := compressed.get_submodule(name), TTConv2d) else layer.weight.numel()
        for name, _ in supported(dense)
    )
    assert ratio <= before / after < 1.15 * ratio
    assert compressed(frames).shape == dense(frames).shape
    assert all(isinstance(layer, nn.Conv2d) for _, layer in supported(dense)), "the dense extractor must stay as it was"


def test_a_smaller_ratio_gives_closer_features():
    torch.manual_seed(0)
    dense = extractors.small(1).eval()
    frames = torch.randn(8, 1, 64, 64)
    with torch.no_grad():
        errors = [float((low_rank(dense, ratio, frames)(frames) - dense(frames)).square().mean()) for ratio in (1.3, 2.0, 5.0)]
    assert errors[0] < errors[1] < errors[2]


def test_depthwise_convolutions_stay_as_they_are():
    compressed = low_rank(extractors.mobilenet_like(1).eval(), 1.5, torch.randn(2, 1, 64, 64))
    assert any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in compressed.modules())
    assert not any(isinstance(layer, TTConv2d) and layer.in_channels == 1 and layer.kernel_size == (1, 1) for layer in compressed.modules())


def test_a_ratio_out_of_reach_says_what_can_be_reached():
    with pytest.raises(ModelError, match=r"ratio 1000 is out of reach: with rank 1 everywhere the kernels' ratio is \d"):
        low_rank(extractors.small(1).eval(), 1000, torch.randn(2, 1, 64, 64))


def test_an_extractor_without_a_convolution_is_refused():
    with pytest.raises(ModelError, match="no convolution"):
        low_rank(nn.Flatten(), 2, torch.randn(2, 1, 8, 8))


def test_moments_are_those_of_the_layer_s_own_input():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    frames = torch.randn(5, 3, 6, 6)
    read = torch.relu(model[0](frames)).detach().double().permute(0, 2, 3, 1).reshape(-1, 4)
    torch.testing.assert_close(input_moments(model, ["2"], frames)["2"], read.T @ read / len(read))
