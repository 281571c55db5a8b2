"""Numbers for people and axes in their units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercompress.report.canvas import log_ticks, short
from fercompress.report.units import bytes_text, interval_text, points_text, ratio_text, three, time_interval_text, time_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (bytes_text(0), "0 B"),
        (bytes_text(999), "999 B"),
        (bytes_text(99_600), "99.6 kB"),
        (bytes_text(999_960), "1.00 MB"),  # not "1,000 kB"
        (bytes_text(18_136_460), "18.1 MB"),
        (time_text(512_340), "512 µs"),
        (time_text(15_700_000), "15.7 ms"),
        (time_text(999_960), "1.00 ms"),
        (ratio_text(17_554.3), "17,554×"),
        (ratio_text(9.999), "10.0×"),
        (points_text(-0.0051), "−0.5"),
        (points_text(0.0004), "0.0"),
        (interval_text((-0.024, 0.008), percent=True), "[−2.4, 0.8]"),
        (time_interval_text((999_000, 1_020_000)), "[0.999, 1.02] ms"),
    ],
)
def test_numbers_are_short_and_have_their_unit(text: str, expected: str) -> None:
    assert text == expected


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_three_digits_keep_the_value_within_half_a_percent(value: float) -> None:
    text = three(value)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.0051)


@given(st.floats(min_value=1, max_value=1e10), st.floats(min_value=1.3, max_value=1e6))
def test_a_log_axis_has_ticks_inside_it_and_not_too_many(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert len(ticks) <= 7
    assert all(low <= tick <= low * factor for tick in ticks)
    if factor >= 3:
        assert ticks


def test_a_narrow_log_axis_skips_powers_of_ten_rather_than_to_have_no_tick() -> None:
    assert log_ticks(5e4, 5e7, most=3) == [1e5, 1e6, 1e7]
    assert log_ticks(5e3, 5e7, most=3) == [1e4, 1e6]


def test_ticks_drop_zeros_after_the_point() -> None:
    assert [short(text) for text in ("10.0 kB", "1.50×", "100 ms", "0 B", "1.00 MB")] == ["10 kB", "1.5×", "100 ms", "0 B", "1 MB"]
