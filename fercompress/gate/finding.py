"""What a gate says: a finding per metric and per limit, together a judgement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fercompress.gate.metrics import Metric


@dataclass(frozen=True)
class Finding:
    """What is said of one metric.

    verdict: better, worse, equivalent, inconclusive or n/a
    candidate, baseline: each side's value; estimate, low, high: the change with its 95 % interval, as a share of the
    baseline (0.05: 5 % more) or of the clips; effect: the smallest change that matters; need: what would decide an inconclusive one
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
        """A "worse" that a fresh run does not repeat is inconclusive; what was not worse stays as it was."""
        second = {each.metric.name: each for each in again.findings}

        def settled(first: Finding) -> Finding:
            other = second.get(first.metric.name)
            if first.verdict != "worse" or first.metric.kind == "exact" or (other is not None and other.verdict == "worse"):
                return first
            said = "n/a" if other is None or other.estimate is None else f"{100 * other.estimate:+.2f} {other.metric.unit}"
            return replace(first, verdict="inconclusive", reason=f"{first.reason}; not confirmed by a fresh run ({said})", need="a quieter machine")

        return replace(self, findings=tuple(map(settled, self.findings)), note="each 'worse' was measured again in a fresh run")
