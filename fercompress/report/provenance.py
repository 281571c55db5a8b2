"""Where the numbers come from: recipes, layers, data, machines, faults and left-out clips as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fercompress.report.cells import Cell, Table
from fercompress.report.record import ReportInput
from fercompress.report.tables import heads, step_text, variant_cell
from fercompress.report.units import count_text


def recipes(given: ReportInput) -> Table:
    rows = []
    for name in given.recipes:
        steps_ = "; ".join(step_text(step) for step in given.recipe(name)) or "none: the teacher itself"
        manifest = given.manifests.get(name)
        made = (Cell(_why_no_bundle(given, name), style="words", missing=True), Cell("n/a", missing=True)) if manifest is None else _made(manifest)
        rows.append((variant_cell(given, name), Cell(steps_, style="words"), *made))
    return Table("recipes", "How each variant was made", heads("Variant", "Recipe", "Way", "Engine"), tuple(rows), numeric=False)


def _why_no_bundle(given: ReportInput, variant: str) -> str:
    told = [row["reasons"]["engine"] for row in given.rows if row["variant"] == variant and "engine" in (row.get("reasons") or {})]
    return str(told[0]) if told else "not exported yet"


def _made(manifest: Mapping[str, Any]) -> tuple[Cell, Cell]:
    versions = ", ".join(f"{library} {version}" for library, version in manifest["made_with"].items())
    converted = manifest.get("extractor", {}).get("opset")
    opset = f"opset {manifest['opset']}" + ("" if converted is None else f", extractor converted from opset {converted}")
    return Cell(str(manifest["way"]), style="words"), Cell(f"{manifest['engine']}, {opset}", sub=versions, style="words")


def layers(given: ReportInput, variant: str) -> Table | None:
    """The manifest's layers as they are: one line per layer, one column per key that any layer has."""
    entries: list[Mapping[str, Any]] = list(given.manifests[variant]["layers"])
    if not entries:
        return None
    keys = list(dict.fromkeys(key for entry in entries for key in entry))
    rows = tuple(tuple(Cell(_plain(entry.get(key))) for key in keys) for entry in entries)
    return Table(f"layers-{variant}", f"Layers of {variant}", heads(*(key.replace("_", " ") for key in keys)), rows)


def _plain(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if abs(value) < 10_000 else count_text(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ("×" if all(isinstance(part, int) for part in value) else ", ").join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(key))} {_plain(inner)}" for key, inner in value.items())
    return str(value)


LEAK = ": people of the test clips are trained on too"


def facts(given: ReportInput) -> Table:
    """Where the numbers come from: data, target, settings."""
    data = given.data
    folds = "; ".join(f"{fold['name']}: {_parts(fold)}" for fold in data["folds"])
    lines: list[tuple[str, str]] = [
        ("Study", given.study),
        ("Made", given.created_utc),
        ("Data", f"{data['name']}{', simulated' if data['simulated'] else ''}; clips left out: {data['left_out']}"),
        *([("Protocol", f"{data['protocol']}{LEAK if given.leaky else ''}")] if data.get("protocol") else []),
        ("Clips per fold", folds),
        ("Data fingerprint", str(data["fingerprint"])),
        ("Classes", ", ".join(map(str, data["classes"]))),
        *((f"Measuring: {_words(key)}", _plain(value)) for key, value in given.settings.items()),
        *((f"{target}: {_words(key)}", value) for target, known in given.host.items() for key, value in _flat(known)),
    ]
    rows = tuple((Cell(key), Cell(value, style="words")) for key, value in lines)
    return Table("provenance", "Where these numbers come from", heads("Fact", "Value"), rows, numeric=False)


def _parts(fold: Mapping[str, Any]) -> str:
    return ", ".join(f"{count_text(fold[part])} {part}" for part in ("train", "validation", "test"))


def _words(key: str) -> str:
    return key.replace("_", " ")


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield prefix + key, _plain(value)


def faults(given: ReportInput) -> Table | None:
    """What failed or was left out, and what was done about it: a result, not a hole."""
    if not given.faults:
        return None
    rows = tuple(
        (
            Cell(str(fault["reason"]), style="words"),
            Cell(f"{fault['variant']}, {fault['pass']} on {fault['target']}", style="words"),
            Cell(str(fault.get("times", 1))),
            Cell(str(fault.get("done", fault["status"])), style="words"),
        )
        for fault in given.faults
    )
    return Table("faults", "Faults met", heads("What", "Where", "Blocks", "What was done"), rows, numeric=False)


def left_out(given: ReportInput) -> Table | None:
    if not given.left_out:
        return None
    rows = tuple((Cell(str(clip["clip"])), Cell(str(clip["reason"]), style="words")) for clip in given.left_out)
    return Table("left-out", "Clips that were left out", heads("Clip", "Reason"), rows, numeric=False)


WORST = 10


def faces(given: ReportInput) -> Table | None:
    """The clips in which faces were found least often: what a model learns from frames without one is not the face."""
    rates = given.face_rates
    if not rates:
        return None
    worst = [clip for clip in sorted(rates, key=lambda clip: (rates[clip], clip)) if rates[clip] < 1]
    mean, full = sum(rates.values()) / len(rates), len(rates) - len(worst)
    overall = Cell(f"all {len(rates)} clips that are used"), Cell(f"{mean:.1%}", f"every frame of {full} of them", f"mean = {mean}")
    rows = [(Cell(clip), Cell(f"{rates[clip]:.1%}", exact=f"{rates[clip]}")) for clip in worst[:WORST]]
    return Table("faces", "Frames in which a face was found, the worst clips first", heads("Clip", "Frames with a face"), (overall, *rows))
