"""The columns of one summary row, a group per function: what was measured of a variant on a target, or the reason why it is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fercompress import stats
from fercompress.records import Doubt, Pass, Size, Status
from fercompress.results.frame import MEMORY_STEPS, STAGES, Tables
from fercompress.results.store import StoredBundle, Training

BLOCKS_PER_ROUND = 2  # a round is an order of all variants and its mirror
NOISY = 0.10  # variation of the blocks' medians (pyperf's limit)
DRIFT = 0.05  # between the rounds' halves
BUSY_SHARE = 0.10  # of one core, used by another process before a block
FEW_PEOPLE = 10


@dataclass
class Row:
    """One row in the making."""

    tables: Tables
    variant: str
    target: str
    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    doubts: set[Doubt] = field(default_factory=set)

    @property
    def baseline(self) -> str:
        return str(self.tables.study["baseline"])

    @property
    def is_baseline(self) -> bool:
        return self.variant == self.baseline

    def put(self, **columns: Any) -> None:
        self.values.update(columns)

    def lack(self, reason: str, *columns: str) -> None:
        for column in columns:
            self.values[column] = None
            self.reasons[column] = reason

    def blocks(self, pass_: Pass, variant: str | None = None) -> pd.DataFrame:
        """The counted blocks of a pass on this target, failed ones too."""
        blocks = self.tables.blocks
        mine = (blocks["variant"] == (variant or self.variant)) & (blocks["target"] == self.target) & (blocks["pass"] == str(pass_))
        return blocks[mine & blocks["counted"]]

    def finished(self, pass_: Pass, variant: str | None = None) -> pd.DataFrame:
        blocks = self.blocks(pass_, variant)
        return blocks[blocks["status"] == str(Status.OK)]

    def why_not(self, pass_: Pass) -> str:
        """Why there is no finished block of a pass."""
        blocks = self.blocks(pass_)
        if len(blocks):
            return f"{len(blocks)} of {len(blocks)} blocks did not finish: {blocks['reason'].iloc[-1]}"
        asked = self.tables.study.get("measure", {}).get("passes")
        return f"the study does not ask for the {pass_} pass" if asked is not None and str(pass_) not in asked else "not measured yet"


def size(row: Row) -> None:
    """Counts from the manifest; ratios say how many times smaller than the dense twin (parameters) or the baseline (bytes)."""
    bundle, baseline = _timed(row.tables, row.variant), _timed(row.tables, row.baseline)
    columns = (
        "params", "params_extractor", "params_lstm", "params_tt", "stored_bytes", "bytes_extractor", "bytes_predictor",
        "ratio_tt_params", "ratio_lstm_params", "ratio_model_params", "ratio_model_bytes",
    )  # fmt: skip
    if bundle is None:
        row.lack("no bundle was exported", *columns)
        return
    mine: Size = bundle.size
    row.put(
        params=mine.params_model, params_extractor=mine.params_extractor, params_lstm=mine.params_lstm, params_tt=mine.params_tt,
        stored_bytes=mine.stored_bytes, bytes_extractor=mine.bytes_extractor, bytes_predictor=mine.bytes_predictor,
    )  # fmt: skip
    _ratio(row, "ratio_tt_params", mine.params_tt_dense, mine.params_tt, "nothing is in tensor-train form")
    _ratio(row, "ratio_lstm_params", mine.params_lstm_dense, mine.params_lstm, "it has no LSTM parameters")
    _ratio(row, "ratio_model_params", mine.params_model_dense, mine.params_model, "it has no parameters")
    _ratio(
        row,
        "ratio_model_bytes",
        baseline.size.stored_bytes if baseline else 0,
        mine.stored_bytes,
        f"no bundle of the baseline {row.baseline} was exported",
    )


def _ratio(row: Row, column: str, large: int, small: int, reason: str) -> None:
    if large and small:
        row.put(**{column: large / small})
    else:
        row.lack(reason, column)


def _timed(tables: Tables, variant: str) -> StoredBundle | None:
    """The bundle that stands for a variant: the timed one, else the first."""
    mine = [bundle for bundle in tables.bundles if bundle.variant == variant]
    return next((bundle for bundle in mine if bundle.timed), mine[0] if mine else None)


def accuracy(row: Row) -> None:
    """Folds pooled (each test clip once per seed), seeds averaged; interval and limit resample people and seeds."""
    scores, clips = _scores(row.tables, row.variant, row.target)
    columns = ("accuracy", "accuracy_ci95", "n_clips", "seeds", "majority_share", "accuracy_drop", "accuracy_drop_limit95")
    row.put(chance=None)
    if row.tables.clips is None:
        row.lack("the clips are not recorded yet", "chance", *columns)
        return
    row.put(chance=1 / len(row.tables.clips.classes))
    if row.tables.clips.simulated:
        row.doubts.add(Doubt.SIMULATED)
    if scores.empty:
        row.lack(row.why_not(Pass.ACCURACY), *columns)
        return
    correct, clusters = scores.to_numpy(np.float64), clips["cluster"].tolist()
    row.put(
        accuracy=stats.seed_mean(correct), accuracy_ci95=list(stats.accuracy_interval(correct, clusters)),
        n_clips=len(clips), seeds=len(scores), majority_share=float(clips["label"].value_counts().max() / len(clips)),
    )  # fmt: skip
    _drop(row, scores)
    if len(scores) == 1:
        row.doubts.add(Doubt.ONE_SEED)
    if clips["cluster"].nunique() < FEW_PEOPLE:
        row.doubts.add(Doubt.FEW_PEOPLE)
    planned = len(row.tables.study.get("seeds", (0,))) * len(row.tables.clips.folds)
    if len(row.finished(Pass.ACCURACY)) < planned:
        row.doubts.add(Doubt.INCOMPLETE)


def _drop(row: Row, scores: pd.DataFrame) -> None:
    """In points: baseline less variant, on the clips and seeds that both were tested on."""
    if row.is_baseline:
        row.put(accuracy_drop=0.0)
        row.lack("this is the baseline", "accuracy_drop_limit95")
        return
    theirs, facts = _scores(row.tables, row.baseline, row.target)
    seeds, clips = scores.index.intersection(theirs.index), scores.columns.intersection(theirs.columns)
    if not len(seeds) or not len(clips):
        row.lack(f"the baseline {row.baseline} was tested on no common seed and clip on this target", "accuracy_drop", "accuracy_drop_limit95")
        return
    baseline, variant = (frame.loc[seeds, clips].to_numpy(np.float64) for frame in (theirs, scores))
    both = np.isnan(baseline) | np.isnan(variant)
    baseline, variant = np.where(both, np.nan, baseline), np.where(both, np.nan, variant)
    row.put(
        accuracy_drop=100 * stats.seed_mean(baseline - variant),
        accuracy_drop_limit95=100 * stats.drop_limit(baseline, variant, facts.loc[clips, "cluster"].tolist()),
    )


def _scores(tables: Tables, variant: str, target: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """returns: right (1) or wrong (0) by seed (rows) and clip (columns), NaN unseen; cluster and label by clip"""
    predictions = tables.predictions
    mine = predictions[(predictions["variant"] == variant) & (predictions["target"] == target)]
    if mine.empty:
        return pd.DataFrame(), pd.DataFrame()
    scores = mine.assign(correct=mine["correct"].astype(float)).pivot_table(index="seed", columns="clip", values="correct", aggfunc="mean")
    return scores, mine.drop_duplicates("clip").set_index("clip").loc[scores.columns, ["cluster", "label"]]


def latency(row: Row) -> None:
    """Centres are medians of block medians; the p90 pools all timed clips; speed-ups pair a round's baseline with the same round's variant."""
    blocks = row.finished(Pass.LATENCY)
    timings = row.tables.timings
    mine = timings[timings["block"].isin(blocks["block"])]
    row.put(blocks=len(blocks), timed_clips=len(mine))
    centres = [f"latency_{stage}_p50_ns" for stage in STAGES]
    if blocks.empty:
        row.lack(row.why_not(Pass.LATENCY), *centres, "latency_clip_p90_ns", "latency_clip_cv", "rounds")
        for stage in STAGES:
            row.lack(row.reasons[centres[0]], f"speedup_{stage}", f"speedup_{stage}_ci95")
        return
    for stage, column in zip(STAGES, centres, strict=True):
        if len(mine) < stats.FLOORS[0.5]:
            row.lack(_too_few(len(mine), 0.5), column)
        else:
            row.put(**{column: round(stats.median_of_medians([block.to_numpy() for _, block in mine.groupby("block")[f"{stage}_ns"]]))})
    p90 = stats.percentile(mine["clip_ns"].to_numpy(np.float64), 0.9)
    if p90 is None:
        row.lack(_too_few(len(mine), 0.9), "latency_clip_p90_ns")
        row.doubts.add(Doubt.FEW_SAMPLES)
    else:
        row.put(latency_clip_p90_ns=round(p90))
    _spread(row, blocks)
    _speedups(row)


def _too_few(n: int, q: float) -> str:
    return f"{n} timed clips: a p{round(100 * q)} needs at least {stats.FLOORS[q]}"


def _spread(row: Row, blocks: pd.DataFrame) -> None:
    variations = [stats.coefficient_of_variation(blocks[f"{stage}_p50_ns"].to_numpy()) for stage in STAGES]
    if variations[-1] is None:
        row.lack("one block: no variation between blocks is known", "latency_clip_cv")
    else:
        row.put(latency_clip_cv=variations[-1])
    drifts = [stats.drift(np.exp(_rounds(blocks, stage).to_numpy())) for stage in STAGES]
    if any(variation is not None and variation >= NOISY for variation in variations):
        row.doubts.add(Doubt.NOISY)
    if any(drift is not None and abs(drift) >= DRIFT for drift in drifts):
        row.doubts.add(Doubt.DRIFT)
    if (blocks["host_busy_share"] >= BUSY_SHARE).any():
        row.doubts.add(Doubt.BUSY_HOST)


def _rounds(blocks: pd.DataFrame, stage: str) -> pd.Series[float]:
    """A round's value: the mean of the log medians of its two mirrored blocks, which cancels a steady drift. Rounds with one block have none."""
    logs = pd.Series(np.log(blocks[f"{stage}_p50_ns"].to_numpy(np.float64)))
    rounds = logs.groupby(blocks["round"].to_numpy()).agg(["mean", "size"]).sort_index()
    return rounds.loc[rounds["size"] >= BLOCKS_PER_ROUND, "mean"]


def _speedups(row: Row) -> None:
    mine, theirs = row.finished(Pass.LATENCY), row.finished(Pass.LATENCY, row.baseline)
    for stage in STAGES:
        column, interval = f"speedup_{stage}", f"speedup_{stage}_ci95"
        values = (_rounds(theirs, stage) - _rounds(mine, stage)).dropna().to_numpy(np.float64)
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


def memory(row: Row) -> None:
    """Medians over the blocks of the high-water mark after each step."""
    blocks = row.finished(Pass.MEMORY)
    for step in MEMORY_STEPS:
        column = f"memory_{step}_bytes"
        values = blocks[column].dropna()
        if values.empty:
            row.lack(row.why_not(Pass.MEMORY) if blocks.empty else f"the blocks do not tell the step {step!r}", column)
        else:
            row.put(**{column: round(values.median())})


def power(row: Row) -> None:
    blocks = row.finished(Pass.POWER)
    values = blocks["power_w"].dropna()
    if len(values):
        row.put(power_w=float(values.median()), power_reason="")
        return
    reason = row.why_not(Pass.POWER) if blocks.empty else blocks["reason"].iloc[-1] or "the power blocks give neither a figure nor a reason"
    row.lack(reason, "power_w")
    row.put(power_reason=reason)


def training(row: Row) -> None:
    trainings = [each for each in row.tables.trainings if each.variant == row.variant]
    bundle = _timed(row.tables, row.variant)
    way = "; ".join(dict.fromkeys(each.way for each in trainings)) or (str(bundle.manifest.get("way", "")) if bundle else "")
    if way:
        row.put(way=way)
    else:
        row.lack("not recorded", "way")
    if not trainings:
        row.lack("no training of its own", "train_epoch_s", "validation_accuracy", "accuracy_last_epoch")
        return
    row.put(validation_accuracy=_mean(trainings, [each.history.validation_accuracy[each.history.best_epoch] for each in trainings]))
    seconds = [each.train_epoch_s for each in trainings if each.train_epoch_s is not None]
    if seconds:
        row.put(train_epoch_s=float(np.median(seconds)))
    else:
        row.lack("no epoch on cached features was timed", "train_epoch_s")
    last = [each.last_epoch_accuracy for each in trainings if each.last_epoch_accuracy is not None]
    if len(last) == len(trainings):
        row.put(accuracy_last_epoch=_mean(trainings, last, _test_clips(row.tables)))
    else:
        row.lack("not every training was tested after its last epoch", "accuracy_last_epoch")


def _mean(trainings: list[Training], values: list[float], clips: Mapping[str, int] | None = None) -> float:
    """Over folds (each counts as much as its test clips, if given), then over seeds."""
    frame = pd.DataFrame(
        {"seed": [each.seed for each in trainings], "value": values, "weight": [(clips or {}).get(each.fold, 1) for each in trainings]}
    )
    sums = frame.assign(value=frame["value"] * frame["weight"]).groupby("seed")[["value", "weight"]].sum()
    return float((sums["value"] / sums["weight"]).mean())


def _test_clips(tables: Tables) -> dict[str, int]:
    return {fold.name: len(fold.index) for fold in tables.clips.folds} if tables.clips else {}
