"""Layers that store their matrices as tensor trains: `TTLSTM` is called as `nn.LSTM` is, and keeps its state as it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fercompress.errors import ModelError, ShapeError
from fercompress.tt import cores as train
from fercompress.tt.decompose import tt_svd, weighted_tt_svd
from fercompress.tt.shape import TTShape
from fercompress.tt.weights import DenseWeight, TTWeight


class Operands(NamedTuple):
    """What `TTLSTM` runs: an ordinary LSTM, behind a projection of the input's last factor where the layout is asymmetric.

    projection: (last input factor, rank) or None; w_ih: (4H, inner input size); w_hh: (4H, H)
    """

    projection: Tensor | None
    w_ih: Tensor
    w_hh: Tensor


class TTLSTM(nn.Module):
    """One layer of `nn.LSTM`, whose input-to-hidden or hidden-to-hidden matrix, or both, are trains; all four gates (i, f, g, o) share one.

    Storage and execution are apart: an asymmetric input train runs as one skinny projection before a small LSTM, any other train is merged to
    the dense matrix first. Either way the recurrence is torch's own fused kernel, and the merge is part of the graph, so the cores learn.
    Stores one bias vector (4H), the sum of the two that `nn.LSTM` has.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        input_shape: TTShape | None,
        hidden_shape: TTShape | None,
        *,
        bias: bool = True,
        batch_first: bool = False,
    ) -> None:
        """A random start: gates of a unit-variance input have about variance 1, forget gates start open. raises: ShapeError"""
        super().__init__()
        for name, shape, columns in (("input", input_shape, input_size), ("hidden", hidden_shape, hidden_size)):
            if shape is not None and (shape.rows, shape.columns) != (4 * hidden_size, columns):
                raise ShapeError(
                    f"the {name}-to-hidden matrix is ({4 * hidden_size}, {columns}), but outputs {shape.outputs} x inputs {shape.inputs} "
                    f"multiply to ({shape.rows}, {shape.columns})"
                )
        if input_shape is None and hidden_shape is None:
            raise ShapeError("a TTLSTM needs at least one matrix in tensor-train form: give input_shape, hidden_shape or both")
        self.input_size, self.hidden_size, self.batch_first = input_size, hidden_size, batch_first
        self.input = self._start(input_shape, input_size, 1 / input_size)
        self.hidden = self._start(hidden_shape, hidden_size, 1 / (3 * hidden_size))
        self.kernel_bits = 8
        self.bias = nn.Parameter(torch.cat([torch.zeros(hidden_size), torch.ones(hidden_size), torch.zeros(2 * hidden_size)])) if bias else None

    def _start(self, shape: TTShape | None, columns: int, variance: float) -> TTWeight | DenseWeight:
        if shape is not None:
            return TTWeight(shape, train.random(shape, variance))
        return DenseWeight(torch.randn(4 * self.hidden_size, columns) * variance**0.5)

    @classmethod
    def from_dense(
        cls,
        lstm: nn.LSTM,
        input_shape: TTShape | None,
        hidden_shape: TTShape | None,
        backend: str = "gram",
        input_moments: Sequence[Tensor] | None = None,
        hidden_moments: Sequence[Tensor] | None = None,
    ) -> TTLSTM:
        """The TT-SVD of a dense LSTM's matrices.

        input_moments, hidden_moments: of the features and of the hidden states, from `decompose.input_moments`; None: all inputs weigh the same
        raises: ShapeError, ModelError if the LSTM has several layers, two directions or a projection
        """
        check_supported(lstm)
        bias = bool(lstm.bias)
        with torch.random.fork_rng(devices=[]):  # the random start is thrown away: it must not move the caller's random numbers
            layer = cls(lstm.input_size, lstm.hidden_size, input_shape, hidden_shape, bias=bias, batch_first=lstm.batch_first)
        for part, name, moments in (("input", "weight_ih_l0", input_moments), ("hidden", "weight_hh_l0", hidden_moments)):
            dense = lstm.get_parameter(name)
            weight = getattr(layer, part)
            if isinstance(weight, TTWeight):
                shape = weight.shape
                cores = tt_svd(dense, shape, backend) if moments is None else weighted_tt_svd(dense, shape, moments, backend)
                setattr(layer, part, TTWeight(shape, cores))
            else:
                setattr(layer, part, DenseWeight(dense))
        if layer.bias is not None:
            layer.bias = nn.Parameter((lstm.get_parameter("bias_ih_l0") + lstm.get_parameter("bias_hh_l0")).detach())
        return layer.to(lstm.get_parameter("weight_ih_l0").device).train(lstm.training)

    def to_dense(self) -> nn.LSTM:
        """The `nn.LSTM` that computes the same."""
        with torch.random.fork_rng(devices=[]):
            lstm = nn.LSTM(self.input_size, self.hidden_size, bias=self.bias is not None, batch_first=self.batch_first)
        with torch.no_grad():
            for name, weight in (("weight_ih_l0", self.input), ("weight_hh_l0", self.hidden)):
                lstm.get_parameter(name).copy_(weight.dense())
            if self.bias is not None:
                lstm.get_parameter("bias_ih_l0").copy_(self.bias)
                lstm.get_parameter("bias_hh_l0").zero_()
        return lstm.train(self.training)

    @property
    def execution(self) -> str:
        """How the trains run, apart from how they are stored."""
        asymmetric = isinstance(self.input, TTWeight) and self.input.shape.asymmetric
        return "asymmetric: projection, then a small LSTM" if asymmetric else "dense: merged before use"

    @property
    def stored_numbers(self) -> int:
        return self.input.stored_numbers + self.hidden.stored_numbers + (0 if self.bias is None else self.bias.numel())

    @property
    def quantized(self) -> bool:
        return self.input.quantized

    @property
    def bits(self) -> int:
        """Of one stored weight: 32, 8 or 4."""
        return self.input.bits

    def quantize_(self, kernel_bits: int = 8, bits: int = 8) -> None:
        """Round both matrices in place: the cores of a train, the numbers of what stayed dense. The bias is rounded to float16.

        kernel_bits: of the merged weights when an exported layer runs: 7 where the CPU's 8-bit products saturate
        bits: of what is stored, 8 or 4
        raises: ShapeError for other bits
        """
        self.input.quantize_(bits)
        self.hidden.quantize_(bits)
        self.kernel_bits = kernel_bits
        if self.bias is not None:
            self.bias = nn.Parameter(self.bias.detach().half().float(), requires_grad=False)

    def operands(self) -> Operands:
        if not (isinstance(self.input, TTWeight) and self.input.shape.asymmetric):
            return Operands(None, self.input.dense(), self.hidden.dense())
        *first, last = self.input.tensors()
        # (1, 4H, N1, r): the rank index stays beside the inputs, as the projected features have it.
        return Operands(last[:, 0, :, 0].T, train.merge(first).reshape(4 * self.hidden_size, -1), self.hidden.dense())

    @property
    def description(self) -> dict[str, Any]:
        """How the layer is stored and executed, for a manifest."""
        parts: dict[str, dict[str, Any]] = {}
        for name, weight in (("input", self.input), ("hidden", self.hidden)):
            dtype = f"int{weight.bits}" if weight.quantized else "float32"
            if not isinstance(weight, TTWeight):
                parts[name] = {"storage": f"dense, {dtype}", "shape": list(weight.sizes[0])}
                continue
            shape = weight.shape
            parts[name] = {
                "storage": f"{'asymmetric' if shape.asymmetric else 'balanced'} tensor train, {dtype} cores",
                "outputs": list(shape.outputs),
                "inputs": list(shape.inputs),
                "ranks": list(shape.ranks),
            }
            if shape.padding:
                parts[name]["padding"] = shape.padding
        return {"kind": "TTLSTM", "hidden_size": self.hidden_size, "execution": self.execution, "stored_numbers": self.stored_numbers, **parts}

    def forward(self, sequence: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """sequence: float32 (B, T, D), or (T, B, D) without batch_first, or (T, D); state: h and c, (1, B, H) each, or (1, H), or None for zeros.

        returns: the hidden states of all steps, like sequence with H last, and the last (h, c), shaped like state
        raises: ModelError for a packed sequence, ShapeError for another number of features
        """
        if not isinstance(sequence, Tensor):
            raise ModelError(f"TTLSTM takes a plain tensor, not {type(sequence).__name__}: pad the sequences to one length instead of packing them")
        if sequence.ndim not in (2, 3) or sequence.shape[-1] != self.input_size:
            raise ShapeError(f"TTLSTM expects (batch, time, {self.input_size}) or (time, {self.input_size}), got {tuple(sequence.shape)}")
        batched = sequence.ndim == 3
        if not batched:
            sequence = sequence.unsqueeze(0 if self.batch_first else 1)
            state = None if state is None else (state[0].unsqueeze(1), state[1].unsqueeze(1))
        if state is None:
            zeros = sequence.new_zeros(1, sequence.shape[0 if self.batch_first else 1], self.hidden_size)
            state = (zeros, zeros)
        projection, w_ih, w_hh = self.operands()
        if projection is not None:
            head = sequence.shape[:2]
            sequence = (sequence.reshape(*head, -1, projection.shape[0]) @ projection).reshape(*head, w_ih.shape[1])
        weights = [w_ih, w_hh] if self.bias is None else [w_ih, w_hh, self.bias, torch.zeros_like(self.bias)]
        states, hidden, cell = torch.lstm(sequence, state, weights, self.bias is not None, 1, 0.0, self.training, False, self.batch_first)
        if batched:
            return states, (hidden, cell)
        return states.squeeze(0 if self.batch_first else 1), (hidden.squeeze(1), cell.squeeze(1))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, batch_first={self.batch_first}, execution={self.execution!r}"


def check_supported(lstm: nn.LSTM) -> None:
    """raises: ModelError if a tensor train cannot stand in for this LSTM"""
    for what, found in (
        (f"{lstm.num_layers} layers", lstm.num_layers != 1),
        ("two directions", lstm.bidirectional),
        (f"a projection to {lstm.proj_size} numbers", lstm.proj_size != 0),
    ):
        if found:
            raise ModelError(f"the LSTM has {what}: only one layer, one direction and no projection can be put into tensor-train form")


def only_lstm(model: nn.Module) -> tuple[str, nn.LSTM | TTLSTM]:
    """The name and the module of the one LSTM that a predictor holds. raises: ModelError if there is none or more than one"""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.LSTM | TTLSTM)]
    if len(found) != 1:
        names = ", ".join(repr(name) for name, _ in found) or "none"
        raise ModelError(f"{type(model).__name__} must hold exactly one nn.LSTM; found {len(found)} ({names})")
    return found[0]


def replaced(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Put `module` in place of the submodule called `name`, in the model itself; returns the model, or the module where name is ''."""
    if not name:
        return module
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
    return model
