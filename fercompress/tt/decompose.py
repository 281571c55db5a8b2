"""TT-SVD: a matrix and a shape in, the cores of the nearest train out (quasi-optimal; Oseledets 2011, algorithm 1).

Nearest is meant in the Frobenius norm, or in the norm that the layer's own inputs define (`weighted_tt_svd`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from tensorly.decomposition import tensor_train_matrix
from torch import Tensor

from fercompress.errors import ShapeError
from fercompress.tt import cores as train
from fercompress.tt.shape import TTShape

# Below this relative error the fp32 Gram matrix's floor (about 3e-4 of the largest singular value) would show: the work is done again in fp64.
_FP32_GRAM_FLOOR = 3e-3
# Added to a moment's diagonal, as a share of its mean: directions that the samples never showed keep a weight, and the root can be undone.
_RIDGE = 1e-4
_MOMENT_ROWS = 256  # samples that are summed up at once: 20,000 of 4,096 numbers took 5 s in one piece, writing and reading memory


def tt_svd(weight: Tensor, shape: TTShape, backend: str = "gram") -> list[Tensor]:
    """weight: float, (shape.rows, shape.columns); returns cores in the weight's dtype on its device, left-orthogonal but for the last.

    backend: a key of BACKENDS; "gram" is the fast one, "tensorly" the well-kept reference
    raises: ShapeError if the products do not match the weight, or no such back end exists
    """
    if weight.shape != (shape.rows, shape.columns):
        raise ShapeError(f"factors {shape.outputs} x {shape.inputs} make ({shape.rows}, {shape.columns}), but the weight is {tuple(weight.shape)}")
    if backend not in BACKENDS:
        raise ShapeError(f"no TT-SVD back end {backend!r}: choose one of {', '.join(BACKENDS)}")
    return BACKENDS[backend](_padded(weight.detach(), shape), shape)


def weighted_tt_svd(weight: Tensor, shape: TTShape, moments: Sequence[Tensor], backend: str = "gram") -> list[Tensor]:
    """TT-SVD in the norm of the layer's inputs: small is E |(W - train) x|^2, not |W - train|^2.

    The inputs' second moment E[x x^T] is taken for the Kronecker product of one matrix per input factor, as K-FAC does (Martens & Grosse 2015).
    Its root is a product too, so it goes into the weight factor by factor before TT-SVD and out of the cores afterwards; where the moment is
    a Kronecker product, the error bound of TT-SVD holds in the weighted norm.

    moments: as of `input_moments`: symmetric, k-th (shape.inputs[k], shape.inputs[k]); a small ridge is added
    returns: as `tt_svd`, but not orthogonal. raises: ShapeError
    """
    if [tuple(moment.shape) for moment in moments] != [(size, size) for size in shape.inputs]:
        given = ", ".join(str(tuple(moment.shape)) for moment in moments)
        raise ShapeError(f"the moments have sizes {given}: input factors {shape.inputs} need one square matrix of each factor's size")
    roots, inverses = zip(*(_roots(moment.detach().double().to(weight.device)) for moment in moments), strict=True)
    whole = TTShape(shape.outputs, shape.inputs, shape.ranks)
    tensor = _padded(weight.detach().double(), shape).reshape(whole.rows, *shape.inputs)
    for axis, root in enumerate(roots, start=1):
        tensor = torch.movedim(torch.tensordot(tensor, root, dims=([axis], [0])), -1, axis)
    cores = tt_svd(tensor.reshape(whole.rows, whole.columns), whole, backend)
    return [torch.einsum("aijb,jn->ainb", core, inverse).to(weight.dtype) for core, inverse in zip(cores, inverses, strict=True)]


def input_moments(samples: Tensor, inputs: Sequence[int]) -> list[Tensor]:
    """The second moment of a layer's inputs as one matrix per input factor, whose Kronecker product has the trace of the whole moment.

    samples: float (n, columns); fewer columns than the factors multiply to are filled up with zeros, as a padded train fills them
    inputs: the factors; the mean over samples and all other factors of x x^T along one factor is that factor's matrix
    returns: float64, k-th (inputs[k], inputs[k]). raises: ShapeError
    """
    columns = math.prod(inputs)
    if samples.ndim != 2 or not len(samples) or samples.shape[1] > columns:
        raise ShapeError(f"samples of inputs must be (n, {columns}) for factors {tuple(inputs)} with n at least 1, got {tuple(samples.shape)}")
    sums = [torch.zeros(size, size, dtype=torch.float64, device=samples.device) for size in inputs]
    for part in torch.split(samples.detach(), _MOMENT_ROWS):  # a float64 copy of all samples would be written and read from memory
        filled = torch.nn.functional.pad(part.double(), (0, columns - samples.shape[1])).reshape(-1, *inputs)
        for axis, total in enumerate(sums, start=1):
            vectors = filled.movedim(axis, -1).reshape(-1, len(total))
            total += vectors.T @ vectors
    count = len(samples) * columns
    mean_square = sums[0].trace() / count
    moments = [total * (len(total) / count) for total in sums]
    if float(mean_square) == 0:
        return moments
    # Each mean has trace size * mean_square; the product of all would have the mean square to the d-th power.
    return [moment / mean_square ** (1 - 1 / len(inputs)) for moment in moments]


def _roots(moment: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric root of a moment with its ridge, and the root's inverse; the identity for inputs that are always 0."""
    mean = float(moment.diagonal().mean())
    if mean <= 0:
        return (torch.eye(len(moment), dtype=moment.dtype, device=moment.device),) * 2
    values, vectors = torch.linalg.eigh((moment + moment.T) / 2)
    root = (values.clamp_min(0) + _RIDGE * mean).sqrt()
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T


def singular_values(weight: Tensor, outputs: Sequence[int], inputs: Sequence[int]) -> list[Tensor]:
    """Of the unfolding at every inner bond, float64, largest first; weight: (rows, columns), at most what the factors multiply to."""
    shape = TTShape.uniform(outputs, inputs, 1)
    tensor = _interleaved(_padded(weight.detach().double(), shape), shape)
    values, rows = [], 1
    for size in tensor.shape[:-1]:
        rows *= size
        values.append(torch.linalg.svdvals(tensor.reshape(rows, -1)))
    return values


def error_bound(weight: Tensor, shape: TTShape) -> float:
    """The largest Frobenius error that TT-SVD can make: the root of all bonds' discarded squared singular values (Oseledets 2011, eq. 2.3)."""
    values = singular_values(weight, shape.outputs, shape.inputs)
    return math.sqrt(sum(float(bond[rank:].square().sum()) for bond, rank in zip(values, shape.ranks[1:-1], strict=True)))


def _padded(weight: Tensor, shape: TTShape) -> Tensor:
    """Rows and columns of zeros behind the weight's own, up to what the factors multiply to."""
    rows, columns = math.prod(shape.outputs), math.prod(shape.inputs)
    if weight.shape[0] > rows or weight.shape[1] > columns:
        raise ShapeError(f"factors {shape.outputs} x {shape.inputs} make ({rows}, {columns}), too few for a weight of {tuple(weight.shape)}")
    return torch.nn.functional.pad(weight, (0, columns - weight.shape[1], 0, rows - weight.shape[0]))


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
