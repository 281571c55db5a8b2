"""The ladder: variants one step at a time; what each step gained over the one before, and all steps so far over the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fercompress.report.cells import Cell, Table, reason
from fercompress.report.pairs import Change, accuracy_change, speedup
from fercompress.report.record import STAGES, ReportInput, Row
from fercompress.report.tables import faster_cell, heads, points_cell, smaller_cell, value_text, variant_cell
from fercompress.report.units import ratio_text

NOTES = (
    "Accuracy: variant less the other, in percentage points on the same seeds and test clips; 95 % interval by resampling people and seeds at once.",
    "Stored: exact bytes of the files that a target needs, so no interval.",
    "Extractor, predictor, clip: how many times faster, paired within rounds; 95 % signed-rank interval over rounds.",
    "In words: better or worse (of extractor, predictor, clip: faster or slower) only where the interval excludes no change; "
    "of dozens of intervals, one in twenty excludes it by chance.",
)


@dataclass(frozen=True)
class Gain:
    """What `new` gained over `old` on one target; a change is None where nothing was measured on both."""

    old: Row
    new: Row
    accuracy: Change | None
    speed: Mapping[str, Change | None]  # by stage

    @property
    def times_smaller(self) -> float | None:
        old, new = self.old.get("stored_bytes"), self.new.get("stored_bytes")
        return old / new if old and new else None

    def told(self) -> tuple[list[str], list[str], list[str]]:
        """What is better, what is worse, what cannot be told apart: in words, bytes exactly, the rest by their intervals."""
        better: list[str] = []
        worse: list[str] = []
        same: list[str] = []
        changes = {"accuracy": self.accuracy, **{stage: self.speed[stage] for stage in STAGES}}
        for what, change in changes.items():
            if change is not None:
                (better if change.sign > 0 else worse if change.sign < 0 else same).append(what)
        if (ratio := self.times_smaller) is not None:
            (better if ratio > 1 else worse if ratio < 1 else same).insert(0, "size")
        return better, worse, same

    def words(self) -> str:
        better, worse, same = self.told()
        parts = [f"{name}: {', '.join(of)}" for name, of in (("Worse", worse), ("Better", better), ("Not told apart", same)) if of]
        return ". ".join(parts) or "Nothing was measured on both"


@dataclass(frozen=True)
class Rung:
    """A variant of the ladder; step: over the rung before, None for the first; total: over the baseline, None for the baseline itself"""

    row: Row
    step: Gain | None
    total: Gain | None


def gain(given: ReportInput, old: Row, new: Row) -> Gain:
    """old, new: rows of one target"""
    names = (old["variant"], new["variant"])
    target = new["target"]
    return Gain(old, new, accuracy_change(given, target, *names), {stage: speedup(given, target, *names, stage) for stage in STAGES})


def climb(given: ReportInput, target: str) -> list[Rung]:
    """The study's ladder, the baseline below it; where it names none: all variants but the controls, in order."""
    rows = {row["variant"]: row for row in given.on(target)}
    baseline = given.baseline_row(target)
    names = [name for name in given.ladder or (name for name in rows if given.family(name) != "control") if name in rows]
    if baseline is not None and given.baseline not in names:
        names.insert(0, given.baseline)
    rungs: list[Rung] = []
    for name in names:
        row = rows[name]
        total = None if baseline is None or name == given.baseline else gain(given, baseline, row)
        before = rungs[-1].row if rungs else None
        # The second rung's step is its total where the ladder stands on the baseline.
        step = None if before is None else total if before is baseline else gain(given, before, row)
        rungs.append(Rung(row, step, total))
    return rungs


def steps(given: ReportInput, rungs: Sequence[Rung]) -> Table:
    """One line per step, against the step before."""
    lines = []
    for rung in rungs:
        if rung.step is not None:
            changed = change_text(given.recipe(rung.step.old["variant"]), given.recipe(rung.row["variant"]))
            lines.append((Cell(f"{rung.step.old['variant']} → {rung.row['variant']}"), Cell(changed, style="words"), *_cells(rung.step)))
    titles = ("Step", "What changed", "Accuracy, points", "Stored", "Extractor", "Predictor", "Clip", "In words")
    return Table("ladder-steps", "The ladder, one step at a time: each against the step before", heads(*titles), tuple(lines), NOTES if lines else ())


def totals(given: ReportInput, rungs: Sequence[Rung]) -> Table:
    """One line per rung, against the baseline."""
    lines = [(variant_cell(given, rung.row["variant"]), *_cells(rung.total)) for rung in rungs if rung.total is not None]
    titles = ("Up to", "Accuracy, points", "Stored", "Extractor", "Predictor", "Clip", "In words")
    return Table("ladder-totals", f"The ladder, all steps so far: against {given.baseline}", heads(*titles), tuple(lines))


def _cells(gained: Gain) -> tuple[Cell, ...]:
    worse = gained.told()[1]
    return (
        points_cell(gained.accuracy, reason(gained.new, "accuracy")),
        smaller_cell(gained.old, gained.new),
        *(faster_cell(gained.speed[stage], reason(gained.new, f"speedup_{stage}")) for stage in STAGES),
        Cell(gained.words(), style="words worse" if worse else "words"),
    )


def change_text(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> str:
    """How a recipe differs from another: "tensor-train: rank 2 → 4; + predictor int8; − low-rank (energy 0.9)"."""
    before, after = ({(step["step"], step.get("part") if step["step"] == "quantize" else None): step for step in steps_} for steps_ in (old, new))
    parts = []
    for key, step in after.items():
        if key not in before:
            parts.append(f"+ {_short(step)}")
        elif before[key] != step:
            changed = [name for name in {**before[key], **step} if before[key].get(name) != step.get(name)]
            parts.append(
                f"{_kind(step)}: "
                + ", ".join(f"{name.replace('_', ' ')} {value_text(before[key].get(name))} → {value_text(step.get(name))}" for name in changed)
            )
    parts += [f"− {_short(step)}" for key, step in before.items() if key not in after]
    return "; ".join(parts) or "the same recipe"


def _short(step: Mapping[str, Any]) -> str:
    """The recipe table has all settings; here those that tell steps apart."""
    if step.get("npu"):
        return f"{step['part']} on the NPU in {step['npu']}"
    if step["step"] == "quantize":
        return f"{step['part']} int{step.get('mean_bits') or step.get('bits', 8)}"
    settings = [f"{key.replace('_', ' ')} {value_text(step[key])}" for key in ("rank", "ratio", "bytes_of") if step.get(key) is not None]
    settings += [str(step[key]) for key in ("start", "layout") if step.get(key) is not None]
    return f"{step['step']} ({', '.join(settings)})" if settings else str(step["step"])


def _kind(step: Mapping[str, Any]) -> str:
    return f"{step['part']} quantize" if step["step"] == "quantize" else str(step["step"])


def total_text(gained: Gain) -> str:
    """ "137× smaller, clip 2.49× faster": for a picture's alternative text."""
    parts = [f"{ratio_text(gained.times_smaller)} smaller"] if gained.times_smaller else []
    if (clip := gained.speed["clip"]) is not None:
        parts.append(f"clip {ratio_text(clip.value)} faster")
    if gained.accuracy is not None:
        parts.insert(0, f"accuracy {100 * gained.accuracy.value:+.1f} points")
    return ", ".join(parts) or "not measured"
