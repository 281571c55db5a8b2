"""The frozen records that a journal holds beside blocks: clips, bundles and trainings as results need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fercompress.records import Block, Clips, Fold, History, Int64, LeftOut, Size


@dataclass(frozen=True)
class FoldFacts:
    """A fold's test clips: index int64 (n,) into the `Clips`, labels int64 (n,), n strings each; and how many clips the other parts hold.

    shared_clips: how many of the test clips show a subject that is in another part too; None where subjects are not known, or were not compared
    """

    name: str
    train_clips: int
    validation_clips: int
    index: Int64
    labels: Int64
    clip_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    clusters: tuple[str, ...]
    shared_clips: int | None = None


@dataclass(frozen=True)
class ClipFacts:
    """What the results need to know of the `Clips`, pictures left out.

    face_rates: clip -> share (0..1) of its frames in which a face was found; None where nothing looked for one
    """

    name: str
    fingerprint: str
    simulated: bool
    classes: tuple[str, ...]
    folds: tuple[FoldFacts, ...]
    left_out: tuple[LeftOut, ...]
    face_rates: Mapping[str, float] | None = None


@dataclass(frozen=True)
class StoredBundle:
    """A bundle as recorded; timed: latency, memory and power are measured on this one."""

    variant: str
    seed: int
    fold: str
    engine: str
    sha256: str
    timed: bool
    size: Size
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Training:
    """One training of a variant's predictor (the baseline's is the teacher's own).

    way: how the variant came about, as reports say it ("decomposed, fine-tuned with distillation")
    train_epoch_s: seconds of one epoch of the predictor on cached features; None where it has no such epoch
    best_epoch_accuracy, last_epoch_accuracy: test accuracy (share, 0..1) in torch, where known; neither chose anything
    """

    variant: str
    seed: int
    fold: str
    way: str
    history: History
    train_epoch_s: float | None = None
    best_epoch_accuracy: float | None = None
    last_epoch_accuracy: float | None = None


@dataclass(frozen=True)
class Entry:
    """A block as it stands in the journal: its number, when it was recorded (UTC, ISO 8601), whether results count it."""

    id: int
    recorded: str
    counted: bool
    block: Block


def shared_clips(clips: Clips, fold: Fold) -> int | None:
    """How many test clips show a subject that is in another part too; None where a subject is not known, or nothing was trained."""
    others = {clips.subjects[row] for row in (*fold.train, *fold.validation)}
    tested = {clips.clip_ids[row]: clips.subjects[row] for row in fold.test}  # windows of one clip count once
    return None if not others or "" in others or "" in tested.values() else sum(subject in others for subject in tested.values())


def face_rates(clips: Clips) -> dict[str, float]:
    """Clip -> share of its frames that held a face: the mean of its windows."""
    of_clip: dict[str, list[float]] = {}
    for clip, rate in zip(clips.clip_ids, clips.face_rates, strict=True):
        of_clip.setdefault(clip, []).append(rate)
    return {clip: sum(rates) / len(rates) for clip, rates in of_clip.items()}
