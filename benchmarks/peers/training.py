"""A training step of a clip predictor in torch (forward, backward, Adam): the tensor-train LSTM against nn.LSTM and the best dense LSTM we can write.

All contestants start from the same matrix, see the same batch and use the same fused Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fercompress.model.predictor import LstmPredictor
from fercompress.tt import shape as tt_shape
from fercompress.tt.layers import TTLSTM
from peers.contest import Contest, Difference

OURS, PLAIN = "fercompress TTLSTM", "torch nn.LSTM"
NATIVE, STEPS, FUSED = "nn.LSTM without oneDNN", "one GEMM, then autograd steps", "one GEMM, then own recurrence"
BEST_DENSE = (NATIVE, STEPS, FUSED)
CLASSES = 7


def contest(features: int, hidden: int, rank: int, last: int | None, frames: int, batch: int) -> Contest:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours = TTLSTM(features, hidden, tt_shape.asymmetric(4 * hidden, features, rank, last=last), None, batch_first=True)
    head = nn.Linear(hidden, CLASSES)
    sequence, labels = torch.randn(batch, frames, features).relu_(), torch.randint(CLASSES, (batch,))
    layers = {
        OURS: ours,
        PLAIN: ours.to_dense(),
        NATIVE: _WithoutOneDnn(ours.to_dense()),
        STEPS: _OneGemm(ours.to_dense(), _steps),
        FUSED: _OneGemm(ours.to_dense(), _Recurrence.apply),
    }
    networks = {name: predictor(layer, head, hidden) for name, layer in layers.items()}
    reference = _logits_and_gradient(networks[PLAIN], sequence, labels)
    differences = {}
    for name, network in networks.items():
        found = _logits_and_gradient(network, sequence, labels)
        largest = max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in zip(found, reference, strict=True))
        differences[name] = Difference("largest difference of logits and bias gradients from nn.LSTM, over the largest entry", largest, 1e-3)
    return Contest({name: step(network, sequence, labels) for name, network in networks.items()}, differences=differences)


def predictor(layer: nn.Module, head: nn.Linear, hidden: int) -> nn.Module:
    network: Any = LstmPredictor(1, hidden, CLASSES)
    network.lstm = layer
    network.classifier.load_state_dict(head.state_dict())
    return network.train()  # type: ignore[no-any-return]


def step(network: nn.Module, sequence: Tensor, labels: Tensor) -> Callable[[], object]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)

    def call() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(network(sequence), labels).backward()
        optimizer.step()

    return call


def _logits_and_gradient(network: Any, sequence: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    network.zero_grad()
    logits = network(sequence)
    functional.cross_entropy(logits, labels).backward()
    bias = next(parameter for name, parameter in network.lstm.named_parameters() if name.endswith(("bias", "bias_ih_l0")))
    gradient = bias.grad.clone()
    network.zero_grad()
    return logits.detach(), gradient


class _WithoutOneDnn(nn.Module):
    """torch's older kernels: one GEMM for all steps' inputs, then its fused cell."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, sequence: Tensor) -> tuple[Tensor, Any]:
        with torch.backends.mkldnn.flags(enabled=False):
            return self.lstm(sequence)  # type: ignore[no-any-return]


class _OneGemm(nn.Module):
    """All steps' inputs in one GEMM; `recurrence` maps (T, B, 4H) pre-activations and (4H, H) weights to (T, B, H) hidden states."""

    def __init__(self, lstm: nn.LSTM, recurrence: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.w_ih, self.w_hh = nn.Parameter(lstm.weight_ih_l0.detach()), nn.Parameter(lstm.weight_hh_l0.detach())
        self.bias = nn.Parameter(lstm.bias_ih_l0.detach() + lstm.bias_hh_l0.detach())
        self.recurrence = recurrence

    def forward(self, sequence: Tensor) -> tuple[Tensor, None]:
        inputs = functional.linear(sequence, self.w_ih, self.bias).transpose(0, 1)
        return self.recurrence(inputs, self.w_hh).transpose(0, 1), None


def _steps(inputs: Tensor, w_hh: Tensor) -> Tensor:
    h = c = inputs.new_zeros(inputs.shape[1], w_hh.shape[1])
    states = []
    for pre in inputs.unbind(0):
        i, f, g, o = torch.addmm(pre, h, w_hh.T).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states)


class _Recurrence(torch.autograd.Function):
    """The recurrence with its backward pass written by hand: no graph per step, and one GEMM for the gradient of w_hh."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, w_hh: Tensor) -> Tensor:
        steps, batch, _ = inputs.shape
        hidden = w_hh.shape[1]
        gates = torch.empty(steps, batch, 4 * hidden)
        states, cells = torch.zeros(steps + 1, batch, hidden), torch.zeros(steps + 1, batch, hidden)
        squashed = torch.empty(steps, batch, hidden)
        transposed = w_hh.T
        for t in range(steps):
            torch.addmm(inputs[t], states[t], transposed, out=gates[t])
            gates[t, :, : 2 * hidden].sigmoid_()
            gates[t, :, 2 * hidden : 3 * hidden].tanh_()
            gates[t, :, 3 * hidden :].sigmoid_()
            i, f, g, o = gates[t].chunk(4, 1)
            torch.mul(f, cells[t], out=cells[t + 1])
            cells[t + 1].addcmul_(i, g)
            torch.tanh(cells[t + 1], out=squashed[t])
            torch.mul(o, squashed[t], out=states[t + 1])
        context.save_for_backward(gates, states, cells, squashed, w_hh)
        return states[1:]

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        gates, states, cells, squashed, w_hh = context.saved_tensors
        gradient = torch.empty_like(gates)
        dh, dc = torch.zeros_like(states[0]), torch.zeros_like(states[0])
        for t in range(len(gates) - 1, -1, -1):
            i, f, g, o = gates[t].chunk(4, 1)
            di, df, dg, do = gradient[t].chunk(4, 1)
            dh = dh + upstream[t]
            dc = dc + dh * o * (1 - squashed[t].square())
            torch.mul(dh * squashed[t], o * (1 - o), out=do)
            torch.mul(dc * g, i * (1 - i), out=di)
            torch.mul(dc * cells[t], f * (1 - f), out=df)
            torch.mul(dc * i, 1 - g.square(), out=dg)
            dc = dc * f
            dh = gradient[t] @ w_hh
        return gradient, gradient.flatten(0, 1).T @ states[:-1].flatten(0, 1)
