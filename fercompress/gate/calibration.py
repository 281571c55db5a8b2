"""What a target can tell apart: the noise of one bundle against itself, metric by metric, kept on this machine per target."""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fercompress import stats
from fercompress.errors import ResultsError
from fercompress.gate.comparisons import round_ratios
from fercompress.gate.evidence import STAGES, Evidence
from fercompress.gate.metrics import METRICS, Metric

SCHEMA = 1
FLOOR = 2.0  # a smallest effect below so many times the noise is none
BELIEVED_DAYS = 90  # machines are updated, moved and filled; the canary finds a shift of the times, not a change of the noise
CANARY_SHIFT = 0.05  # a median so far from the calibration's is another state of the target (lisa's anchor, 5 %)


@dataclass(frozen=True)
class Calibration:
    """Of A/A sessions of one bundle on one target.

    created: an ISO date (UTC); data, data_root, inputs: the clips that were asked for, all None where the bundle's own run told them
    round_sd: metric -> standard deviation of a round's log ratio (of a block's log value where there are no pairs)
    session_sd: of the log latency between sessions; medians: stage -> log ns in the middle of all rounds
    """

    target: str
    created: str
    bundle: str
    sha256: str
    data: str | None
    data_root: str | None
    sessions: int
    rounds: int
    round_sd: Mapping[str, float]
    session_sd: float
    medians: Mapping[str, float]
    conditions: Mapping[str, Any]
    inputs: str | None = None

    @property
    def expires(self) -> datetime.date:
        """The last day on which it is believed."""
        return datetime.date.fromisoformat(self.created) + datetime.timedelta(days=BELIEVED_DAYS)

    def expired(self, today: datetime.date) -> bool:
        return today > self.expires

    def noise(self, metric: str, rounds: int) -> float:
        """Standard error (log) of one comparison of so many rounds."""
        return self.round_sd[metric] / math.sqrt(rounds)

    def smallest_effect(self, metric: str, rounds: int) -> float:
        """What a gate of so many rounds may call a change that matters: the metric's own, or twice the noise. A share."""
        return max(METRICS[metric].effect, FLOOR * self.noise(metric, rounds))

    def detectable(self, metric: str, rounds: int) -> float:
        """Minimum detectable effect: a true slowdown of this share is called worse by nine gates in ten, all metrics in one gate. A share."""
        smallest = self.smallest_effect(metric, rounds)
        found = stats.detectable_effect(self.round_sd[metric], rounds, smallest=smallest, metrics=len(METRICS))
        assert found is not None  # a calibration has six rounds at least
        return found


def calibrate(
    sessions: Sequence[tuple[Evidence, Evidence]], created: str, bundle: str, data: str | None, data_root: str | None,
    inputs: str | None = None,
) -> Calibration:  # fmt: skip
    """sessions: (candidate, baseline) of each, the same bundle on both sides"""
    deviations = {name: deviation for name, metric in METRICS.items() if (deviation := _deviation(metric, sessions)) is not None}
    medians = {
        stage: [float(np.median([*mine.rounds[stage].values(), *theirs.rounds[stage].values()])) for mine, theirs in sessions]
        for stage in STAGES
        if all(side.rounds.get(stage) for sides in sessions for side in sides)  # one file for both stages has one of them
    }
    between = max(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for values in medians.values())
    first = sessions[0][0]
    return Calibration(
        first.target, created, bundle, first.bundles[0], data, data_root, len(sessions), len(first.rounds["clip"]), deviations,
        max(between, max((deviations[name] for name in deviations if METRICS[name].kind == "paired"), default=0.0)),
        {stage: float(np.median(values)) for stage, values in medians.items()}, json.loads(json.dumps(first.conditions)), inputs,
    )  # fmt: skip


def _deviation(metric: Metric, sessions: Sequence[tuple[Evidence, Evidence]]) -> float | None:
    """What one round (or block) adds to the noise, over all sessions; None where it was not measured."""
    if metric.kind == "paired":
        groups = [round_ratios(metric, *sides) for sides in sessions]
    elif metric.kind == "blocks":
        column = {"memory_peak_bytes": "memory_bytes", "energy_clip_j": "energy_clip_j"}[metric.name]
        groups = [list(np.log(getattr(side, column))) for sides in sessions for side in sides if getattr(side, column)]
    else:
        return None
    variances = [float(np.var(values, ddof=1)) for values in groups if len(values) > 1]
    return math.sqrt(float(np.mean(variances)) * (1 if metric.kind == "paired" else 2)) if variances else None


def shifted(calibration: Calibration, seen: Evidence) -> list[str]:
    """Stages whose median is not the calibration's any more, in words."""
    found = []
    for stage, expected in calibration.medians.items():
        rounds = seen.rounds.get(stage)
        if rounds and abs(shift := float(np.median(list(rounds.values()))) - expected) > max(CANARY_SHIFT, 2 * calibration.session_sd):
            found.append(f"{stage} {100 * math.expm1(shift):+.0f} %")
    return found


def write(path: Path, calibration: Calibration) -> None:
    """raises: ResultsError"""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps({"schema": SCHEMA, **asdict(calibration)}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        raise ResultsError(f"{path}: the calibration cannot be written ({error.strerror})") from error


def read(path: Path) -> Calibration | None:
    """None where there is none. raises: ResultsError for one that cannot be read"""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        made = Calibration(**table)
        datetime.date.fromisoformat(made.created)
        return made
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ResultsError(f"{path}: the calibration cannot be read ({error}); make it anew: fercompress calibrate") from error
