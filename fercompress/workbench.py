"""One teacher's variants: a trained teacher and the study's recipes in, one bundle per variant out; what is finished is found, not made again."""

from __future__ import annotations

import copy
import functools
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fercompress import config
from fercompress.compress import distill, pruning, quantize, recipe
from fercompress.desk import Desk
from fercompress.export import bundle, onnx_file, onnx_pack
from fercompress.export.part import Rewrite
from fercompress.export.rknn_file import Converted, Unconvertible
from fercompress.extraction import Extraction, RoundedExtractor
from fercompress.made import Made, Unmade, stored_bytes
from fercompress.model import inference, optimise, train
from fercompress.model.zoo import Network
from fercompress.records import NOT_MADE, Bundle, History, Int64, digest
from fercompress.tt.place import only_lstm

SAMPLE_CLIPS = 4  # validation clips on which an exported file is compared with torch
SAMPLED_STEPS = 20_000  # of features and hidden states that a data-aware decomposition looks at


@dataclass(frozen=True)
class Sketched:
    """predictor: as it is before training; stored_bytes: of a bundle of it; features: what the predictor reads"""

    predictor: nn.Module
    stored_bytes: int
    features: inference.Features


class Workbench:
    """One teacher's extractors and the variants made from them."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._extractions: dict[str, Extraction] = {}

    def clear(self) -> None:
        """The features are large and quickly made again."""
        for extraction in self._extractions.values():
            shutil.rmtree(extraction.folder, ignore_errors=True)

    def make(self, variant: config.Variant, others: Mapping[str, Made | Unmade]) -> Made | Unmade:
        """The variant's bundle, found or made; others: what was made before it, for a control that is as large as another variant."""
        desk, extraction, engine = self.desk, self._extraction(recipe.low_rank_step(variant)), self.desk.engine(variant.name)
        like = config.bytes_of(variant)
        if like is not None and not isinstance(others.get(like), Made):
            return self._unmade(f"it is to be as large as {like}, which was not made")
        wanted_bytes = None if like is None else stored_bytes(others, like)
        structure = [step.model_dump() for step in recipe.predictor_steps(variant)]
        if like is not None:  # rounding decides how many units the bytes allow
            structure += [step.model_dump() for step in recipe.quantize_steps(variant)]
            structure.append({"engine": engine})
        settings = desk.study.fine_tune.model_dump() if structure else None
        trained_key = digest("variant", extraction.key, structure, settings, wanted_bytes)
        wish = config.npu_step(variant)
        toolkit = desk.converter.toolkit if wish is not None and desk.converter is not None else None
        bundle_key = digest(
            "bundle",
            bundle.GENERATION,
            engine,
            trained_key,
            variant.model_dump(),
            desk.study.fine_tune.model_dump(),
            quantize.this_cpu_bits(),
            toolkit,
        )
        index = desk.workspace.work("bundle", bundle_key).with_suffix(".json")
        found = desk.workspace.load_json(index)
        if found is not None and (desk.workspace.bundles / found["folder"]).is_dir():
            return self._found(found)
        converted = None if wish is None else extraction.converted(wish)
        if isinstance(converted, Unconvertible):
            log = "" if converted.log is None else f" (log: {converted.log.relative_to(desk.workspace.root.resolve())})"
            return self._unmade(f"its extractor cannot be converted for the NPU: {converted.reason}{log}")
        made = self._new(variant, extraction, others, trained_key, converted)
        facts = {
            "folder": made.bundle.folder.name, "way": made.way, "history": asdict(made.history), "train_epoch_s": made.train_epoch_s,
            "best_epoch_accuracy": made.best_epoch_accuracy, "last_epoch_accuracy": made.last_epoch_accuracy,
        }  # fmt: skip
        desk.workspace.save_json(index, facts)
        return made

    @property
    def feature_map(self) -> tuple[int, int, int]:
        """(c, h, w) of the teacher's extractor."""
        return self._extraction(None).feature_map

    def sketched(self, variant: config.Variant) -> Sketched:
        """Before anything is trained, on the teacher's own extractor; its own extractor's bytes are modelled. raises: ShapeError, ModelError"""
        own = self._extraction(None)
        torch.manual_seed(0)
        context = self._context(variant, own, {}, None)
        predictor, _ = recipe.apply(variant, self.desk.teacher.network.predictor, context, lambda untrained: untrained)
        wishes = recipe.quantize_steps(variant)
        bits = next((wish.bits for wish in wishes if wish.part == "predictor"), None)
        rounded = predictor if bits is None else quantize.rounded_cores(predictor, quantize.this_cpu_bits(), bits)
        size = self._predictor_bytes(rounded, wishes, own, self.desk.engine(variant.name))
        return Sketched(predictor, size + self._extraction(recipe.low_rank_step(variant)).modelled_bytes(wishes), own.features)

    def briefly(self, variant: config.Variant, epochs: int) -> float:
        """Validation accuracy (before rounding) of the variant's predictor after so many epochs; nothing is exported."""
        extraction = self._extraction(recipe.low_rank_step(variant))
        settings = self.desk.study.fine_tune.model_copy(update={"epochs": epochs, "patience": epochs})
        structure = [step.model_dump() for step in recipe.predictor_steps(variant)]
        key = digest("brief", extraction.key, structure, settings.model_dump())
        fitted: list[optimise.Trained] = []

        def fit(predictor: nn.Module) -> nn.Module:
            fitted.append(self._fit(f"{variant.name} briefly", predictor, extraction, key, settings))
            return predictor

        torch.manual_seed(int(key[:15], 16))
        recipe.apply(variant, self.desk.teacher.network.predictor, self._context(variant, extraction, {}, None), fit)
        history = fitted[-1].history
        return history.validation_accuracy[history.best_epoch]

    def _unmade(self, why: str) -> Unmade:
        return Unmade(self.desk.teacher.seed, self.desk.teacher.fold, f"{NOT_MADE}{why}")

    def _extraction(self, step: config.LowRank | None) -> Extraction:
        key = digest(None if step is None else step.model_dump())
        if key not in self._extractions:
            self._extractions[key] = Extraction(self.desk, step)
        return self._extractions[key]

    @functools.cached_property
    def _teacher_logits(self) -> Tensor:
        """float32 (copies * N, classes): the teacher's answers to the cached training features, its own extractor's."""
        return torch.from_numpy(inference.logits_of(self.desk.teacher.network.predictor, self._extraction(None).features.train))

    @functools.cached_property
    def _teacher_states(self) -> Tensor:
        """float16 (copies * N, T, H): the teacher's hidden states on the cached training features."""
        return torch.from_numpy(inference.states_of(self.desk.teacher.network.predictor, self._extraction(None).features.train))

    @functools.cached_property
    def _teacher_epoch_s(self) -> float:
        """Seconds of one epoch of the teacher's predictor on cached features: what they hold does not matter, so it is timed once."""
        teacher, features = self.desk.teacher, self._extraction(None).features
        return train.predictor_epoch_s(teacher.network.predictor, features, self.desk.study.fine_tune, teacher.seed)

    @functools.cached_property
    def _inputs(self) -> bundle.Inputs:
        clips = self.desk.clips
        frames, size = clips.frames.shape[1:3]
        return bundle.Inputs(self.desk.teacher.preprocess, frames, size, clips.classes)

    @functools.cached_property
    def _dense(self) -> bundle.DenseSize:
        return bundle.DenseSize.of(self.desk.teacher.network.extractor, self.desk.teacher.network.predictor, self._inputs)

    def _found(self, facts: dict[str, Any]) -> Made:
        teacher, history = self.desk.teacher, History.of(facts["history"])
        return Made(
            bundle.load(self.desk.workspace.bundles / facts["folder"]), teacher.seed, teacher.fold, facts["way"], history,
            facts["train_epoch_s"], facts["best_epoch_accuracy"], facts["last_epoch_accuracy"],
        )  # fmt: skip

    def _new(
        self, variant: config.Variant, extraction: Extraction, others: Mapping[str, Made | Unmade], key: str, npu: Converted | None
    ) -> Made:  # fmt: skip
        desk, teacher, network = self.desk, self.desk.teacher, self.desk.teacher.network
        fitted: list[optimise.Trained] = []

        def fit(predictor: nn.Module) -> nn.Module:
            fitted.append(self._fit(variant.name, predictor, extraction, key))
            predictor.load_state_dict(fitted[-1].best)
            return predictor

        # A random start depends on the seed and the recipe alone, not on what was made before: the key holds both.
        torch.manual_seed(int(key[:15], 16))
        predictor, way = recipe.apply(variant, network.predictor, self._context(variant, extraction, others, npu), fit)
        way += " with distillation" if fitted and desk.study.fine_tune.distill else ""
        labels = desk.clips.labels[teacher.fold.test]
        best = inference.accuracy(inference.logits_of(predictor, extraction.test_features), labels)
        if fitted:
            last = copy.deepcopy(predictor)
            last.load_state_dict(fitted[-1].last)
            last_accuracy = inference.accuracy(inference.logits_of(last, extraction.test_features), labels)
            epoch_s = float(np.median(fitted[-1].history.epoch_s))
        else:
            whole = extraction.step is None and teacher.trained.last_differs
            last_accuracy = self._last_teacher_accuracy(labels) if whole else best
            epoch_s = self._teacher_epoch_s
        history = fitted[-1].history if fitted else extraction.history
        return Made(self._export(variant, extraction, predictor, way, npu), teacher.seed, teacher.fold, way, history, epoch_s, best, last_accuracy)

    def _context(
        self, variant: config.Variant, extraction: Extraction, others: Mapping[str, Made | Unmade], npu: Converted | None
    ) -> recipe.Context:  # fmt: skip
        desk = self.desk
        return recipe.Context(
            feature_map=extraction.feature_map,
            classes=len(desk.clips.classes),
            dropout=desk.study.train.dropout,
            byte_budget=lambda name: stored_bytes(others, name) - self._extractor_bytes(variant, extraction, npu),
            predictor_bytes=lambda predictor, wishes: self._predictor_bytes(predictor, wishes, extraction, desk.engine(variant.name)),
            samples=lambda: self._samples(extraction),
            validation_loss=lambda predictor: self._validation_loss(predictor, extraction),
        )

    def _samples(self, extraction: Extraction) -> tuple[Tensor, Tensor]:
        """What the teacher's LSTM reads on the training clips: float32 (n, D) features, and (n, H) states before each step but the first."""
        features = extraction.features.train
        length = features.shape[1]
        rows = np.linspace(0, len(features) - 1, min(len(features), max(1, SAMPLED_STEPS // length))).astype(int)
        states = self._teacher_states[torch.from_numpy(rows)][:, :-1].float()
        return inference.rows_of(features, rows).flatten(0, 1), states.flatten(0, 1)

    @staticmethod
    def _validation_loss(predictor: nn.Module, extraction: Extraction) -> float:
        features = extraction.features
        logits = torch.from_numpy(inference.logits_of(predictor, features.validation))
        return float(functional.cross_entropy(logits, torch.from_numpy(features.validation_labels)))

    def _fit(
        self, name: str, predictor: nn.Module, extraction: Extraction, key: str, settings: config.FineTune | None = None
    ) -> optimise.Trained:  # fmt: skip
        """Trained on the cached features now, or on an earlier day; variants that differ in quantization alone share it."""
        fine_tune = settings or self.desk.study.fine_tune
        same_size = only_lstm(predictor)[1].hidden_size == only_lstm(self.desk.teacher.network.predictor)[1].hidden_size
        matched = same_size and fine_tune.match_states > 0

        def fit(checkpoint: Any, epoch_done: optimise.EpochDone) -> optimise.Trained:
            labels = torch.from_numpy(extraction.features.train_labels)

            def loss(logits: Tensor, states: Tensor, rows: Int64) -> Tensor:
                return distill.loss(
                    logits, labels[rows], self._teacher_logits[rows], weight=fine_tune.distill, temperature=fine_tune.temperature,
                    class_weights=self.desk.class_weights, states=(states, self._teacher_states[rows].float()) if matched else None,
                    states_weight=fine_tune.match_states,
                )  # fmt: skip

            return train.fit_predictor(predictor, extraction.features, fine_tune, loss, self.desk.teacher.seed, checkpoint, epoch_done)

        return self.desk.fitted(self.desk.workspace.work("variant", key), f"train {name}", fine_tune.epochs, fit)

    def _last_teacher_accuracy(self, labels: Int64) -> float:
        """Test accuracy of the teacher's last epoch, whose extractor is another one than the best epoch's."""
        teacher = self.desk.teacher
        both = nn.ModuleDict({"extractor": copy.deepcopy(teacher.network.extractor), "predictor": copy.deepcopy(teacher.network.predictor)})
        both.load_state_dict(teacher.trained.last)
        last = Network(both["extractor"], both["predictor"])
        return inference.accuracy(inference.predict(last, self.desk.clips.frames[teacher.fold.test], teacher.preprocess), labels)

    def _export(self, variant: config.Variant, extraction: Extraction, predictor: nn.Module, way: str, npu: Converted | None) -> Bundle:
        desk, teacher = self.desk, self.desk.teacher
        rewrites: dict[str, Rewrite] = {}
        rounded: RoundedExtractor | None = None
        predictor_bits = 32
        rounding: dict[str, Any] = {}
        for wish in recipe.quantize_steps(variant):
            if wish.npu is not None:
                rounding = {"npu": wish.npu, "by": "" if npu is None else npu.toolkit, "calibration_clips": wish.calibration_clips}
                way += f"; extractor converted for the NPU, {wish.npu}"
            elif wish.part == "extractor":
                rounded = extraction.rounded(wish)
                rewrites["extractor"] = rounded.rewrite
            else:
                predictor = quantize.rounded_cores(predictor, quantize.this_cpu_bits(), wish.bits)
                rewrites["predictor"] = _predictor_rewrite(wish)
                predictor_bits = wish.bits
        extractor = extraction.extractor if rounded is None else rounded.extractor
        if extraction.step is not None:
            way = f"low-rank convolutions trained to the teacher's features; predictor: {way}"
        if rounded is not None:
            rounding = rounded.report
        if rounded is not None and rounded.report["quantization_aware_training"] == "used":
            way += "; extractor trained to bear rounding"
        with desk.tell.stage(f"export {variant.name}{desk.name}"):
            plain = onnx_file.extractor_model(extractor, self._inputs.preprocess.channels, self._inputs.size)
            graphs = (plain, plain if rounded is None else rounded.rewrite(plain))
            return bundle.write(
                desk.workspace.bundles, variant.name, extractor, predictor, self._inputs, self._dense,
                desk.clips.frames[teacher.fold.validation[:SAMPLE_CLIPS]],
                recipe=[step.model_dump() for step in variant.recipe], way=way, rewrites=rewrites, engine=desk.engine(variant.name),
                predictor_bits=predictor_bits, npu=npu,
                checks={
                    "pruning_free": pruning.check((teacher.network.extractor, teacher.network.predictor), (extractor, predictor), graphs),
                    "rounding": rounding,
                },
            )  # fmt: skip

    def _extractor_bytes(self, variant: config.Variant, extraction: Extraction, npu: Converted | None) -> int:
        if npu is not None:
            return npu.path.stat().st_size
        rounded = next((extraction.rounded(wish) for wish in recipe.quantize_steps(variant) if wish.part == "extractor"), None)
        extractor, rewrite = (extraction.extractor, None) if rounded is None else (rounded.extractor, rounded.rewrite)
        return bundle.extractor_bytes(extractor, self._inputs.preprocess.channels, self._inputs.size, rewrite)

    def _predictor_bytes(self, predictor: nn.Module, wishes: tuple[config.Quantize, ...], extraction: Extraction, engine: str) -> int:
        channels, height, width = extraction.feature_map
        wish = next((wish for wish in wishes if wish.part == "predictor"), None)
        rewrite, bits = (None, 32) if wish is None else (_predictor_rewrite(wish), wish.bits)
        return bundle.predictor_bytes(predictor, self._inputs.frames, channels * height * width, rewrite, engine, bits)


def _predictor_rewrite(wish: config.Quantize) -> Rewrite:
    """A dense LSTM's operator to int8, then every other large matrix (the head's, a bottleneck's) to the wished bits."""
    operator = quantize.predictor_rewrite(quantize.this_cpu_bits())
    return lambda model: onnx_pack.matrices_packed(operator(model), wish.bits)
