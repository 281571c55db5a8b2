"""From clips to bundles: for every seed and fold one teacher, and from it one bundle per variant; what is finished is found, not made again."""

from __future__ import annotations

import copy
import functools
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fercompress import config
from fercompress.compress import distill, quantize, recipe, tensorize
from fercompress.errors import ShapeError
from fercompress.export import bundle
from fercompress.model import train, zoo
from fercompress.model.zoo import Network
from fercompress.progress import Reporter
from fercompress.records import Bundle, Clips, Fold, History, Int64, Preprocess, digest
from fercompress.tt.layers import only_lstm
from fercompress.workspace import Workspace

CALIBRATION_FRAMES = 4  # of each calibration clip, evenly spaced
SAMPLE_CLIPS = 4  # validation clips on which an exported file is compared with torch


@dataclass(frozen=True)
class Teacher:
    """A trained dense network (in evaluation mode) and all that its compression needs to know."""

    network: Network
    preprocess: Preprocess
    trained: train.Trained
    key: str
    seed: int
    fold: Fold


@dataclass(frozen=True)
class Made:
    """One variant's bundle and the training that led to it."""

    bundle: Bundle
    seed: int
    fold: Fold
    way: str
    history: History
    train_epoch_s: float
    best_epoch_accuracy: float  # on the test clips, in torch; chose nothing
    last_epoch_accuracy: float


def check(study: config.Study) -> None:
    """Refuse, before the long work, a model that does not run and recipes that do not fit it. raises: StudyError, ModelError, ShapeError"""
    channels = 2 if study.data.difference else 1
    network = zoo.build(study.model, channels, study.data.size, study.data.frames, 2, study.train.dropout, seed=0)
    train.device_for(study.train.device)
    feature_map = map_shape(network.extractor, channels, study.data.size)
    lstm = only_lstm(network.predictor)[1]
    for variant in study.variants:
        for step in variant.recipe:
            try:
                if isinstance(step, config.TensorTrain):
                    tensorize.shapes(step, lstm.input_size, lstm.hidden_size, feature_map[0])
                elif isinstance(step, config.Bottleneck) and step.rank > feature_map[0]:
                    raise ShapeError(f"bottleneck rank {step.rank} is above the feature map's {feature_map[0]} channels")
            except ShapeError as error:
                raise ShapeError(f"variant {variant.name!r}: {error}") from error


def step_s(study: config.Study) -> tuple[float, float]:
    """Seconds per clip of one training step of the teacher, and of its predictor alone on ready features: timed now, on eight random clips."""
    data, clips = study.data, 8
    channels = 2 if data.difference else 1
    network = zoo.build(study.model, channels, data.size, data.frames, 2, study.train.dropout, seed=0)
    frames = torch.rand(clips, data.frames, channels, data.size, data.size)
    features = train.features_of(network.extractor, frames).detach()

    def seconds(step: Callable[[], Tensor]) -> float:
        durations = []
        for _ in range(3):
            start = time.perf_counter()
            step().sum().backward()  # type: ignore[no-untyped-call]
            durations.append(time.perf_counter() - start)
        return min(durations) / clips

    return seconds(lambda: train.forward(network, frames)), seconds(lambda: network.predictor(features))


def map_shape(extractor: nn.Module, channels: int, size: int) -> tuple[int, int, int]:
    """(c, h, w) of the extractor's output."""
    with torch.no_grad():
        shape = extractor.eval()(torch.zeros(1, channels, size, size)).shape
    return int(shape[1]), int(shape[2]), int(shape[3])


class Maker:
    """Makes teachers and bundles in a workspace; each method is idempotent."""

    def __init__(self, workspace: Workspace, study: config.Study, clips: Clips, folds: list[Fold], tell: Reporter) -> None:
        self.workspace, self.study, self.clips, self.folds, self.tell = workspace, study, clips, folds, tell

    def cells(self) -> Iterator[tuple[int, Fold]]:
        for seed in self.study.seeds:
            for fold in self.folds:
                yield seed, fold

    def name(self, seed: int, fold: Fold) -> str:
        """ " (seed 1, fold 2)", as far as there is a choice."""
        parts = [f"seed {seed}"] if len(self.study.seeds) > 1 else []
        parts += [f"fold {fold.name}"] if len(self.folds) > 1 else []
        return f" ({', '.join(parts)})" if parts else ""

    def teacher(self, seed: int, fold: Fold) -> Teacher:
        """Trained now, or on an earlier day."""
        study, clips = self.study, self.clips
        height = clips.frames.shape[2]
        preprocess = train.preprocess_for(clips, fold, study.data.difference)
        network = zoo.build(study.model, preprocess.channels, height, clips.frames.shape[1], len(clips.classes), study.train.dropout, seed)
        parts = [part.tolist() for part in (fold.train, fold.validation)]
        key = digest(
            "teacher",
            clips.fingerprint,
            parts,
            study.data.difference,
            study.model.model_dump(),
            study.train.model_dump(),
            seed,
            _file(study.model.weights),
        )
        folder = self.workspace.work("teacher", key)
        trained = train.load_trained(folder)
        if trained is None:
            with self.tell.stage(f"train the teacher{self.name(seed, fold)}", study.train.epochs) as bar:
                trained = train.fit(
                    network, clips, fold, preprocess, study.train, seed, folder / "checkpoint",
                    lambda done, of, history: bar.done(done, of, f"validation {history.validation_accuracy[-1]:.1%}"),
                )  # fmt: skip
            train.save_trained(trained, folder)
            (folder / "checkpoint").unlink(missing_ok=True)
        both = nn.ModuleDict({"extractor": network.extractor, "predictor": network.predictor})
        both.load_state_dict(trained.best)
        return Teacher(network, preprocess, trained, key, seed, fold)

    def bundles(self, seed: int, fold: Fold) -> dict[str, Made]:
        """Every variant's bundle of one seed and fold, in the study's order."""
        teacher = self.teacher(seed, fold)
        workbench = _Workbench(self, teacher)
        made: dict[str, Made] = {}
        for variant in sorted(self.study.variants, key=_needs_another):
            made[variant.name] = workbench.make(variant, made)
        workbench.clear()
        return {variant.name: made[variant.name] for variant in self.study.variants}


def _needs_another(variant: config.Variant) -> bool:
    return any(isinstance(step, config.SmallDense) for step in variant.recipe)


def _file(path: str | None) -> str | None:
    """A file's content stands for it in a key: the name may stay while the weights change."""
    return None if path is None else digest(Path(path).read_bytes().hex())


class _Workbench:
    """One teacher's features and the variants made from them."""

    def __init__(self, maker: Maker, teacher: Teacher) -> None:
        self.maker, self.teacher = maker, teacher
        self.study, self.clips, self.workspace = maker.study, maker.clips, maker.workspace
        key = digest("features", teacher.key, self.study.train.augment.model_dump(), self.study.fine_tune.copies)
        self.folder = self.workspace.work("features", key)
        self.extractor_rewrites: dict[str, bundle.Rewrite] = {}

    def clear(self) -> None:
        """The features are large and quickly made again."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @functools.cached_property
    def name(self) -> str:
        return self.maker.name(self.teacher.seed, self.teacher.fold)

    @functools.cached_property
    def features(self) -> train.Features:
        teacher, study = self.teacher, self.study
        with self.maker.tell.stage(f"cache features{self.name}"):
            return train.cache_features(
                teacher.network.extractor, self.clips, teacher.fold, teacher.preprocess, study.train.augment, study.fine_tune.copies,
                teacher.seed, self.folder,
            )  # fmt: skip

    @functools.cached_property
    def test_features(self) -> np.ndarray[Any, Any]:
        """float16 (N, T, D): for the figures in torch that stand beside the measured ones."""
        teacher = self.teacher
        with self.maker.tell.stage(f"features of the test clips{self.name}"):
            return train.cache_test_features(teacher.network.extractor, self.clips, teacher.fold.test, teacher.preprocess, self.folder)

    @functools.cached_property
    def teacher_logits(self) -> Tensor:
        """float32 (copies * N, classes): the teacher's answers to the cached training features."""
        return torch.from_numpy(train.logits_of(self.teacher.network.predictor, self.features.train))

    @functools.cached_property
    def teacher_states(self) -> Tensor:
        """float16 (copies * N, T, H): the teacher's hidden states on the cached training features."""
        return torch.from_numpy(train.states_of(self.teacher.network.predictor, self.features.train))

    @functools.cached_property
    def inputs(self) -> bundle.Inputs:
        frames, size = self.clips.frames.shape[1:3]
        return bundle.Inputs(self.teacher.preprocess, frames, size, self.clips.classes)

    @functools.cached_property
    def feature_map(self) -> tuple[int, int, int]:
        return map_shape(self.teacher.network.extractor, self.inputs.preprocess.channels, self.inputs.size)

    @functools.cached_property
    def dense(self) -> bundle.DenseSize:
        return bundle.DenseSize.of(self.teacher.network.extractor, self.teacher.network.predictor, self.inputs)

    def make(self, variant: config.Variant, others: dict[str, Made]) -> Made:
        """The variant's bundle, found or made; others: what was made before it, for a control that is as large as another variant."""
        wanted_bytes = [others[step.bytes_of].bundle.size.stored_bytes for step in variant.recipe if isinstance(step, config.SmallDense)]
        structure = [step.model_dump() for step in variant.recipe if not isinstance(step, config.Quantize)]
        trained_key = digest("variant", self.teacher.key, structure, self.study.fine_tune.model_dump() if structure else None, wanted_bytes)
        bundle_key = digest("bundle", trained_key, variant.model_dump(), quantize.this_cpu_bits())
        index = self.workspace.work("bundle", bundle_key).with_suffix(".json")
        found = self.workspace.load_json(index)
        if found is not None and (self.workspace.bundles / found["folder"]).is_dir():
            return self._found(found)
        made = self._new(variant, others, self.workspace.work("variant", trained_key))
        facts = {
            "folder": made.bundle.folder.name, "way": made.way, "history": asdict(made.history), "train_epoch_s": made.train_epoch_s,
            "best_epoch_accuracy": made.best_epoch_accuracy, "last_epoch_accuracy": made.last_epoch_accuracy,
        }  # fmt: skip
        self.workspace.save_json(index, facts)
        return made

    def _found(self, facts: dict[str, Any]) -> Made:
        history = History.of(facts["history"])
        return Made(
            bundle.load(self.workspace.bundles / facts["folder"]), self.teacher.seed, self.teacher.fold, facts["way"], history,
            facts["train_epoch_s"], facts["best_epoch_accuracy"], facts["last_epoch_accuracy"],
        )  # fmt: skip

    def _new(self, variant: config.Variant, others: dict[str, Made], folder: Path) -> Made:
        teacher, network = self.teacher, self.teacher.network
        fitted: list[train.Trained] = []

        def fit(predictor: nn.Module) -> nn.Module:
            fitted.append(self._fit(variant.name, predictor, folder))
            predictor.load_state_dict(fitted[-1].best)
            return predictor

        context = recipe.Context(
            feature_map=self.feature_map,
            classes=len(self.clips.classes),
            dropout=self.study.train.dropout,
            byte_budget=lambda name: others[name].bundle.size.stored_bytes - self._extractor_bytes(variant),
            predictor_bytes=self._predictor_bytes,
        )
        compressed = recipe.apply(variant, network.extractor, network.predictor, context, fit)
        way = compressed.way + (" with distillation" if fitted and self.study.fine_tune.distill else "")
        labels = self.clips.labels[teacher.fold.test]
        best = train.accuracy(train.logits_of(compressed.predictor, self.test_features), labels)
        if fitted:
            last = copy.deepcopy(compressed.predictor)
            last.load_state_dict(fitted[-1].last)
            last_accuracy = train.accuracy(train.logits_of(last, self.test_features), labels)
            epoch_s = float(np.median(fitted[-1].history.epoch_s))
        else:
            last_accuracy = self._last_teacher_accuracy(labels) if teacher.trained.last_differs else best
            epoch_s = train.predictor_epoch_s(network.predictor, self.features, self.study.fine_tune, teacher.seed)
        written = self._export(variant, compressed, way)
        return Made(written, teacher.seed, teacher.fold, way, (fitted or [teacher.trained])[-1].history, epoch_s, best, last_accuracy)

    def _fit(self, name: str, predictor: nn.Module, folder: Path) -> train.Trained:
        """Trained on the cached features now, or on an earlier day; variants that differ in quantization alone share it."""
        trained = train.load_trained(folder)
        if trained is not None:
            return trained
        study, features, teacher_logits = self.study, self.features, self.teacher_logits
        labels = torch.from_numpy(features.train_labels)
        weights = train.class_weights(self.clips.labels[self.teacher.fold.train], len(self.clips.classes)) if study.train.class_weights else None

        same_size = only_lstm(predictor)[1].hidden_size == only_lstm(self.teacher.network.predictor)[1].hidden_size
        matched = same_size and study.fine_tune.match_states > 0

        def loss(logits: Tensor, states: Tensor, rows: Int64) -> Tensor:
            return distill.loss(
                logits, labels[rows], teacher_logits[rows], weight=study.fine_tune.distill, temperature=study.fine_tune.temperature,
                class_weights=weights, states=(states, self.teacher_states[rows].float()) if matched else None,
                states_weight=study.fine_tune.match_states,
            )  # fmt: skip

        with self.maker.tell.stage(f"train {name}{self.name}", study.fine_tune.epochs) as bar:
            trained = train.fit_predictor(
                predictor, features, study.fine_tune, loss, self.teacher.seed, folder / "checkpoint",
                lambda done, of, history: bar.done(done, of, f"validation {history.validation_accuracy[-1]:.1%}"),
            )  # fmt: skip
        train.save_trained(trained, folder)
        (folder / "checkpoint").unlink(missing_ok=True)
        return trained

    def _last_teacher_accuracy(self, labels: Int64) -> float:
        """Test accuracy of the teacher's last epoch, whose extractor is another one than the best epoch's."""
        network = self.teacher.network
        both = nn.ModuleDict({"extractor": copy.deepcopy(network.extractor), "predictor": copy.deepcopy(network.predictor)})
        both.load_state_dict(self.teacher.trained.last)
        last = Network(both["extractor"], both["predictor"])
        return train.accuracy(train.predict(last, self.clips.frames[self.teacher.fold.test], self.teacher.preprocess), labels)

    def _export(self, variant: config.Variant, compressed: recipe.Compressed, way: str) -> Bundle:
        predictor, rewrites = compressed.predictor, {}
        for wish in compressed.quantize:
            if wish.part == "extractor":
                rewrites["extractor"] = self._extractor_rewrite(wish)
            else:
                predictor = quantize.rounded_cores(predictor, quantize.this_cpu_bits())
                rewrites["predictor"] = quantize.predictor_rewrite(quantize.this_cpu_bits())
        with self.maker.tell.stage(f"export {variant.name}{self.name}"):
            return bundle.write(
                self.workspace.bundles, variant.name, compressed.extractor, predictor, self.inputs, self.dense,
                self.clips.frames[self.teacher.fold.validation[:SAMPLE_CLIPS]],
                recipe=[step.model_dump() for step in variant.recipe], way=way, rewrites=rewrites,
            )  # fmt: skip

    def _extractor_rewrite(self, wish: config.Quantize) -> bundle.Rewrite:
        """One per wish: the same graph is then calibrated once for all variants that ask alike."""
        key = digest(wish.model_dump())
        if key not in self.extractor_rewrites:
            # Evenly over the training clips, and over the time within a clip.
            rows = self.teacher.fold.train[np.linspace(0, len(self.teacher.fold.train) - 1, wish.calibration_clips).astype(int)]
            frames = self.teacher.preprocess(self.clips.frames[rows])
            chosen = frames[:, :: max(1, frames.shape[1] // CALIBRATION_FRAMES)].reshape(-1, *frames.shape[2:])
            self.extractor_rewrites[key] = quantize.extractor_rewrite(chosen, quantize.this_cpu_bits())
        return self.extractor_rewrites[key]

    def _extractor_bytes(self, variant: config.Variant) -> int:
        rewrite = next(
            (self._extractor_rewrite(step) for step in variant.recipe if isinstance(step, config.Quantize) and step.part == "extractor"), None
        )
        return bundle.extractor_bytes(self.teacher.network.extractor, self.inputs.preprocess.channels, self.inputs.size, rewrite)

    def _predictor_bytes(self, predictor: nn.Module, wishes: tuple[config.Quantize, ...]) -> int:
        channels, height, width = self.feature_map
        quantized = any(wish.part == "predictor" for wish in wishes)
        rewrite = quantize.predictor_rewrite(quantize.this_cpu_bits()) if quantized else None
        return bundle.predictor_bytes(predictor, self.inputs.frames, channels * height * width, rewrite)
