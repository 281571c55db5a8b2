"""Tensor trains as plain lists of tensors: reconstruct, merge, measure, round, move the gauge, and trade with tensorly.

Core k has shape (r[k], outputs[k], inputs[k], r[k + 1]); the ends have rank 1. Every function is differentiable unless it says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from tensorly.tt_matrix import TTMatrix
from torch import Tensor

from fercompress.errors import ShapeError
from fercompress.tt.shape import TTShape


def shape_of(cores: Sequence[Tensor]) -> TTShape:
    """raises: ShapeError if the cores do not fit one another"""
    for place, core in enumerate(cores):
        if core.ndim != 4:
            raise ShapeError(f"core {place} has shape {tuple(core.shape)}: a core has 4 sides (rank, output, input, rank)")
        if place and core.shape[0] != cores[place - 1].shape[3]:
            raise ShapeError(f"core {place} starts with rank {core.shape[0]}, but core {place - 1} ends with {cores[place - 1].shape[3]}")
    return TTShape(
        tuple(core.shape[1] for core in cores), tuple(core.shape[2] for core in cores), (cores[0].shape[0], *(core.shape[3] for core in cores))
    )


def merge(cores: Sequence[Tensor]) -> Tensor:
    """Contract neighbouring cores into one: (r[0], prod outputs, prod inputs, r[-1])."""
    merged = cores[0]
    for core in cores[1:]:
        rank, outputs, inputs, _ = merged.shape
        # One GEMM, then one copy that puts the outputs together and the inputs together.
        product = merged.flatten(0, 2) @ core.flatten(1)
        product = product.reshape(rank, outputs, inputs, core.shape[1], core.shape[2], core.shape[3])
        merged = product.transpose(2, 3).reshape(rank, outputs * core.shape[1], inputs * core.shape[2], core.shape[3])
    return merged


def to_dense(cores: Sequence[Tensor]) -> Tensor:
    """The whole matrix, (prod outputs, prod inputs)."""
    return merge(cores)[0, :, :, 0]


def norm(cores: Sequence[Tensor]) -> Tensor:
    """The matrix's Frobenius norm without forming it: a 0-d tensor."""
    gram = cores[0].new_ones(1, 1)
    for core in cores:
        gram = torch.einsum("ab,aijc,bijd->cd", gram, core, core)
    return gram[0, 0].clamp_min(0).sqrt()


def right_orthogonal(cores: Sequence[Tensor]) -> list[Tensor]:
    """The same matrix; all cores but the first have orthonormal rows as (r[k], outputs * inputs * r[k + 1]) matrices."""
    moved = list(cores)
    for k in range(len(moved) - 1, 0, -1):
        q, r = torch.linalg.qr(moved[k].flatten(1).T)
        moved[k] = q.T.reshape(-1, *moved[k].shape[1:])
        moved[k - 1] = moved[k - 1] @ r.T
    return moved


def rounded(cores: Sequence[Tensor], ranks: Sequence[int] | None = None, relative_error: float | None = None) -> list[Tensor]:
    """The same train with smaller ranks (TT-rounding, Oseledets 2011, alg. 2), without forming the matrix; left-orthogonal but for the last core.

    ranks: of every bond, both ends included; or relative_error: the largest Frobenius error, as a share of the matrix's norm, to be had
        with the fewest numbers per bond. One of the two
    In fp64 inside; not differentiable. raises: ShapeError for ranks that cannot be, are above the train's own, or if not one of both is given
    """
    given = shape_of(cores)
    if (ranks is None) == (relative_error is None):
        raise ShapeError("rounding a train needs either ranks or relative_error")
    if ranks is not None:
        TTShape(given.outputs, given.inputs, tuple(ranks))
        for bond, (wanted, present) in enumerate(zip(ranks, given.ranks, strict=True)):
            if wanted > present:
                raise ShapeError(f"rank {wanted} at bond {bond}: the train has rank {present} there, and rounding only lowers ranks")
    if relative_error is not None and not 0 <= relative_error < 1:
        raise ShapeError(f"relative_error is {relative_error:g}: it must be at least 0 and below 1")
    moved = right_orthogonal([core.detach().double() for core in cores])
    # The matrix's norm sits in the first core now; the bonds' errors add up in squares.
    allowed = (relative_error or 0.0) * float(torch.linalg.vector_norm(moved[0])) / math.sqrt(max(len(moved) - 1, 1))
    for k in range(len(moved) - 1):
        u, s, v = torch.linalg.svd(moved[k].flatten(0, 2), full_matrices=False)
        rank = smallest_rank(s, allowed) if ranks is None else ranks[k + 1]
        moved[k] = u[:, :rank].reshape(*moved[k].shape[:3], rank)
        moved[k + 1] = torch.tensordot(s[:rank, None] * v[:rank], moved[k + 1], dims=1)
    return [core.to(cores[0].dtype) for core in moved]


def smallest_rank(singular_values: Tensor, allowed: float) -> int:
    """The fewest singular values (largest first, at least one) whose rest has a norm of at most `allowed`."""
    tails = singular_values.double().square().flip(0).cumsum(0).flip(0).sqrt()  # tails[k]: the norm of all from k on
    # What fp64 adds up to beside an exact zero must not count as weight.
    floor = float(tails[0]) * 1e-14 if len(tails) else 0.0
    return max(1, int((tails > max(allowed, floor)).sum()))


def symmetric_gauge(cores: Sequence[Tensor]) -> list[Tensor]:
    """The same matrix with the singular values at every bond shared by both neighbours, their square root each.

    No rank index is then much larger in one core than in its neighbour, which is what a common quantization step wants.
    In fp64 inside; not differentiable.
    """
    moved = right_orthogonal([core.detach().double() for core in cores])
    roots = []
    for k in range(len(moved) - 1):  # left to right: the exact singular values of every bond
        u, s, v = torch.linalg.svd(moved[k].flatten(0, 2), full_matrices=False)
        roots.append(s.clamp_min(s[0] * 1e-12).sqrt())  # a rank index without weight must not be divided by zero
        moved[k] = u.reshape(*moved[k].shape[:3], -1)
        moved[k + 1] = torch.einsum("a,ab,bijc->aijc", s, v, moved[k + 1])
    for k, root in enumerate(roots):
        if float(root[0]) > 0:
            moved[k] = moved[k] * root
            moved[k + 1] = moved[k + 1] / root[:, None, None, None]
    return [core.to(given.dtype) for core, given in zip(moved, cores, strict=True)]


def random(shape: TTShape, variance: float, generator: torch.Generator | None = None) -> list[Tensor]:
    """Gaussian float32 cores whose matrix has entries of mean 0 and the given variance.

    An entry is a sum of prod(inner ranks) products of d independent numbers, so each core's variance is (variance / prod(inner ranks)) ** (1 / d).
    """
    spread = (variance / math.prod(shape.ranks)) ** (0.5 / len(shape.outputs))
    return [torch.randn(core, generator=generator) * spread for core in shape.cores]


def to_tensorly(cores: Sequence[Tensor]) -> TTMatrix:
    """For work with tensorly on a train that was made here: numpy cores, copied, in tensorly's own order, which is ours."""
    return TTMatrix([core.detach().cpu().numpy().copy() for core in cores])


def from_tensorly(matrix: TTMatrix) -> list[Tensor]:
    """The cores of a train that tensorly made, of any back end: k-th (r[k], outputs[k], inputs[k], r[k + 1])."""
    return [torch.as_tensor(factor) for factor in matrix.factors]
