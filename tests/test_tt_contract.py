import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorly.tt_matrix import tt_matrix_to_matrix
from torch import nn

from fercompress.tt import cores as train
from fercompress.tt.contract import MergedOnce, halves, project
from fercompress.tt.plan import Plan
from fercompress.tt.recurrence import recurrent_states
from fercompress.tt.shape import TTShape, asymmetric, balanced

SHAPES = [
    asymmetric(64, 48, 4, last=12),
    balanced(64, 48, 3, cores=4),
    TTShape((3, 4), (7, 2), (1, 5, 1), padded_rows=1, padded_columns=1),
    TTShape.uniform((1, 8), (6, 2), 2),
    TTShape((5,), (7,), (1, 1)),
]


def _cores(shape: TTShape, seed: int = 0) -> list[torch.Tensor]:
    return [core.double() for core in train.random(shape, 1.0, torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rows", [1, 5])
def test_every_candidate_equals_tensorlys_matrix_times_the_input(shape: TTShape, rows: int) -> None:
    cores = _cores(shape)
    matrix = tt_matrix_to_matrix(train.to_tensorly(cores))[: shape.rows, : shape.columns]
    inputs = torch.randn(rows, shape.columns, dtype=torch.float64)
    for candidate in Plan.of(shape, rows).candidates:
        outputs = project(inputs, halves(cores, shape, candidate), shape, candidate)
        np.testing.assert_allclose(outputs.numpy(), inputs.numpy() @ matrix.T, rtol=1e-9, atol=1e-9, err_msg=candidate.name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_of_every_candidate_are_those_of_finite_differences(shape: TTShape) -> None:
    cores = [core.requires_grad_() for core in _cores(shape)]
    inputs = torch.randn(2, shape.columns, dtype=torch.float64, requires_grad=True)
    for candidate in Plan.of(shape, 2).candidates:

        def run(inputs: torch.Tensor, *cores: torch.Tensor, candidate=candidate) -> torch.Tensor:
            return project(inputs, halves(cores, shape, candidate), shape, candidate)

        assert torch.autograd.gradcheck(run, (inputs, *cores)), candidate.name


def test_inputs_that_need_no_gradient_cost_none() -> None:
    shape = SHAPES[1]
    cores = [core.requires_grad_() for core in _cores(shape)]
    inputs = torch.randn(2, shape.columns, dtype=torch.float64)
    for candidate in Plan.of(shape, 2).candidates:
        project(inputs, halves(cores, shape, candidate), shape, candidate).sum().backward()
    assert inputs.grad is None
    assert all(core.grad is not None for core in cores)


def test_what_was_merged_is_kept_until_a_tensor_changes_in_place_or_is_replaced() -> None:
    kept, calls = MergedOnce(), []
    tensor = torch.ones(2)

    def compute() -> torch.Tensor:
        calls.append(1)
        return tensor * 2

    assert kept.get("a", [tensor], compute) is kept.get("a", [tensor], compute)
    assert len(calls) == 1
    tensor.add_(1)
    assert torch.equal(kept.get("a", [tensor], compute), torch.full((2,), 4.0))
    kept.get("a", [tensor.clone()], compute)
    kept.get("b", [tensor], compute)
    assert len(calls) == 4
    kept.clear()
    kept.get("b", [tensor], compute)
    assert len(calls) == 5
    assert not copy.deepcopy(kept)._kept


def test_what_inference_mode_merged_can_be_used_where_gradients_flow() -> None:
    kept, tensor = MergedOnce(), torch.ones(2)
    with torch.inference_mode():
        value = kept.get("a", [tensor], lambda: tensor * 2)
    inputs = torch.ones(2, requires_grad=True)
    (inputs * value).sum().backward()
    assert torch.equal(inputs.grad, torch.full((2,), 2.0))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 6), st.integers(0, 99))
def test_the_recurrence_equals_torchs_lstm_and_its_gradients(steps: int, batch: int, hidden: int, seed: int) -> None:
    torch.manual_seed(seed)
    lstm = nn.LSTM(3, hidden).double()
    inputs = torch.randn(steps, batch, 3, dtype=torch.float64)
    start = [torch.randn(1, batch, hidden, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    weights = [torch.randn(steps, batch, hidden, dtype=torch.float64), *(torch.randn(batch, hidden, dtype=torch.float64) for _ in range(2))]
    leaves = [*lstm.parameters(), *start]

    def own() -> tuple[torch.Tensor, ...]:
        gates = inputs @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + lstm.bias_hh_l0
        return recurrent_states(gates, lstm.weight_hh_l0, start[0][0], start[1][0])

    def theirs() -> tuple[torch.Tensor, ...]:
        states, (h, c) = lstm(inputs, tuple(start))
        return states, h[0], c[0]

    results = []
    for made in (own(), theirs()):
        loss = sum((value * weight).sum() for value, weight in zip(made, weights, strict=True))
        results.append((made, torch.autograd.grad(loss, leaves)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)


def test_the_recurrence_is_not_moved_by_writing_to_what_it_returned() -> None:
    gates, w_hh = torch.randn(3, 2, 8, requires_grad=True), torch.randn(8, 2)
    states, hidden, cell = recurrent_states(gates, w_hh, torch.zeros(2, 2), torch.zeros(2, 2))
    wanted = torch.autograd.grad(states.sum() + cell.sum(), gates, retain_graph=True)[0]
    before = states.detach().clone()
    cell.detach().add_(1)
    assert torch.equal(states, before)
    assert torch.equal(hidden, states[-1])
    assert torch.equal(torch.autograd.grad(states.sum() + cell.sum(), gates)[0], wanted)
