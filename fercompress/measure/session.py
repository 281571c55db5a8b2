"""Measure bundles on a target: bundles and clips in, one `Block` after the other out.

Passes run in a fixed order and never at the same time. A block that fails is recorded with its reason, redone once (`trials.py`), and the session
goes on; a variant that failed twice is quarantined. What is no variant's fault (the target is gone, a disk is full) ends the session.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fercompress.config import Measure
from fercompress.errors import AgentError, TargetError, TargetRebootedError, TargetTimeoutError
from fercompress.measure import leftovers
from fercompress.measure.agentjob import Agent, Answer
from fercompress.measure.board import Board
from fercompress.measure.bundlecheck import check_bundles
from fercompress.measure.channel import Channel
from fercompress.measure.cooling import Cooling
from fercompress.measure.freight import FEATURES, Freight
from fercompress.measure.schedule import TIMED_CLIPS, Bundles, Cell, MeasuredBundle, Schedule, every
from fercompress.measure.trials import Attempt, Quarantine, Trials
from fercompress.records import Block, BlockKey, Bundle, Clips, Pass, digest

PROBE_S = 120.0
CONDITIONS_S = 60.0
CLOCK_READINGS = 3


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
    baseline: str = "",
    run_id: str = "",
    tried: Mapping[BlockKey, int] | None = None,
    keep: bool = True,
) -> tuple[BlockKey, ...]:
    """Run every block of the schedule that is not `done`.

    bundles: variant -> its bundles; accuracy runs them all, the other passes the first of each, after checking that all are of one recipe
    channel: to the board; it is closed if the session ends by an exception, Ctrl-C included, so that nothing goes on running
    work: a folder on this machine for files on their way to and from the target
    done: keys of the blocks that finished well; a failed block that is not among them is tried again
    record: is called in this thread with each block as soon as it is there, in the order of the schedule but for accuracy;
        a block that is redone comes before the one that stands for it
    seed: of the rounds' random orders and of the timed clips' choice
    baseline: the variant without which nothing can be compared: where it is quarantined the session ends
    run_id, tried: of the run's folder, and how often it holds a block of each key: they name the jobs, so that the same run started again takes
        up what the target did meanwhile
    keep: leave bundles and clips on the target; else they are removed once every block is there, but not where the session ends by an exception
    returns: the keys of the whole schedule, done before or now
    raises: BundleError, InputError before anything runs; TargetError where the fault is no variant's
    """
    for variant, several in bundles.items():
        check_bundles(variant, several, board)
    agent = Agent(channel, board.python, board.cores, work)
    freight = Freight(agent, bundles, clips, work)
    quarantine = Quarantine()
    finished = 0

    def note(attempt: Attempt) -> None:
        nonlocal finished
        record(attempt.block)
        if attempt.job:
            agent.forget(attempt.job)
        finished += attempt.last
        if attempt.block.key.variant == baseline and (reason := quarantine.reason(baseline)):
            raise TargetError(f"target {board.name!r}: nothing can be compared without the baseline {baseline}, which is {reason}")

    try:
        schedule = plan(freight, settings, board, seed)
        leftovers.settle(agent, [cell.job for cell in schedule.cells()])
        agent.deploy()
        target = probe(agent, bundles, board, min(settings.deadline_s, PROBE_S))
        cells = replace(schedule, machine=target.facts, engines=target.engines).cells()
        before = frozenset(done)
        left = [cell for cell in cells if cell.key not in before]
        if left:
            freight.send()
        cooling = Cooling(target.facts.get("temperature_mc_start", {}), board.cool_down_s, lambda: temperatures(agent))
        facts = {} if board.kind == "local" else clock_offset(agent)
        trials = Trials(agent, board, quarantine, cooling, freight.again, run_id, tried or {}, settings.deadline_s, facts)

        def begin(cell: Cell) -> None:
            progress(Progress(finished, len(left), cell.key.pass_, cell.key.variant))

        together = [cell for cell in left if cell.key.pass_ is Pass.ACCURACY]
        with contextlib.closing(accuracy_blocks(agent, together, board.accuracy_processes, trials.attempts, begin)) as attempts:
            for attempt in attempts:
                note(attempt)
        for cell in left:
            if cell.key.pass_ is not Pass.ACCURACY:
                begin(cell)
                for attempt in trials.attempts(cell):
                    note(attempt)
        agent.clean("jobs")
        if not keep:
            freight.clean()
    except BaseException:
        channel.close()
        raise
    return tuple(cell.key for cell in cells)


def plan(freight: Freight, settings: Measure, board: Board, seed: int) -> Schedule:
    """returns: the schedule for a target that has not been asked yet: its jobs are right, its keys not. raises: DiskFullError of this machine"""
    tested = np.unique(np.concatenate([measured.clip_index for measured in every(freight.bundles)]))
    first = next(iter(freight.bundles.values()))[0].clip_index
    timed = np.random.default_rng(seed).permutation(first)[: min(TIMED_CLIPS, settings.block_clips)]
    all_clips = freight.clips_file(tested) if "accuracy" in settings.passes else None
    few_clips = freight.clips_file(np.sort(timed))
    fingerprint = freight.clips.fingerprint
    engines: dict[str, dict[str, str]] = {measured.bundle.engine: {} for measured in every(freight.bundles)}
    return Schedule(freight.bundles, settings, board, {}, engines, fingerprint, all_clips, few_clips, seed)


def probe(agent: Agent, bundles: Bundles, board: Board, deadline_s: float) -> Answer:
    """The target's facts and engines. raises: AgentError if the agent cannot run there or an engine is missing"""
    answer, _ = agent.do({"job": "probe"}, deadline_s)
    if not answer.ok:
        raise AgentError(f"target {board.name!r}: {answer.reason}")
    for engine in sorted({measured.bundle.engine for measured in every(bundles)} - set(answer.engines)):
        modules = " ".join(answer.missing.get(engine, [engine]))
        raise AgentError(f"target {board.name!r}: {board.python} has no module {modules}; install it there: pip install {modules}")
    return answer


def conditions(agent: Agent) -> Mapping[str, Any]:
    """The facts of a job that does nothing; none where it broke: what they tell is worth no session."""
    try:
        return agent.do({"job": "conditions"}, CONDITIONS_S)[0].facts
    except (AgentError, TargetTimeoutError, TargetRebootedError):
        return {}


def temperatures(agent: Agent) -> Mapping[str, Any]:
    found = conditions(agent).get("temperature_mc_start")
    return found if isinstance(found, Mapping) else {}


def clock_offset(agent: Agent, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """How far the target's wall clock is ahead of this machine's, in seconds, and within what; {} where it does not tell.

    Of several round trips the shortest says most: the reading was taken somewhere within it. Only noted: nothing depends on a board's wall clock.
    """
    trips = []
    for _ in range(CLOCK_READINGS):
        before = clock()
        there = conditions(agent).get("start_unix_s")
        after = clock()
        if isinstance(there, int | float):
            trips.append((after - before, there - (before + after) / 2))
    if not trips:
        return {}
    trip_s, offset_s = min(trips)
    return {"wall_clock_offset_s": round(offset_s, 3), "wall_clock_within_s": round(trip_s / 2, 3)}


def accuracy_blocks(
    agent: Agent, cells: Sequence[Cell], processes: int, attempts: Callable[[Cell, str], Iterator[Attempt]], begin: Callable[[Cell], None]
) -> Generator[Attempt, None, None]:
    """Cells with one extractor file and the same clips run one after the other and share its features; such groups run side by side."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(digest(extractor_sha256(cell.measured.bundle), cell.job["rows"])[:16], []).append(cell)
    answers: queue.SimpleQueue[Attempt | BaseException] = queue.SimpleQueue()
    stop = threading.Event()

    def work_off(name: str, group: list[Cell]) -> None:
        # Features are large: they stay on the target no longer than their group runs, and are not written for one alone.
        folder = f"{FEATURES}/{name}" if len(group) > 1 else ""
        try:
            for cell in group:
                if stop.is_set():
                    return
                for attempt in attempts(cell, folder):
                    answers.put(attempt)
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
                last = False
                while not last:
                    answer = answers.get()
                    if isinstance(answer, BaseException):
                        raise answer
                    last = answer.last
                    yield answer
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            agent.channel.close()
            raise


def extractor_sha256(bundle: Bundle) -> str:
    return str(bundle.manifest["files"][bundle.manifest["extractor"]["file"]]["sha256"])


__all__ = ["Bundles", "MeasuredBundle", "Progress", "measure"]
