"""TT-SVD: a matrix and a shape in, the cores of the nearest train out (quasi-optimal; Oseledets 2011, algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from tensorly.decomposition import tensor_train_matrix
from torch import Tensor

from fercompress.errors import ShapeError
from fercompress.tt import cores as train
from fercompress.tt.shape import TTShape

# Below this relative error the fp32 Gram matrix's floor (about 3e-4 of the largest singular value) would show: the work is done again in fp64.
_FP32_GRAM_FLOOR = 3e-3


def tt_svd(weight: Tensor, shape: TTShape, backend: str = "gram") -> list[Tensor]:
    """weight: float, (shape.rows, shape.columns); returns cores in the weight's dtype on its device, left-orthogonal but for the last.

    backend: a key of BACKENDS; "gram" is the fast one, "tensorly" the well-kept reference
    raises: ShapeError if the products do not match the weight, or no such back end exists
    """
    if weight.shape != (shape.rows, shape.columns):
        raise ShapeError(f"factors {shape.outputs} x {shape.inputs} make ({shape.rows}, {shape.columns}), but the weight is {tuple(weight.shape)}")
    if backend not in BACKENDS:
        raise ShapeError(f"no TT-SVD back end {backend!r}: choose one of {', '.join(BACKENDS)}")
    return BACKENDS[backend](weight.detach(), shape)


def error_bound(weight: Tensor, shape: TTShape) -> float:
    """The largest Frobenius error that TT-SVD can make: the root of all bonds' discarded squared singular values (Oseledets 2011, eq. 2.3)."""
    tensor = _interleaved(weight.detach().double(), shape)
    discarded = 0.0
    rows = 1
    for k in range(len(shape.outputs) - 1):
        rows *= shape.outputs[k] * shape.inputs[k]
        discarded += float(torch.linalg.svdvals(tensor.reshape(rows, -1))[shape.ranks[k + 1] :].square().sum())
    return math.sqrt(discarded)


def _interleaved(weight: Tensor, shape: TTShape) -> Tensor:
    """(rows, columns) -> (m1 * n1, m2 * n2, ...): one side per core."""
    d = len(shape.outputs)
    order = [axis for k in range(d) for axis in (k, d + k)]
    return weight.reshape(*shape.outputs, *shape.inputs).permute(order).reshape([m * n for m, n in zip(shape.outputs, shape.inputs, strict=True)])


def _gram(weight: Tensor, shape: TTShape) -> list[Tensor]:
    cores = _sweep(weight, shape)
    if weight.dtype == torch.float64:
        return cores
    # Left-orthogonal cores: what the train keeps is the last core's norm, and Pythagoras gives the error.
    whole = float(torch.linalg.vector_norm(weight.double()))
    kept = float(torch.linalg.vector_norm(cores[-1].double()))
    if max(whole**2 - kept**2, 0.0) ** 0.5 >= _FP32_GRAM_FLOOR * whole > 0:
        return cores
    return [core.to(weight.dtype) for core in _sweep(weight.double(), shape)]


def _sweep(weight: Tensor, shape: TTShape) -> list[Tensor]:
    rest = _interleaved(weight, shape)
    cores = []
    for rank, outputs, inputs, next_rank in shape.cores[:-1]:
        unfolding = rest.reshape(rank * outputs * inputs, -1)
        basis, rest = _split(unfolding, next_rank)
        cores.append(basis.reshape(rank, outputs, inputs, next_rank))
    return [*cores, rest.reshape(shape.cores[-1])]


def _split(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best rank-`rank` product of an orthonormal (p, rank) and a (rank, q) matrix, from the eigenvectors of the smaller Gram matrix."""
    rows, columns = matrix.shape
    if rank == rows:
        return torch.eye(rows, dtype=matrix.dtype, device=matrix.device), matrix
    if rows <= columns:
        basis = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -rank:].flip(1)
        return basis, basis.T @ matrix
    # The right vectors are exact to the same degree; QR instead of a division by small singular values keeps the left ones orthonormal.
    right = torch.linalg.eigh(matrix.T @ matrix).eigenvectors[:, -rank:].flip(1)
    q, r = torch.linalg.qr(matrix @ right)
    return q, r @ right.T


def _tensorly(weight: Tensor, shape: TTShape) -> list[Tensor]:
    tensor = weight.cpu().numpy().reshape(*shape.outputs, *shape.inputs)
    cores = train.from_tensorly(tensor_train_matrix(tensor, list(shape.ranks)))
    return [core.to(weight) for core in cores]


BACKENDS: dict[str, Callable[[Tensor, TTShape], list[Tensor]]] = {"gram": _gram, "tensorly": _tensorly}
