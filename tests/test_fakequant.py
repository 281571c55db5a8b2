import pytest
import torch
from torch import nn

from fercompress.compress import fakequant
from fercompress.compress.static import round_weight
from fercompress.errors import ModelError


@pytest.fixture
def extractor() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3)).eval()


def test_a_rounding_copy_computes_with_rounded_weights_and_the_way_back_gives_the_weights_unrounded(extractor):
    frames = torch.randn(2, 1, 9, 9)
    wanted = nn.Sequential(*[layer for layer in extractor])
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


def test_training_with_rounding_learns_weights_that_bear_it_better(extractor):
    torch.manual_seed(1)
    frames = torch.randn(256, 1, 9, 9)
    target = extractor(frames).detach()

    def error(module: nn.Module) -> float:
        rounded = fakequant.rounding(module, [4, 4], frames[:1]).eval()
        rounded.train()
        rounded(frames)  # the ranges
        rounded.eval()
        return float((rounded(frames) - target).square().mean())

    student = fakequant.rounding(extractor, [4, 4], frames[:1])
    optimiser = torch.optim.Adam(student.parameters(), 2e-3)
    for _ in range(60):
        student.train()
        student[1].eval()  # the teacher's statistics
        optimiser.zero_grad()
        (student(frames) - target).square().mean().backward()
        optimiser.step()
    assert error(fakequant.plain(student)) < 0.7 * error(extractor)


def test_as_many_bits_as_convolutions_are_needed(extractor):
    with pytest.raises(ModelError, match="3 bit widths were given for 2 convolutions"):
        fakequant.rounding(extractor, [8, 8, 8], torch.zeros(1, 1, 9, 9))
