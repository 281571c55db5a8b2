"""Fronts of worth (more is better) and cost (less is better): points in; which nobody beats in both, how likely, and how good a front is out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fercompress.stats.centre import Floats


def on_front(worth: Floats, cost: Floats) -> npt.NDArray[np.bool_]:
    """bool (..., V): no other variant has at least as much worth for at most the cost, and more of one or less of the other.

    worth (more is better), cost (less is better): float (..., V), NaN where a variant is not known, which neither beats nor is on a front
    """
    found = ~(np.isnan(worth) | np.isnan(cost))
    for place in range(worth.shape[-1]):
        mine, its = worth[..., place : place + 1], cost[..., place : place + 1]
        with np.errstate(invalid="ignore"):
            beaten = ((worth >= mine) & (cost <= its) & ((worth > mine) | (cost < its))).any(axis=-1)
        found[..., place] &= ~beaten
    return found


def front_probabilities(worth: Floats, cost: Floats) -> Floats:
    """Share of the draws in which each variant is on the front: worth, cost float (R, V) -> float (V,), NaN where no draw knows it."""
    known = ~(np.isnan(worth) | np.isnan(cost))
    with np.errstate(invalid="ignore"):
        return np.asarray(on_front(worth, cost).sum(axis=0) / known.sum(axis=0), np.float64)


def hypervolume(points: Sequence[tuple[float, float]], worst: tuple[float, float]) -> float:
    """Area between `worst` and what (worth, cost) points beat, in the units of both: the measure of a front (Zitzler & Thiele 1999).

    points: more worth and less cost are better; those not better than `worst` in both add nothing
    """
    floor, ceiling = worst
    area, reached = 0.0, floor
    for worth, cost in sorted(points, key=lambda point: (point[1], -point[0])):
        if cost < ceiling and worth > reached:
            area += (worth - reached) * (ceiling - cost)
            reached = worth
    return area
