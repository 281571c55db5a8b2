"""Which frames of a clip are used: how many it has and a study's wish in, lists of T frame numbers out; pure arithmetic, nothing is decoded."""

from __future__ import annotations

from fercompress.data.listing import Moments
from fercompress.dataconfig import Video
from fercompress.errors import DataError


def chosen(config: Video, count: int, moments: Moments | None) -> list[list[int]]:
    """One list of T frame numbers (from 0, never falling) per window of the clip; one window unless `take` is `windows`.

    A clip of fewer than T frames is spread over all T whatever `take` says: each of its frames is used, some twice in a row.
    count: frames of the clip, at least 1
    raises: DataError where the moments lie outside the clip: its coding belongs to other frames
    """
    length = config.frames
    if count < 1:
        raise DataError("no frame to choose from")
    if moments is not None and moments.offset >= count:
        raise DataError(f"the expression is coded to end at frame {moments.offset + 1}, the clip has {count}: its coding belongs to other frames")
    if count <= length:
        return [spread(0, count - 1, length)]
    if config.take == "last":
        return [_run(count - length, length)]
    if config.take == "windows":
        return [_run(start, length) for start in _starts(count, length)]
    if config.take == "apex":
        return [_around_apex(count, length, moments)]
    return [spread(0, count - 1, length)]


def spread(first: int, last: int, length: int) -> list[int]:
    """`length` (at least 2) whole numbers from `first` to `last`, both among them, as evenly as whole numbers go (halves round up)."""
    gaps = length - 1
    return [first + (2 * step * (last - first) + gaps) // (2 * gaps) for step in range(length)]


def _around_apex(count: int, length: int, moments: Moments | None) -> list[int]:
    """Onset to the last frame of the apex. Where neither is coded: the middle half of the clip, in which a clip that begins and ends neutral
    rises to its apex and begins to fall."""
    if moments is not None:
        return spread(moments.onset, moments.apex_end, length)
    half = max(count // 2, length)
    first = (count - half) // 2
    return spread(first, first + half - 1, length)


def _starts(count: int, length: int) -> list[int]:
    """Where windows begin, each half a window after the one before; the last one ends with the clip, so that no frame is missed."""
    step = max(1, length // 2)
    starts = list(range(0, count - length + 1, step))
    return starts if starts[-1] == count - length else [*starts, count - length]


def _run(start: int, length: int) -> list[int]:
    return list(range(start, start + length))
