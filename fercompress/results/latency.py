"""The latency columns of a summary row: timed blocks in, centres, percentiles and paired speed-ups out."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from fercompress import stats
from fercompress.records import Doubt, Pass
from fercompress.results.row import Row
from fercompress.results.tables import STAGES
from fercompress.stats.doubts import DRIFT, NOISY

BLOCKS_PER_ROUND = 2  # a round is an order of all variants and its mirror
BUSY_SHARE = 0.10  # of one core, used by another process during a block
ONE_FILE = "n/a: one file for both stages, here or in the baseline"
BUSY_BLOCKS = 0.10  # share of the blocks that this may happen to: on no machine does it never happen


def latency(row: Row) -> None:
    """Centres are medians of block medians; the p90 pools all timed clips; speed-ups pair a round's baseline with the same round's variant."""
    blocks = row.finished(Pass.LATENCY)
    timings = row.tables.timings
    mine = timings[timings["block"].isin(blocks["block"])]
    row.put(blocks=len(blocks), timed_clips=len(mine))
    centres = [f"latency_{stage}_p50_ns" for stage in STAGES]
    if blocks.empty:
        row.lack(row.why_not(Pass.LATENCY), *centres, "latency_stream_frame_p50_ns", "latency_clip_p90_ns", "latency_clip_cv", "rounds")
        for stage in STAGES:
            row.lack(row.reasons[centres[0]], f"speedup_{stage}", f"speedup_{stage}_ci95")
        return
    for stage in _stages(row):
        column = f"latency_{stage}_p50_ns"
        if len(mine) < stats.FLOORS[0.5]:
            row.lack(_too_few(len(mine), 0.5), column)
        else:
            row.put(**{column: round(stats.median_of_medians([block.to_numpy() for _, block in mine.groupby("block")[f"{stage}_ns"]]))})
    _stream(row, blocks)
    p90 = stats.percentile(mine["clip_ns"].to_numpy(np.float64), 0.9)
    if p90 is None:
        row.lack(_too_few(len(mine), 0.9), "latency_clip_p90_ns")
        row.doubts.add(Doubt.FEW_SAMPLES)
    else:
        row.put(latency_clip_p90_ns=round(p90))
    _spread(row, blocks)
    _speedups(row)
    one_file = [stage for stage in STAGES if stage not in _stages(row)]
    row.lack(ONE_FILE, *(column for stage in one_file for column in (f"latency_{stage}_p50_ns", f"speedup_{stage}", f"speedup_{stage}_ci95")))


def _stages(row: Row) -> tuple[str, ...]:
    """Those that the variant's files tell apart, and its baseline's."""
    bundles = [row.tables.bundle(name) for name in (row.variant, row.baseline)]
    return ("clip",) if any(each is not None and each.manifest.get("one_file") for each in bundles) else STAGES


def _stream(row: Row, blocks: pd.DataFrame) -> None:
    """One frame of a running stream: where the study asks for it and the predictor can step."""
    medians = blocks["stream_frame_p50_ns"].dropna()
    if len(medians):
        row.put(latency_stream_frame_p50_ns=round(float(np.median(medians))))
    elif not row.tables.study.get("measure", {}).get("stream_clips"):
        row.lack("the study does not ask for streams (stream_clips under [measure])", "latency_stream_frame_p50_ns")
    else:
        row.lack(str(blocks["stream_reason"].iloc[-1]) or "this target times no streams", "latency_stream_frame_p50_ns")


def _too_few(n: int, q: float) -> str:
    return f"{n} timed clips: a p{round(100 * q)} needs at least {stats.FLOORS[q]}"


def _spread(row: Row, blocks: pd.DataFrame) -> None:
    variations = [stats.coefficient_of_variation(blocks[f"{stage}_p50_ns"].to_numpy()) for stage in _stages(row)]
    if variations[-1] is None:
        row.lack("one block: no variation between blocks is known", "latency_clip_cv")
    else:
        row.put(latency_clip_cv=variations[-1])
    drifts = [stats.drift(np.exp(_rounds(blocks, stage).to_numpy())) for stage in _stages(row)]
    if any(variation is not None and variation >= NOISY for variation in variations):
        row.doubts.add(Doubt.NOISY)
    if any(drift is not None and abs(drift) >= DRIFT for drift in drifts):
        row.doubts.add(Doubt.DRIFT)
    if (blocks["host_busy_share"] >= BUSY_SHARE).mean() >= BUSY_BLOCKS:
        row.doubts.add(Doubt.BUSY_HOST)
    for column, doubt in (("hot_start", Doubt.HOT_START), ("clock_changed", Doubt.CLOCK_CHANGED), ("throttled", Doubt.THROTTLED)):
        if blocks[column].any():
            row.doubts.add(doubt)


def _rounds(blocks: pd.DataFrame, stage: str) -> pd.Series[float]:
    """A round's value: the mean of the log medians of its two mirrored blocks, which cancels a steady drift. Rounds with one block have none."""
    logs = pd.Series(np.log(blocks[f"{stage}_p50_ns"].to_numpy(np.float64)))
    rounds = logs.groupby(blocks["round"].to_numpy()).agg(["mean", "size"]).sort_index()
    return rounds.loc[rounds["size"] >= BLOCKS_PER_ROUND, "mean"]


def _speedups(row: Row) -> None:
    mine, theirs = row.finished(Pass.LATENCY), row.finished(Pass.LATENCY, row.baseline)
    for stage in _stages(row):
        column, interval = f"speedup_{stage}", f"speedup_{stage}_ci95"
        values: stats.Floats = np.asarray((_rounds(theirs, stage) - _rounds(mine, stage)).dropna(), np.float64)
        row.put(rounds=len(values))
        if row.is_baseline:
            row.put(**{column: 1.0})
            row.lack("this is the baseline", interval)
            continue
        if not len(values):
            row.lack(f"no round has both blocks of the variant and of the baseline {row.baseline} on this target", column, interval)
            continue
        row.put(**{column: math.exp(stats.hodges_lehmann(values))})
        bounds = stats.signed_rank_interval(values)
        if bounds is None:
            row.lack(f"{len(values)} paired rounds: a 95 % interval needs at least 6", interval)
        else:
            row.put(**{interval: [math.exp(bound) for bound in bounds]})
    if row.values["rounds"] < 6:
        row.doubts.add(Doubt.FEW_BLOCKS)
    if row.values["rounds"] < row.tables.study.get("measure", {}).get("rounds", 1):
        row.doubts.add(Doubt.INCOMPLETE)
