"""Predicted against measured gain: a variant's manifest and its paired speed-ups in; one line per layer and part, with what contradicts, out.

The prediction is the cost model that chose how each tensor train runs (`fercompress.tt.plan`); a runtime times no layer alone, so that measured gains
are of whole parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fercompress.report.cells import Cell, Notes, Table
from fercompress.report.pairs import Change, speedup
from fercompress.report.record import ReportInput, Row
from fercompress.report.tables import faster_cell, heads
from fercompress.report.units import count_text, ratio_text, time_text
from fercompress.tt.plan import ONNXRUNTIME, Plan
from fercompress.tt.shape import TTShape

MODEL = f"Modelled time of the products alone, for {ONNXRUNTIME.where}: good to a factor of about 2."
MACS = (
    "Multiply-accumulates of one clip in the LSTM's layers that are tensor trains: the projection of all frames, and the recurrence, whose train a "
    "runtime merges when it loads the file; activations and the classifier are not counted."
)
ALONE = "n/a: a runtime runs the LSTM as a few operators; a layer is not timed alone."


@dataclass(frozen=True)
class Work:
    """Products of one clip: multiply-accumulates and modelled nanoseconds, of the dense float32 model and now"""

    macs_dense: int
    macs: int
    modelled_dense_ns: float
    modelled_ns: float

    @property
    def predicted(self) -> float:
        return self.modelled_dense_ns / self.modelled_ns


def projection(layer: Mapping[str, Any], frames: int) -> Work | None:
    """Of a manifest's layer: its input-to-hidden train as it runs; None where that is dense, padded (it runs merged), or no plan is recorded."""
    train = layer.get("input")
    if not isinstance(train, Mapping) or "ranks" not in train or train.get("padding") or "plan_us" not in layer:
        return None
    bits = next((bits for bits in (8, 4) if f"int{bits}" in str(train["storage"])), 32)
    shape = TTShape(tuple(train["outputs"]), tuple(train["inputs"]), tuple(train["ranks"]))
    plans = {each: Plan.for_lstm(shape, frames, bits=each, costs=ONNXRUNTIME) for each in (32, bits)}
    now = next((candidate for candidate in plans[bits].candidates if candidate.name == layer["execution"]), None)
    dense = next(candidate for candidate in plans[32].candidates if candidate.execution == "dense")
    return None if now is None else Work(dense.macs, now.macs, dense.cost_ns, now.cost_ns)


def recurrence(layer: Mapping[str, Any], frames: int) -> Work:
    """Merged when the file is loaded, so that it costs what the dense one costs."""
    macs = frames * 4 * int(layer["hidden_size"]) ** 2
    return Work(macs, macs, macs * ONNXRUNTIME.ns_per_mac, macs * ONNXRUNTIME.ns_per_mac)


def table(given: ReportInput, row: Row) -> Table | None:
    """None of the baseline, which gains nothing on itself, and without a manifest."""
    variant, manifest = row["variant"], given.manifests.get(row["variant"])
    if variant == given.baseline or manifest is None:
        return None
    notes = Notes()
    macs = notes.mark(MACS)
    frames = int(manifest.get("frames", 0))
    lines, works = [], []
    for layer in manifest.get("layers", ()):
        first = projection(layer, frames) if frames else None
        if first is None:
            continue
        works += [first, recurrence(layer, frames)]
        alone = Cell("n/a", marks=(notes.mark(ALONE),), missing=True)
        lines.append((Cell(f"{layer['name']}: projection", str(layer["execution"])), *_work(first), alone, Cell("")))
    whole = Work(*(sum(getattr(each, name) for each in works) for name in _WORK)) if works else None
    for part in ("predictor", "extractor"):
        change = speedup(given, row["target"], given.baseline, variant, part)
        work = whole if part == "predictor" else None
        fewer = _fewer_macs(work) if work is not None else _fewer_numbers(given, row, part)
        cells = (Cell("n/a", _numbers(given, row, part), missing=True), Cell("n/a", missing=True), Cell("n/a", missing=True))
        measured = faster_cell(change, str((row.get("reasons") or {}).get(f"speedup_{part}", "no rounds with both variants on this target")))
        told = words(work, change, fewer)
        style = "words worse" if "but slower" in told else "words"
        lines.append((Cell(part), *(cells if work is None else _work(work)), measured, Cell(told, style=style)))
    titles = (*heads("Part"), Cell("MACs, dense → now", marks=(macs,)), Cell("Modelled", marks=(notes.mark(MODEL),)))
    caption = f"Predicted against measured gain over {given.baseline}"
    return Table("gains", caption, (*titles, *heads("Predicted", "Measured", "In words")), tuple(lines), notes.texts)


_WORK = ("macs_dense", "macs", "modelled_dense_ns", "modelled_ns")


def _work(work: Work) -> tuple[Cell, Cell, Cell]:
    return (
        Cell(f"{count_text(work.macs_dense)} → {count_text(work.macs)}"),
        Cell(f"{time_text(work.modelled_dense_ns)} → {time_text(work.modelled_ns)}"),
        Cell(ratio_text(work.predicted), exact=f"{work.predicted}"),
    )


def _fewer_macs(work: Work) -> str:
    return "fewer MACs" if work.macs < work.macs_dense else ""


def _fewer_numbers(given: ReportInput, row: Row, part: str) -> str:
    """Where products are not counted: stored numbers, which a convolution uses alike often before and after."""
    before, now = _count(given.baseline_row(row["target"]), part), _count(row, part)
    return "fewer numbers" if before is not None and now is not None and now < before else ""


def _numbers(given: ReportInput, row: Row, part: str) -> str:
    before, now = _count(given.baseline_row(row["target"]), part), _count(row, part)
    return "" if before is None or now is None else f"numbers: {count_text(before)} → {count_text(now)}"


def _count(row: Row | None, part: str) -> float | None:
    if row is None:
        return None
    whole, extractor = row.get("params"), row.get("params_extractor")
    if extractor is None:
        return None
    return float(extractor) if part == "extractor" else None if whole is None else float(whole - extractor)


def words(work: Work | None, change: Change | None, fewer: str) -> str:
    """What the measured gain says of the prediction; "fewer MACs but slower" where its whole interval lies below 1."""
    if change is None:
        return "not measured"
    if change.interval is None:
        return "too few rounds to say"
    said = []
    if fewer and change.sign < 0:
        said.append(f"{fewer} but slower")
    if work is not None:
        low, high = change.interval
        said.append("less than predicted" if high < work.predicted else "more than predicted" if low > work.predicted else "as predicted")
    return "; ".join(said) or {1: "faster", 0: "not told apart", -1: "slower"}[change.sign]
