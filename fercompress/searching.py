"""A whole search, top to bottom: a study in; a teacher, trials made from it, the best of them measured and a report out."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fercompress import budget, choice, config
from fercompress.assignment import assign
from fercompress.compress import lowrank, tensorize
from fercompress.desk import Desk
from fercompress.errors import InputError
from fercompress.export.onnx_lstm import plan_of
from fercompress.export.runtime import Runner
from fercompress.made import Made, Unmade
from fercompress.making import Maker
from fercompress.model import inference
from fercompress.progress import Bar, Reporter
from fercompress.records import NOT_HERE, Bundle, Float32, Fold
from fercompress.report.units import bytes_text, percent_text
from fercompress.results.store import Store
from fercompress.results.summary import write_whole
from fercompress.search import optimise
from fercompress.search.space import LAYOUTS, Layout, Space
from fercompress.search.trial import Budget, Sketch, Trial, front
from fercompress.study import Prepared, Request, finish, measure_all, preparing
from fercompress.tt.layers import TTLSTM
from fercompress.tt.place import only_lstm
from fercompress.tt.shape import TTShape
from fercompress.workbench import Workbench

SHORT = 5  # a short training has a fifth of the study's epochs


@dataclass(frozen=True)
class SearchRequest:
    """request: of a study with one seed; its variants but the baseline are where the search begins, as far as its space holds them

    minutes: of proposals and trainings, all stops left out; limits: a budget on columns of the summary; measure: False leaves measurement out
    """

    request: Request
    minutes: float
    trials: int | None = None
    seed: int = 0
    limits: Sequence[choice.Limit | choice.Drop] = ()
    measure: bool = True


@dataclass(frozen=True)
class Found:
    """trials: all of them; front: those that none beats on validation data; answer: of the first target, None where nothing was to be measured"""

    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    document: dict[str, Any]  # what search.json holds
    answer: budget.Answer | None

    def table(self) -> list[dict[str, str]]:
        """The front as text, the smallest first; the baseline below it."""
        base = self.document["baseline"]
        lines = [
            {"variant": each.name, "validation accuracy": percent_text(each.validation_accuracy or 0.0), "stored": bytes_text(each.stored_bytes or 0),
             "recipe": "; ".join(map(_words, each.variant.recipe))}
            for each in self.front
        ]  # fmt: skip
        figures = {"validation accuracy": percent_text(base["validation_accuracy"]), "stored": bytes_text(base["stored_bytes"])}
        return [*lines, {"variant": base["variant"], **figures, "recipe": "the baseline"}]


def run(asked: SearchRequest, tell: Reporter) -> Found:
    """raises: InputError where the study's extractor or LSTM leaves nothing to search"""
    request = asked.request
    study = alone(request.study)
    with preparing(replace(request, study=study), tell) as prepared, Store.open(prepared.workspace.results) as store:
        bench = TrialBench(prepared, tell)
        baseline = bench.whole(study.variants[0])
        margin = choice.standard_error(baseline[0], baseline[0], len(bench.fold.validation))
        wish = optimise.Wish(60 * asked.minutes, asked.trials, asked.seed, _budget(asked.limits), margin)
        with tell.stage(f"search, {asked.minutes:g} minutes") as bar:
            trials = optimise.search(
                bench.space(), bench, prepared.workspace.search, wish, others(request.study),
                lambda ended, found: _tell(ended, found, asked, bar, tell),
            )  # fmt: skip
        best = front(trials)
        content = _document(trials, best, baseline, asked)
        write_whole(request.out / "search.json", json.dumps(content, indent=1) + "\n")
        bench.clear()
        if not asked.measure:
            return Found(tuple(trials), tuple(best), content, None)
        summary = _measured(request, prepared, trials, best, store, tell)
    rows = _validated([row for row in summary["rows"] if row["target"] == summary["rows"][0]["target"]], trials, study.baseline, baseline)
    answer = budget.answer(rows, study.baseline, summary["data"], asked.limits, "validation_accuracy" if not asked.limits else None)
    return Found(tuple(trials), tuple(best), content, answer)


class TrialBench:
    """Sketches, trains and exports trials from the first seed's and fold's teacher; what is finished is found, not made again."""

    def __init__(self, prepared: Prepared, tell: Reporter) -> None:
        maker, study = prepared.maker, prepared.maker.study
        seed, self.fold = next(maker.cells())
        self._clips, self._workspace = prepared.clips, prepared.workspace
        self._epochs = max(1, math.ceil(study.fine_tune.epochs / SHORT))
        engines: Mapping[str, str] = defaultdict(lambda: prepared.assignment.default)
        self._desk = Desk(prepared.workspace, study, prepared.clips, maker.teacher(seed, self.fold), tell, maker.name(seed, self.fold), engines, None)
        self._bench = Workbench(self._desk)

    def space(self) -> Space:
        """raises: ModelError, ShapeError for an LSTM that cannot be put into tensor-train form"""
        network, clips = self._desk.teacher.network, self._clips
        lstm = tensorize.dense_lstm(network.predictor)[1]
        channels = self._bench.feature_map[0]
        skeletons: dict[Layout, tuple[TTShape, TTShape]] = {}
        for layout in LAYOUTS:
            step = config.TensorTrain(step="tensor-train", layout=layout, rank=1)
            first, second = tensorize.shapes(step, lstm, channels)[0]
            assert first is not None  # a step for both parts
            assert second is not None
            skeletons[layout] = (first, second)
        return Space(skeletons, low_rank=bool(lowrank.supported(network.extractor)) and clips.frames.shape[1] > 0)

    def sketch(self, variant: config.Variant) -> Sketch:
        sketched = self._bench.sketched(variant)
        lstm = only_lstm(sketched.predictor)[1]
        plans = [plan_of(layer, self._clips.frames.shape[1]) for layer in lstm.layers] if isinstance(lstm, TTLSTM) else []
        times = [plan.chosen.cost_ns for plan in plans if plan is not None]
        train = next(step for step in variant.recipe if isinstance(step, config.TensorTrain))
        sensitivity = None
        if train.start != "from-scratch":
            features = sketched.features
            sensitivity = inference.accuracy(inference.logits_of(sketched.predictor, features.validation), features.validation_labels)
        return Sketch(sketched.stored_bytes, sum(times) if times else None, sensitivity)

    def short(self, variant: config.Variant) -> float:
        return self._bench.briefly(variant, self._epochs)

    def whole(self, variant: config.Variant) -> tuple[float, int]:
        made = self._bench.make(variant, {})
        if isinstance(made, Unmade):
            raise InputError(made.reason)
        return self._validation_accuracy(made.bundle), made.bundle.size.stored_bytes

    def clear(self) -> None:
        self._bench.clear()
        for path in self._workspace.root.glob("work/validation-*"):
            path.unlink()

    def _validation_accuracy(self, bundle: Bundle) -> float:
        """Of the bundle itself, in its own engine, rounding included. Equal extractor files give equal features: they are computed once."""
        runner = Runner(bundle)
        rows = self.fold.validation
        sha256 = bundle.manifest["files"][bundle.manifest["extractor"]["file"]]["sha256"]
        path = self._workspace.work("validation", sha256).with_suffix(".npy")
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            with unfinished.open("wb") as file:
                np.save(file, np.stack([runner.features(clip) for clip in self._clips.frames[rows]]))
            unfinished.replace(path)
        features: Float32 = np.load(path, mmap_mode="r")
        logits = np.concatenate([runner.answers(np.asarray(clip)[None]) for clip in features])
        return inference.accuracy(logits, self._clips.labels[rows])


class _TrialMaker(Maker):
    """Of every seed and fold: the trials that are worth it; of the others those of the first cell, and why the rest is not made."""

    def __init__(self, plain: Maker, study: config.Study, engines: Mapping[str, str], stopped: Mapping[str, str], everywhere: set[str]) -> None:
        super().__init__(plain.workspace, study, plain.clips, plain.folds, plain.tell, engines, plain.converter)
        self._all, self._stopped, self._everywhere = engines, stopped, everywhere

    def bundles(self, seed: int, fold: Fold) -> dict[str, Made | Unmade]:
        first = (seed, fold.name) == (self.study.seeds[0], self.folds[0].name)
        wanted = {name for name in self._all if name not in self._stopped and (first or name in self._everywhere)}
        self.engines = {name: engine for name, engine in self._all.items() if name in wanted}
        made = super().bundles(seed, fold)
        unmade = {name: Unmade(seed, fold, f"{NOT_HERE}{why}") for name, why in self._stopped.items() if first}
        return {variant.name: {**made, **unmade}[variant.name] for variant in self.study.variants if variant.name in {**made, **unmade}}


def _measured(request: Request, prepared: Prepared, trials: Sequence[Trial], best: Sequence[Trial], store: Store, tell: Reporter) -> dict[str, Any]:
    """Every trial that was trained is a variant of the results: those on the front with all passes, the others with what is known of them."""
    trained = [each for each in trials if each.stage in ("short", "whole") and not each.repeated]
    study = alone(request.study)
    study = study.model_copy(update={"variants": (*study.variants, *(each.variant for each in trained))})
    stopped = {each.name: f"a trial that was stopped: {each.stopped or 'the time was over'}" for each in trained if each.stage == "short"}
    everywhere = {study.baseline, *(each.name for each in best)}
    brief = {
        each.name: "beaten on validation data, so that only its accuracy was measured" for each in trained
        if each.stage == "whole" and each.name not in everywhere
    }  # fmt: skip
    assignment = assign(study, prepared.targets)
    maker = _TrialMaker(prepared.maker, study, assignment.made, stopped, everywhere)
    measure_all(replace(request, study=study), replace(prepared, maker=maker, assignment=assignment), store, tell, brief)
    return finish(store, request.out, tell)


def alone(study: config.Study) -> config.Study:
    """The baseline by itself, one seed."""
    baseline = next(variant for variant in study.variants if variant.name == study.baseline)
    return study.model_copy(update={"variants": (baseline,), "ladder": (), "seeds": study.seeds[:1], "name": study.name})


def others(study: config.Study) -> list[config.Variant]:
    return [variant for variant in study.variants if variant.name != study.baseline]


def _budget(limits: Sequence[choice.Limit | choice.Drop]) -> Budget:
    """What is known of a trial before it is measured."""
    most = {limit.column: limit.value for limit in limits if isinstance(limit, choice.Limit) and limit.most}
    return Budget(most.get("stored_bytes"), most.get("latency_predictor_p50_ns"))


def _validated(rows: Sequence[choice.Row], trials: Sequence[Trial], baseline: str, its: tuple[float, int]) -> list[choice.Row]:
    """The rows with the validation accuracies of the bundles, rounding included, which the search went by."""
    known: dict[str, float | None] = {each.name: each.validation_accuracy for each in trials} | {baseline: its[0]}
    return [{**row, "validation_accuracy": known[row["variant"]]} for row in rows]


def _tell(ended: Trial, found: Sequence[Trial], asked: SearchRequest, bar: Bar, tell: Reporter) -> None:
    """A line for each that is new on the front, and the front so far beside the bar."""
    seconds = sum(each.seconds for each in found)
    best = front(found)
    if ended in best:
        tell.note(f"{ended.name}: {_point(ended)} ({', '.join(map(_words, ended.variant.recipe))})")
    whole = sum(each.whole for each in found)
    told = " | ".join(_point(each) for each in best)
    bar.done(round(seconds), round(60 * asked.minutes), f"s; {len(found)} proposals, {whole} trained whole; front: {told or 'nothing yet'}")


def _point(each: Trial) -> str:
    return f"{percent_text(each.validation_accuracy or 0.0)} in {bytes_text(each.stored_bytes or 0)}"


def _words(step: config.Step) -> str:
    """A step in a few words, for a line of progress."""
    if isinstance(step, config.LowRank):
        return f"kernels {step.ratio:g}x fewer"
    if isinstance(step, config.Quantize):
        return f"{step.part} {step.mean_bits or step.bits:g} bits"
    if isinstance(step, config.TensorTrain):
        ranks = [rank.per_bond if isinstance(rank, config.Ranks) else rank for rank in (step.rank, step.hidden_rank) if rank is not None]
        return f"{step.layout} {step.part} ranks {' and '.join(map(str, ranks))}, {step.start}"
    return step.step


def _document(trials: Sequence[Trial], best: Sequence[Trial], baseline: tuple[float, int], asked: SearchRequest) -> dict[str, Any]:
    return {
        "schema": 1, "study": asked.request.study.name, "seed": asked.seed, "minutes": asked.minutes,
        "seconds": sum(each.seconds for each in trials),
        "baseline": {"variant": asked.request.study.baseline, "validation_accuracy": baseline[0], "stored_bytes": baseline[1]},
        "front": [each.name for each in best], "trials": [each.table for each in trials],
    }  # fmt: skip
