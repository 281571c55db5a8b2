"""What is compared: a row of the table, and the ready contestants that it prepares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fercompress.errors import ComparabilityError

Call = Callable[[], object]


@dataclass(frozen=True)
class Goal:
    """Ours must be at least `at_least` times better than the best of `peers` (names of contestants); `at_least` = None: no goal, only a figure."""

    peers: tuple[str, ...]
    at_least: float | None


@dataclass(frozen=True)
class Difference:
    """How far two contestants' answers lie apart; `quantity` says what of, and against what it is scaled."""

    quantity: str
    value: float
    allowed: float

    def check(self, row: str, contestant: str) -> None:
        """raises: ComparabilityError, so that nothing is timed that does not compute the same"""
        if not self.value <= self.allowed:
            raise ComparabilityError(
                f"{row}: {contestant} does not compute the same as its counterpart: {self.quantity} is {self.value:.3g}, allowed {self.allowed:.3g}"
            )


@dataclass(frozen=True)
class Contest:
    """Contestants that are ready to run.

    calls: name -> one call; the row's `ours` and the peers that are there
    missing: name -> why this peer cannot take part
    differences: of every contestant's answers from a reference, checked before the timing
    facts: figures to report beside the ratios (agreement of predictions, stored bytes, ...)
    unit: "ns" where a call is timed, "bytes" where the call returns what it needed
    """

    calls: Mapping[str, Call]
    missing: Mapping[str, str] = field(default_factory=dict)
    differences: Mapping[str, Difference] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "ns"


class NotAvailableError(Exception):
    """A row that cannot be prepared here; the message is the reason that the report shows behind "n/a"."""


@dataclass(frozen=True)
class Row:
    """One line of the table in `table.py`: contestants that run in the same rounds, and what is wanted of ours.

    ours: the name of our contestant; shape: JSON-able, what the key and the report say about sizes
    packages: distributions whose versions matter; prepare: makes the contest, raises NotAvailableError
    """

    group: str
    name: str
    ours: str
    goals: tuple[Goal, ...]
    shape: Mapping[str, Any]
    packages: tuple[str, ...]
    prepare: Callable[..., Contest]
    note: str = ""
    least_rounds: int = 12

    def contest(self) -> Contest:
        """Prepared from the shape and checked. raises: NotAvailableError, ComparabilityError"""
        ready = self.prepare(**self.shape)
        for contestant, difference in ready.differences.items():
            difference.check(self.name, contestant)
        return ready
