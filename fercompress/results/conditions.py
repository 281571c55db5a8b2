"""What a block's facts tell about the target's state while it ran: facts in, one yes or no per doubt out.

Facts come from a target: whatever is not of the expected form tells nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WARMED_MC = 15_000  # millidegrees Celsius; more than this within one block is no steady state


def hot_start(facts: Mapping[str, Any]) -> bool:
    """It began although the target was not cool."""
    over_mc = facts.get("cool_down_over_mc")
    return isinstance(over_mc, int | float) and over_mc > 0


def clock_changed(facts: Mapping[str, Any]) -> bool:
    """A core's governor or highest clock was another at the end; its present clock may change all the time."""
    settings = [
        {core: (told.get("governor"), told.get("max_khz")) for core, told in _mapping(facts, f"clocks_{when}").items() if isinstance(told, Mapping)}
        for when in ("start", "end")
    ]
    return any(settings[0][core] != settings[1][core] for core in settings[0].keys() & settings[1].keys())


def throttled(facts: Mapping[str, Any]) -> bool:
    """A cooling device changed its state, or a zone warmed by more than WARMED_MC."""
    cooling = [_mapping(facts, f"cooling_{when}") for when in ("start", "end")]
    warm = [_mapping(facts, f"temperature_mc_{when}") for when in ("start", "end")]
    zones = [zone for zone in warm[0].keys() & warm[1].keys() if type(warm[0][zone]) is type(warm[1][zone]) is int]
    return any(cooling[0][device] != cooling[1][device] for device in cooling[0].keys() & cooling[1].keys()) or any(
        warm[1][zone] - warm[0][zone] > WARMED_MC for zone in zones
    )


def _mapping(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = facts.get(key)
    return found if isinstance(found, Mapping) else {}
