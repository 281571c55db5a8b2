"""The metrics that a gate looks at, as a table: which way is better, and how much less does not matter."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from fercompress.errors import InputError
from fercompress.quantity import number_and_unit

PASSES = ("accuracy", "latency", "memory", "power")
Kind = Literal["paired", "clips", "exact", "blocks"]


@dataclass(frozen=True)
class Metric:
    """name: as in summary.json, where it has a column there

    kind: "paired": ratios of a round's blocks; "clips": both sides' answers to the same clips; "exact": one number, without chance;
        "blocks": one number per block, not paired
    effect: the smallest change that matters: a ratio's distance from 1 ("paired", "exact", "blocks"), or a share of the clips ("clips")
    """

    name: str
    kind: Kind
    higher_is_better: bool
    effect: float
    title: str

    @property
    def measured_by(self) -> str:
        """The pass; "" for what is known without one."""
        if self.kind == "blocks":
            return {"memory_peak_bytes": "memory", "energy_clip_j": "power"}[self.name]
        return {"clips": "accuracy", "paired": "latency", "exact": ""}[self.kind]

    @property
    def unit(self) -> str:
        """Of a change of it, times 100."""
        return "%" if self.relative else "pt"

    @property
    def relative(self) -> bool:
        return self.kind != "clips"


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("accuracy", "clips", True, 0.01, "accuracy"),
            Metric("worst_class_recall", "clips", True, 0.05, "recall of the class that lost most"),
            Metric("negative_flips", "clips", False, 0.05, "clips that were right and are wrong now"),
            Metric("stored_bytes", "exact", False, 0.01, "stored bytes"),
            Metric("latency_extractor_p50_ns", "paired", False, 0.02, "latency of the extractor, a clip's frames"),
            Metric("latency_predictor_p50_ns", "paired", False, 0.02, "latency of the predictor"),
            Metric("latency_clip_p50_ns", "paired", False, 0.02, "latency of a whole clip"),
            Metric("latency_clip_p90_ns", "paired", False, 0.05, "latency of a whole clip, the slowest tenth"),
            Metric("memory_peak_bytes", "blocks", False, 0.02, "peak memory"),
            Metric("energy_clip_j", "blocks", False, 0.05, "energy per clip"),
        )
    }
)


def metric(name: str) -> Metric:
    """raises: InputError that names the nearest one"""
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=1, cutoff=0.4)
        raise InputError(f"no metric named {name!r}{f'; did you mean {near[0]!r}?' if near else ''} (known: {', '.join(METRICS)})")
    return METRICS[name]


def effects(wishes: Mapping[str, str]) -> dict[str, float]:
    """A metric's smallest effect that matters, as a person asked for it ("2 %", "1pt"). raises: InputError"""
    found = {}
    for name, text in wishes.items():
        asked = metric(name)
        number, unit = number_and_unit(text, name)
        if unit not in ("%", "pt", ""):
            raise InputError(f"{name}: a smallest effect is written as in 2% or 1pt, got {text!r}")
        value = number * (0.01 if unit else 1.0)
        if not 0 < value < 1:
            raise InputError(f"{name}: a smallest effect lies between 0 and 100 % (or points), got {text!r}")
        found[asked.name] = value
    return found
