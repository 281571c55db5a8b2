"""Folds that do not look at subjects: `Clips` in; folds out that cut recordings, or whole classes, apart by the order of their clips."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from fercompress.data.folds import parts
from fercompress.errors import DataError
from fercompress.records import Clips, Fold, Int64


def contiguous(clips: Clips, k: int) -> list[Fold]:
    """The i-th of k runs of consecutive clips of every recording is tested; the clips that follow it (cyclically) validate. raises: DataError"""

    def cut(ordered: Int64, turn: int) -> tuple[Int64, Int64]:
        runs = np.array_split(ordered, k)
        after = np.concatenate([*runs[turn + 1 :], *runs[:turn]])
        return runs[turn], after[: parts.validation_size(len(after))]

    return _within(clips, k, "contiguous", cut)


def modulo(clips: Clips, k: int) -> list[Fold]:
    """The clips whose position in their recording is i mod k are tested; every sixth of the others validates. raises: DataError"""
    position = np.array(clips.positions)

    def cut(ordered: Int64, turn: int) -> tuple[Int64, Int64]:
        tested = position[ordered] % k == turn
        rest = ordered[~tested]
        step = len(rest) // parts.validation_size(len(rest)) if len(rest) else 1
        return ordered[tested], rest[turn % step :: step][: parts.validation_size(len(rest))]

    return _within(clips, k, "modulo", cut)


def leaky_image(clips: Clips, k: int) -> list[Fold]:
    """The i-th of k runs of every class's clips, in the order of their ids, is tested; the clips that follow it validate. raises: DataError

    Subjects are not looked at, so most tested people are trained on too: the split of much published code
    (WuJie1010/Facial-Expression-Recognition.Pytorch, issue 41: "may need manual adjustment"). Only for comparison with such figures.
    """
    if k < 2:
        raise DataError(f"{clips.name}: {k} leaky-image folds; need at least 2")
    parts.check_classes(clips)
    order = sorted(range(len(clips)), key=lambda row: (clips.clip_ids[row], row))
    tested: list[list[list[int]]] = [[] for _ in range(k)]
    validating: list[list[list[int]]] = [[] for _ in range(k)]
    for label, name in enumerate(clips.classes):
        units = parts.whole_clips(clips, (row for row in order if clips.labels[row] == label))
        if len(units) < (needed := max(k, 3)):  # so that every turn tests, validates and trains on every class
            raise DataError(f"{clips.name}: class {name!r} has {len(units)} clips, {k} leaky-image folds need {needed}; use fewer folds")
        for turn, run in enumerate(np.array_split(np.arange(len(units)), k)):
            after = [*units[run[-1] + 1 :], *units[: run[0]]]
            tested[turn] += [units[at] for at in run]
            validating[turn] += after[: parts.validation_size(len(after))]
    return [parts.fold(clips, f"leaky-image-{turn}", parts.flat(tested[turn]), parts.flat(validating[turn]), apart=False) for turn in range(k)]


def _within(clips: Clips, k: int, protocol: str, cut: Callable[[Int64, int], tuple[Int64, Int64]]) -> list[Fold]:
    """cut(indices of one recording's clips of one class in order, turn) -> (tested, validating)."""
    if k < 2:
        raise DataError(f"{clips.name}: {k} {protocol} folds; need at least 2")
    parts.check_classes(clips)
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index in np.lexsort((np.array(clips.positions), np.array(clips.recordings))):
        groups[clips.recordings[index], int(clips.labels[index])].append(int(index))
    needed = max(k, 4)  # so that every turn tests, validates and trains on every group
    for (recording, label), indices in groups.items():
        if len(indices) < needed:
            raise DataError(
                f"{clips.name}: class {clips.classes[label]!r} has {len(indices)} clip{'s' * (len(indices) > 1)} in recording {recording!r}, "
                f"{k} {protocol} folds need {needed}; use fewer folds or leave it out"
            )
    folds = []
    for turn in range(k):
        cuts = [cut(np.array(indices, np.int64), turn) for indices in groups.values()]
        test, validation = (np.sort(np.concatenate(part)) for part in zip(*cuts, strict=True))
        folds.append(parts.fold(clips, f"{protocol}-{turn}", test, validation, apart=False))
    return folds
