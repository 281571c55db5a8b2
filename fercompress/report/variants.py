"""Each variant by itself: a `ReportInput` in; per variant its tables, drawings and the card that says what its numbers rest on out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from fercompress.report import answers, gains, provenance, sustained, trust
from fercompress.report.cells import Table
from fercompress.report.leak import accuracy_text
from fercompress.report.record import ReportInput, Row
from fercompress.report.strips import Spot, histogram, series
from fercompress.report.tables import step_text
from fercompress.report.units import bytes_text, time_text


@dataclass(frozen=True)
class Drawing:
    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class Measured:
    """A variant on one target"""

    target: str
    tables: tuple[Table, ...]
    drawings: tuple[Drawing, ...]


@dataclass(frozen=True)
class VariantPage:
    """anchor: the id of its section; kind: its family; summary: its figures in one line; layers: as its manifest lists them"""

    variant: str
    anchor: str
    kind: str
    summary: str
    recipe: tuple[str, ...]
    measured: tuple[Measured, ...]
    layers: Table | None


def anchors(names: Sequence[str]) -> dict[str, str]:
    """variant -> an id that is letters, digits and dashes, each another one"""
    found: dict[str, str] = {}
    for name in names:
        slug = "variant-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "x")
        taken = set(found.values())
        found[name] = slug if slug not in taken else f"{slug}-{len(found)}"
    return found


def pages(given: ReportInput, ids: Mapping[str, str]) -> list[VariantPage]:
    """In the study's order. ids: of `anchors`"""
    made = []
    for name in given.recipes:
        rows = [row for row in given.rows if row["variant"] == name]
        if not rows:
            continue
        recipe = tuple(step_text(step) for step in given.recipe(name)) or ("none: the teacher itself",)
        layers = provenance.layers(given, name) if name in given.manifests else None
        made.append(VariantPage(name, ids[name], given.family(name), _summary(rows[0]), recipe, tuple(_measured(given, row) for row in rows), layers))
    return made


def _summary(row: Row) -> str:
    parts = [accuracy_text(row)] if row.get("accuracy") is not None else []
    parts += [bytes_text(row["stored_bytes"])] if row.get("stored_bytes") else []
    parts += [f"{time_text(row['latency_clip_p50_ns'])} per clip"] if row.get("latency_clip_p50_ns") else []
    return ", ".join(parts) or "not measured"


def _measured(given: ReportInput, row: Row) -> Measured:
    target, name = row["target"], row["variant"]
    tables = (trust.card(given, row), answers.confusion(given, target, name), answers.people(given, target, name), gains.table(given, row))
    return Measured(target, tuple(table for table in tables if table is not None), tuple(_drawings(given, row)))


def _drawings(given: ReportInput, row: Row) -> list[Drawing]:
    blocks = sustained.timed_blocks(given, row["target"], row["variant"])
    if not blocks:
        return []
    word = given.timing_word(row["target"])
    return [_distribution(blocks, word), _per_block(blocks, word), _sustained(blocks, word)]


def _distribution(blocks: Sequence[sustained.Timed], word: str) -> Drawing:
    clips = np.concatenate([block.clip_ns for block in blocks])
    marks = {f"p{round(100 * q)}": float(np.quantile(clips, q, method="inverted_cdf")) for q in (0.5, 0.9, 0.95)}
    told = ", ".join(f"{name} {time_text(value)}" for name, value in marks.items())
    svg = histogram(clips, marks, time_text, f"Distribution of {len(clips)} {word}clip latencies: {told}")
    return Drawing(f"Distribution of {word}latency per clip", svg, f"All {len(clips):,} timed clips, log axis; percentiles of the pooled clips.")


def _per_block(blocks: Sequence[sustained.Timed], word: str) -> Drawing:
    in_minutes = all(block.minutes is not None for block in blocks)
    spots = []
    for number, block in enumerate(blocks):
        low, middle, high = (float(value) for value in np.quantile(block.clip_ns, (0.05, 0.5, 0.95)))
        tip = f"round {block.round}, place {block.position}: median {time_text(middle)}, p5 {time_text(low)}, p95 {time_text(high)}"
        told = "".join(f"; {words}" for words in block.told)
        spots.append(Spot(block.minutes if in_minutes and block.minutes is not None else number, low, middle, high, tip + told, bool(block.told)))
    level = float(np.median([spot.middle for spot in spots]))
    label = f"{len(spots)} blocks, medians from {time_text(min(s.middle for s in spots))} to {time_text(max(s.middle for s in spots))}"
    title = "minutes since the run's first block" if in_minutes else "blocks in order"
    flags = sum(spot.flagged for spot in spots)
    caption = "One mark per block (fresh process): median, 5th to 95th percentile; the line is the median of the medians." + (
        f" Diamonds: {flags} blocks in which the target throttled, changed its clock or began hot." if flags else ""
    )
    return Drawing(f"Each block: {word}latency per clip", series(spots, time_text, title, label, level), caption)


def _sustained(blocks: Sequence[sustained.Timed], word: str) -> Drawing:
    """Where it slows down under load, and where the target's sensors said that it throttles."""
    found = sustained.pieces(blocks)
    place = sustained.onset([piece.median_ns for piece in found])
    spots = []
    for piece in found:
        tip = f"after {piece.seconds:.2f} s of load: median {time_text(piece.median_ns)}" + "".join(f"; {words}" for words in piece.told)
        spots.append(Spot(piece.seconds, piece.low_ns, piece.median_ns, piece.high_ns, tip, bool(piece.told)))
    seen = None if place is None else found[place].seconds
    told = "No slow-down: no stretch up to the end is slower by 5 % than what came before."
    if seen is not None:
        told = f"It slows down after {seen:.2f} s of load (upright line): from there on every piece is slower by 5 % or more than before."
    first = next((piece for piece in found if piece.told), None)
    sensors = (
        "The sensors told of no throttling." if first is None else f"The sensors first told: {', '.join(first.told)}, after {first.seconds:.2f} s."
    )
    svg = series(spots, time_text, "seconds of load, all blocks one after another", f"{told} {sensors}", onset=seen)
    return Drawing(f"Sustained: {word}latency under load", svg, f"{told} {sensors} Pauses between blocks are left out; a mark is a piece of a block.")
