"""The 68 points of a face that a data set brings: a text file in, eyes and the place of the face out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fercompress.errors import DataError

Float64 = npt.NDArray[np.float64]

POINTS = 68
_EYES = (slice(36, 42), slice(42, 48))  # the eye on the picture's left (the subject's right), and the other
FACE_SPAN = 2.1  # eye distances: how wide and high a face at rest is, as in data/gfe.py
FACE_MIDDLE = 0.55  # eye distances below the eyes: halfway between the eyebrows and the chin


def points(path: Path) -> Float64 | None:
    """(68, 2), x and y in pixels; None for an empty file, which is how a tracker tells that it had no face. raises: DataError"""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: landmarks cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        numbers = [float(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise DataError(f"{path}: landmarks must be lines of x and y ({error})") from error
    if not numbers:
        return None
    if len(numbers) != 2 * POINTS or not np.isfinite(numbers).all():
        raise DataError(f"{path}: {len(numbers)} numbers; landmarks are {POINTS} lines of x and y")
    return np.array(numbers).reshape(POINTS, 2)


def placement(landmarks: Float64, size: int, margin: float) -> Float64 | None:
    """The similarity that takes pixels (x, y, 1) of a crop of `size` x `size` to the picture: eyes level, always equally far apart.

    margin: of the face's span, added on every side; returns: (2, 3), None where the eyes are less than a pixel apart: no face
    """
    left, right = (landmarks[eye].mean(axis=0) for eye in _EYES)
    across = right - left
    apart = float(np.hypot(*across))
    if apart < 1:
        return None
    down = np.array([-across[1], across[0]])  # across, turned by a right angle: where y grows downwards, that is towards the chin
    middle = (left + right) / 2 + FACE_MIDDLE * down
    scale = FACE_SPAN * (1 + 2 * margin) / size  # eye distances per pixel of the crop
    turn = scale * np.column_stack([across, down])
    return np.column_stack([turn, middle - turn @ np.full(2, (size - 1) / 2)])
