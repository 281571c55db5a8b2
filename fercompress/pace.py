"""How long latency blocks take: those of an earlier run in, seconds of a block to come, variant by variant, out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fercompress.config import Measure
from fercompress.records import Pass
from fercompress.results.tables import Tables


@dataclass(frozen=True)
class Pace:
    """Of one variant's blocks on one target, medians.

    clip_s: a timed clip; beside_s: all of a block that is not timed: the agent's start, loading, warm-up, the way there and back; blocks: how many
    """

    clip_s: float
    beside_s: float
    blocks: int

    def block_s(self, measure: Measure) -> float:
        """A block is timed until it has both its clips and its seconds."""
        return self.beside_s + max(measure.block_s, measure.block_clips * self.clip_s)


def paces(tables: Tables, target: str) -> Mapping[str, Pace]:
    """By variant; one without a latency block that followed another is left out.

    A block's length is the time from the last recorded block before it; the median leaves out those before which a run stood still.
    """
    blocks = tables.blocks[(tables.blocks["target"] == target) & (tables.blocks["pass"] == str(Pass.LATENCY))].sort_values("block")
    blocks = blocks.assign(length_s=pd.to_datetime(blocks["recorded"]).diff().dt.total_seconds())
    blocks = blocks[blocks["counted"] & (blocks["status"] == "ok") & blocks["length_s"].notna()]
    timed = tables.timings[tables.timings["block"].isin(blocks["block"])].groupby("block")["clip_ns"].agg(["sum", "median"]) / 1e9
    found = {}
    for variant, mine in blocks.groupby("variant"):
        spent = timed.loc[mine["block"]]
        beside = np.maximum(mine["length_s"].to_numpy() - spent["sum"].to_numpy(), 0)
        found[str(variant)] = Pace(float(spent["median"].median()), float(np.median(beside)), len(mine))
    return found
