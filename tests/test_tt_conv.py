import pytest
import tensorly
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorly.decomposition import tensor_train
from torch import nn

from fercompress.errors import ModelError, ShapeError
from fercompress.tt.conv import TTConv2d, max_ranks, numbers, singular_values

GEOMETRIES = st.fixed_dictionaries(
    {
        "in_channels": st.integers(1, 6),
        "out_channels": st.integers(1, 6),
        "kernel_size": st.sampled_from([1, 2, 3, (3, 1), (1, 5)]),
        "stride": st.sampled_from([1, 2, (2, 1)]),
        "padding": st.integers(0, 2),
        "dilation": st.integers(1, 2),
        "bias": st.booleans(),
    }
)


@settings(max_examples=40, deadline=None)
@given(GEOMETRIES, st.integers(0, 1000))
def test_full_rank_computes_what_the_convolution_computes(geometry, seed):
    torch.manual_seed(seed)
    conv = nn.Conv2d(**geometry)
    layer = TTConv2d.from_dense(conv, max_ranks(conv.in_channels, conv.out_channels, conv.kernel_size))
    maps = torch.randn(2, conv.in_channels, 12, 12)
    torch.testing.assert_close(layer(maps), conv(maps), rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(GEOMETRIES, st.integers(0, 1000), st.data())
def test_the_dense_twin_of_any_ranks_computes_the_same_and_the_numbers_are_counted_as_stored(geometry, seed, data):
    torch.manual_seed(seed)
    conv = nn.Conv2d(**geometry)
    ranks = tuple(data.draw(st.integers(1, most)) for most in max_ranks(conv.in_channels, conv.out_channels, conv.kernel_size))
    layer = TTConv2d.from_dense(conv, ranks)
    maps = torch.randn(2, conv.in_channels, 12, 12)
    torch.testing.assert_close(layer.to_dense()(maps), layer(maps), rtol=1e-4, atol=1e-5)
    bias = conv.out_channels if geometry["bias"] else 0
    assert layer.stored_numbers == numbers(conv.in_channels, conv.out_channels, conv.kernel_size, ranks) + bias


@pytest.mark.parametrize("outputs", [5, 8])
def test_a_second_rank_above_what_the_first_one_leaves_computes_the_best_of_the_first(outputs):
    torch.manual_seed(0)
    conv = nn.Conv2d(2, outputs, 2)
    maps = torch.randn(2, 2, 12, 12)
    layer = TTConv2d.from_dense(conv, (1, 5))
    assert layer.ranks == (1, 5)
    torch.testing.assert_close(layer(maps), TTConv2d.from_dense(conv, (1, 4))(maps), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.to_dense()(maps), layer(maps), rtol=1e-4, atol=1e-5)


def test_the_kernel_is_the_one_that_tensorly_decomposes():
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 10, 3, bias=False)
    kernel = conv.weight.detach().permute(1, 2, 3, 0).reshape(8, 9, 10)
    wanted = tensorly.tt_to_tensor(tensor_train(kernel.numpy(), [1, 4, 5, 1]))
    found = TTConv2d.from_dense(conv, (4, 5)).to_dense().weight.detach().permute(1, 2, 3, 0).reshape(8, 9, 10)
    torch.testing.assert_close(found, torch.as_tensor(wanted), rtol=1e-4, atol=1e-5)


def test_the_error_is_at_most_the_discarded_singular_values():
    torch.manual_seed(1)
    conv = nn.Conv2d(8, 10, 3, bias=False)
    values = singular_values(conv)
    for ranks in [(1, 1), (3, 2), (5, 8)]:
        error = (TTConv2d.from_dense(conv, ranks).to_dense().weight - conv.weight).norm()
        bound = sum(float(value[rank:].square().sum()) for value, rank in zip(values, ranks, strict=True)) ** 0.5
        assert error <= bound * (1 + 1e-5)


def test_a_moment_makes_the_error_at_the_output_smaller_where_inputs_are_correlated():
    torch.manual_seed(2)
    conv = nn.Conv2d(12, 16, 1, bias=False)
    maps = torch.einsum("nchw,cd->ndhw", torch.randn(40, 12, 5, 5) * torch.logspace(0, -2, 12)[:, None, None], torch.randn(12, 12))
    moment = torch.einsum("nchw,ndhw->cd", maps, maps) / (40 * 25)
    with torch.no_grad():
        errors = [float((TTConv2d.from_dense(conv, (3,), given)(maps) - conv(maps)).square().mean()) for given in (moment, None)]
    assert errors[0] < errors[1] / 2


def test_a_stem_of_two_channels_needs_two_convolutions_not_three():
    layer = TTConv2d.from_dense(nn.Conv2d(2, 32, 8, stride=4), (2, 9))
    assert [tuple(step.weight.shape) for step in layer.steps] == [(9, 2, 8, 8), (32, 9, 1, 1)]


@pytest.mark.parametrize(("ranks", "message"), [((0, 1), "rank 0 at bond 1"), ((2, 99), "rank 99 at bond 2"), ((3,), "2 inner ranks")])
def test_a_rank_that_does_not_fit_names_the_bond(ranks, message):
    with pytest.raises(ShapeError, match=message):
        TTConv2d.from_dense(nn.Conv2d(4, 6, 3), ranks)


@pytest.mark.parametrize(("conv", "message"), [(nn.Conv2d(4, 4, 3, groups=4), "4 groups"), (nn.Conv2d(4, 4, 3, padding="same"), "padding")])
def test_what_a_train_cannot_stand_in_for_is_refused(conv, message):
    with pytest.raises(ModelError, match=message):
        TTConv2d.from_dense(conv, (2, 2))


def test_gradients_reach_every_core_and_a_state_dict_makes_the_round_trip():
    layer = TTConv2d.from_dense(nn.Conv2d(6, 8, 3), (3, 4))
    layer(torch.randn(1, 6, 9, 9)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
    twin = TTConv2d(6, 8, (3, 3), (3, 4))
    twin.load_state_dict(layer.state_dict())
    maps = torch.randn(1, 6, 9, 9)
    torch.testing.assert_close(twin(maps), layer(maps))
