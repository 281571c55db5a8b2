"""What one side of a comparison showed: frozen numbers, from a run's journal or from a baseline file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fercompress.records import Doubt

Floats = npt.NDArray[np.float64]
STAGES = ("extractor", "predictor", "clip")


@dataclass(frozen=True)
class Answers:
    """What one side's bundles said about test clips; a line per seed and clip.

    seeds, labels, predicted: int (n,); clips, clusters: n names; logits: float32 (n, classes), or None where they were not kept
    """

    seeds: npt.NDArray[np.int64]
    clips: tuple[str, ...]
    clusters: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    logits: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.clips)


@dataclass(frozen=True)
class Evidence:
    """name: as a person called this side; bundles: sha256 of the timed one first, then of the others

    rounds: stage -> round -> mean of the log medians of that round's two mirrored blocks (log ns)
    tails: round -> mean of the log 90th percentiles of that round's blocks (log ns)
    clip_ns: every timed clip, all blocks together
    memory_bytes, energy_clip_j: one number per block
    conditions: what must be alike where two sides were not measured beside each other; see `baseline.CONDITIONS`
    """

    name: str
    target: str
    bundles: tuple[str, ...]
    stored_bytes: int
    answers: Answers | None
    rounds: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    tails: Mapping[int, float] = field(default_factory=dict)
    clip_ns: Floats = field(default_factory=lambda: np.zeros(0))
    memory_bytes: tuple[float, ...] = ()
    energy_clip_j: tuple[float, ...] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict)
    simulated: bool = False  # the target: a model of a board told its times
    # Of a pass ("latency", ...) or a metric: why its numbers are weaker than they look.
    doubts: Mapping[str, frozenset[Doubt]] = field(default_factory=dict)
    # Of a pass ("accuracy", "power", ...) or a metric: why it told nothing.
    lacking: Mapping[str, str] = field(default_factory=dict)
    round_s: float = 0.0  # seconds that one more round of both sides takes, for a forecast

    def doubts_of(self, metric: str, pass_: str) -> frozenset[Doubt]:
        return self.doubts.get(metric, frozenset()) | self.doubts.get(pass_, frozenset())

    def value(self, column: str) -> float | None:
        """One number as summary.json has it; None where it was not measured."""
        if column == "stored_bytes":
            return float(self.stored_bytes)
        if column == "accuracy":
            return None if self.answers is None else float(np.mean(self.answers.predicted == self.answers.labels))
        for stage in STAGES:
            if column == f"latency_{stage}_p50_ns" and self.rounds.get(stage):
                return float(np.exp(np.median(list(self.rounds[stage].values()))))
        if column == "latency_clip_p90_ns" and len(self.clip_ns):
            return float(np.quantile(self.clip_ns, 0.9, method="inverted_cdf"))
        if column == "memory_peak_bytes" and self.memory_bytes:
            return float(max(self.memory_bytes))
        if column == "energy_clip_j" and self.energy_clip_j:
            return float(np.median(self.energy_clip_j))
        return None
