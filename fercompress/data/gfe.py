"""Grammatical facial expressions (Freitas, Barbosa and Peres, UCI 2014, CC BY 4.0): recordings of 100 facial points in, clips of line pictures out.

A run of ones in a recording's targets is one performance, which becomes one clip.

One file is one recording of one expression, so where the head is, how near and how turned tells the expression without any motion.
A clip therefore keeps only how each point moved since the clip's first frame, in units of that frame's iris distance; the pictures show
the person's mean face moved that way, so the first frame of every clip of a person is the same picture.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fercompress.data import gfe_files, lines
from fercompress.data.gfe_files import Float64, Recording
from fercompress.dataconfig import GfeData
from fercompress.errors import DataError
from fercompress.records import Clips, Float32, LeftOut, UInt8, digest

DRAWING = 1  # one more whenever the same files would give other clips
IRISES = (87, 88)
SENTENCES = 5  # a file holds five sentences in turn, five times each
PICTURE_SPAN = 3.0  # side of the picture in iris distances; the face at rest is 2.1 wide and high
PICTURE_MIDDLE = (0.0, 0.55)  # from between the irises, in iris distances: halfway between the eyebrows and the chin
LINE_WIDTH = 2.0  # pixels of a 64 x 64 picture


@dataclass(frozen=True)
class _Performance:
    """points: float64 (T, 100, 2), pixels, resampled in time; position: its place among the recording's performances"""

    recording: Recording
    position: int
    points: Float64


def load(config: GfeData, data_root: Path) -> Clips:
    """raises: DataError, one line naming the file and the line"""
    return coordinates(config, data_root)[1]


def coordinates(config: GfeData, data_root: Path) -> tuple[Float32, Clips]:
    """The same N clips as numbers and as pictures.

    returns: float32 (N, T, 200), x and y of each point minus the first frame's, in iris distances of the first frame; the clips drawn
    """
    recordings, left_out = gfe_files.read(config, data_root)
    performances, unusable = _performances(recordings, config)
    classes = tuple(sorted({recording.expression for recording in recordings}))
    _refuse_single_clips(classes, performances, recordings)
    moves = np.stack([_movement(performance.points) for performance in performances])
    frames = _pictures(performances, moves, recordings, config)
    owners = [performance.recording for performance in performances]
    positions = tuple(performance.position for performance in performances)
    labels = np.array([classes.index(owner.expression) for owner in owners], dtype=np.int64)
    subjects = tuple(owner.person for owner in owners)
    sentences = tuple(f"{owner.name}/{position % SENTENCES}" for owner, position in zip(owners, positions, strict=True))
    clip_ids = tuple(f"{owner.name}/{position}" for owner, position in zip(owners, positions, strict=True))
    clips = Clips(
        name="gfe",
        frames=frames,
        labels=labels,
        classes=classes,
        clip_ids=clip_ids,
        subjects=subjects,
        clusters=sentences if len(set(subjects)) == 1 else subjects,
        recordings=tuple(owner.name for owner in owners),
        positions=positions,
        fingerprint=fingerprint(config, data_root),
        simulated=False,
        left_out=(*left_out, *unusable),
    )
    return moves.reshape(len(moves), config.frames, 2 * lines.POINTS).astype(np.float32), clips


def fingerprint(config: GfeData, data_root: Path) -> str:
    """sha256 (hex) of all that the clips are made from, without making them: files, wishes, way of drawing. raises: DataError"""
    files = [(path.name, gfe_files.sha256(path)) for pair in gfe_files.chosen(config, data_root)[0].values() for path in pair]
    return digest("gfe", DRAWING, PICTURE_SPAN, PICTURE_MIDDLE, LINE_WIDTH, config.frames, config.context, config.size, config.exaggerate, files)


def check(config: GfeData, data_root: Path) -> dict[str, Any]:
    """What is there, ready for JSON: clips and subjects as counts, classes with their clips, what was left out and why."""
    clips = load(config, data_root)
    counts = np.bincount(clips.labels, minlength=len(clips.classes))
    return {
        "clips": len(clips),
        "subjects": len(set(clips.subjects)),
        "classes": {name: int(count) for name, count in zip(clips.classes, counts, strict=True)},
        "left_out": [{"clip": clip.clip, "reason": clip.reason} for clip in clips.left_out],
    }


def spans(targets: npt.NDArray[np.bool_], context: int) -> list[tuple[int, int]]:
    """(start, stop) of every run of ones, with up to `context` frames more on each side, never past the middle of the gap to the next run.

    So no frame belongs to two clips, which might lie on both sides of a fold.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], targets, [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    middles = (stops[:-1] + starts[1:] + 1) // 2
    lows, highs = np.concatenate([[0], middles]), np.concatenate([middles, [len(targets)]])
    return [(int(max(a - context, low)), int(min(b + context, high))) for a, b, low, high in zip(starts, stops, lows, highs, strict=False)]


def _performances(recordings: list[Recording], config: GfeData) -> tuple[list[_Performance], list[LeftOut]]:
    usable, left_out = [], []
    for recording in recordings:
        lost = _lost(recording.points)
        for position, (start, stop) in enumerate(spans(recording.targets, config.context)):
            name, lost_frames = f"{recording.name}/{position}", int(lost[start:stop].sum())
            if lost_frames:
                left_out.append(
                    LeftOut(name, f"the tracker lost the face in {lost_frames} of {stop - start} frames: a point at 0 0, or no iris distance")
                )
            elif stop - start < 2:
                left_out.append(LeftOut(name, "a single frame holds no movement"))
            else:
                usable.append(_Performance(recording, position, _resampled(recording.points[start:stop], config.frames)))
    return usable, left_out


def _refuse_single_clips(classes: tuple[str, ...], performances: list[_Performance], recordings: list[Recording]) -> None:
    counts = Counter(performance.recording.expression for performance in performances)
    for name in classes:
        if counts[name] < 2:
            files = ", ".join(str(recording.targets_path) for recording in recordings if recording.expression == name)
            raise DataError(f"{files}: {counts[name]} usable performance(s) of {name!r}; a class needs 2: leave it out through [data] expressions")


def _lost(points: Float64) -> npt.NDArray[np.bool_]:
    """bool (F,): frames without a usable face: a point at (0, 0), or the irises less than a pixel apart."""
    at_zero = (points == 0).all(axis=2).any(axis=1)
    apart = np.linalg.norm(points[:, IRISES[0]] - points[:, IRISES[1]], axis=1)
    return np.asarray(at_zero | (apart < 1))


def _pictures(performances: list[_Performance], moves: Float64, recordings: list[Recording], config: GfeData) -> UInt8:
    """moves: (N, T, 100, 2) in iris distances -> uint8 (N, T, size, size): each performer's mean face, moved."""
    size = config.size
    faces = {person: _mean_face([r for r in recordings if r.person == person]) for person in {p.recording.person for p in performances}}
    width = LINE_WIDTH * size / 64
    middle = np.array(PICTURE_MIDDLE)
    return np.stack(
        [
            lines.draw((face + exaggerated(face, move, config.exaggerate) - middle) * (size / PICTURE_SPAN) + (size - 1) / 2, size, width)
            for face, move in zip((faces[performance.recording.person] for performance in performances), moves, strict=True)
        ]
    )


def exaggerated(face: Float64, moves: Float64, times: float) -> Float64:
    """Make the movement within the face `times` as large and leave the head's alone, as motion magnification does (Liu et al. 2005).

    face: (100, 2), at rest; moves: (T, 100, 2), of its points; the head's movement is the affine map of the face nearest to `moves` (least squares)
    returns: (T, 100, 2)
    """
    if times == 1:
        return moves
    places = np.column_stack([face, np.ones(len(face))])
    head = places @ (np.linalg.pinv(places) @ moves)
    return np.asarray(head + times * (moves - head))


def _mean_face(recordings: list[Recording]) -> Float64:
    """float64 (100, 2): a person's points over every frame of every recording, each frame from between its irises and in its iris distance.

    No label takes part, and every clip of the person starts from it: it cannot tell one from another.
    """
    points = np.concatenate([recording.points[~_lost(recording.points)] for recording in recordings])
    left, right = points[:, IRISES[0]], points[:, IRISES[1]]
    apart = np.linalg.norm(left - right, axis=1)[:, None, None]
    return np.asarray(((points - (left + right)[:, None] / 2) / apart).mean(axis=0))


def _resampled(points: Float64, frames: int) -> Float64:
    """(F, 100, 2) -> (frames, 100, 2): linear in time, first and last frame kept."""
    at = np.linspace(0, len(points) - 1, frames)
    before = np.minimum(at.astype(np.int64), max(len(points) - 2, 0))
    share = (at - before)[:, None, None]
    return np.asarray(points[before] * (1 - share) + points[np.minimum(before + 1, len(points) - 1)] * share)


def _movement(points: Float64) -> Float64:
    """(T, 100, 2) pixels -> movement of each point since the first frame, in iris distances of the first frame."""
    return np.asarray((points - points[0]) / np.linalg.norm(points[0, IRISES[0]] - points[0, IRISES[1]]))
