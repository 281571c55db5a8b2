"""The 95th percentile of a clip's latency in a summary row: timed blocks in, the percentile and its interval over blocks out."""

from __future__ import annotations

import numpy as np

from fercompress import stats
from fercompress.records import Pass
from fercompress.results.row import Row

COLUMN, INTERVAL = "latency_clip_p95_ns", "latency_clip_p95_ns_ci95"


def tails(row: Row) -> None:
    """The interval draws blocks whole (BCa bootstrap): a process's clips resemble each other, so that more of them say little more."""
    blocks = row.finished(Pass.LATENCY)
    if blocks.empty:
        row.lack(row.why_not(Pass.LATENCY), COLUMN, INTERVAL)
        return
    timings = row.tables.timings
    mine = timings[timings["block"].isin(blocks["block"])]
    p95 = stats.percentile(mine["clip_ns"].to_numpy(np.float64), 0.95)
    if p95 is None:
        row.lack(f"{len(mine)} timed clips: a p95 needs at least {stats.FLOORS[0.95]}", COLUMN, INTERVAL)
        return
    row.put(**{COLUMN: round(p95)})
    bounds = stats.percentile_interval([block.to_numpy(np.float64) for _, block in mine.groupby("block")["clip_ns"]], 0.95)
    if bounds is None:
        row.lack(f"{len(blocks)} blocks: an interval of a p95 needs at least {stats.MIN_UNITS}", INTERVAL)
    else:
        row.put(**{INTERVAL: [round(bound) for bound in bounds]})
