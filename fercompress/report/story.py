"""The first screen: rows in, plain sentences out that say which variant to use, what it costs and how sure that is.

Sentences mark variant names as **name**, which is Markdown and what the page's template turns into bold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fercompress.records import Doubt
from fercompress.report.cells import reason
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import bytes_text, count_text, interval_text, percent_text, points_text, ratio_text, time_text, watts_text

TOLERANCE = 0.01  # accuracy that a pick may lose on validation data, as a share: one point
SAME_BYTES = 1.05  # two variants within 5 % of each other's bytes count as equally large

RULE = (
    "The rule: among the variants whose validation accuracy is at most one point below the baseline's, the one that stores the fewest bytes "
    "(within 5 %: the one with the faster clip). Controls may win. Test figures choose nothing."
)


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
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]
    controls: tuple[str, ...]
    certainty: tuple[str, ...]
    gaps: tuple[str, ...]


def tell(given: ReportInput, target: str) -> Story:
    rows, baseline = given.on(target), given.baseline_row(target)
    chosen = pick(rows, baseline)
    if chosen is None or baseline is None:
        missing = f"{given.baseline} was not measured here" if baseline is None else "validation accuracies are missing"
        return Story(target, None, f"No variant can be named: {missing}.", (), (), _controls(given, rows), _certainty(given, rows), _gaps(rows))
    if chosen["variant"] == given.baseline:
        headline = f"Keep **{given.baseline}**: no compressed variant stays within one point of it on validation data."
        return Story(target, chosen, headline, (), _tiles(chosen, baseline), _controls(given, rows), _certainty(given, rows), _gaps(rows))
    role = ", a control" if given.family(chosen["variant"]) == "control" else ""
    headline = f"Use **{chosen['variant']}**{role}."
    sentences = (_gains(chosen, baseline), _cost(chosen, baseline), *_others(rows, baseline, chosen))
    return Story(target, chosen, headline, sentences, _tiles(chosen, baseline), _controls(given, rows), _certainty(given, rows), _gaps(rows))


def pick(rows: Sequence[Row], baseline: Row | None) -> Row | None:
    """RULE as code; None where the rule cannot be applied."""
    able = _able(rows, baseline)
    if not able:
        return None
    fewest = min(row["stored_bytes"] for row in able)
    alike = [row for row in able if row["stored_bytes"] <= fewest * SAME_BYTES]
    return min(alike, key=lambda row: (row.get("latency_clip_p50_ns") or float("inf"), row["stored_bytes"], row["variant"]))


def _able(rows: Sequence[Row], baseline: Row | None) -> list[Row]:
    if baseline is None or baseline.get("validation_accuracy") is None:
        return []
    floor = baseline["validation_accuracy"] - TOLERANCE - 1e-12
    return [row for row in rows if row.get("validation_accuracy") is not None and row.get("stored_bytes") is not None and row["validation_accuracy"] >= floor]


def _gains(row: Row, baseline: Row) -> str:
    parts = [f"stores {bytes_text(row['stored_bytes'])} instead of {bytes_text(baseline['stored_bytes'])}"]
    if row.get("ratio_model_bytes") is not None:
        parts[0] += f" ({ratio_text(row['ratio_model_bytes'])} smaller)"
    if row.get("latency_clip_p50_ns") is not None and baseline.get("latency_clip_p50_ns") is not None:
        parts.append(f"answers a clip in {time_text(row['latency_clip_p50_ns'])} instead of {time_text(baseline['latency_clip_p50_ns'])}{_speed(row, 'clip')}")
    sentence = f"It {' and '.join(parts)}."
    stages = [f"the {stage} is {words}" for stage in ("extractor", "predictor") if (words := speed_words(row, stage))]
    return sentence + (f" Of its stages, {' and '.join(stages)}." if stages else "")


def _speed(row: Row, stage: str) -> str:
    words = speed_words(row, stage)
    return f" ({words})" if words else ""


def speed_words(row: Row, stage: str) -> str:
    """ "6.02× [5.71, 6.30] faster", "1.30× [1.25, 1.36] slower" or that the interval holds 1; empty where there is no figure."""
    ratio, bounds = row.get(f"speedup_{stage}"), row.get(f"speedup_{stage}_ci95")
    if ratio is None:
        return ""
    if bounds is None:
        return f"{ratio_text(max(ratio, 1 / ratio))} {'faster' if ratio >= 1 else 'slower'}, no interval"
    if bounds[0] > 1:
        return f"{ratio_text(ratio)} {interval_text(bounds)} faster"
    if bounds[1] < 1:
        return f"{ratio_text(1 / ratio)} {interval_text((1 / bounds[1], 1 / bounds[0]))} slower"
    return f"not shown to be faster or slower: {ratio_text(ratio)} {interval_text(bounds)}"


def _cost(row: Row, baseline: Row) -> str:
    if row.get("accuracy") is None or baseline.get("accuracy") is None:
        return f"What it costs in accuracy is not known: {reason(row, 'accuracy')}."
    sentence = (
        f"It recognises {percent_text(row['accuracy'])}{_interval(row)} of {count_text(row['n_clips'])} test clips; "
        f"**{baseline['variant']}** recognises {percent_text(baseline['accuracy'])}{_interval(baseline)}"
    )
    limit = row.get("accuracy_drop_limit95")
    if limit is None:
        return f"{sentence}; no limit of the difference: {reason(row, 'accuracy_drop_limit95')}."
    if limit <= 0:
        return f"{sentence}. It is at least {abs(100 * limit):.1f} points better (one-sided 95 % limit)."
    return f"{sentence}. It is not worse by more than {100 * limit:.1f} points (one-sided 95 % limit)."


def _interval(row: Row) -> str:
    bounds = row.get("accuracy_ci95")
    return "" if bounds is None else f" {interval_text(bounds, percent=True)}"


def _others(rows: Sequence[Row], baseline: Row, chosen: Row) -> list[str]:
    """Who wins when something else counts more, among those that keep the accuracy."""
    timed = [row for row in _able(rows, baseline) if row.get("latency_clip_p50_ns") is not None]
    fastest = min(timed, key=lambda row: row["latency_clip_p50_ns"], default=chosen)
    best = max(_able(rows, baseline), key=lambda row: row["validation_accuracy"])
    said = []
    if fastest["variant"] != chosen["variant"]:
        said.append(f"if only speed counts, **{fastest['variant']}** ({time_text(fastest['latency_clip_p50_ns'])} per clip, {bytes_text(fastest['stored_bytes'])})")
    if best["variant"] != chosen["variant"]:
        said.append(f"if only accuracy counts, **{best['variant']}** ({percent_text(best['validation_accuracy'])} of the validation clips)")
    return [f"Otherwise: {'; '.join(said)}."] if said else []


def _tiles(row: Row, baseline: Row) -> tuple[Tile, ...]:
    own = row["variant"] == baseline["variant"]
    tiles = []
    for label, key, show in (
        ("Accuracy", "accuracy", percent_text),
        ("Stored", "stored_bytes", bytes_text),
        ("Latency per clip, median", "latency_clip_p50_ns", time_text),
        ("Peak memory", "memory_peak_bytes", bytes_text),
        ("Power", "power_w", watts_text),
    ):
        value, base = row.get(key), baseline.get(key)
        if value is None:
            tiles.append(Tile(label, "n/a", row.get("power_reason") or reason(row, key) if key == "power_w" else reason(row, key), missing=True))
            continue
        finer = [] if own or base is None else [f"baseline {show(base)}"]
        if key == "accuracy":
            finer.insert(0, f"{_interval(row).strip()} n = {count_text(row['n_clips'])}".strip())
        if key == "stored_bytes" and row.get("ratio_model_bytes") is not None and not own:
            finer.insert(0, f"{ratio_text(row['ratio_model_bytes'])} smaller")
        if key == "latency_clip_p50_ns" and not own and (words := speed_words(row, "clip")):
            finer.insert(0, words)
        tiles.append(Tile(label, show(value), "; ".join(finer)))
    return tuple(tiles)


def _controls(given: ReportInput, rows: Sequence[Row]) -> tuple[str, ...]:
    """Each control beside its counterpart in tensor-train form: the honest question of the study."""
    trains = [row for row in rows if given.family(row["variant"]) == "tensor train"]
    sentences = []
    for control in (row for row in rows if given.family(row["variant"]) == "control"):
        twin = counterpart(given, control, trains)
        if twin is not None:
            sentences.append(_against(control, twin))
    return tuple(sentences)


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


def _against(control: Row, train: Row) -> str:
    parts, better, worse = [], [], []
    if control.get("accuracy") is not None and train.get("accuracy") is not None:
        change = control["accuracy"] - train["accuracy"]
        bounds, others = control.get("accuracy_ci95"), train.get("accuracy_ci95")
        told_apart = bounds is not None and others is not None and (bounds[0] > others[1] or bounds[1] < others[0])
        parts.append(f"accuracy {percent_text(control['accuracy'])} against {percent_text(train['accuracy'])} ({points_text(change)} points{'' if told_apart else ', intervals overlap'})")
        if told_apart:
            (better if change > 0 else worse).append("accuracy")
    for key, name, show in (("stored_bytes", "size", bytes_text), ("latency_clip_p50_ns", "clip latency", time_text)):
        if control.get(key) is None or train.get(key) is None:
            continue
        ratio = control[key] / train[key]
        parts.append(f"{show(control[key])} against {show(train[key])}{' per clip' if name == 'clip latency' else ' stored'}")
        if not 1 / SAME_BYTES <= ratio <= SAME_BYTES:
            (better if ratio < 1 else worse).append(name)
    if better and not worse:
        verdict = f"The control **{control['variant']}** is better than **{train['variant']}** in {' and '.join(better)} and not shown to be worse in anything"
    elif worse and not better:
        verdict = f"**{train['variant']}** is better than its control **{control['variant']}** in {' and '.join(worse)} and not shown to be worse in anything"
    elif better:
        verdict = f"The control **{control['variant']}** is better than **{train['variant']}** in {' and '.join(better)}, worse in {' and '.join(worse)}"
    else:
        verdict = f"The control **{control['variant']}** and **{train['variant']}** cannot be told apart: the tensor train buys nothing here that the control does not"
    return f"{verdict}: {', '.join(parts)}."


def _certainty(given: ReportInput, rows: Sequence[Row]) -> tuple[str, ...]:
    """How much was measured, then every doubt once with the variants that it concerns."""
    blocks = sorted({row["blocks"] for row in rows if row.get("blocks") is not None})
    clips = sorted({row["n_clips"] for row in rows if row.get("n_clips") is not None})
    first = []
    if clips:
        first.append(f"accuracy from {count_text(clips[0])}{f' to {count_text(clips[-1])}' if len(clips) > 1 else ''} test clips")
    if blocks:
        first.append(f"latency from {count_text(blocks[0])}{f' to {count_text(blocks[-1])}' if len(blocks) > 1 else ''} blocks per variant (a block is one fresh process)")
    sentences = [f"Measured: {' and '.join(first)}. Intervals are two-sided 95 % unless said otherwise."] if first else []
    concerned: dict[str, list[str]] = {}
    for row in rows:
        for doubt in row.get("doubts") or ():
            concerned.setdefault(doubt, []).append(row["variant"])
    for doubt, names in concerned.items():
        who = "all variants" if len(names) == len(rows) else ", ".join(f"**{name}**" for name in names)
        sentences.append(f"{doubt[0].upper()}{doubt[1:]} ({who}).")
    if given.data["simulated"] and Doubt.SIMULATED not in concerned:
        sentences.append("The data is simulated: no person was filmed.")
    if given.faults:
        sentences.append(f"{len(given.faults)} blocks failed or were excluded; they are listed below with their reasons.")
    return tuple(sentences)


def _gaps(rows: Sequence[Row]) -> tuple[str, ...]:
    """What nobody measured on this target: columns that are null in every row, with the reason."""
    names = {"accuracy": "Accuracy", "latency_clip_p50_ns": "Latency", "memory_peak_bytes": "Memory", "power_w": "Power"}
    gaps = []
    for key, name in names.items():
        if all(row.get(key) is None for row in rows):
            why = rows[0].get("power_reason") if key == "power_w" else None
            gaps.append(f"{name} was not measured: {why or reason(rows[0], key)}")
    return tuple(gaps)
