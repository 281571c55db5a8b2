"""Interleaved rounds: contestants in, paired ratios with an interval out.

A round samples every contestant in random order and then in the mirrored order (A B B A), so that a drift of the machine cancels within it.
A sample is the median of several calls, timed by the agent's loop; the rounds, not the calls, are what the interval counts.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from fercompress_agent import timing

from fercompress import stats

Sample = Callable[[], float]
Round = Mapping[str, float]  # contestant -> geometric mean of its two samples of the round

_LONG_CALL_NS = 0.5e9  # one call of this length is a sample of its own
_LEAST_CALLS = 5
_SAMPLE_S = 0.02


@dataclass(frozen=True)
class Limits:
    """When a comparison ends: from `least` rounds on as soon as no interval's half-width is above `half_width`, at `most` rounds, or after `cap_s`.

    The cap never ends it below six rounds, which an interval of 95 % needs.
    """

    least: int = 12
    most: int = 60
    half_width: float = 0.05
    cap_s: float = 240.0


QUICK = Limits(least=6, most=6)


@dataclass(frozen=True)
class Ratio:
    """How many times better ours is: the median of the rounds' ratios, and the 95 % interval of Wilcoxon's signed-rank test on their logarithms."""

    value: float
    low: float
    high: float
    rounds: int

    @property
    def half_width(self) -> float:
        """Relative: 0.05 means from value / 1.05 to value * 1.05 about."""
        return math.sqrt(self.high / self.low) - 1


class _Timed:
    """One call, in the form that the agent's timing loop runs: a clip without frames, whose prediction is the call."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def join(self, _features: object) -> None:
        return None

    def predict(self, _joined: object) -> None:
        self._call()


def timed(call: Callable[[], object], warm_up_s: float = 1.0) -> Sample:
    """A sampler of a call's nanoseconds, warmed up by the agent's rule (at least three calls, until settled or for `warm_up_s`)."""
    model, clips = _Timed(call), [()]
    timing.warm_up(model, clips, 3, warm_up_s)
    first = timing.time_block(model, clips, 1, 0.0).predictor_ns[0]
    calls, least_s = (1, 0.0) if first >= _LONG_CALL_NS else (_LEAST_CALLS, _SAMPLE_S)

    def sample() -> float:
        return float(timing.median(timing.time_block(model, clips, calls, least_s).predictor_ns))

    return sample


def run(
    samples: Mapping[str, Sample],
    ours: str,
    limits: Limits,
    order: random.Random,
    *,
    clock: Callable[[], float] = time.monotonic,
    done: Callable[[int], None] = lambda _: None,
) -> list[Round]:
    """Rounds until the limits say so; `done` hears how many there are. raises: ValueError if `ours` is not a contestant, or alone"""
    if ours not in samples or len(samples) < 2:
        raise ValueError(f"{ours!r} needs a contestant to be compared with, got {', '.join(samples) or 'none'}")
    rounds: list[Round] = []
    began = clock()
    while not finished(rounds, ours, limits, clock() - began):
        rounds.append(one_round(samples, order))
        done(len(rounds))
    return rounds


def one_round(samples: Mapping[str, Sample], order: random.Random) -> Round:
    names = list(samples)
    order.shuffle(names)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for name in [*names, *reversed(names)]:
        taken[name].append(samples[name]())
    return {name: math.sqrt(first * second) for name, (first, second) in taken.items()}


def finished(rounds: Sequence[Round], ours: str, limits: Limits, elapsed_s: float) -> bool:
    if len(rounds) < min(limits.least, 6):
        return False
    if len(rounds) >= limits.most or elapsed_s >= limits.cap_s:
        return True
    return len(rounds) >= limits.least and all(ratio(rounds, ours, name).half_width <= limits.half_width for name in rounds[0] if name != ours)


def ratio(rounds: Sequence[Round], ours: str, peer: str) -> Ratio:
    """peer / ours, paired within rounds: above 1 ours needs less. raises: ValueError below six rounds"""
    logs = np.log([taken[peer] / taken[ours] for taken in rounds])
    interval = stats.signed_rank_interval(logs)
    if interval is None:
        raise ValueError(f"{len(rounds)} rounds are too few for an interval: at least 6 are needed")
    return Ratio(math.exp(float(np.median(logs))), math.exp(interval[0]), math.exp(interval[1]), len(rounds))
