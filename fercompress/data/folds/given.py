"""The split that comes with a data set: `Clips` with their parts in, one fold out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fercompress.data.folds import parts
from fercompress.errors import DataError
from fercompress.records import Clips, Fold, Int64


def given(clips: Clips) -> Fold:
    """Tests on the given test part; validation is cut out of the given training part, never out of the test part. raises: DataError

    Clips that share a subject or a recording (an actor, a movie) are validated on or trained on together. Where no sixth of the clips can be held out
    so, since a few recordings hold nearly all clips, or all of a class, subjects alone are kept together, and the fold is called `given-by-subject`;
    where that fails too, single clips, and it is called `given-by-clip`.
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
    cuts = [(name, groups, parts.held_out(clips, train, groups, turn=0)) for name, groups in _groups(clips)]
    fits = [(name, validation) for name, groups, validation in cuts if _fits(clips, train, validation, groups)]
    name, validation = fits[0] if fits else (cuts[-1][0], cuts[-1][2])
    return parts.fold(clips, name, test, validation, apart=False)


def _fits(clips: Clips, train: Int64, validation: Int64, groups: Sequence[str]) -> bool:
    """Between a twentieth and a third is held out, whole groups of it, and every class stays trained on."""
    rest = np.setdiff1d(train, validation)
    if {groups[row] for row in validation} & {groups[row] for row in rest}:
        return False
    return len(train) / 20 <= len(validation) <= len(train) / 3 and set(clips.labels[rest]) == set(clips.labels[train])


def _groups(clips: Clips) -> list[tuple[str, tuple[str, ...]]]:
    """The fold's name and one group per clip, the widest groups first; what is not known ("") joins nothing."""
    ids = [f"clip {clip}" for clip in clips.clip_ids]
    subjects = [f"subject {subject}" if subject else own for subject, own in zip(clips.subjects, ids, strict=True)]
    recordings = [f"recording {recording}" if recording else own for recording, own in zip(clips.recordings, ids, strict=True)]
    joined = _components(zip(subjects, recordings, strict=True))
    return [("given", tuple(joined[subject] for subject in subjects)), ("given-by-subject", tuple(subjects)), ("given-by-clip", tuple(ids))]


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
