"""Does a video file end early? Its path in, how much is missing by its own size fields out; nothing is decoded.

Decoders play what they get: a copy that was cut off plays to the cut without a word. The outermost layer of a container states its size: RIFF
(AVI: Microsoft's RIFF, OpenDML for more parts), ISO/IEC 14496-12 boxes (MP4, QuickTime) and EBML (RFC 8794, Matroska and WebM).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

SEGMENT = b"\x18\x53\x80\x67"  # Matroska's


def shortfall(path: Path) -> str:
    """Such as "1000 of 4096 bytes are there", or "" where nothing is known to be missing, or the file cannot be read at all."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            stated = _stated(file, size)
    except OSError:
        return ""
    return f"{size} of {stated} bytes are there" if stated > size else ""


def _stated(file: BinaryIO, size: int) -> int:
    """How long the file says that it is, as far as its parts can be followed; 0 where it does not say."""
    head = file.read(12)
    if head[:4] == b"RIFF":
        return _riff(file, size)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return _boxes(file, size)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _ebml(file)
    return 0


def _riff(file: BinaryIO, size: int) -> int:
    """A recorder that was switched off leaves a size of 0: that says nothing."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if len(head) < 8 or head[:4] != b"RIFF" or not length:
            break
        end += 8 + length + length % 2
    # The last part's padding byte is often not written.
    return end - 1 if end == size + 1 else end


def _boxes(file: BinaryIO, size: int) -> int:
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(16)
        length, smallest = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, smallest = int.from_bytes(head[8:16], "big"), 16
        if length < smallest or not head[4:8].isalnum():  # 0 is "to the end of the file"; else no box at all
            break
        end += length
    return end


def _ebml(file: BinaryIO) -> int:
    """The header, then the segment; a live recording's segment is of unknown size (all ones)."""
    file.seek(4)
    header = _vint(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != SEGMENT:
        return 0
    length = _vint(file)
    return 0 if length is None else file.tell() + length


def _vint(file: BinaryIO) -> int | None:
    """RFC 8794, 4: as many leading zeros as bytes follow, a one, the value; all ones is "unknown" """
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    value = int.from_bytes(first + rest, "big") & ((1 << 7 * width) - 1)
    return None if len(rest) < width - 1 or value == (1 << 7 * width) - 1 else value
