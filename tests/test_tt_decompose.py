import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress.errors import ShapeError
from fercompress.tt import cores as train
from fercompress.tt.decompose import BACKENDS, error_bound, input_moments, tt_svd, weighted_tt_svd
from fercompress.tt.shape import TTShape, asymmetric, balanced
from fercompress.tt.weights import TTWeight


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


def _covariance(size: int, seed: int, decay: float) -> torch.Tensor:
    q = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
    return (q * decay ** torch.arange(size)) @ q.T


def _weighted_error(weight: torch.Tensor, cores: list[torch.Tensor], moment: torch.Tensor) -> float:
    difference = weight - train.to_dense(cores)
    return float((difference @ moment @ difference.T).trace().sqrt())


def test_where_the_moment_is_a_kronecker_product_one_bond_reaches_the_best_weighted_error_there_is() -> None:
    shape = TTShape.uniform((4, 6), (5, 4), 3)
    weight = torch.randn(24, 20, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    moments = [_covariance(5, 1, 0.5), _covariance(4, 2, 0.3)]
    whole = torch.kron(*moments)
    error = _weighted_error(weight, weighted_tt_svd(weight, shape, moments), whole)
    # The oracle: singular values of the whitened weight's unfolding, with numpy's Cholesky factor in place of the symmetric root.
    white = weight @ torch.from_numpy(np.linalg.cholesky(whole.numpy()))
    values = np.linalg.svd(white.reshape(4, 6, 5, 4).permute(0, 2, 1, 3).reshape(20, 24).numpy(), compute_uv=False)
    # The whitened unfolding of a Cholesky factor is that of the symmetric root times orthogonal matrices of each factor: the same values.
    assert error == pytest.approx(float(np.sqrt(np.square(values[3:]).sum())), rel=1e-3)


def test_on_correlated_inputs_the_weighted_train_beats_the_plain_one_in_the_layers_outputs() -> None:
    generator = torch.Generator().manual_seed(7)
    shape = balanced(64, 96, 3, cores=3)
    weight = torch.randn(64, 96, generator=generator, dtype=torch.float64)
    factors = [_covariance(size, k, 0.4) for k, size in enumerate(shape.inputs)]
    root = torch.linalg.cholesky(torch.kron(torch.kron(*factors[:2]), factors[2]))
    seen, unseen = (torch.randn(2000, 96, generator=generator, dtype=torch.float64) @ root.T for _ in range(2))
    weighted = weighted_tt_svd(weight, shape, input_moments(seen, shape.inputs))
    plain = tt_svd(weight, shape)
    error = [float(((weight - train.to_dense(cores)) @ unseen.T).norm() / (weight @ unseen.T).norm()) for cores in (weighted, plain)]
    assert error[0] < 0.85 * error[1]


def test_uncorrelated_inputs_of_equal_size_change_nothing() -> None:
    shape = balanced(32, 48, 3, cores=3)
    weight = torch.randn(32, 48, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    weighted = weighted_tt_svd(weight, shape, [2.0 * torch.eye(size) for size in shape.inputs])
    torch.testing.assert_close(train.to_dense(weighted), train.to_dense(tt_svd(weight, shape)), rtol=1e-8, atol=1e-8)


def test_inputs_that_are_always_zero_leave_plain_tt_svd() -> None:
    shape = balanced(32, 48, 3, cores=3)
    weight = torch.randn(32, 48, generator=torch.Generator().manual_seed(9))
    weighted = weighted_tt_svd(weight, shape, input_moments(torch.zeros(3, 48), shape.inputs))
    torch.testing.assert_close(train.to_dense(weighted), train.to_dense(tt_svd(weight, shape)), rtol=1e-3, atol=1e-3)


def test_the_moments_of_kronecker_inputs_are_found_again_with_the_right_trace() -> None:
    moments = [_covariance(4, 3, 0.5), _covariance(6, 4, 0.7)]
    root = torch.linalg.cholesky(torch.kron(*moments))
    samples = torch.randn(60_000, 24, generator=torch.Generator().manual_seed(10), dtype=torch.float64) @ root.T
    found = torch.kron(*input_moments(samples, (4, 6)))
    assert float(found.trace()) == pytest.approx(float(samples.square().sum(1).mean()), rel=1e-9)
    assert float((found - torch.kron(*moments)).norm() / torch.kron(*moments).norm()) < 0.03


def test_moments_and_samples_of_other_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"sizes \(3, 3\), \(4, 4\): input factors \(4, 4\)"):
        weighted_tt_svd(torch.zeros(8, 16), TTShape.uniform((2, 4), (4, 4), 2), [torch.eye(3), torch.eye(4)])
    with pytest.raises(ShapeError, match=r"\(n, 16\) .* got \(5, 17\)"):
        input_moments(torch.zeros(5, 17), (4, 4))


def test_a_padded_train_of_full_rank_reproduces_the_matrix_in_its_own_rows_and_columns() -> None:
    weight = torch.randn(11, 13, generator=torch.Generator().manual_seed(11))
    shape = TTShape((3, 4), (7, 2), (1, 8, 1), padded_rows=1, padded_columns=1)
    cores = tt_svd(weight, shape)
    torch.testing.assert_close(TTWeight(shape, cores).dense(), weight, rtol=1e-5, atol=1e-5)
    assert _error(torch.nn.functional.pad(weight, (0, 1, 0, 1)), cores) < 1e-5
