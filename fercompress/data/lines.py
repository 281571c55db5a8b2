"""Draw faces as line pictures: 100 facial points a frame in, one anti-aliased grey picture a frame out."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from fercompress.records import UInt8

# The places of the 100 points (Freitas et al. 2014) in the order in which a pen would visit them: (first, last, closed).
_STROKES = (
    (0, 7, True),  # left eye
    (8, 15, True),  # right eye
    (16, 25, True),  # left eyebrow
    (26, 35, True),  # right eyebrow
    (36, 47, False),  # nose
    (48, 59, True),  # outer lips
    (60, 67, True),  # inner lips
    (68, 86, False),  # contour
    (87, 87, False),  # left iris: a dot
    (88, 88, False),  # right iris
    (89, 89, False),  # tip of the nose
    (90, 94, False),  # line above the left eyebrow
    (95, 99, False),  # line above the right eyebrow
)
POINTS = 100


def _segments() -> npt.NDArray[np.int64]:
    """int64 (S, 2): the two points of every segment; a dot is a segment of length 0."""
    pairs: list[tuple[int, int]] = []
    for first, last, closed in _STROKES:
        path = [*range(first, last + 1)]
        pairs += itertools.pairwise(path) if first != last else [(first, first)]
        if closed:
            pairs.append((last, first))
    return np.array(pairs, dtype=np.int64)


SEGMENTS = _segments()


def draw(points: npt.NDArray[np.floating], size: int, width: float) -> UInt8:
    """Draw the lines of F faces, white on black.

    points: float (F, 100, 2), x to the right and y down in pixels, (0, 0) the middle of the top left pixel; what lies outside the picture is cut off
    width: of a line, in pixels; a pixel is as bright as the share of the line's width that covers it, by the distance of its middle to the line
    returns: uint8 (F, size, size)
    """
    # One picture's side beyond the border is far enough to keep a wild point from making its windows huge.
    near = np.clip(np.asarray(points, dtype=np.float32), -size, 2 * size)
    canvas = np.zeros((len(near), size + 2, size + 2), dtype=np.float32)  # a border of one pixel takes what falls outside
    reach = width / 2 + 0.5
    every = np.arange(len(near))[:, None, None]
    for a, b in SEGMENTS:
        start, along = near[:, a], near[:, b] - near[:, a]
        # Only a window around the segment can be touched: 30 times fewer pixels than the whole picture.
        corner = np.floor(np.minimum(near[:, a], near[:, b]) - reach).astype(np.int64)
        side = int(np.ceil(np.abs(along).max(initial=0) + 2 * reach)) + 2
        x = corner[:, 0, None, None] + np.arange(side)[None, None, :]
        y = corner[:, 1, None, None] + np.arange(side)[None, :, None]
        right, down = x - start[:, 0, None, None], y - start[:, 1, None, None]
        length2 = np.maximum((along**2).sum(axis=1), 1e-12)[:, None, None]
        share = np.clip((right * along[:, 0, None, None] + down * along[:, 1, None, None]) / length2, 0, 1)
        distance = np.hypot(right - share * along[:, 0, None, None], down - share * along[:, 1, None, None])
        cover = np.clip(reach - distance, 0, min(width, 1)).astype(np.float32)
        row, column = np.clip(y, -1, size) + 1, np.clip(x, -1, size) + 1
        canvas[every, row, column] = np.maximum(canvas[every, row, column], cover)
    return np.rint(canvas[:, 1:-1, 1:-1] * 255).astype(np.uint8)
