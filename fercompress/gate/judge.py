"""From two sides' evidence to a verdict per metric: better, worse, equivalent, or inconclusive with what would decide it.

`stats.verdict` decides: "worse" needs more than any change, and the chance of a false one of a whole gate (all metrics, all looks) is at most ALARM.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fercompress import stats
from fercompress.errors import InputError
from fercompress.gate.comparisons import Compared, compare, series
from fercompress.gate.evidence import Evidence
from fercompress.gate.finding import Finding, Judgement, LimitFinding
from fercompress.gate.metrics import METRICS, PASSES, Metric, effects, metric
from fercompress.quantity import quantity

ALARM = 0.025  # of a whole gate: chance of any "worse" where nothing changed
SESSION_SD = 0.03  # of the log latency between two sessions on one target, where no calibration says better


@dataclass(frozen=True)
class Rules:
    """effects: metric -> the smallest change that matters; limits: column -> (value in the column's unit, whether it is the most that is allowed)"""

    metrics: tuple[Metric, ...]
    effects: Mapping[str, float]
    limits: Mapping[str, tuple[float, bool]] = field(default_factory=dict)
    looks: stats.Looks = field(default_factory=stats.Looks)
    session_sd: float = SESSION_SD

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes that measure what is asked for."""
        asked = {METRICS[name].measured_by for name in (*(each.name for each in self.metrics), *self.limits)}
        return tuple(name for name in PASSES if name in asked)

    @classmethod
    def of(
        cls, wished: Mapping[str, str], limits: Mapping[str, str], names: Sequence[str], looks: Sequence[int],
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
        return cls(chosen, sizes, bounds, stats.Looks(tuple(looks)), session_sd)


def judge(candidate: Evidence, baseline: Evidence, rules: Rules, *, paired: bool = True) -> Judgement:
    """paired: whether rounds held both sides; else the baseline is of another day"""
    session_sd = None if paired else rules.session_sd
    compared = [compare(each, candidate, baseline, rules.effects[each.name], rules.looks, session_sd) for each in rules.metrics]
    decided = {verdict.metric: verdict for verdict in stats.decide([each.comparison for each in compared if each.comparison is not None], ALARM)}
    findings = tuple(_finding(each, decided.get(each.metric.name), rules.effects[each.metric.name]) for each in compared)
    bounds = tuple(_limit(column, value, most, candidate) for column, (value, most) in rules.limits.items())
    target = f"{candidate.target} (times simulated)" if candidate.simulated else candidate.target
    return Judgement(candidate.name, baseline.name, target, findings, bounds, len(candidate.rounds.get("clip", {})))


def _finding(compared: Compared, verdict: stats.Verdict | None, effect: float) -> Finding:
    metric = compared.metric
    sides: dict[str, Any] = {"candidate": compared.candidate, "baseline": compared.baseline, "effect": effect}
    if verdict is None:
        return Finding(metric, "n/a", compared.reason, **sides)
    nothing = 1.0 if verdict.scale is stats.Scale.RATIO else 0.0
    low, high = verdict.interval or (None, None)
    estimate, low, high = (None if value is None else value - nothing for value in (verdict.estimate, low, high))
    need = ""
    if verdict.more_samples:
        need = f"about {verdict.more_samples} more {verdict.unit}"
        need += f", {math.ceil(verdict.more_minutes)} min" if verdict.more_minutes else ""
    counted = f"{verdict.samples} {verdict.unit}, " if verdict.samples and verdict.unit != "exact" else ""
    said = verdict.reason.replace(f"; about {verdict.more_samples} more {verdict.unit} would decide", "")  # `need` tells it, with the minutes
    reason = compared.reason or f"{counted}{said}{compared.beside and f'; {compared.beside}'}"
    return Finding(
        metric,
        str(verdict.outcome),
        reason,
        **sides,
        estimate=estimate,
        low=low,
        high=high,
        n=verdict.samples,
        unit=verdict.unit,
        need=need,
        doubts=verdict.doubts,
        said=verdict,
    )


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
    if len(rounds) >= stats.FEWEST_ROUNDS:
        bounds = stats.signed_rank_interval(list(rounds.values()))
        if bounds is not None:
            return math.exp(bounds[0]), math.exp(bounds[1])
    return value, value
