"""The front of a run: which variants no other one beats in two things at once, and how likely each is to be one of them.

Draws resample what would be different another time: the people of the test clips and the training seeds for accuracy, the rounds for latency. A
draw is the same for all variants, which saw the same people, seeds and rounds. Sizes have no chance in them. It describes; it chooses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fercompress import stats
from fercompress.results.row import Row
from fercompress.results.tables import Tables
from fercompress.stats import Floats

RESAMPLES = 2000
Front = Mapping[str, Mapping[str, float | str]]  # variant -> column -> probability, or why there is none
COLUMNS = ("front_probability_stored_bytes", "front_probability_latency_clip")


def fill(row: Row, found: Front) -> None:
    """found: what `fronts` returned for the row's target."""
    mine = found[row.variant]
    for column in COLUMNS:
        told = mine[column]
        if isinstance(told, str):
            row.lack(told, column)
        else:
            row.put(**{column: told})


def fronts(tables: Tables, target: str, *, resamples: int = RESAMPLES, seed: int = 0) -> Front:
    """Of every variant of the study on one target. seed: of the draws, so that equal journals give equal numbers"""
    names = [variant["name"] for variant in tables.study["variants"]]
    accuracy, why_no_accuracy = _accuracy_draws(tables, target, names, resamples, seed)
    sizes = [bundle.size.stored_bytes if (bundle := tables.bundle(name)) else np.nan for name in names]
    latency, why_no_latency = _latency_draws(tables, target, names, resamples, seed)
    costs = {
        COLUMNS[0]: (np.broadcast_to(np.array(sizes, np.float64), accuracy.shape), "no bundle was exported"),
        COLUMNS[1]: (latency, why_no_latency),
    }
    shares = {column: stats.front_probabilities(accuracy, cost) for column, (cost, _) in costs.items()}
    return {
        name: {
            column: float(shares[column][place])
            if not np.isnan(shares[column][place])
            else (why_no_accuracy if np.isnan(accuracy[:, place]).all() else costs[column][1])
            for column in COLUMNS
        }
        for place, name in enumerate(names)
    }


def _accuracy_draws(tables: Tables, target: str, names: Sequence[str], resamples: int, seed: int) -> tuple[Floats, str]:
    """float (R, V), NaN where unknown: `stats.seed_mean` with people and seeds drawn anew; why it is not known of those without."""
    nothing = np.full((resamples, len(names)), np.nan)
    lines = tables.predictions[tables.predictions["target"] == target]
    if lines.empty:
        return nothing, "no test clip was answered on this target"
    seeds, clusters = sorted(lines["seed"].unique()), sorted(lines["cluster"].unique())
    if len(clusters) < 2:
        return nothing, "the test clips show one person (or sentence): how much people differ is not known"
    grid = pd.MultiIndex.from_product([seeds, clusters])
    drawn, weight = stats.drawn_counts(len(clusters), len(seeds), resamples, seed)
    for place, name in enumerate(names):
        answers = lines[lines["variant"] == name].groupby(["seed", "cluster"])["correct"]
        sums, counts = (
            figures.reindex(grid, fill_value=0).to_numpy(np.float64).reshape(len(seeds), -1) for figures in (answers.sum(), answers.count())
        )
        totals, sizes = drawn @ sums.T, drawn @ counts.T  # (R, S)
        used = weight * (sizes > 0)
        with np.errstate(invalid="ignore"):
            nothing[:, place] = (used * totals / np.maximum(sizes, 1)).sum(axis=1) / used.sum(axis=1)
    return nothing, "it has no accuracy on this target"


def _latency_draws(tables: Tables, target: str, names: Sequence[str], resamples: int, seed: int) -> tuple[Floats, str]:
    """float (R, V) ns, NaN where unknown: the median of the medians of the blocks of rounds drawn anew; why it is not known of those without."""
    nothing = np.full((resamples, len(names)), np.nan)
    blocks = tables.blocks
    mine = blocks[(blocks["target"] == target) & (blocks["pass"] == "latency") & blocks["counted"] & blocks["clip_p50_ns"].notna()]
    rounds = sorted(mine["round"].unique())
    if len(rounds) < stats.MIN_UNITS:
        return nothing, f"{len(rounds)} rounds of latency on this target: resampling needs at least {stats.MIN_UNITS}"
    drawn = np.random.default_rng(seed).integers(0, len(rounds), (resamples, len(rounds)))
    for place, name in enumerate(names):
        own = mine[mine["variant"] == name]
        if own["round"].nunique() < stats.MIN_UNITS:
            continue
        turn = own.groupby("round").cumcount()
        table = own.assign(turn=turn).pivot_table(index="round", columns="turn", values="clip_p50_ns").reindex(rounds).to_numpy(np.float64)
        medians = table[drawn].reshape(resamples, -1)
        known = ~np.isnan(medians).all(axis=1)
        nothing[known, place] = np.nanmedian(medians[known], axis=1)
    return nothing, f"fewer than {stats.MIN_UNITS} rounds of its latency on this target"
