"""One layer of an LSTM that stores its matrices as tensor trains: a batch of sequences and a state in, all states and the last one out."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from fercompress.errors import ShapeError
from fercompress.tt import cores as train
from fercompress.tt.contract import Halves, MergedOnce, halves, project
from fercompress.tt.decompose import tt_svd, weighted_tt_svd
from fercompress.tt.plan import Candidate, Plan
from fercompress.tt.recurrence import recurrent_states
from fercompress.tt.shape import TTShape
from fercompress.tt.weights import DenseWeight, TTWeight

EXECUTIONS = {
    "asymmetric": "asymmetric: projection, then a small LSTM",
    "two-gemm": "two-gemm: all steps by two products, then the recurrence",
    "dense": "dense: merged before use",
}
_plan = functools.lru_cache(maxsize=256)(lambda shape, steps, batch, training: Plan.for_lstm(shape, steps, batch, training=training))
# From so many columns on, `torch.lstm` is slower than one GEMM and our own recurrence: 1.1-2 times forward, 1.6-3 times with the backward pass
# (batches of 1 and 32, H 128 and 256; below 512 columns it is up to 3 times faster).
_WIDE = 1024


class Operands(NamedTuple):
    """What a layer runs: the parts of the input's product, and an ordinary LSTM's matrices.

    projection: what is contracted before `w_ih`: (last input factor, rank) of an asymmetric train, or None
    w_ih: (4H, inner input size), or None where `gates` makes all of the product; w_hh: (4H, H); gates: the halves of a two-GEMM product, or None
    """

    projection: Tensor | None
    w_ih: Tensor | None
    w_hh: Tensor
    gates: Halves | None = None


class TTLSTMLayer(nn.Module):
    """One layer of `nn.LSTM`, whose input-to-hidden or hidden-to-hidden matrix, or both, are trains; all four gates (i, f, g, o) share one.

    Storage and execution are apart: as `plan` finds cheapest, an asymmetric input train runs as one skinny projection before a small LSTM,
    another one by two products for all steps at once before the recurrence, and either may be merged to the dense matrix first. The merge is part
    of the graph, so the cores learn; without gradients it happens once, and again when a core has changed.
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
        self.input_size, self.hidden_size, self.batch_first = input_size, hidden_size, batch_first
        self.input = self._start(input_shape, input_size, 1 / input_size)
        self.hidden = self._start(hidden_shape, hidden_size, 1 / (3 * hidden_size))
        self.kernel_bits = 8
        self.fixed_plan: Plan | None = None  # e.g. of `measured_plan`; None: by the model of the cost
        self._merged = MergedOnce()
        self.bias = nn.Parameter(torch.cat([torch.zeros(hidden_size), torch.ones(hidden_size), torch.zeros(2 * hidden_size)])) if bias else None

    def _start(self, shape: TTShape | None, columns: int, variance: float) -> TTWeight | DenseWeight:
        if shape is not None:
            return TTWeight(shape, train.random(shape, variance))
        return DenseWeight(torch.randn(4 * self.hidden_size, columns) * variance**0.5)

    def decompose_(
        self,
        lstm: nn.LSTM,
        place: int,
        backend: str = "gram",
        input_moments: Sequence[Tensor] | None = None,
        hidden_moments: Sequence[Tensor] | None = None,
    ) -> None:
        """Take over the matrices and the bias of layer `place` of a dense LSTM, by TT-SVD where this layer has a train."""
        for part, name, moments in (("input", f"weight_ih_l{place}", input_moments), ("hidden", f"weight_hh_l{place}", hidden_moments)):
            dense = lstm.get_parameter(name)
            weight = getattr(self, part)
            if isinstance(weight, TTWeight):
                shape = weight.shape
                cores = tt_svd(dense, shape, backend) if moments is None else weighted_tt_svd(dense, shape, moments, backend)
                setattr(self, part, TTWeight(shape, cores))
            else:
                setattr(self, part, DenseWeight(dense))
        if self.bias is not None:
            self.bias = nn.Parameter((lstm.get_parameter(f"bias_ih_l{place}") + lstm.get_parameter(f"bias_hh_l{place}")).detach())

    def merge_into(self, lstm: nn.LSTM, place: int) -> None:
        """The reverse: write merged matrices and the bias into layer `place` of a dense LSTM."""
        with torch.no_grad():
            for name, weight in (("weight_ih", self.input), ("weight_hh", self.hidden)):
                lstm.get_parameter(f"{name}_l{place}").copy_(weight.dense())
            if self.bias is not None:
                lstm.get_parameter(f"bias_ih_l{place}").copy_(self.bias)
                lstm.get_parameter(f"bias_hh_l{place}").zero_()

    def plan(self, steps: int = 16, batch: int = 1, training: bool = False) -> Plan | None:
        """How the input train is multiplied with sequences of this size, here in torch; None where the input's matrix is dense."""
        if not isinstance(self.input, TTWeight):
            return None
        made: Plan = self.fixed_plan or _plan(self.input.shape, steps, batch, training)
        return made

    def measured_plan(self, steps: int, batch: int = 1, training: bool = False, rounds: int = 9) -> Plan:
        """The plan by timing whole passes with every candidate here and now; set `fixed_plan` to it to use it.

        raises: ShapeError where the input's matrix is dense
        """
        if not isinstance(self.input, TTWeight):
            raise ShapeError("the input-to-hidden matrix is dense: there is one way to multiply it, and nothing to measure")
        sequence = torch.randn(*((batch, steps) if self.batch_first else (steps, batch)), self.input_size).to(self.input.tensors()[0])
        zeros = sequence.new_zeros(1, batch, self.hidden_size)

        def run(candidate: Candidate) -> None:
            with torch.set_grad_enabled(training):
                states = self._run(sequence, (zeros, zeros), candidate)[0]
                if training:
                    torch.autograd.grad(states.sum(), [value for value in self._own if value.requires_grad])

        modelled = Plan.for_lstm(self.input.shape, steps, batch, training=training)
        return modelled.measured({candidate: functools.partial(run, candidate) for candidate in modelled.candidates}, rounds)

    @property
    def execution(self) -> str:
        """How a clip of 16 frames runs, apart from how the trains are stored."""
        plan = self.plan()
        return EXECUTIONS["dense" if plan is None else plan.execution]

    @property
    def _own(self) -> list[Tensor]:
        """This layer's parameters, without those of layers above it."""
        return [*self.input.values, *self.hidden.values, *([] if self.bias is None else [self.bias])]

    @property
    def own_stored_numbers(self) -> int:
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

    def operands(self, candidate: Candidate | None = None) -> Operands:
        """candidate: of the plan, None for the merged matrix. Without gradients, what was merged before is used until a weight changes."""
        learning = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self._own)
        if learning:
            return self._operands(candidate)
        key = None if candidate is None else (candidate.execution, candidate.cut, candidate.first)
        stored = [*self.input.stored_tensors(), *self.hidden.stored_tensors()]
        kept: Operands = self._merged.get(key, stored, lambda: self._operands(candidate))
        return kept

    def _operands(self, candidate: Candidate | None) -> Operands:
        w_hh = self.hidden.dense()
        if candidate is None or candidate.execution == "dense" or not isinstance(self.input, TTWeight):
            return Operands(None, self.input.dense(), w_hh)
        if candidate.execution == "two-gemm":
            return Operands(None, None, w_hh, halves(self.input.tensors(), self.input.shape, candidate))
        *first, last = self.input.tensors()
        # (1, 4H, N1, r): the rank index stays beside the inputs, as the projected features have it.
        return Operands(last[:, 0, :, 0].T, train.merge(first).reshape(math.prod(self.input.shape.outputs), -1)[: 4 * self.hidden_size], w_hh)

    @property
    def description(self) -> dict[str, Any]:
        """How the layer is stored, for a manifest, and how an exporter that goes by the layout alone runs it."""
        parts = {"input": self.input.description, "hidden": self.hidden.description}
        layout = "asymmetric" if isinstance(self.input, TTWeight) and self.input.shape.asymmetric else "dense"
        return {
            "kind": "TTLSTM",
            "hidden_size": self.hidden_size,
            "execution": EXECUTIONS[layout],
            "stored_numbers": self.own_stored_numbers,
            **parts,
        }

    def states(self, sequence: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """sequence: float32 (B, T, D), or (T, B, D) without batch_first; state: h and c, (1, B, H) each.

        returns: all states, the last one, and the last c, alike
        """
        steps, batch = (sequence.shape[1], sequence.shape[0]) if self.batch_first else sequence.shape[:2]
        learning = torch.is_grad_enabled() and any(value.requires_grad for value in self.input.values)
        plan = self.plan(steps, batch, learning) if steps and batch else None
        return self._run(sequence, state, None if plan is None else plan.chosen)

    def _run(self, sequence: Tensor, state: tuple[Tensor, Tensor], candidate: Candidate | None) -> tuple[Tensor, Tensor, Tensor]:
        """`states` with a given candidate; None: with the merged matrix."""
        projection, w_ih, w_hh, gates = self.operands(candidate)
        head = sequence.shape[:2]
        if projection is not None and w_ih is not None:
            padded = torch.nn.functional.pad(sequence, (0, self._padded_columns)) if self._padded_columns else sequence
            sequence = (padded.reshape(*head, -1, projection.shape[0]) @ projection).reshape(*head, w_ih.shape[1])
        if w_ih is not None and (w_ih.shape[1] < _WIDE or not sequence.numel()):
            weights = [w_ih, w_hh] if self.bias is None else [w_ih, w_hh, self.bias, torch.zeros_like(self.bias)]
            states, hidden, cell = torch.lstm(sequence, state, weights, self.bias is not None, 1, 0.0, self.training, False, self.batch_first)
            return states, hidden, cell
        rows = sequence.flatten(0, 1)
        if w_ih is None:
            assert gates is not None
            assert candidate is not None
            assert isinstance(self.input, TTWeight)
            summed = project(rows, gates, self.input.shape, candidate)
        else:
            summed = rows @ w_ih.T
        if self.bias is not None:
            summed = summed + self.bias
        summed = summed.view(*head, -1)
        states, last, cell = recurrent_states(summed.transpose(0, 1) if self.batch_first else summed, w_hh, state[0][0], state[1][0])
        return (states.transpose(0, 1) if self.batch_first else states), last[None], cell[None]

    @property
    def _padded_columns(self) -> int:
        return self.input.shape.padded_columns if isinstance(self.input, TTWeight) else 0

    def train(self, mode: bool = True) -> Self:
        self._merged.clear()
        return super().train(mode)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, batch_first={self.batch_first}, execution={self.execution!r}"
