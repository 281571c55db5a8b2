import pytest
import tensorly
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorly.tt_matrix import tt_matrix_to_matrix

from fercompress import tt
from fercompress.errors import ShapeError
from fercompress.tt import cores as train
from fercompress.tt.decompose import tt_svd
from fercompress.tt.shape import TTShape, asymmetric, max_ranks


@st.composite
def tt_shapes(draw: st.DrawFn) -> TTShape:
    d = draw(st.integers(1, 4))
    outputs = tuple(draw(st.lists(st.integers(1, 4), min_size=d, max_size=d)))
    inputs = tuple(draw(st.lists(st.integers(1, 4), min_size=d, max_size=d)))
    ranks = [1]
    for k, largest in enumerate(max_ranks(outputs, inputs)[1:-1]):
        ranks.append(draw(st.integers(1, min(largest, 5, ranks[-1] * outputs[k] * inputs[k]))))
    ranks.append(1)
    for k in range(d - 1, 0, -1):  # a rank that the right neighbour cannot carry is lowered
        ranks[k] = min(ranks[k], ranks[k + 1] * outputs[k] * inputs[k])
    return TTShape(outputs, inputs, tuple(ranks))


def _random(shape: TTShape, seed: int = 0) -> list[torch.Tensor]:
    return [core.double() for core in train.random(shape, 1.0, torch.Generator().manual_seed(seed))]


def test_two_cores_of_rank_one_make_a_kronecker_product() -> None:
    a, b = torch.randn(2, 3), torch.randn(4, 5)
    torch.testing.assert_close(train.to_dense([a[None, :, :, None], b[None, :, :, None]]), torch.kron(a, b))


@settings(max_examples=40, deadline=None)
@given(tt_shapes())
def test_the_dense_matrix_is_tensorlys(shape: TTShape) -> None:
    cores = _random(shape)
    torch.testing.assert_close(train.to_dense(cores), torch.from_numpy(tt_matrix_to_matrix(train.to_tensorly(cores))))


@settings(max_examples=40, deadline=None)
@given(tt_shapes())
def test_moving_the_gauge_changes_no_entry_and_shares_every_bonds_singular_values(shape: TTShape) -> None:
    cores = _random(shape)
    moved = train.symmetric_gauge(cores)
    torch.testing.assert_close(train.to_dense(moved), train.to_dense(cores), rtol=1e-8, atol=1e-8)
    assert train.shape_of(moved) == shape


def test_in_the_symmetric_gauge_both_neighbours_of_a_bond_carry_equal_weight() -> None:
    cores = _random(TTShape.uniform((6, 5), (4, 3), 4))
    left, right = train.symmetric_gauge(cores)
    torch.testing.assert_close(left.square().sum((0, 1, 2)), right.square().sum((1, 2, 3)))


def test_a_train_of_zeros_survives_the_gauge_move() -> None:
    cores = [torch.zeros(core) for core in asymmetric(8, 8, 2).cores]
    assert all(torch.equal(core, torch.zeros_like(core)) or torch.isfinite(core).all() for core in train.symmetric_gauge(cores))
    assert not train.to_dense(train.symmetric_gauge(cores)).any()


@settings(max_examples=40, deadline=None)
@given(tt_shapes())
def test_the_norm_needs_no_dense_matrix(shape: TTShape) -> None:
    cores = _random(shape)
    torch.testing.assert_close(train.norm(cores), torch.linalg.matrix_norm(train.to_dense(cores)), rtol=1e-8, atol=1e-10)


def test_a_trip_through_tensorly_changes_nothing() -> None:
    cores = _random(asymmetric(16, 12, 2))
    back = tt.from_tensorly(tt.to_tensorly(cores))
    assert all(torch.equal(a, b) for a, b in zip(cores, back, strict=True))
    assert tensorly.get_backend() == "numpy"


def test_cores_that_do_not_fit_are_named() -> None:
    with pytest.raises(ShapeError, match="core 1 starts with rank 3, but core 0 ends with 2"):
        train.shape_of([torch.zeros(1, 2, 2, 2), torch.zeros(3, 2, 2, 1)])
    with pytest.raises(ShapeError, match="core 0 has shape"):
        train.shape_of([torch.zeros(2, 2)])


def test_random_cores_make_a_matrix_of_the_wanted_variance() -> None:
    matrix = train.to_dense(train.random(asymmetric(256, 512, 4), 0.01, torch.Generator().manual_seed(1)))
    assert float(matrix.var()) == pytest.approx(0.01, rel=0.4)


@settings(max_examples=40, deadline=None)
@given(tt_shapes())
def test_orthogonalising_changes_no_entry_and_makes_every_core_but_one_orthonormal(shape: TTShape) -> None:
    cores = _random(shape)
    moved = train.right_orthogonal(cores)
    torch.testing.assert_close(train.to_dense(moved), train.to_dense(cores), rtol=1e-8, atol=1e-8)
    for core in moved[1:]:
        torch.testing.assert_close(core.flatten(1) @ core.flatten(1).T, torch.eye(core.shape[0], dtype=torch.float64))


def test_a_train_that_was_blown_up_is_rounded_back_to_its_own_ranks() -> None:
    cores = _random(TTShape.uniform((4, 4, 4), (3, 3, 3), 2))
    zero = torch.zeros_like
    # The sum of a train with itself: blocks side by side, ranks twice as large, the matrix twice as large.
    first = torch.cat([cores[0], cores[0]], 3)
    middle = torch.cat([torch.cat([cores[1], zero(cores[1])], 3), torch.cat([zero(cores[1]), cores[1]], 3)], 0)
    doubled = [first, middle, torch.cat([cores[2], cores[2]], 0)]
    small = train.rounded(doubled, relative_error=1e-10)
    assert train.shape_of(small).ranks == (1, 2, 2, 1)
    torch.testing.assert_close(train.to_dense(small), 2 * train.to_dense(cores))


@settings(max_examples=40, deadline=None)
@given(tt_shapes(), st.sampled_from([0.0, 0.05, 0.3, 0.8]))
def test_rounding_stays_within_the_relative_error(shape: TTShape, relative_error: float) -> None:
    cores = _random(shape)
    small = train.rounded(cores, relative_error=relative_error)
    error = torch.linalg.matrix_norm(train.to_dense(small) - train.to_dense(cores))
    assert float(error) <= (relative_error + 1e-9) * float(train.norm(cores))
    assert train.shape_of(small).params <= shape.params


def test_rounding_to_ranks_equals_the_tt_svd_of_the_matrix() -> None:
    cores = _random(TTShape.uniform((4, 5, 4), (3, 4, 3), 5))
    small = train.rounded(cores, (1, 3, 2, 1))
    wanted = tt_svd(train.to_dense(cores), train.shape_of(small), "tensorly")
    torch.testing.assert_close(train.to_dense(small), train.to_dense(wanted), rtol=1e-7, atol=1e-7)


def test_rounding_refuses_ranks_above_the_trains_own_and_two_wishes_at_once() -> None:
    cores = _random(TTShape.uniform((4, 4), (4, 4), 2))
    with pytest.raises(ShapeError, match="rank 3 at bond 1: the train has rank 2"):
        train.rounded(cores, (1, 3, 1))
    with pytest.raises(ShapeError, match="either ranks or relative_error"):
        train.rounded(cores, (1, 2, 1), 0.1)
    with pytest.raises(ShapeError, match="at least 0 and below 1"):
        train.rounded(cores, relative_error=1.5)
