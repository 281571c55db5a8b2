"""Augmentation on the fly: stored frames in, preprocessed and randomly moved ones out. Never on validation or test."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fercompress import config
from fercompress.records import Preprocess, UInt8


def augmented(frames: UInt8, preprocess: Preprocess, augment: config.Augment, generator: torch.Generator) -> Tensor:
    """uint8 (B, T, H, W) -> float32 (B, T, C, H, W): one random affine map per clip, the same for all its frames, one pace and one brightness."""
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
    if augment.brightness:  # drawn last, so that studies without it draw what they always drew
        moved = moved * (1 + uniform(augment.brightness))[:, None, None, None]
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
