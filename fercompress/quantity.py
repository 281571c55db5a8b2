"""Numbers as people write them: "25ms", "57MiB", "98 %" and a column's name in, the number in the column's own unit out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from fercompress.errors import InputError

_SCALES = MappingProxyType(
    {
        "ns": MappingProxyType({"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}),
        "s": MappingProxyType({"ms": 1e-3, "s": 1.0, "min": 60.0}),
        "bytes": MappingProxyType({"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}),
        "j": MappingProxyType({"mJ": 1e-3, "J": 1.0}),
        "w": MappingProxyType({"mW": 1e-3, "W": 1.0}),
    }
)
_SHARE = MappingProxyType({"%": 0.01, "pt": 0.01})
_POINTS = MappingProxyType({"%": 1.0, "pt": 1.0})
_RATIO = MappingProxyType({"x": 1.0})
_NONE: Mapping[str, float] = MappingProxyType({})
_COUNTS = re.compile(r"params(_\w+)?|n_clips|seeds|blocks|rounds|timed_clips|train_epochs|tt_rank|\w+_bits")
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-z%]*)\s*")


def units_of(column: str) -> Mapping[str, float]:
    """The units that a column's name allows, with what one of them is in the column's own; empty for counts."""
    if column.startswith(("ratio_", "speedup_")):
        return _RATIO
    if column.startswith("accuracy_drop"):
        return _POINTS
    if column.startswith("front_probability_"):
        return _SHARE
    if _COUNTS.fullmatch(column):
        return _NONE
    last = "bytes" if column.startswith("bytes_") else column.rsplit("_", 1)[-1]
    return _SCALES.get(last, _SHARE)


def quantity(text: str, column: str) -> float:
    """ "25ms" for a column in nanoseconds is 25e6; "57MiB", "98 %", "1pt" alike; a bare number is in the column's own unit. raises: InputError"""
    units = units_of(column)
    number, unit = number_and_unit(text, column)
    if unit and unit not in units:
        takes = f"{', '.join(units)} or a bare number" if units else "a bare number"
        raise InputError(f"{column}: no unit {unit!r} fits there; it takes {takes}")
    return number * (units[unit] if unit else 1.0)


def number_and_unit(text: str, column: str) -> tuple[float, str]:
    """The unit is "" where there is none, and whatever letters stand there else. raises: InputError"""
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise InputError(f"{column}: {text!r} is no number with a unit; write it as in 25ms, 57MiB, 2%")
    return float(found[1]), found[2]


def named_quantity(text: str, option: str) -> tuple[str, str]:
    """ "latency_clip_p90_ns=25ms" as its two halves. raises: InputError"""
    name, equals, value = text.partition("=")
    if not equals or not value.strip():
        raise InputError(f"{option} {text!r}: write it as in latency_clip_p90_ns=25ms")
    return name.strip(), value.strip()
