import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fercompress.errors import ShapeError
from fercompress.tt.decompose import input_moments
from fercompress.tt.linear import TTLinear
from fercompress.tt.shape import TTShape, asymmetric, balanced

SHAPES = {
    "balanced": balanced(96, 128, 3, cores=3),
    "asymmetric": asymmetric(96, 128, 4, last=16),
    "padded": TTShape((7, 14), (12, 11), (1, 5, 1), padded_rows=2, padded_columns=4),
    # Large enough for two products to pay off.
    "two-gemm": TTShape.uniform((8, 12), (8, 16), 2),
}


def _layer(name: str, bias: bool = True) -> TTLinear:
    torch.manual_seed(0)
    shape = SHAPES[name]
    return TTLinear(shape.columns, shape.rows, shape, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_outputs_and_gradients_equal_the_dense_twins(name: str, bias: bool) -> None:
    layer = _layer(name, bias)
    twin = layer.to_dense()
    inputs = torch.randn(2, 3, layer.in_features)
    mine, theirs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    outputs, wanted = layer(mine), twin(theirs)
    torch.testing.assert_close(outputs, wanted, rtol=1e-4, atol=1e-5)
    outputs.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    assert all(parameter.grad is not None for parameter in layer.parameters())
    if bias:
        torch.testing.assert_close(layer.bias.grad, twin.bias.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_candidate_of_the_plan_gives_the_same_outputs(name: str) -> None:
    layer = _layer(name)
    inputs = torch.randn(5, layer.in_features)
    wanted = layer.to_dense()(inputs)
    measured = layer.measured_plan(5, rounds=1)
    for candidate in measured.candidates:
        layer.fixed_plan = measured.measured({candidate: lambda: None}, rounds=1)
        assert layer.plan(5).chosen.name == candidate.name
        torch.testing.assert_close(layer(inputs), wanted, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(layer(inputs), wanted, rtol=1e-4, atol=1e-5)


def test_a_measured_plan_for_training_times_every_candidate() -> None:
    layer = _layer("balanced")
    plan = layer.measured_plan(4, training=True, rounds=1)
    assert len(plan.candidates) == len(layer.plan(4, training=True).candidates)
    assert all(candidate.cost_ns > 0 for candidate in plan.candidates)
    assert all(value.grad is None for value in layer.weight.values)


def test_merged_weights_follow_an_optimiser_a_loaded_state_and_another_type() -> None:
    layer = _layer("two-gemm")
    inputs = torch.randn(4, layer.in_features)

    def check() -> None:
        with torch.no_grad():
            torch.testing.assert_close(layer(inputs), layer.to_dense()(inputs), rtol=1e-4, atol=1e-5)

    check()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(inputs).square().mean().backward()
    optimiser.step()
    check()
    other = TTLinear(layer.in_features, layer.out_features, layer.weight.shape)
    layer.load_state_dict(other.state_dict())
    check()
    layer.quantize_(8)
    check()
    layer.double()
    layer.float()
    check()


def test_merging_happens_once_without_gradients_and_every_time_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = _layer("two-gemm")
    merges = []
    from fercompress.tt import linear

    monkeypatch.setattr(linear, "halves", lambda *arguments, halves=linear.halves: merges.append(1) or halves(*arguments))
    inputs = torch.randn(4, layer.in_features)
    with torch.no_grad():
        for _ in range(3):
            layer(inputs)
    assert len(merges) == 1
    for _ in range(2):
        layer(inputs)
    assert len(merges) == 3


def test_a_quantized_layer_passes_gradients_on_to_its_inputs() -> None:
    layer = _layer("balanced")
    layer.quantize_(4)
    inputs = torch.randn(3, layer.in_features, requires_grad=True)
    with torch.inference_mode():
        layer(inputs.detach())
    layer(inputs).sum().backward()
    torch.testing.assert_close(inputs.grad, layer.weight.dense().sum(0).expand(3, -1), rtol=1e-4, atol=1e-4)


def test_full_ranks_reproduce_a_dense_layer_and_its_bias() -> None:
    dense = nn.Linear(12, 8)
    layer = TTLinear.from_dense(dense, TTShape((2, 4), (4, 3), (1, 8, 1)))
    inputs = torch.randn(3, 12)
    torch.testing.assert_close(layer(inputs), dense(inputs), rtol=1e-4, atol=1e-5)


def test_knowing_the_inputs_makes_a_decomposed_layers_outputs_better() -> None:
    torch.manual_seed(2)
    dense = nn.Linear(96, 64)
    shape = balanced(64, 96, 3, cores=3)
    scales = [0.3 ** torch.arange(float(size)) for size in shape.inputs]
    samples = torch.randn(500, 96) * torch.kron(torch.kron(scales[0], scales[1]), scales[2])
    with torch.no_grad():
        error = [
            float((TTLinear.from_dense(dense, shape, moments=moments)(samples) - dense(samples)).norm())
            for moments in (input_moments(samples, shape.inputs), None)
        ]
    assert error[0] < 0.9 * error[1]


@pytest.mark.parametrize("bits", [None, 8, 4])
def test_a_state_dict_and_a_copy_compute_the_same(bits: int | None) -> None:
    layer = _layer("balanced")
    if bits:
        layer.quantize_(bits)
    inputs = torch.randn(3, layer.in_features)
    with torch.no_grad():
        wanted = layer(inputs)
        fresh = _layer("balanced")
        fresh.load_state_dict(layer.state_dict(), strict=True)
        assert torch.equal(fresh(inputs), wanted)
        assert torch.equal(copy.deepcopy(layer)(inputs), wanted)
        assert torch.equal(pickle.loads(pickle.dumps(layer))(inputs), wanted)


def test_decomposing_moves_no_random_numbers() -> None:
    dense = nn.Linear(128, 96)
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    TTLinear.from_dense(dense, SHAPES["balanced"]).to_dense()
    assert torch.equal(torch.rand(1), wanted)


def test_one_vector_and_no_rows_at_all_behave_as_nn_linear() -> None:
    layer = _layer("balanced")
    twin = layer.to_dense()
    for inputs in (torch.randn(128), torch.randn(0, 128), torch.randn(2, 0, 128)):
        torch.testing.assert_close(layer(inputs), twin(inputs), rtol=1e-4, atol=1e-5)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"matrix is \(10, 128\)"):
        TTLinear(128, 10, SHAPES["balanced"])
    with pytest.raises(ShapeError, match=r"\(\.\.\., 128\), got \(2, 127\)"):
        _layer("balanced")(torch.zeros(2, 127))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 4), st.integers(1, 20))
def test_any_size_can_be_put_into_a_balanced_train_of_rank_one(rows: int, columns: int, cores: int, batch: int) -> None:
    shape = balanced(rows, columns, 1, cores)
    layer = TTLinear(columns, rows, shape)
    inputs = torch.randn(batch, columns)
    torch.testing.assert_close(layer(inputs), layer.to_dense()(inputs), rtol=1e-4, atol=1e-5)
