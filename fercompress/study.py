"""The whole way of a study, top to bottom: clips -> teachers -> bundles -> blocks -> summary -> report. Only this module knows the order."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fercompress import config, studyfile
from fercompress.data import sheet, source
from fercompress.data.cache import Progress
from fercompress.dataconfig import Data
from fercompress.errors import DataError, InputError, ResultsError
from fercompress.export import part
from fercompress.making import Maker, check, step_s
from fercompress.measure import board, power, session
from fercompress.measure.board import Board
from fercompress.measure.schedule import MeasuredBundle
from fercompress.model import optimise
from fercompress.progress import Reporter
from fercompress.records import BlockKey, Clips, Fold, digest
from fercompress.report.record import ReportInput
from fercompress.report.render import render
from fercompress.results import seal
from fercompress.results.faults import faults
from fercompress.results.store import FILE, Store, Training
from fercompress.results.summary import write_summary
from fercompress.results.tables import Tables, read_tables
from fercompress.workbench import Made
from fercompress.workspace import Workspace, check_out, full_disk_is_an_error

EXPORT_S = 2.0  # about, per bundle: export, comparison with torch, quantization
BLOCK_START_S = 0.6  # about, per block: a fresh process imports the runtime and loads the bundle
# The host's facts that a reader of the report may want; the journal holds them all.
_HOST_FACTS = ("cpu", "cores", "machine", "platform", "python", "engine_versions", "governor", "threads")


@dataclass(frozen=True)
class Request:
    """What a person asked for: a study, where to write, where real data lies, and whether boards keep what was sent there."""

    study: config.Study
    out: Path
    data_root: Path | None = None
    keep: bool = False


@dataclass(frozen=True)
class Prepared:
    """The clips and folds of a study, and the open folder of its run."""

    workspace: Workspace
    clips: Clips
    folds: list[Fold]
    maker: Maker


def run(request: Request, tell: Reporter) -> dict[str, Any]:
    """Everything; returns the content of summary.json."""
    with _prepared(request, tell) as prepared, Store.open(prepared.workspace.results) as store:
        measure_all(request, prepared, store, tell)
        return finish(store, request.out, tell)


def measure_only(request: Request, tell: Reporter) -> dict[str, Any]:
    """Everything but the page: returns, and writes, the content of summary.json."""
    with _prepared(request, tell) as prepared, Store.open(prepared.workspace.results) as store:
        measure_all(request, prepared, store, tell)
        summary = write_summary(store, request.out)
        _seal(request.out, [], tell)
        return summary


def train_only(request: Request, tell: Reporter) -> list[dict[str, Any]]:
    """The teachers: one row per seed and fold; `weights` is a file that another study's [model] may start from."""
    with _prepared(request, tell) as prepared:
        rows = []
        for seed, fold in prepared.maker.cells():
            teacher = prepared.maker.teacher(seed, fold)
            history = teacher.trained.history
            rows.append(
                {"seed": seed, "fold": fold.name, "epochs": len(history.train_loss), "best_epoch": history.best_epoch,
                 "validation_accuracy": history.validation_accuracy[history.best_epoch], "seconds": sum(history.epoch_s),
                 "weights": str(prepared.workspace.work("teacher", teacher.key) / optimise.BEST)}
            )  # fmt: skip
        return rows


def compress_only(request: Request, tell: Reporter) -> list[dict[str, Any]]:
    """The bundles: one row per variant, seed and fold."""
    with _prepared(request, tell) as prepared:
        return [
            {
                "variant": name,
                "seed": seed,
                "fold": fold.name,
                "way": made.way,
                "stored_bytes": made.bundle.size.stored_bytes,
                "bundle": str(made.bundle.folder),
            }
            for seed, fold in prepared.maker.cells()
            for name, made in prepared.maker.bundles(seed, fold).items()
        ]


def report_only(folder: Path) -> dict[str, Any]:
    """Render the report of a run folder again. raises: ResultsError"""
    if not (folder / FILE).is_file():
        raise ResultsError(f"{folder}: no {FILE} there; give the output folder of `fercompress run`")
    with full_disk_is_an_error(folder), Store.open(folder / FILE) as store:
        sealed = (folder / seal.FILE).is_file()
        if sealed:
            seal.require_intact(folder)  # or the new seal would cover what was changed
        summary = write_summary(store, folder)
        pages = render(report_input(read_tables(store), summary), folder)
        if sealed:  # a run that was stopped is not
            seal.write(folder, [*pages, *(folder / name for name in seal.SUMMARY)])
        return summary


def forget(request: Request) -> None:
    """Delete what an earlier run left in the output folder."""
    check_out(request.out)
    workspace = Workspace(request.out)
    if request.out.exists():
        with workspace.locked():
            workspace.clear()


def plan(request: Request) -> list[dict[str, Any]]:
    """What `run` would do, stage by stage, and about how many seconds each takes on this machine (from one timed training step). Writes nothing."""
    study = request.study
    targets = board.load_boards(study.targets)
    board.common_engine(targets, part.MAKEABLE, study.measure.engine)
    source.fingerprint(study.data, request.data_root)
    check(study)
    clips, folds = _clips_and_folds(study.data, request.data_root)
    trainings = len(study.seeds) * folds
    teacher_s, predictor_s = step_s(study)
    # Variants that differ in rounding alone share a training.
    changed = [variant for variant in study.variants if any(not isinstance(step, config.Quantize | config.LowRank) for step in variant.recipe)]
    of_trains = len({digest([step.model_dump() for step in variant.recipe if not isinstance(step, config.Quantize)]) for variant in changed})
    extractors = {digest(step.model_dump()) for variant in study.variants for step in variant.recipe if isinstance(step, config.LowRank)}
    measure = study.measure
    bundles = len(study.variants) * trainings
    blocks = 2 * measure.rounds * len(study.variants) * len(study.targets) if "latency" in measure.passes else 0
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
        ("measure", "latency blocks", blocks, blocks * (measure.block_s + BLOCK_START_S)),
    ]
    if "power" in measure.passes:
        metered = [target.power.variant_s for target in targets if target.power.source != "none"]
        what = "power, where a sensor is found"
        rows.append(("measure", what, len(metered) * len(study.variants), len(study.variants) * sum(metered)))
    return [{"stage": stage, "what": what, "times": times, "about_seconds": round(seconds)} for stage, what, times, seconds in rows]


def _clips_and_folds(data: Data, data_root: Path | None) -> tuple[int, int]:
    """How many clips are trained on, at most, and how many folds there are; drawn ones are counted without drawing them."""
    if data.name == "synthetic":
        return data.train_clips, 1
    found = source.check(data, data_root, source.user_cache())
    if found["no_folds"]:
        raise DataError(found["no_folds"])
    return found["clips"], len(found["folds"])


def check_data(name: str, data_root: Path | None, progress: Progress) -> dict[str, Any]:
    """name: a data set, a shipped study or a study file. raises: DataError, StudyError"""
    return source.check(_data_config(name), data_root, source.user_cache(), progress)


def contact_sheet(name: str, data_root: Path | None, out: Path, progress: Progress) -> None:
    """Write a PNG that shows clips of every class. raises: DataError, StudyError, InputError"""
    clips = source.load(_data_config(name), data_root, source.user_cache(), progress)
    try:
        sheet.sheet(clips, out)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error})") from error


def _data_config(name: str) -> Data:
    if name in source.SOURCES:
        return source.SOURCES[name].config.model_validate({"name": name})
    return studyfile.load_study(name).data


@contextlib.contextmanager
def _prepared(request: Request, tell: Reporter) -> Iterator[Prepared]:
    """Refuse what can be refused before anything is written; then hold the folder."""
    check_out(request.out)
    study = request.study
    targets = board.load_boards(study.targets)
    engine = board.common_engine(targets, part.MAKEABLE, study.measure.engine)
    source.fingerprint(study.data, request.data_root)
    check(study)
    workspace = Workspace(request.out)
    with workspace.locked(), full_disk_is_an_error(request.out):
        if workspace.results.exists():
            Store.open(workspace.results).close()  # a damaged file is told before the long work, not after it
            seal.require_intact(request.out)
        with tell.stage(f"clips: {study.data.name}") as bar:
            clips = source.load(study.data, request.data_root, workspace.root / "work", bar.done)
        for target in targets:
            if passed_over := target.passed_over(engine) if study.measure.engine is None else ():
                tell.note(f"{target.name}: measured with {engine}; no bundle can be made for {', '.join(passed_over)} yet")
        folds = source.SOURCES[study.data.name].folds(study.data, clips)
        yield Prepared(workspace, clips, folds, Maker(workspace, study, clips, folds, tell, engine))


def measure_all(request: Request, prepared: Prepared, store: Store, tell: Reporter) -> None:
    """Make every bundle, then run every block that the journal does not hold yet."""
    study = request.study
    targets = board.load_boards(study.targets)
    seal.lift(request.out)
    # A target given as a file goes by its own name in every result.
    store.record_study({**study.model_dump(mode="json"), "targets": [target.name for target in targets]})
    store.record_clips(prepared.clips, prepared.folds)
    several: dict[str, list[MeasuredBundle]] = {variant.name: [] for variant in study.variants}
    for seed, fold in prepared.maker.cells():
        for name, made in prepared.maker.bundles(seed, fold).items():
            store.record_bundle(made.bundle, seed, fold.name, timed=not several[name])
            store.record_training(_training(name, made))
            several[name].append(MeasuredBundle(made.bundle, seed, fold.name, fold.test))
    keys: list[BlockKey] = []
    for target in targets:
        keys += measure_on(target, study, several, prepared.workspace, prepared.clips, store, tell, keep=request.keep)
    store.record_plan(keys)


def _training(name: str, made: Made) -> Training:
    return Training(
        name, made.seed, made.fold.name, made.way, made.history, made.train_epoch_s, made.best_epoch_accuracy, made.last_epoch_accuracy
    )  # fmt: skip


def measure_on(
    target: Board, study: config.Study, several: dict[str, list[MeasuredBundle]], workspace: Workspace, clips: Clips, store: Store, tell: Reporter,
    *, keep: bool,
) -> tuple[BlockKey, ...]:  # fmt: skip
    """Run every block on one target that the journal does not hold yet.

    keep: on a board, leave there what the run brought; a local target's files are the run folder's own
    """
    folder = workspace.root / "work" / f"target-{target.name}"
    if "power" in study.measure.passes:
        tell.note(f"{target.name}: {power.announcement(target.power, len(several))}")
    channel = board.connect(target, folder / "target", run_id := _run_id(workspace))
    with tell.stage(f"measure on {target.name}") as bar, contextlib.closing(channel):
        return session.measure(
            several, clips, study.measure, target, channel, folder / "host",
            done=store.done(), record=lambda block: void(store.record(block)),
            progress=lambda now: bar.done(now.done, now.total, f"{now.pass_} {now.variant}"),
            baseline=study.baseline, run_id=run_id, tried=store.tried(), keep=keep or target.kind != "ssh",
        )  # fmt: skip


def _run_id(workspace: Workspace) -> str:
    """A random name of the run that this folder holds: what ran on a target under it is taken up by this folder's next process, and by no other's."""
    path = workspace.root / "work" / "run.json"
    known = workspace.load_json(path)
    if known is None:
        known = {"id": uuid.uuid4().hex}
        workspace.save_json(path, known)
    return str(known["id"])


def void(_: object) -> None:
    """Drop a value where none is wanted."""


def finish(store: Store, out: Path, tell: Reporter) -> dict[str, Any]:
    """Summary, report and seal; returns the content of summary.json."""
    with tell.stage("report"):
        summary = write_summary(store, out)
        pages = render(report_input(read_tables(store), summary), out)
    _seal(out, pages, tell)
    return summary


def _seal(out: Path, pages: list[Path], tell: Reporter) -> None:
    digest_ = seal.write(out, [*pages, *(out / name for name in seal.SUMMARY)])
    tell.note(f"sealed: sha256 {digest_} (of {out / seal.FILE}; kept elsewhere, `fercompress verify {out} --seal {digest_[:16]}` compares it)")


def report_input(found: Tables, summary: dict[str, Any]) -> ReportInput:
    """The journal's tables in the form that the report takes."""
    one_file = [stored.variant for stored in found.bundles if stored.manifest.get("one_file")]
    timings = found.timings
    if one_file:  # what stands there for its stages is the loop's own time
        stages = timings[["extractor_ns", "predictor_ns"]].mask(timings["variant"].isin(one_file))
        timings = timings.assign(extractor_ns=stages["extractor_ns"], predictor_ns=stages["predictor_ns"])
    return ReportInput.from_summary(
        summary,
        timings=timings,
        predictions=found.predictions,
        manifests={stored.variant: stored.manifest for stored in reversed(found.bundles) if stored.timed},
        host={target: {key: facts[key] for key in _HOST_FACTS if facts.get(key) is not None} for target, facts in found.facts.items()},
        faults=faults(found.blocks),
        left_out=[asdict(row) for row in found.clips.left_out] if found.clips else [],
        simulated_targets=[target for target, facts in found.facts.items() if facts.get("simulated")],
        epochs=found.epochs,
        face_rates=found.clips.face_rates if found.clips else None,
    )
