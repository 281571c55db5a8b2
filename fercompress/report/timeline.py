"""What a network saw in a video: its probabilities frame by frame in, a picture over time and a table out."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fercompress.records import Float32
from fercompress.report.canvas import INK, QUIET, WIDE_IN, Picture, canvas, finish

# Okabe and Ito's palette; above seven classes the lines' dashes tell them apart too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#3b3f46")
DASHES = ("-", "--", ":", "-.")
NO_FACE = "#e3e7ec"
MARKS = 40  # frames up to which each one is marked


@dataclass(frozen=True)
class Timeline:
    """time_s: float64 (F,), ascending; probabilities: float32 (F, classes), a row of NaN for a frame without a face"""

    classes: tuple[str, ...]
    time_s: npt.NDArray[np.float64]
    probabilities: Float32

    def __post_init__(self) -> None:
        if self.probabilities.shape != (len(self.time_s), len(self.classes)):
            raise ValueError(f"probabilities are {self.probabilities.shape} for {len(self.time_s)} frames and {len(self.classes)} classes")

    @property
    def face(self) -> npt.NDArray[np.bool_]:
        """bool (F,)"""
        return np.asarray(~np.isnan(self.probabilities).any(axis=1))


@dataclass(frozen=True)
class Stretch:
    """Frames in a row with one answer, the most probable class; label "" where they hold no face."""

    label: str
    start_s: float
    end_s: float  # of its last frame
    frames: int
    probability: float | None  # mean over its frames


def stretches(timeline: Timeline) -> list[Stretch]:
    """The label over time."""
    face = timeline.face
    answers = np.where(face, np.where(face[:, None], timeline.probabilities, 0).argmax(axis=1), -1)
    edges = [0, *(np.flatnonzero(np.diff(answers)) + 1).tolist(), len(answers)]
    found = []
    for start, stop in itertools.pairwise(edges):
        if start == stop:
            continue
        label = int(answers[start])
        mean = None if label < 0 else float(timeline.probabilities[start:stop, label].mean())
        times = float(timeline.time_s[start]), float(timeline.time_s[stop - 1])
        found.append(Stretch("" if label < 0 else timeline.classes[label], *times, stop - start, mean))
    return found


def table(timeline: Timeline) -> str:
    """CSV: time_s, frame (from 0), face (1 or 0), p_<class> ...; the probabilities of a frame without a face are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time_s", "frame", "face", *(f"p_{name}" for name in timeline.classes)])
    for frame, (time_s, face, row) in enumerate(zip(timeline.time_s, timeline.face, timeline.probabilities, strict=True)):
        writer.writerow([f"{time_s:.6f}", frame, int(face), *(f"{value:.7g}" if face else "" for value in row)])
    return text.getvalue()


def picture(timeline: Timeline, title: str) -> Picture:
    """Probabilities over time, one line per class; frames without a face are shaded."""
    time_s = timeline.time_s
    lost = _lost(timeline)
    with canvas(3.6, WIDE_IN) as (figure, axes):
        for start, stop in lost:
            axes.axvspan(start, stop, color=NO_FACE, linewidth=0, zorder=0)
        marks: list[Line2D | Patch] = []
        # A frame between two gaps has no line, and would not be seen.
        around = np.concatenate([[False], timeline.face, [False]])
        marked = (timeline.face & ~(around[:-2] | around[2:]) | (len(time_s) <= MARKS)).tolist()
        for index, name in enumerate(timeline.classes):
            style: Any = {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)], "linewidth": 1.6}
            axes.plot(time_s, timeline.probabilities[:, index], marker="o", markersize=3, markevery=marked, **style)
            marks.append(Line2D([], [], label=name, **style))
        if lost:
            marks.append(Patch(color=NO_FACE, label="no face found"))
        axes.set_ylim(-0.02, 1.02)
        low, high = float(time_s[0]), float(time_s[-1])
        axes.set_xlim(low - 0.01 * (high - low or 1), high + 0.01 * (high - low or 1))
        axes.set_xlabel("time in s")
        axes.set_ylabel("probability")
        axes.set_title(title, loc="left", color=INK)
        axes.tick_params(labelcolor=QUIET)
        figure.legend(handles=marks, loc="outside right upper", frameon=False, fontsize=8.5, labelcolor=INK, borderpad=0)
        labels = ", ".join(f"{each.label or 'no face'} from {each.start_s:.2f} s" for each in stretches(timeline)[:20])
        return finish(figure, "timeline", title, f"Probabilities over time: {labels}.", "Frames without a face are shaded.", wide=True)


def _lost(timeline: Timeline) -> list[tuple[float, float]]:
    """(from, to) of each stretch without a face, as wide as its frames last: up to the next frame."""
    time_s = timeline.time_s
    step = float(np.median(np.diff(time_s))) if len(time_s) > 1 else 1.0
    ends = np.append(time_s[1:], time_s[-1] + step)
    found: list[tuple[float, float]] = []
    for index in np.flatnonzero(~timeline.face):
        start, stop = float(time_s[index]), float(ends[index])
        if found and found[-1][1] >= start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found
