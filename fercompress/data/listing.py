"""What a reader finds on disk, before any picture is decoded: a root folder in, a `Listing` out: every clip with its label and its frames' place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fercompress.records import LeftOut


@dataclass(frozen=True)
class Media:
    """Where a clip's frames lie: pictures in the order of their frames, or one video.

    side: of a video that shows two views beside each other, the half that is meant
    turn_deg: by how much the stored picture must be turned clockwise to stand upright
    """

    files: tuple[Path, ...]
    video: bool
    side: Literal["whole", "left", "right"] = "whole"
    turn_deg: Literal[0, 90, 180, 270] = 0

    def __post_init__(self) -> None:
        if not self.files or (self.video and len(self.files) != 1):
            raise ValueError("media is one video, or at least one picture")


@dataclass(frozen=True)
class Moments:
    """Frames (from 0) where the expression begins, is at its peak (first and last frame of it), and has ended, as coded by the data set."""

    onset: int
    apex: int
    apex_end: int
    offset: int

    def __post_init__(self) -> None:
        if not 0 <= self.onset <= self.apex <= self.apex_end <= self.offset:
            raise ValueError(f"moments out of order: {self}")


@dataclass(frozen=True)
class FoundClip:
    """One clip as it lies on disk. Label and frames travel in this one record from here to the cache: nothing can slip against anything.

    subject: "" where the data set does not tell; recording, position: as in `Clips`
    landmarks: a text file of points for each picture; aligned: ready crops of the face, in the order of the frames
    part: of the split that comes with the data set
    """

    clip_id: str
    label: str
    subject: str
    media: Media
    recording: str = ""
    position: int = 0
    landmarks: tuple[Path, ...] = ()
    aligned: tuple[Path, ...] = ()
    moments: Moments | None = None
    part: Literal["train", "test", ""] = ""

    def __post_init__(self) -> None:
        if self.landmarks and len(self.landmarks) != len(self.media.files):
            raise ValueError(f"{self.clip_id}: {len(self.landmarks)} landmark files for {len(self.media.files)} pictures")


@dataclass(frozen=True)
class Listing:
    """All that a reader found.

    found: what is on disk, used or left out; published: what the data set's own description counts, by the same names; empty where none is known
    remarks: clips that are used, though something about them is not as it should be
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    clips: tuple[FoundClip, ...]
    left_out: tuple[LeftOut, ...]
    found: Mapping[str, int]
    published: Mapping[str, int]
    remarks: tuple[LeftOut, ...] = ()

    def __post_init__(self) -> None:
        if strange := sorted({clip.label for clip in self.clips} - set(self.classes)):
            raise ValueError(f"label {strange[0]!r} is not a class")
        ids = [clip.clip_id for clip in self.clips]
        if len(set(ids)) != len(ids):
            raise ValueError("two clips have one id")
