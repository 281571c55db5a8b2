"""One target's share of a run: bundles in, every block recorded; with a tier, rounds are added until each verdict against the baseline stands."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping

from fercompress import calibrating, config
from fercompress.contest import evidence
from fercompress.gate import judge
from fercompress.gate.metrics import METRICS
from fercompress.measure import board, power, session
from fercompress.measure.board import Board
from fercompress.measure.schedule import MeasuredBundle
from fercompress.progress import Bar, Reporter
from fercompress.records import Block, BlockKey, Clips
from fercompress.results.store import Store
from fercompress.results.tables import read_tables
from fercompress.tier import LOOKS, TIERS
from fercompress.workspace import Workspace

TIMED = tuple(name for name, metric in METRICS.items() if metric.kind == "paired")


def settled(study: config.Study) -> config.Study:
    """What its tier stands for written out, where it has one; rounds: the fewest, those of the first look."""
    if study.measure.tier is None:
        return study
    return study.model_copy(update={"measure": TIERS[study.measure.tier].settings(study.measure, LOOKS[0])})


def measure_on(
    target: Board, study: config.Study, several: Mapping[str, list[MeasuredBundle]], workspace: Workspace, clips: Clips, store: Store, tell: Reporter,
    *, keep: bool,
) -> tuple[BlockKey, ...]:  # fmt: skip
    """Run every block on one target that the journal does not hold yet.

    study: `settled`; keep: on a board, leave there what the run brought; a local target's files are the run folder's own
    """
    if "power" in study.measure.passes:
        tell.note(f"{target.name}: {power.announcement(target.power, len(several))}")
    adaptive = study.measure.tier is not None and "latency" in study.measure.passes
    looks = LOOKS if adaptive else (study.measure.rounds,)
    keys: tuple[BlockKey, ...] = ()
    for look, rounds in enumerate(looks):
        settings = study.measure.model_copy(update={"rounds": rounds})
        following = looks[look + 1] if look + 1 < len(looks) else None
        kept = keep or target.kind != "ssh"
        with tell.stage(f"measure on {target.name}" + (f", {rounds} rounds" if adaptive else "")) as bar:
            keys = _session(target, study, settings, several, workspace, clips, store, bar, keep=kept or following is not None)
        if adaptive:
            undecided, round_s = _undecided(store, target, study.baseline, list(several))
            late = following is not None and study.measure.minutes is not None and round_s * following > 60 * study.measure.minutes
            if not undecided or following is None or late:
                tell.note(_told(target, rounds, len(several) - 1, undecided, study.measure.minutes if late else None))
                if following is not None and not kept:  # nothing is left to run: what was sent for the rounds that are not needed is removed
                    with tell.stage(f"clean up on {target.name}") as bar:
                        _session(target, study, settings, several, workspace, clips, store, bar, keep=False)
                break
    return keys


def _session(
    target: Board, study: config.Study, settings: config.Measure, several: Mapping[str, list[MeasuredBundle]], workspace: Workspace, clips: Clips,
    store: Store, bar: Bar, *, keep: bool,
) -> tuple[BlockKey, ...]:  # fmt: skip
    folder = workspace.root / "work" / f"target-{target.name}"
    name = run_id(workspace)
    channel = board.connect(target, folder / "target", name)

    def record(block: Block) -> None:
        store.record(block)

    with contextlib.closing(channel):
        return session.measure(
            several, clips, settings, target, channel, folder / "host",
            done=store.done(), record=record, progress=lambda now: bar.done(now.done, now.total, f"{now.pass_} {now.variant}"),
            baseline=study.baseline, run_id=name, tried=store.tried(), keep=keep,
        )  # fmt: skip


def _undecided(store: Store, target: Board, baseline: str, variants: list[str]) -> tuple[dict[str, list[str]], float]:
    """Variant -> timed metrics without a verdict against the baseline; and the seconds that one more round of all variants takes."""
    calibrated, _ = calibrating.current(target.name)
    noise = {} if calibrated is None else {name: calibrated.noise(name, LOOKS[0]) for name in calibrated.round_sd}
    rules = judge.Rules.of({}, {}, TIMED, LOOKS, noise)
    tables = read_tables(store)
    shown = {name: evidence(tables, name, target.name, name) for name in variants}
    found = {}
    for name in variants:
        if name != baseline:
            findings = judge.judge(shown[name], shown[baseline], rules).findings
            if unsure := [each.metric.name for each in findings if each.verdict == "inconclusive"]:
                found[name] = unsure
    return found, max(each.round_s for each in shown.values())


def _told(target: Board, rounds: int, variants: int, undecided: Mapping[str, list[str]], minutes: float | None) -> str:
    said = f"{target.name}: {rounds} rounds; {variants - len(undecided)} of {variants} variants have every timed verdict against the baseline"
    if undecided:
        unsure = [f"{name} ({', '.join(metrics)})" for name, metrics in undecided.items()]
        said += f"; inconclusive: {'; '.join(unsure)}"
    return said if minutes is None else f"{said}; more rounds would take longer than {minutes:g} minutes"


def run_id(workspace: Workspace) -> str:
    """A random name of the run that this folder holds: what ran on a target under it is taken up by this folder's next process, and by no other's."""
    path = workspace.root / "work" / "run.json"
    known = workspace.load_json(path)
    if known is None:
        known = {"id": uuid.uuid4().hex}
        workspace.save_json(path, known)
    return str(known["id"])
