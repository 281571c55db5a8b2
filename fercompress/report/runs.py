"""Several runs in one page: their `ReportInput`s in; what is comparable between them, and their variants side by side, out.

Accuracies are paired where the runs tested the same clips; times are never paired: rounds of two runs did not take turns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fercompress.report.cells import Cell, Notes, Table
from fercompress.report.pairs import Change, accuracy_change
from fercompress.report.record import ReportInput, Row
from fercompress.report.story import Story, tell
from fercompress.report.tables import ACCURACY, CLIP, PEAK, STORED, heads, points_cell, variant_cell
from fercompress.report.units import ratio_text

SHOWN = (ACCURACY, STORED, CLIP, PEAK)
PAIRED = "The later run less the first, in points: paired on the same seeds and test clips, 95 % interval by resampling people and seeds."
UNPAIRED = (
    "Times of two runs are not paired, and a machine is not the same on two days: no interval. `fercompress compare` measures two side by side."
)


@dataclass(frozen=True)
class Run:
    """label: its folder's name, another one for each run"""

    label: str
    given: ReportInput


@dataclass(frozen=True)
class Remark:
    """comparable: whether the two may be set beside each other; text: why, or why not"""

    comparable: bool
    text: str


@dataclass(frozen=True)
class Comparison:
    """merged: all runs as one input whose variants are named "label: variant"; advice: (label, what its own report advises) for each target"""

    runs: tuple[Run, ...]
    merged: ReportInput
    remarks: tuple[Remark, ...]
    advice: tuple[tuple[str, Story], ...]
    facts: Table
    shared: Table
    everything: Table


def compare(runs: Sequence[Run]) -> Comparison:
    """runs: two or more; the first is what the others are compared with"""
    merged = merge(runs)
    advice = tuple((run.label, tell(run.given, target)) for run in runs for target in run.given.targets)
    return Comparison(tuple(runs), merged, tuple(_remarks(runs)), advice, _facts(runs), shared(runs, merged), everything(runs))


def named(run: Run, variant: str) -> str:
    return f"{run.label}: {variant}"


def same_clips(runs: Sequence[Run]) -> bool:
    return len({run.given.data["fingerprint"] for run in runs}) == 1


def merge(runs: Sequence[Run]) -> ReportInput:
    """Clips of different data sets get different names, and rounds of different runs different numbers: what was not paired cannot be paired."""
    first, same = runs[0].given, same_clips(runs)
    rows, timings, predictions, blocks = [], [], [], []
    recipes: dict[str, Sequence[Mapping[str, Any]]] = {}
    manifests: dict[str, Mapping[str, Any]] = {}
    offset = 0
    for run in runs:
        given = run.given
        rows += [dict(row) | {"variant": named(run, row["variant"])} for row in given.rows]
        recipes |= {named(run, name): steps for name, steps in given.recipes.items()}
        manifests |= {named(run, name): manifest for name, manifest in given.manifests.items()}
        own = {"variant": lambda frame, run=run: run.label + ": " + frame["variant"].astype(str)}
        timings.append(given.timings.assign(**own, round=given.timings["round"] + offset))
        blocks.append(given.blocks.assign(**own, round=given.blocks["round"] + offset))
        offset += 1 + (int(given.timings["round"].max()) if len(given.timings) else 0)
        names = {} if same else {key: run.label + ": " + given.predictions[key].astype(str) for key in ("clip_id", "cluster")}
        predictions.append(given.predictions.assign(**own, **names))
    return dataclasses.replace(
        first,
        study=" / ".join(run.given.study for run in runs), title=" and ".join(run.label for run in runs), baseline=named(runs[0], first.baseline),
        created_utc=max(run.given.created_utc for run in runs), rows=rows, recipes=recipes, manifests=manifests, ladder=(), faults=(), left_out=(),
        timings=_joined(timings), predictions=_joined(predictions), blocks=_joined(blocks), epochs=first.epochs.head(0), face_rates={},
        simulated_targets=list(dict.fromkeys(target for run in runs for target in run.given.simulated_targets)),
    )  # fmt: skip


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Empty frames have no types of their own, and must not decide those of the others."""
    return pd.concat([frame for frame in frames if len(frame)] or [frames[0]], ignore_index=True)


FACTS: Mapping[str, Callable[[ReportInput], str]] = {
    "Study": lambda given: given.study,
    "Made": lambda given: given.created_utc[:19],
    "Data": lambda given: f"{given.data['name']}, fingerprint {str(given.data['fingerprint'])[:12]}",
    "Folds": lambda given: f"{len(given.data['folds'])}" + (f", {given.data['protocol']}" if given.data.get("protocol") else ""),
    "Seeds": lambda given: ", ".join(map(str, sorted(given.predictions["seed"].unique()))) or "no accuracy",
    "Targets": lambda given: ", ".join(f"{target}{' (simulated)' if target in given.simulated_targets else ''}" for target in given.targets),
    "Processor": lambda given: "; ".join(f"{target}: {facts.get('cpu', 'not told')}" for target, facts in given.host.items()) or "not told",
    "Engine": lambda given: ", ".join(sorted({str(row["engine"]) for row in given.rows if row.get("engine")})) or "not told",
    "Threads": lambda given: str(given.settings.get("threads", "not told")),
    "Rounds": lambda given: str(given.settings.get("rounds", "not told")),
    "Baseline": lambda given: given.baseline,
}


def _facts(runs: Sequence[Run]) -> Table:
    lines = []
    for name, fact in FACTS.items():
        values = [fact(run.given) for run in runs]
        alike = len(set(values)) == 1
        lines.append(
            (Cell(name), *(Cell(value, style="words") for value in values), Cell("alike" if alike else "differs", style="self" if alike else ""))
        )
    titles = heads("Fact", *(run.label for run in runs), "")
    return Table("facts", "What the runs have in common, and what not", titles, tuple(lines), numeric=False)


def _remarks(runs: Sequence[Run]) -> list[Remark]:
    """Before any number: what may be compared."""
    same = same_clips(runs)
    protocols = {str(run.given.data.get("protocol")) for run in runs}
    if not same:
        clips = Remark(False, "Accuracies cannot be compared: the runs were tested on different clips.")
    elif len(protocols) > 1:
        clips = Remark(False, f"Accuracies cannot be compared: folds were cut in different ways ({', '.join(sorted(protocols))}).")
    else:
        clips = Remark(True, "Accuracies can be compared: the same clips; differences are paired where seeds are the same too.")
    found = [clips, Remark(True, "Stored bytes can be compared: they are exact.")]
    processors = {FACTS["Processor"](run.given) for run in runs}
    settings = {(FACTS["Threads"](run.given), FACTS["Targets"](run.given)) for run in runs}
    if len(processors) > 1 or len(settings) > 1:
        found.append(Remark(False, "Times and memory cannot be compared: targets, processors or threads differ."))
    else:
        found.append(Remark(True, "Times are of like machines, but of other days and rounds: small differences say nothing."))
    return found


def shared(runs: Sequence[Run], merged: ReportInput) -> Table:
    """One line per variant and target that the first run and another have: each run's figures, then each later one beside the first."""
    notes = Notes()
    paired, unpaired = notes.mark(PAIRED), notes.mark(UNPAIRED)
    first, *others = runs
    rows = {(run.label, row["target"], row["variant"]): row for run in runs for row in run.given.rows}
    places = [
        (row["target"], row["variant"]) for row in first.given.rows if any((run.label, row["target"], row["variant"]) in rows for run in others)
    ]
    several = len({target for target, _ in places}) > 1
    columns: list[tuple[Cell, list[Cell]]] = []
    for run in others:
        changes = [points_cell(_change(merged, first, run, *place), "not tested on the same seeds and clips") for place in places]
        columns.append((Cell(f"Accuracy: {run.label} less {first.label}", marks=(paired,)), changes))
        for title, key, marks in (("Stored", "stored_bytes", ()), ("Time per clip", "latency_clip_p50_ns", (unpaired,))):
            ratios = [_ratio(rows.get((first.label, *place)), rows.get((run.label, *place)), key) for place in places]
            columns.append((Cell(f"{title}: {run.label} over {first.label}", marks=marks), ratios))
    for column in SHOWN:
        for run in runs:
            cells = [column.cell(run.given, row, notes) if (row := rows.get((run.label, *place))) else _absent(run) for place in places]
            columns.append(notes.shared(f"{column.title}: {run.label}", cells))
    names = [variant_cell(first.given, variant) for _, variant in places]
    names = [dataclasses.replace(cell, sub=target) if several else cell for cell, (target, _) in zip(names, places, strict=True)]
    lines = tuple(zip(names, *(cells for _, cells in columns), strict=True))
    return Table("shared", "Variants that the runs share", (Cell("Variant"), *(head for head, _ in columns)), lines, notes.texts if lines else ())


def _absent(run: Run) -> Cell:
    return Cell("—", exact=f"not in {run.label}", style="self")


def _change(merged: ReportInput, first: Run, other: Run, target: str, variant: str) -> Change | None:
    return accuracy_change(merged, target, named(first, variant), named(other, variant))


def _ratio(before: Row | None, now: Row | None, key: str) -> Cell:
    old, new = (None if row is None else row.get(key) for row in (before, now))
    if not old or not new:
        return Cell("n/a", exact="not known of both", missing=True)
    return Cell(ratio_text(new / old), exact=f"{old} → {new}")


def everything(runs: Sequence[Run]) -> Table:
    """One line per run, target and variant."""
    notes = Notes()
    rows: list[tuple[Run, Row]] = [(run, row) for run in runs for row in run.given.rows]
    filled: list[tuple[Cell, list[Cell]]] = [
        notes.shared(column.title, [column.cell(run.given, row, notes) for run, row in rows]) for column in SHOWN
    ]
    names: list[Any] = [dataclasses.replace(variant_cell(run.given, row["variant"]), sub=f"{run.label}, {row['target']}") for run, row in rows]
    lines = tuple(zip(names, *(cells for _, cells in filled), strict=True))
    return Table("everything", "All variants of all runs", (Cell("Variant"), *(head for head, _ in filled)), lines, notes.texts)
