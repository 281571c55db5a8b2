"""How a block comes about on a target that may fail: a cell of the schedule in, the blocks of its one or two attempts out.

A block that failed, or during which the target rebooted, is recorded and tried once more at once, after everything was sent again.
A variant at which that happened twice in a session is quarantined: it costs the other variants no more of the target's time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fercompress.errors import AgentError, TargetRebootedError, TargetTimeoutError
from fercompress.measure import clockoffset, hostload, power
from fercompress.measure.agentjob import Agent, Answer
from fercompress.measure.answer import check_stream, check_times
from fercompress.measure.board import Board
from fercompress.measure.cooling import Cooling
from fercompress.measure.schedule import Cell
from fercompress.records import QUARANTINED, REBOOTED, Block, BlockKey, Float32, Pass, Status, digest

FAULTS = 2  # of one variant, after which it is quarantined
ATTEMPTS = 2  # at one block within a session
MEMORY_STEPS = ("interpreter", "runtime", "model", "peak")
MEMORY_PARTS = tuple(f"{step}_{part}" for step in MEMORY_STEPS for part in ("anonymous", "file"))  # where the kernel tells them apart
EMULATED = "n/a: emulated, what an emulator takes says nothing of a board"


@dataclass(frozen=True)
class Attempt:
    """job: the name of what ran on the target, to be forgotten there once the block is recorded; "" where nothing ran

    last: no further attempt at this cell follows
    """

    block: Block
    job: str
    last: bool


class Quarantine:
    """Counts the faults of each variant. Several threads may use it."""

    def __init__(self) -> None:
        self._faults: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def count(self, block: Block) -> None:
        with self._lock:
            self._faults[block.key.variant] += 1
            self._reasons[block.key.variant] = block.reason

    def reason(self, variant: str) -> str:
        """Why the variant's other blocks are left out; "" where they are not."""
        with self._lock:
            return f"{QUARANTINED}: failed {FAULTS} times, at last because {self._reasons[variant]}" if self._faults[variant] >= FAULTS else ""


@dataclass(frozen=True)
class Trials:
    """run_id: of the run's folder: the same block's attempt has the same name on the target whenever that run is started again

    tried: how often a block was recorded before this session; again: sends everything again; facts: of the session, kept with every block
    """

    agent: Agent
    board: Board
    quarantine: Quarantine
    cooling: Cooling
    again: Callable[[], None]
    run_id: str
    tried: Mapping[BlockKey, int]
    deadline_s: float
    facts: Mapping[str, Any]

    def attempts(self, cell: Cell, features: str = "") -> Iterator[Attempt]:
        """features: a folder on the target for this group's features. raises: TargetError where the fault is no variant's"""
        if reason := self.quarantine.reason(cell.key.variant):
            yield Attempt(Block(cell.key, cell.measured.bundle.sha256, Status.EXCLUDED, reason), "", last=True)
            return
        if self.board.emulated and cell.key.pass_ in (Pass.LATENCY, Pass.POWER):
            yield Attempt(Block(cell.key, cell.measured.bundle.sha256, Status.EXCLUDED, EMULATED), "", last=True)
            return
        for number in range(ATTEMPTS):
            job = job_name(self.run_id, cell.key, self.tried.get(cell.key, 0) + number)
            block, faulty = self._run(cell, job, features)
            if faulty:
                self.quarantine.count(block)
            last = not faulty or number == ATTEMPTS - 1 or bool(self.quarantine.reason(cell.key.variant))
            yield Attempt(block, job, last)
            if faulty:  # also after the last attempt: what a reboot took is missing for the next variant too
                self.again()
            if last:
                return

    def _run(self, cell: Cell, job: str, features: str) -> tuple[Block, bool]:
        """One fresh agent process. returns: its block, and whether something broke"""
        bundle, pass_ = cell.measured.bundle, cell.key.pass_
        classes = len(bundle.manifest["classes"]) if pass_ is Pass.ACCURACY else None
        facts: dict[str, Any] = {**self.facts, **(self.cooling.wait() if pass_ is Pass.LATENCY else {})}
        watch = self.board.kind == "local" and pass_ is not Pass.ACCURACY  # elsewhere this machine's load does not count
        facts.update(hostload.before_block() if watch else {})
        first = hostload.snapshot() if watch else None
        failed = Block(cell.key, bundle.sha256, Status.FAILED, "no answer", facts=facts)
        try:
            if pass_ is Pass.POWER:
                answer, logits = self._metered(cell, job), None
            else:
                answer, logits = self.agent.do({**cell.job, "features": features}, self.deadline_s, classes, job)
        except TargetRebootedError:
            return replace(failed, status=Status.EXCLUDED, reason=REBOOTED), True
        except (AgentError, TargetTimeoutError) as error:
            return replace(failed, reason=str(error)), True
        if first is not None:
            facts.update(hostload.between(first, hostload.snapshot(), "during"))
        self.cooling.seen(answer.facts)
        block = answered(cell, answer, logits, {**answer.facts, **facts, "agent_sha256": self.agent.pack.sha256})
        return block, block.status is Status.FAILED

    def _metered(self, cell: Cell, job: str) -> Answer:
        """A meter may be on this side, and a window of its own is longer than a block."""
        asked = self.board.power
        longer_s, clock = power.deadline_s(asked, self.deadline_s), clockoffset.reader(self.agent.channel, self.agent.python)
        return power.metered(asked, lambda: self.agent.do(dict(cell.job), longer_s, name=job)[0], clock)


def job_name(run_id: str, key: BlockKey, number: int) -> str:
    """The same in every process that asks: a run that was killed finds by it what the target did meanwhile."""
    return digest(run_id, asdict(key), number)[:32]


def answered(cell: Cell, answer: Answer, logits: Float32 | None, facts: Mapping[str, Any]) -> Block:
    """An agent's answer as a block; one that cannot be used becomes a failed one."""
    manifest = cell.measured.bundle.manifest
    plain = Block(cell.key, cell.measured.bundle.sha256, Status.FAILED, answer.reason or "the agent gave no reason", facts=facts)
    if not answer.ok:
        return plain
    try:
        if cell.key.pass_ is Pass.POWER:
            watts, reason = power.checked(answer.power, answer.reason)
            return replace(plain, status=Status.OK, reason=reason, power=watts)
        if cell.key.pass_ is Pass.MEMORY:
            if answer.memory_bytes and set(answer.memory_bytes) - {"inference_peak", *MEMORY_PARTS} != set(MEMORY_STEPS):
                raise AgentError(f"memory_bytes has {', '.join(answer.memory_bytes)}, the steps are {', '.join(MEMORY_STEPS)}")
            status = Status.OK if answer.memory_bytes else Status.EXCLUDED
            return replace(plain, status=status, reason=answer.reason, memory_bytes=answer.memory_bytes)
        if cell.key.pass_ is Pass.ACCURACY:
            return replace(plain, status=Status.OK, reason="", logits=logits, clip_index=cell.measured.clip_index)
        check_times(answer, manifest.get("calls", manifest["frames"]), cell.job["block_clips"])
        check_stream(answer, manifest["frames"], cell.job.get("stream_clips", 0))
        streams = {"stream_ns": answer.stream_ns} if answer.stream_ns else {}
        return replace(
            plain, status=Status.OK, reason="", extractor_ns=tuple(answer.extractor_ns), predictor_ns=tuple(answer.predictor_ns),
            clip_ns=tuple(answer.clip_ns), frame_ns=tuple(answer.frame_ns), facts={**facts, **streams},
        )  # fmt: skip
    except (AgentError, ValueError) as error:
        return replace(plain, reason=f"the agent's answer cannot be used: {error}")
