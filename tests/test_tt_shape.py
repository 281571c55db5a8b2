import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercompress.errors import ShapeError
from fercompress.tt.shape import TTShape, asymmetric, balanced, checked, factors, max_ranks, similar_factors


def test_the_default_model_gets_channels_as_last_input_factor_and_all_rows_in_the_first_two_cores() -> None:
    shape = asymmetric(1024, 4096, rank=4, last=256)
    assert (shape.outputs, shape.inputs, shape.ranks) == ((32, 32, 1), (4, 4, 256), (1, 4, 4, 1))
    assert shape.asymmetric


def test_parameters_of_the_default_train_worked_out_by_hand() -> None:
    # 1*32*4*4 + 4*32*4*4 + 4*1*256*1
    assert asymmetric(1024, 4096, rank=4, last=256).params == 512 + 2048 + 1024


def test_the_published_asymmetric_example_stores_6528_weights() -> None:
    shape = TTShape.uniform((32, 32, 1), (7, 7, 512), 4)
    assert shape.params == 896 + 3584 + 2048 == 6528


def test_a_balanced_shape_is_not_asymmetric_and_multiplies_to_the_matrix() -> None:
    shape = balanced(1024, 4096, rank=4)
    assert (shape.rows, shape.columns) == (1024, 4096)
    assert not shape.asymmetric


def test_the_largest_rank_is_the_smaller_side_of_each_unfolding() -> None:
    assert max_ranks((2, 3), (2, 5)) == (1, 4, 1)


@pytest.mark.parametrize(
    ("outputs", "inputs", "ranks", "message"),
    [
        ((2, 3), (2, 5), (1, 5, 1), r"rank 5 at bond 1 .* from 1 to 4"),
        ((2, 3), (2, 5), (1, 0, 1), r"rank 0 at bond 1 .* from 1 to 4"),
        ((2, 3), (2, 5), (2, 2, 1), r"first and the last rank"),
        ((2, 3), (2, 5), (1, 1), r"2 cores have 3 ranks"),
        ((2, 3), (2,), (1, 2, 1), r"as many output as input factors"),
        ((2, 0), (2, 2), (1, 1, 1), r"output factor 1 is 0"),
        ((2, 2), (2, -1), (1, 1, 1), r"input factor 1 is -1"),
        ((2, 1, 2), (4, 1, 4), (1, 2, 8, 1), r"ranks 2 and 8 around core 1"),
    ],
)
def test_a_train_that_cannot_be_is_refused_with_the_place(
    outputs: tuple[int, ...], inputs: tuple[int, ...], ranks: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        TTShape(outputs, inputs, ranks)


def test_factors_that_do_not_multiply_to_the_layer_are_refused_with_both_numbers() -> None:
    with pytest.raises(ShapeError, match=r"input factors \(4, 4, 255\) multiply to 4080, but the layer has 4096 inputs"):
        checked(1024, 4096, (32, 32, 1), (4, 4, 255), 4)


def test_a_last_factor_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ShapeError, match="100 does not divide 4096"):
        asymmetric(1024, 4096, 4, last=100)


def test_without_a_last_factor_the_divisor_nearest_the_root_that_carries_the_rank_is_taken() -> None:
    assert asymmetric(1024, 256, rank=4).inputs == (4, 4, 16)
    assert asymmetric(32, 8, rank=8).inputs == (1, 1, 8)


@given(st.integers(1, 5000), st.integers(1, 5))
def test_factors_multiply_to_the_number(number: int, count: int) -> None:
    found = factors(number, count)
    assert len(found) == count
    assert math.prod(found) == number


def test_factors_are_as_equal_as_primes_allow() -> None:
    assert factors(1024, 2) == (32, 32)
    assert factors(4096, 4) == (8, 8, 8, 8)
    assert factors(13, 2) == (13, 1)


@pytest.mark.parametrize(("number", "count", "wanted"), [(1024, 4, (8, 8, 4, 4)), (25088, 4, (14, 14, 16, 8)), (13, 2, (13, 1)), (1021, 1, (1021,))])
def test_sizes_with_similar_factors_are_not_padded(number: int, count: int, wanted: tuple[int, ...]) -> None:
    assert similar_factors(number, count) == wanted


@given(st.integers(1, 60_000), st.integers(1, 5))
def test_padding_is_small_and_no_factor_sticks_out(number: int, count: int) -> None:
    found = similar_factors(number, count)
    assert number <= math.prod(found) <= number * 1.05 + 2
    if count > 1:
        assert max(found) <= max(16, 3 * number ** (1 / count))


def test_a_balanced_train_of_a_large_prime_is_padded_and_says_by_how_much() -> None:
    shape = balanced(1021, 4099, rank=4)
    assert (shape.rows, shape.columns) == (1021, 4099)
    assert shape.padding == math.prod(shape.outputs) * math.prod(shape.inputs) - 1021 * 4099 > 0
    assert (shape.padded_rows, shape.padded_columns) == (math.prod(shape.outputs) - 1021, math.prod(shape.inputs) - 4099)


@pytest.mark.parametrize(("rows", "columns"), [(1021, 4099), (512, 2053), (1024, 4096), (268, 509)])
def test_an_asymmetric_train_is_never_padded(rows: int, columns: int) -> None:
    shape = asymmetric(rows, columns, rank=4)
    assert (math.prod(shape.outputs), math.prod(shape.inputs), shape.padding) == (rows, columns, 0)


def test_a_balanced_train_of_ordinary_sizes_is_not_padded() -> None:
    assert balanced(1024, 4096, rank=4).padding == 0
    assert balanced(1024, 25088, rank=4).padding == 0


def test_padding_as_large_as_the_matrix_is_refused() -> None:
    with pytest.raises(ShapeError, match="16 padded rows of 16: it must be from 0 to 15"):
        TTShape.uniform((4, 4), (4, 4), 2, padded_rows=16)


def test_bytes_of_cores_and_scales_worked_out_by_hand() -> None:
    shape = TTShape.uniform((2, 3), (3, 1), 1)
    # 6 and 3 numbers; at 4 bits they take 3 and 2 bytes, and every slice has a scale of 2 bytes.
    assert [shape.stored_bytes(bits) for bits in (32, 8, 4)] == [36, 9 + 18, 5 + 18]
