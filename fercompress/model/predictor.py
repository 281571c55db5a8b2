"""Predictors: a clip's features in, one logit per class out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fercompress.tt.recurrence import recurrent_states


class Lstm(nn.LSTM):
    """nn.LSTM(batch_first=True) of one layer, trained faster on a CPU: one product for all steps' inputs, then `recurrent_states`.

    A training step of D = 4096, H = 256, 32 clips of 16 frames took 205 ms so and 332 ms in oneDNN's operator (the least of twelve, one thread,
    AVX2). Without gradients, and on a GPU, it is torch's own.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden, batch_first=True)

    def forward(self, sequence: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # type: ignore[override]
        """sequence: float32 (B, T, D); state: two of (1, B, H); returns states (B, T, H), (last hidden, last cell), each (1, B, H)."""
        if not torch.is_grad_enabled() or sequence.device.type != "cpu":
            return super().forward(sequence, state)
        hidden, cell = state if state is not None else (sequence.new_zeros(1, len(sequence), self.hidden_size),) * 2
        weight_ih, weight_hh, bias_ih, bias_hh = self.all_weights[0]
        gates = functional.linear(sequence.transpose(0, 1), weight_ih, bias_ih + bias_hh)
        states, last_hidden, last_cell = recurrent_states(gates, weight_hh, hidden[0], cell[0])
        return states.transpose(0, 1), (last_hidden[None], last_cell[None])


class LstmPredictor(nn.Module):
    """LSTM over time, linear classifier on the last hidden state: float32 (B, T, D) -> (B, classes)."""

    def __init__(self, features: int, hidden: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = Lstm(features, hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> Tensor:
        states, _ = self.lstm(features)
        logits: Tensor = self.classifier(self.dropout(states[:, -1]))
        return logits
