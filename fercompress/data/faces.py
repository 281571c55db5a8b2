"""Cut the face out of frames: a clip's decoded pictures in, square crops and the frames that held a face out.

A crop is taken along a *placement*: a (2, 3) matrix from its pixels (x, y, 1) to the picture's. Sources of placements: the data set's own ready
crops, its landmarks, a detector; what a frame without one becomes is the study's choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fercompress.data import detectors, landmarks
from fercompress.data.detectors import Box
from fercompress.data.landmarks import Float64
from fercompress.data.listing import FoundClip, Media
from fercompress.dataconfig import Faces, Video
from fercompress.errors import DataError
from fercompress.records import UInt8

Way = Literal["aligned", "landmarks", "detect", "none"]
Placement = Float64

VERSION = 1  # one more whenever the same pictures would give other crops
_FLAT = 3  # grey levels between the darkest and the brightest pixel of a ready crop that shows nothing
_SAME_FACE = 0.3  # overlap with the last frame's box from which on a face is taken for the same person's


@dataclass(frozen=True)
class Cut:
    """crops: uint8 (n, size, size); found: bool (n,), whether the frame itself held a face"""

    crops: UInt8
    found: tuple[bool, ...]


def way(config: Faces, clips: Sequence[FoundClip]) -> Way:
    """Where faces come from, one for a whole data set: crops made in two ways would tell classes apart by the way.

    raises: DataError where the study asks for what the data set has not
    """
    there: dict[str, bool] = {"aligned": any(clip.aligned for clip in clips), "landmarks": any(clip.landmarks for clip in clips)}
    if config.by in there and not there[config.by]:
        raise DataError(f'faces.by = "{config.by}": no clip of this data set has that; use "detect", or leave the key out to take what is there')
    if config.by is not None:
        return config.by
    return "aligned" if there["aligned"] else "landmarks" if there["landmarks"] else "detect"


def pictures(clip: FoundClip, by: Way) -> Media:
    """What is decoded. raises: DataError where the clip lacks what the rest of its data set has"""
    if by == "aligned":
        if not clip.aligned:
            raise DataError("no aligned face: its folder of ready crops is empty or not there")
        return Media(clip.aligned, video=False)
    if by == "landmarks" and not clip.landmarks:
        raise DataError("no landmarks: their files are not there")
    return clip.media


def cut(config: Video, by: Way, clip: FoundClip, numbers: Sequence[int], frames: Iterable[UInt8]) -> Cut:
    """Crops of frames in their order. Of a frame without a face: black for `skip-frame` (see `rows`), else by what `missing` says.

    numbers: which frames of `pictures(clip, by)` these are; frames: uint8 (H, W) each, taken one by one
    raises: DataError (`missing` is "fail" and a frame has no face; landmarks that cannot be read)
    """
    faces, size = config.faces, config.size
    find = _finder(config, by, clip)
    crops = np.zeros((len(numbers), size, size), np.uint8)
    found: list[bool] = []
    waiting: list[tuple[int, UInt8]] = []  # frames before the first face, for `last-box`
    last: Placement | None = None
    for row, (number, frame) in enumerate(zip(numbers, frames, strict=True)):
        placed = find(number, frame)
        found.append(placed is not None)
        if placed is not None:
            for earlier, picture in waiting:
                crops[earlier] = warped(picture, placed, size)
            waiting.clear()
            last = placed
        elif faces.missing == "fail":
            raise DataError(f'no face in frame {number + 1}, and faces.missing is "fail"')
        elif by == "aligned" or faces.missing == "skip-frame":
            continue
        elif faces.missing == "centre":
            placed = of_box(_centre(frame), frame.shape, size, 0)
        elif last is None:
            waiting.append((row, frame))
            continue
        else:
            placed = last
        crops[row] = warped(frame, placed, size)
    return Cut(crops, tuple(found))


def rows(config: Video, by: Way, windows: Sequence[Sequence[int]], numbers: Sequence[int], made: Cut) -> list[tuple[UInt8, float] | None]:
    """For every window its T crops, uint8 (T, size, size), and the share (0..1) of its different frames that held a face; None where none did.

    Where frames without a face are skipped (`skip-frame`, and ready crops, which hold no other picture), the window's others are spread over T.
    """
    place = {number: row for row, number in enumerate(numbers)}
    skip = by == "aligned" or config.faces.missing == "skip-frame"
    out: list[tuple[UInt8, float] | None] = []
    for window in windows:
        taken = [place[number] for number in window]
        different = sorted(set(taken))
        held = [row for row in different if made.found[row]]
        if not held:
            out.append(None)
            continue
        if skip and len(held) < len(different):
            taken = [row for row in taken if made.found[row]]
            taken = [taken[at * len(taken) // len(window)] for at in range(len(window))]
        out.append((made.crops[taken], len(held) / len(different)))
    return out


def warped(picture: UInt8, placed: Placement, size: int) -> UInt8:
    """The crop along a placement, uint8 (size, size); black where it reaches past the picture.

    Where it shrinks, the picture is first shrunk by a whole number (means of blocks), then every pixel of the crop is the mean of a grid of samples
    not more than a pixel of that apart: no moire, no missed detail.
    """
    import cv2

    step = float(np.hypot(placed[0, 0], placed[1, 0]))  # pixels of the picture per pixel of the crop
    height, width = picture.shape
    block = max(1, min(int(step / 2), height, width))
    if block > 1:
        whole = picture[: height // block * block, : width // block * block]
        picture = np.asarray(cv2.resize(whole, (width // block, height // block), interpolation=cv2.INTER_AREA), np.uint8)
        placed = placed / block
        placed[:, 2] += (1 / block - 1) / 2
    fine = max(1, math.ceil(step / block - 1e-9))
    matrix = placed.copy()
    matrix[:, :2] /= fine
    matrix[:, 2] += placed[:, :2] @ np.full(2, (1 / fine - 1) / 2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    sampled = cv2.warpAffine(picture, matrix, (size * fine, size * fine), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    _blacken(sampled, matrix, height / block, width / block)
    return np.asarray(sampled if fine == 1 else cv2.resize(sampled, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def _blacken(sampled: Any, matrix: Placement, height: float, width: float) -> None:
    """What lies past the picture; OpenCV's own black border would darken its outermost pixels too."""
    last = len(sampled) - 1
    corners = matrix @ np.array([[0, last, 0, last], [0, 0, last, last], [1, 1, 1, 1]])
    edge = -0.5  # of the outermost pixel
    if corners.min() >= edge - 1e-6 and corners[0].max() <= width + edge + 1e-6 and corners[1].max() <= height + edge + 1e-6:
        return
    along = np.arange(len(sampled))
    if matrix[0, 1] == matrix[1, 0] == 0:  # not turned: whole rows and columns
        x, y = (matrix[axis, axis] * along + matrix[axis, 2] for axis in (0, 1))
        sampled[(y < edge) | (y > height + edge)] = 0
        sampled[:, (x < edge) | (x > width + edge)] = 0
        return
    import cv2

    frame = np.array([[-0.5, width - 0.5, width - 0.5, -0.5], [-0.5, -0.5, height - 0.5, height - 0.5]])
    outline = np.linalg.solve(matrix[:, :2], frame - matrix[:, 2:]).T
    shown = cv2.fillConvexPoly(np.zeros_like(sampled), np.round(outline).astype(np.int32), 1)
    sampled *= shown


def of_box(box: Box, shape: tuple[int, ...], size: int, margin: float) -> Placement:
    """The square around a box, the margin added, moved and if need be shrunk until it lies within the picture.

    shape: (H, W) of the picture; margin: of the box's longer side, added on every side
    """
    height, width = shape[:2]
    side = min(max(box.width, box.height) * (1 + 2 * margin), height, width)
    left = min(max(box.left + box.width / 2 - side / 2, 0), width - side)
    top = min(max(box.top + box.height / 2 - side / 2, 0), height - side)
    return _square(left, top, side, size)


def _square(left: float, top: float, side: float, size: int) -> Placement:
    scale = side / size
    return np.array([[scale, 0, left + scale / 2 - 0.5], [0, scale, top + scale / 2 - 0.5]])


def _whole(shape: tuple[int, ...], size: int) -> Placement:
    """The whole picture in the middle of a square as large as its longer side: nothing is lost or stretched, what is left over is black."""
    height, width = shape[:2]
    side = max(height, width)
    return _square((width - side) / 2, (height - side) / 2, side, size)


def _centre(frame: UInt8) -> Box:
    height, width = frame.shape
    side = min(height, width)
    return Box((width - side) / 2, (height - side) / 2, side, side)


def _finder(config: Video, by: Way, clip: FoundClip) -> Callable[[int, UInt8], Placement | None]:
    """(the frame's number, the frame) -> its placement, None where it holds no face."""
    size, margin = config.size, config.faces.margin
    if by == "none":
        return lambda _, frame: _whole(frame.shape, size)
    if by == "aligned":
        return lambda _, frame: None if int(frame.max()) - int(frame.min()) < _FLAT else _whole(frame.shape, size)
    if by == "landmarks":

        def by_landmarks(number: int, _: UInt8) -> Placement | None:
            points = landmarks.points(clip.landmarks[number])
            return None if points is None else landmarks.placement(points, size, margin)

        return by_landmarks
    detector = detectors.detector(config.faces.detector)
    seen: list[Box] = []

    def by_detector(_: int, frame: UInt8) -> Placement | None:
        boxes = detector(frame, seen[-1] if seen else None)
        if not boxes:
            return None
        box = _same_or_largest(boxes, seen[-1] if seen else None)
        seen.append(box)
        return of_box(box, frame.shape, size, margin)

    return by_detector


def _same_or_largest(boxes: list[Box], last: Box | None) -> Box:
    """With several faces in a picture: the one that the last frame's crop showed, else the largest."""
    if last is not None:
        nearest = max(boxes, key=last.overlap)
        if last.overlap(nearest) >= _SAME_FACE:
            return nearest
    return max(boxes, key=lambda box: box.width * box.height)


def tracker(name: str, size: int, margin: float) -> Callable[[UInt8], UInt8 | None]:
    """Crops of a running video, frame by frame: uint8 (H, W) -> uint8 (size, size), None where the frame holds no face.

    name: "none" for the whole picture, "centre" for its middle square, else a detector's, see `detectors.detector`; margin: around a found box
    raises: DataError
    """
    if name == "none":
        return lambda frame: warped(frame, _whole(frame.shape, size), size)
    if name == "centre":
        return lambda frame: warped(frame, of_box(_centre(frame), frame.shape, size, 0), size)
    find = detectors.detector(name)
    last: Box | None = None

    def crop(frame: UInt8) -> UInt8 | None:
        nonlocal last
        boxes = find(frame, last)
        if not boxes:
            return None
        last = _same_or_largest(boxes, last)
        return warped(frame, of_box(last, frame.shape, size, margin), size)

    return crop
