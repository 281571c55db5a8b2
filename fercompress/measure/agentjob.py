"""One job for the agent: sent as a file, run in a fresh process, its answer fetched, checked and returned."""

from __future__ import annotations

import errno
import json
import signal
import uuid
from pathlib import Path
from typing import Any, Literal

import fercompress_agent
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fercompress.errors import AgentError, DiskFullError
from fercompress.measure import agentpack
from fercompress.measure.channel import Channel, Completed
from fercompress.records import Float32

EXIT_DONE, EXIT_FAILED, EXIT_DISK_FULL = 0, 3, 4


class Answer(BaseModel):
    """The agent's result file; what a job does not measure stays empty."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    schema_: Literal[1] = Field(alias="schema")
    nonce: str
    ok: bool
    reason: str
    facts: dict[str, Any] = {}
    extractor_ns: list[int] = []
    predictor_ns: list[int] = []
    clip_ns: list[int] = []
    frame_ns: list[int] = []
    memory_bytes: dict[str, int] = {}
    power: dict[str, float] = {}
    engines: dict[str, dict[str, str]] = {}
    missing: dict[str, list[str]] = {}


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
        local = self.incoming / self.pack.name
        write_bytes(local, self.pack.data)
        self.channel.put(local, self.pack.name)

    def do(self, job: dict[str, Any], deadline_s: float, classes: int | None = None) -> tuple[Answer, Float32 | None]:
        """Run one job. classes: how many columns the logits have that come back, None where none do.

        raises: TargetTimeoutError; DiskFullError; AgentError if it broke or answered nonsense
        An answer with ok = False is returned: the reason is the variant's, not the agent's.
        """
        nonce = uuid.uuid4().hex
        name = f"jobs/{nonce}"
        job = {
            **job,
            "schema": fercompress_agent.SCHEMA,
            "nonce": nonce,
            "deadline_s": deadline_s,
            "affinity": self.cores,
            "result": f"{name}.result.json",
        }
        if classes is not None:
            job["logits"] = f"{name}.npy"
        local, result = self.incoming / f"{nonce}.json", self.incoming / f"{nonce}.result.json"
        write_bytes(local, json.dumps(job, sort_keys=True).encode("ascii"))
        try:
            self.channel.put(local, f"{name}.json")
            completed = self.channel.run([self.python, self.pack.name, f"{name}.json"], deadline_s)
            check_exit(completed)
            # The job's own name here may be one file with the target's (a hard link): the answer gets another.
            self.channel.get(job["result"], result)
            answer = parse_answer(result.read_bytes(), nonce)
            logits = self._logits(f"{name}.npy", len(job["rows"]), classes) if classes is not None and answer.ok else None
            return answer, logits
        finally:
            local.unlink(missing_ok=True)
            result.unlink(missing_ok=True)

    def _logits(self, remote: str, rows: int, classes: int) -> Float32:
        local = self.incoming / Path(remote).name
        self.channel.get(remote, local)
        try:
            logits = np.load(local, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise AgentError(f"the agent's logits cannot be read ({error}); run the same command again") from error
        finally:
            local.unlink(missing_ok=True)
        if logits.dtype != np.float32 or logits.shape != (rows, classes):
            raise AgentError(f"the agent sent logits {logits.dtype} {logits.shape}, expected float32 {(rows, classes)}")
        return np.asarray(logits, np.float32)

    def clean(self, folder: str) -> None:
        """Remove a folder on the target."""
        self.do({"job": "clean", "folder": folder}, deadline_s=60)


def check_exit(completed: Completed) -> None:
    """raises: DiskFullError, AgentError, unless the agent came to an end of its own with a result file"""
    if completed.exit_code in (EXIT_DONE, EXIT_FAILED):
        return
    lines = completed.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
    if completed.exit_code == EXIT_DISK_FULL:
        raise DiskFullError(f"{lines[-1]}; free some and run the same command again")
    if completed.exit_code < 0:
        number = -completed.exit_code
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        hint = "; was the target out of memory?" if number == signal.SIGKILL else ""
        raise AgentError(f"the agent was ended by {name}{hint}")
    raise AgentError(f"the agent broke with exit code {completed.exit_code}: {lines[-1]}")


def parse_answer(text: bytes, nonce: str) -> Answer:
    """raises: AgentError if the text is not the answer to the job with this nonce"""
    try:
        answer = Answer.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise AgentError(
            f"the agent's answer cannot be used ({'.'.join(map(str, first['loc']))}: {first['msg']}); run the same command again"
        ) from error
    if answer.nonce != nonce:
        raise AgentError("the agent's answer belongs to another job; does something else use the same folder on the target?")
    return answer


def write_bytes(path: Path, data: bytes) -> None:
    """raises: DiskFullError"""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> Exception:
    """The error to raise instead of an OSError of this machine's disk."""
    return DiskFullError(f"{path}: no space left; free some and run the same command again") if error.errno == errno.ENOSPC else error
