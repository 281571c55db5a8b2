"""Two bundles measured beside each other until a verdict stands: sides in, evidence of each side out.

A contest is a small run of its own, with a journal, of the variants `baseline` and `candidate`; stopped, it goes on where it was.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fercompress.config import Measure
from fercompress.doubting import doubts
from fercompress.errors import ComparabilityError, InputError
from fercompress.examination import Examination
from fercompress.gate.evidence import STAGES, Answers, Evidence
from fercompress.measure import board, session
from fercompress.measure.board import Board
from fercompress.measure.schedule import MeasuredBundle
from fercompress.progress import Reporter
from fercompress.records import Block, Fold, Pass, digest
from fercompress.results.store import Store
from fercompress.results.tables import Tables, read_tables
from fercompress.sides import Side
from fercompress.tier import BLOCKS_PER_ROUND, Tier
from fercompress.workspace import Workspace, check_out, full_disk_is_an_error

CANDIDATE, BASELINE = "candidate", "baseline"
MEMORY_BLOCKS = 6  # of each side: the fewest that a rank test can tell apart


@dataclass(frozen=True)
class Plan:
    """looks: after how many rounds in all a verdict is tried; budget_s: no further round is begun after so many seconds"""

    looks: tuple[int, ...]
    tier: Tier
    budget_s: float = math.inf
    passes: tuple[str, ...] = ("accuracy", "latency", "memory", "power")

    def settings(self, rounds: int) -> Measure:
        return self.tier.settings(Measure.model_validate({"memory_blocks": MEMORY_BLOCKS, "passes": self.passes}), rounds, self.looks[0])


Decided = Callable[[Evidence, Evidence], bool]  # (candidate, baseline) -> whether to stop


def contest(
    candidate: Side, baseline: Side, examination: Examination, target: Board, plan: Plan, out: Path, tell: Reporter, decided: Decided
) -> tuple[Evidence, Evidence]:
    """Measure both, round after round, until `decided` or the last look or the budget. returns: the evidence of candidate and baseline

    raises: InputError, BundleError before anything runs; TargetError
    """
    check_out(out)
    for side in (candidate, baseline):
        board.check_engine(target, side.bundles[0][0].engine)
    if examination.unlabelled:
        plan = replace(plan, passes=tuple(name for name in plan.passes if name != "accuracy"))
    lacking = {"accuracy": examination.unlabelled} if examination.unlabelled else {}
    sides = {BASELINE: baseline, CANDIDATE: candidate}
    bundles = {name: _bundles(side, name, examination) for name, side in sides.items()}
    workspace = Workspace(out)
    began = time.monotonic()
    with workspace.locked(), full_disk_is_an_error(out), Store.open(workspace.results) as store:
        store.record_clips(examination.clips, _tested(examination, bundles))
        for several in bundles.values():
            for place, measured in enumerate(several):
                store.record_bundle(measured.bundle, measured.seed, measured.fold, timed=not place)
        for look, rounds in enumerate(plan.looks):
            settings = plan.settings(rounds)
            data = {"name": examination.clips.name, "protocol": examination.protocol}
            store.record_study({**_study(out.name, sides, target, settings), "data": data, "lacking": lacking})
            with tell.stage(f"{rounds} rounds on {target.name}") as bar:
                _measure(bundles, examination, settings, target, workspace, store, bar)
            tables = read_tables(store)
            shown = tuple(evidence(tables, name, target.name, sides[name].name) for name in (CANDIDATE, BASELINE))
            spent_s = time.monotonic() - began
            if decided(shown[0], shown[1]) or spent_s * plan.looks[min(look + 1, len(plan.looks) - 1)] / rounds > plan.budget_s:
                break
        return shown[0], shown[1]


def _bundles(side: Side, name: str, examination: Examination) -> list[MeasuredBundle]:
    """Under the contest's own name: both sides may be of one variant."""
    folds = {fold.name: fold for fold in examination.folds}
    found = []
    for bundle, seed, fold in side.bundles:
        if fold not in folds and len(folds) > 1:
            several = ", ".join(folds)
            if not fold:
                raise InputError(
                    f"{side.name}: a bare bundle does not say which of the folds {several} it was not trained on; name it as RUN:VARIANT"
                )
            raise ComparabilityError(
                f"{side.name}: it was trained beside fold {fold}, the clips come in {several}: it may have been trained on what it would be asked; "
                "give --data the study that it was made by"
            )
        where = folds.get(fold) or examination.folds[0]
        found.append(MeasuredBundle(replace(bundle, variant=name), seed, where.name, where.test))
    return found


def _tested(examination: Examination, bundles: Mapping[str, list[MeasuredBundle]]) -> list[Fold]:
    used = {measured.fold for several in bundles.values() for measured in several}
    return [fold for fold in examination.folds if fold.name in used]


def _study(name: str, sides: Mapping[str, Side], target: Board, settings: Measure) -> dict[str, Any]:
    variants = [{"name": each, "of": side.name, "recipe": list(side.bundles[0][0].manifest["recipe"])} for each, side in sides.items()]
    seeds = sorted({seed for side in sides.values() for _, seed, _ in side.bundles})
    return {
        "name": name, "title": f"{sides[CANDIDATE].name} against {sides[BASELINE].name}", "seeds": seeds, "targets": [target.name],
        "baseline": BASELINE, "measure": settings.model_dump(mode="json"), "variants": variants,
    }  # fmt: skip


def _measure(
    bundles: Mapping[str, list[MeasuredBundle]], examination: Examination, settings: Measure, target: Board, workspace: Workspace, store: Store,
    bar: Any,
) -> None:  # fmt: skip
    folder = workspace.root / "work" / f"target-{target.name}"
    path = workspace.root / "work" / "run.json"
    run = workspace.load_json(path) or {"id": uuid.uuid4().hex}
    workspace.save_json(path, run)

    def record(block: Block) -> None:
        store.record(block)

    channel = board.connect(target, folder / "target", run["id"])
    with contextlib.closing(channel):
        keys = session.measure(
            bundles, examination.clips, settings, target, channel, folder / "host", done=store.done(), record=record,
            progress=lambda now: bar.done(now.done, now.total, f"{now.pass_} {now.variant}"), baseline=BASELINE, run_id=run["id"],
            tried=store.tried(), seed=int(digest(run["id"])[:8], 16),
        )  # fmt: skip
    store.record_plan(keys)


def evidence(tables: Tables, variant: str, target: str, name: str) -> Evidence:
    """What a journal holds of one variant on one target."""
    mine = tables.blocks
    mine = mine[(mine["variant"] == variant) & (mine["target"] == target) & mine["counted"] & (mine["status"] == "ok")]
    latency = mine[mine["pass"] == str(Pass.LATENCY)]
    timings = tables.timings[tables.timings["block"].isin(latency["block"])]
    tails = timings["clip_ns"].astype(float).groupby(timings["block"]).quantile(0.9, interpolation="higher")
    stored = [each for each in tables.bundles if each.variant == variant]
    stored = sorted(stored, key=lambda each: not each.timed)
    if not stored:
        raise InputError(f"{name}: no bundle of it is recorded")
    facts = tables.facts.get(target, {})
    stages = ("clip",) if stored[0].manifest.get("one_file") else STAGES
    return Evidence(
        name=name, target=target, bundles=tuple(each.sha256 for each in stored), stored_bytes=stored[0].size.stored_bytes,
        answers=_answers(tables, variant, target),
        rounds={stage: _rounds(latency, latency[f"{stage}_p50_ns"].astype(float)) for stage in stages},
        tails=_rounds(latency, latency["block"].map(tails).astype(float)),
        clip_ns=timings["clip_ns"].to_numpy(np.float64),
        memory_bytes=tuple(mine.loc[mine["pass"] == str(Pass.MEMORY), "memory_peak_bytes"].dropna().astype(float)),
        energy_clip_j=tuple(mine["energy_clip_j"].dropna().astype(float)),
        conditions=_conditions(tables, stored[0], facts), simulated=bool(facts.get("simulated")), round_s=_round_s(latency),
        lacking=_lacking(tables, variant, target, stages), doubts=doubts(tables, variant, target, stages),
    )  # fmt: skip


def _lacking(tables: Tables, variant: str, target: str, stages: Sequence[str]) -> dict[str, str]:
    """Why a pass, or a stage of the latency pass, told nothing of a variant."""
    reasons = {f"latency_{stage}_p50_ns": "one file for both stages: they are not told apart" for stage in STAGES if stage not in stages}
    asked = tables.study.get("measure", {}).get("passes", tuple(Pass))
    told = tables.study.get("lacking", {})
    blocks = tables.blocks[(tables.blocks["variant"] == variant) & (tables.blocks["target"] == target) & tables.blocks["counted"]]
    for pass_ in Pass:
        mine = blocks[blocks["pass"] == str(pass_)]
        if str(pass_) in told or str(pass_) not in asked:
            reasons[str(pass_)] = str(told.get(str(pass_), f"the {pass_} pass was not asked for"))
        elif len(mine) and mine["reason"].iloc[-1]:
            reasons[str(pass_)] = str(mine["reason"].iloc[-1])
    return reasons


def _rounds(blocks: pd.DataFrame, values: pd.Series[float]) -> dict[int, float]:
    """A round's value: the mean of the logs of its two mirrored blocks, which cancels a steady drift; rounds with one block have none."""
    logs = pd.Series(np.log(values.to_numpy()), values.index).groupby(blocks["round"]).agg(["mean", "size"])
    logs = logs[(logs["size"] >= BLOCKS_PER_ROUND) & np.isfinite(logs["mean"])]
    return {int(number): float(value) for number, value in logs["mean"].items()}


def _round_s(latency: pd.DataFrame) -> float:
    """Seconds from one round's first block to the next one's, in the middle of the rounds."""
    begun = pd.to_datetime(latency["recorded"]).groupby(latency["round"]).min().sort_index()
    steps = begun.diff().dropna().dt.total_seconds()
    return float(steps.median()) if len(steps) else 0.0


def _answers(tables: Tables, variant: str, target: str) -> Answers | None:
    found = tables.predictions
    found = found[(found["variant"] == variant) & (found["target"] == target)]
    if found.empty or tables.clips is None:
        return None
    found = found.sort_values(["seed", "clip"])
    logits = found[[column for column in found if str(column).startswith("logit_")]].to_numpy(np.float32)
    return Answers(
        seeds=found["seed"].to_numpy(np.int64), clips=tuple(found["clip_id"]), clusters=tuple(found["cluster"]),
        labels=found["label"].to_numpy(np.int64), predicted=found["predicted"].to_numpy(np.int64), classes=tables.clips.classes, logits=logits,
    )  # fmt: skip


def _conditions(tables: Tables, stored: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What must be alike where two sides were not measured beside each other."""
    clocks = facts.get("clocks_start") if isinstance(facts.get("clocks_start"), Mapping) else {}
    warm = facts.get("temperature_mc_start") if isinstance(facts.get("temperature_mc_start"), Mapping) else {}
    assert clocks is not None
    assert warm is not None
    measure = dict(tables.study.get("measure", {}))
    return {
        "machine": [facts.get(name) for name in ("machine", "cpu", "cores", "platform")],
        "python": facts.get("python"),
        "runtime": facts.get("engine"),
        "driver": facts.get("driver"),
        "threads": facts.get("threads"),
        "affinity": facts.get("affinity"),
        "governor": {core: told.get("governor") for core, told in clocks.items() if isinstance(told, Mapping)},
        "max_khz": {core: told.get("max_khz") for core, told in clocks.items() if isinstance(told, Mapping)},
        "temperature_mc": {zone: value for zone, value in warm.items() if isinstance(value, int)},
        "clips": tables.clips.fingerprint if tables.clips is not None else None,
        "preprocess": stored.manifest.get("preprocess"),
        "protocol": tables.protocol,
        "settings": {name: measure.get(name) for name in ("block_clips", "block_s", "warmup_clips", "threads")},
    }  # fmt: skip


def forget(out: Path) -> None:
    """Delete the measurements of earlier contests in a folder, and nothing else."""
    for folder in sorted(out.iterdir()) if out.is_dir() else ():
        workspace = Workspace(folder)
        if workspace.results.exists():
            with workspace.locked():
                workspace.clear()
