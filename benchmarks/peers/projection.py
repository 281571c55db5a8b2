"""One projection by the same tensor-train cores: ours against the libraries that can contract them.

Every peer gets the cores as its own documentation wants them, constant cores folded beforehand where it can, and its best known setting.
"""

from __future__ import annotations

import importlib
import string
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import tensorly
import torch
from torch import Tensor, nn

from fercompress.tt import cores as train
from fercompress.tt.shape import TTShape
from peers.contest import Contest, Difference, NotAvailableError

OURS = "fercompress TTLinear"
COTENGRA = ("cotengra, least flops", "cotengra, least writes", "cotengra, both")
OTHERS = ("opt_einsum", "tensorly-torch, factorized", "tensorly-torch, reconstructed", "tntorch", "torchTT", "TensorNetwork")
ABSENT = {
    "t3nsor": "not on PyPI: it installs from its repository only",
    "t3f": "its cores are TensorFlow variables: it cannot be given the same tensors",
}
DENSE = "torch linear, merged"

# x (rows, columns) -> (rows, outputs). Makers take cores and whether they learn, and return the projection with its parameters.
Projection = Callable[[Tensor], Tensor]


def forward(outputs: list[int], inputs: list[int], rank: int, rows: int) -> Contest:
    return _contest(TTShape.uniform(outputs, inputs, rank), rows, learns=False)


def forward_backward(outputs: list[int], inputs: list[int], rank: int, rows: int) -> Contest:
    """With the gradients of the cores and of the input."""
    return _contest(TTShape.uniform(outputs, inputs, rank), rows, learns=True)


def _contest(shape: TTShape, rows: int, learns: bool) -> Contest:
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    cores = train.random(shape, 1 / shape.columns, random)
    x = torch.randn(rows, shape.columns, generator=random)
    upstream = torch.randn(rows, shape.rows, generator=random)
    wanted = _results(lambda given: given @ train.to_dense(cores).T, x, upstream, learns)
    calls, missing, differences = {}, dict(ABSENT), {}
    for name, make in PEERS.items():
        try:
            project, parameters = make([core.clone() for core in cores], learns)
        except ImportError as error:
            missing[name] = f"not installed ({error})"
            continue
        found = _results(project, x, upstream, learns)
        largest = max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in zip(found, wanted, strict=True))
        differences[name] = Difference("largest difference of outputs" + " and input gradients" * learns + ", over the largest entry", largest, 1e-4)
        calls[name] = _backward(project, parameters, x, upstream) if learns else _forward(project, x)
    if OURS not in calls:
        raise NotAvailableError(f"this version has no TTLinear: {missing[OURS]}")
    return Contest(calls, missing, differences)


def _results(project: Projection, x: Tensor, upstream: Tensor, learns: bool) -> list[Tensor]:
    given = x.clone().requires_grad_(learns)
    with torch.set_grad_enabled(learns):
        y = project(given)
        return [y.detach(), *torch.autograd.grad(y, [given], upstream)] if learns else [y]


def _forward(project: Projection, x: Tensor) -> Callable[[], object]:
    def call() -> Tensor:
        with torch.inference_mode():
            return project(x)

    return call


def _backward(project: Projection, parameters: Sequence[Tensor], x: Tensor, upstream: Tensor) -> Callable[[], object]:
    given = x.clone().requires_grad_()
    return lambda: torch.autograd.grad(project(given), [given, *parameters], upstream)


def _ours(cores: list[Tensor], learns: bool) -> tuple[Projection, list[Tensor]]:
    from fercompress.tt.linear import TTLinear  # here, so that a version without it still runs the other rows

    shape = train.shape_of(cores)
    dense = nn.Linear(shape.columns, shape.rows, bias=False)
    with torch.no_grad():
        dense.weight.copy_(train.to_dense(cores))
    layer = TTLinear.from_dense(dense, shape)  # the matrix is a train of this shape: TT-SVD finds the same cores but for their gauge
    layer.train(learns)
    return layer, [parameter for parameter in layer.parameters() if parameter.requires_grad]


def _dense(cores: list[Tensor], learns: bool) -> tuple[Projection, list[Tensor]]:
    weight = train.to_dense(cores).clone().requires_grad_(learns)
    return lambda x: torch.nn.functional.linear(x, weight), [weight]


def _equation(cores: Sequence[Tensor]) -> tuple[str, list[int], list[int]]:
    """The contraction of x (rows, *inputs) with cores (the ends' ranks of 1 removed), and the factors of inputs and outputs."""
    letters = iter(string.ascii_letters)
    d = len(cores)
    row, ins, outs, bonds = next(letters), *(["".join(next(letters) for _ in range(n))] for n in (d, d, d - 1))
    terms = []
    for k in range(d):
        left, right = (bonds[0][k - 1] if k else ""), (bonds[0][k] if k < d - 1 else "")
        terms.append(left + outs[0][k] + ins[0][k] + right)
    return f"{row}{ins[0]},{','.join(terms)}->{row}{outs[0]}", [core.shape[2] for core in cores], [core.shape[1] for core in cores]


def _squeezed(cores: Sequence[Tensor]) -> list[Tensor]:
    return [cores[0][0], *cores[1:-1], cores[-1][..., 0]]


def _expression(build: Callable[..., Any], cores: list[Tensor], learns: bool, rows: int) -> tuple[Projection, list[Tensor]]:
    equation, inputs, _ = _equation(cores)
    tensors = [core.contiguous().requires_grad_(learns) for core in _squeezed(cores)]
    shape = (rows, *inputs)
    if learns:
        contract = build(equation, shape, *[tuple(tensor.shape) for tensor in tensors])
        return lambda x: contract(x.reshape(-1, *inputs), *tensors).reshape(len(x), -1), tensors
    contract = build(equation, shape, *tensors, constants=list(range(1, len(tensors) + 1)))
    return lambda x: contract(x.reshape(-1, *inputs)).reshape(len(x), -1), tensors


def _cotengra(minimize: str) -> Callable[[list[Tensor], bool], tuple[Projection, list[Tensor]]]:
    def make(cores: list[Tensor], learns: bool) -> tuple[Projection, list[Tensor]]:
        cotengra = importlib.import_module("cotengra")

        def build(*arguments: Any, **options: Any) -> Any:
            return cotengra.einsum_expression(*arguments, optimize=cotengra.OptimalOptimizer(minimize=minimize), **options)

        return _expression(build, cores, learns, rows=512 if learns else 16)

    return make


def _opt_einsum(cores: list[Tensor], learns: bool) -> tuple[Projection, list[Tensor]]:
    opt_einsum = importlib.import_module("opt_einsum")

    def build(*arguments: Any, **options: Any) -> Any:
        return opt_einsum.contract_expression(*arguments, optimize="optimal", **options)

    return _expression(build, cores, learns, rows=512 if learns else 16)


def _tensorly_torch(implementation: str) -> Callable[[list[Tensor], bool], tuple[Projection, list[Tensor]]]:
    def make(cores: list[Tensor], learns: bool) -> tuple[Projection, list[Tensor]]:
        tltorch = importlib.import_module("tltorch")
        shape = train.shape_of(cores)
        layer = tltorch.FactorizedLinear(
            shape.inputs, shape.outputs, bias=False, factorization="blocktt", rank=shape.ranks, implementation=implementation
        )
        with torch.no_grad():
            for factor, core in zip(layer.weight.factors, cores, strict=True):
                factor.copy_(core)
        layer.train(learns)

        def project(x: Tensor) -> Tensor:
            with tensorly.backend_context("pytorch", local_threadsafe=True):
                return layer(x)  # type: ignore[no-any-return]

        return project, list(layer.parameters())

    return make


def _tntorch(cores: list[Tensor], learns: bool) -> tuple[Projection, list[Tensor]]:
    tntorch = importlib.import_module("tntorch")
    shape = train.shape_of(cores)
    tensors = [core.transpose(1, 2).contiguous().requires_grad_(learns) for core in cores]
    matrix = tntorch.TTMatrix(tensors, list(shape.ranks[1:-1]), list(shape.inputs), list(shape.outputs))
    return lambda x: tntorch.tt_multiply(matrix, x), tensors


def _torchtt(cores: list[Tensor], learns: bool) -> tuple[Projection, list[Tensor]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on import it says, five times, that its C++ solvers are absent: a product needs none of them
        torchtt = importlib.import_module("torchtt")
    shape = train.shape_of(cores)
    layer = torchtt.nn.LinearLayerTT(list(shape.inputs), list(shape.outputs), list(shape.ranks))
    layer.cores = nn.ParameterList(cores)
    layer.bias = nn.Parameter(torch.zeros(shape.outputs), requires_grad=False)
    layer.train(learns)
    return lambda x: layer(x.reshape(-1, *shape.inputs)).reshape(len(x), -1), list(layer.cores)


def _tensornetwork(cores: list[Tensor], learns: bool) -> tuple[Projection, list[Tensor]]:
    tensornetwork = importlib.import_module("tensornetwork")
    shape = train.shape_of(cores)
    d = len(cores)
    tensors = [core.contiguous().requires_grad_(learns) for core in _squeezed(cores)]
    # Contracted in the order of the labels: the input with the first core, the result with the next one, and so on.
    ins, bonds = list(range(1, 2 * d, 2)), list(range(2, 2 * d, 2))
    indices = [[-1, *ins], *([*bonds[k - 1 : k if k else 0], -2 - k, ins[k], *bonds[k : k + 1]] for k in range(d))]

    def project(x: Tensor) -> Tensor:
        y: Tensor = tensornetwork.ncon([x.reshape(-1, *shape.inputs), *tensors], indices, backend="pytorch")
        return y.reshape(len(x), -1)

    return project, tensors


PEERS: dict[str, Callable[[list[Tensor], bool], tuple[Projection, list[Tensor]]]] = {
    OURS: _ours,
    DENSE: _dense,
    **{name: _cotengra(minimize) for name, minimize in zip(COTENGRA, ("flops", "write", "combo"), strict=True)},
    "opt_einsum": _opt_einsum,
    "tensorly-torch, factorized": _tensorly_torch("factorized"),
    "tensorly-torch, reconstructed": _tensorly_torch("reconstructed"),
    "tntorch": _tntorch,
    "torchTT": _torchtt,
    "TensorNetwork": _tensornetwork,
}
