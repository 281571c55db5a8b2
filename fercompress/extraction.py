"""An extractor at work: the teacher's or a low-rank copy in, its cached features and its rounded form out."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from fercompress import config
from fercompress.compress import distill, fakequant, lowrank, quantize, static
from fercompress.desk import Desk, evenly
from fercompress.errors import InputError
from fercompress.export import bundle, onnx_file, packing, rknn_file
from fercompress.export.rknn_file import Converted, Rounding, Unconvertible
from fercompress.export.rknn_toolkit import REMEDY
from fercompress.model import imitate, inference, optimise
from fercompress.records import History, Int64, UInt8, digest

QAT_LOSS = 0.005  # of validation accuracy: more than this, and rounding alone is not good enough


@dataclass(frozen=True)
class RoundedExtractor:
    """An extractor whose exported graph `rewrite` rounds.

    extractor: the one it was made from, or one trained to bear rounding; report: what was tried and chosen, for a manifest
    """

    extractor: nn.Module
    rewrite: Callable[[onnx.ModelProto], onnx.ModelProto]
    report: dict[str, Any]


class Extraction:
    """One extractor; what is asked for is found or made."""

    def __init__(self, desk: Desk, step: config.LowRank | None) -> None:
        self.desk, self.step = desk, step
        study = desk.study
        # Features are the same wherever extractor, augmentation and copies are.
        self.key = desk.teacher.key if step is None else digest("extractor", desk.teacher.key, step.model_dump(), self._lesson)
        self.folder = desk.workspace.work("features", digest("features", self.key, study.train.augment.model_dump(), study.fine_tune.copies))
        self._rounded: dict[str, RoundedExtractor] = {}

    @property
    def _settings(self) -> config.Train:
        """How an extractor learns to imitate: as the teacher did, but shorter."""
        study = self.desk.study
        return study.train.model_copy(update={"epochs": study.fine_tune.extractor_epochs, "patience": study.fine_tune.extractor_epochs})

    @property
    def _lesson(self) -> list[object]:
        """All that a training by imitation depends on, beside the teacher and the student."""
        return [self._settings.model_dump(), self.desk.study.fine_tune.distill, self.desk.study.fine_tune.temperature]

    @functools.cached_property
    def _trained(self) -> tuple[nn.Module, History]:
        teacher = self.desk.teacher
        if self.step is None:
            return teacher.network.extractor, teacher.trained.history
        frames = torch.from_numpy(self.desk.calibration(32, teacher.fold.train))
        student = lowrank.low_rank(teacher.network.extractor, self.step.ratio, frames)
        trained = self._imitated(student, self.desk.workspace.work("extractor", self.key), f"train low-rank extractor, ratio {self.step.ratio:g}")
        return student.eval(), trained.history

    @property
    def extractor(self) -> nn.Module:
        """In evaluation mode."""
        return self._trained[0].eval()

    @property
    def history(self) -> History:
        return self._trained[1]

    @functools.cached_property
    def feature_map(self) -> tuple[int, int, int]:
        return map_shape(self.extractor, self.desk.teacher.preprocess.channels, self.desk.clips.frames.shape[2])

    @functools.cached_property
    def features(self) -> inference.Features:
        desk = self.desk
        with desk.tell.stage(f"cache features{desk.name}"):
            return inference.cache_features(
                self.extractor, desk.clips, desk.teacher.fold, desk.teacher.preprocess, desk.study.train.augment, desk.study.fine_tune.copies,
                desk.teacher.seed, self.folder,
            )  # fmt: skip

    @functools.cached_property
    def test_features(self) -> np.ndarray[Any, Any]:
        """float16 (N, T, D): for the figures in torch that stand beside the measured ones."""
        desk = self.desk
        with desk.tell.stage(f"features of the test clips{desk.name}"):
            return inference.cache_test_features(self.extractor, desk.clips, desk.teacher.fold.test, desk.teacher.preprocess, self.folder)

    def modelled_bytes(self, wishes: Sequence[config.Quantize]) -> int:
        """Of its exported file, before it is trained or rounded: what is not numbers stays as in float32, numbers take their bits."""
        wish = next((wish for wish in wishes if wish.part == "extractor"), None)
        numbers, text = self._weighed
        return text + math.ceil(numbers * (32 if wish is None else wish.mean_bits or wish.bits) / 8)

    @functools.cached_property
    def _weighed(self) -> tuple[int, int]:
        """Numbers of its untrained form, and the bytes of its file that are none."""
        desk = self.desk
        extractor = desk.teacher.network.extractor
        if self.step is not None:
            extractor = lowrank.low_rank(extractor, self.step.ratio, torch.from_numpy(desk.calibration(32, desk.teacher.fold.train)))
        content = bundle.extractor_bytes(extractor, desk.teacher.preprocess.channels, desk.clips.frames.shape[2], None)
        numbers = sum(parameter.numel() for parameter in extractor.parameters())
        return numbers, max(0, content - 4 * numbers)

    @functools.cached_property
    def graph(self) -> onnx.ModelProto:
        return self._graph(self.extractor)

    def rounded(self, wish: config.Quantize) -> RoundedExtractor:
        """Rounded as wished; where that alone costs more than half a point on the validation clips (or the study says so), trained to bear it."""
        key = digest(wish.model_dump())
        if key not in self._rounded:
            self._rounded[key] = self._round(wish, key)
        return self._rounded[key]

    def converted(self, wish: config.Quantize) -> Converted | Unconvertible:
        """As the NPU's file, found or made; one that could not be made is tried anew: a larger machine may do better.

        raises: InputError without a converter
        """
        desk, fold, converter = self.desk, self.desk.teacher.fold, self.desk.converter
        if converter is None:
            raise InputError(f"an extractor for the NPU cannot be converted here: {REMEDY}")
        assert wish.npu is not None
        graph = onnx_file.extractor_model(
            self.extractor, desk.teacher.preprocess.channels, desk.clips.frames.shape[2], opset=rknn_file.OPSET
        )  # fmt: skip
        rows = evenly(fold.train, wish.calibration_clips)
        rounding = Rounding(wish.npu)
        content = hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()
        calibration = [desk.clips.fingerprint, rows.tolist()] if wish.npu == "u8" else []
        key = digest("rknn", converter.toolkit, content, asdict(desk.teacher.preprocess), asdict(rounding), calibration)
        folder = desk.workspace.work("rknn", key)
        found = rknn_file.kept(folder, desk.teacher.preprocess)
        if found is not None:
            return found
        with desk.tell.stage(f"convert the extractor for the NPU, {wish.npu}{desk.name}"):
            return rknn_file.convert(graph, desk.clips.frames[rows], desk.teacher.preprocess, rounding, converter, folder)

    def _round(self, wish: config.Quantize, key: str) -> RoundedExtractor:
        desk, fold = self.desk, self.desk.teacher.fold
        calibration = desk.calibration(wish.calibration_clips, fold.train)
        held_out = desk.calibration(max(2, wish.calibration_clips // 2), fold.validation)

        def rounded(graph: onnx.ModelProto, mean_bits: float | None) -> static.Rounded:
            return static.rounded(graph, calibration, held_out, quantize.this_cpu_bits(), wish.bits, mean_bits)

        with desk.tell.stage(f"round the extractor{desk.name}"):
            plain = rounded(self.graph, wish.mean_bits)
        if wish.qat == "never":
            return RoundedExtractor(self.extractor, _rewrite(self.graph, plain.model), {**plain.report, "quantization_aware_training": "never"})
        before, after = (self._validated(graph) for graph in (self.graph, plain.model))
        report = {**plain.report, "validation_accuracy": {"float32": before, "rounded": after}}
        if wish.qat == "auto" and before - after <= QAT_LOSS:
            return RoundedExtractor(self.extractor, _rewrite(self.graph, plain.model), {**report, "quantization_aware_training": "not needed"})
        student = fakequant.rounding(self.extractor, plain.layer_bits, torch.from_numpy(calibration[:2]))
        self._imitated(
            student,
            desk.workspace.work("extractor", digest(self.key, "rounding", key, self._lesson)),
            f"train the extractor to bear {_bits(wish)} bits",
        )
        taught = fakequant.plain(student).eval()
        graph = self._graph(taught)
        # The layers' bits stay as they were trained for.
        again = static.rounded(graph, calibration, held_out, quantize.this_cpu_bits(), 8, None, plain.layer_bits)
        learned = self._validated(again.model)
        report["validation_accuracy"]["trained_and_rounded"] = learned
        if learned < after:
            return RoundedExtractor(self.extractor, _rewrite(self.graph, plain.model), {**report, "quantization_aware_training": "tried, not better"})
        report |= again.report
        return RoundedExtractor(taught, _rewrite(graph, again.model), {**report, "quantization_aware_training": "used"})

    def _imitated(self, student: nn.Module, folder: Path, what: str) -> optimise.Trained:
        """Trained to the teacher's features and answers, now or on an earlier day; the student holds the best epoch's weights afterwards."""
        desk, teacher, fine_tune = self.desk, self.desk.teacher, self.desk.study.fine_tune
        labels = torch.from_numpy(desk.clips.labels)

        def answer_loss(logits: Tensor, answers: Tensor, rows: Int64) -> Tensor:
            return distill.loss(
                logits, labels[rows], answers, weight=fine_tune.distill, temperature=fine_tune.temperature, class_weights=desk.class_weights
            )

        trained = desk.fitted(
            folder, what, self._settings.epochs,
            lambda checkpoint, epoch_done: imitate.fit_extractor(
                student, teacher.network, desk.clips, teacher.fold, teacher.preprocess, self._settings, answer_loss, teacher.seed, checkpoint,
                epoch_done,
            ),
        )  # fmt: skip
        student.load_state_dict(trained.best)
        return trained

    def _graph(self, extractor: nn.Module) -> onnx.ModelProto:
        return onnx_file.extractor_model(extractor, self.desk.teacher.preprocess.channels, self.desk.clips.frames.shape[2])

    def _validated(self, graph: onnx.ModelProto) -> float:
        """Validation accuracy of the teacher's predictor on what an extractor's graph makes of the clips, in the engine that will run it."""
        desk, fold = self.desk, self.desk.teacher.fold
        frames: UInt8 = desk.clips.frames[fold.validation]
        pixels = desk.teacher.preprocess(frames)
        stored = onnx_file.tidy(packing.packed(graph))  # what a bundle would hold
        features = static.outputs(stored, pixels.reshape(-1, *pixels.shape[2:])).reshape(*frames.shape[:2], -1)
        return inference.accuracy(inference.logits_of(desk.teacher.network.predictor, features), desk.clips.labels[fold.validation])


def map_shape(extractor: nn.Module, channels: int, size: int) -> tuple[int, int, int]:
    """(c, h, w) of the extractor's output."""
    with torch.no_grad():
        shape = extractor.eval()(torch.zeros(1, channels, size, size)).shape
    return int(shape[1]), int(shape[2]), int(shape[3])


def _rewrite(graph: onnx.ModelProto, rounded: onnx.ModelProto) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """From the graph that was rounded to its rounded form; any other graph is a defect of ours."""
    expected = graph.SerializeToString(deterministic=True)

    def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
        assert model.SerializeToString(deterministic=True) == expected, "this extractor is not the one that was rounded"
        copied = onnx.ModelProto()
        copied.CopyFrom(rounded)
        return copied

    return rewrite


def _bits(wish: config.Quantize) -> str:
    return f"{wish.bits}" if wish.mean_bits is None else f"{wish.mean_bits:g} (mean)"
