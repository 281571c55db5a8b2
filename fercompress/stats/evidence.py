"""What the samples say of one metric's change: paired rounds or exact values in, one-sided p-values and an interval out.

`PairedRounds` and `ExactChange` live here; `ResampledChange` (accuracy, recalls) and `NegativeFlips` answer the same three questions.
A change is variant less baseline: of logarithms for a ratio, of the values themselves for a share.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Protocol

from fercompress.stats.centre import Interval, TrimmedMean, trimmed_mean
from fercompress.stats.looks import Looks


class Evidence(Protocol):
    @property
    def value(self) -> float: ...

    @property
    def samples(self) -> int: ...

    @property
    def unit(self) -> str:
        """What `samples` counts: "rounds", "clips"; "exact" where nothing was sampled."""

    def above(self, limit: float) -> float:
        """One-sided p-value of "the true change is not above `limit`"."""

    def below(self, limit: float) -> float:
        """One-sided p-value of "the true change is not below `limit`"."""

    def interval(self, tail: float) -> Interval:
        """Limits that the truth lies beyond with probability `tail` each."""


@dataclass(frozen=True)
class PairedRounds:
    """log_ratios: log(variant / baseline) of each mirrored round, in the order measured; looks: fixed before the first of them.

    p-values hold over all looks so far, and are 1 where the latest centre no longer lies on the claimed side; the interval holds at whichever
    look the run stops (repeated confidence interval, Jennison & Turnbull 1989).
    Rounds since the last look wait for the next. raises: ValueError below the first look, beyond the last, or for values that are not finite
    """

    log_ratios: tuple[float, ...]
    looks: Looks

    def __post_init__(self) -> None:
        if not self.looks.due(len(self.log_ratios)):
            raise ValueError(f"{len(self.log_ratios)} rounds: the first look is due at {self.looks.rounds[0]}")
        if not all(map(math.isfinite, self.log_ratios)):
            raise ValueError(f"log ratios must be finite, got {self.log_ratios}")

    @property
    def samples(self) -> int:
        """Rounds up to the last look."""
        return self.looks.due(len(self.log_ratios))[-1]

    @property
    def unit(self) -> str:
        return "rounds"

    @property
    def centre(self) -> TrimmedMean:
        return self._centres[self.samples]

    @property
    def value(self) -> float:
        return self.centre.value

    def above(self, limit: float) -> float:
        if self.value <= limit:
            return 1.0
        return min(1.0, *(centre.above(limit) / self.looks.share(look) for look, centre in self._centres.items()))

    def below(self, limit: float) -> float:
        if self.value >= limit:
            return 1.0
        return min(1.0, *(centre.below(limit) / self.looks.share(look) for look, centre in self._centres.items()))

    def interval(self, tail: float) -> Interval:
        return self.centre.interval(tail * self.looks.share(self.samples))

    @functools.cached_property
    def _centres(self) -> dict[int, TrimmedMean]:
        """By look."""
        found = {look: trimmed_mean(self.log_ratios[:look]) for look in self.looks.due(len(self.log_ratios))}
        return {look: centre for look, centre in found.items() if centre is not None}  # a look has six rounds at least: none is


@dataclass(frozen=True)
class ExactChange:
    """Of what is deterministic by nature (bytes, parameters): both values, no statistics; its p-values are 0 or 1."""

    baseline: float
    variant: float

    def __post_init__(self) -> None:
        if not (0 <= self.baseline < math.inf and 0 <= self.variant < math.inf):
            raise ValueError(f"needs finite values of at least 0, got {self.baseline} and {self.variant}")

    @property
    def samples(self) -> int:
        return 1

    @property
    def unit(self) -> str:
        return "exact"

    @property
    def value(self) -> float:
        """The log ratio; infinite where one of the two is 0."""
        if self.baseline == self.variant:
            return 0.0
        if not self.baseline or not self.variant:
            return math.inf if self.variant else -math.inf
        return math.log(self.variant / self.baseline)

    def above(self, limit: float) -> float:
        return 0.0 if self.value > limit else 1.0

    def below(self, limit: float) -> float:
        return 0.0 if self.value < limit else 1.0

    def interval(self, tail: float) -> Interval:  # noqa: ARG002
        """Both limits are the value: nothing is uncertain here."""
        return self.value, self.value
