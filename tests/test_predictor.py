"""The trained LSTM is torch's own in everything but speed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fercompress.model.predictor import Lstm


def both() -> tuple[Lstm, nn.LSTM]:
    torch.manual_seed(0)
    ours, theirs = Lstm(12, 5), nn.LSTM(12, 5, batch_first=True)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    return ours, theirs


@pytest.mark.parametrize("with_state", [False, True])
def test_states_and_gradients_equal_those_of_torch_with_and_without_a_given_state(with_state: bool) -> None:
    ours, theirs = both()
    sequence, state = torch.randn(3, 7, 12), (torch.randn(1, 3, 5), torch.randn(1, 3, 5))
    found = []
    for layer in (ours, theirs):
        inputs = sequence.clone().requires_grad_()
        starts = tuple(part.clone().requires_grad_() for part in state)
        states, (hidden, cell) = layer(inputs, starts) if with_state else layer(inputs)
        ((states * torch.arange(7)[:, None]).sum() + (hidden * 2).sum() + (cell * 3).sum()).backward()
        gradients = [parameter.grad for parameter in layer.parameters()] + [inputs.grad] + ([part.grad for part in starts] if with_state else [])
        found.append([states, hidden, cell, *gradients])
    assert [tensor.shape for tensor in found[0]] == [tensor.shape for tensor in found[1]]
    for mine, torchs in zip(*found, strict=True):
        torch.testing.assert_close(mine, torchs, rtol=1e-4, atol=1e-5)


def test_without_gradients_it_is_the_operator_of_torch_to_the_bit() -> None:
    ours, theirs = both()
    sequence = torch.randn(3, 7, 12)
    with torch.no_grad():
        assert torch.equal(ours(sequence)[0], theirs(sequence)[0])
