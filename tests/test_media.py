"""Frames from pictures and videos: known grey values, the right way up, and a file that is not whole is named with what decoded."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from facetrees import video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fercompress.data import container, media
from fercompress.data.listing import Media
from fercompress.errors import DataError

# Top left white, top right mid-grey, bottom left black, bottom right dark: every turn and half can be told.
CORNERS = np.kron(np.array([[255, 128], [0, 64]], np.uint8), np.ones((32, 48), np.uint8))


def steps(frames: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    return [np.full((height, width), 20 * index, np.uint8) for index in range(frames)]


def of(*files: Path, **others: Any) -> Media:
    return Media(files, media.is_video(files[0]), **others)


def one(path: Path, **others: Any) -> np.ndarray:
    (frame,) = media.read(of(path, **others), [0])
    assert frame.dtype == np.uint8
    return frame


def corners(frame: np.ndarray) -> list[list[int]]:
    return [[int(frame[y, x]) for x in (4, -5)] for y in (4, -5)]


def error_of(call: Any) -> str:
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_grey_picture_is_read_as_it_is(tmp_path: Path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert (one(tmp_path / "a.png") == values).all()


def test_sixteen_bits_become_eight_by_value_and_not_by_clipping(tmp_path: Path):
    Image.fromarray(np.array([[0, 257, 128 * 257, 65535, 65535 // 2 + 1, 300]], np.uint16)).save(tmp_path / "a.png")
    assert one(tmp_path / "a.png").tolist() == [[0, 1, 128, 255, 128, 1]]


def test_colour_becomes_luma(tmp_path: Path):
    Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)).save(tmp_path / "a.bmp")
    assert one(tmp_path / "a.bmp").tolist() == [[76, 150, 29, 9]]  # 0.299, 0.587, 0.114 of 255


def test_what_is_transparent_is_black_and_half_is_half(tmp_path: Path):
    Image.fromarray(np.array([[[200, 200, 200, 255], [200, 200, 200, 0], [200, 200, 200, 128]]], np.uint8)).save(tmp_path / "a.png")
    assert one(tmp_path / "a.png").tolist() == [[200, 0, 100]]


def test_the_luma_of_a_jpeg_in_colour_is_that_of_its_colours(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    Image.fromarray(colours).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as opened:
        expected = np.asarray(opened.convert("RGB").convert("L"), int)
    difference = np.abs(one(tmp_path / "a.jpg") - expected)
    assert np.median(difference) <= 1
    assert difference.mean() < 2, "colours that no screen shows are cut off, luma is not"


@pytest.mark.parametrize("mode", ["P", "1"])
def test_a_picture_of_few_colours_is_read_by_its_colours(tmp_path: Path, mode: str):
    Image.fromarray(np.array([[255, 0], [0, 255]], np.uint8)).convert(mode).save(tmp_path / "a.PNG")
    assert one(tmp_path / "a.PNG").tolist() == [[255, 0], [0, 255]]


def test_a_photograph_taken_with_the_camera_on_its_side_stands_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 clockwise to show"
    Image.fromarray(CORNERS).save(tmp_path / "a.JPG", exif=exif, quality=95)
    frame = one(tmp_path / "a.JPG")
    assert frame.shape == (96, 64)
    assert np.allclose(corners(frame), [[0, 255], [64, 128]], atol=2)


@pytest.mark.parametrize(("turn_deg", "expected"), [(0, [[255, 128], [0, 64]]), (90, [[0, 255], [64, 128]]), (180, [[64, 0], [128, 255]])])
def test_turning_is_clockwise(tmp_path: Path, turn_deg: int, expected: list[list[int]]):
    Image.fromarray(CORNERS).save(tmp_path / "a.png")
    assert corners(one(tmp_path / "a.png", turn_deg=turn_deg)) == expected


def test_a_half_is_taken_of_the_upright_picture_and_the_middle_of_odd_columns_is_in_neither(tmp_path: Path):
    Image.fromarray(np.array([[1, 2, 3, 4, 5]], np.uint8)).save(tmp_path / "a.png")
    assert one(tmp_path / "a.png", side="left").tolist() == [[1, 2]]
    assert one(tmp_path / "a.png", side="right").tolist() == [[4, 5]]
    assert one(tmp_path / "a.png", side="right", turn_deg=90).shape == (5, 0)


@pytest.mark.parametrize("name", ["a.png", "a.JPEG"])
def test_text_that_is_called_a_picture_is_refused_by_name(tmp_path: Path, name: str):
    (tmp_path / name).write_text("not a picture at all\n" * 20)
    for call in (lambda: one(tmp_path / name), lambda: media.count(of(tmp_path / name))):
        assert error_of(call).startswith(f"{tmp_path / name}: cannot be read as a picture")


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_picture_that_was_cut_off_is_refused_and_not_filled_up(tmp_path: Path, name: str):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    assert "cannot be decoded" in error_of(lambda: one(tmp_path / name))


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    for name in ("a.png", "a.avi"):
        assert "No such file" in error_of(lambda name=name: media.count(of(tmp_path / name)))


def test_pictures_come_in_the_order_asked_for(tmp_path: Path):
    files = [tmp_path / f"{index}.png" for index in range(3)]
    for index, path in enumerate(files):
        Image.fromarray(np.full((2, 2), 10 * index, np.uint8)).save(path)
    assert [int(frame[0, 0]) for frame in media.read(of(*files), [2, 0, 0, 1])] == [20, 0, 0, 10]
    assert media.count(of(*files)) == 3


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mjpeg"), ("B.AVI", "mpeg4"), ("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.mov", "mpeg4")])
def test_every_frame_of_a_video_is_there_at_its_place(tmp_path: Path, name: str, codec: str):
    clip = of(video(tmp_path / name, steps(11), codec))
    assert media.count(clip) == 11
    assert np.allclose([frame.mean() for frame in media.read(clip, [10, 3, 3, 0])], [200, 60, 60, 0], atol=3)


def test_time_runs_from_the_first_frame_in_seconds(tmp_path: Path):
    played = list(media.frames(video(tmp_path / "a.mp4", steps(6), "libx264")))
    assert [time_s for time_s, _ in played] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])
    assert [frame.shape for _, frame in played] == [(48, 64)] * 6


def test_a_video_that_stores_16_to_235_is_black_and_white_all_the_same(tmp_path: Path):
    path = video(tmp_path / "a.mp4", [CORNERS] * 3, "libx264")
    with av.open(str(path)) as opened:
        luma = next(opened.decode(video=0)).to_ndarray()[:64]
    assert abs(int(luma.max()) - 235) <= 2
    assert np.allclose(corners(one(path)), [[255, 128], [0, 64]], atol=3)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((0, 1, -1, 0), [[0, 255], [64, 128]]),  # a telephone held upright: turn 90 degrees clockwise to show
        ((-1, 0, 0, -1), [[64, 0], [128, 255]]),
        ((0, -1, 1, 0), [[128, 64], [255, 0]]),
    ],
)
def test_a_video_that_asks_to_be_turned_is_turned(tmp_path: Path, matrix: tuple[int, int, int, int], expected: list[list[int]]):
    path = video(tmp_path / "a.mp4", [CORNERS] * 3, "libx264")
    a, b, c, d = (65536 * number for number in matrix)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"tkhd") + 44  # the matrix of ISO/IEC 14496-12, 8.3.2, version 0
    assert struct.unpack_from(">9i", raw, at)[::4] == (65536, 65536, 1 << 30)
    struct.pack_into(">9i", raw, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(raw)
    assert np.allclose(corners(one(path)), expected, atol=3)


def test_a_large_video_is_read_frame_by_frame(tmp_path: Path):
    clip = of(video(tmp_path / "a.mp4", [np.full((2160, 3840), value, np.uint8) for value in (0, 80, 160)], "libx264"))
    assert media.count(clip) == 3
    (frame,) = media.read(clip, [2])
    assert frame.shape == (2160, 3840)
    assert frame.mean() == pytest.approx(160, abs=2)


@pytest.mark.parametrize(
    ("name", "codec", "options"), [("a.avi", "mpeg4", {}), ("a.mp4", "libx264", {"movflags": "faststart"}), ("a.mkv", "libx264", {})]
)
def test_a_video_that_was_cut_off_is_refused_with_the_number_of_frames_that_decoded(tmp_path: Path, name: str, codec: str, options: dict[str, str]):
    rng = np.random.default_rng(0)
    path = video(tmp_path / name, [rng.integers(0, 256, (48, 64), np.uint8) for _ in range(20)], codec, options)
    whole = path.read_bytes()
    assert media.count(of(path)) == 20
    path.write_bytes(whole[: len(whole) * 2 // 3])
    told = error_of(lambda: media.count(of(path)))
    assert f"ends early ({len(whole) * 2 // 3} of {len(whole)} bytes are there)" in told
    decoded = int(told.split(" decoded")[0].split("; ")[-1].split()[0])
    assert 0 < decoded < 20
    played = 0
    with av.open(str(path)) as opened, contextlib.suppress(av.FFmpegError):  # another way to count
        for packet in opened.demux(video=0):
            played += len(packet.decode())
    assert decoded == played


def test_a_video_whose_space_was_reserved_but_not_filled_is_refused(tmp_path: Path):
    rng = np.random.default_rng(0)
    path = video(tmp_path / "a.avi", [rng.integers(0, 256, (48, 64), np.uint8) for _ in range(20)], "mpeg4")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    assert "ends early (its header says 20 frames)" in error_of(lambda: media.count(of(path)))


def test_a_matroska_video_of_unknown_size_that_ends_before_its_duration_is_refused(tmp_path: Path):
    rng = np.random.default_rng(0)
    path = video(tmp_path / "a.mkv", [rng.integers(0, 256, (48, 64), np.uint8) for _ in range(20)], "libx264")
    whole = bytearray(path.read_bytes())
    at = whole.index(container.SEGMENT) + 4
    assert whole[at] == 1  # a size of eight bytes
    whole[at : at + 8] = b"\x01" + b"\xff" * 7
    path.write_bytes(whole)
    assert media.count(of(path)) == 20
    path.write_bytes(whole[: len(whole) // 2])
    assert "ends early" in error_of(lambda: media.count(of(path)))


def test_a_video_with_no_frame_is_refused(tmp_path: Path):
    path = video(tmp_path / "a.avi", steps(2))
    raw = path.read_bytes()
    movi = raw.index(b"LIST", raw.index(b"strl"))
    while raw[movi + 8 : movi + 12] != b"movi":
        movi = raw.index(b"LIST", movi + 4)
    empty = bytearray(raw[:movi] + b"LIST" + struct.pack("<I", 4) + b"movi")
    struct.pack_into("<I", empty, 4, len(empty) - 8)
    path.write_bytes(empty)
    assert str(path) in error_of(lambda: media.count(of(path)))
    with pytest.raises(DataError, match=r"a\.avi"):
        media.read(of(path), [0])


def test_a_playlist_that_is_called_a_video_opens_no_other_file(tmp_path: Path):
    video(tmp_path / "other.ts", steps(5), "mpeg2video")
    for text in ("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile other.ts\n"):
        (tmp_path / "a.avi").write_text(text)
        assert "cannot be read as a video" in error_of(lambda: media.count(of(tmp_path / "a.avi")))


def test_sound_alone_is_no_video(tmp_path: Path):
    with av.open(str(tmp_path / "a.avi"), "w") as out:
        stream: Any = out.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
    assert "holds no video that can be decoded" in error_of(lambda: media.count(of(tmp_path / "a.avi")))


def test_a_frame_past_the_end_is_told_and_not_replaced(tmp_path: Path):
    path = video(tmp_path / "a.avi", steps(3))
    assert "has no frame 3" in error_of(lambda: media.read(of(path), [0, 3]))


@pytest.mark.parametrize("name", ["._a.png", ".DS_Store", "a.txt", "a", "a.avi.part"])
def test_files_that_are_neither_are_told_by_name(name: str):
    assert not media.is_picture(Path(name))
    assert not media.is_video(Path(name))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from([b"", b"RIFF", b"\x1a\x45\xdf\xa3", b"\0\0\0\x18ftyp", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]), st.binary(max_size=80))
def test_whatever_a_file_holds_it_is_refused_in_one_line_or_read(tmp_path: Path, magic: bytes, rest: bytes):
    for name in ("a.png", "a.avi"):
        path = tmp_path / name
        path.write_bytes(magic + rest)
        container.shortfall(path)
        for call in (lambda path=path: media.count(of(path)), lambda path=path: media.read(of(path), [0])):
            try:
                call()
            except DataError as error:
                assert "\n" not in str(error)  # noqa: PT017
