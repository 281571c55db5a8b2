"""The recurrence of an LSTM whose input projections are ready: gates of all steps in, states of all steps out.

`torch.lstm` multiplies its input by a matrix itself; a projection that two small products make has no such matrix. This one is differentiable
(once), and its backward pass does per step only what depends on the step before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def recurrent_states(gates: Tensor, w_hh: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """gates: float (T, B, 4H), the projected inputs and the bias, in torch's order i, f, g, o; w_hh: (4H, H); hidden, cell: (B, H), the start.

    returns: the hidden states (T, B, H) of all steps, and the last hidden state and cell (B, H)
    """
    states, cell = _Recurrence.apply(gates, w_hh, hidden, cell)  # type: ignore[no-untyped-call]
    return states, states[-1], cell


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, w_hh: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        size = w_hh.shape[1]
        transposed = w_hh.T
        active, states, cells = torch.empty_like(gates), gates.new_empty(*gates.shape[:2], size), gates.new_empty(*gates.shape[:2], size)
        h, c = hidden, cell
        for gate, now, state, kept in zip(gates.unbind(), active.unbind(), states.unbind(), cells.unbind(), strict=True):
            torch.addmm(gate, h, transposed, out=now)
            i, f, g, o = now.chunk(4, 1)
            now[:, : 2 * size].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, c, out=kept).addcmul_(i, g)
            torch.tanh(kept, out=state).mul_(o)
            h, c = state, kept
        ctx.save_for_backward(active, states, cells, w_hh, hidden, cell)
        return states, c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_cell: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        active, states, cells, w_hh, hidden, cell = ctx.saved_tensors
        size = w_hh.shape[1]
        i, f, g, o = active.chunk(4, 2)
        squashed = cells.tanh()
        before = torch.cat([cell[None], cells[:-1]])
        # What a step's gradient is multiplied by does not depend on other steps' gradients: all of it at once.
        by_cell = torch.stack([g * i * (1 - i), before * f * (1 - f), i * (1 - g * g)], 2)  # (T, B, 3, H): gates i, f, g
        by_hidden = squashed * o * (1 - o)
        through = o * (1 - squashed * squashed)
        d_gates = torch.empty_like(active)
        dh, dc = d_states[-1], d_cell
        for step in range(len(active) - 1, -1, -1):
            dc = torch.addcmul(dc, dh, through[step])
            now = d_gates[step]
            torch.mul(by_cell[step], dc[:, None], out=now[:, : 3 * size].view(-1, 3, size))
            torch.mul(by_hidden[step], dh, out=now[:, 3 * size :])
            dc = dc * f[step]
            dh = torch.addmm(d_states[step - 1], now, w_hh) if step else now @ w_hh
        earlier = torch.cat([hidden[None], states[:-1]]).flatten(0, 1)
        return d_gates, d_gates.flatten(0, 1).T @ earlier, dh, dc
