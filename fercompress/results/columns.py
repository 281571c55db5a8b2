"""The columns of a summary row on size, memory and power."""

from __future__ import annotations

from fercompress.records import Doubt, Pass, Size
from fercompress.results.row import Row
from fercompress.results.tables import MEMORY_STEPS


def size(row: Row) -> None:
    """Counts from the manifest; ratios say how many times smaller than the dense twin (parameters) or the baseline (bytes)."""
    bundle, baseline = row.tables.bundle(row.variant), row.tables.bundle(row.baseline)
    columns = (
        "params", "params_extractor", "params_lstm", "params_tt", "params_dense", "params_lstm_dense", "params_tt_dense",
        "stored_bytes", "bytes_extractor", "bytes_predictor",
        "ratio_tt_params", "ratio_lstm_params", "ratio_model_params", "ratio_model_bytes",
    )  # fmt: skip
    if bundle is None:
        row.lack("no bundle was exported", *columns)
        return
    if len({stored.manifest["graph_key"] for stored in row.tables.bundles if stored.variant == row.variant}) > 1:
        row.doubts.add(Doubt.SHAPES_VARY)
    mine: Size = bundle.size
    row.put(
        params=mine.params_model, params_extractor=mine.params_extractor, params_lstm=mine.params_lstm, params_tt=mine.params_tt,
        params_dense=mine.params_model_dense, params_lstm_dense=mine.params_lstm_dense, params_tt_dense=mine.params_tt_dense,
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
