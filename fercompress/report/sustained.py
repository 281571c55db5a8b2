"""Latency over time: the timed clips of a variant's blocks in; what each block took, and when it began to slow down, out.

A slow-down is a fact of the samples; a throttle is what the target's own sensors told. Both are shown, and neither removes a sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fercompress.report.record import ReportInput
from fercompress.stats import Floats

SLOWER = 1.05  # as the drift between halves that raises a doubt
PIECE = 16  # clips of a block whose median is one mark of the sustained view
MOST_MARKS = 60
KEPT = 3  # pieces at the end that must all be slow: a last one alone is noise


@dataclass(frozen=True)
class Timed:
    """One latency block: clip_ns in call order; minutes: since the first block that the run timed on the target, None where it is not recorded;
    told: what its target's sensors said of it ("throttled", ...)"""

    round: int
    position: int
    clip_ns: Floats
    minutes: float | None
    told: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """Some consecutive clips of one block; seconds: of load before its middle, over all blocks in order"""

    seconds: float
    low_ns: float
    median_ns: float
    high_ns: float
    block: int
    told: tuple[str, ...]


def timed_blocks(given: ReportInput, target: str, variant: str) -> list[Timed]:
    """In the order in which they ran."""
    frame = given.timings[(given.timings["target"] == target) & (given.timings["variant"] == variant)]
    known = _conditions(given, target, variant)
    start = _start(given, target)
    found = []
    for place, own in frame.groupby(["round", "position"]):
        round_, position = (int(str(number)) for number in place)
        recorded, told = known.get((round_, position), (None, ()))
        minutes = None if recorded is None or start is None else (recorded - start).total_seconds() / 60
        found.append(Timed(round_, position, own["clip_ns"].to_numpy(dtype=np.float64), minutes, told))
    return found


def _conditions(given: ReportInput, target: str, variant: str) -> dict[tuple[int, int], tuple[pd.Timestamp | None, tuple[str, ...]]]:
    mine = _latency(given, target)
    mine = mine[mine["variant"] == variant]
    told = {"throttled": "throttled or warmed by over 15 °C", "clock_changed": "clock changed", "hot_start": "began hot"}
    return {
        (int(line["round"]), int(line["position"])): (pd.Timestamp(line["recorded"]), tuple(words for key, words in told.items() if line[key]))
        for line in mine.to_dict("records")
    }


def _latency(given: ReportInput, target: str) -> pd.DataFrame:
    blocks = given.blocks
    mine = (blocks["target"] == target) & (blocks["pass"] == "latency") & (blocks["status"] == "ok")
    found: pd.DataFrame = blocks[mine & blocks["counted"].astype(bool)]
    return found


def _start(given: ReportInput, target: str) -> pd.Timestamp | None:
    recorded = _latency(given, target)["recorded"]
    return None if recorded.empty else pd.Timestamp(min(recorded))


def pieces(blocks: Sequence[Timed]) -> list[Piece]:
    """The load in pieces of PIECE clips or more, as many as can be seen."""
    clips = sum(len(block.clip_ns) for block in blocks)
    length = max(PIECE, -(-clips // MOST_MARKS))
    found, before_s = [], 0.0
    for number, block in enumerate(blocks):
        ends = [*range(length, len(block.clip_ns) - length // 2, length), len(block.clip_ns)]
        for first, last in itertools.pairwise([0, *ends]):
            own = block.clip_ns[first:last]
            low, median, high = (float(value) for value in np.quantile(own, (0.05, 0.5, 0.95)))
            found.append(Piece(before_s + float(own.sum()) / 2e9, low, median, high, number, block.told))
            before_s += float(own.sum()) / 1e9
    return found


def onset(medians_ns: Sequence[float]) -> int | None:
    """The first piece from which on every one, KEPT or more, is slower by 5 % or more than the median of those before; None where there is none.

    A quarter of the pieces, and KEPT, must lie before it: what is slow from the beginning is no slow-down.
    """
    values = np.asarray(medians_ns, np.float64)
    for index in range(max(KEPT, len(values) // 4), len(values) - KEPT + 1):
        if (values[index:] >= SLOWER * np.median(values[:index])).all():
            return index
    return None
