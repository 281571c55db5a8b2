import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress.errors import ShapeError
from fercompress.tt import cores as train
from fercompress.tt.decompose import BACKENDS, error_bound, tt_svd
from fercompress.tt.shape import TTShape, asymmetric, balanced


def _error(weight: torch.Tensor, cores: list[torch.Tensor]) -> float:
    return float(torch.linalg.vector_norm(weight.double() - train.to_dense(cores).double()))


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_full_rank_reproduces_the_matrix(backend: str) -> None:
    weight = torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
    cores = tt_svd(weight, TTShape((3, 4), (4, 5), (1, 12, 1)), backend)
    torch.testing.assert_close(train.to_dense(cores), weight, rtol=1e-5, atol=1e-5)


def test_a_train_is_found_again_exactly() -> None:
    shape = asymmetric(64, 96, 3)
    weight = train.to_dense(train.random(shape, 1.0, torch.Generator().manual_seed(2)))
    assert _error(weight, tt_svd(weight, shape)) < 1e-5 * float(weight.norm())


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([((4, 4, 1), (3, 2, 8)), ((4, 3), (5, 6)), ((2, 3, 4), (4, 3, 2)), ((6, 1), (2, 9))]), st.integers(1, 6), st.integers(0, 99))
def test_the_error_stays_within_the_discarded_singular_values_and_equals_tensorlys(modes: tuple[tuple[int, ...], ...], rank: int, seed: int) -> None:
    shape = TTShape.uniform(*modes, min(rank, 6))
    weight = torch.randn(shape.rows, shape.columns, generator=torch.Generator().manual_seed(seed))
    error = _error(weight, tt_svd(weight, shape))
    assert error <= error_bound(weight, shape) * (1 + 1e-5) + 1e-6
    assert error == pytest.approx(_error(weight, tt_svd(weight, shape, "tensorly")), rel=1e-4, abs=1e-4)


def test_with_one_bond_the_error_is_the_discarded_singular_values() -> None:
    weight = torch.randn(12, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    shape = TTShape.uniform((3, 4), (4, 5), 5)
    assert _error(weight, tt_svd(weight, shape)) == pytest.approx(error_bound(weight, shape), rel=1e-9)


def test_small_singular_values_below_the_fp32_grams_floor_are_kept_apart() -> None:
    generator = torch.Generator().manual_seed(4)
    left = torch.linalg.qr(torch.randn(64, 16, generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(64, 16, generator=generator, dtype=torch.float64))[0]
    weight = (left * 10.0 ** -torch.arange(16)) @ right.T
    shape = TTShape((64, 1), (1, 64), (1, 6, 1))
    # The best rank 6 leaves singular values 1e-6, 1e-7, ... of the largest.
    assert _error(weight, tt_svd(weight.float(), shape)) < 2e-6


def test_left_cores_are_orthonormal() -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(5))
    first, *_ = tt_svd(weight, balanced(64, 64, 3, cores=3))
    torch.testing.assert_close(first.flatten(0, 2).T @ first.flatten(0, 2), torch.eye(3), rtol=1e-5, atol=1e-5)


def test_a_weight_of_another_size_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"make \(64, 64\), but the weight is \(64, 32\)"):
        tt_svd(torch.zeros(64, 32), balanced(64, 64, 2))


def test_an_unknown_back_end_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ShapeError, match="gram, tensorly"):
        tt_svd(torch.zeros(64, 64), balanced(64, 64, 2), "qr")
