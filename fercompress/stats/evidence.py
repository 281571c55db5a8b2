"""What the samples say of one metric's change: paired rounds or exact values in, one-sided p-values and an interval out.

`PairedRounds` and `ExactChange` live here; `ResampledChange` (accuracy, recalls) and `NegativeFlips` answer the same three questions.
A change is variant less baseline: of logarithms for a ratio, of the values themselves for a share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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

    p-values hold over all looks so far; the interval holds at whichever look the run stops (repeated confidence interval, Jennison & Turnbull 1989).
    Rounds since the last look wait for the next. raises: ValueError below the first look, beyond the last, or for values that are not finite
    """

    log_ratios: tuple[float, ...]
    looks: Looks

    def __post_init__(self) -> None:
        if not self.looks.due(len(self.log_ratios)):
            raise ValueError(f"{len(self.log_ratios)} rounds: the first look is due at {self.looks.rounds[0]}")
        self._at(self.samples)

    @property
    def samples(self) -> int:
        """Rounds up to the last look."""
        return self.looks.due(len(self.log_ratios))[-1]

    @property
    def unit(self) -> str:
        return "rounds"

    @property
    def centre(self) -> TrimmedMean:
        return self._at(self.samples)

    @property
    def value(self) -> float:
        return self.centre.value

    def above(self, limit: float) -> float:
        return min(1.0, *(self._at(look).above(limit) / self.looks.share(look) for look in self.looks.due(len(self.log_ratios))))

    def below(self, limit: float) -> float:
        return min(1.0, *(self._at(look).below(limit) / self.looks.share(look) for look in self.looks.due(len(self.log_ratios))))

    def interval(self, tail: float) -> Interval:
        return self.centre.interval(tail * self.looks.share(self.samples))

    def _at(self, rounds: int) -> TrimmedMean:
        found = trimmed_mean(self.log_ratios[:rounds])
        assert found is not None  # a look has six rounds at least
        return found


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


def log_ratios(baseline: Sequence[float], variant: Sequence[float]) -> tuple[float, ...]:
    """Of each round's figure (the mean of its mirrored blocks' logs, exponentiated, or a plain value). raises: ValueError for unequal counts"""
    return tuple(math.log(new / old) for old, new in zip(baseline, variant, strict=True))
