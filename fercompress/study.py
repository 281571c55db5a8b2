"""The whole way of a study, top to bottom: clips -> teachers -> bundles -> blocks -> summary -> report. Only this module knows the order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fercompress import absence, config, studyfile
from fercompress.assignment import NPU, Assignment, assign
from fercompress.data import sheet, source
from fercompress.data.cache import Progress
from fercompress.dataconfig import Data
from fercompress.errors import BundleError, InputError, ResultsError
from fercompress.export import rknn_toolkit
from fercompress.made import Made, Unmade
from fercompress.making import Maker, check
from fercompress.measure import board
from fercompress.measure.board import Board
from fercompress.measure.schedule import MeasuredBundle
from fercompress.measuring import measure_on, settled
from fercompress.model import optimise
from fercompress.progress import Reporter
from fercompress.records import Block, BlockKey, Clips, Fold
from fercompress.report.record import ReportInput
from fercompress.report.render import render
from fercompress.results import seal
from fercompress.results.faults import faults
from fercompress.results.store import FILE, Store, Training
from fercompress.results.summary import write_summary
from fercompress.results.tables import Tables, read_tables
from fercompress.workspace import Workspace, check_out, full_disk_is_an_error

# The host's facts that a reader of the report may want; the journal holds them all.
_HOST_FACTS = ("cpu", "cores", "machine", "platform", "python", "engine_versions", "governor", "threads")


@dataclass(frozen=True)
class Request:
    """What a person asked for: a study, where to write, where real data lies, and whether boards keep what was sent there.

    rknn_python: the Python that has rknn-toolkit, where a variant runs on the NPU
    """

    study: config.Study
    out: Path
    data_root: Path | None = None
    keep: bool = False
    rknn_python: str | None = None


@dataclass(frozen=True)
class Prepared:
    """The clips and folds of a study, which engine runs what, and the open folder of its run."""

    workspace: Workspace
    clips: Clips
    folds: list[Fold]
    maker: Maker
    targets: list[Board]
    assignment: Assignment


def run(request: Request, tell: Reporter) -> dict[str, Any]:
    """Everything; returns the content of summary.json."""
    with preparing(request, tell) as prepared, Store.open(prepared.workspace.results) as store:
        measure_all(request, prepared, store, tell)
        return finish(store, request.out, tell)


def measure_only(request: Request, tell: Reporter) -> dict[str, Any]:
    """Everything but the page: returns, and writes, the content of summary.json."""
    with preparing(request, tell) as prepared, Store.open(prepared.workspace.results) as store:
        measure_all(request, prepared, store, tell)
        summary = write_summary(store, request.out)
        _seal(request.out, [], tell)
        return summary


def train_only(request: Request, tell: Reporter) -> list[dict[str, Any]]:
    """The teachers: one row per seed and fold; `weights` is a file that another study's [model] may start from."""
    with preparing(request, tell, converts=False) as prepared:
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
    """The bundles: one row per variant, seed and fold; of those that could not be made the reason is the way."""
    with preparing(request, tell) as prepared:
        return [
            {
                "variant": name,
                "seed": seed,
                "fold": fold.name,
                "way": made.way if isinstance(made, Made) else made.reason,
                "stored_bytes": made.bundle.size.stored_bytes if isinstance(made, Made) else None,
                "bundle": str(made.bundle.folder) if isinstance(made, Made) else "",
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
def preparing(request: Request, tell: Reporter, *, converts: bool = True) -> Iterator[Prepared]:
    """Refuse what can be refused before anything is written; then hold the folder. converts: whether bundles will be made"""
    check_out(request.out)
    study = request.study
    targets = board.load_boards(study.targets)
    assignment = assign(study, targets)
    source.fingerprint(study.data, request.data_root)
    check(study)
    converter = _converter(request, assignment) if converts else None
    workspace = Workspace(request.out)
    with workspace.locked(), full_disk_is_an_error(request.out):
        if workspace.results.exists():
            Store.open(workspace.results).close()  # a damaged file is told before the long work, not after it
            seal.require_intact(request.out)
        with tell.stage(f"clips: {study.data.name}") as bar:
            clips = source.load(study.data, request.data_root, workspace.root / "work", bar.done)
        for target in targets:
            _note_engines(study, target, assignment, tell)
        folds = source.SOURCES[study.data.name].folds(study.data, clips)
        maker = Maker(workspace, study, clips, folds, tell, assignment.made, converter)
        yield Prepared(workspace, clips, folds, maker, targets, assignment)


def _converter(request: Request, assignment: Assignment) -> rknn_toolkit.Converter | None:
    """Asked before the long work. raises: InputError where a variant needs one and it is missing, or is none"""
    if not assignment.converted:
        return None
    if request.rknn_python is None:
        raise InputError(
            f"{', '.join(assignment.converted)}: their extractors must be converted for the NPU; {rknn_toolkit.REMEDY}, or choose other variants "
            "with --only"
        )
    return rknn_toolkit.converter(request.rknn_python)


def _note_engines(study: config.Study, target: Board, assignment: Assignment, tell: Reporter) -> None:
    used = {half for engine in assignment.engines.values() for half in engine.split("+")}
    used |= set(NPU) if used & set(NPU) else set()  # one way to the NPU is enough
    unused = [name for name in target.passed_over(assignment.default) if not set(name.split("+")) & used]
    if unused and study.measure.engine is None:
        tell.note(f"{target.name}: measured with {assignment.default}; no variant of this study is made for {', '.join(unused)}")
    for name, reason in assignment.absent[target.name].items():
        tell.note(f"{name}: {reason}")


def measure_all(request: Request, prepared: Prepared, store: Store, tell: Reporter, brief: Mapping[str, str] | None = None) -> None:
    """Make every bundle, then run every block that the journal does not hold yet.

    brief: variants of which only the accuracy is measured, and why. raises: BundleError where the baseline has no bundle
    """
    study, targets = settled(request.study), prepared.targets
    seal.lift(request.out)
    # A target given as a file goes by its own name in every result.
    store.record_study({**study.model_dump(mode="json"), "targets": [target.name for target in targets]})
    store.record_clips(prepared.clips, prepared.folds)
    several: dict[str, list[MeasuredBundle]] = {variant.name: [] for variant in study.variants}
    unmade: dict[str, list[Unmade]] = {}
    for seed, fold in prepared.maker.cells():
        for name, made in prepared.maker.bundles(seed, fold).items():
            if isinstance(made, Unmade):
                tell.note(f"{name}{prepared.maker.name(seed, fold)}: {made.reason}")
                store.record_no_bundle(name, seed, fold.name)
                unmade.setdefault(name, []).append(made)
                continue
            store.record_bundle(made.bundle, seed, fold.name, timed=not several[name])
            store.record_training(_training(name, made))
            several[name].append(MeasuredBundle(made.bundle, seed, fold.name, fold.test))
    if not several[study.baseline]:
        raise BundleError(f"nothing can be compared without the baseline {study.baseline}: {unmade[study.baseline][0].reason}")
    keys: list[BlockKey] = []
    for target in targets:
        here = {name: bundles for name, bundles in several.items() if bundles and name not in prepared.assignment.absent[target.name]}
        timed = {name: bundles for name, bundles in here.items() if name not in (brief or {})}
        keys += measure_on(target, study, timed, prepared.workspace, prepared.clips, store, tell, keep=request.keep)
        if (rest := {name: bundles for name, bundles in here.items() if name not in timed}) and "accuracy" in study.measure.passes:
            alone = study.model_copy(update={"measure": study.measure.model_copy(update={"passes": ("accuracy",)})})
            keys += measure_on(target, alone, rest, prepared.workspace, prepared.clips, store, tell, keep=request.keep)
            keys += _recorded(list(absence.passed_over(study, target.name, rest, brief or {})), store)
        blocks = absence.blocks(study, target.name, prepared.assignment, several, unmade, (study.seeds[0], prepared.folds[0].name))
        keys += _recorded(list(blocks), store)
    store.record_plan(keys)


def _recorded(blocks: list[Block], store: Store) -> list[BlockKey]:
    """Say once why something is not measured, however often the study goes on; returns the keys."""
    said = store.tried() if blocks else {}
    for block in blocks:
        if block.key not in said:
            store.record(block)
    return [block.key for block in blocks]


def _training(name: str, made: Made) -> Training:
    return Training(
        name, made.seed, made.fold.name, made.way, made.history, made.train_epoch_s, made.best_epoch_accuracy, made.last_epoch_accuracy
    )  # fmt: skip


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
