"""Entries in, a Markdown table and a picture of log-ratios out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from peers.entry import Entry
from peers.predictor import AGREEMENT_GOAL
from peers.table import GRID

_MARKS = {"met": "✓", "missed": "✗", "inconclusive": "?", "no goal": "", "n/a": "n/a"}
# Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = {"met": "#009E73", "missed": "#D55E00", "inconclusive": "#E69F00", "no goal": "#666666"}


def markdown(entries: Sequence[Entry], circumstances: Mapping[str, Any]) -> str:
    lines = [
        "# fercompress against its peers",
        "",
        "A ratio above 1 means that ours needs less (time, or bytes for memory). One thread; contestants interleaved in mirrored rounds of",
        "random order; ratio: median of the rounds' paired ratios, with its 95 % interval.",
        "✓ the whole interval reaches the goal, ✗ none of it does, ? it holds the goal.",
        "",
        *(f"* {name}: {value}" for name, value in circumstances.items()),
    ]
    for group, members in itertools.groupby(entries, key=lambda entry: entry["group"]):
        found = list(members)
        lines += ["", f"## {group}", ""]
        if group == GRID:
            lines += [never_slower(found), ""]
        lines += ["| comparison | ours | peer | goal | ratio | 95 % interval | rounds | |", "|---|---|---|---|---|---|---|---|"]
        lines += [_line(entry) for entry in found]
        lines += _reasons(found)
        if group != GRID:
            lines += _facts(found)
    return "\n".join(lines) + "\n"


def never_slower(entries: Sequence[Entry]) -> str:
    """One sentence on the grid: how many points, and which are slower without a doubt."""
    measured = [entry for entry in entries if "ratio" in entry]
    if not measured:
        return "No point was measured."
    slower = [entry["name"] for entry in measured if entry["interval"][1] < 1]
    worst = min(measured, key=lambda entry: entry["ratio"])
    ratios = sorted(entry["ratio"] for entry in measured)
    return (
        f"{len(measured)} of {len(entries)} points measured, {len(slower)} with an interval wholly below 1"
        + (f" ({'; '.join(slower)})" if slower else "")
        + f"; ratios from {ratios[0]:.2f} ({worst['name']}) over {ratios[len(ratios) // 2]:.2f} (median) to {ratios[-1]:.2f}."
    )


def _line(entry: Entry) -> str:
    goal = "" if entry["goal"] is None else f"≥ {entry['goal']:g}"
    mark = _MARKS[entry["verdict"]]
    if "ratio" not in entry:
        return f"| {entry['name']} | | {entry['peer']} | {goal} | n/a | | | |"
    low, high = entry["interval"]
    ours, peer = (_quantity(entry[side], entry["unit"]) for side in ("ours_median", "peer_median"))
    return (
        f"| {entry['name']} | {entry['ours']} {ours} | {entry['peer']} {peer} | {goal} | **{entry['ratio']:.3g}** "
        f"| {low:.3g} to {high:.3g} | {entry['rounds']} | {mark} |"
    )


def _quantity(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1e6:.3g} MB"
    return f"{value / 1e6:.3g} ms" if value >= 1e5 else f"{value / 1e3:.3g} µs"


def _reasons(entries: Sequence[Entry]) -> list[str]:
    reasons = {f"n/a, {entry['peer']}: {entry['reason']}." for entry in entries if "reason" in entry}
    reasons |= {f"n/a, {name}: {reason}." for entry in entries for name, reason in entry.get("missing", {}).items()}
    return ["", *(f"* {reason}" for reason in sorted(reasons))] if reasons else []


def _facts(entries: Sequence[Entry]) -> list[str]:
    lines = []
    for name, same in itertools.groupby(entries, key=lambda entry: entry["name"]):
        entry = next(same)
        agreements = entry.get("facts", {}).get("agreement", {})
        texts = [] if agreements else [f"{contestant} {difference['value']:.2g}" for contestant, difference in entry.get("differences", {}).items()]
        if texts:
            quantity = next(iter(entry["differences"].values()))["quantity"]
            lines.append(f"* {name}: {quantity}: {', '.join(texts)}.")
        for contestant, agreement in agreements.items():
            goal = f" (goal: at most {AGREEMENT_GOAL:g}, {agreement['goal']})" if "goal" in agreement else ""
            lines.append(
                f"* {name}, {contestant}: largest class probability difference of a clip from the fp32 TT predictor: {agreement['mean']:.2g} "
                f"in the mean over {agreement['clips']} clips{goal}, {agreement['largest']:.2g} at most; {agreement['flips']} labels flipped."
            )
        if entry["note"]:
            lines.append(f"* {name}: {entry['note']}.")
    return ["", *lines] if lines else []


def picture(entries: Sequence[Entry], path: Path) -> None:
    """Every ratio on a logarithmic axis with its interval, its goal as a bar; the grid's points share one line. Nothing is drawn without a ratio."""
    measured = [entry for entry in entries if "ratio" in entry]
    if not measured:
        return
    single = [entry for entry in measured if entry["group"] != GRID]
    grid = [entry for entry in measured if entry["group"] == GRID]
    height = len(single) + bool(grid)
    figure, axes = pyplot.subplots(figsize=(10, 1.2 + 0.27 * height), layout="constrained")
    labels = []
    for place, entry in enumerate(single):
        low, high = entry["interval"]
        colour = _COLOURS[entry["verdict"]]
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot(entry["ratio"], place, "o", color=colour, markersize=5)
        if entry["goal"] is not None:
            axes.plot(entry["goal"], place, "|", color="black", markersize=11, markeredgewidth=1.6)
        labels.append(f"{entry['group']}, {entry['name']}: against {entry['peer']}")
    if grid:
        slower = [entry for entry in grid if entry["interval"][1] < 1]
        for chosen, colour in ((grid, _COLOURS["met"]), (slower, _COLOURS["missed"])):
            axes.plot([entry["ratio"] for entry in chosen], [len(single)] * len(chosen), "o", color=colour, markersize=4, alpha=0.5)
        labels.append(f"{GRID}: {len(grid)} sizes against the faster of onnxruntime's fp32 and int8 LSTM")
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.axvline(1, color="#999999", linewidth=0.8)
    axes.grid(axis="x", color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.set_xlabel("times better than the peer, one thread\npoint: median ratio; line: 95 % interval; bar: goal", fontsize=9)
    for word in ("met", "inconclusive", "missed"):
        axes.plot([], [], "o", color=_COLOURS[word], label=f"goal {word}" if word != "inconclusive" else "goal within the interval")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
