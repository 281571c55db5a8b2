"""Bring wheels of a local folder to a board, below its workspace: what it is in, what the agent will import from now on out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fercompress.errors import AgentError, DiskFullError, InputError
from fercompress.measure.agentjob import Agent
from fercompress.measure.board import Board, address
from fercompress.measure.sshchannel import SPARE_BYTES, SshChannel
from fercompress.measure.wheelhouse import Choice, choose, interpreter, packages_of

EXAMINE_S = 120.0
UNPACK_S = 900.0  # a slow card, and everything is compiled once
COMPILED = 0.5  # of what was unpacked, at most so much again once Python has compiled it (numpy 1.26: 0.2)


@dataclass(frozen=True)
class Provision:
    """there: the board holds exactly these wheels already; folder: where, below the workspace, "" while it is only planned"""

    choice: Choice
    there: bool
    folder: str = ""

    def __str__(self) -> str:
        return ", ".join(f"{wheel.project} {wheel.version}" for wheel in self.choice.wheels)


def provision(board: Board, wheelhouse: Path, work: Path, *, plan: bool = False, tell: Callable[[str], None] = lambda _: None) -> Provision:
    """work: a folder on this machine for files on their way; plan: choose, and send nothing but the agent

    raises: InputError where nothing fits, with the command that fills the wheelhouse; TargetError, DiskFullError, AgentError
    """
    if board.kind != "ssh":
        raise InputError(f"target {board.name!r} is not reached over SSH: install its engines as any Python package (pip install onnxruntime)")
    with SshChannel(address(board)) as channel:
        agent = Agent(channel, board.python, None, work)
        agent.deploy()
        told = told_by_doctor(agent)
        choice = choose(wheelhouse, board.engines, interpreter(told.get("interpreter", {})))
        if not choice.wheels:
            raise InputError(nothing_fits(board, choice, wheelhouse))
        held = told.get("provisioned", {})
        wanted = {wheel.path.name: wheel.sha256 for wheel in choice.wheels}
        if held.get("wheels") == wanted:
            return Provision(choice, there=True, folder=f"site/{held.get('folder')}")
        if plan:
            return Provision(choice, there=False)
        check_room(channel, board, choice)
        sent: dict[str, str] = {}
        try:
            for wheel in choice.wheels:
                tell(f"send {wheel.path.name} ({wheel.path.stat().st_size / 1e6:.1f} MB)")
                sent[f"wheels/{wheel.path.name}"] = wheel.sha256
                channel.put(wheel.path, f"wheels/{wheel.path.name}")
            tell(f"unpack {choice.unpacked_bytes / 1e6:.1f} MB there, and compile")
            versions = {wheel.project: str(wheel.version) for wheel in choice.wheels}
            job = {"job": "provision", "wheels": sent, "versions": versions, "limit_bytes": choice.unpacked_bytes}
            answer, _ = agent.do(job, UNPACK_S)
            if not answer.ok:
                raise AgentError(f"target {board.name!r} could not unpack the wheels: {answer.reason}")
        finally:
            for remote in sent:
                channel.remove(remote)
        return Provision(choice, there=False, folder=f"site/{answer.facts.get('provisioned', {}).get('folder')}")


def told_by_doctor(agent: Agent) -> Mapping[str, Any]:
    answer, _ = agent.do({"job": "doctor"}, EXAMINE_S)
    told = answer.facts.get("doctor", {})
    if not answer.ok or not isinstance(told, Mapping):
        raise AgentError(f"the agent could not look at its machine: {answer.reason}")
    return told


def check_room(channel: SshChannel, board: Board, choice: Choice) -> None:
    """The wheels, and what they unpack to, must fit beside each other. raises: DiskFullError before anything is sent"""
    needed = sum(wheel.path.stat().st_size for wheel in choice.wheels) + int(choice.unpacked_bytes * (1 + COMPILED)) + SPARE_BYTES
    room = channel.make_room(needed)
    if needed > room:
        raise DiskFullError(
            f"target {board.name!r}: {', '.join(wheel.path.name for wheel in choice.wheels)} need {needed >> 20} MiB unpacked, and there is room for "
            f"{max(0, room) >> 20} MiB (disk_mb = {board.disk_mb}); free some: fercompress board clean {board.name}, or raise disk_mb in its file"
        )


def nothing_fits(board: Board, choice: Choice, wheelhouse: Path) -> str:
    if not choice.lacking:
        return f"target {board.name!r}: none of its engines ({', '.join(board.engines)}) comes as a wheel; see `engines` in its file"
    lines = [f"  {engine}: {reason}" for engine, reason in choice.lacking.items()]
    return "\n".join(
        [f"target {board.name!r}: no engine can be provisioned:", *lines, "fill the wheelhouse on any machine with:", fill(choice, wheelhouse)]
    )


def fill(choice: Choice, wheelhouse: Path) -> str:
    """The command that would fetch what the engines without wheels need."""
    return "  " + choice.interpreter.download(wheelhouse, sorted({package for engine in choice.lacking for package in packages_of(engine)}))
