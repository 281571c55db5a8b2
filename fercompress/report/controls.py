"""The controls: each stands beside the tensor train that it answers, with paired differences and a plain verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fercompress.choice import SAME_BYTES as SAME_BYTES
from fercompress.report.cells import Cell, Table
from fercompress.report.leak import accuracy_text
from fercompress.report.pairs import Change, accuracy_change, speedup
from fercompress.report.record import ReportInput, Row
from fercompress.report.tables import heads, points_cell, variant_cell
from fercompress.report.units import bytes_text, faster_text, interval_text, points_text, ratio_text, time_text


@dataclass(frozen=True)
class Remark:
    """kind: what it is about ("gain", "cost", "but", "paper", "otherwise") or who wins ("control", "train", "mixed", "tie", "open")"""

    kind: str
    text: str
    control: str = ""
    about: str = ""  # the variant that the control answers
    verdict: str = ""  # the text's first sentence, without its point


@dataclass(frozen=True)
class Match:
    """A control beside a tensor train; change: accuracy of the train less that of the control, None where nothing was tested on both"""

    control: Row
    train: Row
    change: Change | None

    @property
    def bytes_ratio(self) -> float | None:
        """The control's bytes over the train's."""
        control, train = self.control.get("stored_bytes"), self.train.get("stored_bytes")
        return control / train if control and train else None

    @property
    def equal_bytes(self) -> bool:
        return self.bytes_ratio is not None and 1 / SAME_BYTES <= self.bytes_ratio <= SAME_BYTES

    @property
    def verdict(self) -> str:
        """On accuracy alone."""
        if self.change is None:
            return "not compared"
        return {1: "TT gains", -1: "the control is better", 0: "tied"}[self.change.sign]

    @property
    def control_wins(self) -> bool:
        """More accurate in as many bytes or fewer."""
        return self.change is not None and self.change.sign < 0 and self.bytes_ratio is not None and self.bytes_ratio <= SAME_BYTES

    def bytes_words(self) -> str:
        if self.bytes_ratio is None:
            return "bytes not known"
        if self.equal_bytes:
            return "at equal bytes"
        more = self.bytes_ratio > 1
        return f"not at equal bytes: the control stores {ratio_text(max(self.bytes_ratio, 1 / self.bytes_ratio))} {'as many' if more else 'fewer'}"


def matches(given: ReportInput, target: str) -> list[Match]:
    """Each control beside the train that it answers, then beside the train nearest in bytes, if that is another one."""
    rows = given.on(target)
    trains = [row for row in rows if given.family(row["variant"]) == "tensor train"]
    found: list[Match] = []
    for control in (row for row in rows if given.family(row["variant"]) == "control"):
        answered = counterpart(given, control, trains)
        for train in (answered, nearest(control, trains, answered)):
            if train is not None and not any(match.control is control and match.train is train for match in found):
                found.append(Match(control, train, accuracy_change(given, target, control["variant"], train["variant"])))
    return found


def nearest(control: Row, trains: Sequence[Row], answered: Row | None = None) -> Row | None:
    """The train whose stored bytes are nearest to the control's, as a ratio; `answered` where it is equally large already."""
    if answered is not None and Match(control, answered, None).equal_bytes:
        return answered
    if not control.get("stored_bytes"):
        return None
    sized = [row for row in trains if row.get("stored_bytes")]
    return min(sized, key=lambda row: abs(math.log(row["stored_bytes"] / control["stored_bytes"])), default=None)


def table(given: ReportInput, target: str) -> Table:
    """One line per match: is it the tensor train that helps, or being small?"""
    lines = []
    for match in matches(given, target):
        control, train = match.control, match.train
        style = "words worse" if match.control_wins else "words"
        lines.append(
            (
                variant_cell(given, control["variant"]), Cell(train["variant"], style="words"), _accuracy(control), _accuracy(train),
                points_cell(match.change), Cell(match.verdict, match.bytes_words(), style=style),
            )
        )  # fmt: skip
    titles = ("Control", "Tensor train", "Accuracy of the control", "Accuracy of the train", "TT less control, points", "Verdict on accuracy")
    notes = (
        "Each control beside the tensor train that it answers (its rank, or the bytes it was built to) and beside the one nearest in bytes. "
        f"Equal: within {100 * (SAME_BYTES - 1):.0f} %. Tied: the 95 % interval of the paired difference holds 0; it says how much may still lie "
        "between them.",
    )
    return Table("controls", "Tensor trains against controls at the same bytes", heads(*titles), tuple(lines), notes if lines else ())


def _accuracy(row: Row) -> Cell:
    size = f"{row['stored_bytes']:,} B" if row.get("stored_bytes") else "bytes not known"
    if row.get("accuracy") is None:
        return Cell("n/a", size, missing=True)
    return Cell(accuracy_text(row), size, exact=f"{row['accuracy']}")


def beaten(given: ReportInput, target: str) -> list[Remark]:
    """A control that is more accurate than a train of the same bytes or more belongs on the first screen."""
    said = []
    for match in matches(given, target):
        if match.control_wins and match.change is not None:
            sizes = f"{bytes_text(match.control['stored_bytes'])} against {bytes_text(match.train['stored_bytes'])}"
            gain = Change(-match.change.value, match.change.interval and (-match.change.interval[1], -match.change.interval[0]), 0.0)
            words = "At equal bytes" if match.equal_bytes else "In fewer bytes"
            said.append(
                Remark(
                    "but",
                    f"{words} ({sizes}) the control **{match.control['variant']}** is more accurate than **{match.train['variant']}**: "
                    f"{points_text(gain.value)} points {_bounds(gain, percent=True)}.",
                    match.control["variant"],
                    match.train["variant"],
                )
            )
    return said


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
        if row["variant"] in named:
            return row
    for row in trains:
        ranks = [step.get("rank") for step in given.recipe(row["variant"]) if step["step"] == "tensor-train"]
        if rank in ranks and all(row.get(bits) == control.get(bits) for bits in ("predictor_bits", "extractor_bits")):
            return row
    return nearest(control, trains)


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
        both = [row.get("latency_clip_p50_ns") for row in (control, train)]
        # A ratio pairs rounds; a median needs more clips than that.
        times = f"{time_text(both[0])} against {time_text(both[1])} per clip, " if both[0] and both[1] else ""
        parts.append(f"{given.timing_word(control['target'])}{times}{faster_text(speed.value, speed.interval)}")
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
    text = f"{verdict}. The control: {'; '.join(parts)}.{_at_equal_bytes(given, control, train)}"
    return Remark(kind, text, control["variant"], train["variant"], verdict)


def _at_equal_bytes(given: ReportInput, control: Row, answered: Row) -> str:
    """The verdict on accuracy beside the train nearest in bytes, as a sentence; answered: the train whose figures are told already."""
    trains = [row for row in given.on(control["target"]) if given.family(row["variant"]) == "tensor train"]
    train = nearest(control, trains, answered)
    if train is None:
        return ""
    match = Match(control, train, accuracy_change(given, control["target"], control["variant"], train["variant"]))
    if train is answered:
        return f" In accuracy, {match.bytes_words()}: {match.verdict}."
    difference = "" if match.change is None else f" (TT less control: {points_text(match.change.value)} points {_bounds(match.change, percent=True)})"
    return f" Accuracy beside **{train['variant']}**, nearest in bytes, {match.bytes_words()}: {match.verdict}{difference}."


def _bounds(change: Change, percent: bool = False) -> str:
    return "(no interval)" if change.interval is None else interval_text(change.interval, percent=percent)
