"""A contact sheet of clips: `Clips` in, one PNG out. Rows are clips (class by class, each of a new subject if there is one), columns frames.

Beside a camera's clip stands the share of its frames in which a face was found.
"""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fercompress.errors import DataError, DiskFullError, InputError
from fercompress.records import Clips

_COLUMNS = 12  # at most so many frames of a clip, the first and the last among them
_INCHES = 0.8  # a frame's side on the sheet


def sheet(clips: Clips, path: Path, per_class: int = 2) -> Path:
    """Draw `per_class` clips of every class; returns `path`. raises: DataError if there is no clip, InputError if the file cannot be written"""
    rows = [(name, index) for label, name in enumerate(clips.classes) for index in _chosen(clips, label, per_class)]
    if not rows:
        raise DataError(f"{clips.name}: no clip to show")
    _, length, height, width = clips.frames.shape
    columns = np.unique(np.linspace(0, length - 1, min(length, _COLUMNS)).round().astype(int))
    montage = np.concatenate([np.concatenate(list(clips.frames[index][columns]), axis=1) for _, index in rows])
    margin_x, margin_y = 1.9, 0.6
    size = (len(columns) * _INCHES * width / height + margin_x, len(rows) * _INCHES + margin_y)
    figure = Figure(figsize=size, dpi=150)
    axes = figure.add_axes((margin_x / size[0], 0.02, 1 - margin_x / size[0] - 0.01, 1 - margin_y / size[1] - 0.02))
    axes.imshow(montage, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="bicubic")
    axes.set_yticks([(row + 0.5) * height for row in range(len(rows))], [_told(clips, name, index) for name, index in rows], fontsize=8)
    axes.set_xticks([(column + 0.5) * width for column in range(len(columns))], [str(frame + 1) for frame in columns], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    kind = "simulated" if clips.simulated else "recorded"
    figure.suptitle(
        f"{clips.name} ({kind}): {len(set(clips.clip_ids))} clips, {len(set(clips.subjects) - {''})} subjects; columns are frames 1 to {length}",
        fontsize=9,
    )
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"{path}: no space left to write the contact sheet; free some and run again") from error
        raise InputError(f"{path}: cannot write the contact sheet ({error.strerror}); give a file in a folder that you may write to") from error
    return path


def _told(clips: Clips, label: str, index: int) -> str:
    subject = clips.subjects[index] or f"{clips.clip_ids[index]}, subject unknown"
    rate = f"\nfaces in {clips.face_rates[index]:.0%}" if clips.face_rates else ""
    return f"{label}\n{subject}{rate}"


def _chosen(clips: Clips, label: int, per_class: int) -> list[int]:
    """The class's first clips, those of a new subject before further ones of the same."""
    own = np.flatnonzero(clips.labels == label)
    seen: set[str] = set()
    first: list[int] = []
    further: list[int] = []
    for index in map(int, own):
        (further if clips.subjects[index] in seen else first).append(index)
        seen.add(clips.subjects[index])
    return sorted((first + further)[:per_class])
