"""One job for the agent: sent as a file, run in a fresh process, its answer fetched, checked and returned."""

from __future__ import annotations

import errno
import json
import os
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fercompress_agent

from fercompress.errors import AgentError, DiskFullError, TargetRebootedError, TargetTimeoutError
from fercompress.measure import agentpack
from fercompress.measure.answer import Answer, parse_answer, read_answer, read_logits
from fercompress.measure.channel import Channel, Completed
from fercompress.records import Float32, digest

__all__ = ["Agent", "Answer", "check_exit", "disk_error", "parse_answer", "write_bytes"]

EXIT_DONE, EXIT_FAILED, EXIT_DISK_FULL = 0, 3, 4
CLEAN_S = 60.0


class Agent:
    """The agent on a target.

    python: the target's interpreter; incoming: a folder on this machine for what comes back
    """

    def __init__(self, channel: Channel, python: str, cores: tuple[int, ...] | None, incoming: Path) -> None:
        self.channel = channel
        self.python = python
        self.cores = cores
        self.incoming = incoming
        self.pack = agentpack.pack()

    def deploy(self) -> None:
        """Send the agent; one that is there undamaged is left alone."""
        local = self.incoming / self.pack.name
        write_bytes(local, self.pack.data)
        self.channel.put(local, self.pack.name)

    def do(self, job: Mapping[str, Any], deadline_s: float, classes: int | None = None, name: str = "") -> tuple[Answer, Float32 | None]:
        """Run one job. classes: how many columns the logits have that come back, None where none do.

        name: of hexadecimal digits. A named job that runs on the target or has ended there is taken up, where the channel can do that,
        and stays known until `forget`; without a name it is one that nobody takes up, and is forgotten when it ends.
        raises: TargetTimeoutError; TargetRebootedError; DiskFullError; AgentError if it broke or answered nonsense
        An answer with ok = False is returned: the reason is the variant's, not the agent's.
        """
        known = name or uuid.uuid4().hex
        # Of another agent's answer under the same name (it was upgraded meanwhile) the host would not know which agent measured.
        nonce = digest(known, self.pack.sha256)[:32]
        job = {
            **job,
            "schema": fercompress_agent.SCHEMA,
            "nonce": nonce,
            "deadline_s": deadline_s,
            "affinity": self.cores,
            "result": f"jobs/{known}.result.json",
        }
        if classes is not None:
            job["logits"] = f"jobs/{known}.npy"
        local, result, logits_file = (self.incoming / f"{known}{ending}" for ending in (".json", ".result.json", ".npy"))
        write_bytes(local, json.dumps(job, sort_keys=True).encode("ascii"))
        try:
            self.channel.put(local, f"jobs/{known}.json")
            completed = self.channel.run([self.python, self.pack.name, f"jobs/{known}.json"], deadline_s, known)
            check_exit(completed)
            self.channel.get(job["result"], result)
            answer = read_answer(result, nonce)
            logits = None
            if classes is not None and answer.ok:
                self.channel.get(job["logits"], logits_file)
                logits = read_logits(logits_file, len(job["rows"]), classes, answer.logits_sha256)
        finally:
            for path in (local, result, logits_file):
                path.unlink(missing_ok=True)
        if not name:
            self.forget(known)
        return answer, logits

    def forget(self, name: str) -> None:
        """Remove what a job left on the target; what was recorded is not needed there."""
        self.channel.forget(name, [f"jobs/{name}{ending}" for ending in (".json", ".result.json", ".npy")])

    def clean(self, folder: str) -> None:
        """Remove a folder on the target. That a cleaner breaks costs disk space there, not a session."""
        try:
            self.do({"job": "clean", "folder": folder}, deadline_s=CLEAN_S)
        except (AgentError, TargetTimeoutError, TargetRebootedError):
            return


def check_exit(completed: Completed) -> None:
    """raises: DiskFullError, AgentError, unless the agent came to an end of its own with a result file"""
    if completed.exit_code in (EXIT_DONE, EXIT_FAILED):
        return
    lines = completed.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
    said = "".join(letter if letter.isprintable() else " " for letter in lines[-1][:500])
    if completed.exit_code == EXIT_DISK_FULL:
        raise DiskFullError(f"{said}; free some and run the same command again")
    if completed.exit_code < 0:
        number = -completed.exit_code
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        hint = "; was the target out of memory?" if number == signal.SIGKILL else ""
        raise AgentError(f"the agent was ended by {name}{hint}")
    raise AgentError(f"the agent broke with exit code {completed.exit_code}: {said}")


def write_bytes(path: Path, data: bytes) -> None:
    """Whole or not at all: another process may be reading what was there. raises: DiskFullError"""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> Exception:
    """The error to raise instead of an OSError of this machine's disk."""
    return DiskFullError(f"{path}: no space left; free some and run the same command again") if error.errno == errno.ENOSPC else error
