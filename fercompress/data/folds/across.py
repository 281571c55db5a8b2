"""Folds across subjects: `Clips` whose subjects are all known in; folds out whose test subjects nobody trained or chose on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from fercompress.data.folds import parts
from fercompress.errors import DataError
from fercompress.records import Clips, Fold, digest


def by_subject(clips: Clips, train: Iterable[str], validation: Iterable[str], test: Iterable[str]) -> Fold:
    """One fold from three lists of subjects. raises: DataError for a subject that is unknown or in two lists, or a class that is not trained on"""
    known = _known(clips)
    lists = {"train": set(train), "validation": set(validation), "test": set(test)}
    for name, subjects in lists.items():
        if missing := sorted(subjects - set(known)):
            raise DataError(f"{clips.name}: no clip of subject {missing[0]!r} ({name} part); there are {', '.join(known[:10])}")
        if not subjects:
            raise DataError(f"{clips.name}: the {name} part has no subject; give at least one")
        for other in lists:
            if other != name and (shared := sorted(subjects & lists[other])):
                raise DataError(f"{clips.name}: subject {shared[0]!r} is in the {name} and the {other} part; keep it in one")
    rows = {name: parts.of_subjects(clips, subjects) for name, subjects in lists.items()}
    parts.check_trained(clips, rows["train"], "these subjects")
    return parts.fold(clips, "subjects", rows["test"], rows["validation"], rows["train"], apart=True)


def subject_kfold(clips: Clips, k: int) -> list[Fold]:
    """Subjects dealt out to k test parts with about equal counts of every class. raises: DataError"""
    _several(clips, k)
    return _kfold(clips, parts.dealt(clips, np.arange(len(clips), dtype=np.int64), clips.subjects, k))


def subjects_ascending(clips: Clips, k: int) -> list[Fold]:
    """The i-th of k folds tests every k-th subject in ascending order of ids, from the i-th on. raises: DataError

    As published lists of CK+ do (Emotion-FAN's `CK+_10-fold_sample_IDascendorder_step10.txt`); numbers within ids count as numbers.
    """
    ordered = sorted(_several(clips, k), key=_ascending)
    return _kfold(clips, [ordered[turn::k] for turn in range(k)])


def subjects_shuffled(clips: Clips, k: int, deal: int) -> list[Fold]:
    """Subjects dealt out at random to k test parts; equal `deal`s deal alike, on every machine. raises: DataError"""
    # In the order of hashes: random, yet no other subject moves much when one comes or goes, and no library's generator decides it.
    ordered = sorted(_several(clips, k), key=lambda subject: digest("deal", deal, subject))
    return _kfold(clips, [ordered[turn::k] for turn in range(k)])


def across_subjects(clips: Clips) -> list[Fold]:
    """Every subject is the test part once. With fewer than three others, validation is cut from those others' own recordings. raises: DataError"""
    parts.check_classes(clips)
    subjects = _known(clips)
    if len(subjects) < 2:
        raise DataError(f"{clips.name}: only one subject ({subjects[0]}); testing across subjects needs two, use a protocol within subjects")
    return [_across(clips, f"subject-{subject}", [subject], turn) for turn, subject in enumerate(subjects)]


def _kfold(clips: Clips, tested: Sequence[Sequence[str]]) -> list[Fold]:
    return [_across(clips, f"subjects-{turn}", subjects, turn) for turn, subjects in enumerate(tested)]


def _across(clips: Clips, name: str, tested: Sequence[str], turn: int) -> Fold:
    test = parts.of_subjects(clips, tested)
    others = np.setdiff1d(np.arange(len(clips), dtype=np.int64), test)
    parts.check_trained(clips, others, f"any subject but {', '.join(sorted(tested)[:5])}")
    return parts.fold(clips, name, test, parts.held_out(clips, others, clips.subjects, turn), apart=True)


def _known(clips: Clips) -> list[str]:
    """raises: DataError where a clip's subject is not known"""
    unknown = [clip for clip, subject in zip(clips.clip_ids, clips.subjects, strict=True) if not subject]
    if unknown:
        raise DataError(
            f"{clips.name}: the subject of {len(unknown)} of {len(clips)} clips is not known ({unknown[0]!r} is the first), so nothing can keep one "
            "subject out of both sides of a test"
        )
    return sorted(set(clips.subjects))


def _several(clips: Clips, k: int) -> list[str]:
    parts.check_classes(clips)
    subjects = _known(clips)
    if not 2 <= k <= len(subjects) or len(subjects) < 3:
        raise DataError(f"{clips.name}: {k} folds across {len(subjects)} subjects; need at least 3 subjects and 2 to {len(subjects)} folds")
    return subjects


def _ascending(subject: str) -> tuple[list[tuple[int, str]], str]:
    """ "s9" before "s10"; the name itself keeps "s01" and "s1" in one order."""
    pieces = re.findall(r"\d+|\D+", subject)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces], subject
