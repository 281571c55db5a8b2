"""Cut clips into train, validation and test parts: `Clips` and a protocol in, one `Fold` per turn out.

Whatever the protocol, validation is cut out of what the test part leaves over, never out of the test part, and every class is trained on.
Protocols across subjects never put a subject on both sides of a test; those within a recording cut each recording's clips of each class apart by
their positions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from fercompress.errors import DataError
from fercompress.records import Clips, Fold, Int64

_VALIDATION_PARTS = 6  # one part in so many of the clips that are not tested chooses the epoch


def by_subject(clips: Clips, train: Iterable[str], validation: Iterable[str], test: Iterable[str]) -> Fold:
    """One fold from three lists of subjects. raises: DataError for a subject that is unknown or in two lists, or a class that is not trained on"""
    lists = {"train": set(train), "validation": set(validation), "test": set(test)}
    known = set(clips.subjects)
    for name, subjects in lists.items():
        if missing := sorted(subjects - known):
            raise DataError(f"{clips.name}: no clip of subject {missing[0]!r} ({name} part); there are {', '.join(sorted(known)[:10])}")
        if not subjects:
            raise DataError(f"{clips.name}: the {name} part has no subject; give at least one")
        for other in lists:
            if other != name and (shared := sorted(subjects & lists[other])):
                raise DataError(f"{clips.name}: subject {shared[0]!r} is in the {name} and the {other} part; keep it in one")
    parts = {name: _of_subjects(clips, subjects) for name, subjects in lists.items()}
    _check_trained(clips, parts["train"], "these subjects")
    return Fold("subjects", parts["train"], parts["validation"], parts["test"])


def subject_kfold(clips: Clips, k: int) -> list[Fold]:
    """Subjects dealt out to k test parts with about equal counts of every class. raises: DataError"""
    _check_classes(clips)
    subjects = sorted(set(clips.subjects))
    if not 2 <= k <= len(subjects) or len(subjects) < 3:
        raise DataError(f"{clips.name}: {k} folds across {len(subjects)} subjects; need at least 3 subjects and 2 to {len(subjects)} folds")
    return [_across(clips, f"subjects-{turn}", set(tested), turn) for turn, tested in enumerate(_dealt(clips, subjects, k))]


def across_subjects(clips: Clips) -> list[Fold]:
    """Every subject is the test part once. With fewer than three others, validation is cut from those others' own recordings. raises: DataError"""
    _check_classes(clips)
    subjects = sorted(set(clips.subjects))
    if len(subjects) < 2:
        raise DataError(f"{clips.name}: only one subject ({subjects[0]}); testing across subjects needs two, use a protocol within subjects")
    return [_across(clips, f"subject-{subject}", {subject}, turn) for turn, subject in enumerate(subjects)]


def contiguous(clips: Clips, k: int) -> list[Fold]:
    """The i-th of k runs of consecutive clips of every recording is tested; the clips that follow it (cyclically) validate. raises: DataError"""

    def cut(ordered: Int64, turn: int) -> tuple[Int64, Int64]:
        runs = np.array_split(ordered, k)
        after = np.concatenate([*runs[turn + 1 :], *runs[:turn]])
        return runs[turn], after[: _validation_size(len(after))]

    return _within(clips, k, "contiguous", cut)


def modulo(clips: Clips, k: int) -> list[Fold]:
    """The clips whose position in their recording is i mod k are tested; every sixth of the others validates. raises: DataError"""
    position = np.array(clips.positions)

    def cut(ordered: Int64, turn: int) -> tuple[Int64, Int64]:
        tested = position[ordered] % k == turn
        rest = ordered[~tested]
        step = len(rest) // _validation_size(len(rest)) if len(rest) else 1
        return ordered[tested], rest[turn % step :: step][: _validation_size(len(rest))]

    return _within(clips, k, "modulo", cut)


def _within(clips: Clips, k: int, protocol: str, cut: Callable[[Int64, int], tuple[Int64, Int64]]) -> list[Fold]:
    """cut(indices of one recording's clips of one class in order, turn) -> (tested, validating)."""
    if k < 2:
        raise DataError(f"{clips.name}: {k} {protocol} folds; need at least 2")
    _check_classes(clips)
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
        folds.append(_fold(clips, f"{protocol}-{turn}", test, validation))
    return folds


def _across(clips: Clips, name: str, tested: set[str], turn: int) -> Fold:
    test = _of_subjects(clips, tested)
    others = sorted(set(clips.subjects) - tested)
    _check_trained(clips, np.setdiff1d(np.arange(len(clips)), test), f"any subject but {', '.join(sorted(tested)[:5])}")
    if len(others) >= 3:
        dealt = _dealt(clips, others, min(_VALIDATION_PARTS, len(others)))
        candidates = [_of_subjects(clips, set(part)) for part in dealt[turn % len(dealt) :] + dealt[: turn % len(dealt)]]
    else:
        candidates = [_tails(clips, others)]
    whole = set(range(len(clips.classes))) & set(map(int, clips.labels))
    for validation in candidates:
        train = np.setdiff1d(np.arange(len(clips)), np.concatenate([test, validation]))
        if set(map(int, clips.labels[train])) == whole:
            break
    return _fold(clips, name, test, validation)


def _tails(clips: Clips, subjects: Iterable[str]) -> Int64:
    """The last clips of every subject's recordings, class by class."""
    tails: list[int] = []
    for subject in subjects:
        own = _of_subjects(clips, {subject})
        for label in np.unique(clips.labels[own]):
            ordered = sorted((int(i) for i in own[clips.labels[own] == label]), key=lambda i: (clips.recordings[i], clips.positions[i]))
            tails += ordered[len(ordered) - _validation_size(len(ordered)) :] if len(ordered) > 1 else []
    return np.array(sorted(tails), np.int64)


def _dealt(clips: Clips, subjects: list[str], parts: int) -> list[list[str]]:
    """Subjects in `parts` groups with about equal counts of every class: the largest first, each to where its classes are rarest."""
    counts = {subject: np.zeros(len(clips.classes)) for subject in subjects}
    for subject, label in zip(clips.subjects, clips.labels, strict=True):
        if subject in counts:
            counts[subject][label] += 1
    weight = 1 / np.maximum(sum(counts.values(), np.zeros(len(clips.classes))), 1)
    dealt: list[list[str]] = [[] for _ in range(parts)]
    held = np.zeros((parts, len(clips.classes)))
    for subject in sorted(subjects, key=lambda name: (-counts[name].sum(), name)):
        crowding = (held * counts[subject] * weight).sum(axis=1)
        group = min(range(parts), key=lambda part: (crowding[part], held[part].sum(), part))
        dealt[group].append(subject)
        held[group] += counts[subject]
    return dealt


def _fold(clips: Clips, name: str, test: Int64, validation: Int64) -> Fold:
    train = np.setdiff1d(np.arange(len(clips), dtype=np.int64), np.concatenate([test, validation]))
    for part, indices in (("train", train), ("validation", validation), ("test", test)):
        if not len(indices):
            raise DataError(f"{clips.name}: fold {name} has no {part} clip; use fewer folds or add clips")
    _check_trained(clips, train, f"the subjects and clips that fold {name} leaves for training")
    return Fold(name, train, np.asarray(validation, np.int64), np.asarray(test, np.int64))


def _of_subjects(clips: Clips, subjects: set[str]) -> Int64:
    return np.array([i for i, subject in enumerate(clips.subjects) if subject in subjects], np.int64)


def _validation_size(clips: int) -> int:
    return max(1, round(clips / _VALIDATION_PARTS))


def _check_classes(clips: Clips) -> None:
    counts = Counter(map(int, clips.labels))
    for label, name in enumerate(clips.classes):
        if counts[label] < 2:
            many = f"{counts[label]} clip{'s' * (counts[label] != 1)}"
            raise DataError(f"{clips.name}: class {name!r} has {many}, folds need at least 2; add clips or leave the class out")


def _check_trained(clips: Clips, train: Int64, where: str) -> None:
    missing = sorted(set(map(int, clips.labels)) - set(map(int, clips.labels[train])))
    if missing:
        raise DataError(
            f"{clips.name}: class {clips.classes[missing[0]]!r} has no clip among {where}; use fewer folds, add clips or leave the class out"
        )
