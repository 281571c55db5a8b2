"""The split that comes with a data set: `Clips` with their parts in, one fold out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fercompress.data.folds import parts
from fercompress.errors import DataError
from fercompress.records import Clips, Fold, Int64


def given(clips: Clips) -> Fold:
    """Tests on the given test part; validation is cut out of the given training part, never out of the test part. raises: DataError

    Clips that share a subject or a recording (an actor, a movie) are validated on or trained on together. Where only one training clip in twenty
    or fewer would be left for that, since a few large recordings hold nearly all, subjects alone decide.
    """
    parts.check_classes(clips)
    if not clips.parts:
        raise DataError(f"{clips.name}: its clips name no part, so there is no given split; choose a protocol that cuts folds (data.protocol)")
    part = np.array(clips.parts)
    train, test = np.flatnonzero(part == "train"), np.flatnonzero(part == "test")
    for name, rows in (("train", train), ("test", test)):
        if not len(rows):
            raise DataError(f"{clips.name}: no clip of the given {name} part was found; both parts are needed")
    if len(train) + len(test) < len(clips):
        lost = clips.clip_ids[int(np.flatnonzero((part != "train") & (part != "test"))[0])]
        raise DataError(f"{clips.name}: clip {lost!r} is in neither the train nor the test part; say which, or choose another protocol")
    parts.check_trained(clips, train, "the given training part")
    both = set(np.array(clips.clip_ids)[train]) & set(np.array(clips.clip_ids)[test])
    if both:
        raise DataError(f"{clips.name}: clip {str(min(both))!r} is in the train and the test part; keep it in one")
    return parts.fold(clips, "given", test, parts.held_out(clips, train, _together(clips, train), turn=0), apart=False)


def _together(clips: Clips, rows: Int64) -> tuple[str, ...]:
    """One group per clip, such that clips of one subject or recording share theirs; what is not known ("") joins nothing."""
    ids = [f"clip {clip}" for clip in clips.clip_ids]
    subjects = [f"subject {subject}" if subject else own for subject, own in zip(clips.subjects, ids, strict=True)]
    recordings = [f"recording {recording}" if recording else own for recording, own in zip(clips.recordings, ids, strict=True)]
    joined = _components(zip(subjects, recordings, strict=True))
    groups = tuple(joined[subject] for subject in subjects)
    counts = np.unique([groups[row] for row in rows], return_counts=True)[1]
    return groups if counts.max() <= len(rows) * (1 - 1 / 20) else tuple(subjects)


def _components(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name -> the name that stands for all that hang together through pairs."""
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while above.setdefault(name, name) != name:
            above[name] = name = above.setdefault(above[name], above[name])
        return name

    for one, other in pairs:
        first, second = sorted((top(one), top(other)))
        above[second] = first
    return {name: top(name) for name in list(above)}
