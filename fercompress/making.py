"""From clips to bundles: for every seed and fold one teacher, and from it one bundle per variant; what is finished is found, not made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fercompress import config
from fercompress.compress import lowrank, tensorize
from fercompress.desk import Desk, Teacher
from fercompress.errors import ModelError, ShapeError
from fercompress.export.rknn_toolkit import Converter
from fercompress.extraction import map_shape
from fercompress.made import Made, Unmade
from fercompress.model import inference, optimise, train, weights, zoo
from fercompress.progress import Reporter
from fercompress.records import Clips, Fold, digest
from fercompress.workbench import Workbench
from fercompress.workspace import Workspace


def check(study: config.Study) -> None:
    """Refuse, before the long work, a model that does not run and recipes that do not fit it. raises: StudyError, ModelError, ShapeError"""
    channels = 2 if study.data.difference else 1
    network = _sketch(study)
    train.device_for(study.train.device)
    feature_map = map_shape(network.extractor, channels, study.data.size)
    fitting: list[config.Step] = []  # steps that several variants have are tried once
    for variant in study.variants:
        for step in variant.recipe:
            if step in fitting:
                continue
            fitting.append(step)
            try:
                if isinstance(step, config.TensorTrain):
                    tensorize.shapes(step, tensorize.dense_lstm(network.predictor)[1], feature_map[0])
                elif isinstance(step, config.Bottleneck) and step.rank > feature_map[0]:
                    raise ShapeError(f"bottleneck rank {step.rank} is above the feature map's {feature_map[0]} channels")
                elif isinstance(step, config.LowRank):
                    lowrank.low_rank(network.extractor, step.ratio, torch.rand(2, channels, study.data.size, study.data.size))
            except (ShapeError, ModelError) as error:
                raise type(error)(f"variant {variant.name!r}: {error}") from error


def step_s(study: config.Study) -> tuple[float, float]:
    """Seconds per clip of one training step of the teacher, and of a compressed predictor on ready features: timed now, on eight random clips."""
    data, clips = study.data, 8
    channels = 2 if data.difference else 1
    network = _sketch(study)
    frames = torch.rand(clips, data.frames, channels, data.size, data.size)
    features = inference.features_of(network.extractor, frames).detach()
    step = config.TensorTrain(step="tensor-train", rank=1, start="from-scratch")
    try:
        compressed = tensorize.tensorize(network.predictor, step, 1, lambda: (features, features), lambda _: 0.0)
    except ModelError:  # this LSTM stays dense in every variant, or `check` would have refused the recipe
        compressed = network.predictor

    def seconds(step: Callable[[], Tensor]) -> float:
        durations = []
        for _ in range(3):
            start = time.perf_counter()
            step().sum().backward()  # type: ignore[no-untyped-call]
            durations.append(time.perf_counter() - start)
        return min(durations) / clips

    return seconds(lambda: inference.forward(network, frames)), seconds(lambda: compressed(features))


def _sketch(study: config.Study) -> zoo.Network:
    """The study's network before its clips are read: of two classes, since nobody knows how many there are.

    So weights of a whole model are only read here, and fitted when the teacher begins; those of an extractor are fitted now. raises: ModelError
    """
    model = study.model
    if model.weights is not None and model.weights_part is None:
        weights.read(Path(model.weights))
        model = model.model_copy(update={"weights": None})
    return zoo.build(model, 2 if study.data.difference else 1, study.data.size, study.data.frames, 2, study.train.dropout, seed=0)


class Maker:
    """Makes teachers and bundles in a workspace; each method is idempotent.

    engines: variant -> that its bundle is made for, "a" or "a+b" (a's extractor, b's predictor); a variant that is not among them is not made;
        None: onnxruntime for all
    converter: for extractors on the NPU
    """

    def __init__(
        self, workspace: Workspace, study: config.Study, clips: Clips, folds: list[Fold], tell: Reporter,
        engines: Mapping[str, str] | None = None, converter: Converter | None = None,
    ) -> None:  # fmt: skip
        self.workspace, self.study, self.clips, self.folds, self.tell = workspace, study, clips, folds, tell
        self.engines, self.converter = engines, converter

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
        key = self._teacher_key(seed, fold)
        folder = self.workspace.work("teacher", key)
        trained = optimise.load_trained(folder)
        if trained is None:
            with self.tell.stage(f"train the teacher{self.name(seed, fold)}", study.train.epochs) as bar:
                trained = train.fit(
                    network, clips, fold, preprocess, study.train, seed, folder / "checkpoint",
                    lambda done, of, history: bar.done(done, of, f"validation {history.validation_accuracy[-1]:.1%}"),
                )  # fmt: skip
            optimise.save_trained(trained, folder)
            (folder / "checkpoint").unlink(missing_ok=True)
        both = nn.ModuleDict({"extractor": network.extractor, "predictor": network.predictor})
        both.load_state_dict(trained.best)
        # As training leaves it: the last digits of convolutions depend on the layout, and a teacher that is found must answer as one just trained.
        both.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Teacher(network, preprocess, trained, key, seed, fold)

    def teacher_folder(self, seed: int, fold: Fold) -> Path:
        """Where the teacher is kept, or would be."""
        return self.workspace.work("teacher", self._teacher_key(seed, fold))

    def _teacher_key(self, seed: int, fold: Fold) -> str:
        study, parts = self.study, [part.tolist() for part in (fold.train, fold.validation)]
        return digest(
            "teacher",
            self.clips.fingerprint,
            parts,
            study.data.difference,
            study.model.model_dump(),
            study.train.model_dump(),
            seed,
            _file(study.model.weights),
            *(("windows answer together",) if self.clips.windowed else ()),  # earlier, each was validated by itself
        )

    @property
    def wanted(self) -> list[config.Variant]:
        """The variants of which bundles are made, those first that others are as large as."""
        chosen = [variant for variant in self.study.variants if self.engines is None or variant.name in self.engines]
        return sorted(chosen, key=lambda variant: config.bytes_of(variant) is not None)

    def bench(self, seed: int, fold: Fold) -> Workbench:
        """Of one seed and fold, whose teacher is found or trained first."""
        teacher = self.teacher(seed, fold)
        return Workbench(Desk(self.workspace, self.study, self.clips, teacher, self.tell, self.name(seed, fold), self.engines, self.converter))

    def bundles(self, seed: int, fold: Fold) -> dict[str, Made | Unmade]:
        """What became of every variant of one seed and fold, in the study's order."""
        bench = self.bench(seed, fold)
        made: dict[str, Made | Unmade] = {}
        for variant in self.wanted:
            made[variant.name] = bench.make(variant, made)
        bench.clear()
        return {variant.name: made[variant.name] for variant in self.study.variants if variant.name in made}


def _file(path: str | None) -> str | None:
    """A file's content stands for it in a key: the name may stay while the weights change."""
    return None if path is None else digest(Path(path).read_bytes().hex())
