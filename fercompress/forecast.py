"""What a study would do: the study in; its stages, how often each and about how long, out. Nothing is written and no target is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fercompress import config, raypool
from fercompress.assignment import Assignment, assign
from fercompress.data import source, synthetic
from fercompress.dataconfig import Data
from fercompress.errors import DataError
from fercompress.making import check, step_s
from fercompress.measure import board
from fercompress.records import digest
from fercompress.tasks import tasks

CONVERT_S = 60.0  # a guess
EXPORT_S = 2.0  # about, per bundle: export, comparison with torch, quantization
BLOCK_START_S = 0.6  # about, per block: a fresh process imports the runtime and loads the bundle


def plan(study: config.Study, data_root: Path | None, pool: raypool.Pool | None = None) -> list[dict[str, Any]]:
    """What `run` would do, stage by stage, and about how many seconds each takes on this machine (from one timed training step). Writes nothing.

    pool: Ray, if that is to make the variants: then its tasks, and how long they take side by side
    """
    targets = board.load_boards(study.targets, reached=False)  # a board need not be there yet
    assignment = assign(study, targets)
    source.fingerprint(study.data, data_root)
    check(study)
    clips, folds = _clips_and_folds(study.data, data_root)
    trainings = len(study.seeds) * folds
    trains = study.train.epochs + study.fine_tune.epochs + study.fine_tune.extractor_epochs > 0
    teacher_s, predictor_s = step_s(study) if trains else (0.0, 0.0)
    # Variants that differ in rounding alone share a training.
    changed = [variant for variant in study.variants if any(not isinstance(step, config.Quantize | config.LowRank) for step in variant.recipe)]
    of_trains = len({digest([step.model_dump() for step in variant.recipe if not isinstance(step, config.Quantize)]) for variant in changed})
    extractors = {digest(step.model_dump()) for variant in study.variants for step in variant.recipe if isinstance(step, config.LowRank)}
    measure = study.measure
    bundles = len(assignment.made) * trainings
    measured = {target: len(study.variants) - len(there) for target, there in assignment.absent.items()}
    blocks = 2 * measure.rounds * sum(measured.values()) if "latency" in measure.passes else 0
    rows = [
        (
            "train",
            f"teachers: {len(study.seeds)} seeds x {folds} folds, up to {study.train.epochs} epochs",
            trainings,
            trainings * study.train.epochs * clips * teacher_s,
        ),
        (
            "train",
            f"low-rank extractors, {study.fine_tune.extractor_epochs} epochs",
            len(extractors) * trainings,
            len(extractors) * trainings * study.fine_tune.extractor_epochs * clips * teacher_s,
        ),
        (
            "train",
            f"predictors on cached features, up to {study.fine_tune.epochs} epochs",
            of_trains * trainings,
            of_trains * trainings * study.fine_tune.epochs * clips * predictor_s,
        ),
        ("export", "bundles", bundles, bundles * EXPORT_S),
    ]
    if pool is not None:
        rows.append(_side_by_side(study, assignment, pool, trainings, rows))
    rows += [
        *_conversions(study, assignment, trainings),
        ("measure", "latency blocks", blocks, blocks * (measure.block_s + BLOCK_START_S)),
    ]
    if "power" in measure.passes:
        metered = [(measured[target.name], target.power.variant_s) for target in targets if target.power.source != "none"]
        what = "power, where a sensor is found"
        rows.append(("measure", what, sum(count for count, _ in metered), sum(count * seconds for count, seconds in metered)))
    alone = sum(seconds for stage, _, _, seconds in rows if pool is None or stage not in ("train", "export"))
    rows.append(("total", f"{len(study.variants)} variants x {trainings} seeds and folds", len(study.variants) * trainings, alone))
    for target in targets:
        if target.kind == "ssh" and target.host is None:
            rows.append(("missing", f'{target.name} has no host yet: give --target a file with like = "{target.name}" and host', 1, 0.0))
        if there := assignment.absent[target.name]:
            needed = ", ".join(dict.fromkeys(assignment.engines[name] for name in there))
            rows.append(("n/a", f"{', '.join(there)} on {target.name}, which does not run {needed}", len(there), 0.0))
    return [{"stage": stage, "what": what, "times": times, "about_seconds": round(seconds)} for stage, what, times, seconds in rows]


def _side_by_side(
    study: config.Study, assignment: Assignment, pool: raypool.Pool, cells: int, rows: Sequence[tuple[str, str, int, float]]
) -> tuple[str, str, int, float]:
    """Ray's tasks, and how long all training and export takes with them: no longer chain than one seed and fold's, no more hands than there are."""
    with raypool.connected(pool, ()) as ray:
        at_once = raypool.slots(ray, pool)
    count = len(tasks([variant for variant in study.variants if variant.name in assignment.made]))
    work_s = sum(seconds for _, _, _, seconds in rows)
    chain_s = sum(seconds / max(times, 1) for _, _, times, seconds in rows)  # one of each, one after the other
    what = f"training and export with Ray: {count} tasks for each of {cells} seeds and folds, {at_once} at once on {pool.cpus} cores each"
    return "ray", what, count * cells, max(work_s / at_once, chain_s)


def _clips_and_folds(data: Data, data_root: Path | None) -> tuple[int, int]:
    """How many clips are trained on, at most, and how many folds there are; drawn ones are counted without drawing them."""
    if data.name == "synthetic":
        return synthetic.counts(data)
    found = source.check(data, data_root, source.user_cache())
    if found["no_folds"]:
        raise DataError(found["no_folds"])
    return found["clips"], len(found["folds"])


def _conversions(study: config.Study, assignment: Assignment, trainings: int) -> list[tuple[str, str, int, float]]:
    """Variants with one extractor and one rounding share a conversion."""
    recipes = {variant.name: variant.recipe for variant in study.variants}
    several = {
        digest([step.model_dump() for step in recipes[name] if isinstance(step, config.LowRank) or (isinstance(step, config.Quantize) and step.npu)])
        for name in assignment.converted
    }
    what = "conversions for the NPU, by --rknn-python; their time is a guess, no real one was timed"
    return [("convert", what, len(several) * trainings, len(several) * trainings * CONVERT_S)] if several else []
