"""Choose TT ranks: the singular values of a matrix's bonds and a budget in, one rank per bond out; or one rank per layer for a budget of bytes.

`POLICIES` is the table: a new policy is one function and one line. Nothing here decomposes anything or measures anything itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fercompress.errors import ShapeError
from fercompress.tt.cores import smallest_rank
from fercompress.tt.decompose import singular_values
from fercompress.tt.shape import TTShape, max_ranks


@dataclass(frozen=True)
class Spectrum:
    """The factors of a matrix's sides and the singular values of its unfolding at every inner bond, largest first.

    raises: ShapeError if there are not as many lists as inner bonds, or one of them is empty or not sorted
    """

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.outputs) - 1 or len(self.outputs) != len(self.inputs):
            raise ShapeError(f"{len(self.values)} spectra for outputs {self.outputs} and inputs {self.inputs}: one for every inner bond is needed")
        for bond, values in enumerate(self.values, start=1):
            if not values or list(values) != sorted(values, reverse=True):
                raise ShapeError(f"the singular values at bond {bond} must be at least one number, largest first")

    @classmethod
    def of(cls, weight: Tensor, outputs: Sequence[int], inputs: Sequence[int]) -> Spectrum:
        """weight: float (rows, columns), at most what the factors multiply to: a smaller one counts as padded with zeros. raises: ShapeError"""
        values = singular_values(weight, outputs, inputs)
        return cls(tuple(outputs), tuple(inputs), tuple(tuple(bond.tolist()) for bond in values))

    @property
    def norm(self) -> float:
        """The matrix's Frobenius norm; 0 where there is no bond to tell."""
        return math.sqrt(sum(value**2 for value in self.values[0])) if self.values else 0.0

    def shape(self, ranks: Sequence[int]) -> TTShape:
        return TTShape(self.outputs, self.inputs, tuple(ranks))

    def error_bound(self, ranks: Sequence[int]) -> float:
        """The largest relative Frobenius error of a TT-SVD with these ranks (Oseledets 2011, eq. 2.3)."""
        discarded = sum(value**2 for values, rank in zip(self.values, ranks[1:-1], strict=True) for value in values[rank:])
        return math.sqrt(discarded) / self.norm if self.norm else 0.0


def fixed(spectrum: Spectrum, rank: float) -> tuple[int, ...]:
    """The same rank at every bond. raises: ShapeError at a bond that cannot carry it"""
    return TTShape.uniform(spectrum.outputs, spectrum.inputs, int(rank)).ranks


def clipped(spectrum: Spectrum, rank: float) -> tuple[int, ...]:
    """The same rank at every bond that can carry it, the largest useful one at the others."""
    return _feasible(spectrum, [int(rank)] * len(spectrum.values))


def relative_error(spectrum: Spectrum, error: float) -> tuple[int, ...]:
    """The smallest ranks whose TT-SVD is certain to be off by at most `error` times the matrix's norm; every bond may spend the same share."""
    if not 0 <= error < 1:
        raise ShapeError(f"a relative error of {error:g} cannot be asked for: it must be at least 0 and below 1")
    allowed = error * spectrum.norm / math.sqrt(max(len(spectrum.values), 1))
    # A rank that its neighbours cannot carry is lowered: by Eckart and Young the tail beyond r * outputs * inputs is no heavier than its neighbour's.
    return _feasible(spectrum, [smallest_rank(torch.tensor(values, dtype=torch.float64), allowed) for values in spectrum.values])


def target_ratio(spectrum: Spectrum, ratio: float) -> tuple[int, ...]:
    """The ranks of the least error bound found whose train holds at most 1 / ratio of the padded matrix's numbers.

    raises: ShapeError if rank 1 holds more
    """
    dense = math.prod(spectrum.outputs) * math.prod(spectrum.inputs)
    if not ratio > 0 or spectrum.shape([1] * (len(spectrum.outputs) + 1)).params * ratio > dense:
        most = dense / spectrum.shape([1] * (len(spectrum.outputs) + 1)).params
        raise ShapeError(
            f"a ratio of {ratio:g} cannot be had with outputs {spectrum.outputs} and inputs {spectrum.inputs}: at rank 1 it is {most:.3g}"
        )
    return _grown(spectrum, lambda shape: shape.params, dense / ratio)


def target_bytes(spectrum: Spectrum, budget_bytes: float) -> tuple[int, ...]:
    """The ranks of the least error bound found whose cores take at most so many bytes in 8 bits. raises: ShapeError if rank 1 takes more"""
    least = spectrum.shape([1] * (len(spectrum.outputs) + 1)).stored_bytes(8)
    if least > budget_bytes:
        raise ShapeError(
            f"{budget_bytes:g} bytes are too few for outputs {spectrum.outputs} and inputs {spectrum.inputs}: rank 1 takes {least} in 8 bits"
        )
    return _grown(spectrum, lambda shape: shape.stored_bytes(8), budget_bytes)


Policy = Callable[[Spectrum, float], tuple[int, ...]]
POLICIES: dict[str, Policy] = {
    "fixed": fixed,
    "clipped": clipped,
    "relative-error": relative_error,
    "ratio": target_ratio,
    "bytes": target_bytes,
}


def chosen(spectrum: Spectrum, policy: str, value: float | Sequence[int]) -> tuple[int, ...]:
    """Ranks of every bond, both ends included.

    policy: a key of POLICIES with its number, or "per-bond" with the ranks of the inner bonds. raises: ShapeError
    """
    if policy == "per-bond":
        if not isinstance(value, Sequence) or len(value) != len(spectrum.values):
            raise ShapeError(f"per-bond ranks are {value}: one rank for each of the {len(spectrum.values)} inner bonds is needed")
        return spectrum.shape([1, *value, 1]).ranks
    if policy not in POLICIES:
        raise ShapeError(f"no policy {policy!r} for ranks: choose one of {', '.join([*POLICIES, 'per-bond'])}")
    if isinstance(value, Sequence):
        raise ShapeError(f"the policy {policy!r} takes one number, not {value}: ranks of every bond are the policy 'per-bond'")
    return POLICIES[policy](spectrum, value)


def within_bytes(bytes_of: Mapping[str, Mapping[int, int]], loss_of: Callable[[str, int], float], budget_bytes: int) -> dict[str, int]:
    """One rank for each of several layers, under one budget: greedy, by measured loss saved per byte spent.

    bytes_of: layer -> rank -> bytes of the layer at this rank, for every rank that may be chosen
    loss_of: the loss on validation data with this one layer at this rank and all others as they were; asked once for each pair
    returns: layer -> rank; starts from every layer's smallest and takes the upgrade (of any height: a plateau must not hide what lies behind it)
        that saves the most loss per byte, until none fits or none saves
    raises: ShapeError if a layer has no rank to choose, or the smallest ranks take more than the budget
    """
    for layer, sizes in bytes_of.items():
        if not sizes:
            raise ShapeError(f"layer {layer!r} has no rank to choose from: give at least one")
    rank_of = {layer: min(sizes, key=lambda rank, sizes=sizes: (sizes[rank], rank)) for layer, sizes in bytes_of.items()}  # type: ignore[misc]
    used = sum(bytes_of[layer][rank] for layer, rank in rank_of.items())
    if used > budget_bytes:
        raise ShapeError(f"the smallest ranks {rank_of} take {used} bytes together: the budget of {budget_bytes} is too small")
    loss = {layer: {rank: loss_of(layer, rank) for rank in sorted(sizes)} for layer, sizes in bytes_of.items()}
    while True:
        upgrades = []
        for layer, sizes in bytes_of.items():
            now = rank_of[layer]
            for rank, size in sizes.items():
                saved, spent = loss[layer][now] - loss[layer][rank], size - sizes[now]
                if saved > 0 and used + spent <= budget_bytes:
                    # What costs nothing comes first.
                    upgrades.append((saved / spent if spent > 0 else math.inf, saved, layer, rank))
        if not upgrades:
            return rank_of
        *_, layer, rank = max(upgrades)
        used += bytes_of[layer][rank] - bytes_of[layer][rank_of[layer]]
        rank_of[layer] = rank


def _feasible(spectrum: Spectrum, inner: Sequence[int]) -> tuple[int, ...]:
    return feasible(spectrum.outputs, spectrum.inputs, inner)


def feasible(outputs: Sequence[int], inputs: Sequence[int], inner: Sequence[int]) -> tuple[int, ...]:
    """The ranks of the inner bonds, each lowered to what its bond and both of its neighbours can carry; with both ends. raises: ShapeError below 1"""
    largest = max_ranks(outputs, inputs)
    sizes = [output * size for output, size in zip(outputs, inputs, strict=True)]
    ranks = [1, *(min(rank, most) for rank, most in zip(inner, largest[1:-1], strict=True)), 1]
    if min(ranks) < 1:
        raise ShapeError(f"rank {min(ranks)} among {tuple(inner)}: every rank must be at least 1")
    for k, size in enumerate(sizes):
        ranks[k + 1] = min(ranks[k + 1], ranks[k] * size)
    for k in range(len(sizes) - 1, -1, -1):
        ranks[k] = min(ranks[k], ranks[k + 1] * sizes[k])
    return tuple(ranks)


def _grown(spectrum: Spectrum, cost: Callable[[TTShape], float], budget: float) -> tuple[int, ...]:
    """Greedy: from rank 1, the bond whose next rank removes the most of the discarded squares per unit of cost, while it fits and removes any."""
    ranks = [1] * (len(spectrum.outputs) + 1)
    while True:
        now = cost(spectrum.shape(ranks))
        steps = []
        for bond, values in enumerate(spectrum.values, start=1):
            grown = list(ranks)
            grown[bond] += 1
            if ranks[bond] >= len(values) or values[ranks[bond]] <= 0 or tuple(grown) != _feasible(spectrum, grown[1:-1]):
                continue
            if (total := cost(spectrum.shape(grown))) <= budget:
                steps.append((values[ranks[bond]] ** 2 / max(total - now, 1e-9), bond))
        if not steps:
            return tuple(ranks)
        ranks[max(steps)[1]] += 1
