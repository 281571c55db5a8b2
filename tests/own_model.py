"""A model of one's own, as a user would write it: an extractor of two convolutions and a predictor that averages over time.

[model]
factory = "own_model:make"
"""

import torch
from torch import nn


class MeanPredictor(nn.Module):
    """LSTM over time; the classifier reads the mean of the hidden states: float32 (B, T, D) -> (B, classes)."""

    def __init__(self, features: int, hidden: int, classes: int):
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.memory = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        states, _ = self.memory(self.norm(features))
        return self.head(states.mean(1))


def make(channels: int, size: int, frames: int, classes: int, hidden: int):
    """Two nn.Modules: float32 (N, channels, size, size) -> (N, 12, size/8, size/8), and (B, frames, D) -> (B, classes)."""
    extractor = nn.Sequential(nn.Conv2d(channels, 8, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU())
    return extractor, MeanPredictor(12 * (size // 8) ** 2, hidden, classes)
