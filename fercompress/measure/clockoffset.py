"""How far a target's clock is ahead of ours: a few round trips in, seconds and their uncertainty out.

Both clocks are the monotonic ones: no one sets them, and a board without a battery has no other that is right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from fercompress.errors import AgentError
from fercompress.measure.channel import Channel

ROUNDS = 3
READ = "import time; print(repr(time.monotonic()))"
READ_S = 30.0


@dataclass(frozen=True)
class Offset:
    """The target's clock minus ours, in seconds; the truth lies within +- uncertainty_s."""

    seconds: float
    uncertainty_s: float


def measure(read: Callable[[], float], rounds: int = ROUNDS, clock: Callable[[], float] = time.monotonic) -> Offset:
    """read: the target's clock. Of several round trips the shortest says most: the reading was taken somewhere within it."""
    trips = []
    for _ in range(rounds):
        before = clock()
        there = read()
        after = clock()
        trips.append((after - before, there - (before + after) / 2))
    trip_s, seconds = min(trips)
    return Offset(seconds, trip_s / 2)


def between(before: Offset, after: Offset) -> Offset:
    """The offset in a time that two measurements enclose; what they differ by is uncertain too."""
    drift_s = abs(after.seconds - before.seconds)
    return Offset((before.seconds + after.seconds) / 2, max(before.uncertainty_s, after.uncertainty_s) + drift_s / 2)


def reader(channel: Channel, python: str) -> Callable[[], float]:
    """The target's monotonic clock through a channel: its own `clock`, where it has one, else a Python started there, which takes longer."""

    def by_process() -> float:
        completed = channel.run([python, "-c", READ], READ_S)
        try:
            return float(completed.stdout.split()[-1])
        except (ValueError, IndexError) as error:
            raise AgentError(f"{python} on the target does not tell its clock ({completed.exit_code}): {completed.stderr[-200:]!r}") from error

    own: Callable[[], float] = getattr(channel, "clock", by_process)
    return own
