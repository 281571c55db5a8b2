"""The training loop: a module and the loss of a batch in, its weights at the best and at the last epoch out; stopped, it goes on where it was.

Every epoch draws its own random numbers from (seed, epoch), so that a resumed training ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import contextlib
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

from fercompress.records import History, Int64

EpochDone = Callable[[int, int, History], None]  # (epochs done, epochs at most, history so far)
State = dict[str, Tensor]
UNTRAINED = History((), (), ())
BEST = "best.safetensors"  # the best epoch's weights, in a finished training's folder


class Schedule(Protocol):
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
        return self.history.best_epoch < len(self.history.train_loss) - 1


def optimise(
    module: nn.Module, rows: Int64, batch_loss: Callable[[Int64, torch.Generator], Tensor], validation_accuracy: Callable[[], float],
    validation_clips: int, settings: Schedule, seed: int, checkpoint: Path, epoch_done: EpochDone, copies: int = 1,
) -> Trained:  # fmt: skip
    """AdamW, one-cycle learning rate, gradients clipped at norm 1, early stopping on validation accuracy.

    Without epochs the module stays as it starts.
    With `settings.average`, what is validated and kept is the running average over the steps, while the steps themselves go on from where they are.
    """
    if not settings.epochs:
        start_state = _snapshot(module)
        return Trained(start_state, start_state, UNTRAINED)
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
        generator = generator_of(seed, epoch)
        torch.manual_seed(seed * 1_000_003 + epoch)  # dropout draws from the global generator
        chosen = rows if copies == 1 else np.arange(shown) + shown * torch.randint(copies, (shown,), generator=generator).numpy()
        module.train()
        total = 0.0
        for batch in batches(chosen, settings.batch, generator):
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
    return Trained(load_file(folder / BEST), load_file(folder / "last.safetensors"), history)


def generator_of(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


def batches(rows: Int64, size: int, generator: torch.Generator) -> Iterator[Int64]:
    """Shuffled batches; a last batch of one clip is left out, since batch normalisation cannot use it."""
    shuffled = rows[torch.randperm(len(rows), generator=generator).numpy()]
    for start in range(0, len(rows), size):
        batch = shuffled[start : start + size]
        if len(batch) > 1 or len(rows) == 1:
            yield batch
