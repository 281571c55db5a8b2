"""Bundles that are there already, own or imported, measured side by side: their folders in, an ordinary run folder out; nothing is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fercompress import config, studyfile
from fercompress.errors import BundleError
from fercompress.examination import SYNTHETIC, Wanted, check_alike, of_bundles
from fercompress.export import bundle
from fercompress.measure import board
from fercompress.measure.schedule import MeasuredBundle
from fercompress.measuring import measure_on, settled
from fercompress.progress import Reporter
from fercompress.records import BlockKey, Bundle
from fercompress.results import seal
from fercompress.results.store import Store
from fercompress.study import finish
from fercompress.workspace import Workspace, check_out, full_disk_is_an_error


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
    study = settled(_study(request, bundles))
    targets = board.load_boards(study.targets)
    for target in targets:
        for each in bundles:
            board.check_engine(target, each.engine)
    workspace = Workspace(request.out)
    with workspace.locked(), full_disk_is_an_error(request.out), Store.open(workspace.results) as store:
        seal.lift(request.out)
        with tell.stage(f"clips: {request.data or request.inputs}"):
            named = study.data if request.data == study.data.name else None
            asked = of_bundles(bundles, Wanted(request.inputs, request.data, request.data_root), workspace.root / "work", tell.note, named)
        clips, fold = asked.clips, asked.folds[0]
        lacking = {}
        if asked.unlabelled:
            passes = tuple(name for name in study.measure.passes if name != "accuracy")
            study = study.model_copy(update={"measure": study.measure.model_copy(update={"passes": passes})})
            lacking = {"accuracy": asked.unlabelled}
            tell.note(f"accuracy is not measured: {asked.unlabelled}")
        variants = [{"name": each.variant, "recipe": list(each.manifest["recipe"])} for each in bundles]
        names = [target.name for target in targets]
        inputs = request.inputs if request.inputs == SYNTHETIC else str(Path(request.inputs).resolve())
        data = {"name": clips.name, "inputs": inputs, "data": request.data}
        store.record_study({**study.model_dump(mode="json"), "targets": names, "variants": variants, "data": data, "lacking": lacking})
        store.record_clips(clips, [fold])
        several: dict[str, list[MeasuredBundle]] = {}
        for each in bundles:
            kept = _kept(each, workspace)
            store.record_bundle(kept, 0, fold.name, timed=True)
            several[kept.variant] = [MeasuredBundle(kept, 0, fold.name, fold.test)]
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
    check_alike(bundles)
    return bundles


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
