"""From two sides' evidence to a verdict per metric: better, worse, equivalent, or inconclusive with what would decide it.

"worse" needs more than any change: the change must be larger than the metric's smallest effect that matters, at a level that keeps the chance of a
false "worse" of a whole gate (all metrics, all looks) below ALARM. Metrics share it by Holm's step-down rule, looks in equal parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy import stats as distributions

from fercompress import stats
from fercompress.errors import InputError
from fercompress.gate.change import FEWEST_ROUNDS, Change, change, series
from fercompress.gate.evidence import Evidence
from fercompress.gate.finding import Finding, Judgement, LimitFinding
from fercompress.gate.metrics import METRICS, Metric, effects, metric, quantity

ALARM = 0.025  # of a whole gate: chance of any "worse" where nothing changed
EQUAL = 0.05  # of one metric: chance of "equivalent" where the change is as large as the smallest effect that matters
SESSION_SD = 0.03  # of the log latency between two sessions on one target, where no calibration says better
ENOUGH = 10_000  # more rounds (or times as many clips) than this is no advice


@dataclass(frozen=True)
class Rules:
    """effects: metric -> the smallest change that matters; limits: column -> (value in the column's unit, whether it is the most that is allowed)"""

    metrics: tuple[Metric, ...]
    effects: Mapping[str, float]
    limits: Mapping[str, tuple[float, bool]] = field(default_factory=dict)
    looks: int = 1
    session_sd: float = SESSION_SD

    @classmethod
    def of(
        cls, wished: Mapping[str, str], limits: Mapping[str, str], names: Sequence[str], looks: int,
        noise: Mapping[str, float] | None = None, session_sd: float = SESSION_SD,
    ) -> Rules:  # fmt: skip
        """From what a person wrote; noise: metric -> log noise of one comparison on a calibrated target, twice of which is the least that can matter.

        raises: InputError
        """
        chosen = tuple(metric(name) for name in names) or tuple(METRICS.values())
        found = effects(wished)
        sizes = {each.name: max(found.get(each.name, each.effect), 2 * (noise or {}).get(each.name, 0.0)) for each in chosen}
        bounds = {}
        for column, text in limits.items():
            most = not (column in METRICS and METRICS[column].higher_is_better)
            if column not in METRICS:
                raise InputError(f"--limit {column}: no such metric (known: {', '.join(METRICS)})")
            bounds[column] = (quantity(text, column), most)
        return cls(chosen, sizes, bounds, looks, session_sd)


def judge(candidate: Evidence, baseline: Evidence, rules: Rules, *, paired: bool = True) -> Judgement:
    """paired: whether rounds held both sides; else the baseline is of another day"""
    level = ALARM / rules.looks
    findings: dict[str, Finding] = {}
    changes: dict[str, Change] = {}
    for each in rules.metrics:
        found = change(each, candidate, baseline, rules.effects[each.name], None if paired else rules.session_sd)
        if isinstance(found, Finding):
            findings[each.name] = found
        else:
            changes[each.name] = found
    for name, share in _holm(changes, rules, level).items():
        findings[name] = _decided(METRICS[name], changes[name], rules.effects[name], share, candidate.round_s)
    bounds = tuple(_limit(column, value, most, candidate) for column, (value, most) in rules.limits.items())
    rounds = len(candidate.rounds.get("clip", {}))
    return Judgement(candidate.name, baseline.name, candidate.target, tuple(findings[each.name] for each in rules.metrics), bounds, rounds)


def _holm(changes: Mapping[str, Change], rules: Rules, level: float) -> dict[str, float]:
    """At which level each metric may be called worse: the surest one at level / m, the next at level / (m - 1), and so on (Holm 1979)."""
    sure = sorted(changes, key=lambda name: _chance(METRICS[name], changes[name], rules.effects[name]))
    shares = {}
    left = len(sure)
    for name in sure:
        shares[name] = level / left
        if _chance(METRICS[name], changes[name], rules.effects[name]) <= shares[name]:
            left -= 1
    return shares


def _chance(of: Metric, change: Change, effect: float) -> float:
    """p-value of "not worse by more than the smallest effect that matters"."""
    loss = _loss(of, change) - _bound(of, effect)
    return min(1.0, change.tests * float(_tail(loss, change)))


def _tail(distance: float, change: Change) -> float:
    """P(an estimate this far above the truth)."""
    if change.error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(distributions.t.sf(distance / change.error, change.freedom))


def _loss(of: Metric, change: Change) -> float:
    return -change.estimate if of.higher_is_better else change.estimate


def _bound(of: Metric, effect: float) -> float:
    return math.log1p(effect) if of.relative else effect


def _decided(of: Metric, change: Change, effect: float, share: float, round_s: float) -> Finding:
    loss, bound = _loss(of, change), _bound(of, effect)
    half = 0.0 if change.error == 0 else float(distributions.t.isf(0.025, change.freedom)) * change.error
    shown = [change.estimate, change.estimate - half, change.estimate + half]
    estimate, low, high = (math.expm1(value) if of.relative else value for value in shown)
    common: dict[str, Any] = {
        "candidate": change.candidate, "baseline": change.baseline, "estimate": estimate, "low": low, "high": high, "effect": effect,
        "n": change.n, "unit": change.unit,
    }  # fmt: skip
    counted = f"{change.n} {change.unit}"
    if change.tests > 1:
        counted += f", the worst of {change.tests} classes"
    if _chance(of, change, effect) <= share:
        return Finding(of, "worse", counted, **common)
    if change.tests * _tail(-loss - bound, change) <= share:
        return Finding(of, "better", counted, **common)
    only_loss = of.name == "negative_flips"  # there cannot be fewer than none
    if change.tests * max(_tail(bound - loss, change), 0.0 if only_loss else _tail(bound + loss, change)) <= EQUAL:
        return Finding(of, "equivalent", counted, **common)
    return Finding(of, "inconclusive", counted, need=_need(change, loss, bound, share, round_s), **common)


def _need(change: Change, loss: float, bound: float, share: float, round_s: float) -> str:
    """About how much more would decide, if the estimate stays where it is."""
    inside = abs(loss) < bound
    distance = bound - abs(loss) if inside else abs(loss) - bound
    quantile = float(distributions.t.isf((EQUAL if inside else share) / change.tests, change.freedom))
    if distance <= 0 or change.error == 0:
        return "cannot be told: the change is just as large as what does not matter"
    times = (quantile * change.error / distance) ** 2
    if times * change.n > ENOUGH:
        return "cannot be told: the change is about as large as what does not matter"
    more = max(1, math.ceil(times * change.n) - change.n)
    duration = f", about {math.ceil(more * round_s / 60)} min" if change.unit == "rounds" and round_s else ""
    return f"about {more} more {change.unit if more > 1 else change.unit.removesuffix('s')}{duration}"


def _limit(column: str, limit: float, most: bool, side: Evidence) -> LimitFinding:
    value = side.value(column)
    if value is None:
        return LimitFinding(column, limit, most, "n/a", None)
    low, high = _interval(column, side, value)
    kept, broken = (high <= limit, low > limit) if most else (low >= limit, high < limit)
    return LimitFinding(column, limit, most, "kept" if kept else "broken" if broken else "unsure", value, low, high)


def _interval(column: str, side: Evidence, value: float) -> tuple[float, float]:
    """95 % where rounds or clips tell one; the value itself where it has no chance in it."""
    if column == "accuracy" and side.answers is not None:
        low, high = stats.wilson_interval(value * len(side.answers), len(side.answers))
        return low, high
    rounds = series(METRICS[column], side) if METRICS[column].kind == "paired" else {}
    if len(rounds) >= FEWEST_ROUNDS:
        bounds = stats.signed_rank_interval(list(rounds.values()))
        if bounds is not None:
            return math.exp(bounds[0]), math.exp(bounds[1])
    return value, value
