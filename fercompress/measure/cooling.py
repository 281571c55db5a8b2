"""The temperature that a latency block starts at: a target's readings in, a wait until it is as cool as it was at first out.

A block that starts on a hot chip is throttled sooner than one that starts on a cool one, so the order of variants would decide which is fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

MARGIN_MC = 3000  # above the first reading a zone counts as cool
POLL_S = 5.0


class Cooling:
    """first_mc, read: millidegrees Celsius by zone; limit_s: the longest wait before one block, 0: never wait.

    A target that does not cool down in `limit_s` (the room got warmer) is not waited for as long before every block to come: what it came
    down to is the new limit. How far above the first reading each block began is a fact of the block either way.
    """

    def __init__(
        self,
        first_mc: Mapping[str, Any],
        limit_s: float,
        read: Callable[[], Mapping[str, Any]],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cool_mc = {zone: value + MARGIN_MC for zone, value in readings(first_mc).items()}
        self.accepted_mc = dict(self.cool_mc)
        self.limit_s = limit_s
        self.last_mc = readings(first_mc)
        self._read = read
        self._sleep = sleep
        self._clock = clock

    def seen(self, facts: Mapping[str, Any]) -> None:
        """What a block told at its end: where that is cool, no reading is needed before the next one."""
        self.last_mc = readings(facts.get("temperature_mc_end"))

    def wait(self) -> dict[str, Any]:
        """Return when every zone is cool, or after `limit_s`. returns: facts of the block that starts now; none where no zone can be read"""
        if not self.cool_mc or self.limit_s <= 0:
            return {}
        began = self._clock()
        while over_mc(self.last_mc, self.accepted_mc) > 0:
            left_s = self.limit_s - (self._clock() - began)
            if left_s <= 0:
                self.accepted_mc = {zone: max(limit, self.last_mc.get(zone, limit)) for zone, limit in self.accepted_mc.items()}
                break
            self._sleep(min(POLL_S, left_s))
            self.last_mc = readings(self._read())
        return {"cool_down_s": round(self._clock() - began, 1), "cool_down_over_mc": over_mc(self.last_mc, self.cool_mc)}


def over_mc(found_mc: Mapping[str, int], limit_mc: Mapping[str, int]) -> int:
    """How far the zone that is furthest above its limit is above it; 0 where none is."""
    return max([0, *(found_mc[zone] - limit for zone, limit in limit_mc.items() if zone in found_mc)])


def readings(found: Any) -> dict[str, int]:
    """The numbers among what a target told."""
    return {str(zone): value for zone, value in found.items() if type(value) is int} if isinstance(found, Mapping) else {}
