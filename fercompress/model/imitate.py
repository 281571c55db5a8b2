"""Train a compressed extractor to stand in for the teacher's: same features, and same answers of the teacher's predictor on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fercompress import config
from fercompress.model.augment import augmented
from fercompress.model.inference import accuracy, evaluating, features_of, logits_of
from fercompress.model.optimise import EpochDone, Trained, optimise
from fercompress.model.zoo import Network
from fercompress.records import Clips, Float32, Fold, Int64, Preprocess, UInt8

AnswerLoss = Callable[[Tensor, Tensor, Int64], Tensor]  # (logits, the teacher's logits, rows of the clips) -> scalar


def fit_extractor(
    student: nn.Module, teacher: Network, clips: Clips, fold: Fold, preprocess: Preprocess, settings: config.Train, answer_loss: AnswerLoss,
    seed: int, checkpoint: Path, epoch_done: EpochDone,
) -> Trained:  # fmt: skip
    """`student` is changed; the teacher is not. The loss is the features' squared error as a share of their variance, plus `answer_loss`.

    The validation accuracy, which chooses the epoch, is that of the teacher's predictor on the student's features.
    """
    teacher.extractor.eval()
    teacher.predictor.eval()
    frozen = [parameter for parameter in (*teacher.extractor.parameters(), *teacher.predictor.parameters()) if parameter.requires_grad]
    norms = [layer for layer in student.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def batch_loss(rows: Int64, generator: torch.Generator) -> Tensor:
        for layer in norms:
            layer.eval()  # the teacher's running figures hold for its stand-in; a batch's own would move the start away from them
        frames = augmented(clips.frames[rows], preprocess, settings.augment, generator)
        with torch.no_grad():
            target = features_of(teacher.extractor, frames)
            answers = teacher.predictor(target)
        features = features_of(student, frames)
        distance = functional.mse_loss(features, target) / target.var().clamp_min(1e-12)
        return distance + answer_loss(teacher.predictor(features), answers, rows)

    validated = clips.ids(fold.validation)

    def validation_accuracy() -> float:
        answers = logits_of(teacher.predictor, plain_features(student, clips.frames[fold.validation], preprocess))
        return accuracy(answers, clips.labels[fold.validation], validated)

    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        return optimise(student, fold.train, batch_loss, validation_accuracy, len(set(validated)), settings, seed, checkpoint, epoch_done)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def plain_features(extractor: nn.Module, frames: UInt8, preprocess: Preprocess, batch: int = 64) -> Float32:
    """uint8 (N, T, H, W) -> float32 (N, T, D), in evaluation mode and without augmentation."""
    with evaluating(extractor), torch.inference_mode():
        parts = [
            features_of(extractor, torch.from_numpy(preprocess(frames[start : start + batch])).clone()).numpy()
            for start in range(0, len(frames), batch)
        ]
    return np.concatenate(parts)
