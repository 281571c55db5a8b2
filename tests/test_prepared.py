"""Clips that are ready, one by one in a file: what was appended comes back, and a file that ends anywhere keeps its whole clips."""

import io
import struct

import numpy as np
import pytest
from facetrees import video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fercompress.data import media, prepared
from fercompress.data.listing import FoundClip, Media
from fercompress.data.prepared import Prepared
from fercompress.dataconfig import Faces, FolderData

FRAMES = 20


@st.composite
def clips(draw):
    rows = draw(st.integers(0, 3))
    frames = np.frombuffer(draw(st.binary(min_size=rows * 8, max_size=rows * 8)), np.uint8).reshape(rows, 2, 2, 2)
    rates = tuple(draw(st.lists(st.floats(0, 1), min_size=rows, max_size=rows)))
    return Prepared(draw(st.integers(0, 10**6)), draw(st.text()), draw(st.text()), frames, rates, tuple(draw(st.lists(st.text(), max_size=2))))


def told(clip):
    return clip.number, clip.clip_id, clip.label, clip.frames.shape, clip.frames.tobytes(), clip.face_rates, clip.reasons


@given(st.lists(clips(), max_size=4), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text of a busy machine takes seconds
def test_every_whole_clip_of_a_file_that_ends_anywhere_comes_back_as_it_was(written, data):
    file, ends = io.BytesIO(), [0]
    for clip in written:
        prepared.append(file, clip)
        ends.append(file.tell())
    end = data.draw(st.integers(0, ends[-1]))
    cut = io.BytesIO(file.getvalue()[:end])
    found = list(prepared.read(cut))
    assert list(map(told, found)) == list(map(told, written[: len(found)]))
    assert cut.tell() == max(place for place in ends if place <= end)


@given(st.lists(clips(), min_size=1, max_size=3, unique_by=lambda clip: clip.number), st.data())
def test_a_changed_byte_is_never_taken_for_a_clip(written, data):
    file = io.BytesIO()
    for clip in written:
        prepared.append(file, clip)
    content = bytearray(file.getvalue())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    found = list(prepared.read(io.BytesIO(bytes(content))))
    assert list(map(told, found)) == list(map(told, written[: len(found)]))
    assert len(found) < len(written)


@given(st.binary(max_size=200))
def test_any_other_file_holds_no_clip(content):
    assert list(prepared.read(io.BytesIO(content))) == []


@pytest.fixture
def decoded(monkeypatch):
    """Grows by one with every frame of a video that is decoded."""
    real, seen = media._decoded, []

    def watched(*arguments):
        for frame in real(*arguments):
            seen.append(1)
            yield frame

    monkeypatch.setattr(media, "_decoded", watched)
    return seen


def film(path, stated=FRAMES):
    """An AVI of FRAMES frames, each brighter than the one before; its header states so many."""
    video(path, [np.full((48, 64), 10 * number, np.uint8) for number in range(FRAMES)])
    raw = bytearray(path.read_bytes())
    at = raw.index(b"strh") + 40  # dwLength of the stream's header
    assert struct.unpack_from("<I", raw, at) == (FRAMES,)
    struct.pack_into("<I", raw, at, stated)
    path.write_bytes(raw)
    return FoundClip("c", "calm", "p", Media((path,), video=True))


def shown(clip, **wish):
    config = FolderData(name="folder", frames=4, size=32, **{"faces": Faces(by="none"), **wish})
    found = prepared.prepare(config, config.faces.by, 0, clip)
    return found.reasons, found.frames[..., 16, 16].tolist()


@pytest.mark.parametrize("take", ["uniform", "last", "windows", "apex"])
def test_a_video_is_decoded_once_whatever_is_taken_of_it(tmp_path, decoded, take):
    reasons, rows = shown(film(tmp_path / "a.avi"), take=take)
    assert reasons == ()
    assert rows
    assert len(decoded) == FRAMES


@pytest.mark.parametrize("stated", [0, 1, 18, 22])
def test_a_header_that_lies_costs_another_pass_and_changes_no_crop(tmp_path, decoded, stated):
    _, right = shown(film(tmp_path / "right.avi"))
    decoded.clear()
    reasons, rows = shown(film(tmp_path / "lies.avi", stated))
    assert (reasons, rows) == ((), right)
    assert np.allclose(right, [[0, 60, 130, 190]], atol=3)
    assert len(decoded) > FRAMES


def test_a_video_that_ends_early_is_left_out_though_what_is_wanted_of_it_is_there(tmp_path):
    clip = film(tmp_path / "a.avi")
    path = clip.media.files[0]
    path.write_bytes(path.read_bytes()[:-200])
    (reason,), rows = shown(clip)
    assert "ends early" in reason
    assert rows == []


def test_what_is_wrong_is_told_of_the_frames_that_are_looked_at(tmp_path):
    """Black frames hold no face; of a header that lies, the first pass looks at others."""
    (reason,), _ = shown(film(tmp_path / "a.avi", 22), faces=Faces(by="detect", missing="fail"))
    assert reason == 'no face in frame 1, and faces.missing is "fail"'
