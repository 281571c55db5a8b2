"""Measure bundles on a target: bundles and clips in, one `Block` after the other out.

Passes run in a fixed order and never at the same time. A block that fails is recorded with its reason and the session goes on;
a variant that failed twice is left out of the rest. What is no variant's fault (the target is gone, a disk is full) ends the session.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fercompress.config import Measure
from fercompress.errors import AgentError, TargetTimeoutError
from fercompress.measure import clockoffset, hostload, power
from fercompress.measure.agentjob import Agent, Answer, disk_error
from fercompress.measure.board import Board
from fercompress.measure.bundlecheck import check_bundles
from fercompress.measure.channel import Channel
from fercompress.measure.schedule import TIMED_CLIPS, Bundles, Cell, ClipsFile, MeasuredBundle, Schedule, every, remote_folder
from fercompress.records import Block, BlockKey, Bundle, Clips, Float32, Int64, Pass, Status, digest

FAILURES = 2  # of one variant, after which its remaining blocks are left out
PROBE_S = 120.0


@dataclass(frozen=True)
class Progress:
    """`done` of `total` blocks of this session are there (finished earlier: not counted); the next is of this pass and variant."""

    done: int
    total: int
    pass_: Pass
    variant: str


def measure(
    bundles: Bundles,
    clips: Clips,
    settings: Measure,
    board: Board,
    channel: Channel,
    work: Path,
    *,
    done: Collection[BlockKey],
    record: Callable[[Block], None],
    progress: Callable[[Progress], None],
    seed: int = 0,
) -> tuple[BlockKey, ...]:
    """Run every block of the schedule that is not `done`.

    bundles: variant -> its bundles; accuracy runs them all, the other passes the first of each, after checking that all are of one recipe
    channel: to the board; it is closed if the session ends by an exception, Ctrl-C included, so that nothing goes on running
    work: a folder on this machine for files on their way to and from the target
    done: keys of the blocks that finished well; a failed block that is not among them is tried again
    record: is called in this thread with each block as soon as it is there, in the order of the schedule but for accuracy
    seed: of the rounds' random orders and of the timed clips' choice
    returns: the keys of the whole schedule, done before or now
    raises: BundleError, InputError before anything runs; TargetError where the fault is no variant's
    """
    for variant, several in bundles.items():
        check_bundles(variant, several, board)
    agent = Agent(channel, board.python, board.cores, work)
    failures: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    finished = 0

    def run(cell: Cell, features: str = "") -> Block:
        variant = cell.key.variant
        if failures[variant] < FAILURES:
            return run_block(agent, cell, board, settings.deadline_s, features)
        reason = f"left out: {variant} failed {FAILURES} times, at last because {reasons[variant]}"
        return Block(cell.key, cell.measured.bundle.sha256, Status.EXCLUDED, reason)

    def note(block: Block) -> None:
        nonlocal finished
        if block.status is Status.FAILED:
            reasons[block.key.variant] = block.reason
            failures[block.key.variant] += 1
        record(block)
        finished += 1

    try:
        cells = plan(agent, bundles, clips, settings, board, work, seed)
        before = frozenset(done)
        left = [cell for cell in cells if cell.key not in before]

        def begin(cell: Cell) -> None:
            progress(Progress(finished, len(left), cell.key.pass_, cell.key.variant))

        together = [cell for cell in left if cell.key.pass_ is Pass.ACCURACY]
        with contextlib.closing(accuracy_blocks(agent, together, board.accuracy_processes, run, begin)) as blocks:
            for block in blocks:
                note(block)
        for cell in left:
            if cell.key.pass_ is not Pass.ACCURACY:
                begin(cell)
                note(run(cell))
        agent.clean("jobs")
    except BaseException:
        channel.close()
        raise
    return tuple(cell.key for cell in cells)


def plan(agent: Agent, bundles: Bundles, clips: Clips, settings: Measure, board: Board, work: Path, seed: int) -> list[Cell]:
    """Send the agent, the bundles and the clips; returns the whole schedule. raises: TargetError"""
    agent.deploy()
    target = probe(agent, bundles, board, min(settings.deadline_s, PROBE_S))
    for measured in every(bundles):
        for name in ["manifest.json", *measured.bundle.manifest["files"]]:
            agent.channel.put(measured.bundle.folder / name, f"{remote_folder(measured.bundle)}/{name}")
    tested = np.unique(np.concatenate([measured.clip_index for measured in every(bundles)]))
    first = next(iter(bundles.values()))[0].clip_index
    timed = np.random.default_rng(seed).permutation(first)[: min(TIMED_CLIPS, settings.block_clips)]
    all_clips = put_clips(agent, clips, tested, work) if "accuracy" in settings.passes else None
    few_clips = put_clips(agent, clips, np.sort(timed), work)
    return Schedule(bundles, settings, board, target.facts, target.engines, clips.fingerprint, all_clips, few_clips, seed).cells()


def probe(agent: Agent, bundles: Bundles, board: Board, deadline_s: float) -> Answer:
    """The target's facts and engines. raises: AgentError if the agent cannot run there or an engine is missing"""
    answer, _ = agent.do({"job": "probe"}, deadline_s)
    if not answer.ok:
        raise AgentError(f"target {board.name!r}: {answer.reason}")
    for engine in sorted({measured.bundle.engine for measured in every(bundles)} - set(answer.engines)):
        modules = " ".join(answer.missing.get(engine, [engine]))
        raise AgentError(f"target {board.name!r}: {board.python} has no module {modules}; install it there: pip install {modules}")
    return answer


def put_clips(agent: Agent, clips: Clips, rows: Int64, work: Path) -> ClipsFile:
    """Write these rows of the clips to a file and send it. raises: DiskFullError"""
    path = work / f"clips-{digest(clips.fingerprint, rows.tolist())[:16]}.npy"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.ascontiguousarray(clips.frames[rows]))
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        remote = f"clips/{sha256[:32]}.npy"
        agent.channel.put(path, remote)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        path.unlink(missing_ok=True)
    return ClipsFile(remote, sha256, {int(row): place for place, row in enumerate(rows)})


def accuracy_blocks(
    agent: Agent, cells: Sequence[Cell], processes: int, run: Callable[[Cell, str], Block], begin: Callable[[Cell], None]
) -> Generator[Block, None, None]:
    """Cells with one extractor file and the same clips run one after the other and share its features; such groups run side by side."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(digest(extractor_sha256(cell.measured.bundle), cell.job["rows"])[:16], []).append(cell)
    answers: queue.SimpleQueue[Block | BaseException] = queue.SimpleQueue()
    stop = threading.Event()

    def work_off(name: str, group: list[Cell]) -> None:
        # Features are large: they stay on the target no longer than their group runs, and are not written for one alone.
        folder = f"features/{name}" if len(group) > 1 else ""
        try:
            for cell in group:
                if stop.is_set():
                    return
                answers.put(run(cell, folder))
            if folder:
                agent.clean(folder)
        except BaseException as error:
            answers.put(error)  # so that the wait below ends
            raise

    with ThreadPoolExecutor(processes) as pool:
        try:
            futures = [pool.submit(work_off, name, group) for name, group in groups.items()]
            for cell in cells:
                begin(cell)
                answer = answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            agent.channel.close()
            raise


def run_block(agent: Agent, cell: Cell, board: Board, deadline_s: float, features: str) -> Block:
    """One fresh agent process. A failure of the agent or of the variant becomes a failed block."""
    bundle = cell.measured.bundle
    watch_host = board.kind == "local" and cell.key.pass_ is not Pass.ACCURACY
    classes = len(bundle.manifest["classes"]) if cell.key.pass_ is Pass.ACCURACY else None
    host: dict[str, Any] = dict(hostload.before_block()) if watch_host else {}
    first = hostload.snapshot() if watch_host else None
    try:
        if cell.key.pass_ is Pass.POWER:
            longer_s, clock = power.deadline_s(board.power, deadline_s), clockoffset.reader(agent.channel, agent.python)
            answer, logits = power.metered(board.power, lambda: agent.do(dict(cell.job), longer_s)[0], clock), None
        else:
            answer, logits = agent.do({**cell.job, "features": features}, deadline_s, classes)
    except (AgentError, TargetTimeoutError) as error:
        return Block(cell.key, bundle.sha256, Status.FAILED, str(error), facts=host)
    if first is not None:
        host.update(hostload.between(first, hostload.snapshot(), "during"))
    return answered(cell, answer, logits, {**answer.facts, **host, "agent_sha256": agent.pack.sha256})


def answered(cell: Cell, answer: Answer, logits: Float32 | None, facts: Mapping[str, Any]) -> Block:
    """An agent's answer as a block; one that cannot be used becomes a failed one."""
    plain = Block(cell.key, cell.measured.bundle.sha256, Status.FAILED, answer.reason or "the agent gave no reason", facts=facts)
    if not answer.ok:
        return plain
    try:
        if cell.key.pass_ is Pass.POWER:
            watts, reason = power.checked(answer.power, answer.reason)
            return replace(plain, status=Status.OK, reason=reason, power=watts)
        if cell.key.pass_ is Pass.MEMORY:
            status = Status.OK if answer.memory_bytes else Status.EXCLUDED
            return replace(plain, status=status, reason=answer.reason, memory_bytes=answer.memory_bytes)
        if cell.key.pass_ is Pass.ACCURACY:
            return replace(plain, status=Status.OK, reason="", logits=logits, clip_index=cell.measured.clip_index)
        return replace(
            plain, status=Status.OK, reason="", extractor_ns=tuple(answer.extractor_ns), predictor_ns=tuple(answer.predictor_ns),
            clip_ns=tuple(answer.clip_ns), frame_ns=tuple(answer.frame_ns),
        )  # fmt: skip
    except (AgentError, ValueError) as error:
        return replace(plain, reason=f"the agent's answer cannot be used: {error}")


def extractor_sha256(bundle: Bundle) -> str:
    return str(bundle.manifest["files"][bundle.manifest["extractor"]["file"]]["sha256"])


__all__ = ["Bundles", "MeasuredBundle", "Progress", "measure"]
