"""The power pass on the host's side: the target's [power] and an agent's answer in, watts or the reason why there are none out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from fercompress_agent import meters
from fercompress_agent import power as agent_power
from pydantic import Field, model_validator

from fercompress.errors import AgentError
from fercompress.measure import clockoffset
from fercompress.measure.agentjob import Answer
from fercompress.measure.clockoffset import Offset
from fercompress.section import Section

SHORT_WINDOW_S = 60.0  # MLPerf's floor for a power run
START_S = 10.0  # about, per variant: runtime, bundle, warm-up
UNCERTAINTY_SHORT_S = 0.05
UNCERTAINTY_SHARE = 0.01  # of a load of 60 s and more; windows are narrowed by the uncertainty on both sides
KEYS = {
    "power_w": "W", "idle_w": "W", "idle_before_w": "W", "idle_after_w": "W", "net_w": "W",
    "energy_per_clip_j": "J", "energy_per_clip_net_j": "J", "energy_per_inference_j": "J", "energy_per_inference_net_j": "J",
    "clips": "", "seconds": "s", "idle_seconds": "s", "samples": "", "rate_hz": "Hz", "gap_s": "s", "counter": "", "uncertainty_s": "s",
}  # fmt: skip
MAY_BE_NEGATIVE = {"idle_w", "idle_before_w", "idle_after_w", "net_w", "energy_per_clip_net_j", "energy_per_inference_net_j"}


class Power(Section):
    """[power] in a target's file: where watts are read, on which side, and how long.

    source: "hwmon" (INA2xx), "powercap" (RAPL), "command" (a program that prints lines `seconds watts`), "none"; "auto": hwmon, else powercap
    side: "board": the agent reads it there; "host": this machine runs `command` meanwhile, for a meter on the board's supply
    node: of hwmon: a sensor's name ("ina219"), device ("6-0047") or folder
    """

    source: Literal["auto", "hwmon", "powercap", "command", "none"] = "auto"
    side: Literal["board", "host"] = "board"
    command: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    node: str = ""
    load_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    idle_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    settle_s: Annotated[float, Field(ge=0, le=600)] = 2.0  # before each window: what the change of phase stirred up is in none

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.source == "command") != bool(self.command):
            raise ValueError('source = "command" and command = ["program", "argument", ...] need each other')
        if self.side == "host" and self.source not in ("command", "none"):
            raise ValueError(f'side = "host" needs source = "command": {self.source} on the host would tell the host\'s power, not the board\'s')
        if self.node and self.source not in ("auto", "hwmon"):
            raise ValueError(f'node names a sensor of hwmon, source is "{self.source}"')
        return self

    @property
    def variant_s(self) -> float:
        """About how long one variant takes."""
        return 0.0 if self.source == "none" else START_S + 2 * self.idle_s + self.load_s + 3 * self.settle_s


def announcement(asked: Power, variants: int) -> str:
    """The pass's length in a person's words, before it begins."""
    if asked.source == "none":
        return 'power: none (source = "none" in the target\'s file)'
    each = f"{asked.variant_s / 60:.1f} min" if asked.variant_s >= 60 else f"{asked.variant_s:.0f} s"
    total = f"{variants * asked.variant_s / 60:.0f} min" if variants * asked.variant_s >= 60 else f"{variants * asked.variant_s:.0f} s"
    short = f"; a load of {asked.load_s:g} s is a short window" if asked.load_s < SHORT_WINDOW_S else ""
    where = ", if a sensor is found" if asked.source == "auto" else ""
    return f"power: {variants} variants x {each} = {total}{where}{short}"


def deadline_s(asked: Power, deadline_s: float) -> float:
    """A block's deadline leaves room for windows of any length."""
    return max(deadline_s, 2 * asked.variant_s + 60)


def checked(power: Mapping[str, float], reason: str) -> tuple[dict[str, float], str]:
    """An agent's `power` and `reason`, ready for a block. raises: AgentError if it is neither a measurement nor a reason"""
    if not power:
        if not reason:
            raise AgentError("the agent measured no power and gave no reason: its answer cannot be used")
        return {}, reason
    missing = sorted(set(KEYS) - set(power))
    wrong = sorted(key for key, value in power.items() if not math.isfinite(value) or (value < 0 and key not in MAY_BE_NEGATIVE))
    if missing or wrong:
        named = f"missing: {', '.join(missing) or 'none'}; no such measurement exists: {', '.join(wrong) or 'none'}"
        raise AgentError(f"the agent's power figures cannot be used ({named}): {dict(power)}")
    return dict(power), ""


def metered(asked: Power, do: Callable[[], Answer], target_clock: Callable[[], float]) -> Answer:
    """Run a power job; with a meter on this side, read it meanwhile and put its figures into the answer.

    do: runs the agent's job; target_clock: the target's monotonic clock
    """
    if asked.side == "board" or asked.source == "none":
        return do()
    meter = meters.Command(asked.command, own_session=True)
    try:
        meter.start()
        if meter.reason:
            return _without(meter.reason)
        before = clockoffset.measure(target_clock)
        answer = do()
        after = clockoffset.measure(target_clock)
    finally:
        meter.stop()
    if not answer.ok:
        return answer
    facts = {
        **answer.facts, "power_source": meter.source, "power_scope": meter.scope,
        "clock_offset_s": [before.seconds, after.seconds], "clock_uncertainty_s": [before.uncertainty_s, after.uncertainty_s],
    }  # fmt: skip
    if meter.reason:
        return answer.model_copy(update={"power": {}, "reason": meter.reason, "facts": facts})
    found, reason = host_figures(meter.samples, answer.facts, clockoffset.between(before, after))
    if found:
        facts["power_trace"] = agent_power.trace(meter.samples, False)
    return answer.model_copy(update={"power": found, "reason": reason, "facts": facts})


def host_figures(samples: list[tuple[float, float]], facts: Mapping[str, Any], offset: Offset) -> tuple[dict[str, float], str]:
    """samples: (seconds on our clock, watts); facts: the agent's, its phases stamped by the target's clock. raises: AgentError"""
    try:
        there = {str(phase): (float(begin), float(end)) for phase, (begin, end) in facts["power_phases"].items()}
        clips, frames = int(facts["power_clips"]), int(facts["power_frames"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AgentError(f"the agent's answer has no phases of the power pass that can be used ({error!r})") from error
    if frames < 1 or clips < 0:
        raise AgentError(f"the agent's answer tells of {clips} clips of {frames} frames")
    load_s = there["load"][1] - there["load"][0] if "load" in there else 0.0
    limit_s = UNCERTAINTY_SHORT_S if load_s < SHORT_WINDOW_S else UNCERTAINTY_SHARE * load_s
    if offset.uncertainty_s > limit_s:
        return {}, (
            f"n/a: the target's clock is known within {offset.uncertainty_s * 1e3:.0f} ms only, a load of {load_s:.3g} s allows "
            f"{limit_s * 1e3:.0f} ms: a faster link or a longer load (load_s under [power])"
        )
    here = {phase: [begin - offset.seconds, end - offset.seconds] for phase, (begin, end) in there.items()}
    found, reason = agent_power.figures(samples, False, here, clips, frames, offset.uncertainty_s)
    return {key: float(value) for key, value in found.items()}, str(reason)


def _without(reason: str) -> Answer:
    """No agent was started: without its meter the pass would be time lost."""
    return Answer(schema=1, nonce="", ok=True, reason=reason)
