"""What a gate says: a finding per metric and per limit, together a judgement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fercompress import stats
from fercompress.gate.metrics import Metric
from fercompress.records import Doubt


@dataclass(frozen=True)
class Finding:
    """What is said of one metric.

    verdict: better, worse, equivalent, inconclusive or n/a
    candidate, baseline: each side's value; estimate, low, high: the change with its 95 % interval, as a share of the
    baseline (0.05: 5 % more) or of the clips; effect: the smallest change that matters; need: what would decide an inconclusive one
    doubts: why the numbers are weaker than they look
    """

    metric: Metric
    verdict: str
    reason: str
    candidate: float | None = None
    baseline: float | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    effect: float = 0.0
    n: int = 0
    unit: str = ""
    need: str = ""
    doubts: tuple[Doubt, ...] = ()
    said: stats.Verdict | None = None  # what the samples alone say, for a confirmation

    def confirmed_by(self, again: Finding | None) -> Finding:
        """again: of the same metric, from a fresh run; None where that did not look at it"""
        if self.verdict != "worse" or self.metric.kind == "exact" or self.said is None:
            return self
        if again is None or again.said is None:
            reason = f"{self.reason}; not confirmed: a fresh run did not measure it"
            return replace(self, verdict="inconclusive", reason=reason, need="a fresh run that measures it")
        stands = stats.confirmed(self.said, again.said)
        told = stands.reason.removeprefix(again.said.reason)  # what the confirmation adds
        return replace(again, verdict=str(stands.outcome), reason=f"{again.reason}{told}", said=stands)


@dataclass(frozen=True)
class LimitFinding:
    """An absolute limit. verdict: "kept", "broken" or "unsure" (the interval holds the limit); value: None where it was not measured"""

    column: str
    limit: float
    most: bool
    verdict: Literal["kept", "broken", "unsure", "n/a"]
    value: float | None
    low: float | None = None
    high: float | None = None
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True)
class Judgement:
    candidate: str
    baseline: str
    target: str
    findings: tuple[Finding, ...]
    limits: tuple[LimitFinding, ...]
    rounds: int
    note: str = ""

    @property
    def regressed_metrics(self) -> tuple[str, ...]:
        return tuple(each.metric.name for each in self.findings if each.verdict == "worse")

    @property
    def to_confirm(self) -> tuple[str, ...]:
        """What is worse, and may be so by chance."""
        return tuple(each.metric.name for each in self.findings if each.verdict == "worse" and each.metric.kind != "exact")

    @property
    def regressed(self) -> bool:
        return bool(self.regressed_metrics) or any(each.verdict == "broken" for each in self.limits)

    @property
    def open(self) -> bool:
        return any(each.verdict == "inconclusive" for each in self.findings) or any(each.verdict in ("unsure", "n/a") for each in self.limits)

    @property
    def decided(self) -> bool:
        """Whether more rounds would decide nothing more: the timed metrics have a verdict, and so have the limits on them."""
        timed = [each.verdict for each in self.findings if each.metric.kind == "paired"]
        return "inconclusive" not in timed and all(each.verdict != "unsure" for each in self.limits)

    def confirmed_by(self, again: Judgement) -> Judgement:
        """A "worse" stands if a fresh run repeats it; else what the fresh run says, with the first one's alarm told. The rest stays as it was."""
        second = {each.metric.name: each for each in again.findings}
        findings = tuple(each.confirmed_by(second.get(each.metric.name)) for each in self.findings)
        return replace(self, findings=findings, note="each 'worse' was measured again in a fresh run")
