import copy

import pytest
import torch
from torch import nn

from fercompress.compress import fakequant
from fercompress.compress.static import round_weight
from fercompress.errors import ModelError


@pytest.fixture
def extractor() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 6, 3)).eval()


def test_a_rounding_copy_computes_with_rounded_weights_and_the_way_back_gives_the_weights_unrounded(extractor):
    frames = torch.randn(2, 1, 9, 9)
    wanted = copy.deepcopy(extractor)
    student = fakequant.rounding(extractor, [4, 8], frames)
    torch.testing.assert_close(student[0].weight, round_weight(extractor[0].weight, 4))
    torch.testing.assert_close(student[3].weight, round_weight(extractor[3].weight, 8))
    back = fakequant.plain(student)
    assert back.state_dict().keys() == extractor.state_dict().keys()
    torch.testing.assert_close(back(frames), wanted(frames), rtol=0, atol=0)


def test_gradients_pass_straight_through_and_inputs_are_rounded_to_256_values(extractor):
    student = fakequant.rounding(extractor, [4, 4], torch.zeros(1, 1, 9, 9)).train()
    seen = []
    student[3].register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    student(torch.randn(8, 1, 9, 9)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in student.parameters())
    assert len(seen[0].unique()) <= 256


def _learning(student: nn.Module) -> nn.Module:
    """In training mode, but for the batch normalisation's statistics, which stay the teacher's."""
    student.train()
    for layer in student.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    return student


def test_training_with_rounding_learns_weights_that_bear_it_better(extractor):
    torch.manual_seed(1)
    # Smooth pictures: neighbouring weights can then make up for each other's rounding.
    frames = nn.functional.interpolate(torch.randn(128, 1, 3, 3), size=(9, 9), mode="bilinear")
    target = extractor(frames).detach()

    @torch.no_grad()
    def error(module: nn.Module) -> float:
        rounded = fakequant.rounding(module, [3, 3], frames[:1])
        _learning(rounded)(frames)  # the ranges of the inputs
        rounded.eval()
        return float((rounded(frames) - target).square().mean())

    student = fakequant.rounding(extractor, [3, 3], frames[:1])
    optimiser = torch.optim.Adam(student.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=150)
    for _ in range(150):
        optimiser.zero_grad()
        (_learning(student)(frames) - target).square().mean().backward()
        optimiser.step()
        schedule.step()
    assert error(fakequant.plain(student)) < 0.7 * error(extractor)


def test_as_many_bits_as_convolutions_are_needed(extractor):
    with pytest.raises(ModelError, match="3 bit widths were given for 2 convolutions"):
        fakequant.rounding(extractor, [8, 8, 8], torch.zeros(1, 1, 9, 9))
