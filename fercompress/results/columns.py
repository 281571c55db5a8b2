"""The columns of a summary row on size, memory, power and training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fercompress.records import Pass, Size
from fercompress.results.row import Row
from fercompress.results.store import StoredBundle, Training
from fercompress.results.tables import MEMORY_STEPS, Tables


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
