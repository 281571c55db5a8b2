"""Which half of a video shows the face from the front, where front and profile are beside each other: a video in, the half out.

MMI's description of a session says that there are two views, not which is where. So the first frame is looked at: the one place where a reader
decodes.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from fercompress.data import detectors, media
from fercompress.data.listing import Media
from fercompress.errors import DataError
from fercompress.records import UInt8

Half = Literal["left", "right"]
OTHERWISE: Half = "right"  # where a published example has it (S001-002)


def front(video: Path, detector: str) -> tuple[Half, str]:
    """(half, "") or (half, a remark where a doubt is left). raises: DataError where the detector cannot be loaded; never for the video

    detector: as in `detectors.detector`
    """
    try:
        facts = video.stat()
    except OSError:
        return OTHERWISE, ""
    return _front(video, (facts.st_size, facts.st_mtime_ns), detector)


@functools.lru_cache(maxsize=4096)  # a run asks several times
def _front(video: Path, _: tuple[int, int], detector: str) -> tuple[Half, str]:
    look = detectors.detector(detector)
    try:
        heights = {half: max((box.height for box in look(_first(video, half))), default=0.0) for half in ("left", "right")}
    except DataError:
        return OTHERWISE, ""  # its frames are decoded later, and tell then what is wrong
    if not any(heights.values()):
        return OTHERWISE, f"no face is seen from the front in either half of its first frame: the {OTHERWISE} one is taken"
    half: Half = "left" if heights["left"] > heights["right"] else "right"
    return half, "" if not all(heights.values()) else f"a face is seen from the front in both halves of its first frame: the {half} one is taken"


def _first(video: Path, half: Literal["left", "right"]) -> UInt8:
    (frame,) = media.read(Media((video,), True, half), [0])
    return frame
