"""A train as the matrices that a plan's candidate multiplies, and the multiplication: inputs and cores in, outputs out, differentiable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fercompress.tt import cores as train
from fercompress.tt.plan import Candidate
from fercompress.tt.shape import TTShape


class Halves(NamedTuple):
    """What a candidate multiplies: one matrix, or one for either side of a bond.

    dense: left None, right (columns, rows), without padding
    left first: left ((M1 R), N1), right ((R N2), M2); right first: left (M1, (N1 R)), right (N2, (R M2))
    """

    left: Tensor | None
    right: Tensor


def halves(cores: Sequence[Tensor], shape: TTShape, candidate: Candidate) -> Halves:
    """Merge the cores as the candidate wants them; the merge is differentiable."""
    if candidate.execution == "dense":
        return Halves(None, train.to_dense(cores)[: shape.rows, : shape.columns].T)
    left = train.merge(cores[: candidate.cut])[0]  # (M1, N1, R)
    right = train.merge(cores[candidate.cut :])[..., 0]  # (R, M2, N2)
    if candidate.first == "left":
        return Halves(left.transpose(1, 2).flatten(0, 1), right.transpose(1, 2).flatten(0, 1))
    return Halves(left.flatten(1), right.permute(2, 0, 1).flatten(1))


def project(inputs: Tensor, parts: Halves, shape: TTShape, candidate: Candidate) -> Tensor:
    """inputs: float (n, shape.columns); returns (n, shape.rows), inputs times the transposed matrix."""
    if parts.left is None:
        return inputs @ parts.right
    if shape.padded_columns:
        inputs = torch.nn.functional.pad(inputs, (0, shape.padded_columns))
    left, right = parts.left, parts.right
    if torch.is_grad_enabled() and (inputs.requires_grad or left.requires_grad or right.requires_grad):
        product = _LeftFirst if candidate.first == "left" else _RightFirst
        outputs: Tensor = product.apply(inputs, left, right)  # type: ignore[no-untyped-call]
    else:  # a custom function costs about 30 us a call
        outputs = (_left_first if candidate.first == "left" else _right_first)(inputs, left, right)[0]
    return outputs[:, : shape.rows] if shape.padded_rows else outputs


def _left_first(inputs: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs (n, M1 * M2), and what is between the two products."""
    n, (m1_rank, n1), (rank_n2, m2) = len(inputs), left.shape, right.shape
    between = torch.bmm(left.expand(n, m1_rank, n1), inputs.reshape(n, n1, inputs.shape[1] // n1)).view(-1, rank_n2)
    return (between @ right).view(n, m1_rank * inputs.shape[1] // n1 // rank_n2 * m2), between


def _right_first(inputs: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs (n, M1 * M2), and what is between the two products."""
    n, (m1, n1_rank), (n2, rank_m2) = len(inputs), left.shape, right.shape
    n1 = inputs.shape[1] // n2
    m2 = n1 * rank_m2 // n1_rank
    between = (inputs.reshape(n * n1, n2) @ right).view(n, n1_rank, m2)
    if m2 == 1:
        return between[:, :, 0] @ left.T, between
    # torch.matmul would copy `between` to make one GEMM of it: 1.1-1.8 times slower (512 rows, 4096 to 1024).
    return torch.bmm(left.expand(n, m1, n1_rank), between).view(n, m1 * m2), between


class _LeftFirst(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, left: Tensor, right: Tensor) -> Tensor:
        outputs, between = _left_first(inputs, left, right)
        ctx.save_for_backward(inputs, left, right, between)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, left, right, between = ctx.saved_tensors
        n, (m1_rank, n1), columns = len(inputs), left.shape, inputs.shape[1]
        folded = inputs.reshape(n, n1, columns // n1)
        gradient = gradient.reshape(between.shape[0], right.shape[1])
        d_between = (gradient @ right.T).view(n, m1_rank, columns // n1)
        d_inputs = torch.bmm(left.T.expand(n, n1, m1_rank), d_between).view(n, columns) if ctx.needs_input_grad[0] else None
        return d_inputs, _summed_product(d_between, folded), between.T @ gradient


class _RightFirst(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, left: Tensor, right: Tensor) -> Tensor:
        outputs, between = _right_first(inputs, left, right)
        ctx.save_for_backward(inputs, left, right, between)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, left, right, between = ctx.saved_tensors
        n, (m1, n1_rank), (n2, rank_m2), columns = len(inputs), left.shape, right.shape, inputs.shape[1]
        folded = gradient.reshape(n, m1, between.shape[2])
        d_between = torch.bmm(left.T.expand(n, n1_rank, m1), folded).view(n * columns // n2, rank_m2)
        d_inputs = (d_between @ right.T).view(n, columns) if ctx.needs_input_grad[0] else None
        return d_inputs, _summed_product(folded, between), inputs.reshape(len(d_between), n2).T @ d_between


def _summed_product(a: Tensor, b: Tensor) -> Tensor:
    """(n, p, k), (n, q, k) -> (p, q): the sum over n of a @ b.T, as one GEMM of two copies; a batch of products would write n times p * q numbers."""
    return a.transpose(0, 1).flatten(1) @ b.transpose(1, 2).flatten(0, 1)


class MergedOnce:
    """Keeps what was computed from tensors until one of them changes: replaced, moved, or written to in place (by any operation but `.data`)."""

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[list[tuple[int, int, int]], list[Tensor], Any]] = {}

    def get(self, key: Any, tensors: Sequence[Tensor], compute: Callable[[], Any]) -> Any:
        """compute() without gradients, or what it gave before."""
        if any(tensor.is_inference() for tensor in tensors):  # such tensors do not count their changes
            return compute()
        now = [(id(tensor), tensor._version, tensor.data_ptr()) for tensor in tensors]
        if (kept := self._kept.get(key)) is not None and kept[0] == now:
            return kept[2]
        # Not an inference tensor even where the caller computes in inference mode: it may be used outside later.
        with torch.inference_mode(False), torch.no_grad():
            value = compute()
        self._kept[key] = (now, list(tensors), value)  # the tensors are held, so that no other can get their id
        return value

    def clear(self) -> None:
        self._kept.clear()

    def __deepcopy__(self, _: Any) -> MergedOnce:
        return MergedOnce()

    def __reduce__(self) -> tuple[type[MergedOnce], tuple[()]]:
        return (MergedOnce, ())
