"""One clip made ready: a `FoundClip` in, its crops or the reason for leaving it out; and the file to which such clips are appended one by one."""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from fercompress.data import faces, media, sampling
from fercompress.data.listing import FoundClip, Media
from fercompress.dataconfig import Video
from fercompress.errors import DataError
from fercompress.records import UInt8

_HEAD = struct.Struct("<4sII")  # magic, length of the JSON, crc32 of JSON and frames
_MAGIC = b"clip"

Windows = list[list[int]]  # of frame numbers


@dataclass(frozen=True)
class Prepared:
    """number: of the clip in its listing; label and frames travel together from the file on disk to here

    frames: uint8 (R, T, size, size), one row per window; none where the clip is left out
    face_rates: R shares (0..1) of the row's frames that held a face; empty where nothing looked for one
    reasons: why the clip, or windows of it, are left out
    """

    number: int
    clip_id: str
    label: str
    frames: UInt8
    face_rates: tuple[float, ...] = ()
    reasons: tuple[str, ...] = ()


def prepare(config: Video, by: faces.Way, number: int, clip: FoundClip) -> Prepared:
    """What is wrong with a clip is its `reasons`, never an error: the others go on."""
    nothing = np.zeros((0, config.frames, config.size, config.size), np.uint8)
    try:
        windows, rows = _cut(config, by, clip)
    except (DataError, OSError) as error:
        return Prepared(number, clip.clip_id, clip.label, nothing, reasons=(str(error),))
    kept = [row for row in rows if row is not None]
    if not kept:
        return Prepared(number, clip.clip_id, clip.label, nothing, reasons=(f"no face in any of the {len(set().union(*windows))} frames looked at",))
    lost = [window for window, row in zip(windows, rows, strict=True) if row is None]
    reasons = tuple(f"no face in any of frames {window[0] + 1} to {window[-1] + 1}; its other windows are used" for window in lost)
    rates = () if by == "none" else tuple(rate for _, rate in kept)
    return Prepared(number, clip.clip_id, clip.label, np.stack([crops for crops, _ in kept]), rates, reasons)


def _cut(config: Video, by: faces.Way, clip: FoundClip) -> tuple[Windows, list[tuple[UInt8, float] | None]]:
    """Windows of frame numbers, and each one's crops with the share of its frames that held a face. raises: DataError

    Which frames are wanted depends on how many there are, which only a video's end tells. So a clip is first read as if its header were right, which
    it is for most, and once more where it was not. What is wrong with a clip is said by the second way alone: the first may have looked at the wrong
    frames.
    """
    shown = faces.pictures(clip, by)
    with contextlib.suppress(DataError):
        if expected := media.stated(shown):
            windows, rows, counted = _pass(config, by, clip, shown, expected)
            if counted == expected:
                return windows, rows
    windows, rows, _ = _pass(config, by, clip, shown, media.count(shown))
    return windows, rows


def _pass(config: Video, by: faces.Way, clip: FoundClip, shown: Media, expected: int) -> tuple[Windows, list[tuple[UInt8, float] | None], int]:
    """expected: how many frames the clip has; returns also how many it has indeed. One decoded frame is held at a time."""
    windows = sampling.chosen(config, expected, None if by == "aligned" else clip.moments)
    numbers = sorted(set().union(*windows))
    whole = media.Pass(shown, numbers)
    with contextlib.closing(whole.frames()) as coming:
        made = faces.cut(config, by, clip, numbers, _all(numbers, coming, clip))
    return windows, faces.rows(config, by, windows, numbers, made), whole.count


def _all(numbers: list[int], coming: Iterator[UInt8], clip: FoundClip) -> Iterator[UInt8]:
    """The frames of these numbers, then the clip is followed to its end: one that ends early is none. raises: DataError"""
    found = 0
    for frame in coming:
        yield frame
        found += 1
    if found < len(numbers):
        path = clip.media.files[0]
        raise DataError(f"{path}: has no frame {numbers[found]}, counted from 0; it changed since its frames were counted")


def append(file: IO[bytes], clip: Prepared) -> None:
    """What returned is in the system's hands: a process that is stopped after that loses nothing."""
    table = {
        "number": clip.number, "clip_id": clip.clip_id, "label": clip.label, "shape": clip.frames.shape,
        "face_rates": clip.face_rates, "reasons": clip.reasons,
    }  # fmt: skip
    text, pixels = json.dumps(table).encode(), clip.frames.tobytes()
    file.write(_HEAD.pack(_MAGIC, len(text), zlib.crc32(pixels, zlib.crc32(text))) + text + pixels)
    file.flush()


def read(file: IO[bytes]) -> Iterator[Prepared]:
    """The whole clips of a file, from where it stands. It ends before the first that is not: one whose writing was stopped.

    The file then stands after the last whole clip.
    """
    while True:
        start = file.tell()
        found = _next(file)
        if found is None:
            file.seek(start)
            return
        yield found


def _next(file: IO[bytes]) -> Prepared | None:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, length, checksum = _HEAD.unpack(head)
    if magic != _MAGIC:
        return None
    text = file.read(length)
    try:
        table: dict[str, Any] = json.loads(text)
        shape = tuple(table["shape"])
        pixels = file.read(int(np.prod(shape)))
    except (ValueError, KeyError, TypeError):
        return None
    if zlib.crc32(pixels, zlib.crc32(text)) != checksum:
        return None
    frames = np.frombuffer(pixels, np.uint8).reshape(shape)
    return Prepared(table["number"], table["clip_id"], table["label"], frames, tuple(table["face_rates"]), tuple(table["reasons"]))


def whole(path: Path) -> dict[int, tuple[int, int]]:
    """Which clips a file holds: number -> where it begins (bytes) and how many rows it has.

    What follows the last whole clip is cut off; a missing file holds none.
    """
    places: dict[int, tuple[int, int]] = {}
    if not path.exists():
        return places
    with path.open("r+b") as file:
        start = 0
        for clip in read(file):
            places[clip.number] = start, len(clip.frames)
            start = file.tell()
        file.truncate(start)
    return places
