"""Pictures and videos: a clip's `Media` in, its frames out, grey and upright, one decoded at a time.

Grey is luma (ITU-R BT.601) over the full range: black is 0 and white 255, also where a video stores 16 to 235. 16 bits become 8 by value (65535 is
255), what is transparent is black, and a turn that the file itself asks for (EXIF, a video's display matrix) is done.

A file whose data end before its own header says so is refused, though its first frames would decode: a clip without its end is not that clip (CK+
has its peak there). The error says how many frames decoded. Damage in the middle that a decoder bridges without a word stays unseen.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fercompress.data import container
from fercompress.data.listing import Media
from fercompress.errors import DataError
from fercompress.records import UInt8

if TYPE_CHECKING:
    from av.container import InputContainer

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
VIDEOS = frozenset({".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"})
# Nothing that names other files or addresses: a stranger's "video" may be a playlist.
SAFE = {"format_whitelist": "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegvideo,mpegts,asf", "protocol_whitelist": "file"}
SLACK_FRAMES, SLACK_SHARE = 2, 0.1  # headers of videos that play well may count so many frames too many (packed and dropped frames)


def is_picture(path: Path) -> bool:
    """By its name; files whose names begin with a dot are none (a Mac writes `._name.png` beside name.png)."""
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and not path.name.startswith(".")


def stated(media: Media) -> int:
    """How many frames there should be: pictures are counted, of a video its header is believed, which may lie; 0 where it says nothing.

    raises: DataError
    """
    if not media.video:
        return len(media.files)
    with _container(media.files[0]) as opened:
        return _stated_frames(opened)


def count(media: Media) -> int:
    """How many frames there are: a video is decoded to its end, since headers lie; pictures are opened, not decoded. raises: DataError"""
    whole = Pass(media, ())
    for _ in whole.frames():
        pass
    return whole.count


class Pass:
    """One way through a clip, from its first frame to its end. wanted: numbers of frames (from 0, rising, none twice)"""

    def __init__(self, media: Media, wanted: Sequence[int]) -> None:
        self._media = media
        self._wanted = frozenset(wanted)
        self.count = 0  # of the clip's frames, known at its end

    def frames(self) -> Generator[UInt8]:
        """The wanted frames that there are, uint8 (H, W) each, turned by `turn_deg`, then cut to `side`; others are never made grey, nor kept.

        raises: DataError where the clip is not whole, also if all that is wanted was there
        """
        found = self._of_video() if self._media.video else self._of_pictures()
        for frame in found:
            yield _side(_turned(frame, self._media.turn_deg), self._media.side)

    def _of_pictures(self) -> Iterator[UInt8]:
        for index, path in enumerate(self._media.files):
            if index in self._wanted:
                yield picture(path)
            else:
                with closing(_opened(path)):
                    pass
            self.count += 1

    def _of_video(self) -> Iterator[UInt8]:
        (path,) = self._media.files
        decoded, told, fault = 0, 0, ""
        try:
            with _container(path) as opened:
                told = _stated_frames(opened)
                for frame in _decoded(opened, path):
                    if decoded in self._wanted:
                        yield _grey(frame)
                    decoded += 1
        except DataError as error:
            fault = str(error)
        if short := container.shortfall(path):
            raise DataError(f"{path}: ends early ({short}); {_frames(decoded)} decoded; copy it again")
        if fault:
            raise DataError(fault if decoded == 0 else f"{fault}; {_frames(decoded)} decoded before that")
        if decoded == 0:
            raise DataError(f"{path}: a video without a frame; copy it again")
        if told - decoded > max(SLACK_FRAMES, SLACK_SHARE * told):
            raise DataError(f"{path}: ends early (its header says {_frames(told)}); {_frames(decoded)} decoded; copy it again")
        self.count = decoded


def _stated_frames(opened: InputContainer) -> int:
    """As the header says, for a video alone in Matroska by its duration and rate; 0 where it says nothing."""
    stream = opened.streams.video[0]
    alone = len(opened.streams) == 1 and "matroska" in opened.format.name
    if not stream.frames and alone and opened.duration and stream.average_rate:
        return round(opened.duration / 1e6 * float(stream.average_rate))  # microseconds
    return stream.frames


def read(media: Media, wanted: Sequence[int]) -> list[UInt8]:
    """A few frames (from 0, any order, repeats allowed), as `Pass.frames` gives them, all held at once. raises: DataError

    A video is decoded from its start to the last wanted frame; frames that are not wanted are never made grey, nor kept.
    """
    indices = set(wanted)
    found = _of_video(media.files[0], indices) if media.video else {index: picture(media.files[index]) for index in sorted(indices)}
    upright = {index: _side(_turned(frame, media.turn_deg), media.side) for index, frame in found.items()}
    return [upright[index] for index in wanted]


def frames(path: Path) -> Iterator[tuple[float, UInt8]]:
    """Every frame of a video with its time in seconds from the first one, as it plays. raises: DataError"""
    start: float | None = None
    with _container(path) as opened:
        rate = float(opened.streams.video[0].average_rate or 25)
        for index, frame in enumerate(_decoded(opened, path)):
            time_s = index / rate if frame.time is None else float(frame.time)
            start = time_s if start is None else start
            yield time_s - start, _grey(frame)


def picture(path: Path) -> UInt8:
    """uint8 (H, W), grey and upright. raises: DataError"""
    from PIL import ExifTags, Image, ImageOps

    with closing(_opened(path)) as opened:
        try:
            opened.draft("L", None)  # of a JPEG in colour, the luma that it stores; others stay as they are
            opened.load()
            # Most pictures stand upright: for them this would be a copy.
            image = opened if opened.getexif().get(ExifTags.Base.Orientation, 1) == 1 else ImageOps.exif_transpose(opened)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: the picture cannot be decoded ({error}); copy it again") from error
        if image.mode.startswith("I"):
            return _of_16_bits(np.asarray(image), path)
        if "A" in image.getbands() or "transparency" in image.info:
            solid = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", solid.size, (0, 0, 0, 255)), solid)
        return np.asarray(image if image.mode == "L" else image.convert("L"), dtype=np.uint8)


def _of_16_bits(values: Any, path: Path) -> UInt8:
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{path}: a picture of 32 bits a pixel; save it with 8 or 16")
    scaled: UInt8 = ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return scaled


def _opened(path: Path) -> Any:
    """A picture whose header makes sense; its pixels are not read yet."""
    from PIL import Image

    try:
        return Image.open(path, formats=("PNG", "JPEG", "BMP", "TIFF", "WEBP"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else "not a PNG, JPEG, BMP, TIFF or WebP picture"
        raise DataError(f"{path}: cannot be read as a picture ({what}); copy it again or remove it") from error


def _of_video(path: Path, wanted: set[int]) -> dict[int, UInt8]:
    found: dict[int, UInt8] = {}
    if not wanted:
        return found
    with _container(path) as opened:
        for index, frame in enumerate(_decoded(opened, path)):
            if index in wanted:
                found[index] = _grey(frame)
            if index == max(wanted):
                return found
    raise DataError(f"{path}: has no frame {max(wanted)}, counted from 0; it changed since its frames were counted, or was never counted")


def _container(path: Path) -> InputContainer:
    import av

    try:
        opened = av.open(str(path), options=SAFE, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else "not a video that FFmpeg knows, or its beginning is damaged"
        short = container.shortfall(path)
        if short:
            raise DataError(f"{path}: ends early ({short}); 0 frames decoded; copy it again") from error
        raise DataError(f"{path}: cannot be read as a video ({what}); copy it again or remove it") from error
    if not opened.streams.video:
        opened.close()
        raise DataError(f"{path}: holds no video that can be decoded, only other streams")
    return opened


def _decoded(opened: InputContainer, path: Path) -> Iterator[Any]:
    import av

    try:
        yield from opened.decode(video=0)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{path}: the video cannot be decoded ({getattr(error, 'strerror', None) or error}); copy it again") from error


def _grey(frame: Any) -> UInt8:
    """rotation: in degrees, anticlockwise, what the file's display matrix asks for; as `numpy.rot90` turns."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="gray"), round(frame.rotation / 90)))


def _turned(frame: UInt8, turn_deg: int) -> UInt8:
    return np.ascontiguousarray(np.rot90(frame, -(turn_deg // 90)))


def _side(frame: UInt8, side: str) -> UInt8:
    """Of an odd number of columns, the one in the middle belongs to neither half."""
    half = frame.shape[1] // 2
    return {"whole": frame, "left": frame[:, :half], "right": frame[:, frame.shape[1] - half :]}[side]


def _frames(number: int) -> str:
    return "1 frame" if number == 1 else f"{number} frames"
