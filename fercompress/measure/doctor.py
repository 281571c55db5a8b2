"""Is a target fit for a long run? What it tells of itself in, one finding per question out; each that is not well says how to mend it."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fercompress.errors import AgentError, TargetError
from fercompress.measure.agentjob import Agent, Answer
from fercompress.measure.board import Board, connect
from fercompress.measure.sshchannel import Greeting, SshChannel
from fercompress.measure.wheelhouse import packages_of

EXAMINE_S = 120.0
FREE_BYTES = 500 << 20  # below this a study's bundles and clips may not fit
AVAILABLE_BYTES = 200 << 20  # an agent with a dense model takes 110 MB
HOT_MC = 60_000  # a block that begins hotter than this is near the RK3399's first trip point, 70 degC
LOAD = 0.5
CLOCK_S = 60.0
SLOW_LINK_S = 0.1
NPU_ENGINES = {"rknnlite", "rknn"}


class Level(enum.StrEnum):
    OK = "ok"
    NOTE = "note"
    FAILS = "fails"


@dataclass(frozen=True)
class Finding:
    """what: the question in a word or two; found: what the target answers; mend: what to do, "" where nothing is to be done"""

    level: Level
    what: str
    found: str
    mend: str = ""


def examine(board: Board, work: Path) -> list[Finding]:
    """Ask the target. work: a folder on this machine for files on their way. raises: TargetError where it cannot be reached"""
    channel = connect(board, work / "target", "")
    try:
        greeting = channel.greet() if isinstance(channel, SshChannel) else None
        agent = Agent(channel, board.python, None, work)
        agent.deploy()
        told = _asked(agent, "doctor").facts.get("doctor", {})
        return list(findings(board, _asked(agent, "probe"), told, greeting))
    finally:
        channel.close()


def _asked(agent: Agent, job: str) -> Answer:
    answer, _ = agent.do({"job": job}, EXAMINE_S)
    if not answer.ok:
        raise AgentError(f"the agent could not do {job!r}: {answer.reason}")
    return answer


def findings(board: Board, probe: Answer, told: Mapping[str, Any], greeting: Greeting | None) -> Iterator[Finding]:
    """probe: the probe job's answer; told: the doctor job's facts; greeting: of a target that is reached over SSH"""
    if greeting is not None:
        yield from _link(greeting)
    yield Finding(Level.OK, "machine", f"{told.get('model') or probe.facts.get('cpu') or 'unnamed'}, {probe.facts.get('platform', 'unknown system')}")
    yield Finding(Level.OK, "python", f"{probe.facts.get('python')} ({told.get('glibc') or 'C library unknown'})")
    yield from _engines(board, probe)
    if isinstance(told.get("provisioned"), Mapping):
        versions = told["provisioned"].get("versions", {})
        yield Finding(Level.OK, "provisioned", ", ".join(f"{name} {version}" for name, version in sorted(versions.items())))
    yield from _cores(board, probe)
    yield from _clocks(board, told)
    yield from _room(told)
    yield from _state(told)
    yield from _power(board, told)
    if NPU_ENGINES & set(board.engines):
        yield from _npu(probe, told)


def _link(greeting: Greeting) -> Iterator[Finding]:
    trip = f"round trip {greeting.round_trip_s * 1e3:.1f} ms"
    if greeting.round_trip_s > SLOW_LINK_S:
        yield Finding(Level.NOTE, "link", trip, "uploads take their time; nothing that is measured depends on the link")
    else:
        yield Finding(Level.OK, "link", trip)
    ahead = f"the target's clock is {abs(greeting.clock_offset_s):.1f} s {'ahead' if greeting.clock_offset_s > 0 else 'behind'}"
    if abs(greeting.clock_offset_s) > CLOCK_S:
        yield Finding(Level.NOTE, "clock", ahead, "its dates in results are off: start its time service (timedatectl set-ntp true)")
    else:
        yield Finding(Level.OK, "clock", ahead)


def _engines(board: Board, probe: Answer) -> Iterator[Finding]:
    usable = [name for name in board.engines if name in probe.engines]
    for name in board.engines:
        if name in probe.engines:
            versions = ", ".join(f"{package} {version}" for package, version in sorted(probe.engines[name].items()))
            yield Finding(Level.OK, f"engine {name}", versions or "there")
            continue
        missing = " ".join(probe.missing.get(name, [])) or "this agent has no such engine"
        level = Level.NOTE if usable else Level.FAILS
        how = (
            f"fercompress board provision {board.name} --wheelhouse DIR"
            if board.kind == "ssh" and packages_of(name)
            else f"install it for {board.python} there"
        )
        yield Finding(level, f"engine {name}", f"missing: {missing}", f"{how}, or take it out of `engines` in the target's file")
    if not usable:
        yield Finding(
            Level.FAILS, "engines", f"none of {', '.join(board.engines)} can start", "nothing can be measured until one of them is installed"
        )


def _cores(board: Board, probe: Answer) -> Iterator[Finding]:
    allowed = probe.facts.get("affinity")
    if board.cores is None or not isinstance(allowed, list):
        yield Finding(Level.OK, "cores", f"{probe.facts.get('cores')}, the scheduler decides")
    elif absent := sorted(set(board.cores) - set(allowed)):
        yield Finding(Level.FAILS, "cores", f"no core {', '.join(map(str, absent))} (there are {allowed})", "correct `cores` in the target's file")
    else:
        yield Finding(Level.OK, "cores", f"pinned to {list(board.cores)} of {allowed}")


def _clocks(board: Board, told: Mapping[str, Any]) -> Iterator[Finding]:
    policies: Mapping[str, Any] = told.get("policies", {})
    if not policies:
        yield Finding(
            Level.NOTE, "governor", "this system tells no clocks (no cpufreq)", "a clock that changes will go unseen: repeat on a quiet machine"
        )
        return
    found = ", ".join(f"{name} {policy.get('governor')}" for name, policy in sorted(policies.items()))
    wanted = board.governor
    if wanted == "leave":
        steady = all(policy.get("governor") in ("performance", "userspace") for policy in policies.values())
        mend = "" if steady else 'clocks follow the load: governor = "performance" in the target\'s file asks for steady ones'
        yield Finding(Level.OK if steady else Level.NOTE, "governor", found, mend)
        return
    for name, policy in sorted(policies.items()):
        if wanted not in policy.get("available", [wanted]):
            yield Finding(Level.FAILS, "governor", f"{name} has no {wanted!r}", f"take one of: {', '.join(policy['available'])}")
        elif policy.get("governor") != wanted and not policy.get("writable"):
            node = f"/sys/devices/system/cpu/cpufreq/{name}/scaling_governor"
            yield Finding(Level.NOTE, "governor", f"{name} is {policy.get('governor')}, and may not be set", f"as root there: echo {wanted} > {node}")
        else:
            yield Finding(Level.OK, "governor", f"{name}: {policy.get('governor')}, {wanted} can be had")


def _room(told: Mapping[str, Any]) -> Iterator[Finding]:
    for what, key, least, mend in (
        ("disk", "free_bytes", FREE_BYTES, "free some, or: fercompress board clean TARGET"),
        ("memory", "available_bytes", AVAILABLE_BYTES, "end other programs there"),
    ):
        if not isinstance(told.get(key), int):
            yield Finding(Level.NOTE, what, "not told by this system")
        elif told[key] < least:
            yield Finding(Level.FAILS, what, f"{told[key] >> 20} MiB free, at least {least >> 20} are needed", mend)
        else:
            yield Finding(Level.OK, what, f"{told[key] >> 20:,} MiB free")
    if (told.get("swap_used_bytes") or 0) > 64 << 20:
        used = told["swap_used_bytes"] >> 20
        yield Finding(Level.NOTE, "swap", f"{used} MiB in use", "what is swapped out is slow when it comes back: end other programs, or swapoff -a")


def _state(told: Mapping[str, Any]) -> Iterator[Finding]:
    temperatures = told.get("temperature_mc", {})
    if not temperatures:
        yield Finding(Level.NOTE, "temperature", "no zone tells one", "throttling will be seen in the latencies only")
    else:
        name, hottest = max(temperatures.items(), key=lambda item: item[1])
        found = f"{hottest / 1000:.0f} degC ({name})"
        hot = hottest > HOT_MC
        yield Finding(Level.NOTE if hot else Level.OK, "temperature", found, "let it cool, or give it a fan: it will throttle soon" if hot else "")
    cooling = {name: state for name, state in told.get("cooling", {}).items() if state and "fan" not in name}
    if cooling:
        yield Finding(
            Level.FAILS, "throttled", ", ".join(f"{name} at {state}" for name, state in sorted(cooling.items())), "it is slowed down now: let it cool"
        )
    load = told.get("load")
    if isinstance(load, float | int) and load > LOAD:
        yield Finding(Level.NOTE, "load", f"{load:.1f} processes want a core", "see with top what runs there, and end it")


def _power(board: Board, told: Mapping[str, Any]) -> Iterator[Finding]:
    nodes: Mapping[str, bool] = told.get("power_nodes", {})
    source = board.power.source
    if source in ("command", "none"):
        yield Finding(Level.OK, "power", "a program of your own" if source == "command" else "not measured")
    elif any(nodes.values()):
        yield Finding(Level.OK, "power", ", ".join(name for name, readable in sorted(nodes.items()) if readable))
    elif nodes:
        yield Finding(
            Level.NOTE, "power", f"{', '.join(sorted(nodes))}: not readable", "run as root there, or chmod a+r the node; until then power is n/a"
        )
    else:
        yield Finding(
            Level.NOTE, "power", "no sensor", 'a bench meter can serve: [power] source = "command" in the target\'s file; until then power is n/a'
        )


def _npu(probe: Answer, told: Mapping[str, Any]) -> Iterator[Finding]:
    proxies = told.get("npu_proxies", 0)
    if not proxies:
        yield Finding(
            Level.NOTE,
            "npu",
            "no npu_transfer_proxy runs",
            "rknnlite starts one; with the full toolkit start it first; then: npu_transfer_proxy devices",
        )
    elif proxies > 1:
        yield Finding(Level.FAILS, "npu", f"{proxies} processes npu_transfer_proxy", "only one may own the NPU: kill the others, in containers too")
    else:
        yield Finding(Level.OK, "npu", "one npu_transfer_proxy runs")
    if not NPU_ENGINES & set(probe.engines):
        yield Finding(
            Level.NOTE, "npu runtime", "neither rknnlite nor rknn can be imported", "the extractor runs on the CPU until one is installed there"
        )


def worst(found: list[Finding]) -> Level:
    levels = {finding.level for finding in found}
    return next((level for level in (Level.FAILS, Level.NOTE) if level in levels), Level.OK)


def unreachable(board: Board, error: TargetError) -> list[Finding]:
    """What can be said where nothing could be asked (out of reach, or another host measures there): the error's own words name what to try."""
    return [Finding(Level.FAILS, "link", f"target {board.name!r} cannot be asked", str(error))]
