"""How much a metric changed, with the error of that: two sides' evidence in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fercompress.gate.evidence import STAGES, Answers, Evidence, Floats
from fercompress.gate.finding import Finding, Verdict
from fercompress.gate.metrics import Metric

FEWEST_ROUNDS = 6


@dataclass(frozen=True)
class Change:
    """estimate: log ratio, or share of the clips (positive: more); error: its standard error, with `freedom` degrees of freedom

    n: how many were counted, of which unit; tests: how many were looked at, where this is the worst of them
    candidate, baseline: each side's value, in the metric's unit
    """

    estimate: float
    error: float
    freedom: float
    n: int
    unit: str
    tests: int = 1
    candidate: float | None = None
    baseline: float | None = None


def change(of: Metric, candidate: Evidence, baseline: Evidence, effect: float, session_sd: float | None) -> Change | Finding:
    """The change that the evidence shows, or a finding where no statistics are needed or possible.

    session_sd: of log values between two days on one target; None where rounds held both sides
    """
    values: dict[str, Any] = {"candidate": candidate.value(of.name), "baseline": baseline.value(of.name)}
    found: Change | Finding
    if of.kind == "exact":
        found = _exact(of, values["candidate"], values["baseline"], effect)
    elif of.kind == "paired":
        found = _timed(of, series(of, candidate), series(of, baseline), session_sd)
    elif of.kind == "blocks":
        found = _by_block(of, candidate, baseline)
    elif candidate.answers is None or baseline.answers is None:
        found = Finding(of, "n/a", "accuracy was not measured on both sides")
    else:
        found = _by_clip(of, candidate.answers, baseline.answers)
    known = {name: value for name, value in values.items() if getattr(found, name) is None}
    return replace(found, effect=effect, **known) if isinstance(found, Finding) else replace(found, **known)


def series(of: Metric, side: Evidence) -> Mapping[int, float]:
    """A timed metric's value by round, log nanoseconds."""
    if of.name == "latency_clip_p90_ns":
        return side.tails
    return next(side.rounds.get(stage, {}) for stage in STAGES if of.name == f"latency_{stage}_p50_ns")


def _exact(of: Metric, candidate: float, baseline: float, effect: float) -> Finding:
    ratio = candidate / baseline - 1
    verdict: Verdict = "worse" if ratio > effect else "better" if ratio < -effect else "equivalent"
    return Finding(of, verdict, "counted", estimate=ratio, low=ratio, high=ratio, n=1, unit="count")


def _timed(of: Metric, mine: Mapping[int, float], theirs: Mapping[int, float], session_sd: float | None) -> Change | Finding:
    common = sorted(mine.keys() & theirs.keys())
    n = len(common) if session_sd is None else min(len(mine), len(theirs))
    if n < FEWEST_ROUNDS:
        return Finding(of, "inconclusive", f"{n} rounds", need=f"at least {FEWEST_ROUNDS - n} more")
    if session_sd is None:
        differences = np.array([mine[number] - theirs[number] for number in common])
        return Change(float(differences.mean()), _error(differences), n - 1, n, "rounds")
    first, second = np.array(list(mine.values())), np.array(list(theirs.values()))
    # Two days on one machine differ by more than the rounds of one day tell.
    error = math.sqrt(_error(first) ** 2 + _error(second) ** 2 + 2 * session_sd**2)
    return Change(float(np.median(first) - np.median(second)), error, n - 1, n, "rounds")


def _error(values: Floats) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def _by_block(of: Metric, candidate: Evidence, baseline: Evidence) -> Change | Finding:
    column = {"memory_peak_bytes": "memory_bytes", "energy_clip_j": "energy_clip_j"}[of.name]
    mine, theirs = (np.log(np.array(getattr(side, column), np.float64)) for side in (candidate, baseline))
    if not len(mine) or not len(theirs):
        return Finding(of, "n/a", "not measured on both sides")
    if min(len(mine), len(theirs)) < 2:
        return Finding(of, "inconclusive", "one block of a side: its spread is not known", need="at least 1 more block")
    error = math.sqrt(_error(mine) ** 2 + _error(theirs) ** 2)
    return Change(float(mine.mean() - theirs.mean()), error, min(len(mine), len(theirs)) - 1, min(len(mine), len(theirs)), "blocks")


def _by_clip(of: Metric, candidate: Answers, baseline: Answers) -> Change | Finding:
    """Clips that both were asked, seed by seed; persons (or sentences) are the sample."""
    asked = {place: row for row, place in enumerate(zip(baseline.seeds.tolist(), baseline.clips, strict=True))}
    both = [(row, asked[place]) for row, place in enumerate(zip(candidate.seeds.tolist(), candidate.clips, strict=True)) if place in asked]
    if not both:
        return Finding(of, "n/a", "the sides were asked about no common clip")
    rows, others = (np.array(side) for side in zip(*both, strict=True))
    labels, clusters = candidate.labels[rows], np.array(candidate.clusters)[rows]
    now, then = candidate.predicted[rows], baseline.predicted[others]
    right, was_right = (now == labels).astype(float), (then == labels).astype(float)
    if np.array_equal(now, then):
        reason = f"the same answer to all {len(both)} clips"
        if candidate.logits is not None and baseline.logits is not None:
            reason += f"; largest difference of a logit: {float(np.abs(candidate.logits[rows] - baseline.logits[others]).max()):.2g}"
        return Finding(of, "equivalent", reason, estimate=0.0, low=0.0, high=0.0, n=len(both), unit="clips")
    if of.name == "accuracy":
        return _mean(right - was_right, clusters)
    if of.name == "negative_flips":
        lost = ((was_right == 1) & (right == 0)).astype(float)
        return replace(_mean(lost, clusters), candidate=float(lost.mean()), baseline=0.0)
    classes = [label for label in range(len(candidate.classes)) if np.any(labels == label)]
    each = {label: _mean((right - was_right)[labels == label], clusters[labels == label]) for label in classes}
    worst = min(each, key=lambda label: each[label].estimate / max(each[label].error, 1e-12))
    mine, theirs = (float(answers[labels == worst].mean()) for answers in (right, was_right))
    return replace(each[worst], tests=len(classes), candidate=mine, baseline=theirs)


def _mean(values: Floats, clusters: Any) -> Change:
    """Mean over clips with a standard error that takes persons as the sample, and is never below that of independent clips with one pair more
    (one lost, one won), which keeps "no clip differs" from reading as "no difference is possible" (Agresti & Min 2005).
    """
    names, which = np.unique(clusters, return_inverse=True)
    n, mean = len(values), float(values.mean())
    lost, won = float((values < 0).sum()), float((values > 0).sum())
    plain = math.sqrt(max((lost + won + 2) / (n + 2) - mean**2, 0.0) / (n + 2))
    if len(names) < 2:
        return Change(mean, plain, max(n - 1, 1), n, "clips")
    residual = np.bincount(which, values - mean)
    clustered = math.sqrt(len(names) / (len(names) - 1) * float((residual**2).sum())) / n
    return Change(mean, max(plain, clustered), len(names) - 1, n, "clips")
