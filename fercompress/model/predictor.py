"""Predictors: a clip's features in, one logit per class out."""

from __future__ import annotations

from torch import Tensor, nn


class LstmPredictor(nn.Module):
    """LSTM over time, linear classifier on the last hidden state: float32 (B, T, D) -> (B, classes)."""

    def __init__(self, features: int, hidden: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> Tensor:
        states, _ = self.lstm(features)
        logits: Tensor = self.classifier(self.dropout(states[:, -1]))
        return logits
