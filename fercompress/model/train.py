"""Training: a network and clips in, its weights at the best and at the last epoch out. A teacher learns whole, a predictor on cached features."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fercompress import config
from fercompress.errors import ModelError
from fercompress.model.augment import augmented, mixing
from fercompress.model.inference import Features, accuracy, forward, logits_of, predict, recorded_states, rows_of
from fercompress.model.optimise import EpochDone, Trained, batches, optimise
from fercompress.model.zoo import Network
from fercompress.records import Clips, Fold, Int64, Preprocess

BatchLoss = Callable[[Tensor, Tensor, Int64], Tensor]  # (logits, hidden states (B, T, H), rows of the training clips) -> scalar


def preprocess_for(clips: Clips, fold: Fold, difference: bool) -> Preprocess:
    """Mean and standard deviation of the training part's pixels (every fourth clip: the figures move by less than a thousandth)."""
    pixels = clips.frames[np.sort(fold.train)[::4]].astype(np.float32) / 255
    return Preprocess(mean=round(float(pixels.mean()), 6), std=round(max(float(pixels.std()), 1e-3), 6), difference=difference)


def class_weights(labels: Int64, classes: int) -> Tensor:
    """float32 (classes,): the inverse of each class's share, 1 on average over the clips; 0 for a class without clips."""
    counts = np.bincount(labels, minlength=classes)
    return torch.tensor(np.where(counts > 0, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0), dtype=torch.float32)


def fit(
    network: Network, clips: Clips, fold: Fold, preprocess: Preprocess, settings: config.Train, seed: int, checkpoint: Path, epoch_done: EpochDone
) -> Trained:
    """Train extractor and predictor together with weighted cross-entropy. `network` is changed; load a state of the result before using it.

    With `settings.mixup`, two clips' pictures and two clips' losses are blended by one share per batch (Zhang et al. 2018).
    """
    device = device_for(settings.device)
    both = nn.ModuleDict({"extractor": network.extractor, "predictor": network.predictor}).to(device)
    both.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster convolutions on CPU
    weights = class_weights(clips.labels[fold.train], len(clips.classes)).to(device) if settings.class_weights else None
    labels = torch.from_numpy(clips.labels)

    def batch_loss(rows: Int64, generator: torch.Generator) -> Tensor:
        frames, targets = augmented(clips.frames[rows], preprocess, settings.augment, generator).to(device), labels[rows].to(device)
        if not settings.mixup:
            return functional.cross_entropy(forward(network, frames), targets, weights, label_smoothing=settings.label_smoothing)
        share, partners = mixing(len(rows), settings.mixup, generator)
        logits = forward(network, torch.lerp(frames[partners], frames, share))
        own, partner = (functional.cross_entropy(logits, t, weights, label_smoothing=settings.label_smoothing) for t in (targets, targets[partners]))
        return share * own + (1 - share) * partner

    validated = clips.ids(fold.validation)

    def validation_accuracy() -> float:
        return accuracy(predict(network, clips.frames[fold.validation], preprocess, device), clips.labels[fold.validation], validated)

    return optimise(both, fold.train, batch_loss, validation_accuracy, len(set(validated)), settings, seed, checkpoint, epoch_done)


def fit_predictor(
    predictor: nn.Module, features: Features, settings: config.FineTune, loss: BatchLoss, seed: int, checkpoint: Path, epoch_done: EpochDone
) -> Trained:
    """Train a predictor on cached features; `loss` gets logits, hidden states and the rows of `features.train` that they belong to."""

    def batch_loss(rows: Int64, _: torch.Generator) -> Tensor:
        with recorded_states(predictor) as states:
            logits = predictor(rows_of(features.train, rows))
        return loss(logits, states[-1], rows)

    def validation_accuracy() -> float:
        return accuracy(logits_of(predictor, features.validation), features.validation_labels, features.validation_ids)

    # One epoch shows every training clip once, in one of its augmented copies.
    return optimise(
        predictor,
        np.arange(len(features.train_labels)),
        batch_loss,
        validation_accuracy,
        len(set(features.validation_ids)),
        settings,
        seed,
        checkpoint,
        epoch_done,
        features.copies,
    )


def predictor_epoch_s(predictor: nn.Module, features: Features, settings: config.FineTune, seed: int) -> float:
    """Seconds that one epoch (forward, backward, AdamW) on cached features takes; the predictor itself is left as it was."""
    twin = copy.deepcopy(predictor)
    twin.train()
    optimiser = torch.optim.AdamW(twin.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    labels = torch.from_numpy(features.train_labels)
    start = time.perf_counter()
    for rows in batches(np.arange(len(labels) // features.copies), settings.batch, torch.Generator().manual_seed(seed)):
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(twin(rows_of(features.train, rows)), labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return time.perf_counter() - start


def device_for(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("train.device is 'cuda', but torch finds no CUDA device here; use 'cpu' or install a CUDA build of torch")
    return torch.device(name)
