"""The controls: each stands beside the tensor train that it answers, with paired differences and a plain verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fercompress.report.pairs import Change, accuracy_change, speedup
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import bytes_text, faster_text, interval_text, points_text, time_text

SAME_BYTES = 1.05  # two variants within 5 % of each other's bytes count as equally large


@dataclass(frozen=True)
class Remark:
    """kind: what it is about ("gain", "cost", "but", "otherwise") or who wins ("control", "train", "mixed", "tie", "open")"""

    kind: str
    text: str
    control: str = ""
    about: str = ""  # the variant that the control answers
    verdict: str = ""  # the text's first sentence, without its point


def compare(given: ReportInput, rows: Sequence[Row]) -> tuple[Remark, ...]:
    """Each control beside its counterpart in tensor-train form: the honest question of the study."""
    trains = [row for row in rows if given.family(row["variant"]) == "tensor train"]
    remarks = []
    for control in (row for row in rows if given.family(row["variant"]) == "control"):
        twin = counterpart(given, control, trains)
        if twin is not None:
            remarks.append(_against(given, control, twin))
    # Bad news for the tensor train first: it must not be overlooked.
    return tuple(sorted(remarks, key=lambda remark: ("control", "tie", "mixed", "train", "open").index(remark.kind)))


def counterpart(given: ReportInput, control: Row, trains: Sequence[Row]) -> Row | None:
    """The tensor-train variant that a control answers: the one its recipe names, or of equal rank and bits, or the nearest in bytes."""
    recipe = given.recipe(control["variant"])
    named = {step.get("bytes_of") for step in recipe}
    rank = next((step.get("rank") for step in recipe if "rank" in step), None)
    for row in trains:
        ranks = {step.get("rank") for step in given.recipe(row["variant"]) if step["step"] == "tensor-train"}
        if row["variant"] in named or (rank in ranks and given.is_int8(row["variant"]) == given.is_int8(control["variant"])):
            return row
    sized = [row for row in trains if row.get("stored_bytes")]
    return min(sized, key=lambda row: abs(row["stored_bytes"] - control["stored_bytes"])) if sized and control.get("stored_bytes") else None


def _against(given: ReportInput, control: Row, train: Row) -> Remark:
    """A control beside a tensor train; a difference counts where its paired interval excludes "no change", bytes where they differ by over 5 %."""
    names = (train["variant"], control["variant"])
    better: list[str] = []
    worse: list[str] = []
    parts = []
    change = accuracy_change(given, control["target"], *names)
    if change is not None:
        parts.append(f"accuracy {points_text(change.value)} points {_bounds(change, percent=True)}")
        (better if change.sign > 0 else worse if change.sign < 0 else []).append("accuracy")
    if control.get("stored_bytes") and train.get("stored_bytes"):
        ratio = control["stored_bytes"] / train["stored_bytes"]
        parts.append(f"{bytes_text(control['stored_bytes'])} against {bytes_text(train['stored_bytes'])} stored")
        if not 1 / SAME_BYTES <= ratio <= SAME_BYTES:
            (better if ratio < 1 else worse).append("size")
    speed = speedup(given, control["target"], *names, "clip")
    if speed is not None:
        times = f"{time_text(control['latency_clip_p50_ns'])} against {time_text(train['latency_clip_p50_ns'])} per clip"
        parts.append(f"{times}, {faster_text(speed.value, speed.interval)}")
        (better if speed.sign > 0 else worse if speed.sign < 0 else []).append("speed")
    mine, its = f"**{control['variant']}**", f"**{train['variant']}**"
    if not parts:
        return Remark("open", f"The control {mine} and {its} cannot be compared: nothing was measured on both.")
    if better and worse:
        kind, verdict = "mixed", f"The control {mine} beats {its} in {' and '.join(better)} and loses in {' and '.join(worse)}"
    elif better:
        kind, verdict = "control", f"The control {mine} beats {its} in {' and '.join(better)} and is not shown to be worse in anything"
    elif worse:
        kind, verdict = "train", f"{its} beats its control {mine} in {' and '.join(worse)} and is not shown to be worse in anything"
    else:
        kind, verdict = "tie", f"The control {mine} and {its} cannot be told apart: here the tensor train buys nothing that the control does not"
    return Remark(kind, f"{verdict}. The control: {'; '.join(parts)}.", control["variant"], train["variant"], verdict)


def _bounds(change: Change, percent: bool = False) -> str:
    return "(no interval)" if change.interval is None else interval_text(change.interval, percent=percent)
