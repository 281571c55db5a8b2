"""What two sides showed, metric by metric, in the form in which `stats.verdict` decides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats as distributions

from fercompress import stats
from fercompress.gate.evidence import STAGES, Answers, Evidence, Floats
from fercompress.gate.metrics import Metric
from fercompress.records import Doubt
from fercompress.stats.classes import UNSEEN, recalls

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Unpaired:
    """The difference of two samples' means, each of independent values: Welch's t. error: its standard error; unit: what `samples` counts"""

    value: float
    error: float
    freedom: float
    samples: int
    unit: str

    def above(self, limit: float) -> float:
        return self._tail(self.value - limit)

    def below(self, limit: float) -> float:
        return self._tail(limit - self.value)

    def interval(self, tail: float) -> stats.Interval:
        half = float(distributions.t.isf(tail, self.freedom)) * self.error if self.error else 0.0
        return self.value - half, self.value + half

    def _tail(self, distance: float) -> float:
        if self.error == 0:
            return 0.0 if distance > 0 else 1.0
        return float(distributions.t.sf(distance / self.error, self.freedom))


@dataclass(frozen=True)
class Compared:
    """comparison: None where the metric was not measured on both sides (`reason`); candidate, baseline: each side's value

    beside: what is worth knowing beside the verdict and decides nothing
    """

    metric: Metric
    comparison: stats.Comparison | None
    reason: str = ""
    candidate: float | None = None
    baseline: float | None = None
    beside: str = ""


def compare(
    metric: Metric, candidate: Evidence, baseline: Evidence, effect: float, looks: stats.Looks, session_sd: float | None
) -> Compared:  # fmt: skip
    """effect: the smallest change that matters; session_sd: of log values between two days on one target, None where rounds held both sides"""
    sides = candidate.value(metric.name), baseline.value(metric.name)
    if metric.kind == "clips":
        if candidate.answers is None or baseline.answers is None:
            return Compared(metric, None, _why_not(metric, candidate, baseline), *sides)
        return _clips(metric, candidate.answers, baseline.answers, effect, _doubts(metric, candidate, baseline))
    evidence: stats.Evidence | None
    lacking = ""
    if metric.kind == "exact":
        evidence = stats.ExactChange(float(baseline.stored_bytes), float(candidate.stored_bytes))
    elif metric.kind == "paired":
        mine, theirs = series(metric, candidate), series(metric, baseline)
        if not mine or not theirs:
            return Compared(metric, None, _why_not(metric, candidate, baseline), *sides)
        evidence = _paired(mine, theirs, looks) if session_sd is None else _between_days(mine, theirs, session_sd)
        lacking = f"{len(mine.keys() & theirs.keys())} rounds of both sides, a verdict needs at least {stats.FEWEST_ROUNDS}"
    else:
        column = {"memory_peak_bytes": "memory_bytes", "energy_clip_j": "energy_clip_j"}[metric.name]
        logs = [np.log(np.array(getattr(side, column), np.float64)) for side in (candidate, baseline)]
        if not all(map(len, logs)):
            return Compared(metric, None, _why_not(metric, candidate, baseline), *sides)
        evidence = _welch(logs[0], logs[1], "blocks") if min(map(len, logs)) > 1 else None
        lacking = "one block of a side: its spread is not known"
    direction = stats.Direction.HIGHER if metric.higher_is_better else stats.Direction.LOWER
    minutes = candidate.round_s / 60 if metric.kind == "paired" and candidate.round_s else None
    made = stats.Comparison(
        metric.name,
        direction,
        stats.Scale.RATIO,
        effect,
        evidence,
        "" if evidence else lacking,
        minutes=minutes,
        doubts=_doubts(metric, candidate, baseline),
    )
    return Compared(metric, made, "", *sides)


def _doubts(metric: Metric, candidate: Evidence, baseline: Evidence) -> frozenset[Doubt]:
    """Of both sides: what weakens one of them weakens their difference."""
    return candidate.doubts_of(metric.name, metric.measured_by) | baseline.doubts_of(metric.name, metric.measured_by)


def _why_not(metric: Metric, candidate: Evidence, baseline: Evidence) -> str:
    """Why a metric was not measured on both sides, as far as the sides tell."""
    sides = {"candidate": candidate, "baseline": baseline}
    told = {name: side.lacking.get(metric.name) or side.lacking.get(metric.measured_by) for name, side in sides.items()}
    reasons = {name: reason for name, reason in told.items() if reason}
    if len(set(reasons.values())) == 1 and len(reasons) == 2:
        return reasons["candidate"]
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "not measured on both sides"


def series(metric: Metric, side: Evidence) -> Mapping[int, float]:
    """A timed metric's value by round, log nanoseconds."""
    if metric.name == "latency_clip_p90_ns":
        return side.tails
    return next(side.rounds.get(stage, {}) for stage in STAGES if metric.name == f"latency_{stage}_p50_ns")


def round_ratios(metric: Metric, candidate: Evidence, baseline: Evidence) -> list[float]:
    """log(candidate / baseline) of each round that held both."""
    mine, theirs = series(metric, candidate), series(metric, baseline)
    return [mine[number] - theirs[number] for number in sorted(mine.keys() & theirs.keys())]


def _paired(mine: Mapping[int, float], theirs: Mapping[int, float], looks: stats.Looks) -> stats.PairedRounds | None:
    ratios = [mine[number] - theirs[number] for number in sorted(mine.keys() & theirs.keys())]
    return stats.paired_rounds(ratios, looks) if len(ratios) >= stats.FEWEST_ROUNDS else None


def _between_days(mine: Mapping[int, float], theirs: Mapping[int, float], session_sd: float) -> Unpaired | None:
    """Two days on one machine differ by more than the rounds of one day tell."""
    if min(len(mine), len(theirs)) < stats.FEWEST_ROUNDS:
        return None
    plain = _welch(np.array(list(mine.values())), np.array(list(theirs.values())), "rounds")
    return Unpaired(plain.value, math.hypot(plain.error, math.sqrt(2) * session_sd), plain.freedom, plain.samples, plain.unit)


def _welch(first: Floats, second: Floats, unit: str) -> Unpaired:
    parts = [float(np.var(side, ddof=1)) / len(side) for side in (first, second)]
    error = math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (first, second), strict=True)) if error else 1.0
    return Unpaired(float(first.mean() - second.mean()), error, freedom, min(len(first), len(second)), unit)


def _clips(metric: Metric, candidate: Answers, baseline: Answers, effect: float, doubts: frozenset[Doubt]) -> Compared:
    """Of the clips and seeds that both were asked about; persons (or sentences) are the sample."""
    common = _common(candidate, baseline)
    if common is None:
        return Compared(metric, None, "the sides were asked about no common clip")
    labels, clusters, now, then = common
    seen = (now != UNSEEN) & (then != UNSEEN)
    right, was_right = (np.where(seen, answers == labels, np.nan) for answers in (now, then))
    classes = len(candidate.classes)
    evidence: stats.Evidence
    if metric.name == "accuracy":
        values = [stats.seed_mean(side) for side in (right, was_right)]
        evidence = stats.accuracy_change(was_right, right, clusters)
    elif metric.name == "negative_flips":
        evidence = stats.negative_flips(labels, then, now, clusters)
        values = [evidence.value, 0.0]
    else:
        counts = [sum(stats.confusion_matrix(labels[row], side[seed][row], classes) for seed, row in enumerate(seen)) for side in (now, then)]
        values = [float(np.nanmin(recalls(np.asarray(each)))) for each in counts]
        evidence = stats.class_change(stats.worst_class_recall, labels, then, now, clusters, classes)
    same = bool(np.array_equal(now[seen], then[seen]))
    direction = stats.Direction.HIGHER if metric.higher_is_better else stats.Direction.LOWER
    made = stats.Comparison(metric.name, direction, stats.Scale.DIFFERENCE, effect, evidence, identical=same, doubts=doubts)
    beside = "" if same or metric.name != "accuracy" else _mcnemar(stats.flips(labels, then, now), len(seen))
    return Compared(metric, made, _difference(candidate, baseline) if same else "", values[0], values[1], beside)


def _mcnemar(changed: stats.Flips, seeds: int) -> str:
    """The textbook's test beside ours, which counts persons: it takes clips for independent, so that its p is too small where persons differ."""
    told = f"{changed.negative} clips lost, {changed.positive} won"
    if seeds > 1:
        return f"{told} over {seeds} seeds"
    return f"{told} (McNemar's mid-p, of clips as if independent: {stats.mcnemar(changed.negative, changed.positive, mid=True):.2g})"


def _common(candidate: Answers, baseline: Answers) -> tuple[Ints, Sequence[str], Ints, Ints] | None:
    """labels (N,), clusters, and both sides' answers (S, N), UNSEEN where a seed was not asked about a clip."""
    clips = sorted(set(candidate.clips) & set(baseline.clips))
    seeds = sorted(set(candidate.seeds.tolist()) & set(baseline.seeds.tolist()))
    if not clips or not seeds:
        return None
    place, row = {clip: i for i, clip in enumerate(clips)}, {seed: i for i, seed in enumerate(seeds)}
    labels, clusters = np.zeros(len(clips), np.int64), [""] * len(clips)
    tables = []
    for side in (candidate, baseline):
        table = np.full((len(seeds), len(clips)), UNSEEN, np.int64)
        for seed, clip, cluster, label, answer in zip(side.seeds.tolist(), side.clips, side.clusters, side.labels, side.predicted, strict=True):
            if clip in place and seed in row:
                table[row[seed], place[clip]] = answer if answer >= 0 else (label + 1) % len(side.classes)  # no number is a wrong answer
                labels[place[clip]], clusters[place[clip]] = label, cluster
        tables.append(table)
    both = (tables[0] != UNSEEN) & (tables[1] != UNSEEN)
    if not both.any(axis=1).all():
        return None
    return labels, clusters, tables[0], tables[1]


def _difference(candidate: Answers, baseline: Answers) -> str:
    if candidate.logits is None or baseline.logits is None or candidate.clips != baseline.clips or candidate.logits.shape != baseline.logits.shape:
        return "the same answer to every clip"
    largest = stats.largest_difference(baseline.logits.astype(np.float64), candidate.logits.astype(np.float64))
    return f"the same answer to every clip; largest difference of a logit: {largest:.2g}"
