"""Cells made by Ray before the ordinary way finds them: a run's tasks in, finished folders and blocks out.

Every task works in a folder of its own and gets what it needs as bytes, so that nodes need share no disk. What it made comes back the same way and
is unpacked into the run's folder as soon as it is there; the run then goes on as always, and finds it. Ray runs a lost worker's task again, and makes
lost results anew. A board is one unit of the resource `board:NAME`, which a cell holds while it runs there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fercompress import __version__, config, parcel
from fercompress.errors import FercompressError, InputError, TargetError
from fercompress.export import bundle as bundles
from fercompress.made import Made, Unmade
from fercompress.making import Maker
from fercompress.measure import board, session
from fercompress.measure.board import Board
from fercompress.measure.schedule import MeasuredBundle
from fercompress.parcel import Parcel
from fercompress.progress import Reporter
from fercompress.records import Block, BlockKey, Clips, Fold
from fercompress.tasks import TEACHER, Task, tasks
from fercompress.workspace import Workspace

RETRIES = 3  # of a task whose worker or node was lost
MISSING = "--executor ray needs Ray, which is not installed here: pip install 'fercompress[ray]'"
STARTED = "is it started there (`ray start --head`)?"


@dataclass(frozen=True)
class Pool:
    """What a person asked for.

    address: "ray://host:10001", "host:6379", "auto"; None: a Ray of this process's own; cpus: cores, and threads, of a task
    """

    address: str | None = None
    cpus: int = 1


@dataclass(frozen=True)
class Kit:
    """What every task of a run is given, once for all. version: of this package, which must be the worker's too"""

    version: str
    study: config.Study
    clips: Clips
    folds: Sequence[Fold]
    engines: Mapping[str, str]
    threads: int


@dataclass(frozen=True)
class Done:
    """kept: for the run's folder; seconds: that the task itself took; node: that it ran on"""

    kept: Parcel
    seconds: float
    node: str


@dataclass(frozen=True)
class Ahead:
    """Blocks that boards ran while others trained. started_s, ended_s: by the clock of the node that held the board"""

    blocks: tuple[Block, ...]
    board: str
    started_s: float
    ended_s: float


@dataclass
class Log:
    """What a pool did, for a note and for tests."""

    tasks: int = 0
    busy_s: float = 0.0
    wall_s: float = 0.0
    nodes: set[str] = field(default_factory=set)
    ahead: list[Ahead] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        nodes = f"{len(self.nodes)} node{'s' if len(self.nodes) != 1 else ''}"
        boards = f"; {len(self.ahead)} accuracy cells ran on boards meanwhile" if self.ahead else ""
        return f"Ray: {self.tasks} tasks on {nodes}, {self.busy_s:.0f} s of work in {self.wall_s:.0f} s{boards}"


def resource(target: str) -> str:
    return f"board:{target}"


@contextlib.contextmanager
def connected(pool: Pool, boards: Sequence[str]) -> Iterator[Any]:
    """The module `ray`, connected. A Ray of our own gets a unit of each board. raises: InputError where Ray is missing or does not answer"""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # a busy machine starts a node slowly
    try:
        import ray
    except ImportError as error:
        raise InputError(MISSING) from error
    _check_reached(pool.address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if pool.address is None:
        quiet |= {"resources": {resource(name): 1 for name in boards}, "include_dashboard": False, "num_cpus": max(os.cpu_count() or 1, pool.cpus)}
    try:
        ray.init(address=pool.address or "local", **quiet)  # "local": of its own, though another one may run here
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"no Ray at {pool.address or 'this machine'}: {reason}; {STARTED}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reached(address: str | None) -> None:
    """Ray itself tries for minutes. raises: InputError where nothing listens"""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray at {address}: {error.strerror if isinstance(error, OSError) else error}; {STARTED}") from error


def slots(ray: Any, pool: Pool) -> int:
    """How many tasks run at once. raises: InputError where not even one can"""
    cores = int(ray.cluster_resources().get("CPU", 0))
    if cores < pool.cpus:
        raise InputError(f"--cpus {pool.cpus}: Ray has {cores} cores in all; give fewer, or add nodes")
    return cores // pool.cpus


def make_ahead(
    ray: Any, pool: Pool, maker: Maker, targets: Sequence[Board], absent: Mapping[str, Mapping[str, str]], tell: Reporter,
    record: Callable[[Block], object], done: set[BlockKey], run_id: str,
) -> Log:  # fmt: skip
    """Everything that `maker` would make and has not made yet, and the accuracy of each bundle on every board that Ray holds as a resource.

    targets, absent: as an assignment has them; boards among them are those over SSH and simulated ones, this machine is asked when it is at rest
    record: is called in this thread with every block that a board ran; done: keys that need no measuring
    raises: whatever a task raised
    """
    engines = maker.engines or dict.fromkeys((variant.name for variant in maker.wanted), "onnxruntime")
    kit = ray.put(Kit(__version__, maker.study, maker.clips, tuple(maker.folds), engines, pool.cpus))
    known = ray.cluster_resources()
    away = [target for target in targets if target.kind != "local" and "accuracy" in maker.study.measure.passes]
    boards = [target for target in away if resource(target.name) in known]
    for target in away:
        if target not in boards:
            tell.note(f"{target.name}: no node of Ray holds {resource(target.name)!r}, so it is measured once everything is made")
    log, start = Log(), time.monotonic()
    pending: dict[Any, tuple[str, Any]] = {}  # ref -> what it is, and of which cell
    cells = iter([(seed, place) for seed in maker.study.seeds for place in range(len(maker.folds))])
    room = 2 * slots(ray, pool) + 1
    total = len(maker.study.seeds) * len(maker.folds) * len(tasks(maker.wanted))
    with tell.stage("train and compress with Ray", total) as bar:
        while True:
            while len(pending) < room and (cell := next(cells, None)) is not None:
                for task, ref in _submitted(ray, pool, kit, maker, *cell):
                    pending[ref] = (task.name, cell)
                    if task.kind == "variants":
                        for target in boards:
                            for name in (name for name in task.variants if name not in absent[target.name]):
                                run = ray.remote(measured_ahead).options(num_cpus=0, resources={resource(target.name): 1}, max_retries=RETRIES)
                                pending[run.remote(kit, *cell, name, target, ref, done, run_id)] = (name, target.name)
            if not pending:
                break
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=1.0)
            bar.done(log.tasks, total)  # Ctrl-C is heeded here
            for ref in ready:
                pending.pop(ref)
                result = _got(ray, ref)
                if isinstance(result, Ahead):
                    log.ahead.append(result)
                    for block in result.blocks:
                        record(block)
                    continue
                parcel.unpack(result.kept, maker.workspace.root)
                log.tasks, log.busy_s = log.tasks + 1, log.busy_s + result.seconds
                log.nodes.add(result.node)
    log.wall_s = time.monotonic() - start
    return log


def _submitted(ray: Any, pool: Pool, kit: Any, maker: Maker, seed: int, place: int) -> Iterator[tuple[Task, Any]]:
    """The tasks of one seed and fold that are not done yet, each with what it will return."""
    fold, root = maker.folds[place], maker.workspace.root
    folder = maker.teacher_folder(seed, fold)
    missing = {variant.name for variant in maker.wanted}
    here: dict[str, list[Path]] = {}
    if (folder / "history.json").is_file():
        here[TEACHER.name] = [folder]
        bench, made = maker.bench(seed, fold), dict[str, Made | Unmade]()
        for variant in maker.wanted:
            if (found := bench.found(variant, made)) is not None:
                made[variant.name] = found
                missing.discard(variant.name)
        for task in tasks(maker.wanted):
            if task.kind == "extractor":
                here[task.name] = bench.shared(task.step, task.wishes)[0]
    wanted = [task for task in tasks(maker.wanted) if task.kind == "variants" and missing & set(task.variants)]
    needed = _with_needs(wanted, tasks(maker.wanted))
    refs: dict[str, list[Any]] = {}
    gpus = 1 if maker.study.train.device == "cuda" else 0
    for task in needed:
        finished = task.kind == "teacher" and task.name in here
        if finished:
            refs[task.name] = [ray.put(Done(parcel.packed(root, here[task.name]), 0.0, ""))]
            continue
        given = [ray.put(Done(parcel.packed(root, here[task.name]), 0.0, ""))] if here.get(task.name) else []
        options = {"num_cpus": pool.cpus, "num_gpus": gpus if task.trains else 0, "max_retries": RETRIES, "num_returns": 2}
        inputs = (*given, *(ref for need in task.needs for ref in refs[need]))
        kept, features = ray.remote(carried_out).options(**options).remote(kit, seed, place, task, *inputs)
        refs[task.name] = [kept, features] if task.kind == "extractor" else [kept]
        yield task, kept


def _with_needs(wanted: Sequence[Task], every: Sequence[Task]) -> list[Task]:
    names = {task.name for task in wanted}
    for task in reversed(every):
        if task.name in names:
            names |= set(task.needs)
    return [task for task in every if task.name in names]


def _got(ray: Any, ref: Any) -> Any:
    """raises: a worker's own error as it was, not Ray's text about it"""
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FercompressError):
            raise error.cause from None
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.ObjectLostError) as error:
        raise TargetError(f"Ray lost a task more than {RETRIES} times: {str(error).splitlines()[0]}; has every node enough memory?") from error


# What follows runs on a worker.


def carried_out(kit: Kit, seed: int, place: int, task: Task, *given: Done) -> tuple[Done, Done]:
    """One task; given: what it needs. returns: what the run's folder keeps, and what only other tasks need (an extractor's cached features)"""
    start = time.monotonic()
    with _desk(kit, *given) as maker:
        fold, root = maker.folds[place], maker.workspace.root
        before = set(_made(root))
        if task.kind == "teacher":
            maker.teacher(seed, fold)
        else:
            bench = maker.bench(seed, fold)
            if task.kind == "extractor":
                bench.prepare(task.step, task.wishes)
            else:
                made: dict[str, Made | Unmade] = {}
                for variant in maker.wanted:
                    # Those that others are as large as were made before, and are found.
                    if variant.name in task.variants:
                        made[variant.name] = bench.make(variant, made)
                    elif (found := bench.found(variant, made)) is not None:
                        made[variant.name] = found
        new = [path for path in _made(root) if path not in before]
        features = [path for path in new if path.name.startswith("features-")]
        kept = parcel.packed(root, [path for path in new if path not in features])
        seconds, node = time.monotonic() - start, _node()
        return Done(kept, seconds, node), Done(parcel.packed(root, features), seconds, node)


def measured_ahead(kit: Kit, seed: int, place: int, name: str, target: Board, made: Done, done: set[BlockKey], run_id: str) -> Ahead:
    """The accuracy of one bundle on one board, while the caller holds it."""
    started = time.time()
    with _desk(kit, made) as maker:
        folder = next((path for path in maker.workspace.bundles.glob("*") if path.is_dir() and bundles.load(path).variant == name), None)
        blocks: list[Block] = []
        if folder is not None:  # what could not be made has no bundle
            work = maker.workspace.root / "work" / f"target-{target.name}"
            fold = maker.folds[place]
            several = {name: [MeasuredBundle(bundles.load(folder), seed, fold.name, fold.test)]}
            settings = kit.study.measure.model_copy(update={"passes": ("accuracy",)})
            with contextlib.closing(board.connect(target, work / "target", run_id)) as channel:
                session.measure(
                    several, kit.clips, settings, target, channel, work / "host", done=done, record=blocks.append, progress=lambda _: None,
                    baseline=kit.study.baseline, run_id=run_id,
                )  # fmt: skip
        return Ahead(tuple(blocks), target.name, started, time.time())


@contextlib.contextmanager
def _desk(kit: Kit, *given: Done) -> Iterator[Maker]:
    """A folder of the task's own with what it was given, and who works there."""
    if kit.version != __version__:
        raise InputError(f"Ray's node {_node()} has fercompress {__version__}, this is {kit.version}: install the same everywhere")
    torch.set_num_threads(kit.threads)
    with tempfile.TemporaryDirectory(prefix="fercompress-") as place, Reporter(Console(quiet=True)) as tell:
        workspace = Workspace(Path(place))
        (workspace.root / "work").mkdir()
        workspace.bundles.mkdir()
        for each in given:
            parcel.unpack(each.kept, workspace.root)
        yield Maker(workspace, kit.study, kit.clips, list(kit.folds), tell, kit.engines)


def _made(root: Path) -> list[Path]:
    return sorted(path for folder in ("work", "bundles") for path in (root / folder).iterdir())


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


@contextlib.contextmanager
def held(ray: Any, target: str) -> Iterator[None]:
    """The board is nobody else's inside the block; no wait where no node holds it as a resource."""
    if resource(target) not in ray.cluster_resources():
        yield
        return
    holder = ray.remote(Holder).options(num_cpus=0, resources={resource(target): 1}).remote()
    try:
        while not ray.wait([holder.holds.remote()], timeout=1.0)[0]:
            pass
        yield
    finally:
        ray.kill(holder)


class Holder:
    """An actor that exists as long as somebody measures on the board that it holds."""

    def holds(self) -> bool:
        return True
