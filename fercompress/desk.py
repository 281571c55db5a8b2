"""What all that is made from one teacher has in common: the teacher, the clips, the study's wishes, and where finished work lies."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from fercompress import config
from fercompress.export.rknn_toolkit import Converter
from fercompress.model import optimise, train
from fercompress.model.zoo import Network
from fercompress.progress import Reporter
from fercompress.records import Clips, Float32, Fold, Int64, Preprocess
from fercompress.workspace import Workspace

CALIBRATION_FRAMES = 4  # of each calibration clip, evenly spaced


@dataclass(frozen=True)
class Teacher:
    """A trained dense network (in evaluation mode) and all that its compression needs to know."""

    network: Network
    preprocess: Preprocess
    trained: optimise.Trained
    key: str
    seed: int
    fold: Fold


@dataclass(frozen=True)
class Desk:
    """What all that is made from one teacher has in common.

    name: " (seed 1, fold 2)", as far as there is a choice
    engines: variant -> that its bundle is made for, None: onnxruntime for all; converter: for extractors on the NPU
    """

    workspace: Workspace
    study: config.Study
    clips: Clips
    teacher: Teacher
    tell: Reporter
    name: str
    engines: Mapping[str, str] | None = None
    converter: Converter | None = None

    def engine(self, variant: str) -> str:
        return "onnxruntime" if self.engines is None else self.engines[variant]

    @functools.cached_property
    def class_weights(self) -> Tensor | None:
        if not self.study.train.class_weights:
            return None
        return train.class_weights(self.clips.labels[self.teacher.fold.train], len(self.clips.classes))

    def frames(self, rows: Int64) -> Float32:
        """Some evenly spaced frames of the clips `rows`, preprocessed: float32 (n, channels, H, W)."""
        frames = self.teacher.preprocess(self.clips.frames[rows])
        return frames[:, :: max(1, frames.shape[1] // CALIBRATION_FRAMES)].reshape(-1, *frames.shape[2:])

    def calibration(self, clips: int, rows: Int64) -> Float32:
        """`frames` of so many clips, evenly over `rows`."""
        return self.frames(evenly(rows, clips))

    def fitted(self, folder: Path, what: str, epochs: int, fit: Callable[[Path, optimise.EpochDone], optimise.Trained]) -> optimise.Trained:
        """A training found in `folder`, or done now with a bar and kept there. fit: from a checkpoint's path and what to call after an epoch"""
        trained = optimise.load_trained(folder)
        if trained is None:
            with self.tell.stage(f"{what}{self.name}", epochs) as bar:
                trained = fit(
                    folder / "checkpoint", lambda done, of, history: bar.done(done, of, f"validation {history.validation_accuracy[-1]:.1%}")
                )
            optimise.save_trained(trained, folder)
            (folder / "checkpoint").unlink(missing_ok=True)
        return trained


def evenly(rows: Int64, count: int) -> Int64:
    """So many of the rows at most, evenly spaced."""
    chosen: Int64 = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
    return chosen
