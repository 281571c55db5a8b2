"""Why a variant's numbers can be trusted, and how far: what each rests on, what was seen while it was measured, and what is doubted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fercompress.records import NOT_HERE
from fercompress.report.cells import Cell, Table, reason
from fercompress.report.record import ReportInput, Row
from fercompress.report.tables import heads
from fercompress.report.units import count_text, interval_text, percent_text

CONDITIONS = {"throttled": "cooling set in or it warmed by over 15 °C", "clock_changed": "a clock changed", "hot_start": "it began hot"}


def card(given: ReportInput, row: Row) -> Table:
    """One line per question that a careful reader asks."""
    lines = [
        ("Accuracy", _accuracy(given, row)),
        ("Latency", _latency(given, row)),
        ("State of the target", _conditions(given, row)),
        ("What was measured", _bundle(given.manifests.get(row["variant"]), given)),
        ("How it was made", _made(given.manifests.get(row["variant"]), row)),
        ("Choosing", "Validation clips chose the epoch that was kept, and choose the advice above; test clips choose nothing."),
        ("Faults", _faults(given, row)),
        ("Doubts", " ".join(f"{_sentence(doubt)}." for doubt in row.get("doubts") or ()) or "None was raised."),
    ]
    cells = tuple((Cell(question), Cell(answer, style="words")) for question, answer in lines if answer)
    return Table("trust", "Why trust these numbers", heads("About", "What they rest on"), cells, numeric=False)


def _accuracy(given: ReportInput, row: Row) -> str:
    if row.get("accuracy") is None:
        return f"n/a: {reason(row, 'accuracy')}."
    own = given.answers.get((row["target"], row["variant"]))
    people = "" if own is None else f" of {count_text(own['cluster'].nunique())} people or sentences"
    folds, bounds = len(given.data["folds"]), row.get("accuracy_ci95")
    rests = f"{count_text(row['n_clips'])} {given.clip_word}test clips{people}, {_many(row.get('seeds') or 1, 'seed')}, {_many(folds, 'fold')}"
    interval = (
        "no interval"
        if bounds is None
        else f"95 % interval {interval_text(bounds, percent=True)} for new people" + (" and seeds" if (row.get("seeds") or 1) > 1 else "")
    )
    shared = [fold.get("shared") for fold in given.data["folds"]]
    known = [count for count in shared if count is not None]
    leak = "" if not known else f" Test clips whose person is trained on: {count_text(sum(known))}."
    return f"{rests}; {interval}.{leak}"


def _latency(given: ReportInput, row: Row) -> str:
    if not row.get("blocks"):
        return f"n/a: {reason(row, 'latency_clip_p50_ns')}."
    blocks, rounds = row["blocks"], row.get("rounds")
    rests = f"{given.timing_word(row['target'])}{_many(blocks, 'block')} (fresh processes)"
    rests += f" in {_many(rounds, 'mirrored round')}" if rounds else ""
    rests += f", {count_text(row['timed_clips'])} timed clips; no sample is removed" if row.get("timed_clips") else ""
    variation = row.get("latency_clip_cv")
    return _sentence(rests) + (f". Blocks' medians vary by {percent_text(variation)} (SD over mean)." if variation is not None else ".")


def _conditions(given: ReportInput, row: Row) -> str:
    own = latency_blocks(given, row)
    if own.empty:
        return ""
    seen = [f"{words} in {int(own[key].astype(bool).sum())} of {len(own)} blocks" for key, words in CONDITIONS.items() if own[key].astype(bool).any()]
    busy = own["host_busy_share"].astype(float).max()
    other = "" if pd.isna(busy) else f" The busiest other process took up to {percent_text(float(busy))} of a core during a block."
    told = "; ".join(seen) or "its sensors, where it has any, told of no throttling, no changed clock and no hot start"
    return f"{_sentence(told)}.{other}"


def latency_blocks(given: ReportInput, row: Row) -> pd.DataFrame:
    """The counted, finished latency blocks of the row."""
    blocks = given.blocks
    mine = (blocks["variant"] == row["variant"]) & (blocks["target"] == row["target"]) & (blocks["pass"] == "latency") & (blocks["status"] == "ok")
    found: pd.DataFrame = blocks[mine & blocks["counted"].astype(bool)]
    return found


def _bundle(manifest: Mapping[str, Any] | None, given: ReportInput) -> str:
    if manifest is None:
        return ""
    files = "; ".join(
        f"{name} ({count_text(entry['bytes'])} B{', sha256 ' + str(entry['sha256'])[:12] if 'sha256' in entry else ''})"
        for name, entry in manifest.get("files", {}).items()
    )
    agreement = manifest.get("agreement") or {}
    told = ", ".join(
        f"{key.removesuffix('_max_abs')} {agreement[key]:g}" for key in ("extractor_max_abs", "predictor_max_abs") if agreement.get(key) is not None
    )
    accuracy = "; of each seed and fold its own files for accuracy." if _several(given) else ", and for accuracy."
    one = f"The same files for size, latency and memory{accuracy}"
    same = f" Largest difference between torch and the engine on {agreement.get('clips')} clips: {told}." if told else ""
    return f"{files + '. ' if files else ''}{one}{same}"


def _made(manifest: Mapping[str, Any] | None, row: Row) -> str:
    if manifest is None:
        return ""
    epochs = f", {_many(row['train_epochs'], 'epoch')} of its predictor" if row.get("train_epochs") else ""
    with_ = ", ".join(f"{library} {version}" for library, version in (manifest.get("made_with") or {}).items())
    checked = (manifest.get("checks") or {}).get("pruning_free") or {}
    pruned = [checked.get(key) for key in ("weights_pruned", "units_dropped")]
    free = f" Checked before export: {pruned[0]} weights pruned, {pruned[1]} units dropped." if None not in pruned else ""
    return f"{_sentence(str(manifest.get('way') or 'not told'))}{epochs}; {manifest.get('engine')}, with {with_}.{free}"


def _several(given: ReportInput) -> bool:
    return len(given.data["folds"]) > 1 or given.predictions["seed"].nunique() > 1


def _faults(given: ReportInput, row: Row) -> str:
    own = [fault for fault in given.faults if (fault["variant"], fault["target"]) == (row["variant"], row["target"])]
    return "; ".join(f"{fault['reason']} ({fault['pass']}, {fault.get('done', fault['status'])})" for fault in own) or "None was met."


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _many(count: float, what: str) -> str:
    return f"{count_text(count)} {what}{'' if count == 1 else 's'}"


def excluded(given: ReportInput) -> Table | None:
    """Every recorded block that results do not count, or that did not finish. None where there is none"""
    blocks = given.blocks
    if blocks.empty:
        return None
    out = blocks[~blocks["counted"].astype(bool) | (blocks["status"] != "ok")]
    out = out[~out["reason"].astype(str).str.startswith(NOT_HERE)]  # nobody asked that target for it
    if out.empty:
        return None
    lines = []
    for line in out.to_dict("records"):
        finished = line["status"] == "ok"
        why = "finished; another block of its place counts, or its bundle or the plan was replaced" if finished else str(line["reason"])
        place = f"{line['variant']}, {line['pass']} on {line['target']}"
        when = f"round {line['round']}, place {line['position']}; {str(line['recorded'])[:19].replace('T', ' ')} UTC"
        lines.append(
            (Cell(f"{line['block']}"), Cell(place, when, style="words"), Cell("no" if not line["counted"] else "as failed"), Cell(why, style="words"))
        )
    return Table("excluded", "Blocks that no figure is made of", heads("Block", "What", "Counted", "Why"), tuple(lines), numeric=False)
