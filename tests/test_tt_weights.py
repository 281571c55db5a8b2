import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress.errors import ShapeError
from fercompress.tt import cores as train
from fercompress.tt.shape import TTShape, asymmetric
from fercompress.tt.weights import LARGEST_CODE, DenseWeight, StoredWeight, TTWeight, group_columns


def _tt(seed: int = 0) -> TTWeight:
    shape = asymmetric(64, 96, 4)
    return TTWeight(shape, train.random(shape, 1.0, torch.Generator().manual_seed(seed)))


def _dense(columns: int = 64) -> DenseWeight:
    return DenseWeight(torch.randn(8, columns, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("make", [_tt, _dense])
@pytest.mark.parametrize("bits", [8, 4])
def test_every_code_is_in_range_and_no_number_is_off_by_more_than_half_a_step(make, bits: int) -> None:
    weight = make()
    values = weight._before_rounding()
    weight.quantize_(bits)
    assert weight.bits == bits
    for value, code, decoded, scale in zip(values, weight.codes, weight.tensors(), weight.scales, strict=True):
        assert code.dtype == torch.int8
        assert scale.dtype == torch.float16
        assert int(code.abs().max()) == LARGEST_CODE[bits]
        assert float((decoded - value).abs().max()) <= 0.5 * float(scale.max()) * 1.0001


def test_four_bits_of_a_dense_row_worked_out_by_hand() -> None:
    # Two groups of 32 whose largest numbers, 7 and 14, make steps of about 1 and 2.
    codes = torch.cat([torch.arange(-7.0, 8.0), torch.zeros(17)])
    weight = DenseWeight(torch.cat([codes, 2 * codes])[None])
    weight.quantize_(4)
    assert weight.scales[0].flatten().tolist() == pytest.approx([1, 2], rel=2e-3)
    assert weight.codes[0][0].tolist() == [*codes.int().tolist(), *codes.int().tolist()]


@pytest.mark.parametrize(("columns", "group"), [(32, 32), (256, 32), (48, 24), (36, 36), (20, 20), (67, 67), (16, 16), (8, 8), (4096, 32)])
def test_columns_that_share_a_scale_divide_the_row(columns: int, group: int) -> None:
    assert group_columns(columns) == group


def test_groups_follow_a_row_whose_halves_differ_in_size_where_one_scale_could_not() -> None:
    value = torch.randn(8, 64, generator=torch.Generator().manual_seed(2))
    value[:, 32:] *= 0.01
    weight = DenseWeight(value)
    weight.quantize_(4)
    assert weight.scales[0].shape == (8, 2)
    assert float((weight.dense() - value)[:, 32:].norm() / value[:, 32:].norm()) < 0.15


def test_bytes_and_numbers_worked_out_by_hand() -> None:
    weight = TTWeight(TTShape.uniform((2, 3), (3, 1), 1), [torch.ones(1, 2, 3, 1), torch.ones(1, 3, 1, 1)])
    assert (weight.stored_numbers, weight.stored_bytes, weight.bits) == (9, 36, 32)
    weight.quantize_(4)
    # 6 and 3 codes take 3 and 2 bytes; with rank 1 every number is a slice of its own, so 9 scales of 2 bytes.
    assert (weight.stored_numbers, weight.stored_bytes) == (18, 5 + 18)


def test_four_bits_halve_the_codes() -> None:
    eight, four = _dense(), _dense()
    eight.quantize_(8)
    four.quantize_(4)
    assert eight.stored_bytes == 8 * 64 + 2 * 8
    assert four.stored_bytes == 8 * 64 // 2 + 2 * 8 * 2


@pytest.mark.parametrize("fresh_bits", [None, 8, 4])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("make", [_tt, _dense])
def test_a_state_dict_carries_the_bits_into_a_fresh_weight_and_one_of_other_bits(make, bits: int, fresh_bits: int | None) -> None:
    weight, fresh = make(), make()
    weight.quantize_(bits)
    with torch.no_grad():
        for value in fresh.values:
            value.mul_(2)
    if fresh_bits is not None:
        fresh.quantize_(fresh_bits)
    fresh.load_state_dict(weight.state_dict())
    assert fresh.bits == bits
    assert torch.equal(fresh.dense(), weight.dense())


def test_a_state_of_8_bits_from_before_the_bits_were_kept_still_loads() -> None:
    weight, fresh = _tt(), _tt(1)
    weight.quantize_()
    old = {name: value for name, value in weight.state_dict().items() if name != "code_bits"}
    fresh.load_state_dict(old)
    assert torch.equal(fresh.dense(), weight.dense())


def test_rounding_again_changes_nothing_and_odd_bits_are_refused_with_those_that_exist() -> None:
    weight = _tt()
    with pytest.raises(ShapeError, match="in 3 bits: choose one of 8, 4"):
        weight.quantize_(3)
    weight.quantize_(4)
    before = weight.dense()
    weight.quantize_(8)
    assert weight.bits == 4
    assert torch.equal(weight.dense(), before)


def test_the_gauge_move_makes_the_error_of_cores_smaller() -> None:
    shape = TTShape.uniform((16, 16, 1), (4, 4, 32), 4)
    cores = train.random(shape, 1.0, torch.Generator().manual_seed(3))
    uneven = torch.logspace(-1.5, 1.5, 4)
    cores = [cores[0] * uneven, cores[1] / uneven[:, None, None, None], cores[2]]
    wanted = train.to_dense(cores)
    moved, still = TTWeight(shape, cores), StoredWeight(cores, shared=(0, 3))
    for weight in (moved, still):
        weight.quantize_(4)
    error = [float((train.to_dense(weight.tensors()) - wanted).norm()) for weight in (moved, still)]
    assert error[0] < error[1] / 2


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 80), st.sampled_from([8, 4]), st.integers(0, 99))
def test_a_dense_weight_of_any_size_decodes_to_within_half_a_step(rows: int, columns: int, bits: int, seed: int) -> None:
    value = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    weight = DenseWeight(value)
    weight.quantize_(bits)
    step = value.abs().amax(1, keepdim=True) / LARGEST_CODE[bits]
    assert bool(((weight.dense() - value).abs() <= 0.502 * step + 1e-6).all())
