"""Bundles that are there already, own or imported, measured side by side: their folders in, an ordinary run folder out; nothing is trained."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fercompress import config, studyfile
from fercompress.data import source
from fercompress.dataconfig import SyntheticData
from fercompress.errors import BundleError, DataError
from fercompress.export import bundle
from fercompress.measure import board
from fercompress.measure.schedule import MeasuredBundle
from fercompress.progress import Reporter
from fercompress.records import BlockKey, Bundle, Clips, Fold, Int64, UInt8, digest
from fercompress.results import seal
from fercompress.results.store import Store
from fercompress.study import finish, measure_on
from fercompress.workspace import Workspace, check_out, full_disk_is_an_error

INPUTS = 64  # clips that are made where none are given: as many as are timed
FOLD = "given"  # the name of the only fold


@dataclass(frozen=True)
class BundleRequest:
    """folders: of bundles, the first is the baseline; wishes: "measure.rounds=2", as in a study's --set

    inputs: an .npz file with frames (N, T, H, W) uint8 and perhaps labels (N,), or "synthetic"; data: a data set or study whose test clips are
    used, labels and all, in the place of inputs
    """

    folders: tuple[Path, ...]
    out: Path
    targets: tuple[str, ...] = ()
    wishes: tuple[str, ...] = ()
    inputs: str = "synthetic"
    data: str | None = None
    data_root: Path | None = None
    keep: bool = False  # on a board, what was sent there


def run(request: BundleRequest, tell: Reporter) -> dict[str, Any]:
    """Size, latency, memory, power, and accuracy where clips have labels; returns the content of summary.json. raises: InputError, TargetError"""
    check_out(request.out)
    bundles = _loaded(request.folders)
    study = _study(request, bundles)
    targets = board.load_boards(study.targets)
    for target in targets:
        for each in bundles:
            board.check_engine(target, each.engine)
    workspace = Workspace(request.out)
    with workspace.locked(), full_disk_is_an_error(request.out), Store.open(workspace.results) as store:
        seal.lift(request.out)
        clips, labelled = _clips(request, study, bundles, workspace, tell)
        if not labelled:
            passes = tuple(name for name in study.measure.passes if name != "accuracy")
            study = study.model_copy(update={"measure": study.measure.model_copy(update={"passes": passes})})
            tell.note("no labels: accuracy is not measured")
        test = np.arange(len(clips))
        variants = [{"name": each.variant, "recipe": list(each.manifest["recipe"])} for each in bundles]
        names = [target.name for target in targets]
        store.record_study({**study.model_dump(mode="json"), "targets": names, "variants": variants, "data": {"name": clips.name}})
        store.record_clips(clips, [Fold(FOLD, test[:0], test[:0], test)])
        several: dict[str, list[MeasuredBundle]] = {}
        for each in bundles:
            kept = _kept(each, workspace)
            store.record_bundle(kept, 0, FOLD, timed=True)
            several[kept.variant] = [MeasuredBundle(kept, 0, FOLD, test)]
        keys: list[BlockKey] = []
        for target in targets:
            keys += measure_on(target, study, several, workspace, clips, store, tell, keep=request.keep)
        store.record_plan(keys)
        return finish(store, request.out, tell)


def _loaded(folders: Sequence[Path]) -> list[Bundle]:
    """raises: BundleError where one cannot be read, or they cannot stand beside each other"""
    bundles = [bundle.load(folder) for folder in folders]
    names = [each.variant for each in bundles]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BundleError(f"two bundles are named {twice!r}: import one again under another --name")
    first = bundles[0]
    for each in bundles[1:]:
        if clip_shape(each) != clip_shape(first):
            raise BundleError(
                f"{each.variant} takes clips of {clip_shape(each)}, {first.variant} of {clip_shape(first)} (frames, rows, columns): "
                "side by side they must see the same clips; measure them in two runs"
            )
        if each.manifest["classes"] != first.manifest["classes"]:
            raise BundleError(
                f"{each.variant} and {first.variant} name other classes: import them with the same --labels, or measure them in two runs"
            )
    return bundles


def clip_shape(given: Bundle) -> tuple[int, int, int]:
    """(T, H, W)"""
    told = given.manifest["extractor"]["input"]
    rows, columns = told.get("picture") or told["shape"][2:]
    return int(given.manifest["frames"]), int(rows), int(columns)


def _study(request: BundleRequest, bundles: Sequence[Bundle]) -> config.Study:
    """Checked like a study's file, wishes included. raises: StudyError"""
    names = "".join(f"\n[[variant]]\nname = {json.dumps(each.variant)}\n" for each in bundles)
    text = f'[study]\nname = "bundles"\nbaseline = {json.dumps(bundles[0].variant)}\n[data]\nname = "synthetic"\n{names}'
    return studyfile.restricted(studyfile.parse_study(text, "measure", request.wishes), (), request.targets, None)


def _kept(given: Bundle, workspace: Workspace) -> Bundle:
    """The run holds what it was measured with."""
    folder = workspace.bundles / f"{given.variant}-{given.sha256[:12]}"
    if not folder.is_dir():
        unfinished = folder.with_name(f".writing-{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(given.folder, unfinished)
        unfinished.rename(folder)
    return replace(bundle.load(folder), folder=folder)


def _clips(request: BundleRequest, study: config.Study, bundles: Sequence[Bundle], workspace: Workspace, tell: Reporter) -> tuple[Clips, bool]:
    """The clips, and whether they have labels of the bundles' classes. raises: DataError"""
    shape, classes = clip_shape(bundles[0]), tuple(bundles[0].manifest["classes"])
    if request.data is not None:
        with tell.stage(f"clips: {request.data}"):
            return _of_data_set(request, study, shape, classes, workspace, tell), True
    if request.inputs == "synthetic":
        with tell.stage("clips: synthetic"):
            return _synthetic(shape, classes, workspace), False
    return _of_file(Path(request.inputs), shape, classes)


def _of_data_set(
    request: BundleRequest, study: config.Study, shape: tuple[int, int, int], classes: tuple[str, ...], workspace: Workspace, tell: Reporter
) -> Clips:
    assert request.data is not None
    length, rows, columns = shape
    named = source.SOURCES.get(request.data)
    given = studyfile.load_study(request.data).data if named is None else study.data if request.data == study.data.name else None
    table = {"name": request.data} if given is None else given.model_dump()
    try:
        wanted = source.SOURCES[table["name"]].config.model_validate({**table, "frames": length, "size": rows})
    except ValueError as error:
        raise DataError(f"--data {request.data}: cannot give {length} frames of {rows} x {columns}: {error}") from error
    clips = source.load(wanted, request.data_root, workspace.root / "work")
    if clips.frames.shape[1:] != shape:
        raise DataError(f"--data {request.data}: gives clips of {clips.frames.shape[1:]}, the bundles take {shape}")
    tested: Int64 = np.unique(np.concatenate([fold.test for fold in source.SOURCES[wanted.name].folds(wanted, clips)]))
    names = ("clip_ids", "subjects", "clusters", "recordings", "positions", "face_rates", "parts")
    columns_ = {name: tuple(column[i] for i in tested) for name in names if (column := getattr(clips, name))}
    labels = _labels(clips.labels[tested], clips.classes, classes, f"--data {request.data}", tell)
    fingerprint = digest(clips.fingerprint, tested.tolist(), classes)
    return replace(clips, frames=np.asarray(clips.frames[tested]), labels=labels, classes=classes, fingerprint=fingerprint, **columns_)  # type: ignore[arg-type]


def _labels(labels: Int64, theirs: tuple[str, ...], mine: tuple[str, ...], where: str, tell: Reporter | None = None) -> Int64:
    """Indices into the bundle's classes. raises: DataError where the names do not tell which is which"""
    if set(theirs) == set(mine):
        return np.array([mine.index(name) for name in theirs], np.int64)[labels]
    unnamed = mine == tuple(f"class{number}" for number in range(len(mine)))
    if unnamed and len(mine) == len(theirs):
        if tell is not None:
            tell.note(f"the bundle's classes have no names: taken in this order: {', '.join(theirs)}")
        return labels
    raise DataError(
        f"{where}: its classes are {', '.join(theirs)}; the bundle's are {', '.join(mine)}: import it with --labels in its outputs' order"
    )


def _synthetic(shape: tuple[int, int, int], classes: tuple[str, ...], workspace: Workspace) -> Clips:
    """Rendered faces at the next size that can be rendered, then the nearest of its pixels."""
    length, rows, columns = shape
    side = min(256, max(32, -(-max(rows, columns) // 16) * 16))
    wanted = SyntheticData(name="synthetic", train_clips=14, validation_clips=14, test_clips=INPUTS, frames=max(2, length), size=side)
    clips = source.load(wanted, None, workspace.root / "work")
    frames = np.asarray(clips.frames[-INPUTS:])[:, :length]
    at_rows, at_columns = (np.arange(size) * side // size for size in (rows, columns))
    frames = np.ascontiguousarray(frames[:, :, at_rows][:, :, :, at_columns])
    return _unlabelled("synthetic", frames, np.zeros(len(frames), np.int64), classes, digest(clips.fingerprint, shape), simulated=True)


def _of_file(path: Path, shape: tuple[int, int, int], classes: tuple[str, ...]) -> tuple[Clips, bool]:
    """raises: DataError"""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, EOFError) as error:
        raise DataError(f"--inputs {path}: cannot be read as .npz ({error})") from error
    frames: UInt8 | None = arrays.get("frames")
    if frames is None or frames.dtype != np.uint8 or frames.shape[1:] != shape or not len(frames):
        found = "no frames" if frames is None else f"{frames.dtype} {frames.shape}"
        raise DataError(f"--inputs {path}: needs frames, uint8 (N, {', '.join(map(str, shape))}), grey; it has {found}")
    fingerprint = hashlib.sha256(frames.tobytes()).hexdigest()
    labels = arrays.get("labels")
    if labels is None:
        return _unlabelled(path.stem, frames, np.zeros(len(frames), np.int64), classes, fingerprint, simulated=False), False
    if labels.shape != (len(frames),):
        raise DataError(f"--inputs {path}: labels are {labels.shape} for {len(frames)} clips")
    if labels.dtype.kind == "U":
        names = tuple(sorted(set(labels.tolist())))
        if unknown := [name for name in names if name not in classes]:
            raise DataError(f"--inputs {path}: label {unknown[0]!r} is none of the bundle's classes: {', '.join(classes)}")
        labels = np.array([classes.index(name) for name in labels.tolist()], np.int64)
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(f"--inputs {path}: labels are names of classes or whole numbers from 0 to {len(classes) - 1}")
    labels = labels.astype(np.int64)
    clips = _unlabelled(path.stem, frames, labels, classes, digest(fingerprint, labels.tolist()), simulated=False)
    subjects = arrays.get("subjects")
    if subjects is not None and subjects.shape == (len(frames),):
        people = tuple(map(str, subjects.tolist()))
        clips = replace(clips, subjects=people, clusters=people)
    return clips, True


def _unlabelled(name: str, frames: UInt8, labels: Int64, classes: tuple[str, ...], fingerprint: str, *, simulated: bool) -> Clips:
    names = tuple(f"{name}-{number}" for number in range(len(frames)))
    return Clips(name, frames, labels, classes, names, names, names, names, (0,) * len(frames), fingerprint, simulated)
