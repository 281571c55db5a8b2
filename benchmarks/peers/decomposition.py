"""TT-SVD of an input-to-hidden matrix: ours against tensorly's `tensor_train_matrix`, at the same error."""

from __future__ import annotations

from collections.abc import Callable

import tensorly
import torch
from tensorly.decomposition import tensor_train_matrix
from torch import Tensor

from fercompress.tt import cores as train
from fercompress.tt.decompose import tt_svd
from fercompress.tt.shape import TTShape
from peers.contest import Contest, Difference

OURS, TENSORLY = "fercompress tt_svd", "tensorly tensor_train_matrix"
_NOISE = 0.1  # of the matrix's norm, about what the decomposition must leave out


def contest(outputs: list[int], inputs: list[int], rank: int) -> Contest:
    """Of a train plus noise: a matrix that a wrong decomposition would miss by far more than the noise."""
    torch.set_num_threads(1)
    tensorly.set_backend("numpy")  # tensorly-torch, once imported, has set another
    shape = TTShape.uniform(outputs, inputs, rank)
    random = torch.Generator().manual_seed(0)
    weight = train.to_dense(train.random(shape, 1 / shape.columns, random))
    weight = weight + _NOISE * weight.norm() / (shape.rows * shape.columns) ** 0.5 * torch.randn(weight.shape, generator=random)
    tensor = weight.numpy().reshape(*outputs, *inputs)

    def theirs() -> list[Tensor]:
        return train.from_tensorly(tensor_train_matrix(tensor, list(shape.ranks)))

    calls: dict[str, Callable[[], list[Tensor]]] = {OURS: lambda: tt_svd(weight, shape), TENSORLY: theirs}
    errors = {name: float((train.to_dense(call()) - weight).double().norm() / weight.double().norm()) for name, call in calls.items()}
    difference = abs(errors[OURS] / errors[TENSORLY] - 1)
    quantity = "relative difference of the two relative errors"
    return Contest(calls, differences={OURS: Difference(quantity, difference, 1e-4)}, facts={"relative_error": errors})
