"""Numbers with units: what a person may write for a column, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercompress.errors import InputError
from fercompress.gate import metrics
from fercompress.quantity import named_quantity, quantity, units_of
from fercompress.results import summary


@given(st.sampled_from(sorted({*metrics.METRICS, *summary.numeric_columns()})), st.floats(0.1, 1e6, allow_nan=False))
def test_a_quantity_with_a_unit_is_the_bare_number_times_the_unit(column, number):
    for unit, scale in units_of(column).items():
        assert quantity(f"{number!r}{unit}", column) == pytest.approx(number * scale)
        assert quantity(f" {number!r} {unit} ", column) == pytest.approx(number * scale)
    assert quantity(repr(number), column) == number


@pytest.mark.parametrize(
    ("text", "column", "number"),
    [
        ("25ms", "latency_clip_p90_ns", 25e6),
        ("57MiB", "memory_peak_bytes", 57 * 2**20),
        ("60 kB", "bytes_predictor", 60e3),
        ("1pt", "accuracy", 0.01),
        ("1pt", "accuracy_drop_limit95", 1.0),
        ("98 %", "validation_accuracy", 0.98),
        ("2x", "speedup_clip", 2.0),
        ("50x", "ratio_model_bytes", 50.0),
        ("2min", "train_total_s", 120.0),
        ("5.5W", "power_w", 5.5),
        ("300mJ", "energy_clip_net_j", 0.3),
        ("1e5", "params_lstm", 1e5),
    ],
)
def test_each_kind_of_column_has_its_units(text, column, number):
    assert quantity(text, column) == pytest.approx(number)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("25 MB", "latency_clip_p50_ns", "no unit 'MB' fits there; it takes ns, us, ms, s or a bare number"),
        ("2 %", "params", "no unit '%' fits there; it takes a bare number"),
        ("much", "stored_bytes", "no number"),
        ("1,5ms", "latency_clip_p50_ns", "no number"),
    ],
)
def test_a_quantity_that_cannot_be_meant_is_refused(text, column, said):
    with pytest.raises(InputError, match=said):
        quantity(text, column)


def test_a_name_without_a_value_is_refused_with_an_example():
    assert named_quantity("stored_bytes = 60kB", "--max") == ("stored_bytes", "60kB")
    with pytest.raises(InputError, match="--max 'stored_bytes=': write it as in latency_clip_p90_ns=25ms"):
        named_quantity("stored_bytes=", "--max")
