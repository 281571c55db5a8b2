"""One clip made ready: a `FoundClip` in, its crops or the reason for leaving it out; and the file to which such clips are appended one by one."""

from __future__ import annotations

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

AT_ONCE = 32  # decoded frames that a process holds, of whatever size they are
_HEAD = struct.Struct("<4sII")  # magic, length of the JSON, crc32 of JSON and frames
_MAGIC = b"clip"


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
        shown = faces.pictures(clip, by)
        windows = sampling.chosen(config, media.count(shown), None if by == "aligned" else clip.moments)
        numbers = sorted(set().union(*windows))
        rows = faces.rows(config, by, windows, numbers, faces.cut(config, by, clip, numbers, _frames(shown, numbers)))
    except (DataError, OSError) as error:
        return Prepared(number, clip.clip_id, clip.label, nothing, reasons=(str(error),))
    kept = [row for row in rows if row is not None]
    if not kept:
        return Prepared(number, clip.clip_id, clip.label, nothing, reasons=(f"no face in any of the {len(numbers)} frames looked at",))
    lost = [window for window, row in zip(windows, rows, strict=True) if row is None]
    reasons = tuple(f"no face in any of frames {window[0] + 1} to {window[-1] + 1}; its other windows are used" for window in lost)
    rates = () if by == "none" else tuple(rate for _, rate in kept)
    return Prepared(number, clip.clip_id, clip.label, np.stack([crops for crops, _ in kept]), rates, reasons)


def _frames(shown: Media, numbers: list[int]) -> Iterator[UInt8]:
    for start in range(0, len(numbers), AT_ONCE):
        yield from media.read(shown, numbers[start : start + AT_ONCE])


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
