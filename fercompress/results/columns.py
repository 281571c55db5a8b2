"""The columns of a summary row on size, memory and power."""

from __future__ import annotations

from fercompress.records import Doubt, Pass, Size
from fercompress.results.row import Row
from fercompress.results.tables import MEMORY_PARTS, MEMORY_STEPS

POWER = (
    "power_w", "power_idle_w", "power_net_w", "energy_inference_j", "energy_inference_net_j", "energy_clip_j", "energy_clip_net_j",
)  # fmt: skip
IDLE_DRIFT = 0.1  # of the net power, by which the idles before and after may differ
SHORT_LOAD_S = 60.0
NO_PARTS = "not told apart: the target's kernel does not tell anonymous from file-backed pages, it is a simulated one, or the block is an older one"
FAST_HZ = 350.0  # arXiv 2206.10377; a counter integrates by itself and may be read as rarely as one likes


def engine(row: Row) -> None:
    bundle = row.tables.bundle(row.variant)
    if bundle is None or row.absent:
        row.lack(row.absent or "no bundle was exported", "engine")
    else:
        row.put(engine=bundle.engine)


def size(row: Row) -> None:
    """Counts from the manifest; ratios say how many times smaller than the dense twin (parameters) or the baseline (bytes)."""
    bundle, baseline = row.tables.bundle(row.variant), row.tables.bundle(row.baseline)
    columns = (
        "params", "params_extractor", "params_lstm", "params_tt", "params_dense", "params_lstm_dense", "params_tt_dense",
        "stored_bytes", "bytes_extractor", "bytes_predictor",
        "ratio_tt_params", "ratio_lstm_params", "ratio_model_params", "ratio_model_bytes",
    )  # fmt: skip
    if bundle is None:
        row.lack(row.absent or "no bundle was exported", *columns)
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
    if bundle.manifest.get("foreign"):
        unknown = ("params_dense", "params_lstm_dense", "params_tt_dense", "ratio_tt_params", "ratio_lstm_params", "ratio_model_params")
        row.lack("an imported model: its dense twin is not known", *unknown)
        if bundle.manifest["extractor"]["file"].endswith(".rknn"):
            row.lack("an imported .rknn file does not tell how many numbers it stores", "params", "params_extractor")
    if bundle.manifest.get("one_file"):
        row.lack("n/a: one file for both stages", "bytes_extractor", "bytes_predictor", "params_extractor")


def _ratio(row: Row, column: str, large: int, small: int, reason: str) -> None:
    if large and small:
        row.put(**{column: large / small})
    else:
        row.lack(reason, column)


def memory(row: Row) -> None:
    """Medians over the blocks of the high-water mark after each step, and of what is anonymous and what files back."""
    blocks = row.finished(Pass.MEMORY)
    for step in (*MEMORY_STEPS, *MEMORY_PARTS):
        column = f"memory_{step}_bytes"
        values = blocks[column].dropna()
        if values.empty:
            untold = f"the blocks do not tell the step {step!r}" if step in MEMORY_STEPS else NO_PARTS
            row.lack(row.why_not(Pass.MEMORY) if blocks.empty else untold, column)
        else:
            row.put(**{column: round(values.median())})


def npu(row: Row) -> None:
    """What the NPU's own runtime tells; RKNNLite tells neither, and an extractor on the processor has no such figures."""
    bundle = row.tables.bundle(row.variant)
    on_npu = bundle is not None and any(step.get("npu") for step in bundle.manifest.get("recipe", ()))
    for column, pass_ in (("npu_frame_ns", Pass.LATENCY), ("npu_memory_peak_bytes", Pass.MEMORY)):
        blocks = row.finished(pass_)
        values = blocks[column].dropna()
        if len(values):
            row.put(**{column: round(values.median())})
        elif row.absent or bundle is None:
            row.lack(row.absent or "no bundle was exported", column)
        elif not on_npu:
            row.lack("its extractor does not run on an NPU", column)
        else:
            row.lack(row.why_not(pass_) if blocks.empty else str(blocks["npu_reason"].iloc[-1]) or "the NPU's runtime does not tell it", column)


def power(row: Row) -> None:
    """Medians over the blocks; what weakens them is a doubt: a short load, a slow meter, idles that differ."""
    blocks = row.finished(Pass.POWER)
    blocks = blocks[blocks["power_w"].notna()] if len(blocks) else blocks
    if blocks.empty:
        finished = row.finished(Pass.POWER)
        reason = row.why_not(Pass.POWER) if finished.empty else finished["reason"].iloc[-1] or "the power blocks give neither a figure nor a reason"
        row.lack(reason, *POWER)
        row.put(power_reason=reason, power_source="")
        return
    for column in POWER:
        values = blocks[column].dropna()
        if values.empty:
            row.lack("the blocks were measured before this figure existed: run with --fresh to measure them anew", column)
        else:
            row.put(**{column: float(values.median())})
    row.put(power_reason="", power_source=blocks["power_source"].iloc[-1])
    if ((blocks["power_idle_after_w"] - blocks["power_idle_before_w"]).abs() > IDLE_DRIFT * blocks["power_net_w"]).any():
        row.doubts.add(Doubt.IDLE_DRIFT)
    if (blocks["power_load_s"] < SHORT_LOAD_S).any():
        row.doubts.add(Doubt.SHORT_POWER)
    if ((blocks["power_rate_hz"] < FAST_HZ) & (blocks["power_counter"] == 0)).any():
        row.doubts.add(Doubt.SLOW_METER)
