"""What a network makes of clips, without training: features, logits and hidden states, and a frozen extractor's features kept on disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fercompress import config, stats
from fercompress.model.augment import augmented
from fercompress.model.extractor import flatten
from fercompress.model.optimise import generator_of
from fercompress.model.zoo import Network
from fercompress.records import Clips, Float32, Fold, Int64, Preprocess, UInt8
from fercompress.tt.place import only_lstm


def forward(network: Network, frames: Tensor) -> Tensor:
    """frames: float32 (B, T, C, H, W) -> logits float32 (B, classes)."""
    logits: Tensor = network.predictor(features_of(network.extractor, frames))
    return logits


def features_of(extractor: nn.Module, frames: Tensor) -> Tensor:
    """frames: float32 (B, T, C, H, W) -> features float32 (B, T, D)."""
    batch, length = frames.shape[:2]
    return flatten(extractor(frames.flatten(0, 1))).reshape(batch, length, -1)


def predict(network: Network, frames: UInt8, preprocess: Preprocess, device: torch.device | None = None, batch: int = 64) -> Float32:
    """frames: uint8 (N, T, H, W) -> logits float32 (N, classes)."""
    with evaluating(network.extractor), evaluating(network.predictor), torch.inference_mode():
        parts = [
            forward(network, torch.from_numpy(preprocess(frames[start : start + batch])).clone().to(device)).float().cpu().numpy()
            for start in range(0, len(frames), batch)
        ]
    return np.concatenate(parts)


def logits_of(predictor: nn.Module, features: np.ndarray[Any, Any], batch: int = 128) -> Float32:
    """features: float (N, T, D) -> logits float32 (N, classes)."""
    with evaluating(predictor), torch.inference_mode():
        parts = [
            predictor(rows_of(features, np.arange(start, min(start + batch, len(features))))).numpy() for start in range(0, len(features), batch)
        ]
    return np.concatenate(parts)


def states_of(predictor: nn.Module, features: np.ndarray[Any, Any], batch: int = 128) -> np.ndarray[Any, Any]:
    """features: float (N, T, D) -> the LSTM's hidden states, float16 (N, T, H)."""
    with evaluating(predictor), torch.inference_mode(), recorded_states(predictor) as states:
        for rows in np.split(np.arange(len(features)), range(batch, len(features), batch)):
            predictor(rows_of(features, rows))
    return np.concatenate([part.numpy().astype(np.float16) for part in states])


def accuracy(logits: Float32, labels: Int64, clip_ids: Sequence[str]) -> float:
    """Share (0..1) of the clips that are answered rightly; rows of one id are windows of one clip, and answer together, as in the results."""
    first, answers = stats.pooled(clip_ids, logits)
    return float(np.mean((answers.argmax(1) == labels[first]) & np.isfinite(answers).all(axis=1)))


def rows_of(features: np.ndarray[Any, Any], rows: Int64) -> Tensor:
    """float32, in torch's own memory: numpy's is aligned by chance, and the last digits of a product depend on alignment."""
    return torch.from_numpy(np.asarray(features[rows])).to(torch.float32, copy=True)


@dataclass(frozen=True)
class Features:
    """A frozen extractor's features, float16 on disk: train (copies * N, T, D), copy by copy; validation (M, T, D), with the clips of its rows."""

    train: np.ndarray[Any, Any]
    train_labels: Int64
    validation: np.ndarray[Any, Any]
    validation_labels: Int64
    validation_ids: tuple[str, ...]
    copies: int


def cache_features(
    extractor: nn.Module, clips: Clips, fold: Fold, preprocess: Preprocess, augment: config.Augment, copies: int, seed: int, folder: Path
) -> Features:
    """Compute them once, or find them in `folder`; the first copy is the plain clip, the others are augmented like the teacher's."""
    labels = clips.labels
    _features_file(folder / "train.npy", extractor, clips.frames, fold.train, preprocess, augment, copies, seed)
    _features_file(folder / "validation.npy", extractor, clips.frames, fold.validation, preprocess, augment, 1, seed)
    return Features(
        np.load(folder / "train.npy", mmap_mode="r"), np.tile(labels[fold.train], copies),
        np.load(folder / "validation.npy", mmap_mode="r"), labels[fold.validation], clips.ids(fold.validation), copies,
    )  # fmt: skip


def cache_test_features(extractor: nn.Module, clips: Clips, rows: Int64, preprocess: Preprocess, folder: Path) -> np.ndarray[Any, Any]:
    """float16 (len(rows), T, D), memory-mapped: for figures in torch beside the measured ones; nothing is trained or chosen on them."""
    _features_file(folder / "test.npy", extractor, clips.frames, rows, preprocess, config.Augment(), 1, 0)
    features: np.ndarray[Any, Any] = np.load(folder / "test.npy", mmap_mode="r")
    return features


def _features_file(
    path: Path, extractor: nn.Module, frames: UInt8, rows: Int64, preprocess: Preprocess, augment: config.Augment, copies: int, seed: int
) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    with evaluating(extractor), torch.inference_mode():
        for copy_index in range(copies):
            generator = generator_of(seed, 10_000 + copy_index)
            chosen = augment if copy_index else config.Augment()
            for start in range(0, len(rows), 64):
                batch = augmented(frames[rows[start : start + 64]], preprocess, chosen, generator)
                parts.append(features_of(extractor, batch).numpy().astype(np.float16))
    unfinished = path.with_suffix(".unfinished.npy")
    np.save(unfinished, np.concatenate(parts))
    os.replace(unfinished, path)


@contextlib.contextmanager
def recorded_states(predictor: nn.Module) -> Iterator[list[Tensor]]:
    """What the predictor's LSTM returns inside the block, one (B, T, H) tensor per call."""
    states: list[Tensor] = []
    handle = only_lstm(predictor)[1].register_forward_hook(lambda _module, _inputs, outputs: states.append(outputs[0]))
    try:
        yield states
    finally:
        handle.remove()


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside the block, the former mode after it."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
