"""Why the numbers of one side of a comparison are weaker than they look: a journal's tables in, doubts by pass and by metric out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fercompress import stats
from fercompress.records import Doubt, Pass
from fercompress.results.accuracy import FEW_PEOPLE, leaks
from fercompress.results.latency import BUSY_BLOCKS, BUSY_SHARE
from fercompress.results.tables import Tables

Doubts = dict[str, frozenset[Doubt]]


def doubts(tables: Tables, variant: str, target: str, stages: Sequence[str]) -> Doubts:
    """Keys: a pass ("latency", "accuracy"), of all its metrics, or one metric. stages: those that the variant's files tell apart."""
    blocks = tables.blocks
    mine = blocks[(blocks["variant"] == variant) & (blocks["target"] == target) & (blocks["pass"] == str(Pass.LATENCY))]
    mine = mine[mine["counted"] & (mine["status"] == "ok")]
    found: Doubts = {str(Pass.ACCURACY): _accuracy(tables, variant, target)}
    if len(mine):
        found |= _latency(tables, mine, stages)
    if tables.facts.get(target, {}).get("simulated"):
        found[str(Pass.LATENCY)] = found.get(str(Pass.LATENCY), frozenset()) | {Doubt.SIMULATED_TARGET}
    return found


def _latency(tables: Tables, blocks: pd.DataFrame, stages: Sequence[str]) -> Doubts:
    timings = tables.timings[tables.timings["block"].isin(blocks["block"])]
    by_block = dict(iter(timings.groupby("block")))
    # In the order measured: a drift is one over time.
    order = [by_block[number] for number in blocks.sort_values("recorded")["block"] if number in by_block]
    whole = stats.condition_doubts(**{name: bool(blocks[name].any()) for name in ("throttled", "clock_changed", "hot_start")})
    whole |= stats.sample_doubts(len(timings), blocks["round"].nunique()) - {Doubt.FEW_SAMPLES}
    if (blocks["host_busy_share"] >= BUSY_SHARE).mean() >= BUSY_BLOCKS:
        whole |= {Doubt.BUSY_HOST}
    found = {f"latency_{stage}_p50_ns": stats.block_doubts([each[f"{stage}_ns"].to_numpy(np.float64) for each in order]) for stage in stages}
    few = stats.sample_doubts(len(timings), stats.FEWEST_ROUNDS)  # of a p90 alone
    return {**found, "latency_clip_p90_ns": found["latency_clip_p50_ns"] | few, str(Pass.LATENCY): whole}


def _accuracy(tables: Tables, variant: str, target: str) -> frozenset[Doubt]:
    answers = tables.predictions
    answers = answers[(answers["variant"] == variant) & (answers["target"] == target)]
    if answers.empty or tables.clips is None:
        return frozenset()
    found = leaks(tables)
    if answers["cluster"].nunique() < FEW_PEOPLE:
        found.add(Doubt.FEW_PEOPLE)
    if tables.clips.simulated:
        found.add(Doubt.SIMULATED)
    return frozenset(found)
