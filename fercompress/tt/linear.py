"""`TTLinear`: a linear layer whose matrix is stored as a tensor train, called as `nn.Linear` is."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from fercompress.errors import ShapeError
from fercompress.tt import cores as train
from fercompress.tt.contract import Halves, MergedOnce, halves, project
from fercompress.tt.decompose import tt_svd, weighted_tt_svd
from fercompress.tt.plan import Candidate, Plan
from fercompress.tt.shape import TTShape
from fercompress.tt.weights import TTWeight

# A plan is made once for all numbers of rows up to the next power of two.
_plan = functools.lru_cache(maxsize=256)(lambda shape, rows, training: Plan.of(shape, rows, training=training))


class TTLinear(nn.Module):
    """y = x W^T + b with W (out_features, in_features) as a train; how it is multiplied follows the plan for the number of rows.

    Without gradients the cores are merged once and merged again when one of them has changed.
    """

    def __init__(self, in_features: int, out_features: int, shape: TTShape, bias: bool = True) -> None:
        """A random start of `nn.Linear`'s variance. raises: ShapeError if the shape is not the layer's"""
        super().__init__()
        if (shape.rows, shape.columns) != (out_features, in_features):
            raise ShapeError(
                f"the layer's matrix is ({out_features}, {in_features}), but outputs {shape.outputs} x inputs {shape.inputs} "
                f"multiply to ({shape.rows}, {shape.columns})"
            )
        self.in_features, self.out_features = in_features, out_features
        self.weight = TTWeight(shape, train.random(shape, 1 / (3 * in_features)))
        bound = in_features**-0.5
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound)) if bias else None
        self.fixed_plan: Plan | None = None  # e.g. of `measured_plan`; None: by the model of the cost
        self._merged = MergedOnce()

    @classmethod
    def from_dense(cls, linear: nn.Linear, shape: TTShape, backend: str = "gram", moments: Sequence[Tensor] | None = None) -> TTLinear:
        """The TT-SVD of a dense layer's matrix; moments: of its inputs, from `decompose.input_moments`. raises: ShapeError"""
        with torch.random.fork_rng(devices=[]):  # the random start is thrown away: it must not move the caller's random numbers
            layer = cls(linear.in_features, linear.out_features, shape, bias=linear.bias is not None)
        dense = linear.weight.detach()
        layer.weight = TTWeight(shape, tt_svd(dense, shape, backend) if moments is None else weighted_tt_svd(dense, shape, moments, backend))
        if linear.bias is not None:
            layer.bias = nn.Parameter(linear.bias.detach().clone())
        layer.to(linear.weight.device).train(linear.training)
        return layer

    def to_dense(self) -> nn.Linear:
        """The `nn.Linear` that computes the same."""
        with torch.random.fork_rng(devices=[]):
            linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        weight = self.weight.dense().detach()
        linear = linear.to(weight)
        with torch.no_grad():
            linear.weight.copy_(weight)
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear.train(self.training)

    @property
    def stored_numbers(self) -> int:
        return self.weight.stored_numbers + (0 if self.bias is None else self.bias.numel())

    def quantize_(self, bits: int = 8) -> None:
        """Round the cores to 8 or 4 bits and the bias to float16, in place. raises: ShapeError for other bits"""
        self.weight.quantize_(bits)
        if self.bias is not None:
            self.bias = nn.Parameter(self.bias.detach().half().float(), requires_grad=False)

    def plan(self, rows: int, training: bool = False) -> Plan:
        """How so many rows are multiplied; training: with gradients, so that the cores are merged on every call."""
        made: Plan = self.fixed_plan or _plan(self.weight.shape, 1 << (max(rows, 1) - 1).bit_length(), training)
        return made

    def measured_plan(self, rows: int, training: bool = False, rounds: int = 9) -> Plan:
        """The plan by timing every candidate here and now; set `fixed_plan` to it to use it."""
        sample = torch.randn(rows, self.in_features, device=self.weight.tensors()[0].device)

        def run(candidate: Candidate) -> None:
            with torch.set_grad_enabled(training):
                outputs = project(sample, self._halves(candidate), self.weight.shape, candidate)
                if training:
                    torch.autograd.grad(outputs.sum(), list(self.weight.values))

        modelled = Plan.of(self.weight.shape, rows, training=training)
        return modelled.measured({candidate: functools.partial(run, candidate) for candidate in modelled.candidates}, rounds)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: float (..., in_features); returns (..., out_features). raises: ShapeError for another number of features"""
        if inputs.ndim < 1 or inputs.shape[-1] != self.in_features:
            raise ShapeError(f"TTLinear expects (..., {self.in_features}), got {tuple(inputs.shape)}")
        flat = inputs.reshape(-1, self.in_features)
        candidate = self.plan(len(flat), self._learning()).chosen
        outputs = project(flat, self._halves(candidate), self.weight.shape, candidate)
        if self.bias is not None:
            outputs = outputs + self.bias
        return outputs.reshape(*inputs.shape[:-1], self.out_features)

    def _learning(self) -> bool:
        return torch.is_grad_enabled() and any(value.requires_grad for value in self.weight.values)

    def _halves(self, candidate: Candidate) -> Halves:
        def merged() -> Halves:
            return halves(self.weight.tensors(), self.weight.shape, candidate)

        if self._learning():
            return merged()
        kept: Halves = self._merged.get((candidate.execution, candidate.cut, candidate.first), self.weight.stored_tensors(), merged)
        return kept

    def train(self, mode: bool = True) -> Self:
        self._merged.clear()
        return super().train(mode)

    def extra_repr(self) -> str:
        shape = self.weight.shape
        return f"{self.in_features}, {self.out_features}, outputs={shape.outputs}, inputs={shape.inputs}, ranks={shape.ranks}"
