"""Controls: plain small models that a tensor train must beat, trained like the variants and told beside them.

An asymmetric train starts with what is a 1x1 convolution to r channels, so `Bottleneck` is that convolution before a dense LSTM, with nothing
in TT form; `SmallDense` spends another variant's bytes on a dense LSTM over the pooled feature map.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from fercompress.errors import ModelError


class Bottleneck(nn.Module):
    """1x1 convolution of every feature map to `rank` channels, dense LSTM, linear classifier: float32 (B, T, D) -> (B, classes)."""

    def __init__(self, channels: int, positions: int, rank: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        # Features are channels last: a linear map of the last axis is the 1x1 convolution.
        self.channels = channels
        self.projection = nn.Linear(channels, rank, bias=False)
        self.lstm = nn.LSTM(positions * rank, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> Tensor:
        maps = features.reshape(*features.shape[:2], -1, self.channels)
        states, _ = self.lstm(self.projection(maps).flatten(2))
        logits: Tensor = self.classifier(self.dropout(states[:, -1]))
        return logits


class SmallDense(nn.Module):
    """Mean over the feature map's positions, dense LSTM, linear classifier: float32 (B, T, D) -> (B, classes)."""

    def __init__(self, channels: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.channels = channels
        self.lstm = nn.LSTM(channels, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> Tensor:
        pooled = features.reshape(*features.shape[:2], -1, self.channels).mean(2)
        states, _ = self.lstm(pooled)
        logits: Tensor = self.classifier(self.dropout(states[:, -1]))
        return logits


def largest_hidden(bytes_with: Callable[[int], int], budget_bytes: int) -> int:
    """The largest hidden size whose stored bytes are at most the budget, by doubling and halving: O(log H) exports.

    bytes_with: stored bytes of the model with that hidden size; must grow with it
    raises: ModelError if even one hidden unit is too large
    """
    if (smallest := bytes_with(1)) > budget_bytes:
        raise ModelError(f"no small dense model fits into {budget_bytes} bytes: with one hidden unit it takes {smallest}")
    fits, above = 1, 2
    while bytes_with(above) <= budget_bytes:
        fits, above = above, 2 * above
    while above - fits > 1:
        middle = (fits + above) // 2
        if bytes_with(middle) <= budget_bytes:
            fits = middle
        else:
            above = middle
    return fits
