"""The power pass on the host's side: an agent's answer in, watts or the reason why there are none out."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fercompress.errors import AgentError

IDLE_S = 2.0
POWER_S = 10.0  # shorter runs are not worth an energy figure (MLPerf Tiny: at least 10 s)
KEYS = {"power_w": "W", "idle_w": "W", "energy_per_clip_j": "J", "clips": "", "seconds": "s"}


def checked(power: Mapping[str, float], reason: str) -> tuple[dict[str, float], str]:
    """An agent's `power` and `reason`, ready for a block. raises: AgentError if it is neither a measurement nor a reason"""
    if not power:
        if not reason:
            raise AgentError("the agent measured no power and gave no reason: its answer cannot be used")
        return {}, reason
    missing = sorted(set(KEYS) - set(power))
    if missing or not all(math.isfinite(value) and value >= 0 for value in power.values()):
        raise AgentError(f"the agent's power figures cannot be used (missing: {', '.join(missing) or 'none'}): {dict(power)}")
    return dict(power), ""


def power_w(power: Mapping[str, float] | None, reason: str) -> tuple[float | None, str]:
    """A block's power as (watts, "") or (None, why not)."""
    if power and "power_w" in power:
        return float(power["power_w"]), ""
    return None, reason or "n/a: the power pass was not run"
