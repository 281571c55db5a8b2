"""The parts of a fold: rows of `Clips` in, a checked `Fold` or a share to validate on out; what all protocols have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fercompress.errors import DataError
from fercompress.records import Clips, Fold, Int64

VALIDATION_PARTS = 6  # one part in so many of the clips that are not tested chooses the epoch


def fold(clips: Clips, name: str, test: Int64, validation: Int64, train: Int64 | None = None, *, apart: bool) -> Fold:
    """train: None takes all other rows; apart: nobody may be on both sides of the test. raises: DataError for an empty part or an untrained class"""
    if train is None:
        train = np.setdiff1d(np.arange(len(clips), dtype=np.int64), np.concatenate([test, validation]))
    for part, rows in (("train", train), ("validation", validation), ("test", test)):
        if not len(rows):
            remedy = "more folds, so that three subjects or more are left over," if part == "validation" else "fewer folds"
            raise DataError(f"{clips.name}: fold {name} has no {part} clip; use {remedy} or add clips")
    check_trained(clips, train, f"the subjects and clips that fold {name} leaves for training")
    return Fold(name, train, np.asarray(validation, np.int64), np.asarray(test, np.int64), clips.subjects if apart else ())


def held_out(clips: Clips, rows: Int64, groups: Sequence[str], turn: int) -> Int64:
    """A sixth of `rows` to validate on, whole groups of them, another in each turn, so that every class stays in the rest where that can be.

    groups: one name per clip of `clips`. With fewer than three groups among the rows, each group's last clips are taken.
    """
    names = sorted({groups[row] for row in rows})
    if len(names) < 3:
        return _tails(clips, rows, groups)
    groups_dealt = dealt(clips, rows, groups, min(VALIDATION_PARTS, len(names)))
    start = turn % len(groups_dealt)
    whole = set(map(int, clips.labels))
    for part in groups_dealt[start:] + groups_dealt[:start]:
        validation = of_groups(rows, groups, part)
        if set(map(int, clips.labels[np.setdiff1d(rows, validation)])) == whole:
            break
    return validation


def dealt(clips: Clips, rows: Int64, groups: Sequence[str], parts: int) -> list[list[str]]:
    """Groups dealt to `parts` with about equal counts of every class: the largest first, each to where its classes are rarest."""
    counts = {groups[row]: np.zeros(len(clips.classes)) for row in rows}
    for row in rows:
        counts[groups[row]][clips.labels[row]] += 1
    weight = 1 / np.maximum(sum(counts.values(), np.zeros(len(clips.classes))), 1)
    shares: list[list[str]] = [[] for _ in range(parts)]
    held = np.zeros((parts, len(clips.classes)))
    for group in sorted(counts, key=lambda name: (-counts[name].sum(), name)):
        crowding = (held * counts[group] * weight).sum(axis=1)
        chosen = min(range(parts), key=lambda part: (crowding[part], held[part].sum(), part))
        shares[chosen].append(group)
        held[chosen] += counts[group]
    return shares


def of_groups(rows: Int64, groups: Sequence[str], chosen: Iterable[str]) -> Int64:
    wanted = set(chosen)
    return np.array([row for row in rows if groups[row] in wanted], np.int64)


def of_subjects(clips: Clips, subjects: Iterable[str]) -> Int64:
    return of_groups(np.arange(len(clips), dtype=np.int64), clips.subjects, subjects)


def whole_clips(clips: Clips, rows: Iterable[int]) -> list[list[int]]:
    """Rows of one clip stay together: windows of it are no clips of their own. In the order of each clip's first row."""
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(clips.clip_ids[row], []).append(int(row))
    return list(found.values())


def flat(units: Iterable[Sequence[int]]) -> Int64:
    return np.array(sorted(row for unit in units for row in unit), np.int64)


def validation_size(clips: int) -> int:
    return max(1, round(clips / VALIDATION_PARTS))


def check_classes(clips: Clips) -> None:
    seen: dict[int, set[str]] = {}
    for label, clip in zip(clips.labels, clips.clip_ids, strict=True):
        seen.setdefault(int(label), set()).add(clip)
    for label, name in enumerate(clips.classes):
        count = len(seen.get(label, ()))
        if count < 2:
            many = f"{count} clip{'s' * (count != 1)}"
            raise DataError(f"{clips.name}: class {name!r} has {many}, folds need at least 2; add clips or leave the class out")


def check_trained(clips: Clips, train: Int64, where: str) -> None:
    missing = sorted(set(map(int, clips.labels)) - set(map(int, clips.labels[train])))
    if missing:
        raise DataError(
            f"{clips.name}: class {clips.classes[missing[0]]!r} has no clip among {where}; use fewer folds, add clips or leave the class out"
        )


def _tails(clips: Clips, rows: Int64, groups: Sequence[str]) -> Int64:
    """The last clips of every group's recordings, class by class."""
    tails: list[list[int]] = []
    for group in sorted({groups[row] for row in rows}):
        own = of_groups(rows, groups, [group])
        for label in np.unique(clips.labels[own]):
            ordered = sorted((int(i) for i in own[clips.labels[own] == label]), key=lambda i: (clips.recordings[i], clips.positions[i]))
            units = whole_clips(clips, ordered)
            tails += units[len(units) - validation_size(len(units)) :] if len(units) > 1 else []
    return flat(tails)
