"""Verdicts: what the samples say of each of a gate's metrics in; better, worse, equivalent or inconclusive out.

worse: the change is shown to exceed the smallest effect of interest in the bad direction; better: in the good one; equivalent: shown to lie
within it to both sides (two one-sided tests: Schuirmann 1987); inconclusive: none of these, with about how much more would decide.
The chance that any metric of a gate is called worse without being so is at most ALPHA (Holm over the metrics), however many looks the rounds got;
the same for better. "equivalent" needs no such rule: a metric that is off by the smallest effect is called so with probability ALPHA at most,
and a gate passes only if all of its metrics are.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fercompress.records import Doubt
from fercompress.stats.centre import Interval
from fercompress.stats.evidence import Evidence, ExactChange, PairedRounds
from fercompress.stats.looks import Looks, holm
from fercompress.stats.planner import ALPHA, rounds_to_decide

ONE_ERROR = 0.1587  # the normal tail beyond one standard error
MOST = {"rounds": 1000, "blocks": 1000, "clips": 100_000}  # more are not practicable


class Outcome(enum.StrEnum):
    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


class Direction(enum.StrEnum):
    LOWER = "lower is better"
    HIGHER = "higher is better"


class Scale(enum.StrEnum):
    RATIO = "ratio"  # variant / baseline
    DIFFERENCE = "difference"  # variant - baseline, of shares


@dataclass(frozen=True)
class Comparison:
    """One metric of a gate.

    smallest_effect: what a user would care about: a share of the baseline's value (0.02: 2 %), or a difference of shares (0.01: a point)
    evidence: None where there are too few samples (`lacking` says which); identical: both sides' outputs agree to the last bit
    minutes: that one more sample (round, clip) of both sides costs, None where unknown
    """

    metric: str
    direction: Direction
    scale: Scale
    smallest_effect: float
    evidence: Evidence | None
    lacking: str = ""
    identical: bool = False
    minutes: float | None = None
    doubts: frozenset[Doubt] = frozenset()

    def __post_init__(self) -> None:
        if not 0 <= self.smallest_effect < math.inf:
            raise ValueError(f"{self.metric}: the smallest effect of interest must be 0 or more, got {self.smallest_effect}")
        if self.smallest_effect == 0 and not (self.identical or isinstance(self.evidence, ExactChange)):
            raise ValueError(f"{self.metric}: no measurement can show that nothing at all changed: give a smallest effect above 0")
        if isinstance(self.evidence, ExactChange) and self.scale is not Scale.RATIO:
            raise ValueError(f"{self.metric}: exact values are compared as a ratio")
        if self.evidence is None and not self.identical and not self.lacking:
            raise ValueError(f"{self.metric}: a comparison without evidence must say what is lacking")

    @property
    def margin(self) -> float:
        """The smallest effect on the evidence's own scale."""
        return math.log1p(self.smallest_effect) if self.scale is Scale.RATIO else self.smallest_effect


@dataclass(frozen=True)
class Verdict:
    """estimate, interval: variant / baseline or variant - baseline, as `scale` says; interval: 95 %, of this metric alone; None where unknown

    samples, unit: what the estimate rests on ("rounds", "clips"; "exact" where nothing was sampled)
    p_value: of the claim made, Holm's over the gate's metrics for worse and better; of "worse" where inconclusive; None where nothing was tested
    more_samples, more_minutes: about what would decide; None where decided, or where no practicable number would
    """

    metric: str
    direction: Direction
    scale: Scale
    outcome: Outcome
    estimate: float | None
    interval: Interval | None
    smallest_effect: float
    samples: int
    unit: str
    p_value: float | None
    more_samples: int | None
    more_minutes: float | None
    doubts: tuple[Doubt, ...]
    reason: str

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Verdict:
        """From what `dataclasses.asdict` and JSON made of one."""
        read: dict[str, Any] = {
            **table,
            "direction": Direction(table["direction"]),
            "scale": Scale(table["scale"]),
            "outcome": Outcome(table["outcome"]),
            "interval": None if table["interval"] is None else tuple(table["interval"]),
            "doubts": tuple(map(Doubt, table["doubts"])),
        }
        return cls(**read)


@dataclass(frozen=True)
class _Tests:
    """p-values of a comparison's three claims"""

    worse: float
    better: float
    equivalent: float


def decide(comparisons: Sequence[Comparison], alpha: float = ALPHA) -> tuple[Verdict, ...]:
    """One verdict per comparison, in their order; pure: the same rounds give the same verdicts, at every look anew.

    Give all metrics of a gate at once: Holm's rule counts those that are tested. Exact and identical ones are not, and cost nothing.
    raises: ValueError if two comparisons have one metric's name
    """
    names = [comparison.metric for comparison in comparisons]
    if len(set(names)) != len(names):
        raise ValueError(f"each metric once in a gate, got {names}")
    tests = {c.metric: _tests(c, c.evidence) for c in comparisons if c.evidence is not None and not c.identical}
    tested = [c.metric for c in comparisons if c.metric in tests and not isinstance(c.evidence, ExactChange)]
    # What lacks samples today is tested at a later look: it counts among the metrics from the first look on.
    lacking = [1.0] * sum(c.evidence is None and not c.identical for c in comparisons)
    worse = dict(zip(tested, holm([tests[name].worse for name in tested] + lacking), strict=False))
    better = dict(zip(tested, holm([tests[name].better for name in tested] + lacking), strict=False))
    family = len(tested) + len(lacking)
    made = []
    for c in comparisons:
        if c.identical:
            made.append(_plain(c, Outcome.EQUIVALENT, "identical outputs"))
        elif c.evidence is None:
            made.append(_plain(c, Outcome.INCONCLUSIVE, c.lacking))
        elif isinstance(c.evidence, ExactChange):
            made.append(_exact(c, c.evidence, tests[c.metric]))
        else:
            found = _Tests(worse[c.metric], better[c.metric], tests[c.metric].equivalent)
            made.append(_measured(c, c.evidence, found, tests[c.metric].worse, alpha, family))
    return tuple(made)


def confirmed(first: Verdict, fresh: Verdict) -> Verdict:
    """What stands of a verdict after a fresh run of the same metric: "worse" only if both say so, else what the fresh run says, with the alarm told.

    raises: ValueError if the two are of different metrics
    """
    if first.metric != fresh.metric:
        raise ValueError(f"a run of {fresh.metric} cannot confirm one of {first.metric}")
    if first.outcome is not Outcome.WORSE:
        return first
    told = "also in a first run" if fresh.outcome is Outcome.WORSE else "a first run said worse, a fresh one does not"
    return replace(fresh, reason=f"{fresh.reason}; {told}")


def paired_rounds(log_ratios: Sequence[float], looks: Looks) -> PairedRounds | None:
    """Evidence of the rounds so far, None before the first look."""
    return PairedRounds(tuple(log_ratios), looks) if len(log_ratios) >= looks.rounds[0] else None


def _tests(c: Comparison, evidence: Evidence) -> _Tests:
    up, down = evidence.above(c.margin), evidence.below(-c.margin)
    worse, better = (up, down) if c.direction is Direction.LOWER else (down, up)
    return _Tests(worse, better, max(evidence.below(c.margin), evidence.above(-c.margin)))


def _plain(c: Comparison, outcome: Outcome, reason: str) -> Verdict:
    known = outcome is Outcome.EQUIVALENT
    none = 1.0 if c.scale is Scale.RATIO else 0.0
    unit = "exact" if known else "none"
    return Verdict(
        c.metric, c.direction, c.scale, outcome, none if known else None, (none, none) if known else None, c.smallest_effect, 0, unit,
        None, None, None, _ordered(c.doubts), reason,
    )  # fmt: skip


def _exact(c: Comparison, evidence: ExactChange, tests: _Tests) -> Verdict:
    """An exact value decides for itself; a change of just the smallest effect is within it."""
    outcome = Outcome.WORSE if tests.worse == 0 else Outcome.BETTER if tests.better == 0 else Outcome.EQUIVALENT
    estimate = _shown(c, evidence.value)
    reason = f"{evidence.baseline:g} before, {evidence.variant:g} now: {_beyond(outcome)} {_effect_text(c)}"
    if evidence.baseline == evidence.variant:
        reason = "exactly equal"
    known = math.isfinite(estimate) and (c.scale is Scale.DIFFERENCE or estimate > 0)
    return Verdict(
        c.metric, c.direction, c.scale, outcome, estimate if known else None, (estimate, estimate) if known else None, c.smallest_effect, 1, "exact",
        None, None, None, _ordered(c.doubts), reason,
    )  # fmt: skip


def _measured(c: Comparison, evidence: Evidence, tests: _Tests, alone: float, alpha: float, family: int) -> Verdict:
    """alone: p-value of "worse" before Holm"""
    if tests.worse <= alpha:
        outcome, p = Outcome.WORSE, tests.worse
    elif tests.better <= alpha:
        outcome, p = Outcome.BETTER, tests.better
    elif tests.equivalent <= alpha:
        outcome, p = Outcome.EQUIVALENT, tests.equivalent
    else:
        outcome, p = Outcome.INCONCLUSIVE, tests.worse
    low, high = (_shown(c, limit) for limit in evidence.interval(alpha))
    samples, unit = evidence.samples, evidence.unit
    more = _more(c, evidence, alpha, family) if outcome is Outcome.INCONCLUSIVE else None
    reason = f"{_beyond(outcome)} {_effect_text(c)}"
    if outcome is Outcome.INCONCLUSIVE:
        if alone <= alpha:
            reason += f"; taken alone it would be worse, among {family} metrics it may be chance"
        reason += f"; about {more} more {unit} would decide" if more else "; the change is too near to it for any practicable number"
    minutes = None if more is None or c.minutes is None else more * c.minutes
    return Verdict(
        c.metric, c.direction, c.scale, outcome, _shown(c, evidence.value), (low, high), c.smallest_effect, samples, unit, p, more, minutes,
        _ordered(c.doubts), reason,
    )  # fmt: skip


def _more(c: Comparison, evidence: Evidence, alpha: float, family: int) -> int | None:
    samples = evidence.samples
    if isinstance(evidence, PairedRounds):
        spread = evidence.centre.error * math.sqrt(samples)
    else:
        low, high = evidence.interval(ONE_ERROR)
        spread = (high - low) / 2 * math.sqrt(samples)
    needed = rounds_to_decide(evidence.value, spread, c.margin, alpha=alpha, metrics=family, most=MOST[evidence.unit])
    return None if needed is None else max(1, needed - samples)


def _shown(c: Comparison, change: float) -> float:
    return math.exp(change) if c.scale is Scale.RATIO else change


def _beyond(outcome: Outcome) -> str:
    return {
        Outcome.WORSE: "worse by more than",
        Outcome.BETTER: "better by more than",
        Outcome.EQUIVALENT: "neither better nor worse by more than",
        Outcome.INCONCLUSIVE: "neither shown to exceed nor to stay within",
    }[outcome]


def _effect_text(c: Comparison) -> str:
    return f"{100 * c.smallest_effect:g} {'%' if c.scale is Scale.RATIO else 'points'}"


def _ordered(doubts: frozenset[Doubt]) -> tuple[Doubt, ...]:
    return tuple(doubt for doubt in Doubt if doubt in doubts)
