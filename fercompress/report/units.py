"""Numbers for people: a value in a base unit in, a short text with a fitting unit out (three significant digits)."""

from __future__ import annotations

import math
from collections.abc import Sequence

MINUS = "−"


def three(value: float) -> str:
    """Three significant digits, thousands grouped, never an exponent: 0.00123, 18.1, 17,554."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.2e}") if abs(value) < 1000 else value
    decimals = max(0, 2 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}".replace("-", MINUS)


def bytes_text(value: float) -> str:
    """Decimal units, as drives and data sheets count: 1 kB = 1000 B."""
    return _scaled(value, (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)))


def time_text(value_ns: float) -> str:
    return _scaled(value_ns, (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0)))


def count_text(value: float) -> str:
    return f"{value:,.0f}"


def seconds_text(value_s: float) -> str:
    return time_text(value_s * 1e9)


def watts_text(value_w: float) -> str:
    return f"{three(value_w)} W"


def joules_text(value_j: float) -> str:
    return ("" if value_j >= 0 else MINUS) + _scaled(abs(value_j) * 1e6, (("J", 1e6), ("mJ", 1e3), ("µJ", 1.0)))


def ratio_text(value: float) -> str:
    return f"{three(value)}×"


def percent_text(share: float) -> str:
    return f"{100 * share:.1f} %"


def points_text(share: float) -> str:
    """A difference of two shares, signed, in percentage points."""
    points = round(100 * share, 1)
    return f"{'+' if points > 0 else MINUS if points < 0 else ''}{abs(points):.1f}"


def interval_text(bounds: Sequence[float], *, percent: bool = False) -> str:
    low, high = bounds
    text = f"[{100 * low:.1f}, {100 * high:.1f}]" if percent else f"[{three(low)}, {three(high)}]"
    return text.replace("-", MINUS)


def faster_text(ratio: float, bounds: Sequence[float] | None) -> str:
    """ "6.02× [5.71, 6.30] faster", "1.30× [1.25, 1.36] slower", or that the interval holds 1."""
    if bounds is None:
        return f"{ratio_text(max(ratio, 1 / ratio))} {'faster' if ratio >= 1 else 'slower'} (no interval)"
    if bounds[0] > 1:
        return f"{ratio_text(ratio)} {interval_text(bounds)} faster"
    if bounds[1] < 1:
        return f"{ratio_text(1 / ratio)} {interval_text((1 / bounds[1], 1 / bounds[0]))} slower"
    return f"as fast as far as can be told, {ratio_text(ratio)} {interval_text(bounds)}"


def time_interval_text(bounds_ns: Sequence[float]) -> str:
    """Both bounds in the unit of the larger one: "[6.21, 6.40] ms"."""
    unit = time_text(bounds_ns[1]).rpartition(" ")[2]
    factor = {"s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1.0}[unit]
    return f"{interval_text([bound / factor for bound in bounds_ns])} {unit}"


def _scaled(value: float, units: Sequence[tuple[str, float]]) -> str:
    for unit, factor in units:
        # 999.6 kB would round to "1,000 kB": it belongs to the next unit.
        if abs(value) >= factor * 0.9995:
            return f"{three(value / factor)} {unit}" if factor > 1 else f"{value:,.0f} {unit}"
    return f"{value:g} {units[-1][0]}"
