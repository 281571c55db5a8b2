"""Distillation: a student's and a teacher's logits in, one loss out (Hinton, Vinyals, Dean 2015)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def loss(
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor,
    *,
    weight: float,
    temperature: float,
    class_weights: Tensor | None = None,
    states: tuple[Tensor, Tensor] | None = None,
    states_weight: float = 0.0,
) -> Tensor:
    """The labels' cross-entropy and the teacher's soft labels, mixed: a 0-d tensor.

    logits, teacher_logits: float32 (B, classes); labels: int64 (B,); weight: of the soft labels, 0..1, the rest is the labels'
    temperature: divides both sides' logits; the soft part is multiplied by its square, so that its gradient keeps its size (Hinton et al., sec. 2)
    states: the student's and the teacher's hidden states, equal shapes, whose mean squared distance counts with states_weight
    """
    hard = functional.cross_entropy(logits, labels, weight=class_weights)
    if weight == 0 and states is None:
        return hard
    with torch.no_grad():
        target = functional.softmax(teacher_logits / temperature, dim=1)
    soft = functional.cross_entropy(logits / temperature, target) - functional.cross_entropy(target.log().clamp_min(-100), target)
    mixed = (1 - weight) * hard + weight * temperature**2 * soft
    if states is not None and states_weight:
        mixed = mixed + states_weight * functional.mse_loss(states[0], states[1].detach())
    return mixed
