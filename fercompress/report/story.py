"""The first screen: rows in, plain sentences out that say which variant to use, what it costs and how sure that is.

Sentences mark variant names as **name**, which is Markdown and what the page's template turns into bold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fercompress import choice
from fercompress.records import QUARANTINED, Doubt
from fercompress.report import paper
from fercompress.report.cells import reason
from fercompress.report.controls import Remark, beaten, compare
from fercompress.report.ladder import Rung, climb
from fercompress.report.leak import accuracy_text, marked
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import bytes_text, count_text, faster_text, interval_text, percent_text, ratio_text, time_text, watts_text

RULE = choice.RULE


@dataclass(frozen=True)
class Tile:
    """One figure of the first screen: what it is, the pick's value, the baseline's and the interval below it."""

    label: str
    value: str
    finer: str
    missing: bool = False


@dataclass(frozen=True)
class Story:
    """What is said about one target; `pick` is None where validation accuracies are missing."""

    target: str
    pick: Row | None
    headline: str
    sentences: tuple[Remark, ...]
    tiles: tuple[Tile, ...]
    controls: tuple[Remark, ...]
    certainty: tuple[str, ...]
    gaps: tuple[str, ...]
    rungs: tuple[Rung, ...]


def tell(given: ReportInput, target: str) -> Story:
    rows, baseline = given.on(target), given.baseline_row(target)
    said = compare(given, rows), _certainty(given, rows), _gaps(rows), tuple(climb(given, target))
    published = paper.sentence(str(given.data["name"]), given.data.get("protocol"))
    beside = () if published is None else (Remark("paper", published),)
    but = (*beaten(given, target), *beside)  # whatever is said else: a control that wins stands on the first screen
    found = choice.advice(given.run_on(target), baseline, choice.validated(given.data))
    able, chosen = found.fitting, found.chosen
    if chosen is None or baseline is None:
        missing = f"{given.baseline} was not measured here"
        if baseline is not None:
            missing = f"validation accuracies are missing ({reason(baseline, 'validation_accuracy')})"
        return Story(target, None, f"No variant can be named: {missing}.", but, (), *said)
    if choice.guesses(baseline):
        missing = f"**{given.baseline}** is not shown to be better than always naming the largest class"
        return Story(target, None, f"No variant can be named: {missing}.", but, (), *said)
    tiles = _tiles(given, chosen, baseline)
    if chosen["variant"] == given.baseline:
        return Story(
            target, chosen, f"Keep **{given.baseline}**: no smaller variant stays within one point of it on validation data.", but, tiles, *said
        )
    role = ", a control: no tensor train does as well by the rule below" if given.family(chosen["variant"]) == "control" else ""
    remarks = (
        Remark("gain", _gains(chosen, baseline)),
        Remark("cost", _cost(chosen, baseline)),
        *but,
        *_rivals(rows, said[0], chosen),
        *(Remark("otherwise", text) for text in _others(able, chosen)),
    )
    return Story(target, chosen, f"Use **{chosen['variant']}**{role}.", remarks, tiles, *said)


def _gains(row: Row, baseline: Row) -> str:
    parts = [f"stores {bytes_text(row['stored_bytes'])} instead of {bytes_text(baseline['stored_bytes'])}"]
    if row.get("ratio_model_bytes") is not None:
        parts[0] += f" ({ratio_text(row['ratio_model_bytes'])} smaller)"
    if row.get("latency_clip_p50_ns") is not None and baseline.get("latency_clip_p50_ns") is not None:
        parts.append(
            f"answers a clip in {time_text(row['latency_clip_p50_ns'])} instead of {time_text(baseline['latency_clip_p50_ns'])}{_speed(row, 'clip')}"
        )
    sentence = f"It {' and '.join(parts)}."
    stages = [f"the {stage} is {words}" for stage in ("extractor", "predictor") if (words := speed_words(row, stage))]
    return sentence + (f" Of its stages, {' and '.join(stages)}." if stages else "")


def _speed(row: Row, stage: str) -> str:
    words = speed_words(row, stage)
    return f" ({words})" if words else ""


def speed_words(row: Row, stage: str) -> str:
    """ "6.02× [5.71, 6.30] faster" than the baseline; empty where there is no figure."""
    ratio = row.get(f"speedup_{stage}")
    return "" if ratio is None else faster_text(ratio, row.get(f"speedup_{stage}_ci95"))


def _cost(row: Row, baseline: Row) -> str:
    if row.get("accuracy") is None or baseline.get("accuracy") is None:
        return f"What it costs in accuracy is not known: {reason(row, 'accuracy')}."
    sentence = (
        f"It recognises {accuracy_text(row)}{_interval(row)} of {count_text(row['n_clips'])} test clips; "
        f"**{baseline['variant']}** recognises {accuracy_text(baseline)}{_interval(baseline)}"
    )
    limit = row.get("accuracy_drop_limit95")
    if limit is None:
        return f"{sentence}; no limit of the difference: {reason(row, 'accuracy_drop_limit95')}."
    if limit <= 0:
        return f"{sentence}. It is at least {-limit:.1f} points better (one-sided 95 % limit)."
    return f"{sentence}. It is not worse by more than {limit:.1f} points (one-sided 95 % limit)."


def _interval(row: Row) -> str:
    bounds = row.get("accuracy_ci95")
    return "" if bounds is None else f" {interval_text(bounds, percent=True)}"


def _others(able: Sequence[Row], chosen: Row) -> list[str]:
    """Who wins when something else counts more, among those that keep the accuracy."""
    timed = [row for row in able if row.get("latency_clip_p50_ns") is not None]
    fastest = min(timed, key=lambda row: row["latency_clip_p50_ns"], default=chosen)
    best = max(able, key=lambda row: (row["validation_accuracy"], row["variant"] == chosen["variant"]))
    said = []
    if fastest["variant"] != chosen["variant"]:
        figures = f"{time_text(fastest['latency_clip_p50_ns'])} per clip, {bytes_text(fastest['stored_bytes'])}"
        said.append(f"If only speed counts: **{fastest['variant']}** ({figures}).")
    if best["variant"] != chosen["variant"]:
        said.append(f"If only accuracy counts: **{best['variant']}** ({accuracy_text(best, 'validation_accuracy')} of the validation clips).")
    return [" ".join(said)] if said else []


def _rivals(rows: Sequence[Row], remarks: Sequence[Remark], chosen: Row) -> list[Remark]:
    """A control that the pick does not beat is named right below the pick."""
    said = []
    for remark in remarks:
        if remark.about != chosen["variant"] or remark.kind not in ("control", "tie"):
            continue
        rival = next(row for row in rows if row["variant"] == remark.control)
        validation = rival.get("validation_accuracy")
        why = "it has no validation accuracy" if validation is None else f"its validation accuracy is {accuracy_text(rival, 'validation_accuracy')}"
        said.append(Remark("but", f"{remark.verdict}. The rule passes it over: {why}."))
    return said


def _tiles(given: ReportInput, row: Row, baseline: Row) -> tuple[Tile, ...]:
    own = row["variant"] == baseline["variant"]
    tiles = []
    for label, key, show in (
        (f"Accuracy, {given.clip_word}clips", "accuracy", percent_text),
        ("Stored", "stored_bytes", bytes_text),
        (f"{given.timing_word(row['target'])}latency per clip".capitalize(), "latency_clip_p50_ns", time_text),
        ("Peak memory", "memory_peak_bytes", bytes_text),
        ("Power", "power_w", watts_text),
    ):
        value, base = row.get(key), baseline.get(key)
        if value is None:
            tiles.append(Tile(label, "n/a", reason(row, key), missing=True))
            continue
        # Where folds leak, the label above the value says so already.
        finer = [] if own or base is None else [f"baseline {marked(row, show(base)) if key == 'accuracy' else show(base)}"]
        if key == "accuracy":
            finer.insert(0, f"{_interval(row).strip()} n = {count_text(row['n_clips'])}".strip())
        if key == "stored_bytes" and row.get("ratio_model_bytes") is not None and not own:
            finer.insert(0, f"{ratio_text(row['ratio_model_bytes'])} smaller")
        if key == "latency_clip_p50_ns" and not own and (words := speed_words(row, "clip")):
            finer.insert(0, words)
        tiles.append(Tile(label, show(value), "; ".join(finer)))
    return tuple(tiles)


def _certainty(given: ReportInput, rows: Sequence[Row]) -> tuple[str, ...]:
    """How much was measured, then every doubt once with the variants that it concerns."""
    first = []
    if clips := _range(rows, "n_clips"):
        first.append(f"accuracy from {clips} {given.clip_word}test clips")
    if blocks := _range(rows, "blocks"):
        first.append(f"{given.timing_word(rows[0]['target'])}latency from {blocks} blocks per variant (a block is one fresh process)")
    sentences = [f"Measured: {' and '.join(first)}. Intervals are two-sided 95 % unless said otherwise."] if first else []
    sentences += _no_better_than_guessing(rows)
    concerned: dict[str, list[str]] = {}
    for row in rows:
        for doubt in row.get("doubts") or ():
            if doubt in (Doubt.SIMULATED, Doubt.SIMULATED_TARGET):
                continue  # said on top of the page
            concerned.setdefault(doubt, []).append(row["variant"])
    for doubt, names in concerned.items():
        who = "all variants" if len(names) == len(rows) else ", ".join(f"**{name}**" for name in names)
        sentences.append(f"{doubt[0].upper()}{doubt[1:]} ({who}).")
    if given.faults:
        blocks = sum(fault.get("times", 1) for fault in given.faults)
        sentences.append(f"Failed or excluded: {'1 block' if blocks == 1 else f'{blocks} blocks'}, listed below with what was done.")
        out = dict.fromkeys(f"**{fault['variant']}** on {fault['target']}" for fault in given.faults if fault["reason"].startswith(QUARANTINED))
        if out:
            sentences.append(f"Quarantined, since it broke twice: {', '.join(out)}.")
    return tuple(sentences)


def _no_better_than_guessing(rows: Sequence[Row]) -> list[str]:
    """Where always naming the largest class would do as well, accuracies say nothing."""
    poor = [row for row in rows if choice.guesses(row)]
    if not poor:
        return []
    floor = percent_text(poor[0]["majority_share"])
    if len(poor) < len(rows):
        return [f"Not shown to be better than always naming the largest class ({floor}): {', '.join('**' + row['variant'] + '**' for row in poor)}."]
    return [f"No variant is shown to be better than always naming the largest class ({floor}): the accuracies say nothing about compression."]


def _range(rows: Sequence[Row], key: str) -> str:
    """ "12", or "8 to 12" where the rows differ; empty where no row has it."""
    known = sorted({row[key] for row in rows if row.get(key) is not None})
    return " to ".join(count_text(value) for value in dict.fromkeys([*known[:1], *known[-1:]]))


def _gaps(rows: Sequence[Row]) -> tuple[str, ...]:
    """What nobody measured on this target: columns that are null in every row, with the reason."""
    names = {"accuracy": "Accuracy", "latency_clip_p50_ns": "Latency", "memory_peak_bytes": "Memory", "power_w": "Power"}
    gaps = []
    for key, name in names.items():
        if all(row.get(key) is None for row in rows):
            gaps.append(f"{name} was not measured: {reason(rows[0], key)}.")
    absent = [row for row in rows if row.get("engine", "not told") is None]
    for why in dict.fromkeys(reason(row, "engine") for row in absent):
        unknown = ", ".join(f"**{row['variant']}**" for row in absent if reason(row, "engine") == why)
        gaps.append(f"Nothing is known here of {unknown}: {why}.")
    if unjudged := [f"**{row['variant']}**" for row in rows if row.get("validation_accuracy") is None and row.get("engine", "not told")]:
        gaps.append(f"Never picked, for want of a validation accuracy: {', '.join(unjudged)}.")
    return tuple(gaps)
