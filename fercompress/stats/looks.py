"""When a gate may look at its rounds, and what each look may spend; p-values of several looks and several metrics in, honest ones out.

Rounds are added until a verdict is decided. Whoever tests after each round and stops at the first success errs far more often than one test does.
So the looks are fixed beforehand, and each may spend a share of the error: (rounds / most) ** exponent by then (Kim & DeMets 1987). The shares do not
depend on the level, so the smallest of p / share over the looks is itself a p-value (union bound: no assumption on how looks depend on each other),
and Holm's rule over metrics applies to it as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FEWEST_ROUNDS = 6  # below, no 95 % interval of the signed rank exists, and one odd round is a fifth of all


@dataclass(frozen=True)
class Looks:
    """rounds: paired rounds at which the gate looks, growing; the last is the most that one invocation measures

    exponent: 1 spends evenly, more spends late
    most: the rounds that were planned, where a budget ended the run earlier (`ended`); the error of those that did not come stays unspent
    """

    rounds: tuple[int, ...] = (8, 16)
    exponent: float = 2.0
    most: int | None = None

    def __post_init__(self) -> None:
        if not self.rounds or self.rounds[0] < FEWEST_ROUNDS or any(b <= a for a, b in zip(self.rounds, self.rounds[1:], strict=False)):
            raise ValueError(f"looks must grow from {FEWEST_ROUNDS} rounds or more, got {self.rounds}")
        if self.exponent <= 0 or (self.most is not None and self.most < self.rounds[-1]):
            raise ValueError(f"needs an exponent above 0 and at least {self.rounds[-1]} rounds planned, got {self.exponent} and {self.most}")

    def share(self, rounds: int) -> float:
        """What the look at so many rounds may spend of the error; of all looks together at most 1. raises: ValueError if no look is due then"""
        if rounds not in self.rounds:
            raise ValueError(f"no look is due at {rounds} rounds, only at {self.rounds}")
        place = self.rounds.index(rounds)
        return self._spent(rounds) - (self._spent(self.rounds[place - 1]) if place else 0.0)

    def due(self, measured: int) -> tuple[int, ...]:
        """The looks at so many measured rounds or fewer. raises: ValueError beyond the last look, whose error is spent"""
        if measured > self.rounds[-1]:
            raise ValueError(f"{measured} rounds are more than the {self.rounds[-1]} that were planned: plan more looks beforehand, or start anew")
        return tuple(look for look in self.rounds if look <= measured)

    def following(self, measured: int) -> int | None:
        """The next look, None after the last."""
        return next((look for look in self.rounds if look > measured), None)

    def ended(self, measured: int) -> Looks:
        """The looks of a run whose budget ended after so many rounds: a last look is due there, for the share that time alone has earned."""
        if measured in self.rounds or measured < FEWEST_ROUNDS:
            return self
        return Looks((*self.due(measured), measured), self.exponent, self.most or self.rounds[-1])

    def _spent(self, rounds: int) -> float:
        return float((rounds / (self.most or self.rounds[-1])) ** self.exponent)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979), in the order given: rejecting those at or below a level errs in any of them with that probability at most."""
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie between 0 and 1, got {list(p_values)}")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
