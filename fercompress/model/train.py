"""Training: a network and clips in, its weights at the best and at the last epoch out; stopped training goes on where it was.

Every epoch draws its own random numbers from (seed, epoch), so that a resumed training ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from fercompress import config
from fercompress.errors import ModelError
from fercompress.model.extractor import flatten
from fercompress.model.zoo import Network
from fercompress.records import Clips, Float32, Fold, History, Int64, Preprocess, UInt8
from fercompress.tt.layers import only_lstm

EpochDone = Callable[[int, int, History], None]  # (epochs done, epochs at most, history so far)
State = dict[str, Tensor]
BatchLoss = Callable[[Tensor, Tensor, Int64], Tensor]  # (logits, hidden states (B, T, H), rows of the training clips) -> scalar


class _Schedule(Protocol):
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    patience: int
    average: float


@dataclass(frozen=True)
class Trained:
    """What one training left behind; `best` is chosen by validation accuracy alone."""

    best: State
    last: State
    history: History

    @property
    def last_differs(self) -> bool:
        return self.history.best_epoch != len(self.history.train_loss) - 1


def preprocess_for(clips: Clips, fold: Fold, difference: bool) -> Preprocess:
    """Mean and standard deviation of the training part's pixels (every fourth clip: the figures move by less than a thousandth)."""
    pixels = clips.frames[np.sort(fold.train)[::4]].astype(np.float32) / 255
    return Preprocess(mean=round(float(pixels.mean()), 6), std=round(max(float(pixels.std()), 1e-3), 6), difference=difference)


def class_weights(labels: Int64, classes: int) -> Tensor:
    """float32 (classes,): the inverse of each class's share, 1 on average over the clips; 0 for a class without clips."""
    counts = np.bincount(labels, minlength=classes)
    return torch.tensor(np.where(counts > 0, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0), dtype=torch.float32)


def forward(network: Network, frames: Tensor) -> Tensor:
    """frames: float32 (B, T, C, H, W) -> logits float32 (B, classes)."""
    logits: Tensor = network.predictor(features_of(network.extractor, frames))
    return logits


def features_of(extractor: nn.Module, frames: Tensor) -> Tensor:
    """frames: float32 (B, T, C, H, W) -> features float32 (B, T, D)."""
    batch, length = frames.shape[:2]
    return flatten(extractor(frames.flatten(0, 1))).reshape(batch, length, -1)


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

    def validation_accuracy() -> float:
        return accuracy(predict(network, clips.frames[fold.validation], preprocess, device), clips.labels[fold.validation])

    return optimise(both, fold.train, batch_loss, validation_accuracy, len(fold.validation), settings, seed, checkpoint, epoch_done)


def fit_predictor(
    predictor: nn.Module, features: Features, settings: config.FineTune, loss: BatchLoss, seed: int, checkpoint: Path, epoch_done: EpochDone
) -> Trained:
    """Train a predictor on cached features; `loss` gets logits, hidden states and the rows of `features.train` that they belong to."""

    def batch_loss(rows: Int64, _: torch.Generator) -> Tensor:
        with _recorded_states(predictor) as states:
            logits = predictor(rows_of(features.train, rows))
        return loss(logits, states[-1], rows)

    def validation_accuracy() -> float:
        return accuracy(logits_of(predictor, features.validation), features.validation_labels)

    # One epoch shows every training clip once, in one of its augmented copies.
    return optimise(
        predictor,
        np.arange(len(features.train_labels)),
        batch_loss,
        validation_accuracy,
        len(features.validation_labels),
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
    for rows in _batches(np.arange(len(labels) // features.copies), settings.batch, torch.Generator().manual_seed(seed)):
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(twin(rows_of(features.train, rows)), labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return time.perf_counter() - start


def predict(network: Network, frames: UInt8, preprocess: Preprocess, device: torch.device | None = None, batch: int = 64) -> Float32:
    """frames: uint8 (N, T, H, W) -> logits float32 (N, classes)."""
    with _evaluating(network.extractor), _evaluating(network.predictor), torch.inference_mode():
        parts = [
            forward(network, torch.from_numpy(preprocess(frames[start : start + batch])).clone().to(device)).float().cpu().numpy()
            for start in range(0, len(frames), batch)
        ]
    return np.concatenate(parts)


def logits_of(predictor: nn.Module, features: np.ndarray[Any, Any], batch: int = 128) -> Float32:
    """features: float (N, T, D) -> logits float32 (N, classes)."""
    with _evaluating(predictor), torch.inference_mode():
        parts = [
            predictor(rows_of(features, np.arange(start, min(start + batch, len(features))))).numpy() for start in range(0, len(features), batch)
        ]
    return np.concatenate(parts)


def states_of(predictor: nn.Module, features: np.ndarray[Any, Any], batch: int = 128) -> np.ndarray[Any, Any]:
    """features: float (N, T, D) -> the LSTM's hidden states, float16 (N, T, H)."""
    with _evaluating(predictor), torch.inference_mode(), _recorded_states(predictor) as states:
        for rows in np.split(np.arange(len(features)), range(batch, len(features), batch)):
            predictor(rows_of(features, rows))
    return np.concatenate([part.numpy().astype(np.float16) for part in states])


def accuracy(logits: Float32, labels: Int64) -> float:
    return float(np.mean(logits.argmax(1) == labels))


def rows_of(features: np.ndarray[Any, Any], rows: Int64) -> Tensor:
    """float32, in torch's own memory: numpy's is aligned by chance, and the last digits of a product depend on alignment."""
    return torch.from_numpy(np.asarray(features[rows])).to(torch.float32, copy=True)


@dataclass(frozen=True)
class Features:
    """A frozen extractor's features, float16 on disk: train (copies * N, T, D), copy by copy; validation (M, T, D)."""

    train: np.ndarray[Any, Any]
    train_labels: Int64
    validation: np.ndarray[Any, Any]
    validation_labels: Int64
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
        np.load(folder / "validation.npy", mmap_mode="r"), labels[fold.validation], copies,
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
    with _evaluating(extractor), torch.inference_mode():
        for copy_index in range(copies):
            generator = _generator(seed, 10_000 + copy_index)
            chosen = augment if copy_index else config.Augment()
            for start in range(0, len(rows), 64):
                batch = augmented(frames[rows[start : start + 64]], preprocess, chosen, generator)
                parts.append(features_of(extractor, batch).numpy().astype(np.float16))
    unfinished = path.with_suffix(".unfinished.npy")
    np.save(unfinished, np.concatenate(parts))
    os.replace(unfinished, path)


def augmented(frames: UInt8, preprocess: Preprocess, augment: config.Augment, generator: torch.Generator) -> Tensor:
    """uint8 (B, T, H, W) -> float32 (B, T, C, H, W): one random affine map per clip, the same for all its frames, and one pace."""
    if augment.pace:
        frames = _paced(frames, augment.pace, generator)
    if augment.model_copy(update={"pace": 0.0}) == config.Augment():
        return torch.from_numpy(preprocess(frames)).clone()  # into aligned memory, see rows_of
    batch, length, height, width = frames.shape

    def uniform(half_width: float) -> Tensor:
        return (torch.rand(batch, generator=generator) * 2 - 1) * half_width

    angle, scale = uniform(math.radians(augment.rotate_deg)), 1 + uniform(augment.scale)
    # grid_sample's coordinates run from -1 to 1: a shift by a share of the side is twice that share.
    shift_x, shift_y = uniform(2 * augment.shift), uniform(2 * augment.shift)
    mirror = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0) if augment.flip else torch.ones(batch)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([torch.stack([cosine * mirror, -sine, shift_x], 1), torch.stack([sine * mirror, cosine, shift_y], 1)], 1)
    grid = functional.affine_grid(theta, [batch, length, height, width], align_corners=False)
    moved = functional.grid_sample(torch.from_numpy(frames.astype(np.float32)), grid, padding_mode="border", align_corners=False)
    return torch.from_numpy(preprocess(moved.round().clamp(0, 255).to(torch.uint8).numpy())).clone()


def _paced(frames: UInt8, pace: float, generator: torch.Generator) -> UInt8:
    """uint8 (B, T, H, W) -> the same shape: each clip's frames at another pace, none of them blended, so that lines stay lines.

    Time u in 0..1 becomes u + s sin(pi u) with one s per clip within -pace..pace; up to 1/pi = 0.318 no time runs backwards.
    """
    time_ = torch.linspace(0, 1, frames.shape[1])
    strength = (torch.rand(len(frames), 1, generator=generator) * 2 - 1) * pace
    at = ((time_ + strength * torch.sin(math.pi * time_)) * (frames.shape[1] - 1)).round().long().clamp(0, frames.shape[1] - 1)
    paced: UInt8 = np.take_along_axis(frames, at.numpy()[:, :, None, None], axis=1)
    return paced


def mixing(batch: int, concentration: float, generator: torch.Generator) -> tuple[float, Tensor]:
    """A share in 0..1 from Beta(concentration, concentration), and a partner for each clip of a batch: int64 (batch,), a permutation."""
    entropy = int(torch.randint(2**62, (1,), generator=generator))  # torch's own Beta takes no generator
    return float(np.random.default_rng(entropy).beta(concentration, concentration)), torch.randperm(batch, generator=generator)


def device_for(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("train.device is 'cuda', but torch finds no CUDA device here; use 'cpu' or install a CUDA build of torch")
    return torch.device(name)


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


def _batches(rows: Int64, size: int, generator: torch.Generator) -> Iterator[Int64]:
    """Shuffled batches; a last batch of one clip is left out, since batch normalisation cannot use it."""
    shuffled = rows[torch.randperm(len(rows), generator=generator).numpy()]
    for start in range(0, len(rows), size):
        batch = shuffled[start : start + size]
        if len(batch) > 1 or len(rows) == 1:
            yield batch


def optimise(
    module: nn.Module, rows: Int64, batch_loss: Callable[[Int64, torch.Generator], Tensor], validation_accuracy: Callable[[], float],
    validation_clips: int, settings: _Schedule, seed: int, checkpoint: Path, epoch_done: EpochDone, copies: int = 1,
) -> Trained:  # fmt: skip
    """AdamW, one-cycle learning rate, gradients clipped at norm 1, early stopping on validation accuracy.

    With `settings.average`, what is validated and kept is the running average over the steps, while the steps themselves go on from where they are.
    """
    shown = len(rows) // copies
    steps = max(settings.epochs * math.ceil(shown / settings.batch), 12)  # OneCycleLR divides by zero below
    optimiser = torch.optim.AdamW(module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=settings.learning_rate, total_steps=steps + 1, pct_start=0.2)
    losses: list[float] = []
    accuracies: list[float] = []
    seconds: list[float] = []
    best: State = {}
    averaged: State = {}
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(saved["module"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        losses, accuracies, seconds = saved["losses"], saved["accuracies"], saved["seconds"]
        best, averaged = saved["best"], saved["averaged"]
    while len(losses) < settings.epochs and not _out_of_patience(accuracies, settings.patience):
        epoch = len(losses)
        start = time.perf_counter()
        generator = _generator(seed, epoch)
        torch.manual_seed(seed * 1_000_003 + epoch)  # dropout draws from the global generator
        chosen = rows if copies == 1 else np.arange(shown) + shown * torch.randint(copies, (shown,), generator=generator).numpy()
        module.train()
        total = 0.0
        for batch in _batches(chosen, settings.batch, generator):
            optimiser.zero_grad(set_to_none=True)
            loss = batch_loss(batch, generator)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item() * len(batch)
            if settings.average:
                averaged = running_average(averaged, module, settings.average)
        seconds.append(time.perf_counter() - start)
        losses.append(total / shown)
        with _holding(module, averaged):
            accuracies.append(validation_accuracy())
            if best_epoch(accuracies, validation_clips) == epoch:
                best = _snapshot(module)
        _save_atomically(
            checkpoint,
            {"module": module.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict(),
             "losses": losses, "accuracies": accuracies, "seconds": seconds, "best": best, "averaged": averaged},
        )  # fmt: skip
        epoch_done(epoch + 1, settings.epochs, _history(losses, accuracies, seconds, validation_clips))
    with _holding(module, averaged):
        last = _snapshot(module)
    return Trained(best, last, _history(losses, accuracies, seconds, validation_clips))


def _out_of_patience(accuracies: list[float], patience: int) -> bool:
    """Only a higher accuracy renews patience; an equal one does not, or a plateau would last for ever."""
    return bool(accuracies) and len(accuracies) - 1 - int(np.argmax(accuracies)) >= patience


def best_epoch(accuracies: list[float], validation_clips: int) -> int:
    """The latest epoch whose validation accuracy is within one standard error of the highest (the one-standard-error rule, Breiman et al. 1984).

    The highest of many noisy figures is high by luck: on 25 clips, early epochs of an unfinished learning-rate schedule win too often.
    """
    highest = max(accuracies)
    share = (highest * validation_clips + 1) / (validation_clips + 2)  # Laplace's: all clips right does not mean no error
    floor = highest - math.sqrt(share * (1 - share) / validation_clips)
    return max(epoch for epoch, accuracy in enumerate(accuracies) if accuracy >= floor)


def _history(losses: list[float], accuracies: list[float], seconds: list[float], validation_clips: int) -> History:
    return History(tuple(losses), tuple(accuracies), tuple(seconds), best_epoch(accuracies, validation_clips))


def running_average(averaged: State, module: nn.Module, decay: float) -> State:
    """averaged * decay + the module's state * (1 - decay); the state itself for an empty `averaged`, and for whole numbers.

    Batch normalisation's running figures are averaged as the weights are: so they belong to the weights that they stand beside.
    """
    state = module.state_dict()
    if not averaged:
        return {name: tensor.detach().clone() for name, tensor in state.items()}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            averaged[name].lerp_(tensor.detach(), 1 - decay)
        else:
            averaged[name].copy_(tensor)
    return averaged


@contextlib.contextmanager
def _holding(module: nn.Module, state: State) -> Iterator[None]:
    """The module with another state inside the block, with its own after it; an empty state changes nothing."""
    own = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()} if state else {}
    if state:
        module.load_state_dict(state)
    try:
        yield
    finally:
        if state:
            module.load_state_dict(own)


def _snapshot(module: nn.Module) -> State:
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}


def _save_atomically(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    torch.save(content, unfinished)
    os.replace(unfinished, path)


def save_trained(trained: Trained, folder: Path) -> None:
    """Write best.safetensors, last.safetensors and, last of all, history.json: the sign that the training is finished."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, state in (("best", trained.best), ("last", trained.last)):
        save_file(state, folder / f"{name}.unfinished")
        os.replace(folder / f"{name}.unfinished", folder / f"{name}.safetensors")
    (folder / "history.unfinished").write_text(json.dumps(asdict(trained.history)))
    os.replace(folder / "history.unfinished", folder / "history.json")


def load_trained(folder: Path) -> Trained | None:
    """The finished training in `folder`, or None."""
    if not (folder / "history.json").exists():
        return None
    history = History.of(json.loads((folder / "history.json").read_text()))
    return Trained(load_file(folder / "best.safetensors"), load_file(folder / "last.safetensors"), history)


@contextlib.contextmanager
def _recorded_states(predictor: nn.Module) -> Iterator[list[Tensor]]:
    """What the predictor's LSTM returns inside the block, one (B, T, H) tensor per call."""
    states: list[Tensor] = []
    handle = only_lstm(predictor)[1].register_forward_hook(lambda _module, _inputs, outputs: states.append(outputs[0]))
    try:
        yield states
    finally:
        handle.remove()


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside the block, the former mode after it."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
