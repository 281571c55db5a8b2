"""One clip twice is one clip: clips that were found in, those without copies and what was left out, with the reason, out.

A copy in the other part of a split, or under another subject, would be tested by what it was trained on.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path

from fercompress.data.listing import FoundClip
from fercompress.errors import DataError
from fercompress.records import LeftOut


def without_copies(clips: Sequence[FoundClip]) -> tuple[list[FoundClip], list[LeftOut]]:
    """Of clips with the same bytes one stays: the first of the test part, else the first. Under two labels none stays: one is wrong.

    Only clips whose files are of equal sizes are read. raises: DataError
    """
    dropped: dict[str, str] = {}
    for alike in _groups(clips):
        kept = next((clip for clip in alike if clip.part == "test"), alike[0])
        if len({clip.label for clip in alike}) > 1:
            labels = ", ".join(f"{clip.clip_id} ({clip.label})" for clip in alike)
            dropped |= {clip.clip_id: f"the same bytes under several labels: {labels}" for clip in alike}
            continue
        for clip in alike:
            if clip is not kept:
                dropped[clip.clip_id] = f"the same bytes as {kept.clip_id}"
    return [clip for clip in clips if clip.clip_id not in dropped], [LeftOut(clip, reason) for clip, reason in dropped.items()]


def _groups(clips: Sequence[FoundClip]) -> list[list[FoundClip]]:
    """Those of two or more clips with the same bytes, in order."""
    by_size: defaultdict[Hashable, list[FoundClip]] = defaultdict(list)
    for clip in clips:
        by_size[tuple(_size(path) for path in clip.media.files)].append(clip)
    by_bytes: defaultdict[Hashable, list[FoundClip]] = defaultdict(list)
    for sizes, alike in by_size.items():
        if len(alike) > 1:
            for clip in alike:
                by_bytes[sizes, tuple(sha256(path) for path in clip.media.files)].append(clip)
    return [alike for alike in by_bytes.values() if len(alike) > 1]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def sha256(path: Path) -> str:
    """Of the file's bytes, in hex. raises: DataError"""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
